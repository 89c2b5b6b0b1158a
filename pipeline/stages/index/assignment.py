"""Listed files assigned to buckets: they wait in a spill until a task takes those of its bucket."""

from __future__ import annotations

import itertools
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pipeline import formats
from pipeline.base.text import composed
from pipeline.job.spec import IndexSpec
from pipeline.stages.index.buckets import BucketListing, ListedGroup
from pipeline.storage.spill import Spill, Spilled

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pipeline.base.arrays import Ints
    from pipeline.stages.index.scan import Scan
    from pipeline.storage import Listing

#: Files that are assigned together: as Python's objects their names take three times their memory.
_BLOCK = 65_536

#: Hashes that are compared with each other at once.
_HASHES = 1 << 20


class _Block(NamedTuple):
    """Some files of a group (the number of their split, and their kind), in the order of their buckets.

    `edges` are pairs of int32, for each bucket and the end: the files and bytes of names before it. `order` (int32)
    says where the files are among those of the block as they were listed.
    """

    group: tuple[int, int]
    files: int
    edges: Spilled
    names: Spilled
    stats: Spilled | None
    order: Spilled


class Assignment:
    """The listed files of a source by bucket; `labels` are the label files of each."""

    def __init__(self, buckets: int, spill: Spill) -> None:
        import numpy as np

        self.buckets, self.spill = buckets, spill
        self.labels: Ints = np.zeros(buckets, np.int64)
        self._blocks: list[_Block] = []
        self._read: dict[int, Spilled] = {}

    def add(
        self, group: tuple[int, int], names: list[bytes], stats: bytes | None, home: npt.NDArray[np.uint32]
    ) -> None:
        """Add files of a `group` to the buckets that are their `home`; `stats` are None or four int64 of each."""
        import numpy as np

        order = np.argsort(home, kind="stable")
        edges = np.zeros((self.buckets + 1, 2), np.int32)
        counts = np.bincount(home, minlength=self.buckets)
        np.cumsum(counts, out=edges[1:, 0])
        lengths = np.fromiter(map(len, names), np.int32, len(names))[order] + 1
        edges[:, 1] = np.concatenate([[0], np.cumsum(lengths)])[edges[:, 0]]
        put = self.spill.put
        self._blocks.append(
            _Block(
                group,
                len(names),
                put(edges.tobytes()),
                put(b"\0".join(np.array(names, object)[order].tolist())),
                put(np.frombuffer(stats, np.int64).reshape(-1, 4)[order].tobytes()) if stats is not None else None,
                put(order.astype(np.int32).tobytes()),
            )
        )
        if group[1] == 0:
            self.labels += counts

    def listing(self, bucket: int) -> BucketListing:
        """The files of a bucket, group by group, in the order in which they were listed."""
        paths: list[bytes] = []
        groups: dict[tuple[int, int], list[tuple[int, bytes]]] = {}
        get = self.spill.get
        for block in self._blocks:
            first, begin, last, end = array("i", get(block.edges, 8 * bucket, 8 * bucket + 16))
            if first != last:
                paths.append(get(block.names, begin, end - 1))
                stats = get(block.stats, 32 * first, 32 * last) if block.stats is not None else b""
                groups.setdefault(block.group, []).append((last - first, stats))
        listed = (
            ListedGroup(*group, sum(count for count, _ in some), b"".join(stats for _, stats in some))
            for group, some in groups.items()
        )
        return BucketListing(b"\0".join(paths), tuple(listed))

    def files_of(self, bucket: int) -> BucketFiles:
        """The files of a bucket as a task is given them."""
        return BucketFiles(self, bucket)

    def keep_stats(self, bucket: int, stats: bytes) -> None:
        """Note the `stats` that reading found of the files of a bucket, in the order of its listing."""
        self._read[bucket] = self.spill.put(stats)

    def add_stats(self, found: Scan) -> None:
        """Complete listings of names in `found` by the stats of label files that were noted of all buckets."""
        import numpy as np

        passed = np.zeros(self.buckets, np.int64)
        for (split, kind), blocks in itertools.groupby(self._blocks, lambda block: block.group):
            if kind == 0:
                found.splits[split][0].add_stats(self._as_listed(block, passed) for block in blocks)
            else:
                for block in blocks:
                    passed += self._counts(block)
        found.with_stats = True

    def _counts(self, block: _Block) -> npt.NDArray[np.int32]:
        """The files of a block in each bucket."""
        import numpy as np

        return np.diff(np.frombuffer(self.spill.get(block.edges), np.int32)[::2])

    def _as_listed(self, block: _Block, passed: Ints) -> array[int]:
        """The stats of a block's files as they were listed, after the files of each bucket that were `passed`."""
        import numpy as np

        order = np.frombuffer(self.spill.get(block.order), np.int32)
        counts, rows = self._counts(block), np.empty((block.files, 4), np.int64)
        edges = np.concatenate([[0], np.cumsum(counts)])
        for bucket in np.flatnonzero(counts).tolist():
            begin = 32 * int(passed[bucket])
            some = self.spill.get(self._read[bucket], begin, begin + 32 * int(counts[bucket]))
            rows[order[edges[bucket] : edges[bucket + 1]]] = np.frombuffer(some, np.int64).reshape(-1, 4)
        passed += counts
        return array("q", rows.tobytes())


