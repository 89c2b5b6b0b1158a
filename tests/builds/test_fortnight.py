"""A fortnight of a timer: fourteen nights, each with what a night can bring, at the time of that night.

Of two sources, one is on a disk, one at a store; the target is on a small disk. After each night exit code, record,
metrics, hooks, pings and target are what they must be, and nothing is ever lost.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Run
from tests.job.test_metrics import values
from tests.job.test_monitors import Monitor, monitored
from tests.support import stores
from tests.support.helpers import PROJECT, contents, settle, write_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: The first night.
BEGIN = datetime.datetime(2026, 12, 1, 3, 17, tzinfo=datetime.UTC)

#: Ends itself, as a kill would, when all files are changed and the manifest is not written yet.
KILLED = """
import os, sys, pipeline.stages.apply.rebuild
def killed(*_, **__): os.kill(os.getpid(), 9)
pipeline.stages.apply.rebuild.commit = killed
from pipeline.cli import run_cli
sys.exit(run_cli(sys.argv[1:]))
"""

IMAGES = 60


def _faketime() -> str:
    """The library that fakes the time; the program says where it is."""
    program = stores.tool("faketime")
    shown = subprocess.run([program, "-f", "+0", "env"], capture_output=True, text=True, check=True, timeout=60).stdout
    return next(line.partition("=")[2] for line in shown.splitlines() if line.startswith("LD_PRELOAD="))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[stores.Server]:
    """A store that asks for no signature: its clock shows another night than the timer's."""
    server = stores.s3(tmp_path / "s3")
    at = server.command.index("--auth-key")
    del server.command[at : at + 2]
    with stores.running(server) as running:
        yield running


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a disk of its own needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(root: Path, *, first: int = 0, count: int = IMAGES, size: int = 500) -> None:
    """Label files and images of two splits, `count` in each, of classes 0 to 2."""
    for split in ("train", "val"):
        for i in range(first, first + count):
            write_file(root / f"labels/{split}/{i:04d}.txt", f"{i % 3} 0.5 0.5 0.1 0.1\n")
            write_file(root / f"images/{split}/{i:04d}.jpg", os.urandom(size))


