"""Images that show the same: equal in content, or near in their difference hashes (`images.hashes`); pure.

Two hashes are near where they differ in few bits. They are cut into one band more than bits may differ in, so that near
ones have at least one band in common (the pigeonhole principle; Manku et al., "Detecting Near-Duplicates for Web
Crawling", WWW 2007). Hashes are sorted by each band in turn, and only those that have it in common are compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.images.hashes import FLAT

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from pipeline.base.arrays import Bools, Ints

    Hashes = npt.NDArray[np.uint64]

#: Pairs that are compared at once: what they take stays in the processor's cache.
_CHUNK = 1 << 17

#: One comparison within a band takes as long as so many of all with all (November 2026).
_DENSE = 4


@dataclass(frozen=True)
class NearPairs:
    """Positions in two arrays of hashes, and in how many bits these differ; each of shape (pairs,)."""

    first: Ints
    second: Ints
    distance: Ints


def near_pairs(first: Hashes, second: Hashes, bits: int) -> Iterator[NearPairs]:
    """All pairs of a hash of `first` and one of `second` that differ in `bits` bits at most, each once, by and by.

    `bits` is 0 to 63; up to 3 suit photographs. Memory is that of the two arrays, a few times, however many have a band
    in common. What is there many times is better there once: each is a pair of its own.
    """
    import numpy as np

    edges = np.linspace(0, 64, bits + 2).astype(int).tolist()
    masks = [np.uint64((1 << end) - (1 << begin)) for begin, end in itertools.pairwise(edges)]
    for band, (shift, mask) in enumerate(zip(edges[:-1], masks, strict=True)):
        orders = [_order((hashes & mask) >> np.uint64(shift)) for hashes in (first, second)]
        left, right = first[orders[0]], second[orders[1]]
        begin, end = (np.searchsorted(right & mask, left & mask, side) for side in ("left", "right"))
        dense = _DENSE * int((end - begin).sum()) > len(left) * len(right)
        found = _near_among_all(left, right, bits) if dense else _near_within(left, right, begin, end, bits)
        for row, column, differing in found:
            new = np.ones(len(row), bool)
            for earlier in masks[:band]:  # those that have it in common were found by it
                new &= (differing & earlier) != 0
            yield NearPairs(orders[0][row[new]], orders[1][column[new]], np.bitwise_count(differing[new]))
        if dense:
            return


def _order(values: Hashes) -> Ints:
    """The order that sorts `values`; of 16 bits NumPy sorts them ten times as fast."""
    import numpy as np

    small = values.astype(np.uint16) if len(values) and values.max() < 1 << 16 else values
    return np.argsort(small, kind="stable")


def _near_within(left: Hashes, right: Hashes, begin: Ints, end: Ints, bits: int) -> Iterator[tuple[Ints, Ints, Hashes]]:
    """Positions of near ones in two arrays, with the bits that differ; each of `left` has a part of `right` to itself.

    They are compared `_CHUNK` pairs at a time, of all that there are, counted through.
    """
    import numpy as np

    ends = np.cumsum(end - begin)
    offset = end - ends
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, _CHUNK):
        stop = min(start + _CHUNK, total)
        some = slice(int(np.searchsorted(ends, start, "right")), int(np.searchsorted(ends, stop)) + 1)
        counts = np.diff(np.minimum(ends[some], stop), prepend=start)
        column = np.arange(start, stop) + np.repeat(offset[some], counts)
        differing = np.repeat(left[some], counts) ^ right[column]
        near = np.flatnonzero(np.bitwise_count(differing) <= bits)
        if len(near):
            yield np.searchsorted(ends, near + start, "right"), column[near], differing[near]


def _near_among_all(left: Hashes, right: Hashes, bits: int) -> Iterator[tuple[Ints, Ints, Hashes]]:
    """As `_near_within`, where all are compared with all."""
    import numpy as np

    rows = max(1, _CHUNK // max(1, len(right)))
    for start in range(0, len(left), rows):
        differing = (left[start : start + rows, None] ^ right).ravel()
        near = np.flatnonzero(np.bitwise_count(differing) <= bits)
        if len(near):
            row, column = np.divmod(near, len(right))
            yield row + start, column, differing[near]


def duplicates_dropped(images: pa.Table, across: Sequence[str], keep: str, bits: int) -> dict[str, str]:
    """By key, the images that go so that no two splits of `across` show the same, each with its counted reason.

    `images` has the columns key, split, hash (null: it cannot be decoded) and digest (null: it cannot be read). The
    split `keep` loses none, of the others the one that is named last loses least: from each an image goes that is near
    one in a split before it which stays, ``near_duplicate``, or equal to it, ``equal_image``. What is near only to an
    image that goes stays. The order of rows is of no account. Images of one split are not compared with each other.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    dropped: dict[str, str] = {}
    images = images.select(["key", "split", "hash", "digest"])
    stay = images.filter(pc.equal(images["split"], keep))
    for split in reversed([split for split in across if split != keep]):
        some = images.filter(pc.equal(images["split"], split))
        equal = pc.is_in(some["digest"], stay["digest"].combine_chunks(), skip_nulls=True)
        near = _is_near(some["hash"], stay["hash"], bits)
        for reason, which in (("near_duplicate", near), ("equal_image", equal)):
            dropped |= dict.fromkeys(some["key"].filter(which).to_pylist(), reason)
        stay = pa.concat_tables([stay, some.filter(pc.invert(pc.or_(equal, near)))])
    return dropped


def _is_near(hashes: pa.ChunkedArray, others: pa.ChunkedArray, bits: int) -> pa.Array:
    """Whether each of `hashes` is near one of `others`."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    ours, theirs = (_distinct(column) for column in (hashes, others))
    near = np.zeros(len(ours), bool)
    for pairs in near_pairs(ours, theirs, bits):
        near[pairs.first] = True
    return pc.is_in(hashes, pa.array(ours[near], pa.uint64()), skip_nulls=True)


def _distinct(column: pa.ChunkedArray) -> Hashes:
    """The hashes in a column that say something of what is shown, each once, sorted."""
    import numpy as np

    found = np.unique(column.drop_null().to_numpy())
    return found[is_informative(found)]


def is_informative(hashes: Hashes) -> Bools:
    """Which of `hashes` say something of what is shown."""
    import numpy as np

    return ~np.isin(hashes, np.array(FLAT, np.uint64))
