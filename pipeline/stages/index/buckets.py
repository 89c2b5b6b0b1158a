"""Listed files assigned to buckets, and what became of a bucket."""

from __future__ import annotations

import itertools
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pipeline import formats
from pipeline.base.digest import digest_of
from pipeline.base.text import composed
from pipeline.job.spec import IndexSpec
from pipeline.reports.documents import SourceTotals

if TYPE_CHECKING:
    from array import array

    import numpy as np
    import numpy.typing as npt

    from pipeline.stages.index.scan import Scan
    from pipeline.storage import Listing


def assign(spec: IndexSpec, found: Scan, buckets: int) -> tuple[list[BucketListing], list[npt.NDArray[np.int64]]]:
    """Assign the listed files to buckets.

    A label file and its image come to one bucket, also where two machines composed the letters of their names in
    different ways of Unicode. Of a file that is listed more than once, the last entry counts, and the others leave
    `found`.

    Also returns, by bucket, the positions of its files in the listing. NumPy alone does it: helpers begin as soon as
    their files are assigned, while this process imports Arrow. Names are Python's a chunk at a time: as objects they
    take three times their memory.
    """
    import numpy as np

    homes: list[npt.NDArray[np.uint32]] = []
    for number, split in enumerate(spec.splits):
        seed = zlib.crc32(f"{spec.name}/{split.folder}/".encode())
        for listing in found.splits[number]:
            if listing is None:
                continue
            hashes = [_hashes(blob, seed) for blob, _ in listing.chunks]
            if again := _listed_again(listing, hashes):
                listing.take_last(again)
                return assign(spec, found, buckets)
            homes += [some % np.uint32(buckets) for some in hashes]
    parts, position, home = [_Part() for _ in range(buckets)], 0, iter(homes)
    for number, pair in enumerate(found.splits):
        for kind, listing in enumerate(pair):
            for blob, stats in listing.chunks if listing is not None else ():
                position = _distribute(parts, (number, kind), next(home), blob, stats, position)
    return [part.listing() for part in parts], [part.positions() for part in parts]


def _hashes(blob: bytes, seed: int) -> npt.NDArray[np.uint32]:
    """The CRC-32 of the key of each path in a chunk of a listing."""
    import numpy as np

    names = blob.split(b"\0")
    return np.fromiter(map(zlib.crc32, _stems(blob, names), itertools.repeat(seed)), np.uint32, len(names))


class _Part:
    """The files of one bucket, gathered chunk by chunk."""

    def __init__(self) -> None:
        self._paths: list[bytes] = []
        self._groups: dict[tuple[int, int], list[tuple[int, bytes]]] = {}
        self._positions: list[npt.NDArray[np.int64]] = []

    def add(
        self, group: tuple[int, int], names: Sequence[bytes], stats: bytes, positions: npt.NDArray[np.int64]
    ) -> None:
        """Add files of a `group`: the number of their split, and their kind."""
        self._paths.append(b"\0".join(names))
        self._groups.setdefault(group, []).append((len(names), stats))
        self._positions.append(positions)

    def listing(self) -> BucketListing:
        """The files as a task is given them."""
        groups = tuple(
            ListedGroup(*group, sum(count for count, _ in some), b"".join(stats for _, stats in some))
            for group, some in self._groups.items()
        )
        return BucketListing(b"\0".join(self._paths), groups)

    def positions(self) -> npt.NDArray[np.int64]:
        """Where the files are in the listing of all."""
        import numpy as np

        return np.concatenate([np.zeros(0, np.int64), *self._positions])


def _distribute(
    parts: Sequence[_Part],
    group: tuple[int, int],
    home: npt.NDArray[np.uint32],
    blob: bytes,
    stats: array[int] | None,
    position: int,
) -> int:
    """Add the files of a chunk, which begins at `position`, to the `parts` of their `home`; where the next begins."""
    import numpy as np

    order = np.argsort(home, kind="stable")
    names = np.array(blob.split(b"\0"), object)[order].tolist()
    rows = np.frombuffer(stats, np.int64).reshape(-1, 4)[order] if stats is not None else None
    edges = [0, *(np.flatnonzero(np.diff(home[order])) + 1).tolist(), len(names)]
    for begin, end in itertools.pairwise(edges):
        some = rows[begin:end].tobytes() if rows is not None else b""
        parts[int(home[order[begin]])].add(group, names[begin:end], some, order[begin:end] + position)
    return position + len(names)