@dataclass
class Timer:
    """The folder of a timer, and what its nights leave."""

    home: Path
    target: Path
    monitor: Monitor
    library: str
    night: int = 0

    def __post_init__(self) -> None:
        self.config = self.home / "nightly.yaml"
        self.disk, self.store = self.home / "collection", self.home / "s3/data/bucket/coco"

    def run(self, *words: str, python: tuple[str, ...] = ("-m", "pipeline")) -> subprocess.CompletedProcess[str]:
        """Run a command at this night's time."""
        now = BEGIN + datetime.timedelta(days=self.night)
        env = os.environ | {
            "PYTHONPATH": str(PROJECT),
            "LD_PRELOAD": self.library,
            "FAKETIME": now.strftime("@%Y-%m-%d %H:%M:%S"),
            "TZ": "UTC",
            "NO_FAKE_STAT": "1",
        }
        line = [sys.executable, *python, *words, "-C", str(self.home)]
        return subprocess.run(line, env=env, cwd="/", text=True, capture_output=True, check=False, timeout=120)

    def pass_a_night(self, code: int, status: str, hooks: str, *, killed: bool = False) -> dict[str, Any]:
        """Let the timer run once; check what it leaves but for the target, and give the document."""
        self.night += 1
        settle()
        words = [
            "build",
            "nightly.yaml",
            "--json",
            "--log-file",
            "log",
            "--metrics",
            "m.prom",
            "--ping",
            self.monitor.url,
        ]
        before = values((self.home / "m.prom").read_text()) if self.night > 1 else {}
        manifest = self.target / ".coco-diy/manifest.json"
        was = manifest.read_bytes() if manifest.exists() else b""
        done = self.run(*words, python=("-c", KILLED) if killed else ("-m", "pipeline"))
        assert done.returncode == code, (self.night, done.stdout[-500:], done.stderr)
        noted = self.home / "noted"
        lines = [line.rsplit(" ", 1) for line in noted.read_text().splitlines()]
        assert [said for said, _ in lines] == [
            f"{hook} {status}, exit code {code}" if hook != "start" else "start started, exit code"
            for hook in hooks.split()
        ]
        assert all(record.endswith(f"-{code}.json") for said, record in lines if not said.startswith("start "))
        noted.unlink()
        if status != "built":  # whatever the night brought, what was built stays as it was
            assert manifest.read_bytes() == was
        pings, self.monitor.came = self.monitor.paths, []
        date = (BEGIN + datetime.timedelta(days=self.night)).strftime("%Y%m%dT")
        told = json.loads(self.run("status", "nightly.yaml", "--json", "--max-age", "26h").stdout)
        if killed:
            assert pings == ["start"]
            assert values((self.home / "m.prom").read_text()) == before
            assert (told["stopped"], [k["where"] for k in told["killed"]]) == (True, ["apply"])
            return {}
        assert pings == ["start", str(code)]
        last = told["recent"][0]
        assert (last["time"][:9], last["exit_code"], last["status"]) == (date, code, status)
        assert last["time"][9:13] == "0317"
        assert told["late"] == (code != 0 and before.get("exit_code", 0) != 0)
        metrics = values((self.home / "m.prom").read_text())
        assert metrics["exit_code"] == code
        assert 0 <= metrics["last_run_timestamp_seconds"] - (BEGIN.timestamp() + 86400 * self.night) < 120
        good = metrics["last_success_timestamp_seconds"]
        assert good == (
            metrics["last_run_timestamp_seconds"] if code == 0 else before["last_success_timestamp_seconds"]
        )
        document: dict[str, Any] = json.loads(done.stdout)
        assert document["run"]["start"].startswith(f"2026-12-{1 + self.night:02d}T03:17:")
        return document


@pytest.fixture
def timer(tmp_path: Path, server: stores.Server, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Timer]:
    fill(tmp_path / "collection")
    fill(tmp_path / "s3/data/bucket/coco", count=20)
    write_file(tmp_path / "names.yaml", "names: {0: a, 1: b, 2: c}\n")
    options = {"anon": True, "endpoint_url": f"http://127.0.0.1:{server.port}"}
    write_file(tmp_path / "conf/local/s3.yaml", yaml.safe_dump({"s3": options | {"retry_config": {"max_retries": 1}}}))
    monkeypatch.setenv("COCO_DIY_LOCAL", str(tmp_path / "conf/local"))  # for builds of the test's own
    words = '"$0" $COCO_DIY_STATUS, exit code $COCO_DIY_EXIT_CODE "$(basename "$COCO_DIY_RECORD")"'
    note = ["sh", "-c", f"echo {words} >> {tmp_path}/noted"]
    source = {"names": "names.yaml", "splits": {"train": "train", "val": "val"}}
    config = {
        "source": [
            {"name": "disk", "root": "collection", **source},
            {"name": "store", "root": "s3://bucket/coco", **source},
        ],
        "classes": ["a", "b"],
        "target": {"root": str(small_disk / "subset")},
        "hooks": {name: [*note, name] for name in ("start", "success", "failure", "changed")},
        "engine": {"scheduler": "sync"},
    }
    write_file(tmp_path / "nightly.yaml", yaml.safe_dump(config))
    with monitored() as monitor:
        yield Timer(tmp_path, small_disk / "subset", monitor, _faketime())


