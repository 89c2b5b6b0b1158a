"""How the regions of tasks become rows. The rules are in `formats.labelstudio`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.base.base64_text import from_base64
from pipeline.base.terms import NO_CLASS, Task
from pipeline.formats import Parsed, Part, Problem
from pipeline.formats._framing import Frame, OtherImage, bare_row, frame_of
from pipeline.formats._values import as_number, shown
from pipeline.formats.labelstudio.brush import NoMaskError, read_mask
from pipeline.formats.labelstudio.scan import decoded
from pipeline.formats.labelstudio.tasks import LabelledTask, Region
from pipeline.geometry import masks
from pipeline.geometry.polygons import clip_polygon, join_polygons
from pipeline.images.header import Picture, mask_of
from pipeline.tables import schema
from pipeline.tables.schema import LabelState

Floats = npt.NDArray[np.float64]

Bools = npt.NDArray[np.bool_]

_COLUMNS = ("line", "class_id", "label", "head", "tail", "cx", "cy", "w", "h", "n_tokens", "raw", "loss")

#: How many pixels a side of the polygon for an ellipse may be off.
_SAGITTA = 0.1

#: Percent beyond which no region is of an image.
_FARTHEST = 1e6

#: A region more than this beyond the image, in pixels, is counted as cut off.
_CUT = 1.0


class _BadRegionError(Exception):
    """A region that cannot be taken: the counted word, and a clause."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass
class _Shape:
    """What a region covers, in pixels: polygons, shape (points, 2), within the image, and holes; or runs of a mask.

    `box` is (left, top, right, bottom).
    """

    box: tuple[float, float, float, float]
    parts: list[Floats] = field(default_factory=list)
    holes: int = 0
    runs: npt.NDArray[np.int64] | None = None
    cut: bool = False


def parse(part: Part, task: Task, numbers: str) -> Parsed:
    """See `pipeline.formats.labelstudio.parse`."""
    tasks = [LabelledTask(data if isinstance(data := decoded(text), dict) else {}) for text in part.images]
    regions = [[*one.regions()] for one in tasks]
    sizes = [next((r.size for r in some if r.size is not None), None) for some in regions]
    asked = [i for i, size in enumerate(sizes) if size is None or part.compare] if part.pictures is not None else []
    pictures: dict[int, Picture | None] = (
        dict(zip(asked, part.pictures(asked), strict=True)) if part.pictures is not None and asked else {}
    )
    columns: dict[str, list[Any]] = {name: [] for name in ("file", *_COLUMNS)}
    problems: list[Problem] = []
    states: list[LabelState] = []
    frames: list[Frame | None] = []
    for i, some in enumerate(regions):
        before = len(problems), len(columns["file"])
        frame = _frame(sizes[i], pictures.get(i), problems, i, len(some), tasks[i])
        frames.append(frame)
        for region in some if frame is not None else ():
            assert frame is not None
            _add_row(columns, problems, i, replace(region, size=sizes[i]), frame, task, numbers)
        found, bad = len(columns["file"]) > before[1], len(problems) > before[0]
        states.append(LabelState.FOUND if found else LabelState.CORRUPT if bad else LabelState.EMPTY)
    types = {f.name: f.type for f in schema.annotations()}
    rows = pa.table(
        {"file": pa.array(columns["file"], pa.int32())}
        | {name: pa.array(columns[name], types[name]) for name in _COLUMNS}
    )
    images = pa.table(
        {
            "width": pa.array([frame and frame.width for frame in frames], pa.int32()),
            "height": pa.array([frame and frame.height for frame in frames], pa.int32()),
        }
    )
    return Parsed(rows, states, problems, images)


