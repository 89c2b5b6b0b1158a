"""One bucket as an earlier run left it: which of its label files are unchanged, and their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.base.errors import DataError
from pipeline.reports.documents import SourceTotals
from pipeline.stages.index.image_lookup import curable
from pipeline.stages.index.label_reading import LabelReading
from pipeline.stages.index.label_tables import states_schema
from pipeline.stages.index.parts import index_part, is_sound, stated
from pipeline.tables import schema
from pipeline.tables.schema import Kind

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools


@dataclass(frozen=True)
class PreviousBucket:
    """The tables of a bucket in `directory`; `files` is one of them, `summary` its counts.

    `unsettled`: files of other buckets may decide about rows of this one. `parts` are the digests of the tables.
    """

    directory: str
    bucket: int
    files: pa.Table
    summary: dict[str, SourceTotals]
    unsettled: bool
    parts: dict[str, str]

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One of its tables."""
        return index_part(self.directory, name, self.bucket, columns)

    def unchanged(
        self, labels: pa.Table, images: pa.Table, marks: tuple[pa.Array, pa.Array | None]
    ) -> tuple[Bools, npt.NDArray[np.uint64]]:
        """Which of `labels` have the fingerprint that they had and, where it decides about rows, their image too.

        `marks` are the fingerprints of `labels` and, where their size decides, of `images`. Also returns the content
        (see `schema.files`) of label files that are unchanged; 0 for the others.
        """
        keys = labels["key"].combine_chunks()
        label_marks, image_marks = marks
        before = self.files.filter(pc.equal(self.files["kind"], Kind.LABEL.value)).combine_chunks()
        before = before.take(pc.index_in(keys, before["key"].combine_chunks()))
        equal = pc.fill_null(pc.equal(label_marks, before["fingerprint"].combine_chunks()), False)
        if image_marks is not None:
            equal = pc.and_(equal, self._same_images(keys, images, image_marks))
        if self.unsettled:
            problems = self.table("problems")
            again = problems["key"].filter(curable(problems)).combine_chunks()
            equal = pc.and_not(equal, pc.is_in(keys, again))
        same = np.asarray(equal.to_numpy(zero_copy_only=False), np.bool_)
        contents = pc.fill_null(before["content"].combine_chunks(), pa.scalar(0, pa.uint64())).to_numpy()
        return same, np.where(same, contents, np.uint64(0))

    def _same_images(self, keys: pa.Array, images: pa.Table, marks: pa.Array) -> pa.Array:
        """Whether the image of each key has the fingerprint that it had, or has none as before."""
        before = self.files.filter(pc.equal(self.files["kind"], Kind.IMAGE.value))
        of_before = pc.index_in(keys, before["key"].combine_chunks())
        of_now = pc.index_in(keys, images["key"].combine_chunks())
        same = pc.equal(marks.take(of_now), before["fingerprint"].combine_chunks().take(of_before))
        return pc.or_(pc.fill_null(same, False), pc.invert(pc.or_(of_before.is_valid(), of_now.is_valid())))

    def says_the_same(self, files: pa.Table, images_marked: bool) -> bool:
        """Whether `files` differ from what they were in times and inodes of label files alone.

        Their contents are the same then, and so is what was read out of them. `images_marked`: fingerprints of images
        decide about rows, too.
        """
        if self.unsettled or files.num_rows != self.files.num_rows:
            return False
        of_labels = pc.equal(files["kind"], Kind.LABEL.value)
        if pc.any(pc.equal(files["content"], pa.scalar(0, pa.uint64()))).as_py():
            return False  # one was not read
        if images_marked and not files.filter(pc.invert(of_labels)).equals(
            self.files.filter(pc.equal(self.files["kind"], Kind.IMAGE.value))
        ):
            return False
        return bool(files.drop_columns("fingerprint").equals(self.files.drop_columns("fingerprint")))

    def updated(self, labels: pa.Table, same: Bools, fresh: LabelReading) -> tuple[pa.Table, pa.Table, pa.Table]:
        """Rows, states and problems of all `labels`: of the `same` ones as they were, `fresh` of the others."""
        keys = labels["key"].combine_chunks()
        rows = _merged(self.table("annotations"), fresh.rows, keys, same).cast(schema.annotations())
        problems = _merged(self.table("problems"), fresh.problems, keys, same).cast(schema.problems())
        images = self.table("images", ["key", *states_schema().names])
        old = images.take(pc.index_in(keys, images["key"].combine_chunks()))
        new = fresh.states.take(pc.index_in(keys, keys.filter(pa.array(~same))))
        states = [
            pc.if_else(pa.array(same), old[name].combine_chunks(), new[name].combine_chunks())
            for name in states_schema().names
        ]
        return rows, pa.table(states, schema=states_schema()), problems


def _merged(before: pa.Table, fresh: pa.Table, keys: pa.Array, same: Bools) -> pa.Table:
    """Rows of those of `keys`, which are sorted, that are the `same` as they were, and `fresh` ones of the others.

    Those of one key stay in their order.
    """
    at = [pc.fill_null(pc.index_in(table["key"], keys), -1).to_numpy() for table in (before, fresh)]
    kept = np.append(same, False)[at[0]]
    at[0] = np.where(kept, at[0], -1)
    position = np.concatenate(at)
    order = np.argsort(position, kind="stable")
    both = pa.concat_tables([before, fresh.cast(before.schema)]).combine_chunks()
    return both.take(pa.array(order[np.count_nonzero(position < 0) :]))


def previous_bucket(directory: str, bucket: int, made_by: dict[str, Any]) -> PreviousBucket | None:
    """The bucket as it was, where `made_by` made it and all its parts are as they were written."""
    state = stated(directory, bucket)
    if state is None or state.made_by != made_by or not is_sound(state, directory, bucket):
        return None
    try:
        files = index_part(directory, "files", bucket).combine_chunks()
    except DataError:
        return None
    return PreviousBucket(directory, bucket, files, state.summary, state.unsettled, state.parts)
