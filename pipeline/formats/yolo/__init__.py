"""YOLO label files: one row an object, tokens split by blanks, the first token is the class id.

========= ============================================= ======================
task      row                                           tokens
========= ============================================= ======================
detect    ``class cx cy w h``, or a polygon             5, or odd and >= 7
segment   ``class x1 y1 x2 y2 x3 y3 …``                 odd and >= 7
pose      ``class cx cy w h`` and K times ``x y [v]``   5 + K * D
obb       ``class x1 y1 x2 y2 x3 y3 x4 y4``             9
========= ============================================= ======================

All numbers are normalised to 0-1 by the image's size. The rules follow Ultralytics 8.4 (`verify_image_label`): numbers
within -0.01 and 1.01, a class may be written ``1.0``, a UTF-8 BOM and any line end are accepted, and a file mixes no
boxes with polygons: what has both is marked, and refused for a target of rows. Rows of pose are boxes to task detect
where the names say ``kpt_shape``; what resembles a pose row or a prediction with a confidence or a track's number
is bad, with what it is. The corners of an oriented box go round it in either direction, from any of them; to task
detect it is the polygon that it looks like, or its box (``polygons: boxes``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pydantic
from pydantic import ConfigDict, Field

from pipeline.base.terms import Task
from pipeline.formats._flaws import cause_of_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from pipeline.formats import Parsed, Pictures

SUFFIX = ".txt"

TASKS = frozenset(Task)

NAMED = WHOLE = SIZED = False

#: Darknet's folders, as CVAT calls them.
SPLIT_FOLDERS = {"train": "obj_train_data", "val": "obj_valid_data", "test": "obj_test_data"}


class Options(pydantic.BaseModel):
    """What ``source.options`` may say."""

    model_config = ConfigDict(extra="forbid")

    polygons: Literal["keep", "boxes"] = Field(
        "keep", description="of task detect: polygons and oriented boxes as they are, or the box around each"
    )


def layout(folder: str, task: Task) -> dict[str, str]:
    """The layout of Ultralytics, for any task: ``labels/<folder>`` beside ``images/<folder>``."""
    del task
    return {"labels": f"labels/{folder}", "images": f"images/{folder}"}


def parse(
    files: Sequence[bytes],
    task: Task,
    keypoints: tuple[int, int] | None = None,
    options: Mapping[str, Any] | None = None,
    pictures: Pictures | None = None,
) -> Parsed:
    """Rows of a batch of label files, see `Parsed`; `keypoints` is (K, D) for pose.

    Any bytes are taken: what is no row of the task is in `Parsed.problems` with its line and what it resembles.
    """
    del pictures
    from pipeline.formats._label_rows import (
        parse,  # needs NumPy and Arrow, which a rebuild with nothing to do never loads
    )

    found = parse(files, task, keypoints, polygons_to_boxes=(options or {}).get("polygons") == "boxes")
    doubtful = {problem.file for problem in found.problems if problem.reason == "not_a_number"}
    causes = {number: cause for number in doubtful if (cause := cause_of_rows(files[number])) is not None}
    found.problems = [
        replace(p, detail=causes[p.file]) if p.file in causes and p.reason == "not_a_number" else p
        for p in found.problems
    ]
    return found


def render(head: pa.Array, class_id: pa.Array, tail: pa.Array) -> pa.Array:
    """Rows as bytes: blanks before the class (`head`, null for none), the class id, `tail`, and a line feed."""
    from pipeline.formats._label_rows import render

    return render(head, class_id, tail)
