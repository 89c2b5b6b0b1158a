"""Shapes of labelme as outlines: polygons, or pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.base.base64_text import from_base64
from pipeline.base.humanize import plural
from pipeline.formats._framing import Frame
from pipeline.geometry import masks
from pipeline.geometry.polygons import clip_polygon
from pipeline.geometry.quadrilaterals import oblique
from pipeline.images.header import mask_of

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools, Floats, Ints

#: How many pixels a side of the polygon for a circle may be off.
_SAGITTA = 0.1

#: Points that each shape has, fewest and most.
_POINTS = {
    "polygon": (3, None),
    "rectangle": (2, 4),
    "oriented_rectangle": (4, 4),
    "circle": (2, 2),
    "mask": (2, 2),
    "line": (2, 2),
    "linestrip": (2, None),
    "point": (1, 1),
    "points": (1, None),
    "rotation": (4, 4),
    "quadrilateral": (3, None),
}  # the last two are X-AnyLabeling's, by their corners

#: Boxes at an angle.
_ORIENTED = frozenset({"oriented_rectangle", "rotation"})

_NO_AREA = frozenset({"line", "linestrip", "point", "points"})

#: Shapes of other tools that have no outline in the image, with what they are.
_NOT_FLAT = {"cuboid": "X-AnyLabeling's box in space", "cuboid2d": "a box in space", "cube": "a box in space"}

#: An outline longer than that, in pixels, is no drawing: its pixels would fill the memory.
_MAX_LENGTH = 4_000_000

#: Coordinates beyond it, in pixels, are in no image.
_FARTHEST = 1e9

#: A shape drawn more than this beyond the image, in pixels, is counted as cut off.
_CUT = 1.0


class ShapeError(Exception):
    """A file or a shape that cannot be taken: the counted word, a clause, and the line where that is known."""

    def __init__(self, reason: str, detail: str, line: int | None = None) -> None:
        super().__init__(detail)
        self.reason, self.line = reason, line


@dataclass
class ShapeOutline:
    """What an object covers, in pixels of the image as it is shown, cut off at its edges.

    `box` is (left, top, right, bottom); `parts` and `holes` are polygons of shape (points, 2). What was given by pixels
    has its `runs`; `drawn` are the parts that were given as polygons. `has_area` is False for lines and points, which
    have a box alone; `cut` is True for what reaches beyond the image. `given` are the points of one shape, with what of
    them is beyond. `oriented`: it is a box that is not upright.
    """

    box: tuple[float, float, float, float]
    parts: list[Floats] = field(default_factory=list)
    holes: list[Floats] = field(default_factory=list)
    drawn: list[Floats] = field(default_factory=list)
    runs: Ints | None = None
    has_area: bool = True
    cut: bool = False
    given: Floats | None = None
    oriented: bool = False

    @staticmethod
    def of_several(several: Sequence[ShapeOutline]) -> ShapeOutline:
        """All shapes of one object as one."""
        if len(several) == 1:
            return several[0]
        there = [s for s in several if s.parts] or several
        corners = np.array([s.box for s in there])
        left, top = corners[:, :2].min(axis=0).tolist()
        right, bottom = corners[:, 2:].max(axis=0).tolist()
        pixels = [s.runs for s in there if s.runs is not None]
        return ShapeOutline(
            (left, top, right, bottom),
            [p for s in there for p in s.parts],
            [h for s in there for h in s.holes],
            [p for s in there for p in s.drawn],
            masks.union(pixels) if pixels else None,
            cut=any(s.cut for s in there),
            oriented=any(s.oriented for s in there),
        )


def read_outline(shape: dict[str, Any], frame: Frame) -> ShapeOutline:
    """The outline of one shape in the image of `frame`; raises `ShapeError`."""
    kind = _kind(shape.get("shape_type"))
    points = _points(shape.get("points"))
    least, most = _POINTS[kind]
    if len(points) < least or (most is not None and len(points) > most):
        needs = f"{least}" if least == most else f"{least} or more" if most is None else f"{least} to {most}"
        raise ShapeError("points", f"a {kind} of {plural(len(points), 'point')}; it needs {needs}")
    if kind == "mask":
        return _mask(shape.get("mask"), points, frame)
    if kind == "circle":
        points = _circle(points)
    points = frame.transform(points)
    if kind in _NO_AREA:
        return outline_without_area(points, frame)
    polygon = _rectangle(points) if kind == "rectangle" else points
    return polygon_outline(polygon, frame, oriented=kind in _ORIENTED)


def outline_without_area(points: Floats, frame: Frame) -> ShapeOutline:
    """The outline of a line or of points, in pixels of the image."""
    return ShapeOutline(_extent(points, frame), has_area=False, given=points)


def polygon_outline(polygon: Floats, frame: Frame, *, oriented: bool = False) -> ShapeOutline:
    """The outline of a polygon, shape (points, 2), in pixels of the image; `oriented`: it is a box at an angle.

    Raises `ShapeError`.
    """
    oriented = oriented and bool(oblique(polygon[None])[0])
    (left, top), (right, bottom) = polygon.min(axis=0).tolist(), polygon.max(axis=0).tolist()
    short = len(polygon) * (right - left + bottom - top) < _MAX_LENGTH / 2  # no side is longer than those of the box
    if short and left >= 0 and top >= 0 and right <= frame.width and bottom <= frame.height:
        box = left + 0.0, top + 0.0, right + 0.0, bottom + 0.0  # none is -0.0
        return ShapeOutline(box, [polygon], drawn=[polygon], given=polygon, oriented=oriented)
    inside = clip_polygon(polygon, frame.width, frame.height)
    parts = [inside] if len(inside) else []
    if parts and np.abs(np.diff(inside, axis=0, append=inside[:1])).sum() > _MAX_LENGTH:
        raise ShapeError("too_long", f"its outline is longer than {_MAX_LENGTH:,} pixels, as no drawing is; remove it")
    beyond = (polygon < -_CUT).any() or (polygon > np.array([frame.width, frame.height]) + _CUT).any()
    box = _extent(inside if parts else polygon, frame)
    return ShapeOutline(box, parts, drawn=parts, cut=bool(beyond), given=polygon, oriented=oriented)


def is_without_area(shape: dict[str, Any]) -> bool:
    """Whether a shape is of lines or points, whatever else is wrong with it."""
    return _lowered(shape.get("shape_type")) in _NO_AREA


def _lowered(value: Any) -> str:
    """The name of a shape's kind, whatever capitals it is written in: scripts write ``Rectangle``."""
    return str(value or "polygon").strip().lower()


