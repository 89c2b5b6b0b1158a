"""What is held of each listed file while it is assigned, read and proved: next to nothing, however many there are."""

from __future__ import annotations

import tracemalloc
from array import array
from pathlib import Path

import pytest

from pipeline.base.digest import digest_of
from pipeline.stages.index import assignment
from pipeline.stages.index.assignment import assign
from pipeline.stages.index.image_lists import ListedSplits
from pipeline.stages.index.scan import Scan
from pipeline.storage import Spill, spill
from pipeline.storage.listing import Listing
from tests.stages.index.test_bucket import SPEC

CHUNK, BUCKETS = 2048, 4


def _scan(files: int, into: Spill, *, with_stats: bool) -> Scan:
    listing = Listing("folder", into)
    for begin in range(0, files, CHUNK):
        stats = array("q", range(4 * CHUNK)) if with_stats else array("q")
        listing.take([f"{n:07d}.txt" for n in range(begin, begin + CHUNK)], stats, with_stats=with_stats)
    return Scan([(listing, None), (Listing("other", into), None)], with_stats, ListedSplits([], [], b""))


def _work(files: int, into: Spill, *, with_stats: bool) -> None:
    """What the process does that lists and assigns, with a task a bucket that finds stats."""
    found = _scan(files, into, with_stats=with_stats)
    assigned = assign(SPEC, found, BUCKETS * files // (8 * CHUNK))
    for bucket in range(assigned.buckets):
        listing = assigned.files_of(bucket).listing()
        if with_stats:
            assert digest_of(listing.paths)
        else:
            assigned.keep_stats(bucket, bytes(32 * listing.count))
    if not with_stats:
        assigned.add_stats(found)
    assert found.digest(SPEC) is not None


def _peak(files: int, folder: str | None, *, with_stats: bool) -> int:
    tracemalloc.start()
    try:
        _work(files, Spill(folder), with_stats=with_stats)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("with_stats", [False, True])
def test_memory_does_not_grow_with_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_stats: bool) -> None:
    """A hundred bytes a file and more where there is no folder for them, which shows that this is measured."""
    monkeypatch.setattr(spill, "IN_MEMORY", 0)
    monkeypatch.setattr(assignment, "_BLOCK", CHUNK)
    monkeypatch.setattr(assignment, "_HASHES", CHUNK)
    few, many = 12 * CHUNK, 36 * CHUNK

    def growth(folder: str | None) -> float:
        peaks = [_peak(files, folder, with_stats=with_stats) for files in (few, many)]
        return (peaks[1] - peaks[0]) / (many - few)

    _work(few, Spill(), with_stats=with_stats)  # which imports
    assert abs(growth(str(tmp_path))) < 4
    assert growth(None) > 60
