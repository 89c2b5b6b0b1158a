"""Copies from folder to folder: content, digest and count are right, whether it is shared, and whoever makes them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xxhash

from pipeline.base.errors import Interrupted, StorageError
from pipeline.runtime.counters import FILES, READ, WRITTEN, counted
from pipeline.runtime.engine import Engine
from pipeline.runtime.interrupt import STOP
from pipeline.runtime.spare import spare_processors, sparing
from pipeline.storage.local import copy, file_copy
from pipeline.storage.local.copy import copy_many
from pipeline.storage.local.folder import LocalFolder
from pipeline.storage.local.root import Root
from pipeline.storage.location import Copies, Results
from tests.support.helpers import contents, write_file

#: Bytes around all limits: of one read, and of sharing.
SIZES = (0, 1, 5000, (32 << 10) - 1, 32 << 10, 150_001, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (3 << 20) + 5)


def settled(path: Path) -> Path:
    """The same file, long since written; its ctime is that of now."""
    os.utime(path, (1e9, 1e9))
    return path


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were written a moment ago count as settled; of no pair of devices anything is known."""
    monkeypatch.setattr(file_copy, "_SETTLED_NS", 0)
    monkeypatch.setattr(file_copy, "_APART", set())


@contextlib.contextmanager
def disk_of(kind: str, base: Path, megabytes: int, *options: str) -> Iterator[Path]:
    """A folder on a file system of its own, below `base`."""
    image, folder = base / "image", base / "disk"
    folder.mkdir()
    if os.getuid() or not shutil.which(f"mkfs.{kind}"):
        pytest.skip(f"to mount an {kind} takes root and mkfs.{kind} (Debian: xfsprogs, e2fsprogs)")
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run([f"mkfs.{kind}", "-q", *options, str(image)], check=True)
    mounted = subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"an {kind} cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def sharing_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on an XFS of its own, where files can share content."""
    with disk_of("xfs", tmp_path_factory.mktemp("xfs"), 400, "-m", "reflink=1") as folder:
        yield folder


def moved(root: Path, sources: list[Path], sizes: list[int | None] | None = None) -> tuple[Results, list[int]]:
    """Copy `sources` to `root`; the results, and what was counted: files, bytes read and bytes written."""
    before = [counted(what) for what in (FILES, READ, WRITTEN)]
    names = [path.name for path in sources]
    asked = sizes if sizes is not None else [path.stat().st_size for path in sources]
    results = copy_many(Root(str(root)), Copies(names, LocalFolder(str(sources[0].parent)), names, asked))
    return results, [counted(what) - b for what, b in zip((FILES, READ, WRITTEN), before, strict=True)]


def made(folder: Path) -> list[Path]:
    for size in SIZES:
        settled(write_file(folder / f"{size}.jpg", os.urandom(size)))
    return [folder / f"{size}.jpg" for size in SIZES]


def check(root: Path, sources: list[Path], results: Results) -> None:
    assert (results.done, results.failed) == (len(sources), {})
    for path in sources:
        data = path.read_bytes()
        assert (root / path.name).read_bytes() == data
        assert results.digests[path.name] == xxhash.xxh3_128_digest(data)


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("known", [True, False])
def test_every_size(tmp_path: Path, known: bool) -> None:
    sources = made(tmp_path / "from")
    results, (files, read, _) = moved(tmp_path / "to", sources, None if known else [None] * len(sources))
    check(tmp_path / "to", sources, results)
    assert (files, read) == (len(SIZES), sum(SIZES))


@pytest.mark.usefixtures("trusting")
def test_where_nothing_can_be_shared_it_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ioctl(*arguments: Any) -> Any:
        asked.append(arguments)
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    sources = made(tmp_path / "from")
    for number in range(2):
        results, counts = moved(tmp_path / f"to{number}", sources)
        check(tmp_path / f"to{number}", sources, results)
        assert counts == [len(SIZES), sum(SIZES), sum(SIZES)]
    assert len(asked) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("trusting")