@dataclass(frozen=True)
class BucketFiles:
    """The files of one bucket, still in the spill: on its way to another process it becomes a `BucketListing`."""

    assignment: Assignment
    bucket: int

    def listing(self) -> BucketListing:
        """The files themselves."""
        return self.assignment.listing(self.bucket)

    def __reduce__(self) -> tuple[type[BucketListing], tuple[bytes, tuple[ListedGroup, ...]]]:
        listing = self.listing()
        return BucketListing, (listing.paths, listing.groups)


def assign(spec: IndexSpec, found: Scan, buckets: int) -> Assignment:
    """Assign the listed files to buckets.

    A label file and its image come to one bucket, also where two machines composed the letters of their names in
    different ways of Unicode. Of a file that is listed more than once, the last entry counts, and the others leave
    `found`.

    NumPy alone does it: helpers begin as soon as their files are assigned, while this process imports Arrow.
    """
    import numpy as np

    assigned = Assignment(buckets, found.new_spill())
    for number, split in enumerate(spec.splits):
        seed = zlib.crc32(f"{spec.name}/{split.folder}/".encode())
        for kind, listing in enumerate(found.splits[number]):
            if listing is None:
                continue
            hashes: list[Spilled] = []
            for blob, stats in _blocks(listing):
                names = blob.split(b"\0")
                some = np.fromiter(map(zlib.crc32, _stems(blob, names), itertools.repeat(seed)), np.uint32, len(names))
                hashes.append(assigned.spill.put(some.tobytes()))
                assigned.add((number, kind), names, stats, some % np.uint32(buckets))
            if again := _listed_again(listing, assigned.spill, hashes):
                listing.take_last(again)
                return assign(spec, found, buckets)
    return assigned


def _blocks(listing: Listing) -> Iterator[tuple[bytes, bytes | None]]:
    """The names and stats of whole chunks of a listing, `_BLOCK` files together where chunks are smaller."""
    names: list[bytes] = []
    stats: list[array[int]] = []
    files = 0
    for blob, some in listing.chunks:
        count = blob.count(b"\0") + 1
        if names and files + count > _BLOCK:
            yield b"\0".join(names), b"".join(stats) if stats else None
            names, stats, files = [], [], 0
        names.append(blob)
        stats += [some] if some is not None else []
        files += count
    if names:
        yield b"\0".join(names), b"".join(stats) if stats else None


def unclaimed_images(spec: IndexSpec, found: Scan, assigned: Assignment) -> tuple[bytes, ...]:
    """By split, the listed images that have no label file of their stem: sorted paths, joined by NUL.

    A label file without an image of its stem may say that one of them is its image. Where each has one, or no image is
    left, it is empty, and so is that of formats whose label files are not `SIZED`: they do not say it.
    """
    count = len(found.splits)
    if not formats.load(spec.format).SIZED:
        return (b"",) * count
    unclaimed: list[list[bytes]] = [[] for _ in range(count)]
    lacking = [False] * count
    for bucket in range(assigned.buckets):
        listing = assigned.listing(bucket)
        names, begin = listing.paths.split(b"\0"), 0
        by_group: dict[tuple[int, int], list[bytes]] = {}
        for group in listing.groups:
            by_group[group.split, group.kind] = names[begin : begin + group.files]
            begin += group.files
        for split in range(count):
            labels, images = (by_group.get((split, kind), []) for kind in (0, 1))
            claimed, stems = set(_stems_of(labels)), _stems_of(images)
            lacking[split] |= not claimed <= set(stems)
            if rest := [name for stem, name in zip(stems, images, strict=True) if stem not in claimed]:
                unclaimed[split].append(b"\0".join(rest))
    return tuple(
        b"\0".join(sorted(b"\0".join(some).split(b"\0"))) if some and lacks else b""
        for some, lacks in zip(unclaimed, lacking, strict=True)
    )


def _stems_of(names: list[bytes]) -> list[bytes]:
    return _stems(b"\0".join(names), names) if names else []


def _stems(blob: bytes, names: list[bytes]) -> list[bytes]:
    """The `names`, which are joined in `blob`, without their suffixes and in Unicode's composed form.

    At once where all have the same suffix.
    """
    suffix = names[0][names[0].rfind(b".") :]
    if suffix.startswith(b".") and blob.endswith(suffix) and blob.count(suffix + b"\0") == len(names) - 1:
        stems = blob[: -len(suffix)].replace(suffix + b"\0", b"\0").split(b"\0")
    else:
        stems = [name[: name.rfind(b".")] for name in names]
    return stems if blob.isascii() else [composed(stem.decode()).encode() for stem in stems]


def _listed_again(listing: Listing, spill: Spill, hashes: Sequence[Spilled]) -> Counter[bytes]:
    """The paths that come more than once, with how often; equal ones have equal `hashes`, in `spill` by block."""
    import numpy as np

    def hashes_of() -> Iterator[npt.NDArray[np.uint32]]:
        return (np.frombuffer(spill.get(some), np.uint32) for some in hashes)

    parts = np.uint32(1 + listing.count // _HASHES)
    repeated = [np.zeros(0, np.uint32)]
    for part in range(parts):
        ordered = np.concatenate([np.zeros(0, np.uint32), *(some[some % parts == part] for some in hashes_of())])
        ordered.sort()
        repeated.append(np.unique(ordered[1:][ordered[1:] == ordered[:-1]]))
    counts: Counter[bytes] = Counter()
    if len(wanted := np.concatenate(repeated)):
        for (blob, _), some in zip(_blocks(listing), hashes_of(), strict=True):
            among = np.flatnonzero(np.isin(some, wanted)).tolist()
            names = blob.split(b"\0") if among else []
            counts.update(names[i] for i in among)
    return Counter({name: count for name, count in counts.items() if count > 1})
