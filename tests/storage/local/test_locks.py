"""Locks: on file systems that have none, when they are lost, when the disk is full; and what killed runs leave."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.base.errors import LockError, StorageError
from pipeline.runtime.interrupt import STOP
from pipeline.storage.local import lock
from pipeline.storage.stores import lease
from tests.builds.test_build import BUILT
from tests.builds.test_limits import picture as draw_picture
from tests.conftest import Subset
from tests.support.helpers import contents, make_tree, write_file

#: What file systems without locks answer: Lustre, NFS without lockd, FUSE, the kernel's own ENOTSUPP.
NO_LOCKS = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF, 524]


@pytest.fixture(params=NO_LOCKS)
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(_fd: int, _operation: int) -> None:
        raise OSError(request.param, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(lease, "CLAIM_S", 0.05)
    monkeypatch.setattr(lock, "_WARNED", set())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A beat that comes often; a lost lease stops this process's batches, which later tests have."""
    monkeypatch.setattr(lease, "BEAT_S", 0.05)
    yield
    STOP.clear()


@pytest.mark.usefixtures("no_locks")
def test_a_file_system_without_locks(own_subset: Subset, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        own_subset.build()
        own_subset.build("--set", "classes=[bus]")
        own_subset.run("verify", own_subset.target)
        own_subset.build()
    assert contents(own_subset.target) == BUILT
    assert sum("has no locks" in message for message in caplog.messages) == 1
    assert not list(own_subset.target.rglob("*.lease"))
    assert not list(own_subset.workdir.rglob("*.lease*"))


@pytest.mark.usefixtures("no_locks")
def test_a_lease_keeps_other_runs_away(own_subset: Subset) -> None:
    own_subset.build()
    place = storage.locate_writable(str(own_subset.target))
    with place.lock(".coco-diy/lock", "the target"):
        for words in (("build", own_subset.config), ("verify", own_subset.target)):
            assert f"is in use by process {os.getpid()}" in own_subset.run(*words, code=None).err
        own_subset.command("build", "--break-lock")
    own_subset.build()


@pytest.mark.usefixtures("no_locks", "quick")
def test_a_lease_outlives_its_beats_and_no_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = storage.locate_writable(str(tmp_path))
    with place.lock("lock", "the target") as held:
        before = (tmp_path / "lock.lease").read_bytes()
        until = time.monotonic() + 20
        while (tmp_path / "lock.lease").read_bytes() == before:
            assert time.monotonic() < until
            time.sleep(0.02)
        held()
        with pytest.raises(LockError, match="in use"), place.lock("lock", "the target"):
            pass
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    told = json.loads(before) | {"process": int(dead.stdout), "started": "1"}
    write_file(tmp_path / "lock.lease", json.dumps(told))
    with place.lock("lock", "the target") as held:  # its holder was on this machine, and is gone
        held()
    write_file(tmp_path / "lock.lease", json.dumps(told | {"where": "another machine"}))
    with pytest.raises(LockError, match="in use"), place.lock("lock", "the target"):
        pass
    monkeypatch.setattr(lease, "LEASE_S", -60.0)  # as if minutes had gone by
    with place.lock("lock", "the target") as held:
        held()


@pytest.mark.usefixtures("no_locks")
def test_of_many_that_take_a_lease_one_has_it(tmp_path: Path) -> None:
    place, begin, had = storage.locate_writable(str(tmp_path)), threading.Barrier(6), list[int]()
    left = threading.Barrier(6)

    def take(number: int) -> None:
        begin.wait()
        try:
            with place.lock("lock", "the target"):
                had.append(number)
                left.wait()
        except LockError:
            left.wait()

    threads = [threading.Thread(target=take, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(had) == 1


@pytest.mark.parametrize("where", ["memory://lost-lock", "folder"])
def test_a_lock_that_was_taken_is_noticed_at_once(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """No beat comes in between: the store itself is asked."""
    if where == "folder":
        monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSYS, "none")))
        where = str(tmp_path)
    monkeypatch.setattr(lease, "CLAIM_S", 0.05)
    request.addfinalizer(STOP.clear)
    first, second = storage.locate_writable(where), storage.locate_writable(where)

    def both() -> None:
        with first.lock("lock", "the target") as held:
            held()
            second.break_lock("lock")
            with second.lock("lock", "the target") as others:
                others()
                held()

    with pytest.raises(LockError, match="was broken by another run"):
        both()


def test_the_manifest_is_not_written_when_the_lock_is_lost(own_subset: Subset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run takes the target while this one waits for the disk, which is the last before the manifest."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSYS, "none")))
    own_subset.build()
    manifest = own_subset.target / ".coco-diy/manifest.json"
    before, sync = manifest.read_bytes(), storage.LocalFolder.sync

    def broken(self: storage.LocalFolder, folders: tuple[str, ...] = ()) -> None:
        sync(self, folders)
        if folders:
            (own_subset.target / ".coco-diy/lock.lease").write_text('{"id": "another"}')

    monkeypatch.setattr(storage.LocalFolder, "sync", broken)
    told = own_subset.command("build", "--set", "classes=[bus]", code=None)
    STOP.clear()
    assert "its lock was broken by another run" in told.err
    assert manifest.read_bytes() == before


@pytest.mark.parametrize("call", ["ftruncate", "pwrite"])
def test_a_disk_that_is_full_at_the_lock(own_subset: Subset, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    own_subset.build()
    monkeypatch.setattr(os, call, full)
    told = own_subset.command("build", code=1).err
    assert "lock: cannot be written: the disk is full" in told
    assert "fault" not in told


def test_another_error_at_the_lock_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    place = storage.locate_writable(str(tmp_path))
    with pytest.raises(StorageError, match="lock: cannot be locked"), place.lock("lock", "the target"):
        pass
    with pytest.raises(StorageError, match="lock: cannot be locked"):
        place.lock_holder("lock")


# What killed runs leave


def test_what_killed_runs_had_under_way_is_cleared(own_subset: Subset) -> None:
    own_subset.build("--set", "on_error=skip")
    own_subset.build("--set", "classes=[bus]")
    (index,) = (p for p in (own_subset.workdir / "index").iterdir() if p.is_dir())
    (plan,) = (p for p in (own_subset.workdir / "plans").iterdir() if p.is_dir() and "." not in p.name)
    ours = [
        index / "files/part-00000.parquet.123-456.tmp",
        index / ".coco-diy-12-index.json.tmp",
        plan / "part-00000.parquet.1-2.tmp",
        plan.with_name(f"{plan.name}.touched") / ".coco-diy-1-2.tmp",
        own_subset.target / ".coco-diy/.coco-diy-9-manifest.json.tmp",
        own_subset.target / ".coco-diy/runs/.coco-diy-9-8.tmp",
        own_subset.target / ".coco-diy/manifest/0123456789abcdef0123456789abcdef.parquet",
        own_subset.target / ".coco-diy/intent/0123456789abcdef0123456789abcdef/part-00000.parquet",
        own_subset.target / ".coco-diy/tmp/.coco-diy-1-2.tmp",
        own_subset.target / ".coco-diy/new/labels/train/x.txt",
    ]
    old, young = (own_subset.workdir / "plans" / f"{name}.images.1-2.tmp" for name in ("old", "young"))
    foreign = [
        index / "notes.tmp",
        own_subset.workdir / "my.tmp",
        own_subset.target / "a.1-2.tmp",
        own_subset.workdir / "plans/.coco-diy-notes",
        plan / "x.12.tmp",
        young,
    ]
    for path in (*ours, old, *foreign):
        write_file(path, "x")
    os.utime(old, (0, 0))
    own_subset.build("--set", "classes=[bus]")
    assert [path for path in (*ours, old) if path.exists()] == []
    assert [path for path in foreign if not path.exists()] == []


# Links in the source


def test_links_out_of_the_source_are_counted(tmp_path: Path, own_subset: Subset) -> None:
    source, away = own_subset.source, tmp_path / "away"
    row = "1 0.5 0.5 0.2 0.2\n"
    write_file(source / "store/inside.jpg", "inside")
    make_tree(away, {"sub2": {"s": row}}, {"sub2": ("s.jpg",)})
    write_file(source / "labels/train2017/x.txt", row)
    os.symlink(source / "store/inside.jpg", source / "images/train2017/x.jpg")
    assert "leads out" not in own_subset.command("build").err
    write_file(source / "labels/train2017/y.txt", row)
    os.symlink(write_file(away / "picture", draw_picture()), source / "images/train2017/y.jpg")
    told = own_subset.command("build").err
    assert f"{source}/images/train2017/y.jpg: is a link that leads out of the source: " in told
    for kind in ("labels", "images"):
        os.symlink(away / kind / "sub2", source / kind / "train2017/more")
    assert "(and 2 more): what is there is taken" in own_subset.command("index").err
    before = contents(own_subset.target)
    told = own_subset.command("build", "--set", "source.links=refuse", code=1).err
    assert "leads out of the source (and 2 more); remove it, or --set source.links=follow" in told
    assert contents(own_subset.target) == before


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("how", ["copy", "hardlink", "symlink"])
def test_what_links_lead_to_out_of_the_source_is_taken_where_it_is_an_image(
    tmp_path: Path, own_subset: Subset, folder: bool, how: str
) -> None:
    """A download must not bring a file of its user's, a key say, into a subset that is published."""
    row, home, images = "1 0.5 0.5 0.2 0.2\n", tmp_path / "home", own_subset.source / "images/train2017"
    files = {"key": b"PRIVATE KEY", "photo": draw_picture(), "empty": b""}
    for name, data in files.items():
        write_file(home / f"{name}.jpg", data)
        write_file(own_subset.source / f"labels/train2017/more/{name}.txt", row)
    if folder:
        os.symlink(home, images / "more")
    else:
        (images / "more").mkdir()
        for name in files:
            os.symlink(home / f"{name}.jpg", images / f"more/{name}.jpg")
    words = ("--set", f"target.images={how}")
    told = own_subset.command("build", *words, code=1).err
    assert f"{images}/more/key.jpg: is a link that leads out of the source, and to no image" in told
    told = own_subset.command("build", *words, "--set", "on_error=skip", code=3).err
    made = contents(own_subset.target / "images/train/more")
    assert made == {"photo.jpg": draw_picture(), "empty.jpg": b""}
    assert own_subset.build(*words, "--set", "on_error=skip", code=3)["problems"] == {"image_unreadable": 1}


def test_a_split_that_is_a_link_out_of_the_source(tmp_path: Path, own_subset: Subset) -> None:
    """Users put images on another disk: it is no surprise, so no image is looked at; it is said, and can be refused."""
    images = own_subset.source / "images/train2017"
    images.rename(tmp_path / "disk")
    os.symlink(tmp_path / "disk", images)
    assert f"{images}: is a link that leads out of the source" in own_subset.command("build").err
    assert contents(own_subset.target / "images/train")
    assert "remove it" in own_subset.command("build", "--set", "source.links=refuse", code=1).err


def test_a_chain_of_links_is_followed_to_its_end(tmp_path: Path) -> None:
    write_file(tmp_path / "away/real.jpg", "x")
    os.symlink(tmp_path / "away/real.jpg", tmp_path / "away/second.jpg")
    (tmp_path / "in/deep").mkdir(parents=True)
    os.symlink("../../away/second.jpg", tmp_path / "in/deep/a.jpg")
    os.symlink("a.jpg", tmp_path / "in/deep/b.jpg")
    os.symlink("deep", tmp_path / "in/also")
    found = storage.locate(str(tmp_path / "in")).listing(frozenset({".jpg"}), with_stats=False)
    assert found.links == {str(tmp_path / "away"): (2, "also/a.jpg"), str(tmp_path / "in/deep"): (1, "also")}
