"""What a timer needs of a command: another folder, a bare environment, a log, exit codes, patience with a lock."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline import storage
from tests.conftest import Run, Subset
from tests.support.helpers import PROJECT, run_process, settle
from tests.support.web import Faults, faulty

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with the demo's config and source, whose paths are relative."""
    desk = tmp_path / "desk"
    shutil.copytree(PROJECT / "conf", desk / "conf")
    shutil.copytree(PROJECT / "tests/sample", desk / "tests/sample")
    settle()
    return desk


def test_as_if_started_there(desk: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    run("build", "-C", "desk", "conf/demo.yaml", "--log-file", "log", "--metrics", "m.prom")
    assert sorted(p.name for p in desk.iterdir()) == ["build", "conf", "log", "m.prom", "tests"]
    run("-C", str(desk), "init", "bicycle", "--force")
    run("init", "-C", str(desk), "bicycle")
    assert run("status", "-C", "desk", "conf/demo.yaml", "--json").json["runs"] == 1
    assert (Path.cwd(), sorted(tmp_path.iterdir())) == (tmp_path, before)
    told = run("build", "-C", "nowhere", "conf/demo.yaml", code=2)
    assert told.err == "coco-diy: -C nowhere: is no folder to run in (No such file or directory); correct its path\n"


@pytest.mark.slow
def test_options_of_stores_are_those_of_the_folder(desk: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COCO_DIY_LOCAL", raising=False)
    (desk / "conf/local").mkdir()
    (desk / "conf/local/s3.yaml").write_text("s3: {endpoint_url: 'http://127.0.0.1:9', key: k, secret: s}\n")
    told = run("plan", "-C", desk, "conf/demo.yaml", "--set", "source.root=s3://bucket/x", code=75)
    assert "s3://bucket/x/images/train2017: cannot be listed: no server answers there" in told.err


def test_a_bare_environment(desk: Path) -> None:
    """As cron has it, or less: no PATH, no HOME, no locale."""
    words = [sys.executable, "-m", "pipeline", "build", "-C", str(desk), "conf/demo.yaml", "--json"]
    env = {"PYTHONPATH": str(PROJECT), "COCO_DIY_STATE": os.environ["COCO_DIY_STATE"]}
    done = subprocess.run(words, env=env, cwd="/", text=True, capture_output=True, check=False, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["status"] == "built"


# --- the log ----------------------------------------------------------------------------------------------------------


def test_lines_of_text(subset: Subset, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = subset.build("--log-file", str(log))["run"]["id"]
    subset.command("build", "--log-file", str(log), "--set", "classes=[cra]", code=2)
    lines = log.read_text().splitlines()
    assert all(re.fullmatch(rf"{STAMP} \d{{8}}T\d{{9}}Z-\d+ (info|warning|error) \S.*", line) for line in lines), lines
    assert [line.split()[1] == first for line in lines] == [True, True, False, False, False]
    assert lines[1].endswith(f"{first} info ends with exit code 0 (built) after {lines[1].split()[-2]} s")
    assert " error --set classes=[cra]: unknown class" in lines[3]


def test_retries_and_warnings_with_their_reason(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    with faulty(Faults({"/a.bin": b"content"}, answers=[(503, {"Retry-After": "0"})])) as url:
        config.write_text(
            f"source: {{names: n.yaml, splits: {{train: {{labels: 'zip://x::{tmp_path}/a.bin'}}}}}}\n"
            f"target: {{root: {tmp_path}/t}}\nworkdir: {tmp_path}/w\n"
            f"fetch: {{archives: {{a.bin: {{url: '{url}/a.bin'}}}}}}\n"
        )
        done = run_process("fetch", config, "--log-file", tmp_path / "log", "--log-format", "json", "-q")
    assert (done.code, done.err) == (0, "")
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {tuple(line) for line in lines} == {("time", "run", "level", "message")}
    assert len({line["run"] for line in lines}) == 1
    assert [line["message"] for line in lines if "try 2 of 8" in line["message"]] == [
        f"{url}/a.bin: the server says 503; try 2 of 8 in 0.0 s"
    ]


@pytest.mark.slow
def test_helpers_write_to_the_same_log(subset: Subset, tmp_path: Path) -> None:
    from pipeline.runtime.engine import Engine
    from pipeline.runtime.log import end_log_file
    from pipeline.runtime.log_file import LogFile, log_to

    log_to(LogFile(str(tmp_path / "log"), "text", "the-run"))
    try:
        with Engine("processes", 2) as engine:
            assert sorted(engine.map(_warn, [(1,), (2,)], files=2)) == [1, 2]
    finally:
        end_log_file()
    lines = [line.split()[1:] for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(line for line in lines if "helper" in line) == [  # threads that other tests left may write, too
        ["the-run", "warning", "helper", "1"],
        ["the-run", "warning", "helper", "2"],
    ]


def _warn(number: int) -> int:
    import logging

    logging.getLogger("coco-diy").warning("helper %d", number)
    return number


def test_a_log_that_was_rotated_goes_on(tmp_path: Path) -> None:
    from pipeline.runtime.log import end_log_file, note
    from pipeline.runtime.log_file import LogFile, log_to

    log_to(LogFile(str(tmp_path / "log"), "text", "the-run"))
    try:
        note(20, "one\x1b[2J\nforged line")
        (tmp_path / "log").rename(tmp_path / "log.1")
        note(20, "two")
    finally:
        end_log_file()
    assert (tmp_path / "log.1").read_text().endswith("the-run info one\\x1b[2J\\nforged line\n")
    assert (tmp_path / "log").read_text().count("\n") == 1


@pytest.mark.parametrize("path", ["/dev/full", "no/such/folder/log"])
def test_a_log_that_takes_nothing(subset: Subset, path: str) -> None:
    told = run_process("build", subset.config, "--log-file", path)
    assert told.err.count("\n") == 1
    assert f"--log-file {path if path[0] == '/' else os.path.abspath(path)}: cannot be written" in told.err
    assert told.code == (0 if path == "/dev/full" else 2)


# --- exit codes -------------------------------------------------------------------------------------------------------


def test_a_code_for_nothing_to_do(own_subset: Subset) -> None:
    assert own_subset.build("--unchanged-exit", "7")["exit_code"] == 0
    settle()
    told = own_subset.build("--unchanged-exit", "7", code=7)
    assert (told["exit_code"], told["ok"], told["status"]) == (7, True, "nothing to do")
    assert own_subset.command("status", "--json", "--max-age", "1h").json["last"]["exit_code"] == 0


def test_a_code_for_a_plan(own_subset: Subset) -> None:
    assert own_subset.command("plan", "--exit-code", code=10).out
    own_subset.build()
    assert own_subset.plan("--exit-code")["exit_code"] == 0
    assert own_subset.plan("--exit-code", "--set", "classes=[car]", code=10)["exit_code"] == 10
    assert own_subset.plan("--set", "classes=[car]")["exit_code"] == 0
    shutil.rmtree(own_subset.source / "labels/val2017")
    (own_subset.source / "labels/val2017").mkdir()
    assert own_subset.plan("--exit-code", code=4)["exit_code"] == 4


# --- locks ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("patience", "code"), [("20s", 0), ("1s", 5)])
def test_a_lock_is_waited_for(subset: Subset, tmp_path: Path, patience: str, code: int) -> None:
    subset.build()
    free = threading.Event()

    def hold() -> None:
        with storage.locate_writable(str(subset.target)).lock(".coco-diy/lock", "the target"):
            free.wait(4 if code == 0 else 60)

    holder = threading.Thread(target=hold)
    holder.start()
    time.sleep(0.1)
    log = tmp_path / "log"
    told = run_process("build", subset.config, "--json", "--wait-lock", patience, "--log-file", log)
    free.set()
    holder.join()
    assert told.code == code, told.err
    assert f"the target {subset.target} is in use by process {os.getpid()}" in log.read_text()
    assert "; waits for it, " in log.read_text()


@pytest.mark.parametrize("text", ["10", "90s", "1.5m", "1h30m", "2d"])
def test_times(text: str, run: Run, tmp_path: Path) -> None:
    from pipeline.base.humanize import duration

    assert duration(text) == {"10": 10, "90s": 90, "1.5m": 90, "1h30m": 5400, "2d": 172_800}[text]


@pytest.mark.parametrize("text", ["", "x", "10 m", "-1s", "m", "1w", "1e3s", "1h m"])
def test_what_is_no_time(subset: Subset, text: str) -> None:
    assert "is no time; write it as 90s, 10m, 26h or 2d" in subset.command("build", "--wait-lock", text, code=2).err


# --- status -----------------------------------------------------------------------------------------------------------


def test_a_success_that_is_too_old(own_subset: Subset) -> None:
    own_subset.build()
    told = own_subset.command("status", "--max-age", "26h", "--json").json
    assert (told["late"], told["last_success"]["status"]) == (False, "built")
    digest = told["last_success"]["digest"]
    assert f"Digest of the subset: {digest}\n" in (own_subset.target / "data.yaml").read_text()
    assert f"`{digest}`" in (own_subset.target / "DATASET.md").read_text()
    time.sleep(1.1)
    own_subset.command("build", "--set", "source.marker=gone", code=4)
    told = own_subset.command("status", "--max-age", "1s", "--json", code=1).json
    assert (told["late"], told["ok"], told["last"]["exit_code"]) == (True, False, 4)
    assert told["last_success"]["age"] > 1
    (own_subset.source / "labels").rename(own_subset.source / "unmounted")
    assert own_subset.command("status", "--max-age", "26h", "--json").json["recent"][0]["tool"].startswith("coco-diy ")


@pytest.mark.slow
def test_a_run_that_was_killed_while_it_indexed(own_subset: Subset) -> None:
    program = (
        "import os\nfrom pipeline.stages.apply import rebuild\n"
        "def killed(*_): os.kill(os.getpid(), 9)\nrebuild.update_index = killed\n"
        "from pipeline.cli import run_cli\nimport sys\nrun_cli(sys.argv[1:])"
    )
    for _ in range(2):
        assert run_process("build", own_subset.config, python=("-c", program)).code == -9
        told = own_subset.command("status", "--json", code=1).json
        assert (told["stopped"], told["running"]) == (True, None)
    assert [run["where"] for run in told["killed"]] == ["before apply"] * 2
    assert "was killed before it changed the target." in own_subset.command("status", code=1).out
    own_subset.build()
    assert own_subset.command("status", "--json").json["killed"] == []


def test_a_run_that_is_under_way(own_subset: Subset) -> None:
    own_subset.build()
    with storage.locate_writable(str(own_subset.target)).lock(".coco-diy/lock", "the target"):
        told = own_subset.command("status", "--json").json
    assert told["running"].startswith(f"process {os.getpid()} on ")
    assert not told["stopped"]
