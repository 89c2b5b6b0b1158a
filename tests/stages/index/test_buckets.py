"""Listed files, assigned to buckets."""

from __future__ import annotations

from array import array
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.text import composed
from pipeline.stages.index.assignment import assign, unclaimed_images
from pipeline.stages.index.buckets import bucket_count
from pipeline.stages.index.image_lists import ListedSplits
from pipeline.stages.index.scan import Scan
from pipeline.storage.listing import Listing
from tests.stages.index.test_bucket import SPEC

#: Chunks of a listing: stems of files, which may come again.
CHUNKS = st.lists(
    st.lists(st.sampled_from([*"abcdefgh", "e\N{COMBINING ACUTE ACCENT}", "\xe9"]), max_size=9), max_size=3
)


def _listing(*all_of: tuple[list[list[str]], str]) -> Listing:
    """A listing of chunks with the suffix of their files; the sizes of these count up."""
    listing, size = Listing("folder"), 0
    for chunk, suffix in ((chunk, suffix) for chunks, suffix in all_of for chunk in chunks):
        names, stats = [f"{stem}{suffix}" for stem in chunk], array("q")
        for _ in names:
            size += 1
            stats.extend((size, 1, 1, 1))
        listing.take(names, stats, with_stats=True)
    return listing


@pytest.mark.parametrize(
    ("images", "text", "existing", "count"),
    [
        (8192, 0, None, 1),
        (8193, 0, None, 2),
        (1, 32 << 20, None, 1),
        (1, 64 << 20, None, 2),
        (600_000, 2 << 30, None, 128),
        (1, 1 << 30, 64, 64),
        (1, 1 << 30, 1, 32),
    ],
)
def test_a_bucket_has_some_thousand_images_or_as_much_text(
    images: int, text: int, existing: int | None, count: int
) -> None:
    assert bucket_count("auto", images, existing, text) == count
    assert bucket_count(3, images, existing, text) == 3


@given(CHUNKS, CHUNKS, st.sampled_from([1, 2, 64]))
def test_a_file_that_is_listed_again_comes_once(labels: list[list[str]], images: list[list[str]], buckets: int) -> None:
    """By its last entry, in one bucket; the listing counts it once, and is a listing without the others."""
    pair = _listing((labels, ".txt")), _listing((images, ".jpg"))
    found = Scan([pair, (_listing(), None)], True, ListedSplits([], [], b""))
    assigned = assign(SPEC, found, buckets)
    payloads = [assigned.listing(bucket) for bucket in range(buckets)]
    assert sum(p.count for p in payloads) == found.files
    assert [sum(g.files for g in p.groups if g.kind == 0) for p in payloads] == assigned.labels.tolist()
    for listing, chunks, suffix in zip(found.splits[0], (labels, images), (".txt", ".jpg"), strict=True):
        assert listing is not None
        last = {f"{stem}{suffix}": n for n, stem in enumerate([stem for chunk in chunks for stem in chunk], 1)}
        sizes = [size for _, stats in listing.chunks for size in (stats or ())[::4]]
        assert dict(zip(listing.names(), sizes, strict=True)) == last
        assert listing.count == len(last) == len(sizes)


@given(CHUNKS, CHUNKS, CHUNKS)
def test_an_image_is_unclaimed_where_no_label_file_has_its_stem(
    labels: list[list[str]], jpegs: list[list[str]], pngs: list[list[str]]
) -> None:
    """In either form of Unicode. Without a label file that lacks its own none is asked for, so none is named."""
    pair = _listing((labels, ".xml")), _listing((jpegs, ".jpg"), (pngs, ".PNG"))
    found = Scan([pair, (_listing(), None)], True, ListedSplits([], [], b""))
    names = [f"{stem}{suffix}" for some, suffix in ((jpegs, ".jpg"), (pngs, ".PNG")) for one in some for stem in one]
    claimed, there = ({composed(stem) for some in all_of for stem in some} for all_of in (labels, [*jpegs, *pngs]))
    expected = sorted({name.encode() for name in names if composed(name[:-4]) not in claimed})
    spec = replace(SPEC, format="voc")
    assigned = assign(spec, found, 3)
    assert unclaimed_images(spec, found, assigned) == (b"" if claimed <= there else b"\0".join(expected), b"")
    assert unclaimed_images(SPEC, found, assigned) == (b"", b"")
