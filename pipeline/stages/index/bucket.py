"""One bucket of the index: what changed in it, its new tables, its counts."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import formats
from pipeline.job.spec import IndexSpec
from pipeline.reports.documents import SourceTotals
from pipeline.stages.index.buckets import BucketDone, BucketListing
from pipeline.stages.index.image_lookup import Finder, unsettled
from pipeline.stages.index.image_rows import image_rows
from pipeline.stages.index.label_reading import read_labels
from pipeline.stages.index.listed_files import files_table, fingerprints, listed_files, with_unlisted_images
from pipeline.stages.index.parts import BucketState, made_of, write_part
from pipeline.stages.index.previous import PreviousBucket, previous_bucket
from pipeline.stages.index.summary import bucket_summary
from pipeline.tables import schema

if TYPE_CHECKING:
    from pipeline.base.arrays import Ints


@dataclass(frozen=True)
class BucketTask:
    """Which bucket of which index is to be made: `bucket` of `buckets` in `directory`, of the source `spec`.

    `keep` is as in `storage.locate`.
    """

    spec: IndexSpec
    directory: str
    buckets: int
    keep: str | None
    bucket: int

    @property
    def made_by(self) -> dict[str, Any]:
        """What decides about the bucket but the files themselves."""
        return made_of(self.spec.digest(), self.buckets)


def update_bucket(task: BucketTask, listing: BucketListing, unclaimed: Sequence[bytes]) -> BucketDone:
    """Make the bucket, or update it where label files changed, from its listing; `unclaimed` is as in `Finder`."""
    spec, bucket, started_ns = task.spec, task.bucket, time.time_ns()
    listed = listed_files(spec, listing)
    labels, images, stats = listed.labels, listed.images, listed.label_stats
    image_marks = fingerprints(listed.image_stats, started_ns) if formats.load(spec.format).SIZED else None
    contents = np.zeros(labels.num_rows, np.uint64)
    same = np.zeros(labels.num_rows, np.bool_)
    finder = Finder(spec, images, unclaimed, task.keep)
    previous = previous_bucket(task.directory, bucket, task.made_by)
    if previous is not None:
        marks = fingerprints(stats, started_ns), image_marks
        same, contents = previous.unchanged(labels, images, marks)
        files = files_table(bucket, labels, images, marks, contents)
        if same.all() and not previous.unsettled and previous.files.equals(files):
            return BucketDone(bucket, labels.num_rows, previous.summary, _in_order(listing, labels, stats).tobytes())
    fresh = read_labels(spec, bucket, labels.filter(pa.array(~same)), finder, task.keep)
    stats[~same], contents[~same] = fresh.stats, fresh.contents
    labels = labels.set_column(labels.schema.get_field_index("size"), "size", pa.array(stats[:, 0]))
    files = files_table(bucket, labels, images, (fingerprints(stats, started_ns), image_marks), contents)
    ordered = _in_order(listing, labels, stats)
    unproven = files["fingerprint"].null_count > (images.num_rows if image_marks is None else 0)
    proof = _as_read(listing, ordered) if not unproven else None
    if previous is not None and previous.says_the_same(files, image_marks is not None):
        write_files(task, previous, files, proof)
        return BucketDone(bucket, labels.num_rows, previous.summary, ordered.tobytes())
    rows, states, problems = fresh.rows, fresh.states, fresh.problems
    if previous is not None and same.any():
        rows, states, problems = previous.updated(labels, same, fresh)
    found = finder.complete(image_rows(spec, bucket, labels, with_unlisted_images(spec, labels, images), states))
    summary = bucket_summary(spec, found, rows, problems, labels, contents)
    write_bucket(task, task.made_by, BucketTables(files, found, rows, problems), summary, proof)
    return BucketDone(bucket, labels.num_rows, summary, ordered.tobytes())


def _in_order(listing: BucketListing, labels: pa.Table, stats: Any) -> Ints:
    """The stats of label files in the order of the listing; zeros for images."""
    ordered = np.zeros((listing.count, 4), np.int64)
    ordered[labels["position"].to_numpy()] = stats
    return ordered


def _as_read(listing: BucketListing, stats: Ints) -> str:
    """The digest that `listing` has once it shows the `stats` of label files, in its order, that reading them found."""
    marks = listing.marks()
    marks[:, 2:] = np.where(marks[:, 1:2] == 0, stats, marks[:, 2:])
    return listing.digest(marks)


@dataclass(frozen=True)
class BucketTables:
    """The tables of one bucket, see `schema`."""

    files: pa.Table
    images: pa.Table
    annotations: pa.Table
    problems: pa.Table


def write_bucket(
    task: BucketTask,
    made_by: dict[str, Any],
    tables: BucketTables,
    summary: dict[str, SourceTotals],
    listing: str | None = None,
) -> None:
    """Write all parts, and last the state: it says that they belong together, and what they were `made_by`.

    `listing` is as in `BucketState`.
    """

    write = functools.partial(_write, task)
    digests = {
        "annotations": write(
            "annotations",
            tables.annotations,
            schema.annotations(),
            use_dictionary=["bucket", "key", "class_id", "label", "n_tokens", "loss"],
            write_statistics=["class_id"],
            compression={"raw": "zstd"},
        ),  # numbers hardly shrink, and the rest is read for every subset
        "images": write("images", tables.images, schema.images()),
        "problems": write("problems", tables.problems, schema.problems()),
        "files": write("files", tables.files, schema.files()),
    }
    state = BucketState(made_by, summary, unsettled(tables.images, tables.problems), digests, listing)
    state.write(task.directory, task.bucket)


def write_files(task: BucketTask, previous: PreviousBucket, files: pa.Table, listing: str | None) -> None:
    """Write the table `files` anew, beside the others as they are; `listing` is as in `BucketState`."""
    digests = {**previous.parts, "files": _write(task, "files", files, schema.files())}
    state = BucketState(task.made_by, previous.summary, previous.unsettled, digests, listing)
    state.write(task.directory, task.bucket)


def _write(task: BucketTask, table: str, data: pa.Table, fitting: pa.Schema, **options: Any) -> str:
    """Write a part of the bucket; returns its digest."""
    data = data.cast(fitting).replace_schema_metadata(None)
    return write_part(task.directory, table, task.bucket, lambda file: pq.write_table(data, file, **options))