def test_fourteen_nights(timer: Timer, server: stores.Server, run: Run, tmp_path: Path) -> None:
    def fresh() -> dict[str, bytes]:
        """What a first build makes of the source as it is."""
        shutil.rmtree(tmp_path / "fresh", ignore_errors=True)
        places = (
            "--set",
            f"target.root={tmp_path}/fresh/t",
            "--set",
            f"workdir={tmp_path}/fresh/w",
            "--set",
            "hooks={}",
        )
        run("build", "-C", timer.home, timer.config.name, *places)
        return contents(tmp_path / "fresh/t")

    built, same, bad = "start success changed", "start success", "start failure"
    timer.pass_a_night(0, "built", built)  # 1: the first
    state = fresh()
    assert contents(timer.target) == state
    assert len(state) == 2 * (2 * 40 + 2 * 14) + 1
    document = timer.pass_a_night(0, "nothing to do", same)  # 2: nothing changed
    assert document["changes"] == 0
    for i in range(3):
        write_file(timer.disk / f"labels/train/{i:04d}.txt", "1 0.4 0.4 0.2 0.2\n")
    document = timer.pass_a_night(0, "built", built)  # 3: somebody has corrected labels
    state = fresh()
    assert (contents(timer.target), document["plan"]["write"]["label"]["files"]) == (state, 3)

    timer.disk.rename(tmp_path / "unmounted")
    timer.disk.mkdir()
    document = timer.pass_a_night(4, "brake", bad)  # 4: the disk is not mounted
    assert document["cause"] in ("missing", "source")
    assert contents(timer.target) == state
    timer.disk.rmdir()
    (tmp_path / "unmounted").rename(timer.disk)
    timer.pass_a_night(0, "nothing to do", same)  # 5: it is again
    assert contents(timer.target) == state

    gone = [
        timer.disk / f"{kind}/{split}/{i:04d}{end}"
        for kind, end in (("labels", ".txt"), ("images", ".jpg"))
        for split in ("train", "val")
        for i in range(8)
    ]
    kept = {path: path.read_bytes() for path in gone}
    for path in gone:
        path.unlink()
    document = timer.pass_a_night(4, "brake", bad)  # 6: 12 % of it is gone
    assert (document["cause"] in ("source", "split"), contents(timer.target)) == (True, state)
    for path, data in kept.items():
        write_file(path, data)
    timer.pass_a_night(0, "built", built)  # 7: it is back, written anew
    assert contents(timer.target) == state

    for path in (timer.disk / "labels/train").glob("*.txt"):
        path.write_text(path.read_text() + "1 0.7 0.7 0.1 0.1\n")
    timer.pass_a_night(-9, "started", "start", killed=True)  # 8: killed
    timer.pass_a_night(0, "built", built)  # 9: it goes on
    state = fresh()
    assert contents(timer.target) == state

    fill(timer.disk, first=1000, count=20, size=60_000)
    ballast = timer.target.parent / "ballast"
    free = shutil.disk_usage(timer.target).free
    ballast.write_bytes(bytes(max(free - 200_000, 0)))
    document = timer.pass_a_night(1, "storage", bad)  # 10: the disk is full
    assert "no space" in document["error"].lower() or "full" in document["error"].lower()
    there = contents(timer.target)
    assert {path for path, data in state.items() if path != "data.yaml" and there.get(path) != data} == set()
    ballast.unlink()
    timer.pass_a_night(0, "built", built)  # 11: there is room again
    state = fresh()
    assert contents(timer.target) == state

    server.kill()
    document = timer.pass_a_night(75, "unavailable", bad)  # 12: the store is away
    assert contents(timer.target) == state
    server.start()
    config = yaml.safe_load(timer.config.read_text())
    timer.config.write_text(yaml.safe_dump(config | {"classes": ["a", "b", "c"]}))
    document = timer.pass_a_night(0, "built", built)  # 13: a class is added
    state = fresh()
    assert (contents(timer.target), document["classes"]) == (state, ["a", "b", "c"])
    timer.pass_a_night(0, "nothing to do", same)  # 14
    assert contents(timer.target) == state
    assert timer.night == 14
    assert run("verify", timer.target, "--deep", "--json").json["differences"] == {}
    log = (timer.home / "log").read_text()
    assert log.count(" info build begins: ") == 14
    assert log.count(" info ends with exit code ") == 13  # one was killed
    runs = sorted(timer.target.glob(".coco-diy/runs/*.json")) + sorted((timer.home / "work/runs").rglob("*.json"))
    assert len(runs) == 13
