"""Label files of one bucket, read and parsed a batch at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline import formats, storage
from pipeline.job.spec import IndexSpec
from pipeline.stages.index.image_lookup import AskedPictures, Finder
from pipeline.stages.index.label_tables import (
    ProblemRow,
    annotations_table,
    content_marks,
    problem_table,
    states_of,
    states_schema,
)
from pipeline.tables.schema import LabelState

if TYPE_CHECKING:
    from pipeline.base.arrays import Ints

#: A larger file is not a label file.
MAX_LABEL_BYTES = 64 << 20

#: So many label files are in memory at once.
_BATCH_FILES = 4096

#: Label files in memory at once, bytes: labelme's hold photographs.
_BATCH_BYTES = 64 << 20

_READ_REASONS = {**storage.UNREAD, "too_large": f"is larger than {MAX_LABEL_BYTES >> 20} MiB: no label file"}


@dataclass(frozen=True)
class LabelReading:
    """What is in label files: tables `schema.annotations`, `states_schema` (a row a file) and `schema.problems`.

    `stats`, shape (files, 4), are those of the files as they were read; `contents` change with what is in them.
    """

    rows: pa.Table
    states: pa.Table
    problems: pa.Table
    stats: Ints
    contents: npt.NDArray[np.uint64]


def read_labels(spec: IndexSpec, bucket: int, labels: pa.Table, finder: Finder, keep: str | None) -> LabelReading:
    """Read and parse `labels` (see `ListedFiles`), some thousand at a time; `keep` is as in `storage.locate`."""
    rows: list[pa.Table] = []
    states: list[pa.Table] = [states_schema().empty_table()]
    problems: list[ProblemRow] = []
    stats, contents = np.zeros((labels.num_rows, 4), np.int64), np.zeros(labels.num_rows, np.uint64)
    options = json.loads(spec.options)
    end = 0
    for batch in _batches(spec, labels, keep):
        begin, end = end, end + len(batch.names)
        stats[begin:end], contents[begin:end] = batch.stats, batch.marks
        keys = batch.keys.to_pylist()
        parsed = _parse(spec, batch, finder.asked(batch.split, batch.names, keys), options)
        rows.append(parsed.rows.append_column("key", batch.keys.take(parsed.rows["file"])))
        states.append(states_of(parsed))
        problems += [
            (keys[p.file], batch.location.join(batch.names[p.file]), p.line, p.reason, p.detail, p.rows)
            for p in parsed.problems
        ]
    found = annotations_table(bucket, rows), pa.concat_tables(states).combine_chunks(), problem_table(problems)
    return LabelReading(*found, stats, contents)


@dataclass(frozen=True)
class _Batch:
    """Label files of one split, read: their names below `location`, contents, and by index why one was not read."""

    split: int
    location: storage.Location
    keys: pa.Array
    names: list[str]
    contents: Sequence[bytes]
    stats: Ints
    marks: list[int]
    failed: dict[int, str]


def _batches(spec: IndexSpec, labels: pa.Table, keep: str | None) -> Iterator[_Batch]:
    """The label files, which are sorted by split, as many at a time as may be in memory."""
    numbers = labels["split"].to_numpy()
    begin = 0
    for edge in _edges(numbers):
        while begin < edge:
            number = int(numbers[begin])
            split = spec.splits[number]
            location = storage.locate(split.labels, keep)
            names = labels["path"].slice(begin, min(_BATCH_FILES, edge - begin)).to_pylist()
            contents, stats, failed = location.read_many(names, MAX_LABEL_BYTES, _BATCH_BYTES)
            names = names[: len(contents)]
            yield _Batch(
                number,
                location,
                labels["key"].slice(begin, len(names)).combine_chunks(),
                names,
                contents,
                np.frombuffer(stats, np.int64).reshape(-1, 4),
                content_marks(split.split, names, contents, failed),
                failed,
            )
            begin += len(names)


def _edges(splits: Ints) -> list[int]:
    """Where the files of a split end; files are sorted by split."""
    return [*(np.flatnonzero(np.diff(splits)) + 1).tolist(), len(splits)]


def _parse(spec: IndexSpec, batch: _Batch, pictures: AskedPictures, options: dict[str, Any]) -> formats.Parsed:
    """The rows of a batch; a file that was not read is corrupt, for that reason alone."""
    format_ = formats.load_label_files(spec.format)
    parsed = format_.parse(batch.contents, spec.task, spec.keypoints, options, pictures)
    if pictures.look_up():
        parsed = format_.parse(batch.contents, spec.task, spec.keypoints, options, pictures)
    parsed.problems = [p for p in parsed.problems if p.file not in batch.failed]
    for number, reason in batch.failed.items():
        parsed.states[number] = LabelState.CORRUPT
        parsed.problems.append(formats.Problem(number, None, reason, _READ_REASONS[reason], rows=0))
    return parsed
