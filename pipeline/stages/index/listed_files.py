"""The listed files of one bucket: its label files and images with their keys, and their table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.base.terms import IMAGE_SUFFIXES
from pipeline.job.spec import IndexSpec
from pipeline.stages.index.buckets import BucketListing
from pipeline.stages.index.image_lookup import composed_as
from pipeline.tables import schema
from pipeline.tables.schema import Kind

if TYPE_CHECKING:
    from pipeline.base.arrays import Ints

#: Where one stem has several images, the first of these is the one.
IMAGE_ORDER = [("key", "ascending"), ("rank", "ascending"), ("path", "ascending")]


@dataclass(frozen=True)
class ListedFiles:
    """The files of one bucket as they were listed.

    `labels` and `images` have path, split (its number), kind (0 label, 1 image), size, position (in the listing), key
    and stem, sorted by key; images have a rank, too, that of their suffix. `label_stats` and `image_stats`, shape
    (files, 4), are size, mtime_ns, ctime_ns and inode, zeros where the listing did not ask for them.
    """

    labels: pa.Table
    images: pa.Table
    label_stats: Ints
    image_stats: Ints


def listed_files(spec: IndexSpec, listing: BucketListing) -> ListedFiles:
    """The label files and images of a bucket's listing; an image has the key of its label file."""
    marks = listing.marks()
    names = listing.paths.split(b"\0") if listing.count else []
    listed = pa.table(
        {
            "path": pa.array(names, pa.binary()).cast(pa.string()),
            "split": pa.array(marks[:, 0]),
            "kind": pa.array(marks[:, 1]),
            "size": pc.if_else(pa.array(marks[:, 1] == 0), pa.array(marks[:, 2]), pa.scalar(None, pa.int64())),
            "position": pa.array(np.arange(listing.count)),
        }
    )
    labels = _with_keys(spec, listed.filter(pc.equal(listed["kind"], 0))).sort_by("key").combine_chunks()
    images = _with_rank(_with_keys(spec, listed.filter(pc.equal(listed["kind"], 1))))
    images = composed_as(labels, images.sort_by(IMAGE_ORDER).combine_chunks())
    return ListedFiles(labels, images, *(marks[table["position"].to_numpy(), 2:] for table in (labels, images)))


def _with_keys(spec: IndexSpec, listed: pa.Table) -> pa.Table:
    listed = listed.combine_chunks()
    stem = pc.replace_substring_regex(listed["path"], r"\.[^./]*$", "")
    prefixes = pa.array([spec.prefix(split) for split in spec.splits])
    key = pc.binary_join_element_wise(prefixes.take(listed["split"]), stem, "")
    return listed.append_column("key", key).append_column("stem", stem)


def _with_rank(images: pa.Table) -> pa.Table:
    suffix = pc.struct_field(pc.extract_regex(images["path"].combine_chunks(), r"(?P<s>\.[^./]*)$"), "s")
    return images.append_column("rank", pc.index_in(pc.utf8_lower(suffix), pa.array(IMAGE_SUFFIXES)))


def with_unlisted_images(spec: IndexSpec, labels: pa.Table, images: pa.Table) -> pa.Table:
    """`images` with those that nobody lists: of a split with a suffix for them, one for each label file."""
    numbers, count = labels["split"].combine_chunks(), labels.num_rows
    suffixes = pa.array([split.suffix for split in spec.splits], pa.string()).take(numbers)
    if suffixes.null_count == count:
        return images
    unlisted = (
        pa.table(
            {
                "path": pc.binary_join_element_wise(labels["stem"].combine_chunks(), suffixes, ""),
                "split": numbers,
                "kind": pa.array(np.ones(count, np.int64)),
                "size": pa.nulls(count, pa.int64()),
                "position": pa.nulls(count, pa.int64()),
                "key": labels["key"],
                "stem": labels["stem"],
                "rank": pa.array(np.zeros(count, np.int32)),
            }
        )
        .filter(suffixes.is_valid())
        .select(images.column_names)
        .cast(images.schema)
    )
    return pa.concat_tables([images, unlisted]).sort_by(IMAGE_ORDER).combine_chunks()


def fingerprints(stats: Ints, started_ns: int) -> pa.Array:
    """Size, mtime_ns, ctime_ns and inode as 32 bytes each.

    Null for a file that was too young to be trusted at `started_ns`, or was not read.
    """
    count = len(stats)
    offsets = np.arange(count + 1, dtype=np.int32) * 32
    marks = pa.BinaryArray.from_buffers(
        pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(stats, "<i8"))]
    )
    young = (stats[:, 2] > started_ns - storage.settle_ns()) | (stats[:, 3] == 0)
    return pc.if_else(pa.array(young), pa.scalar(None, pa.binary()), marks) if young.any() else marks


def files_table(
    bucket: int,
    labels: pa.Table,
    images: pa.Table,
    marks: tuple[pa.Array, pa.Array | None],
    contents: npt.NDArray[np.uint64],
) -> pa.Table:
    """The table `schema.files` of a bucket: its label files with their `contents`, then its images.

    `marks` are the fingerprints of both; those of images may be None, because nobody asked for them.
    """
    of_labels, of_images = marks
    both = pa.concat_tables([table.select(["key", "path", "size"]) for table in (labels, images)])
    kinds = pa.array([Kind.LABEL] * labels.num_rows + [Kind.IMAGE] * images.num_rows, pa.string())
    if of_images is None:
        of_images = pa.nulls(images.num_rows, pa.binary())
    return (
        pa.table(
            {
                "bucket": pa.array(np.full(both.num_rows, bucket, np.int32)),
                "key": both["key"],
                "kind": kinds,
                "path": both["path"],
                "size": both["size"],
                "fingerprint": pa.concat_arrays([of_labels, of_images]),
                "content": pa.concat_arrays([pa.array(contents), pa.nulls(images.num_rows, pa.uint64())]),
            }
        )
        .cast(schema.files())
        .combine_chunks()
    )
