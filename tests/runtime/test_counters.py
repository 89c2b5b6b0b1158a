"""Bytes that are said of a run are those that passed: files of known sizes, by each verb that moves them."""

from __future__ import annotations

import os
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.runtime.counters import FETCHED, READ, WRITTEN, counted, files_counted
from pipeline.storage import Copies, WritableLocation
from tests.conftest import Subset
from tests.support.archives import pack
from tests.support.helpers import write_file

#: Sizes in bytes: nothing, little, just what one read takes, and more.
SIZES = (0, 1, 1000, 1 << 20, (1 << 20) + 1, 3_000_000)
NAMES = [f"{size}.jpg" for size in SIZES]
ALL = sum(SIZES)


def moved(work: Callable[[], object]) -> tuple[int, int, int]:
    """Bytes read, written and fetched while `work` is done."""
    before = [counted(what) for what in (READ, WRITTEN, FETCHED)]
    work()
    read, written, fetched = (counted(what) - b for what, b in zip((READ, WRITTEN, FETCHED), before, strict=True))
    return read, written, fetched


@pytest.fixture
def folder(tmp_path: Path) -> WritableLocation:
    """A folder with a file of each size."""
    for name, size in zip(NAMES, SIZES, strict=True):
        write_file(tmp_path / "files" / name, os.urandom(size))
    return storage.locate_writable(str(tmp_path / "files"))


@pytest.fixture
def store(folder: WritableLocation) -> WritableLocation:
    """A store with the same files."""
    found = storage.locate_writable(f"memory://{uuid.uuid4().hex}")
    found.copy_many(Copies(NAMES, folder, NAMES, SIZES)).must(found)
    return found


READING: dict[str, Callable[[storage.Location], object]] = {
    "read": lambda files: [files.read(name) for name in NAMES],
    "read_many": lambda files: files.read_many(NAMES, 1 << 30),
    "fetch_many": lambda files: list(files.fetch_many(NAMES)),
    "fetch_each": lambda files: list(files.fetch_each(NAMES, len_of)),
    "read_parts": lambda files: [
        list(files.read_parts(n, [(0, s)], 2)) for n, s in zip(NAMES, SIZES, strict=True) if s
    ],
    "content_digests": lambda files: files.content_digests(NAMES),
}


def nine_bytes(path: str) -> None:
    Path(path).write_bytes(bytes(9))


def len_of(fetched: storage.Fetched) -> int:
    return len(fetched.data)


@pytest.mark.parametrize("verb", READING)
def test_what_is_read(folder: WritableLocation, store: WritableLocation, verb: str) -> None:
    assert moved(lambda: READING[verb](folder)) == (ALL, 0, 0)
    assert moved(lambda: READING[verb](folder.own(""))) == (ALL, 0, 0)
    assert moved(lambda: READING[verb](store)) == (0, 0, ALL)


def test_a_file_counts_once_wherever_it_is_from(
    folder: WritableLocation, store: WritableLocation, tmp_path: Path
) -> None:
    for number, origin in enumerate((folder, store)):
        before = files_counted()
        assert len(list(origin.fetch_each(NAMES, len_of))) == len(NAMES)
        assert files_counted() - before == len(NAMES)
        other = storage.locate_writable(str(tmp_path / f"other{number}"))
        other.copy_many(Copies(NAMES, origin, NAMES, [None] * len(NAMES))).must(other)
        assert files_counted() - before == 2 * len(NAMES)


def test_ends_of_files(folder: WritableLocation) -> None:
    ends = sum(min(size, 100) + min(max(size - 100, 0), 20) for size in SIZES if size <= 100 or size >= 120)
    assert moved(lambda: list(folder.peek_many(NAMES, 100, 20))) == (ends, 0, 0)
    assert moved(lambda: list(folder.peek_many(NAMES, 100, 0))) == (sum(min(size, 100) for size in SIZES), 0, 0)
    assert moved(lambda: folder.read_spans(NAMES[-1], [(0, 10), (5, 2000)])) == (2005, 0, 0)


def test_what_is_written(folder: WritableLocation, store: WritableLocation, tmp_path: Path) -> None:
    contents = [bytes(size) for size in SIZES]
    for place in (folder, store, folder.own("own")):
        assert moved(lambda place=place: place.write_many(NAMES, contents).must(place)) == (0, ALL, 0)  # type: ignore[misc]
        assert moved(lambda place=place: place.write("x", bytes(77))) == (0, 77, 0)  # type: ignore[misc]
    made = str(tmp_path / "made")
    assert moved(lambda: storage.write_with(made, lambda file: file.write(bytes(500)))) == (0, 500, 0)
    assert moved(lambda: storage.write_pieces(made, [bytes(5), bytes(6)])) == (0, 11, 0)
    assert moved(lambda: storage.replace_with(made, nine_bytes)) == (0, 9, 0)


@pytest.mark.parametrize("sizes", [SIZES, [None] * len(SIZES)], ids=["known", "unknown"])
def test_what_is_copied(
    folder: WritableLocation, store: WritableLocation, tmp_path: Path, sizes: list[int | None]
) -> None:
    other = storage.locate_writable(str(tmp_path / "other"))
    assert moved(lambda: other.copy_many(Copies(NAMES, folder, NAMES, sizes)).must(other)) == (ALL, ALL, 0)
    assert moved(lambda: other.copy_many(Copies(NAMES, store, NAMES, sizes)).must(other)) == (0, ALL, ALL)
    assert moved(lambda: store.copy_many(Copies(NAMES, folder, NAMES, sizes)).must(store)) == (ALL, ALL, 0)
    links = storage.locate_writable(str(tmp_path / "links"))
    for how in ("hardlink", "symlink"):
        copies = Copies(NAMES, folder, NAMES, sizes, how)
        assert moved(lambda copies=copies: links.copy_many(copies).must(links)) == (0, 0, 0)  # type: ignore[misc]


def test_a_file_that_is_not_copied_is_not_counted_as_written(folder: WritableLocation, tmp_path: Path) -> None:
    other = storage.locate_writable(str(tmp_path / "other"))
    names = [*NAMES, "gone.jpg"]
    done = lambda: other.copy_many(Copies(names, folder, names, [*SIZES, 1000]))  # noqa: E731 - as above
    assert moved(done) == (ALL, ALL, 0)


@pytest.mark.usefixtures("folder")
def test_members_of_an_archive(tmp_path: Path) -> None:
    """What is read is what is packed, with its headers: never less, and no more than a little a member."""
    archive = pack(tmp_path / "files", tmp_path / "a.zip", "in", zipfile.ZIP_STORED)
    files = storage.locate(f"zip://in::{archive}")
    files.names()
    for verb in ("read_many", "fetch_many", "content_digests"):
        read, written, fetched = moved(lambda verb=verb: READING[verb](files))  # type: ignore[misc]
        assert ALL <= read <= ALL + len(NAMES) * 1024
        assert (written, fetched) == (0, 0)


def test_a_build_says_what_it_wrote(own_subset: Subset) -> None:
    """All files of target and workdir, each of them written once, and what is gone by then."""
    facts = own_subset.build("--set", "engine.scheduler=sync")["run"]["bytes"]
    there = sum(
        path.stat().st_size
        for root in (own_subset.target, own_subset.workdir)
        for path in root.rglob("*")
        if path.is_file() and "runs" not in path.parts
    )
    source = sum(path.stat().st_size for path in own_subset.source.rglob("labels/**/*.txt"))
    assert there <= facts["written"] <= 3 * there
    assert facts["read"] >= source
    assert facts["fetched"] == 0
