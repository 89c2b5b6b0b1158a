"""What waits in a file without a name comes back as it was, from whichever process, and with no room for the file."""

from __future__ import annotations

import errno
import os
import pickle
from array import array
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import StorageError
from pipeline.runtime.engine import Engine
from pipeline.storage import Spill, locate
from pipeline.storage import spill as module
from pipeline.storage.listing import Listing
from pipeline.storage.spill import Spilled

DATA = [bytes(range(n % 256)) * 3 for n in range(300)]


@pytest.fixture(autouse=True)
def none_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_MEMORY", 0)


def in_memory(kept: list[Spilled]) -> list[bool]:
    return [isinstance(one, bytes) for one in kept if one]


def test_it_comes_back_and_leaves_no_file(tmp_path: Path) -> None:
    spill = Spill(str(tmp_path))
    kept = [spill.put(data) for data in DATA]
    assert not any(in_memory(kept))
    assert [spill.get(one) for one in kept] == DATA
    assert [spill.get(one, 2, 9) for one in kept[3:250]] == [data[2:9] for data in DATA[3:250]]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [0, 1000, 1 << 30])
def test_only_the_first_bytes_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(module, "IN_MEMORY", limit)
    spill = Spill(str(tmp_path))
    kept = [spill.put(data) for data in DATA]
    assert sum(len(one) for one in kept if isinstance(one, bytes)) <= limit
    assert all(in_memory(kept)) == (limit > 1000)
    assert [spill.get(one) for one in kept] == DATA


def test_without_a_folder_all_is_in_memory(tmp_path: Path) -> None:
    for spill in (Spill(), Spill(str(tmp_path / "none"))):
        kept = [spill.put(data) for data in DATA]
        assert all(in_memory(kept))
        assert [spill.get(one) for one in kept] == DATA


def test_on_a_full_disk_it_stays_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spill, write, left = Spill(str(tmp_path)), os.pwrite, [40]

    def full(file: int, data: Any, position: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, bytes(data)[:200], position)

    monkeypatch.setattr(os, "pwrite", full)
    kept = [spill.put(data) for data in DATA]
    assert len(set(in_memory(kept))) == 2
    assert [spill.get(one) for one in kept] == DATA


def test_a_file_that_was_cut_is_a_sentence(tmp_path: Path) -> None:
    spill = Spill(str(tmp_path))
    kept = spill.put(b"abc")
    os.truncate(spill._file, 2)
    with pytest.raises(StorageError, match=f"{tmp_path}: cannot be read"):
        spill.get(kept)


def _listed(folder: str, spill: Spill) -> Listing:
    spill._in_memory = module.IN_MEMORY  # a helper has its own
    return locate(folder).listing(frozenset({".txt"}), with_stats=True, spill=spill)


@pytest.mark.parametrize("there", [True, False])
def test_what_a_helper_lists_is_read_here(tmp_path: Path, there: bool) -> None:
    """Also where a system has no path of an open file: then all of it comes through the pipe."""
    labels, work = tmp_path / "labels", tmp_path / "work"
    for folder in (labels, work):
        folder.mkdir()
    for number in range(50):
        (labels / f"{number}.txt").write_text("0")
    spill = Spill(str(work))
    if not there:
        spill._path = f"{work}/gone"
    with Engine("auto", 2) as engine:
        found = engine.background(_listed, str(labels), spill)()
    assert sorted(found.names()) == sorted(f"{number}.txt" for number in range(50))
    assert in_memory([found._chunks[0].names]) == [not there]
    assert found.digest() == _listed(str(labels), Spill()).digest()


def test_a_pickled_one_is_the_same_file(tmp_path: Path) -> None:
    spill = Spill(str(tmp_path))
    kept = spill.put(b"abc")
    other = pickle.loads(pickle.dumps(spill))
    more = other.put(b"defg")
    assert (other.get(kept), other.get(more), spill.get(more)) == (b"abc", b"defg", b"defg")
    spill._path = other._path = str(tmp_path / "gone")
    with pytest.raises(OSError, match="gone"):
        pickle.loads(pickle.dumps(other))


def test_a_number_that_is_another_file_s_by_now_is_not_written_to(tmp_path: Path) -> None:
    spill = Spill(str(tmp_path))
    spill.put(b"abc")
    state, number = pickle.dumps(spill), spill._file
    del spill
    with (tmp_path / "precious").open("w+b") as file:
        if file.fileno() != number:
            os.dup2(file.fileno(), number)
        with pytest.raises(OSError, match="Bad file descriptor"):
            pickle.loads(state).put(b"defg")
        assert file.read() == b""
        if file.fileno() != number:
            os.close(number)


def test_room_is_left_for_what_is_made_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spill, size = Spill(str(tmp_path)), sum(map(len, DATA))
    there = os.fstatvfs(spill._file)
    free = (module._ROOM + module._INDEX * (size // 2)) // there.f_frsize
    monkeypatch.setattr(os, "fstatvfs", lambda _: os.statvfs_result([*there[:4], free, *there[5:]]))
    kept = [spill.put(data) for data in DATA]
    in_file = sum(len(data) for data, one in zip(DATA, kept, strict=True) if not isinstance(one, bytes))
    assert size // 3 < in_file <= size // 2
    assert [spill.get(one) for one in kept] == DATA


def test_stats_are_added_to_many_small_chunks() -> None:
    listing = Listing("x")
    for number in range(100):
        listing.take([f"{number}/{n}.txt" for n in range(number % 4 + 1)], [], with_stats=False)
    numbers = array("q", range(4 * listing.count))
    listing.add_stats(numbers[4 * at : 4 * (at + 50)] for at in _ends(listing))
    assert array("q", [n for _, stats in listing.chunks if stats is not None for n in stats]) == numbers


def _ends(listing: Listing) -> list[int]:
    """Where each fifty files begin: whole chunks, as fifty is twenty chunks."""
    return list(range(0, listing.count, 50))
