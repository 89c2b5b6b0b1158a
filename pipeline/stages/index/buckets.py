"""How many buckets there are, the listed files of one, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pipeline.base.digest import digest_of
from pipeline.reports.documents import SourceTotals

if TYPE_CHECKING:
    from pipeline.base.arrays import Ints

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

    def listing(self) -> BucketListing:
        """Itself, as `BucketFiles` has it."""
        return self

    @property
    def count(self) -> int:
        """How many files these are."""
        return sum(group.files for group in self.groups)

    def marks(self) -> Ints:
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

    def digest(self, marks: Ints | None = None) -> str:
        """The XXH3-128 (hex) of names, and of `marks`, by default as they are here."""
        return digest_of(self.paths + b"\0" + (self.marks() if marks is None else marks).tobytes()).hex()


@dataclass(frozen=True)
class BucketDone:
    """What became of a bucket: label files in it, its counts, and the stats (4 int64 each) of its files as listed."""

    bucket: int
    files: int
    summary: dict[str, SourceTotals]
    stats: bytes
