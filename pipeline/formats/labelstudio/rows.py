"""How the regions of tasks become rows. The rules are in `formats.labelstudio`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.base.base64_text import from_base64
from pipeline.base.terms import Task
from pipeline.formats import Parsed, Part, Problem
from pipeline.formats._drawn import image_sizes
from pipeline.formats._framing import Frame, OtherImage, frame_of
from pipeline.formats._shapes.keypoints import ShapeObject, with_keypoints
from pipeline.formats._shapes.objects import RowTable
from pipeline.formats._shapes.outlines import (
    ShapeError,
    ShapeOutline,
    outline_without_area,
    patch_outline,
    polygon_outline,
    unit_circle,
)
from pipeline.formats._values import as_number, shown
from pipeline.formats.labelstudio.brush import NoMaskError, read_mask
from pipeline.formats.labelstudio.scan import decoded
from pipeline.formats.labelstudio.tasks import LabelledTask, Region
from pipeline.images.header import Picture, mask_of
from pipeline.tables.schema import LabelState

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools, Floats

#: Percent beyond which no region is of an image.
_FARTHEST = 1e6


def parse(part: Part, task: Task, numbers: str, keypoints: Sequence[str]) -> Parsed:
    """See `pipeline.formats.labelstudio.parse`; `keypoints` are the names of points, empty but for task pose."""
    tasks = [LabelledTask(data if isinstance(data := decoded(text), dict) else {}) for text in part.images]
    regions = [[*one.regions()] for one in tasks]
    sizes = [next((r.size for r in some if r.size is not None), None) for some in regions]
    asked = [i for i, size in enumerate(sizes) if size is None or part.compare] if part.pictures is not None else []
    pictures: dict[int, Picture | None] = (
        dict(zip(asked, part.pictures(asked), strict=True)) if part.pictures is not None and asked else {}
    )
    rows = RowTable(task, numbers, keypoints)
    problems: list[Problem] = []
    states: list[LabelState] = []
    frames: list[Frame | None] = []
    for i, some in enumerate(regions):
        before, things = len(problems), []
        frame = _frame(sizes[i], pictures.get(i), problems, i, len(some), tasks[i])
        frames.append(frame)
        if frame is not None:
            things = with_keypoints(_objects(some, sizes[i], frame, i, problems, tasks[i]), keypoints)
            for thing in things:
                rows.add(i, thing, frame)
        bad = len(problems) > before
        states.append(LabelState.FOUND if things else LabelState.CORRUPT if bad else LabelState.EMPTY)
    return Parsed(rows.table(), states, problems, image_sizes(frames))


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
    if said is None:
        if objects:
            detail = f"{task.where} has no original_width and original_height, and there is no file to read them from"
            problems.append(Problem(number, None, "no_size", detail, objects))
        return None
    try:
        return frame_of(said, picture, lambda: (math.inf, math.inf))  # percent do not say which size they are of
    except OtherImage as bad:
        detail = (
            f"{task.where} has {bad.shown} pixels, but the file says {bad.own}: it was changed after it was labelled; "
            "put the labelled image back, or --set source.options.sizes=trust"
        )
        problems.append(Problem(number, None, "size_differs", detail, max(objects, 1)))
        return None


def _objects(
    regions: Sequence[Region],
    size: tuple[int, int] | None,
    frame: Frame,
    number: int,
    problems: list[Problem],
    task: LabelledTask,
) -> list[ShapeObject]:
    """Each region as an object; those that cannot be taken are added to `problems`.

    The group of a keypoint is the region below which it is, that of any other region is itself.
    """
    things = []
    for region in regions:
        try:
            label = _label(region)
            outline = _outline(region, size, frame)
        except ShapeError as bad:
            detail = f"{task.where}: result {region.number} ({region.kind}): {bad}"
            problems.append(Problem(number, None, bad.reason, detail))
            continue
        group = region.parent if region.kind == "keypoint" else region.key
        extras = {"description": region.text} if region.text else {}
        things.append(ShapeObject(region.number, label, group, [outline], note=frame.note, extras=extras))
    return things


def _label(region: Region) -> str:
    if region.label is None:
        raise ShapeError("label", "has no label; choose one, or delete it")
    if region.rotated:
        raise ShapeError("image_rotation", "was drawn on a rotated image; rotate it back, and draw it anew")
    return region.label


def _outline(region: Region, size: tuple[int, int] | None, frame: Frame) -> ShapeOutline:
    """What a region covers; `size` is that of the image as the task says it. Raises `ShapeError`."""
    width, height = size or (frame.width, frame.height)
    if region.kind in ("brush", "bitmask"):
        return patch_outline(_mask(region, width, height), 0, 0, frame, np.zeros((1, 2)))
    points = frame.transform(_points(region.kind, region.value, np.array([width, height], np.float64)))
    if region.kind == "keypoint":
        return outline_without_area(points, frame)
    return polygon_outline(points, frame, oriented=region.kind == "rectangle")


def _points(kind: str, value: Mapping[str, Any], own: Floats) -> Floats:
    """The points of a region in pixels of an image of the size `own`."""
    if kind == "polygon":
        return _polygon(value.get("points")) * own / 100
    corner = np.array([[_percent(value, name) * side / 100 for name, side in zip("xy", own.tolist(), strict=True)]])
    if kind == "rectangle":
        square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        return corner + _turned(square * _sides(value, "width", "height", own), value)
    if kind == "ellipse":
        radii = _sides(value, "radiusX", "radiusY", own)
        return corner + _turned(unit_circle(float(radii.max())) * radii, value)
    return corner


def _polygon(value: Any) -> Floats:
    try:
        points = np.array(value, np.float64)
    except (ValueError, TypeError, OverflowError):
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not (np.abs(points) <= _FARTHEST).all():
        raise ShapeError("points", "its points are no list of three or more [x, y] in percent; draw it anew")
    return points


def _percent(value: Mapping[str, Any], name: str) -> float:
    number = as_number(value.get(name))
    if number is None or abs(number) > _FARTHEST:
        raise ShapeError("numbers", f"its {name} is {shown(value.get(name))}, no number in percent; draw it anew")
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


def _mask(region: Region, width: int, height: int) -> Bools:
    """The pixels of a brush or a bitmask in an image of this size, shape (height, width)."""
    if region.kind == "brush":
        try:
            return read_mask(region.value.get("rle") or (), width, height)
        except NoMaskError as error:
            raise ShapeError("mask", f"{error}; draw it anew") from None
    data = str(region.value.get("imageDataURL") or "").rpartition(",")[2]
    mask = mask_of(from_base64(data.encode(errors="replace")) or b"")
    if mask is None:
        raise ShapeError("mask", "its imageDataURL is no PNG image; draw it anew")
    for axis, size in enumerate((height, width)):
        if mask.shape[axis] != size:
            mask = mask.take(((np.arange(size) + 0.5) * (mask.shape[axis] / size)).astype(np.int64), axis=axis)
    return mask