def unclaimed_images(spec: IndexSpec, found: Scan) -> tuple[bytes, ...]:
    """By split, the listed images that have no label file of their stem: sorted paths, joined by NUL.

    A label file without an image of its stem may say that one of them is its image. Where each has one, or no image is
    left, it is empty, and so is that of formats whose label files are not `SIZED`: they do not say it.
    """
    if not formats.load(spec.format).SIZED:
        return (b"",) * len(found.splits)
    return tuple(_unclaimed(labels, images) if images is not None else b"" for labels, images in found.splits)


def _unclaimed(labels: Listing, images: Listing) -> bytes:
    claimed = {stem for blob, _ in labels.chunks for stem in _stems(blob, blob.split(b"\0"))}
    by_stem: list[tuple[bytes, bytes]] = []
    for blob, _ in images.chunks:
        names = blob.split(b"\0")
        by_stem += zip(_stems(blob, names), names, strict=True)
    if claimed <= {stem for stem, _ in by_stem}:
        return b""
    return b"\0".join(sorted(name for stem, name in by_stem if stem not in claimed))


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


def _listed_again(listing: Listing, hashes: Sequence[npt.NDArray[np.uint32]]) -> Counter[bytes]:
    """The paths that come more than once, with how often; equal ones have equal `hashes`, by chunk."""
    import numpy as np

    every = np.concatenate([np.zeros(0, np.uint32), *hashes])
    ordered = np.sort(every)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    counts: Counter[bytes] = Counter()
    if len(repeated):
        for (blob, _), some in zip(listing.chunks, hashes, strict=True):
            among = np.flatnonzero(np.isin(some, repeated)).tolist()
            names = blob.split(b"\0") if among else []
            counts.update(names[i] for i in among)
    return Counter({name: count for name, count in counts.items() if count > 1})


def add_stats(found: Scan, stats: npt.NDArray[np.int64]) -> None:
    """Complete a listing of names by the stats that reading found; rows of `stats` are in the listing's order."""
    position = 0
    for labels, images in found.splits:
        labels.add_stats(stats[position : position + labels.count].reshape(-1).data)
        position += labels.count + (images.count if images else 0)
    found.with_stats = True


#: A bucket costs some 10 ms of overhead a stage, and its rows are in memory at once: both count.
IMAGES_PER_BUCKET = 8192


#: Where one file holds all labels, so many bytes of it count as an image: a bucket of few images may have much text.
BYTES_OF_IMAGE = 4096


def bucket_count(wanted: int | str, images: int, existing: int | None, text: int = 0) -> int:
    """Buckets for `images`: a power of two with a few thousand each; an `existing` count that still fits is kept.

    `text` are the bytes that images and objects have in a file of all labels.
    """
    if wanted != "auto":
        return int(wanted)
    images = max(images, text // BYTES_OF_IMAGE)
    count = 1
    while count * IMAGES_PER_BUCKET < images:
        count *= 2
    if existing is not None and count // 4 < existing <= count * 4 and existing & (existing - 1) == 0:
        return existing
    return count


class ListedGroup(NamedTuple):
    """Files of one bucket: the number of their split, their kind (0 label, 1 image), how many `files` they are.

    `stats` are four int64 each: size, mtime_ns, ctime_ns and inode; empty where the listing did not ask for them.
    """

    split: int
    kind: int
    files: int
    stats: bytes


@dataclass(frozen=True)
class BucketListing:
    """The listed files of one bucket: relative paths, joined by NUL, and what they are, by group, in the same order."""

    paths: bytes
    groups: tuple[ListedGroup, ...]

    @property
    def count(self) -> int:
        """How many files these are."""
        return sum(group.files for group in self.groups)

    @property
    def labels(self) -> int:
        """How many of them are label files."""
        return sum(group.files for group in self.groups if group.kind == 0)

    def marks(self) -> npt.NDArray[np.int64]:
        """For each file the number of its split, its kind and its stats, shape (files, 6); zeros where unknown."""
        import numpy as np

        marks, begin = np.zeros((self.count, 6), np.int64), 0
        for group in self.groups:
            some = marks[begin : begin + group.files]
            some[:, 0], some[:, 1] = group.split, group.kind
            if group.stats:
                some[:, 2:] = np.frombuffer(group.stats, np.int64).reshape(-1, 4)
            begin += group.files
        return marks

    def digest(self, marks: npt.NDArray[np.int64] | None = None) -> str:
        """The XXH3-128 (hex) of names, and of `marks`, by default as they are here."""
        return digest_of(self.paths + b"\0" + (self.marks() if marks is None else marks).tobytes()).hex()


@dataclass(frozen=True)
class BucketDone:
    """What became of a bucket: label files in it, its counts, and the stats (4 int64 each) of its files as listed."""

    bucket: int
    files: int
    summary: dict[str, SourceTotals]
    stats: bytes
