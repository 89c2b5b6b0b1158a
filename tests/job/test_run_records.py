"""What a run ends with, what it says of it to people and programs, and the record that it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import storage
from pipeline.base import errors as errors_module
from pipeline.base.errors import CocoDiyError, DataError
from pipeline.job import run_records
from pipeline.job.run_records import RunRecords, surplus
from pipeline.runtime.run import Run as OneRun
from tests.conftest import MakeSubset, Run, Subset
from tests.support.helpers import PROJECT, contents, run_process, settle, snapshot, write_file
from tests.support.proxy import lead_to
from tests.support.web import Silent, serving

SKIP = ("--set", "on_error=skip")
#: A shell's background job ignores Ctrl-C, and so do its children: here it counts again.
LISTENING = "import signal; signal.signal(2, signal.default_int_handler); from pipeline.__main__ import main; main()"


def records(subset: Subset) -> list[dict[str, Any]]:
    """All records of a subset, oldest first, those at the target after those of the workdir."""
    found = [
        *sorted((subset.workdir / "runs").glob("*/*.json")),
        *sorted((subset.target / ".coco-diy/runs").glob("*.json")),
    ]
    return [json.loads(path.read_text()) for path in found]


def stopped(words: list[str], ready: Callable[[], bool], number: int) -> tuple[int, str, str]:
    """Run a command in a process of its own and stop it by a signal once it is `ready`: exit code, stdout, stderr."""
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        [sys.executable, "-c", LISTENING, *words],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while process.poll() is None and not ready():
            time.sleep(0.001)
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


# --- exit codes and the one document ----------------------------------------------------------------------------------


def test_every_kind_of_error_has_the_exit_code_of_the_design() -> None:
    codes = {
        name: kind.exit_code
        for name, kind in vars(errors_module).items()
        if isinstance(kind, type) and issubclass(kind, CocoDiyError)
    }
    assert codes == {
        "CocoDiyError": 1,
        "UsageError": 2,
        "ConfigError": 2,
        "MissingSourceError": 2,
        "UnknownNameError": 2,
        "DataError": 1,
        "TargetError": 1,
        "StorageError": 1,
        "UnavailableError": 75,
        "BrakeError": 4,
        "LockError": 5,
        "Interrupted": 130,
    }
    drawn = errors_module.__doc__ or ""
    assert [name for name in codes if name not in drawn] == []


def test_help_tells_the_exit_codes(run: Run) -> None:
    told = run("--help").out
    for code in (0, 1, 2, 3, 4, 5, 75, 130, 143):
        assert f" {code} " in told or f"({code}:" in told


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("--set", "classes=[cra]"), 2, "unknown_name"),
        (("--set", "target.image=none"), 2, "config"),
        (("--set", "source.root=/nowhere"), 2, "missing_source"),
        (("--workers", "none"), 2, "usage"),
        (("--no-such-option",), 2, "usage"),
        (("--set", "source.task=segment"), 1, "data"),
        (("--scheduler", "quick://127.0.0.1:9"), 75, "unavailable"),
        (("--set", "target.root=ftp://127.0.0.1:9/x"), 75, "unavailable"),
    ],
)
def test_a_failure_is_one_document_too(subset: Subset, words: tuple[str, ...], code: int, reason: str) -> None:
    told = run_process("build", subset.config, "--json", *words)
    assert told.code == code, told.err
    facts = json.loads(told.out)
    assert told.out.count("\n") == 1
    assert (facts["exit_code"], facts["reason"]) == (code, reason)
    assert set(facts) >= {"error", "reason", "file", "line", "hint", "exit_code"}
    assert facts["error"].strip() in told.err
    assert "Traceback" not in told.err
    assert not subset.target.exists()


def test_the_parts_of_a_sentence(own_subset: Subset) -> None:
    label = write_file(own_subset.source / "labels/train2017/a.txt", "1 0.5 0.5\n")
    facts = run_process("build", own_subset.config, "--json").json
    assert (facts["file"], facts["line"]) == (str(label), 1)
    assert facts["hint"] == "correct it, or leave such rows out and count them with --set on_error=skip"
    config = own_subset.config
    config.write_text(config.read_text() + "tarket: {}\n")
    facts = run_process("build", config, "--json").json
    assert facts["file"] == str(config)
    assert facts["line"] == len(config.read_text().splitlines())
    assert facts["hint"] == "did you mean 'target'?"


@pytest.mark.slow
def test_an_internal_error_is_one_document(subset: Subset) -> None:
    program = (
        "import sys, pipeline.api\ndef build(*_, **__): raise ZeroDivisionError('here')\n"
        "pipeline.api.build = build\nfrom pipeline.cli import run_cli\nsys.exit(run_cli(sys.argv[1:]))"
    )
    for more in ((), ("-v",)):
        told = run_process("build", subset.config, "--json", *more, python=("-c", program))
        assert (told.code, told.json["reason"]) == (1, "internal")
        assert ("Traceback" in told.err) == bool(more)


def test_in_use_by_another_run(subset: Subset) -> None:
    subset.build()
    with storage.locate_writable(str(subset.target)).lock(".coco-diy/lock", "the target"):
        told = run_process("build", subset.config, "--json")
    assert (told.code, told.json["reason"]) == (5, "in_use")
    assert [r["exit_code"] for r in records(subset)] == [0, 5]


def test_done_but_incomplete(own_subset: Subset) -> None:
    write_file(own_subset.source / "labels/train2017/a.txt", "1 0.5 0.5\n1 0.5 0.5 0.1 0.1\n")
    for status in ("built", "nothing to do"):
        settle()
        told = own_subset.build(*SKIP, code=3)
        assert (told["status"], told["ok"], told["exit_code"]) == (status, False, 3)
    for command in ("plan", "index", "stats"):
        assert own_subset.command(command, "--json", *SKIP, code=3).json["exit_code"] == 3
    quiet = own_subset.command("build", "--quiet", *SKIP, code=3)
    assert quiet.out == ""
    assert f"left out: {own_subset.source}/labels/train2017/a.txt:1: " in quiet.err
    assert [r["exit_code"] for r in records(own_subset)] == [3, 3, 3]


def test_quiet_names_what_failed(own_subset: Subset) -> None:
    image = own_subset.source / "images/train2017/a.jpg"
    image.unlink()
    image.symlink_to("/proc/version")  # it says that it has no bytes, and has some
    told = own_subset.command("build", "--quiet", code=1)
    assert told.out == ""
    assert f"failed: images/train/a.jpg: {image}: " in told.err
    assert own_subset.build(code=1)["exit_code"] == 1
    image.unlink()
    write_file(image, "image")
    own_subset.build()
    (own_subset.target / "labels/train/a.txt").unlink()
    told = own_subset.run("verify", own_subset.target, "--quiet", code=1)
    assert (told.out, told.err) == ("", "labels/train/a.txt: is not there\n")


# --- stopped ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_while_it_indexes_leaves_no_target(crowd: Path, make_subset: MakeSubset, number: int) -> None:
    subset = make_subset(crowd)
    words = ["build", str(subset.config), "--json", "--scheduler", "sync", "--set", "index.buckets=64"]
    code, out, err = stopped(words, lambda: any((subset.workdir / "index").glob("*/files/*.parquet")), number)
    assert (code, err.strip()) == (128 + number, "coco-diy: stopped; run the same command again to go on")
    hint = "run the same command again to go on"
    document = json.loads(out)
    run = document.pop("run")
    assert (run["stage"], run["bytes"]["read"] > 0) == ("index", True)
    assert document == {
        "error": f"stopped; {hint}",
        "reason": "stopped",
        "file": None,
        "line": None,
        "hint": hint,
        "exit_code": 128 + number,
    }
    assert not subset.target.exists()
    assert [r["exit_code"] for r in records(subset)] == [128 + number]
    subset.build("--set", "index.buckets=64")
    told = subset.command("status", "--json").json
    assert [(r["exit_code"], r["status"]) for r in told["recent"]] == [(0, "built"), (128 + number, "stopped")]


#: Begins the command in its arguments with stdin as the terminal of its session.
AT_A_TERMINAL = """
import os, sys
os.open(os.ttyname(0), os.O_RDWR)
os.execv(sys.executable, [sys.executable, "-m", "pipeline", *sys.argv[1:]])
"""


@pytest.mark.slow
def test_a_terminal_that_closes_stops_a_run(crowd: Path, make_subset: MakeSubset) -> None:
    """It takes nothing that is said, either."""
    subset = make_subset(crowd)
    terminal, ours = os.openpty()
    words = ["build", str(subset.config), "--scheduler", "sync", "--set", "index.buckets=64"]
    with subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL, *words],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdin=ours,
        stdout=ours,
        stderr=ours,
        start_new_session=True,
    ) as process:
        os.close(ours)
        while process.poll() is None and not any((subset.workdir / "index").glob("*/files/*.parquet")):
            time.sleep(0.001)
        os.close(terminal)
        assert process.wait(timeout=60) == 129
    assert [r["exit_code"] for r in records(subset)] == [129]
    subset.build("--set", "index.buckets=64")


@pytest.mark.slow
def test_stopped_amid_its_writes_is_recorded_at_the_target(crowd: Path, make_subset: MakeSubset) -> None:
    subset = make_subset(crowd)
    words = ["build", str(subset.config), "--scheduler", "sync", "--set", "index.buckets=64"]
    code, _, err = stopped(words, (subset.target / ".coco-diy/intent.json").exists, signal.SIGTERM)
    assert (code, err.strip()) == (143, "coco-diy: stopped; run the same command again to go on")
    (record,) = (json.loads(path.read_text()) for path in (subset.target / ".coco-diy/runs").iterdir())
    assert (record["exit_code"], record["error"]["reason"]) == (143, "stopped")
    told = subset.run("status", subset.target, code=1).out
    assert "stopped (exit code 143): stopped; run the same command again to go on" in told
    assert "A later run was stopped before its end" in told


# --- records ----------------------------------------------------------------------------------------------------------


def test_a_first_build_that_fails_leaves_its_record_and_no_target(own_subset: Subset) -> None:
    bad = write_file(own_subset.source / "labels/train2017/a.txt", "1 0.5 0.5\n")
    source = snapshot(own_subset.source)
    for target in (own_subset.target, own_subset.target.parent / "there"):
        if target.name == "there":
            target.mkdir()
        own_subset.command("build", "--set", f"target.root={target}", code=1)
        assert (sorted(target.iterdir()) if target.exists() else None) == ([] if target.name == "there" else None)
    assert snapshot(own_subset.source) == source
    assert f"data (exit code 1): {bad}:1: " in own_subset.command("status").out
    write_file(bad, "1 0.5 0.5 0.1 0.1\n")
    own_subset.build()
    told = own_subset.command("status", "--json").json
    assert [(r["exit_code"], r["status"]) for r in told["recent"]] == [(0, "built"), (1, "data")]
    assert own_subset.run("status", own_subset.target, "--json").json["runs"] == 1  # the folder alone knows its own


def test_a_run_that_changes_nothing_or_fails_leaves_a_record(own_subset: Subset) -> None:
    own_subset.build()
    settle()
    own_subset.build()
    own_subset.command("build", "--set", "classes=[cra]", code=2)
    before = contents(own_subset.target, record=True)
    write_file(own_subset.source / "labels/train2017/a.txt", "1 0.5 0.5\n")
    own_subset.command("build", code=1)
    assert contents(own_subset.target, record=True) == before
    assert [r["exit_code"] for r in records(own_subset)] == [0, 0, 2, 1]
    assert records(own_subset)[1]["report"]["status"] == "nothing to do"
    told = own_subset.command("status", "--json").json
    assert [r["exit_code"] for r in told["recent"]] == [1, 2, 0, 0]
    assert told["last"]["error"]["line"] == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--set", "classes=[cra]"), "unknown_name"),
        (("--set", "source.root=/nowhere"), "missing_source"),
        (("--set", "source.names=/nowhere.yaml"), "missing_source"),
        (("--set", "target.image=none"), "config"),  # no config at all
        (("--set", "runs.keep=2", "--set", "clases=[car]"), "config"),
    ],
)
def test_a_run_whose_config_is_wrong_leaves_its_record(own_subset: Subset, words: tuple[str, ...], reason: str) -> None:
    error = own_subset.build(*words, code=2)["error"]
    assert not own_subset.target.exists()
    assert [path.suffix for path in own_subset.workdir.rglob("*") if path.is_file()] == [".json"]
    last = own_subset.command("status", "--json").json["last"]
    assert (last["exit_code"], last["error"]["reason"], last["error"]["error"]) == (2, reason, error)
    own_subset.build()
    own_subset.build(*words, code=2)
    told = own_subset.command("status", "--json").json
    assert [r["exit_code"] for r in told["recent"]] == [2, 0, 2]
    assert own_subset.run("status", own_subset.target, "--json").json["runs"] == 2  # from then on it is at the target


@pytest.mark.parametrize("line", ["classes: [car", "select: {a: b", "on_error: 'x", "index:\n- car\n  x: :"])
def test_a_run_whose_config_is_no_yaml_leaves_its_record(own_subset: Subset, line: str) -> None:
    good = own_subset.config.read_text()
    for built in (False, True):
        own_subset.config.write_text(f"{good}\n{line}\n")
        error = own_subset.build("--metrics", str(own_subset.config.parent / "m.prom"), code=2)["error"]
        assert str(own_subset.target) in (own_subset.config.parent / "m.prom").read_text()
        own_subset.config.write_text(good)
        last = own_subset.command("status", "--json").json["last"]
        assert (last["exit_code"], last["error"]["error"]) == (2, error)
        if not built:
            own_subset.build()
    assert own_subset.run("status", own_subset.target, "--json").json["runs"] == 2


@pytest.mark.parametrize("key", ["workdir", "target"])
def test_where_no_yaml_says_what_the_workdir_is_none_is_made(own_subset: Subset, key: str, tmp_path: Path) -> None:
    own_subset.config.write_text(own_subset.config.read_text().replace(f"{key}:", f"{key}: [", 1))
    own_subset.command("build", "-C", str(tmp_path), code=2)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.parent != own_subset.config.parent]
    assert not own_subset.workdir.exists()


def test_a_source_that_cannot_be_read_of_a_config_is_not_written_to(own_subset: Subset) -> None:
    before = snapshot(own_subset.source)
    text = own_subset.config.read_text()
    own_subset.config.write_text(text.replace("source:", "source: [", 1))
    own_subset.command("build", "--set", f"workdir={own_subset.source}/work", code=2)
    assert snapshot(own_subset.source) == before


@pytest.mark.parametrize("where", ["", "labels", "labels/train2017/work", "work"])
def test_a_wrong_config_makes_nothing_in_a_source(own_subset: Subset, where: str) -> None:
    """Nobody has checked then that the workdir is a folder of ours."""
    before = snapshot(own_subset.source)
    for words in (
        ["classes=[cra]"],
        ["target.image=none"],
        ["target.root=0"],
        ["target={}"],
        ["workdir=[]"],
        ["runs=1"],
    ):
        own_subset.command("build", "--set", f"workdir={own_subset.source / where}", "--set", words[0], code=2)
    assert snapshot(own_subset.source) == before
    assert not own_subset.target.exists()


@pytest.mark.parametrize("text", ["", "[", "- a", "text", "source: {", "target: 7", "target: {root: s3}\n"])
def test_what_is_no_config_leaves_no_record(own_subset: Subset, text: str) -> None:
    own_subset.config.write_text(text)
    before = snapshot(own_subset.config.parent)
    told = own_subset.command("build", "-C", str(own_subset.config.parent), code=2)
    assert "internal error" not in told.err
    left = snapshot(own_subset.config.parent).keys() - before.keys()
    assert all(Path(path).parts[0] == "work" for path in left)


def test_old_records_go(own_subset: Subset) -> None:
    keep = ("--set", "runs.keep=3")
    own_subset.build(*keep)
    own_subset.command("build", *keep, "--set", "classes=[cra]", code=2)
    for _ in range(4):
        own_subset.build(*keep)
    assert [r["exit_code"] for r in records(own_subset)] == [2, 0, 0]  # the last failure stays
    for _ in range(4):
        own_subset.command("build", *keep, "--set", "classes=[cra]", code=2)
    assert [r["exit_code"] for r in records(own_subset)] == [0, 2, 2]  # and the last success


@given(codes=st.lists(st.sampled_from([0, 1, 3, 4, 130, None]), max_size=60), keep=st.integers(1, 40))
def test_the_last_success_and_failure_stay(codes: list[int | None], keep: int) -> None:
    found = [
        f"20261128T{i:06d}000Z-7" + (f".{i}-{code}" if code is not None else "") + ".json"
        for i, code in enumerate(codes)
    ]
    gone = surplus(found, keep)
    left = [name for name in found if name not in gone]
    good = [n for n, code in zip(found, codes, strict=True) if code in (0, 3, None)]
    bad = [n for n in found if n not in good]
    assert set(good[-1:] + bad[-1:]) <= set(left)
    assert len(left) <= max(keep, 2)
    assert len(left) >= min(len(found), keep)
    others = [n for n in left if n not in good[-1:] + bad[-1:]]
    assert others == [n for n in found if n not in good[-1:] + bad[-1:]][len(found) - len(left) :]


@pytest.mark.parametrize("kind", ["file", "link", "dangling"])
def test_a_record_that_the_target_does_not_take_is_in_the_workdir(own_subset: Subset, kind: str) -> None:
    own_subset.build()
    runs = own_subset.target / ".coco-diy/runs"
    shutil.rmtree(runs)
    elsewhere = own_subset.target.parent / "elsewhere"
    if kind == "file":
        write_file(runs, "in its place")
    else:
        runs.symlink_to(elsewhere)
    if kind == "link":
        elsewhere.mkdir()
    told = own_subset.command("build", "--json")
    assert told.json["exit_code"] == 0
    assert f"{runs}: takes no record of this run, which is {own_subset.workdir}/runs/" in told.err
    assert not any(elsewhere.glob("*"))
    last = own_subset.command("status", "--json").json["recent"][0]
    assert (last["run"], last["status"]) == (told.json["run"]["id"], "nothing to do")


@dataclass
class SlowStore:
    """An S3 store that answers no request before it is `woken`, or for long; and then that nobody may do that."""

    asked: list[str] = field(default_factory=list)
    woken: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        store = self

        class Handler(Silent, BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                store.asked.append(f"{self.command} {urlsplit(self.path).path}")
                store.woken.wait(20)
                store.answered.set()
                with contextlib.suppress(OSError):
                    self.send_error(403)

            do_GET = do_HEAD = do_PUT = answer  # noqa: N815 - the base's names

        return Handler


@pytest.fixture
def slow_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowStore]:
    monkeypatch.setattr(run_records, "_STORE_SECONDS", 1.0)
    store = SlowStore()
    with serving(store.handler()) as port:
        lead_to(port, tmp_path, monkeypatch)
        yield store
        store.woken.set()


@pytest.mark.parametrize(("ends", "asks"), [("ended", "PUT"), ("failed", "HEAD")])
def test_a_store_that_is_too_slow_for_a_record_is_given_up(
    slow_store: SlowStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, ends: str, asks: str
) -> None:
    """The run goes on while the store has still not answered, and its record is in the workdir."""
    run, target = OneRun("one"), f"s3://bucket/{tmp_path.name}"
    kept = RunRecords({"target": {"root": target}, "source": {}, "workdir": str(tmp_path / "work")}, run)
    kept.begin()
    if ends == "ended":
        kept.ended(0, {"status": "built"})
    else:
        kept.failed(DataError("a bad row"), DataError("a bad row").facts())
    assert not slow_store.answered.is_set()
    assert {one.partition(" ")[0] for one in slow_store.asked} == {asks}
    assert all(f"/bucket/{tmp_path.name}/.coco-diy/" in one for one in slow_store.asked)
    (file,) = (tmp_path / "work/runs").glob("*/*")  # and nothing says that the run was killed
    assert (run.record, json.loads(file.read_text())["run"]["id"]) == (str(file), "one")
    assert (f"{target}/.coco-diy/runs: takes no record of this run" in caplog.text) == (ends == "ended")