def _kind(value: Any) -> str:
    """The shape's kind; raises `ShapeError`."""
    kind = _lowered(value)
    if kind in _POINTS:
        return kind
    shown = str(value)[:40]
    if kind in _NOT_FLAT:
        raise ShapeError(
            "shape_type",
            f"shape_type {shown!r} is {_NOT_FLAT[kind]}, which has no outline in the image; draw a polygon instead",
        )
    raise ShapeError(
        "shape_type", f"shape_type {shown!r} is unknown; labelme and its relatives have {', '.join(_POINTS)}"
    )


def _points(value: Any) -> Floats:
    points = _numbers(value)
    if points is None:
        raise ShapeError("points", "its points are not a list of [x, y] with finite numbers; draw it anew")
    return points


def _numbers(value: Any) -> Floats | None:
    """Points, shape (n, 2), whose numbers may be written as text; None for anything else."""
    try:
        points = np.array(value, np.float64)
    except (ValueError, TypeError, OverflowError):
        return None
    good = points.ndim == 2 and points.shape[1] == 2 and len(points) > 0 and bool((np.abs(points) <= _FARTHEST).all())
    return points if good and bool not in map(type, chain.from_iterable(value)) else None


def reach_of(shapes: Sequence[Any]) -> tuple[float, float]:
    """The largest x and y of all points of `shapes`, as far as they are numbers."""
    points = [_numbers(shape.get("points")) for shape in shapes if isinstance(shape, dict)]
    right, bottom = np.concatenate([np.zeros((1, 2)), *(p for p in points if p is not None)]).max(axis=0).tolist()
    return right, bottom


def _rectangle(points: Floats) -> Floats:
    """Four corners around the points, as labelme's own converter orders them."""
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _circle(points: Floats) -> Floats:
    """A regular polygon whose corners are on the circle, four of them at its extremes."""
    radius = math.dist(points[0], points[1])
    return np.asarray(points[0] + radius * unit_circle(radius), np.float64)


