"""Objects of shapes as rows: boxes, polygons, oriented boxes and keypoints. The rules are in `formats.labelme`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.base.terms import NO_CLASS, Task
from pipeline.formats._framing import Frame, bare_row
from pipeline.formats._numbers import TOLERANCE
from pipeline.formats._shapes.keypoints import ShapeObject, keypoints_of
from pipeline.formats._shapes.outlines import ShapeOutline
from pipeline.formats._unsaid import unsaid
from pipeline.geometry.polygons import join_polygons
from pipeline.geometry.quadrilaterals import areas, four_corners, within
from pipeline.tables import schema

Floats = npt.NDArray[np.float64]

#: What a row has, beside the index of its file.
COLUMNS = ("line", "class_id", "label", "head", "tail", "cx", "cy", "w", "h", "n_tokens", "raw", "loss")


class RowTable:
    """Rows of files, column by column."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in ("file", *COLUMNS)}

    def __len__(self) -> int:
        return len(self._columns["file"])

    def add(self, file: int, row: dict[str, Any]) -> None:
        """Add a row of `row_of`, of the file of this index."""
        self._columns["file"].append(file)
        for name in COLUMNS:
            self._columns[name].append(row[name])

    def table(self) -> pa.Table:
        """All of them, see `Parsed.rows`."""
        types = {"file": pa.int32(), **{field.name: field.type for field in schema.annotations()}}
        return pa.table({name: pa.array(values, types[name]) for name, values in self._columns.items()})


def row_of(thing: ShapeObject, frame: Frame, task: Task, numbers: str, keypoints: Sequence[str] = ()) -> dict[str, Any]:
    """The row of an object, by the names of `COLUMNS`.

    `numbers` is how coordinates are written, `keypoints` the names of keypoints, in their order.
    """
    width, height = frame.width, frame.height
    whole = ShapeOutline.of_several(thing.shapes)
    left, top, right, bottom = whole.box
    scale = np.array([width, height], np.float64)
    row = bare_row(thing.line, thing.label, whole.box, frame)
    if (nothing := _nothing_of(thing, whole)) is not None:
        return row | {"loss": nothing}
    points, beyond = keypoints_of(thing, keypoints, width, height)
    row["raw"] = _raw(thing, whole, points, width, height)
    if right <= left or bottom <= top:
        return row | {"loss": "zero_area"}
    row["loss"] = _partly(thing, whole, task)
    if "iscrowd" in thing.extras:
        return row | {"loss": "crowd"}
    box = [row["cx"], row["cy"], row["w"], row["h"]]
    if task is Task.OBB:
        return _oriented(row, thing, whole, frame, numbers)
    if task is Task.POSE and not points[:, 2].any():
        return row | {"loss": "no_keypoints"}
    if task is Task.POSE:
        row["loss"] = "keypoint_outside" if beyond else row["loss"]
        values = [*box, *(points / (width, height, 1)).ravel().tolist()]
    else:
        values = box if task is Task.DETECT else (join_polygons(whole.parts) / scale).ravel().tolist()
    return row | _tail(values, numbers)


def _nothing_of(thing: ShapeObject, whole: ShapeOutline) -> str | None:
    """The counted word for what is nothing in any target; None for an object."""
    if thing.label in NO_CLASS:
        return "no_class"
    if not whole.has_area:
        return "keypoint_alone" if thing.alone else "no_area"
    return None if whole.parts else "outside"


def _tail(values: Sequence[float], numbers: str) -> dict[str, Any]:
    return {"tail": "".join([" " + numbers % v for v in values]).encode(), "n_tokens": 1 + len(values)}


def _oriented(
    row: dict[str, Any], thing: ShapeObject, whole: ShapeOutline, frame: Frame, numbers: str
) -> dict[str, Any]:
    """The row of an object of exactly four corners, each within the image."""
    corners = four_corners(whole.given) if whole.given is not None else None
    if corners is None:
        return row | {"loss": "no_four_corners"}
    size = np.array([[frame.width, frame.height]], np.float64)
    (moved,), (cut,), (outside,) = within(corners[None] / size, np.ones((1, 2)), np.full((1, 2), TOLERANCE))
    if outside or not areas(moved[None])[0] > 0:
        return row | {"loss": "outside" if outside else "zero_area"}
    low, high = moved.min(axis=0), moved.max(axis=0)
    row |= dict(zip(("cx", "cy", "w", "h"), [*((low + high) / 2).tolist(), *(high - low).tolist()], strict=True))
    row["loss"] = "clipped" if cut else row["loss"] if row["loss"] != "clipped" else _unsaid(thing)
    return row | _tail(moved.ravel().tolist(), numbers)


def _partly(thing: ShapeObject, whole: ShapeOutline, task: Task) -> str | None:
    """The counted word for an object that is taken, but not as it was drawn."""
    if task is Task.SEGMENT and whole.holes:
        return "holes"
    if thing.note is not None:
        return thing.note
    if whole.cut:
        return "clipped"
    if task is Task.DETECT and whole.oriented:
        return "oriented"
    return "joined" if task is Task.SEGMENT and len(whole.parts) > 1 else _unsaid(thing)


def _unsaid(thing: ShapeObject) -> str | None:
    """The counted word for what a row does not say: a group is its object, unless that of other objects as well."""
    word = unsaid({name: value for name, value in thing.extras.items() if name not in ("group_id", "iscrowd")})
    return word or ("attributes" if thing.related else None)


def _raw(thing: ShapeObject, whole: ShapeOutline, points: Floats, width: int, height: int) -> bytes:
    """A COCO annotation object without what only a whole dataset knows: id, image_id and category_id."""
    left, top, right, bottom = whole.box
    segmentation, area = whole.segmentation(height, width)
    data = {
        "segmentation": segmentation,
        "area": area,
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": 0,
        **thing.extras,
    }
    if len(points):
        data |= {"keypoints": points.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
    return as_json(data)


def as_json(data: dict[str, Any]) -> bytes:
    """`data` as JSON, in UTF-8."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")  # a lone surrogate, which JSON can say and UTF-8 cannot
