"""A folder through which alone a run's workers write: once it is removed, nothing gets through any more."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import storage
from pipeline.api import build, make_index, make_plan
from pipeline.base.errors import DataError, Interrupted, StorageError
from pipeline.runtime import pins
from pipeline.storage import Copies, spill
from pipeline.storage.local.outbox import collected
from pipeline.storage.local.root import Root
from pipeline.storage.local.write import put_whole, temporary_name
from pipeline.storage.stores import guard
from pipeline.target.intent import tidy, write_intent
from pipeline.target.manifest import TargetState
from tests.conftest import MakeSubset
from tests.support.helpers import contents, make_tree, write_file


@pytest.fixture
def target(tmp_path: Path) -> storage.WritableLocation:
    """A target with one file and a fence."""
    write_file(tmp_path / "target/labels/a.txt", "old")
    found = storage.locate_writable(str(tmp_path / "target"))
    found.make_folders(["tmp/run/"])
    return found


def test_files_come_and_go_through_a_fence(target: storage.WritableLocation, tmp_path: Path) -> None:
    fence = target.own("tmp/run").sealed()
    target.write_many(["labels/sub/b.txt"], [b"new"], scratch=fence).must(target)
    target.copy_many(Copies(["labels/c.txt"], target, ["labels/a.txt"], [3]), scratch=fence).must(target)
    assert target.delete_many(["labels/a.txt", "labels/none.txt"], scratch=fence).done == 2
    assert contents(tmp_path / "target") == {"labels/sub/b.txt": b"new", "labels/c.txt": b"old"}


def test_nothing_gets_through_a_fence_that_is_gone(target: storage.WritableLocation, tmp_path: Path) -> None:
    fence = target.own("tmp/run").sealed()
    target.remove_folder("tmp/run")
    for act in (
        lambda: target.write_many(["labels/sub/b.txt"], [b"new"], scratch=fence),
        lambda: target.copy_many(Copies(["labels/c.txt"], target, ["labels/a.txt"], [3]), scratch=fence),
        lambda: target.delete_many(["labels/a.txt"], scratch=fence),
        lambda: fence.write("answer", b""),
    ):
        with pytest.raises(StorageError, match="is gone: its run has ended, or the folder is not mounted here"):
            act()
    assert sorted(os.listdir(tmp_path / "target")) == ["labels", "tmp"]
    assert contents(tmp_path / "target") == {"labels/a.txt": b"old"}


@pytest.mark.parametrize(
    ("act", "held_by"),
    [*itertools.product(["write", "copy", "delete", "make"], ["fence", "lock", "both"]), ("table", "lock")],
)
def test_nothing_is_made_where_the_target_goes_away_at_any_instant(
    target: storage.WritableLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str, held_by: str
) -> None:
    """Another folder has its place from the N-th call on that opens something; for each N until none is so late."""
    here, away, opens = tmp_path / "target", tmp_path / "away", os.open
    fence, before = None if held_by == "lock" else target.own("tmp/run").sealed(), storage.locate(str(here))
    acts: dict[str, Callable[[], object]] = {
        "write": lambda: target.write_many(["labels/sub/b.txt", "more/c.txt"], [b"new"] * 2, scratch=fence),
        "copy": lambda: target.copy_many(Copies(["more/c.txt"], before, ["labels/a.txt"], [3]), scratch=fence),
        "delete": lambda: target.delete_many(["labels/a.txt", "more/c.txt"], scratch=fence),
        "make": lambda: (fence or target.own("tmp/run")).make_folders(["further"]),
        "table": lambda: storage.write_with(f"{here}/plans/one/part", lambda file: file.write(b"new")),
    }
    for instant in range(100):
        calls = 0

        def swapping(*args: Any, at: int = instant, **options: Any) -> int:
            nonlocal calls
            if calls == at:
                here.rename(away)
                here.mkdir()
            calls += 1
            return opens(*args, **options)

        lock = target.lock("tmp/lock", "the target") if held_by != "fence" else contextlib.nullcontext()
        with lock, monkeypatch.context() as patched, contextlib.suppress(StorageError):
            patched.setattr(os, "open", swapping)
            acts[act]()
        if not away.exists():
            break
        assert list(here.iterdir()) == []
        here.rmdir()
        away.rename(here)
    assert 1 < instant < 99


def test_a_target_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    away = storage.locate_writable(str(tmp_path / "away"))
    with pytest.raises(StorageError, match="not mounted here"):
        away.write_many(["labels/a.txt"], [b"new"], scratch=away.own("tmp/run").sealed())
    assert not (tmp_path / "away").exists()


def test_a_folder_is_removed_under_who_writes_through_it(target: storage.WritableLocation, tmp_path: Path) -> None:
    """Two have it open and put file after file through it, as workers do, and can put none once it is removed."""
    fence = os.open(tmp_path / "target/tmp/run", os.O_RDONLY | os.O_DIRECTORY)
    labels = os.open(tmp_path / "target/labels", os.O_RDONLY | os.O_DIRECTORY)
    put, over = [0, 0], threading.Event()

    def fill(who: int) -> None:
        while not over.is_set():
            name = f"{who}-{put[who]}"
            put[who] += put_whole(name, f"{name}.tmp", b"text", labels, fence, "labels") is None

    threads = [threading.Thread(target=fill, args=(who,)) for who in range(2)]
    for thread in threads:
        thread.start()
    while not all(put):
        time.sleep(0.001)
    target.remove_folder("tmp/run")
    there = set(os.listdir(labels))
    time.sleep(0.05)
    assert len(there) > 2
    assert set(os.listdir(labels)) == there
    over.set()
    for thread in threads:
        thread.join()
    with pytest.raises(FileNotFoundError):
        os.open("late", os.O_CREAT | os.O_WRONLY, dir_fd=fence)
    os.close(fence)
    os.close(labels)


@pytest.mark.parametrize("folder", ["labels/..", "..", ".", "labels/.", "", "/"])
def test_what_leads_out_is_not_removed(target: storage.WritableLocation, tmp_path: Path, folder: str) -> None:
    with pytest.raises(StorageError, match="leads out of its folder; nothing is done there"):
        target.remove_folder(folder)
    assert contents(tmp_path) == {"target/labels/a.txt": b"old"}
    assert (tmp_path / "target/tmp/run").is_dir()


def test_a_folder_may_be_named_with_a_slash(target: storage.WritableLocation, tmp_path: Path) -> None:
    target.remove_folder("tmp/")
    assert not (tmp_path / "target/tmp").exists()


def test_one_who_cannot_be_outrun_is_named(
    target: storage.WritableLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.storage.local.folders._OUTRUN_S", 0.2)
    rmdir = os.rmdir

    def made_before(name: str, *, dir_fd: int) -> None:
        os.close(os.open(f"{name}/more", os.O_CREAT | os.O_WRONLY, dir_fd=dir_fd))
        rmdir(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", made_before)
    with pytest.raises(StorageError, match="tmp/run: cannot be removed: files are being made in it; stop the workers"):
        target.remove_folder("tmp/run")


def test_at_a_store_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "HOLDS_S", 0)
    target = storage.locate_writable("memory://fences/target")
    target.write_many([f"tmp/run/{storage.RUNNING}", "labels/a.txt"], [b"", b"old"]).must(target)
    fence = target.own("tmp/run").sealed()
    target.write_many(["labels/b.txt"], [b"new"], scratch=fence).must(target)
    target.remove_folder("tmp/run")
    with pytest.raises(StorageError, match="its run has ended"):
        target.write_many(["labels/c.txt"], [b"new"], scratch=fence)
    with pytest.raises(StorageError, match="its run has ended"):
        target.copy_many(Copies(["labels/d.txt"], target, ["labels/a.txt"], [3]), scratch=fence)
    with pytest.raises(StorageError, match="its run has ended"):
        target.delete_many(["labels/a.txt"], scratch=fence)
    with pytest.raises(StorageError, match="its run has ended"):
        target.write_many(["labels/c.txt"], [b"new"], scratch=fence.below("further"))
    assert target.names() == {"labels/a.txt", "labels/b.txt"}


def test_an_answer_of_a_store_is_outlasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "HOLDS_S", 0.5)
    target = storage.locate_writable("memory://fences/slow")
    target.write_many([f"tmp/run/{storage.RUNNING}"], [b""]).must(target)
    fence = target.own("tmp/run").sealed()
    target.write_many(["labels/a.txt"], [b"new"], scratch=fence).must(target)
    target.remove_folder("tmp/run")
    target.outlast_writers()
    with pytest.raises(StorageError, match="its run has ended"):
        target.write_many(["labels/b.txt"], [b"new"], scratch=fence)


@pytest.mark.parametrize(("left", "waits"), [(f"tmp/run/{storage.RUNNING}", True), ("tmp/label", False)])
def test_workers_of_a_run_that_was_killed_at_a_store_are_outlasted(
    monkeypatch: pytest.MonkeyPatch, left: str, waits: bool
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    target = storage.locate_writable(f"memory://fences/killed-{waits}")
    target.own(".coco-diy").write_many([left], [b""]).must(target)
    state = TargetState(target)
    write_intent(state, 1, {}, [])
    tidy(TargetState(target))
    assert target.own(".coco-diy/tmp").names() == set()
    assert waited == [10.0] * waits


def test_what_a_task_makes_for_a_folder_is_collected(tmp_path: Path) -> None:
    root, run = tmp_path / "work", tmp_path / "work/run/made"
    run.mkdir(parents=True)
    with collected(str(root), str(run / "one")) as outbox:
        storage.write_with(str(root / "index/a/part"), lambda file: file.write(b"data"))
        storage.write_with(str(tmp_path / "elsewhere"), lambda file: file.write(b"data"))
        outbox.sync()
    assert outbox.files == ["index/a/part"]
    assert contents(tmp_path) == {"work/run/made/one/index/a/part": b"data", "elsewhere": b"data"}
    place = storage.locate_writable(str(root))
    place.take_files(place.own("run/made/one"), outbox.files)
    assert (root / "index/a/part").read_bytes() == b"data"


def test_what_is_collected_makes_no_folder_of_a_run_that_is_over(tmp_path: Path) -> None:
    with (
        collected(str(tmp_path), str(tmp_path / "run/made/one")),
        pytest.raises(StorageError, match="not mounted here"),
    ):
        storage.write_with(str(tmp_path / "index/part"), lambda file: file.write(b"data"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_taken_to_another_disk(tmp_path: Path, other_disk: Path) -> None:
    """Users put a folder of the workdir on another disk and leave a link."""
    write_file(tmp_path / "made/index/part", "data")
    (tmp_path / "index").symlink_to(other_disk)
    place = storage.locate_writable(str(tmp_path), links=frozenset({"index"}))
    place.take_files(place.own("made"), ["index/part"])
    assert (other_disk / "part").read_text() == "data"


def test_temporary_names_of_two_machines_differ() -> None:
    """In containers every process may have the number 1."""
    assert os.uname().nodename[:20].split(".")[0] in temporary_name()


def test_what_is_pinned_by_several_is_unpinned_by_each() -> None:
    pins.pin({"/a": 1, "/a/b": 2})
    pins.pin({"/a": 3})
    assert (pins.pinned_inode("/a"), pins.pinned_above("/a/b/c"), pins.pinned_above("/x")) == (1, "/a/b", None)
    pins.unpin({"/a": 1, "/a/b": 2})
    assert (pins.pinned_inode("/a"), pins.pinned_above("/a/b/c")) == (3, "/a")
    pins.unpin({"/a": 3})
    pins.pin({"/a": 1})
    pins.forget_pins("/a")
    pins.pin({"/a": 2})
    pins.unpin({"/a": 1})
    assert pins.pins() == {"/a": 2}
    pins.unpin({"/a": 2})
    assert pins.pins() == {}


def _ending(where: Path, away: Path, error: Exception) -> None:
    """End what is inside of a pinned folder after `where` went `away`."""
    with storage.pinned(str(where)):
        where.rename(away)
        raise error


def test_what_ends_a_run_is_said_unless_its_own_folder_went_away(tmp_path: Path) -> None:
    ours, other = tmp_path / "ours", tmp_path / "ours/other"
    other.mkdir(parents=True)
    with storage.pinned(str(ours)) as check:
        with pytest.raises(StorageError, match=f"{other}: was removed, or its disk"):
            _ending(other, tmp_path / "away", ValueError("why"))
        check()
    for error, said in ((ValueError("why"), StorageError), (Interrupted("stop"), Interrupted)):
        with pytest.raises(said):
            _ending(ours, tmp_path / "away", error)
        (tmp_path / "away").rename(ours)
    assert pins.pins() == {}


def test_a_folder_that_this_process_removes_itself_is_pinned_no_longer(tmp_path: Path) -> None:
    target = storage.locate_writable(str(tmp_path / "target"))

    def ending() -> None:
        with target.lock("lock", "the target"):
            target.delete_many(["lock"])
            target.drop_empty_folders("")
            raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        ending()
    assert not (tmp_path / "target").exists()
    assert Root("/").at("") == "/"


def test_a_writer_s_own_missing_file_is_not_taken_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written: No such file"):
        storage.write_pieces(str(tmp_path / "made"), (path.read_bytes() for path in [tmp_path / "gone"]))


@pytest.mark.parametrize("row", ["1 0.5 0.5 0.1 0.1\n", "bad\n"])
def test_no_file_of_the_workdir_is_open_once_a_run_has_ended(
    tmp_path: Path, make_subset: MakeSubset, monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    """Else its disk could not be unmounted, as long as whoever called has the error."""
    monkeypatch.setattr(spill, "IN_MEMORY", 0)
    folders = {"train2017": {"a": row}, "val2017": {}}
    subset = make_subset(make_tree(tmp_path / "source", folders, {"train2017": ("a.jpg",), "val2017": ()}))
    errors = []
    for act in (make_index, make_plan, build, build):
        try:
            act(str(subset.config))
        except DataError as error:
            errors.append(error)
        there = set[str]()
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # it is closed by now
                there.add(os.readlink(f"/proc/self/fd/{number}"))
        assert [path for path in there if path.startswith(str(subset.workdir))] == []
    assert bool(errors) == (row == "bad\n")