def unit_circle(radius: float) -> Floats:
    """The corners of a regular polygon on a circle of radius 1, as many as one of `radius` pixels needs."""
    half_angle = math.acos(1 - min(_SAGITTA / radius, 1)) if radius > 0 else math.pi
    corners = max(12, 4 * math.ceil(math.pi / half_angle / 4))
    angle = 2 * math.pi / corners * np.arange(corners)
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def _extent(points: Floats, frame: Frame) -> tuple[float, float, float, float]:
    edge = np.array([frame.width, frame.height], np.float64)
    low, high = np.clip(points.min(axis=0), 0, edge), np.clip(points.max(axis=0), 0, edge)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _mask(value: Any, points: Floats, frame: Frame) -> ShapeOutline:
    """A PNG patch at the first point; the second is its last pixel or, as scripts have it, one beyond."""
    patch = _patch(value)
    (x, y), (x1, y1) = np.rint(points).astype(int).tolist()
    rows, columns = patch.shape
    whole = bool((points == np.trunc(points)).all())
    if whole and (x1 - x, y1 - y) not in ((columns - 1, rows - 1), (columns, rows)):
        raise ShapeError(
            "mask",
            f"its mask has {columns} x {rows} pixels, but its points span {x1 - x + 1} x {y1 - y + 1}; draw it anew",
        )
    return patch_outline(patch, x, y, frame, points)


def patch_outline(patch: Bools, x: int, y: int, frame: Frame, corners: Floats) -> ShapeOutline:
    """The outline of a mask of which `patch`, shape (rows, columns), with its first pixel at `x`, `y`, is all.

    `corners`, shape (n, 2), span it. Raises `ShapeError`.
    """
    if frame.scale != (1.0, 1.0):
        patch, x, y = _scaled(patch, x, y, frame)
    if frame.turn is not None:
        ends = frame.turn.shown(np.array([[x, y], [x + patch.shape[1], y + patch.shape[0]]]))
        patch, (x, y) = frame.turn.shown_mask(patch), ends.min(axis=0).tolist()
    left, top = max(x, 0), max(y, 0)
    inside = patch[top - y : max(frame.height - y, 0), left - x : max(frame.width - x, 0)]
    if not inside.any():
        return ShapeOutline(_extent(frame.transform(corners), frame), [])
    outer, holes = masks.outlines(inside, masks.MOST_PARTS)
    if not outer:
        raise ShapeError(
            "too_long",
            f"its mask has more than {masks.MOST_PARTS:,} parts and holes, or outlines of more than "
            f"{masks.MOST_EDGES:,} pixels, as no drawing has; draw it anew",
        )
    shift = np.array([left, top])
    parts = [p + shift for p in outer]
    runs = masks.of_patch(inside, left, top, frame.height, frame.width)
    cut = bool(patch.any()) and int(inside.sum()) < int(patch.sum())
    return ShapeOutline(_extent(np.concatenate(parts), frame), parts, [h + shift for h in holes], runs=runs, cut=cut)


def _scaled(patch: Bools, x: int, y: int, frame: Frame) -> tuple[Bools, int, int]:
    """The patch at `x`, `y` in the pixels of an image that was resized: each takes what is in its middle."""
    taken, corner = patch, []
    width, height = frame.width, frame.height
    if frame.turn is not None:
        width, height = frame.turn.stored_width, frame.turn.stored_height
    for axis, (at, by, edge) in enumerate(((y, frame.scale[1], height), (x, frame.scale[0], width))):
        first = max(math.floor(at * by), 0)
        last = min(math.ceil((at + patch.shape[axis]) * by), edge)
        source = np.floor((np.arange(first, last) + 0.5) / by).astype(np.int64) - at
        good = (source >= 0) & (source < patch.shape[axis])
        taken = taken.take(source[good], axis=axis)
        corner.append(first + int(np.argmax(good)) if good.any() else first)
    return taken, corner[1], corner[0]


def _patch(value: Any) -> Bools:
    """The mask of a base64 PNG, shape (height, width)."""
    if not isinstance(value, str):
        raise ShapeError("mask", "is a mask without one: `mask` must be a PNG image in base64; draw it anew")
    pixels = mask_of(from_base64(value.encode(errors="replace")) or b"")
    if pixels is None:
        raise ShapeError("mask", "its mask is no PNG image in base64, or a damaged one; draw it anew")
    return pixels
