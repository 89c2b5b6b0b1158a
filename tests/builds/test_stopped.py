"""A run that was stopped or killed: what it leaves is known, and the next run ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.builds.test_build import BUILT
from tests.conftest import CROWD_CONFIG, MakeSubset, Subset
from tests.support.helpers import PROJECT, contents, make_tree, picture, snapshot, write_file

BUS = ("--set", "classes=[bicycle, car, bus]")


@pytest.fixture(params=["1", "8"])
def stopped(subset: Subset, request: pytest.FixtureRequest) -> Subset:
    """A subset of two classes whose next build, with a third, was stopped: a file stood where a folder must be."""
    subset.build("--set", f"index.buckets={request.param}")
    in_the_way = write_file(subset.target / "images/train/sub/deep", "mine")
    told = subset.command("build", *BUS, "--set", f"index.buckets={request.param}", code=1)
    assert str(in_the_way) in told.err
    assert told.out == ""
    assert (subset.target / ".coco-diy/intent.json").exists()
    in_the_way.unlink()
    return subset


@pytest.mark.slow
def test_a_stopped_build_goes_on(stopped: Subset, make_subset: MakeSubset) -> None:
    buckets = str(len(json.loads((stopped.target / ".coco-diy/manifest.json").read_text())["parts"]))
    stopped.build(*BUS, "--set", f"index.buckets={buckets}")
    fresh = make_subset(stopped.source, "fresh")
    fresh.build(*BUS)
    assert contents(stopped.target) == contents(fresh.target)
    assert not (stopped.target / ".coco-diy/intent.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("buckets", [1, 8, 3])
def test_a_stopped_build_can_be_turned_back(stopped: Subset, buckets: int) -> None:
    """What the stopped run meant to do is not done, what it did is undone, and what was there before stays ours."""
    stopped.build("--set", f"index.buckets={buckets}")
    assert contents(stopped.target) == BUILT
    assert stopped.build("--set", "classes=[motorcycle]", "--set", f"index.buckets={buckets}")["changes"] > 0
    assert set(contents(stopped.target)) == {"labels/val/v.txt", "images/val/v.jpg", "data.yaml"}


def test_a_stopped_build_that_would_only_have_added(own_subset: Subset) -> None:
    """Turned back, it has nothing to undo beside the YAML, and all else of its bucket is still ours."""
    write_file(own_subset.source / "labels/train2017/d.txt", "1 0.1 0.1 0.9 0.1 0.5 0.95\n")
    own_subset.build()
    in_the_way = write_file(own_subset.target / "labels/train/sub/deep", "mine")
    own_subset.command("build", *BUS, code=1)
    in_the_way.unlink()
    own_subset.build()
    assert contents(own_subset.target) == BUILT
    own_subset.build("--set", "classes=[motorcycle]")
    assert set(contents(own_subset.target)) == {"labels/val/v.txt", "images/val/v.jpg", "data.yaml"}


def test_a_cure_followed_leaves_the_source_alone(own_subset: Subset) -> None:
    """Some images were hard-linked when one of another file system stopped the run: now they are to be copied."""
    image = own_subset.source / "images/train2017/sub/e.jpeg"
    image.unlink()
    os.symlink("/proc/version", image)
    source = contents(own_subset.source / "images")
    told = own_subset.command("build", "--set", "target.images=hardlink", code=1)
    assert "set target.images to copy or symlink" in told.err
    image.unlink()
    write_file(image, picture("train2017/sub/e.jpeg"))
    source["train2017/sub/e.jpeg"] = picture("train2017/sub/e.jpeg")
    own_subset.build()
    assert contents(own_subset.source / "images") == source
    assert contents(own_subset.target) == BUILT


@pytest.mark.slow
@pytest.mark.parametrize("images", ["copy", "hardlink", "symlink"])
@pytest.mark.parametrize("after", [0, 90])
def test_a_killed_build_goes_on(
    crowd: Path, tmp_path: Path, make_subset: MakeSubset, expected: dict[str, bytes], images: str, after: int
) -> None:
    """Killed once some files are there, wherever they lie; with copies it ends in the bytes of a run of its own."""
    shutil.copytree(crowd, tmp_path / "crowd")  # of its own: a fault here would spoil the source of other tests
    wanted = make_subset(tmp_path / "crowd", **CROWD_CONFIG)
    source = snapshot(wanted.source, links=True)
    words = [
        "build",
        str(wanted.config),
        "--set",
        f"target.images={images}",
        "--set",
        "index.buckets=7",
        "--scheduler",
        "sync",
    ]
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", *words], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        intent = wanted.target / ".coco-diy/intent.json"
        while process.poll() is None:
            # os.walk, for folders may be put in place while this looks
            names = [name for _, _, files in os.walk(wanted.target) for name in files]
            if intent.exists() and sum(name.endswith((".txt", ".jpg")) for name in names) >= after:
                break
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert snapshot(wanted.source, links=True) == source
    told = wanted.build("--set", "index.buckets=7")
    assert told["ok"]
    # the record says how images get there
    assert contents(wanted.target) == {path: c for path, c in expected.items() if path != "DATASET.md"}
    assert snapshot(wanted.source, links=True) == source
    left = {p.relative_to(wanted.target).parts[1] for p in (wanted.target / ".coco-diy").rglob("*") if p.is_file()}
    assert left == {"manifest.json", "manifest", "copy", "runs", "lock"}


#: A shell's background job ignores Ctrl-C, and so do its children: here it counts again.
LISTENING = "import signal; signal.signal(2, signal.default_int_handler); from pipeline.__main__ import main; main()"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "number"), [("sync", signal.SIGINT), ("threads", signal.SIGTERM), ("processes", signal.SIGINT)]
)
def test_stopped_by_a_signal(wanted: Subset, expected: dict[str, bytes], engine: str, number: int) -> None:
    """Stopped by hand, or by a scheduler, amid its work: a sentence, 128 and the signal, and the next run goes on."""
    words = ["build", str(wanted.config), "--scheduler", engine, "--workers", "2", "--set", "index.buckets=32"]
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        [sys.executable, "-c", LISTENING, *words],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while process.poll() is None and not (wanted.target / ".coco-diy/intent.json").exists():
            time.sleep(0.001)
        os.killpg(process.pid, number)  # as a terminal does: the helpers get it too
        _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert told.strip() == "coco-diy: stopped; run the same command again to go on"
    wanted.build("--set", "index.buckets=32")
    assert contents(wanted.target, record=True) == expected


def test_a_killed_first_build_can_be_given_up_for_other_classes(wanted: Subset, make_subset: MakeSubset) -> None:
    """What the killed run had put beside the target is neither lost nor left."""
    in_the_way = write_file(wanted.target / "images/val/deep", "mine")
    wanted.command("build", "--set", "index.buckets=7", code=1)
    in_the_way.unlink()
    other = ("--set", "classes=[bus, motorcycle]", "--set", "index.buckets=4")
    wanted.build(*other)
    fresh = make_subset(wanted.source, "fresh")
    fresh.build(*other, "--set", "select.backgrounds=unlabelled", "--set", "select.duplicates=drop")
    assert contents(wanted.target) == contents(fresh.target)


def test_a_folder_of_nothing_but_unreadable_names(tmp_path: Path, make_subset: MakeSubset) -> None:
    source = make_tree(tmp_path / "src", {"train2017": {}, "val2017": {}}, {"train2017": (), "val2017": ()})
    write_file(Path(os.fsdecode(os.fsencode(source / "labels/train2017") + b"/caf\xe9.txt")), "1 0.5 0.5 0.1 0.1\n")
    subset = make_subset(source)
    assert "has a name that is not UTF-8" in subset.command("index", code=1).err
    told = subset.command("index", "--json", "--set", "on_error=skip", code=3).json
    assert told["source"]["train"]["labels"] == {}


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_helpers_do_not_outlive_a_killed_run(crowd: Path, make_subset: MakeSubset) -> None:
    wanted = make_subset(crowd, **CROWD_CONFIG)
    words = ["build", str(wanted.config), "--set", "index.buckets=7", "--scheduler", "processes", "--workers", "2"]
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", *words], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        helpers: list[int] = []
        while process.poll() is None and len(helpers) < 2:
            helpers = [c for c in _children(process.pid) if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
            time.sleep(0.001)
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
    assert len(helpers) == 2
    until = time.monotonic() + 20
    while any(map(_alive, helpers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_alive, helpers))


def test_what_a_run_left_that_was_killed_when_it_was_done(own_subset: Subset) -> None:
    """Killed between the manifest and the end: the subset is done, and what lies about goes with the next run."""
    own_subset.build()
    for name in ("intent/0123/bucket-00000.parquet", "tmp/.coco-diy-1.tmp", "new/labels/train/a.txt"):
        write_file(own_subset.target / ".coco-diy" / name, "left")
    assert own_subset.build()["status"] == "nothing to do"
    left = {p.relative_to(own_subset.target).parts[1] for p in (own_subset.target / ".coco-diy").rglob("*")}
    assert left == {"manifest.json", "manifest", "copy", "runs", "lock"}


def test_a_list_of_one_source_is_that_source(own_subset: Subset, make_subset: MakeSubset) -> None:
    own_subset.build()
    alone = yaml.safe_load(own_subset.config.read_text())["source"]
    listed = make_subset(own_subset.source, "listed", source=[{"name": "one", **alone}])
    listed.build()
    assert contents(listed.target, record=True) == contents(own_subset.target, record=True)


def test_a_stop_that_falls_into_a_callback_of_the_interpreter_is_no_traceback() -> None:
    """What is raised in one is printed and lost: the flag of the stop is what counts."""
    code = """
import os, signal, sys
import pipeline.__main__ as main, pipeline.cli

class Fallen:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(10_000): pass

def run():
    signal.signal(signal.SIGINT, pipeline.cli.run._stop)
    Fallen()
    main.STOP.wait(5)
    return 130 if main.STOP.is_set() else 1

pipeline.cli.run_cli = run
main.main()
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stderr) == (130, "")
