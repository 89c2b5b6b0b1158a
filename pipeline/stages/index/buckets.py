"""Listed files assigned to buckets, and what became of a bucket."""

from __future__ import annotations

import itertools
import unicodedata
import zlib
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.job.spec import IndexSpec
from pipeline.reports.documents import SourceTotals

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pipeline.stages.index.scan import Scan


def assign(spec: IndexSpec, found: Scan, buckets: int) -> tuple[list[BucketListing], list[npt.NDArray[np.int64]]]:
    """Assign the listed files to buckets.

    A label file and its image come to one bucket, also where two machines composed the letters of their names in
    different ways of Unicode. Of a file that is listed more than once, the last entry counts, and the others leave
    `found`.

    Also returns, by bucket, the positions of its files in the listing. NumPy alone does it: helpers begin as soon as
    their files are assigned, while this process imports Arrow.
    """
    import numpy as np

    names: list[bytes] = []
    homes: list[npt.NDArray[np.uint32]] = [np.zeros(0, np.uint32)]
    marks: list[npt.NDArray[np.int64]] = [np.zeros((0, 6), np.int64)]
    for number, split in enumerate(spec.splits):
        seed = zlib.crc32(f"{spec.name}/{split.folder}/".encode())
        for kind, listing in enumerate(found.splits[number]):
            first, chunk = len(names), len(homes)
            for blob, stats in listing.chunks if listing else ():
                some = blob.split(b"\0")
                names += some
                stems = _stems(blob, some)
                if not blob.isascii():
                    stems = [unicodedata.normalize("NFC", stem.decode()).encode() for stem in stems]
                homes.append(np.fromiter(map(zlib.crc32, stems, itertools.repeat(seed)), np.uint32, len(stems)))
                mark = np.zeros((len(some), 6), np.int64)
                mark[:, 0], mark[:, 1] = number, kind
                if stats is not None:
                    mark[:, 2:] = np.frombuffer(stats, np.int64).reshape(-1, 4)
                marks.append(mark)
            again = _listed_again(names[first:], np.concatenate([homes[0], *homes[chunk:]]))
            if listing and again:
                listing.take_last(again)
                return assign(spec, found, buckets)
    home = np.concatenate(homes) % np.uint32(buckets)
    order = np.argsort(home, kind="stable")
    edges = np.searchsorted(home[order], np.arange(buckets + 1))
    positions = [order[a:b] for a, b in itertools.pairwise(edges)]
    all_names, all_marks = np.array(names, object), np.concatenate(marks)
    listings = [BucketListing(len(p), b"\0".join(all_names[p].tolist()), all_marks[p].tobytes()) for p in positions]
    return listings, positions


def _stems(blob: bytes, names: list[bytes]) -> list[bytes]:
    """The `names`, which are joined in `blob`, without their suffixes; at once where all have the same."""
    suffix = names[0][names[0].rfind(b".") :]
    if suffix.startswith(b".") and blob.endswith(suffix) and blob.count(suffix + b"\0") == len(names) - 1:
        return blob[: -len(suffix)].replace(suffix + b"\0", b"\0").split(b"\0")
    return [name[: name.rfind(b".")] for name in names]


def _listed_again(names: Sequence[bytes], hashes: npt.NDArray[np.uint32]) -> Counter[bytes]:
    """Those of `names` that come more than once; equal ones have equal `hashes`."""
    import numpy as np

    order = np.argsort(hashes, kind="stable")
    equal = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    counts = Counter(names[i] for i in np.union1d(order[equal + 1], order[equal]).tolist())
    return Counter({name: count for name, count in counts.items() if count > 1})


def add_stats(found: Scan, stats: npt.NDArray[np.int64]) -> None:
    """Complete a listing of names by the stats that reading found; rows of `stats` are in the listing's order."""
    position = 0
    for labels, images in found.splits:
        labels.add_stats(array("q", stats[position : position + labels.count].tobytes()))
        position += labels.count + (images.count if images else 0)
    found.with_stats = True


#: A bucket costs some 10 ms of overhead a stage, and its rows are in memory at once: both count.
IMAGES_PER_BUCKET = 8192


def bucket_count(wanted: int | str, images: int, existing: int | None) -> int:
    """Buckets for `images`: a power of two with a few thousand each; an `existing` count that still fits is kept."""
    if wanted != "auto":
        return int(wanted)
    count = 1
    while count * IMAGES_PER_BUCKET < images:
        count *= 2
    if existing is not None and count // 4 < existing <= count * 4 and existing & (existing - 1) == 0:
        return existing
    return count


@dataclass(frozen=True)
class BucketListing:
    """The listed files of one bucket: relative paths, joined by NUL, and for each file six int64 as bytes.

    They are the number of its split, its kind (0 label, 1 image), and size, mtime_ns, ctime_ns and inode, zeros where
    the listing did not ask for them.
    """

    count: int
    paths: bytes
    marks: bytes


@dataclass(frozen=True)
class BucketDone:
    """What became of a bucket: label files in it, its counts, and the stats (4 int64 each) of its files as listed."""

    bucket: int
    files: int
    summary: dict[str, SourceTotals]
    stats: bytes
