"""A target that gets another layout: killed at any call, also at a store, it ends as the one or the other.

COCO_DIY_STEP says how many calls lie between two that a run is killed at; without it few are tried.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import exporters
from pipeline.base.terms import SPLITS
from tests.conftest import Run
from tests.support.faulty import Faulty, faulty_in
from tests.support.helpers import PROJECT, contents, write_file
from tests.support.proxy import Proxy, before_store

STEP = int(os.environ.get("COCO_DIY_STEP", "0"))

ROUND = ("default", "roboflow", "coco2017", "default")
#: Settings of the target before and after.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    f"{name}: {before} to {after}": ({"format": name, "layout": before}, {"format": name, "layout": after})
    for name in ("yolo", "coco")
    for before, after in itertools.pairwise(ROUND)
}
CASES |= {
    "flat": ({"flat": False}, {"flat": True}),
    "not flat": ({"flat": True}, {"flat": False}),
    "flat and another layout": ({"flat": True}, {"flat": False, "layout": "roboflow"}),
    "yolo to coco": ({"layout": "roboflow"}, {"format": "coco", "layout": "roboflow"}),
}


@dataclass
class Ground:
    """Two sources of the same names, and targets in a folder that is killed in."""

    folder: Path
    faulty: Faulty
    source: dict[str, Any]

    @property
    def out(self) -> Path:
        """The target that is tried."""
        return self.folder / "tried/out"

    def words(self, target: dict[str, Any]) -> list[str]:
        """Words of a build with these settings of the target."""
        settings = {
            "source": [{**self.source, "name": name} for name in ("one", "two")],
            "classes": ["bicycle", "car"],
            "index": {"buckets": 3},
            "target": {"root": str(self.out), "max_delete": None, **target},
            "workdir": str(self.folder / "tried/work"),
        }
        name = "-".join(f"{key}={value}" for key, value in target.items())
        return ["build", str(write_file(self.folder / f"{name}.yaml", yaml.safe_dump(settings)))]

    def build(self, target: dict[str, Any]) -> None:
        """An undisturbed build."""
        assert self.faulty.run(self.words(target), self.folder)[0] == 0

    def made(self, target: dict[str, Any]) -> dict[str, bytes]:
        """What an undisturbed build into an empty folder makes."""
        shutil.rmtree(self.folder / "tried", ignore_errors=True)
        self.build(target)
        return contents(self.out)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("layouts")
    source = {
        "root": str(PROJECT / "tests/sample/detect"),
        "names": str(PROJECT / "conf/coco.yaml"),
        "splits": {"train": "train2017", "val": "val2017"},
    }
    with faulty_in(folder) as faulty:
        yield Ground(folder, faulty, source)


def plant(root: Path, targets: Sequence[dict[str, Any]]) -> dict[str, bytes]:
    """Files of somebody else in the folders of the layouts, where nothing of ours goes."""
    for target in targets:
        found = exporters.layout(target.get("format", "yolo"), target.get("layout", "default"))
        for folder in found.split_folders(SPLITS[:2]):
            write_file(root / folder / "notes of mine.md", folder)
            write_file(root / folder / "deeper/mine.jpg", folder)
    return {path: data for path, data in contents(root).items() if path.endswith(("mine.md", "mine.jpg"))}


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.xdist_group("layout changes")
@pytest.mark.parametrize("case", CASES)
def test_killed_at_any_call(ground: Ground, run: Run, case: str) -> None:
    """A run of either config then ends in what it says, and no file of somebody else goes."""
    before, after = CASES[case]
    expected = {id(target): ground.made(target) for target in (after, before)}
    theirs = plant(ground.out, (before, after))
    saved = ground.folder / "start"
    shutil.rmtree(saved, ignore_errors=True)
    (ground.folder / "tried").rename(saved)

    def start() -> list[str]:
        shutil.rmtree(ground.folder / "tried", ignore_errors=True)
        shutil.copytree(saved, ground.folder / "tried", symlinks=True)
        return ground.words(after)

    code, calls = ground.faulty.run(start(), ground.out)
    assert code == 0
    assert contents(ground.out) == expected[id(after)] | theirs
    count = len(calls)
    step = STEP or count // 3
    tried = 0
    for number, at in enumerate(range(1 + step // 2, count + 1, step)):
        code, calls = ground.faulty.run(start(), ground.out, kill_at=at)
        if code >= 0:
            continue
        target = (after, before)[number % 2]
        where = f"{case}: killed at call {at} of {count}, {calls[-1:]}, then {target}"
        code, _ = ground.faulty.run(ground.words(target), ground.out)
        assert code == 0, where
        assert contents(ground.out) == expected[id(target)] | theirs, where
        report = run("verify", ground.out, "--deep", "--json", code=1).json
        assert {d["reason"] for d in report["listed"]} == {"foreign"}, where
        assert {d["path"] for d in report["listed"]} <= theirs.keys(), where
        tried += 1
    print(f"{case}: {tried} instants of {count} calls: survived")
    assert tried


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before a store, to which options of the test lead."""
    with before_store(tmp_path, monkeypatch) as found:
        yield found


def settings(folder: Path, name: str, root: str, target: dict[str, Any]) -> Path:
    """A config of the sample."""
    data = {
        "source": {
            "root": str(PROJECT / "tests/sample/detect"),
            "names": str(PROJECT / "conf/coco.yaml"),
            "splits": {"train": "train2017", "val": "val2017"},
        },
        "classes": ["bicycle", "car"],
        "index": {"buckets": 3},
        "target": {"root": root, "max_delete": None, **target},
        "workdir": str(folder / f"work-{name}"),
        "engine": {"scheduler": "sync"},
    }
    return write_file(folder / f"{name}.yaml", yaml.safe_dump(data))


def killed_at(proxy: Proxy, number: int, config: Path) -> int:
    """The exit code of a build that is killed when it changes something at the store for the time of a `number`."""
    reached = threading.Event()
    changes = itertools.count(1)

    def fault(method: str, path: str, _time: int) -> str | None:
        if method in ("PUT", "DELETE", "POST") and "/lock" not in path and next(changes) >= number:
            reached.set()
            time.sleep(0.5)
            return "hang"
        return None

    with subprocess.Popen([sys.executable, "-m", "pipeline", "build", str(config), "--quiet"], cwd=PROJECT) as process:
        proxy.fault = fault
        assert reached.wait(60)
        process.kill()
    proxy.fault = lambda _method, _path, _time: None
    return process.returncode


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["yolo", "coco"])
def test_killed_at_a_store(proxy: Proxy, tmp_path: Path, run: Run, exporter: str) -> None:
    """From layout to layout and back, each change killed at some request; files of somebody else stay."""
    subset = tmp_path / "s3/data/bucket/subset"
    targets = [{"format": exporter, "layout": layout} for layout in ROUND]
    theirs = plant(subset, targets)
    run("build", settings(tmp_path, "there", "s3://bucket/subset", targets[0]))
    for number, after in zip((3, 12, 30), targets[1:], strict=True):
        alone = tmp_path / f"alone-{after['layout']}"
        run("build", settings(tmp_path, "alone", str(alone), after))
        config = settings(tmp_path, "there", "s3://bucket/subset", after)
        assert killed_at(proxy, number, config) == -signal.SIGKILL
        run("build", config)
        assert contents(subset) == contents(alone) | theirs, f"{after}, killed at request {number}"
        assert run("build", config, "--json").json["status"] == "nothing to do"
        report = run("verify", "s3://bucket/subset", "--deep", "--json", code=1).json
        assert {d["path"] for d in report["listed"]} <= theirs.keys()
