"""What is drawn on images as rows: the table of objects of which a file has no row of text, and the states of files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.formats import Problem
from pipeline.formats._framing import Frame
from pipeline.formats._numbers import tails
from pipeline.tables.schema import LabelState

if TYPE_CHECKING:
    from pipeline.base.arrays import AnyInts, Bools, Floats, Ints


@dataclass(frozen=True)
class Drawn:
    """Objects, each list with one entry an object: the index of its file, its line there, its label and box (cxcywhn).

    Those that `is_row` marks are rows of the task. `raw` is the COCO annotation of each, `loss` its counted word.
    """

    file: Sequence[int] | AnyInts
    line: Sequence[int] | AnyInts
    label: pa.Array
    boxes: Floats
    is_row: Bools
    raw: pa.Array
    loss: Sequence[str | None]

    def table(self, numbers: str, values: Floats | None = None, starts: Ints | None = None) -> pa.Table:
        """The rows as `Parsed` has them; `values`, `starts` and `numbers` are those of `tails`, the first of boxes."""
        count = len(self.boxes)
        if values is None or starts is None:
            values, starts = self.boxes.ravel(), np.arange(count + 1) * 4
        tail = tails(values, starts, numbers)
        if not self.is_row.all():
            tail = pc.if_else(pa.array(self.is_row), tail, pa.scalar(None, pa.binary()))
        return pa.table(
            {
                "file": pa.array(self.file, pa.int32()),
                "line": pa.array(self.line, pa.int32()),
                "class_id": np.full(count, -1, np.int32),
                "label": self.label,
                "head": pa.nulls(count, pa.binary()),
                "tail": tail,
                **{name: self.boxes[:, axis] for axis, name in enumerate(("cx", "cy", "w", "h"))},
                "n_tokens": np.where(self.is_row, np.diff(starts) + 1, 0).astype(np.int32),
                "raw": self.raw,
                "loss": pa.array(self.loss, pa.string()),
            }
        )


def image_sizes(frames: Sequence[Frame | None]) -> pa.Table:
    """The images of files as `Parsed` has them, by their frames: how large each is, null where nobody knows."""
    widths = [frame and frame.width for frame in frames]
    heights = [frame and frame.height for frame in frames]
    return pa.table({"width": pa.array(widths, pa.int32()), "height": pa.array(heights, pa.int32())})


def states_of(files: int, with_rows: Iterable[int], problems: Iterable[Problem]) -> list[LabelState]:
    """The states of so many files by the indexes of those that have rows, and by the problems that they have."""
    found, bad = set(with_rows), {problem.file for problem in problems}
    return [
        LabelState.FOUND if i in found else LabelState.CORRUPT if i in bad else LabelState.EMPTY for i in range(files)
    ]