def _frame(
    said: tuple[int, int] | None,
    picture: Picture | None,
    problems: list[Problem],
    number: int,
    objects: int,
    task: LabelledTask,
) -> Frame | None:
    """The frame of the regions of a task; None where nobody knows it, which is a problem unless it has none."""
    if said is None and picture is not None:
        return Frame(picture.width, picture.height)
    name = shown(task.images[0] or task.images[1])
    if said is None:
        if objects:
            detail = f"image {name} has no original_width and original_height, and there is no file to read them from"
            problems.append(Problem(number, None, "no_size", detail, objects))
        return None
    try:
        return frame_of(said, picture, lambda: (math.inf, math.inf))  # percent do not say which size they are of
    except OtherImage as bad:
        detail = (
            f"image {name} has {bad.shown} pixels, but the file says {bad.own}: it was changed after it was labelled; "
            "put the labelled image back, or --set source.options.sizes=trust"
        )
        problems.append(Problem(number, None, "size_differs", detail, max(objects, 1)))
        return None


def _add_row(
    columns: dict[str, list[Any]],
    problems: list[Problem],
    number: int,
    region: Region,
    frame: Frame,
    task: Task,
    numbers: str,
) -> None:
    """Add the row of a region, or the problem that it is."""
    try:
        row = _row(region, frame, task, numbers)
    except _BadRegionError as bad:
        problems.append(Problem(number, None, bad.reason, f"result {region.number} ({region.kind}): {bad}"))
        return
    columns["file"].append(number)
    for name in _COLUMNS:
        columns[name].append(row[name])


def _row(region: Region, frame: Frame, task: Task, numbers: str) -> dict[str, Any]:
    if region.label is None:
        raise _BadRegionError("label", "has no label; choose one, or delete it")
    if region.rotated:
        raise _BadRegionError("image_rotation", "was drawn on a rotated image; rotate it back, and draw it anew")
    width, height = frame.width, frame.height
    corners = _corners(region, frame) if region.kind not in ("brush", "bitmask") else None
    shape = _mask_shape(region, frame) if corners is None else _polygon_shape(corners, frame)
    left, top, right, bottom = shape.box
    row = bare_row(region.number, region.label, shape.box, frame)
    if region.label in NO_CLASS:
        return row | {"loss": "no_class"}
    if region.kind == "keypoint":
        return row | {"loss": "no_area"}
    if not shape.parts:
        return row | {"loss": "outside"}
    row["raw"] = _raw(shape, width, height)
    if right <= left or bottom <= top:
        return row | {"loss": "zero_area"}
    scale = np.array([width, height], np.float64)
    if task is Task.DETECT:
        values = [row["cx"], row["cy"], row["w"], row["h"]]
    else:
        values = (join_polygons(shape.parts) / scale).ravel().tolist()
    row["loss"] = "holes" if task is Task.SEGMENT and shape.holes else frame.note or ("clipped" if shape.cut else None)
    row["tail"] = "".join([" " + numbers % v for v in values]).encode()
    row["n_tokens"] = 1 + len(values)
    return row


def _raw(shape: _Shape, width: int, height: int) -> bytes:
    """A COCO annotation object without what only a whole dataset knows: id, image_id and category_id."""
    left, top, right, bottom = shape.box
    if shape.runs is not None:
        area = masks.area(shape.runs)
        segmentation: Any = {"size": [height, width], "counts": masks.compress(shape.runs)}
    else:
        area = masks.area(masks.union([masks.of_polygon(p, height, width) for p in shape.parts]))
        segmentation = [p.ravel().tolist() for p in shape.parts]
    box = [left, top, right - left, bottom - top]
    return msgspec.json.encode({"segmentation": segmentation, "area": area, "bbox": box, "iscrowd": 0})


def _corners(region: Region, frame: Frame) -> Floats:
    """The points of a region in pixels of the image of `frame`."""
    own = np.array(region.size or (frame.width, frame.height), np.float64)
    value = region.value
    if region.kind == "polygon":
        points = _points(value.get("points")) * own / 100
    else:
        x, y = (_percent(value, name) * side / 100 for name, side in zip("xy", own, strict=True))
        points = np.array([[x, y]])
        if region.kind == "rectangle":
            points = _turned(np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * _sides(value, "width", "height", own), value)
            points += np.array([x, y])
        elif region.kind == "ellipse":
            radii = _sides(value, "radiusX", "radiusY", own)
            points = _turned(_circle(float(radii.max())) * radii, value) + np.array([x, y])
    return frame.transform(points) if region.size is not None else points