def test_content_is_shared(sharing_disk: Path) -> None:
    sources = made(sharing_disk / "from")
    os.sync()
    free = os.statvfs(sharing_disk).f_bfree
    results, (files, read, written) = moved(sharing_disk / "to", sources)
    os.sync()
    taken = (free - os.statvfs(sharing_disk).f_bfree) * os.statvfs(sharing_disk).f_frsize
    check(sharing_disk / "to", sources, results)
    small = sum(size for size in SIZES if size < file_copy.SHARED_FROM)
    assert (files, read, written) == (len(SIZES), sum(SIZES), small)
    assert taken < sum(SIZES) / 4
    write_file(sources[-1], "another")  # what is written to one is not in the other
    assert (sharing_disk / "to" / sources[-1].name).stat().st_size == SIZES[-1]


@pytest.mark.slow
@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("what", ["content", "file", "later"])
def test_a_change_while_it_is_shared_is_noticed(sharing_disk: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    source = settled(write_file(sharing_disk / f"{what}/a.jpg", os.urandom(100_000)))
    share = file_copy._share

    def change(*arguments: Any) -> bool:
        if what == "later":
            assert share(*arguments)
        if what == "file":
            settled(write_file(source.with_name("b"), os.urandom(100_000))).rename(source)
        else:
            with source.open("r+b") as file:
                file.write(b"another")
        return what == "later" or share(*arguments)

    monkeypatch.setattr(file_copy, "_share", change)
    results, _ = moved(sharing_disk / f"{what}-to", [source])
    assert results.done == 0
    assert "changed" in results.failed["a.jpg"]
    assert contents(sharing_disk / f"{what}-to") == {}


@pytest.mark.slow
def test_what_was_just_written_is_not_shared(sharing_disk: Path) -> None:
    """Another change may leave no other time behind."""
    source = settled(write_file(sharing_disk / "young/a.jpg", os.urandom(100_000)))
    results, counts = moved(sharing_disk / "young-to", [source])
    check(sharing_disk / "young-to", [source], results)
    assert counts == [1, 100_000, 100_000]


@pytest.fixture
def many(tmp_path: Path) -> list[Path]:
    """So many files, and so large, that a second thread pays."""
    return [write_file(tmp_path / f"from/{i}.jpg", bytes([i]) * (copy.LARGE + i)) for i in range(64)]


def makers(monkeypatch: pytest.MonkeyPatch, files: int) -> set[int]:
    """Threads that copy from now on; the first of them waits until so many `files` are under way or done."""
    threads, begun, several = set[int](), [], threading.Event()
    real = file_copy.FileCopier.copy

    def noted(self: file_copy.FileCopier, *arguments: Any) -> Any:
        threads.add(threading.get_ident())
        begun.append(arguments)
        if len(begun) >= files:
            several.set()
        assert several.wait(10)
        return real(self, *arguments)

    monkeypatch.setattr(file_copy.FileCopier, "copy", noted)
    return threads


@pytest.mark.parametrize("direct", [True, False])
def test_two_threads_where_a_processor_is_idle(
    tmp_path: Path, many: list[Path], monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    threads = makers(monkeypatch, 2)
    names = [path.name for path in many]
    sizes = [path.stat().st_size for path in many]
    sizes[7] += 1
    with sparing(1):
        copies = Copies(names, LocalFolder(str(many[0].parent)), names, sizes)
        results = copy_many(Root(str(tmp_path / "to")), copies, direct=direct)
    assert len(threads) == 2
    assert results.failed.keys() == {"7.jpg"}
    assert results.done == len(many) - 1
    assert contents(tmp_path / "to") == {p.name: p.read_bytes() for p in many if p.name != "7.jpg"}
    assert results.digests == {p.name: xxhash.xxh3_128_digest(p.read_bytes()) for p in many if p.name != "7.jpg"}
    assert {thread.ident for thread in threading.enumerate()} & threads == {threading.get_ident()}


@pytest.mark.parametrize("idle", [0, 1])
def test_one_thread_for_few_and_small_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, idle: int) -> None:
    threads = makers(monkeypatch, 1)
    few = [write_file(tmp_path / f"from/{i}.jpg", bytes(copy.LARGE)) for i in range(copy._MANY - 1)]
    small = [write_file(tmp_path / f"from/{i}.png", b"small") for i in range(100)]
    with sparing(idle):
        for some in (few, small):
            check(tmp_path / "to", some, moved(tmp_path / "to", some)[0])
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("who", ["first", "second"])
def test_an_error_of_one_thread_ends_both(
    tmp_path: Path, many: list[Path], monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    done: list[Any] = []
    me = threading.get_ident()
    begun, other, real = threading.Event(), threading.Event(), file_copy.FileCopier.copy

    def failing(self: file_copy.FileCopier, *arguments: Any) -> Any:
        if (threading.get_ident() == me) == (who == "first"):
            begun.set()
            assert other.wait(10)
            raise OSError(28, "No space left on device")
        assert not done or begun.wait(10)  # one that comes late is to find files, too
        done.append(real(self, *arguments))
        other.set()
        return done[-1]

    monkeypatch.setattr(file_copy.FileCopier, "copy", failing)
    with sparing(1), pytest.raises(StorageError, match="the disk is full"):
        moved(tmp_path / "to", many)
    assert len(done) < len(many)
    assert len(contents(tmp_path / "to")) == len(done)  # whole ones, and none under way


def test_a_stop_ends_both_threads(tmp_path: Path, many: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    real = file_copy.FileCopier.copy

    def stopping(self: file_copy.FileCopier, *arguments: Any) -> Any:
        STOP.set()
        return real(self, *arguments)

    monkeypatch.setattr(file_copy.FileCopier, "copy", stopping)
    try:
        with sparing(1), pytest.raises(Interrupted):
            moved(tmp_path / "to", many)
    finally:
        STOP.clear()
    assert 1 <= len(contents(tmp_path / "to")) <= 2


def spare(_: int) -> int:
    return spare_processors()


@pytest.mark.parametrize(
    ("scheduler", "workers", "idle"), [("auto", 3, 2), ("auto", 1, 0), ("sync", 3, 0), ("threads", 3, 0)]
)
def test_which_tasks_have_idle_processors(scheduler: str, workers: int, idle: int) -> None:
    with Engine(scheduler, workers) as engine:
        assert list(engine.map(spare, [(0,), (1,)], files=10)) == [idle] * 2
    assert spare_processors() == 0


# --- links ------------------------------------------------------------------------------------------------------------


def linked(root: Path, source: Path, *names: str) -> Results:
    """Hard links to files of `source` below `root`."""
    sizes = [(source / name).stat().st_size for name in names]
    return copy_many(Root(str(root)), Copies(names, LocalFolder(str(source)), names, sizes, "hardlink"))


@pytest.mark.slow
def test_a_file_with_as_many_links_as_there_can_be_fails_alone(tmp_path: Path) -> None:
    """On ext4 these are 65,000."""
    with disk_of("ext4", tmp_path, 64) as disk:
        for name in ("a.jpg", "b.jpg"):
            write_file(disk / "source" / name, name)
        (disk / "others").mkdir()
        for number in range(65_000 - 1):
            os.link(disk / "source/a.jpg", disk / f"others/{number}")
        found = linked(disk / "target", disk / "source", "a.jpg", "b.jpg")
        assert (found.done, [*found.failed]) == (1, ["a.jpg"])
        assert "as many hard links as its file system can count; set target.images to copy" in found.failed["a.jpg"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV])
def test_links_that_are_refused(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of another user's files (`fs.protected_hardlinks`), or by what is mounted there."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    write_file(tmp_path / "source/a.jpg", "a")
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StorageError, match=r"cannot be hard-linked into .*; set target.images to copy or symlink"):
        linked(tmp_path / "target", tmp_path / "source", "a.jpg")
