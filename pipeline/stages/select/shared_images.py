"""Which images of different groups, such as splits and sources, show the same; pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.images.hashes import FLAT
from pipeline.stages.select.near_duplicates import NearPairs, near_pairs, telling

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from pipeline.base.arrays import Ints

    Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class ImagePair:
    """Rows of two images of a table, in how many bits their hashes differ, and whether their contents are equal."""

    first: int
    second: int
    distance: int
    equal: bool


@dataclass
class SharedImages:
    """Pairs of images in two groups: how many are equal and how many near, by their groups, and the first of them."""

    counts: dict[tuple[str, str], tuple[int, int]]
    pairs: list[ImagePair]


def shared_images(images: pa.Table, bits: int, most: int) -> SharedImages:
    """The pairs of equal or near images that are in different groups; all are counted, and `most` of them listed.

    `images` has the columns group, hash (null: it cannot be decoded) and digest (null: it cannot be read). Listed first
    are equal ones, then the nearest. Images of one group are not compared with each other.
    """
    import pyarrow.compute as pc

    groups = [_group(images, name) for name in sorted(pc.unique(images["group"]).to_pylist())]
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    listed: dict[tuple[bool, int], list[ImagePair]] = {}
    for first, second in itertools.combinations(groups, 2):
        equal = near = 0
        for pairs, same in _contents_alike(first, second, bits):
            found = int((first.count[pairs.first] * second.count[pairs.second]).sum())
            equal, near = (equal + found, near) if same else (equal, near + found)
            for a, b, distance in zip(
                pairs.first.tolist(), pairs.second.tolist(), pairs.distance.tolist(), strict=True
            ):
                rank = listed.setdefault((not same, distance), [])
                if len(rank) >= most:
                    break
                rows = itertools.product(first.rows_of(a), second.rows_of(b))
                rank += [ImagePair(i, j, distance, same) for i, j in itertools.islice(rows, most - len(rank))]
        counts[first.name, second.name] = (equal, near)
    pairs_listed = [pair for rank in sorted(listed) for pair in sorted(listed[rank], key=lambda p: (p.first, p.second))]
    return SharedImages({names: found for names, found in counts.items() if any(found)}, pairs_listed[:most])


@dataclass(frozen=True)
class _Group:
    """The contents of a group of images, each once: its number, its hash, how many images have it, and which rows."""

    name: str
    content: Ints
    hash: Hashes
    count: Ints
    start: Ints
    rows: Ints

    def rows_of(self, position: int) -> list[int]:
        """Rows of the images that have the content at `position`."""
        begin = int(self.start[position])
        return [int(row) for row in self.rows[begin : begin + int(self.count[position])]]


def _group(images: pa.Table, name: str) -> _Group:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    number = images["digest"].combine_chunks().dictionary_encode().indices
    rows = np.flatnonzero(pc.and_(pc.equal(images["group"], name), images["digest"].is_valid()).to_numpy())
    content = number.take(pa.array(rows)).to_numpy()
    order = np.argsort(content, kind="stable")
    rows, content = rows[order], content[order]
    content, start, count = np.unique(content, return_index=True, return_counts=True)
    hashes = pc.fill_null(images["hash"], FLAT[0]).to_numpy()[rows[start]]
    return _Group(name, content, hashes, count, start, rows)


def _contents_alike(first: _Group, second: _Group, bits: int) -> Iterator[tuple[NearPairs, bool]]:
    """Positions of contents of two groups that are equal (True), or near and not equal."""
    import numpy as np

    _, a, b = np.intersect1d(first.content, second.content, assume_unique=True, return_indices=True)
    yield NearPairs(a, b, np.zeros(len(a), np.uint8)), True
    ours, theirs = (np.flatnonzero(telling(group.hash)) for group in (first, second))
    for pairs in near_pairs(first.hash[ours], second.hash[theirs], bits):
        a, b = ours[pairs.first], theirs[pairs.second]
        other = first.content[a] != second.content[b]
        yield NearPairs(a[other], b[other], pairs.distance[other]), False