def _points(value: Any) -> Floats:
    try:
        points = np.array(value, np.float64)
    except (ValueError, TypeError, OverflowError):
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not (np.abs(points) <= _FARTHEST).all():
        raise _BadRegionError("points", "its points are no list of three or more [x, y] in percent; draw it anew")
    return points


def _percent(value: Mapping[str, Any], name: str) -> float:
    number = as_number(value.get(name))
    if number is None or abs(number) > _FARTHEST:
        raise _BadRegionError("numbers", f"its {name} is {shown(value.get(name))}, no number in percent; draw it anew")
    return number


def _sides(value: Mapping[str, Any], first: str, second: str, own: Floats) -> Floats:
    sides = np.abs(np.array([_percent(value, first), _percent(value, second)]))
    return np.asarray(sides * own / 100, np.float64)


def _turned(points: Floats, value: Mapping[str, Any]) -> Floats:
    """Points turned clockwise around 0, 0 by ``rotation`` degrees."""
    angle = math.radians(_percent(value, "rotation") % 360) if value.get("rotation") else 0.0
    if not angle:
        return points
    cos, sin = math.cos(angle), math.sin(angle)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]), np.float64)


def _circle(radius: float) -> Floats:
    """The corners of a regular polygon on a circle of radius 1, as many as one of `radius` pixels needs."""
    half_angle = math.acos(1 - min(_SAGITTA / radius, 1)) if radius > 0 else math.pi
    corners = min(max(12, 4 * math.ceil(math.pi / half_angle / 4)), 4096)
    angle = 2 * math.pi / corners * np.arange(corners)
    circle: Floats = np.zeros((corners, 2))
    circle[:, 0], circle[:, 1] = np.cos(angle), np.sin(angle)
    return circle


def _polygon_shape(points: Floats, frame: Frame) -> _Shape:
    edge = np.array([frame.width, frame.height], np.float64)
    inside = clip_polygon(points, frame.width, frame.height) if len(points) > 2 else np.zeros((0, 2))
    beyond = bool((points < -_CUT).any() or (points > edge + _CUT).any())
    parts = [inside] if len(inside) else []
    return _Shape(_extent(inside if parts else points, edge), parts, cut=beyond)


def _extent(points: Floats, edge: Floats) -> tuple[float, float, float, float]:
    low, high = np.clip(points.min(axis=0), 0, edge), np.clip(points.max(axis=0), 0, edge)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _mask_shape(region: Region, frame: Frame) -> _Shape:
    mask = _mask(region, frame)
    edge = np.array([frame.width, frame.height], np.float64)
    if not mask.any():
        return _Shape((0.0, 0.0, 0.0, 0.0))
    outer, holes = masks.outlines(mask, masks.MOST_PARTS)
    if not outer:
        raise _BadRegionError(
            "mask", f"its mask has more than {masks.MOST_PARTS:,} parts, as no drawing has; draw it anew"
        )
    return _Shape(_extent(np.concatenate(outer), edge), outer, len(holes), masks.of_mask(mask))


def _mask(region: Region, frame: Frame) -> Bools:
    """The pixels of a brush or a bitmask in the image of `frame`, shape (height, width)."""
    width, height = region.size or (frame.width, frame.height)
    if region.kind == "brush":
        try:
            mask = read_mask(region.value.get("rle") or (), width, height)
        except NoMaskError as error:
            raise _BadRegionError("mask", f"{error}; draw it anew") from None
    else:
        data = str(region.value.get("imageDataURL") or "").rpartition(",")[2]
        found = mask_of(from_base64(data.encode(errors="replace")) or b"")
        if found is None:
            raise _BadRegionError("mask", "its imageDataURL is no PNG image; draw it anew")
        mask = found
    turn = frame.turn
    sides = (turn.stored_height, turn.stored_width) if turn is not None else (frame.height, frame.width)
    for axis, size in enumerate(sides):
        if mask.shape[axis] != size:
            mask = mask.take(((np.arange(size) + 0.5) * (mask.shape[axis] / size)).astype(np.int64), axis=axis)
    return mask if turn is None else turn.shown_mask(mask)
