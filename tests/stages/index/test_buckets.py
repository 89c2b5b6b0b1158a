"""Listed files, assigned to buckets."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.index.buckets import assign
from pipeline.stages.index.image_lists import ListedSplits
from pipeline.stages.index.scan import Scan
from pipeline.storage.listing import Listing
from tests.stages.index.test_bucket import SPEC

#: Chunks of a listing: stems of files, which may come again.
CHUNKS = st.lists(
    st.lists(st.sampled_from([*"abcdefgh", "e\N{COMBINING ACUTE ACCENT}", "\xe9"]), max_size=9), max_size=3
)


def _listing(chunks: list[list[str]], suffix: str) -> Listing:
    """A listing of `chunks`; the sizes of its files count up."""
    listing, size = Listing("folder"), 0
    for chunk in chunks:
        names, stats = [f"{stem}{suffix}" for stem in chunk], array("q")
        for _ in names:
            size += 1
            stats.extend((size, 1, 1, 1))
        listing.take(names, stats, with_stats=True)
    return listing


@given(CHUNKS, CHUNKS, st.sampled_from([1, 2, 64]))
def test_a_file_that_is_listed_again_comes_once(labels: list[list[str]], images: list[list[str]], buckets: int) -> None:
    """By its last entry, in one bucket; the listing counts it once, and is a listing without the others."""
    nothing = _listing([], ".txt"), None
    found = Scan([(_listing(labels, ".txt"), _listing(images, ".jpg")), nothing], True, ListedSplits([], [], b""))
    payloads, order = assign(SPEC, found, buckets)
    positions = [p for some in order for p in some.tolist()]
    assert sorted(positions) == list(range(found.files))
    assert [p.count for p in payloads] == [len(some) for some in order]
    for listing, chunks, suffix in zip(found.splits[0], (labels, images), (".txt", ".jpg"), strict=True):
        assert listing is not None
        last = {f"{stem}{suffix}": n for n, stem in enumerate([stem for chunk in chunks for stem in chunk], 1)}
        sizes = [size for _, stats in listing.chunks for size in (stats or ())[::4]]
        assert dict(zip(listing.names(), sizes, strict=True)) == last
        assert listing.count == len(last) == len(sizes)
