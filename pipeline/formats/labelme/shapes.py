"""Shapes of labelme as outlines: polygons, or pixels."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.geometry import masks
from pipeline.geometry.polygons import clip_polygon
from pipeline.images.header import Picture, mask_of

Floats = npt.NDArray[np.float64]

Bools = npt.NDArray[np.bool_]

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
}

_NO_AREA = frozenset({"line", "linestrip", "point", "points"})


class Bad(Exception):  # noqa: N818 - a finding, told with file and shape by who catches it
    """A file or a shape that cannot be taken: the counted word, a clause, and the line where that is known."""

    def __init__(self, reason: str, detail: str, line: int | None = None) -> None:
        super().__init__(detail)
        self.reason, self.line = reason, line


@dataclass
class Outline:
    """What an object covers, in pixels of the image as it is shown, cut off at its edges.

    `box` is (left, top, right, bottom); `parts` and `holes` are polygons of shape (points, 2). What was given by pixels
    has its `runs`; `drawn` are the parts that were given as polygons. `has_area` is False for lines and points, which
    have a box alone.
    """

    box: tuple[float, float, float, float]
    parts: list[Floats] = field(default_factory=list)
    holes: list[Floats] = field(default_factory=list)
    drawn: list[Floats] = field(default_factory=list)
    runs: npt.NDArray[np.int64] | None = None
    has_area: bool = True

    @staticmethod
    def of_several(several: Sequence[Outline]) -> Outline:
        """All shapes of one object as one."""
        if len(several) == 1:
            return several[0]
        there = [s for s in several if s.parts] or several
        corners = np.array([s.box for s in there])
        left, top = corners[:, :2].min(axis=0).tolist()
        right, bottom = corners[:, 2:].max(axis=0).tolist()
        pixels = [s.runs for s in there if s.runs is not None]
        return Outline(
            (left, top, right, bottom),
            [p for s in there for p in s.parts],
            [h for s in there for h in s.holes],
            [p for s in there for p in s.drawn],
            masks.union(pixels) if pixels else None,
        )

    def segmentation(self, height: int, width: int) -> tuple[Any, int]:
        """COCO's ``segmentation`` and ``area``, the pixels it covers: polygons, or RLE where any shape is a mask."""
        every = [masks.of_polygon(p, height, width) for p in self.drawn]
        every += [self.runs] if self.runs is not None else []
        runs = masks.union(every)
        if self.runs is None:
            return [p.ravel().tolist() for p in self.drawn], masks.area(runs)
        return {"size": [height, width], "counts": masks.compress(runs)}, masks.area(runs)


def read_outline(shape: dict[str, Any], picture: Picture, *, turned: bool) -> Outline:
    """The outline of one shape; raises `Bad`. With `turned` its points are those of the stored image."""
    kind = shape.get("shape_type") or "polygon"
    if kind not in _POINTS:
        raise Bad("shape_type", f"shape_type {str(kind)[:40]!r} is none of {', '.join(_POINTS)}")
    points = _points(shape.get("points"))
    least, most = _POINTS[kind]
    if len(points) < least or (most is not None and len(points) > most):
        needs = f"{least}" if least == most else f"{least} or more" if most is None else f"{least} to {most}"
        raise Bad("points", f"a {kind} of {len(points)} points; it needs {needs}")
    if kind == "mask":
        return _mask(shape.get("mask"), points, picture)
    if turned:
        points = picture.shown(points)
    if kind in _NO_AREA:
        return Outline(_extent(points, picture), has_area=False)
    polygon = _rectangle(points) if kind == "rectangle" else _circle(points) if kind == "circle" else points
    inside = clip_polygon(polygon, picture.width, picture.height)
    parts = [inside] if len(inside) else []
    return Outline(_extent(inside if parts else polygon, picture), parts, drawn=parts)


def _points(value: Any) -> Floats:
    try:
        good = (
            isinstance(value, list)
            and bool(value)
            and all(
                isinstance(p, list) and len(p) == 2 and all(type(n) in (int, float) and math.isfinite(n) for n in p)
                for p in value
            )
        )
    except OverflowError:  # a whole number beyond any float
        good = False
    if not good or max(abs(n) for p in value for n in p) > 1e9:
        raise Bad("points", "its points are not a list of [x, y] with finite numbers")
    return np.array(value, np.float64)


def _rectangle(points: Floats) -> Floats:
    """Four corners around the points, as labelme's own converter orders them."""
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _circle(points: Floats) -> Floats:
    """A regular polygon whose corners lie on the circle, four of them at its extremes."""
    radius = math.dist(points[0], points[1])
    half_angle = math.acos(1 - min(_SAGITTA / radius, 1)) if radius > 0 else math.pi
    corners = max(12, 4 * math.ceil(math.pi / half_angle / 4))
    angle = 2 * math.pi / corners * np.arange(corners)
    return np.asarray(points[0] + radius * np.stack([np.sin(angle), np.cos(angle)], axis=1), np.float64)


def _extent(points: Floats, picture: Picture) -> tuple[float, float, float, float]:
    edge = np.array([picture.width, picture.height], np.float64)
    low, high = np.clip(points.min(axis=0), 0, edge), np.clip(points.max(axis=0), 0, edge)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _mask(value: Any, points: Floats, picture: Picture) -> Outline:
    """A PNG patch at the place of the first point; both points are of pixels that belong to it."""
    patch = _patch(value)
    (x, y), (x1, y1) = np.rint(points).astype(int).tolist()
    whole = bool((points == np.trunc(points)).all())
    if whole and (x1 - x + 1, y1 - y + 1) != (patch.shape[1], patch.shape[0]):
        raise Bad(
            "mask",
            f"its mask has {patch.shape[1]} x {patch.shape[0]} pixels, but its points span {x1 - x + 1} x {y1 - y + 1}",
        )
    mask = np.zeros((picture.height, picture.width), np.bool_)
    rows = slice(max(y, 0), min(y + patch.shape[0], picture.height))
    columns = slice(max(x, 0), min(x + patch.shape[1], picture.width))
    if rows.start < rows.stop and columns.start < columns.stop:
        patch = patch[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        mask[rows, columns] = patch
    else:
        patch = patch[:0, :0]
    if not patch.any():
        return Outline(_extent(points, picture), [])
    outer, holes = masks.outlines(patch)
    shift = np.array([columns.start, rows.start])
    parts = [p + shift for p in outer]
    runs = masks.of_mask(mask)
    return Outline(_extent(np.concatenate(parts), picture), parts, [h + shift for h in holes], runs=runs)


def _patch(value: Any) -> Bools:
    """The mask of a base64 PNG, shape (height, width)."""
    if not isinstance(value, str):
        raise Bad("mask", "is a mask without one: `mask` must be a PNG image in base64")
    try:
        pixels = mask_of(base64.b64decode(value))
    except (binascii.Error, ValueError):
        pixels = None
    if pixels is None:
        raise Bad("mask", "its mask is no PNG image in base64, or a damaged one")
    return pixels
