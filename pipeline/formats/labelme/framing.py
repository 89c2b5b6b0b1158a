"""How the points of a label file lie in its image, which may have been resized or turned since.

A label file says how large its image is in fields of its own; the image says it in its header, and its EXIF data which
way up it is shown. Where the two differ it is often certain what happened:

=============================================  =========================================================
the file's size is                             points are
=============================================  =========================================================
that of the image as it is shown               as they are
that of the image as it is stored (EXIF)       turned as the image is
of the same shape, larger or smaller           scaled (and turned, if it is that of the stored image)
exchanged, and points fit the image alone      as they are: a tool wrote height for width
anything else                                  of another image: nobody can tell
=============================================  =========================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.formats.labelme.shapes import Frame, ShapeError
from pipeline.images.header import Picture

#: Labels may reach a little beyond the image, in pixels, and still be its own.
_BEYOND = 2.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Size:
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width} x {self.height}"


def frame_of(said: tuple[int, int], picture: Picture | None, shapes: Sequence[Any], *, stored: bool = False) -> Frame:
    """The frame of a file that says the size `said`, whose image is `picture`, None where there is none to ask.

    With `stored` points are certainly those of the stored image. Raises `ShapeError` for sizes that conflict.
    """
    own = _Size(*said)
    if picture is None:
        return Frame(own.width, own.height)
    shown, kept = _Size(picture.width, picture.height), _Size(picture.stored_width, picture.stored_height)
    if own == kept and stored:
        return Frame(shown.width, shown.height, turn=picture)
    if own == shown:
        return Frame(shown.width, shown.height)
    reach = _reach(shapes)
    fits_alone = _fits(reach, shown) and not _fits(reach, own)
    found = None
    if own == _Size(shown.height, shown.width) and fits_alone:
        found = Frame(shown.width, shown.height, note="exchanged")
    elif own == kept:
        found = Frame(shown.width, shown.height, turn=picture, note="turned")
    elif _alike(own, shown):
        found = Frame(shown.width, shown.height, _scale(own, shown), note="resized")
    elif _alike(own, kept):
        found = Frame(shown.width, shown.height, _scale(own, kept), picture, "resized")
    if found is None:
        raise ShapeError(
            "size_differs",
            f"says that its image has {own} pixels, but it has {shown}: it was changed after it "
            "was labelled; put the labelled image back, or label this one",
        )
    return found


def _scale(one: _Size, other: _Size) -> tuple[float, float]:
    return other.width / one.width, other.height / one.height


def _alike(one: _Size, other: _Size) -> bool:
    """Whether two sizes are of one shape, but for what whole pixels leave open."""
    by = max(other.width / one.width, other.height / one.height)
    near = max(1.0, by)  # enlarged: half a pixel of the smaller one is more of the larger one
    return abs(one.width * by - other.width) <= near and abs(one.height * by - other.height) <= near


def _fits(reach: tuple[float, float], size: _Size) -> bool:
    return reach[0] <= size.width + _BEYOND and reach[1] <= size.height + _BEYOND


def _reach(shapes: Sequence[Any]) -> tuple[float, float]:
    """The largest x and y of all points, as far as they are numbers."""
    right = bottom = 0.0
    for shape in shapes:
        points = shape.get("points") if isinstance(shape, dict) else None
        for point in points if isinstance(points, list) else ():
            if (
                isinstance(point, list)
                and len(point) == 2
                and all(type(n) in (int, float) and abs(n) < 1e9 for n in point)
                and all(map(math.isfinite, point))
            ):
                right, bottom = max(right, point[0]), max(bottom, point[1])
    return right, bottom
