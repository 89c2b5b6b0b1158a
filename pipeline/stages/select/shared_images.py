"""Which images of different groups, such as splits and sources, show the same; pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.images.hashes import FLAT
from pipeline.stages.select.near_duplicates import is_informative, near_pairs

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from pipeline.base.arrays import Ints


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
        found = _equal(first, second, listed, most), _near(first, second, bits, listed, most)
        if any(found):
            counts[first.name, second.name] = found
    pairs = [pair for rank in sorted(listed) for pair in sorted(listed[rank], key=lambda p: (p.first, p.second))]
    return SharedImages(counts, pairs[:most])


@dataclass(frozen=True)
class _Values:
    """Values that are there once or more, each once, sorted; `items` has those that have each, from `start` on."""

    value: npt.NDArray[Any]
    start: Ints
    count: Ints
    items: Ints

    @classmethod
    def of(cls, values: npt.NDArray[Any], items: Ints) -> _Values:
        """The `values` of `items`."""
        import numpy as np

        order = np.argsort(values, kind="stable")
        value, start, count = np.unique(values[order], return_index=True, return_counts=True)
        return cls(value, start, count, items[order])

    def at(self, position: int) -> list[int]:
        """The items that have the value at `position`."""
        begin = int(self.start[position])
        found: list[int] = self.items[begin : begin + int(self.count[position])].tolist()
        return found


@dataclass(frozen=True)
class _Group:
    """A group of images: its contents, by number, with their rows; hashes that say something, with positions of those.

    `images` is how many images have each of the hashes.
    """

    name: str
    contents: _Values
    hashes: _Values
    images: Ints


def _group(images: pa.Table, name: str) -> _Group:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    number = images["digest"].combine_chunks().dictionary_encode().indices
    rows = np.flatnonzero(pc.and_(pc.equal(images["group"], name), images["digest"].is_valid()).to_numpy())
    contents = _Values.of(number.take(pa.array(rows)).to_numpy(), rows)
    of_content = pc.fill_null(images["hash"], FLAT[0]).to_numpy()[contents.items[contents.start]]
    seen = np.flatnonzero(is_informative(of_content))
    hashes = _Values.of(of_content[seen], seen)
    total = np.cumsum(np.append(0, contents.count[hashes.items]))
    return _Group(name, contents, hashes, total[hashes.start + hashes.count] - total[hashes.start])


def _equal(first: _Group, second: _Group, listed: dict[tuple[bool, int], list[ImagePair]], most: int) -> int:
    """How many pairs are of equal content; `most` are added to those `listed`."""
    import numpy as np

    _, a, b = np.intersect1d(first.contents.value, second.contents.value, assume_unique=True, return_indices=True)
    rank = listed.setdefault((False, 0), [])
    for i, j in zip(a[:most].tolist(), b[:most].tolist(), strict=True):
        rows = itertools.product(first.contents.at(i), second.contents.at(j))
        rank += [ImagePair(*pair, 0, True) for pair in itertools.islice(rows, most - len(rank))]
    return int((first.contents.count[a] * second.contents.count[b]).sum())


def _near(first: _Group, second: _Group, bits: int, listed: dict[tuple[bool, int], list[ImagePair]], most: int) -> int:
    """How many pairs are near and not of equal content; `most` of each distance are added to those `listed`."""
    import numpy as np

    count = 0
    for pairs in near_pairs(first.hashes.value, second.hashes.value, bits):
        count += int((first.images[pairs.first] * second.images[pairs.second]).sum())
        for a, b, distance in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.distance.tolist(), strict=True):
            rank = listed.setdefault((True, distance), [])
            if len(rank) < most:
                rows = _rows_of_others(first, second, a, b)
                rank += [ImagePair(*pair, distance, False) for pair in itertools.islice(rows, most - len(rank))]
    # Equal ones have equal hashes, and are among them.
    contents = [group.contents.value[group.hashes.items] for group in (first, second)]
    sizes = [group.contents.count[group.hashes.items] for group in (first, second)]
    _, ours, theirs = np.intersect1d(contents[0], contents[1], assume_unique=True, return_indices=True)
    return count - int((sizes[0][ours] * sizes[1][theirs]).sum())


def _rows_of_others(first: _Group, second: _Group, a: int, b: int) -> Iterator[tuple[int, int]]:
    """Rows of all images of two hashes whose contents are not equal."""
    for i, j in itertools.product(first.hashes.at(a), second.hashes.at(b)):
        if first.contents.value[i] != second.contents.value[j]:
            yield from itertools.product(first.contents.at(i), second.contents.at(j))
