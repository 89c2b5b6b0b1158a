"""How the points of a label file map to its image, which may have been resized or turned since.

A label file says how large its image is in fields of its own; the image says it in its header, and its EXIF data which
way up it is shown. Where the two differ it is often certain what happened:

=============================================  =========================================================
the file's size is                             points are
=============================================  =========================================================
that of the image as it is shown               as they are
that of the image as it is stored (EXIF)       turned as the image is
of the same shape, larger or smaller           scaled (and turned, if it is that of the stored image)
exchanged, and points fit the image alone      as they are: a tool wrote height for width
anything else                                  of another image: nobody knows
=============================================  =========================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.images.header import Picture

if TYPE_CHECKING:
    from pipeline.base.arrays import Floats

#: Labels may reach a little beyond the image, in pixels, and still be its own.
_BEYOND = 2.0


class OtherImage(ValueError):  # noqa: N818 - part of a sentence, not an error
    """A label file says the size `own`, its image has the size `shown`, and nobody knows why; both as text."""

    def __init__(self, own: str, shown: str) -> None:
        super().__init__(f"{own}, not {shown}")
        self.own, self.shown = own, shown


@dataclass(frozen=True)
class Frame:
    """The image of the points, `width` x `height` pixels as it is shown, and how they get there.

    First they are scaled by `scale`, then turned as `turn`, the stored image, is. `note` is the counted word for what
    was put right, None where nothing was.
    """

    width: int
    height: int
    scale: tuple[float, float] = (1.0, 1.0)
    turn: Picture | None = None
    note: str | None = None

    @property
    def moves(self) -> bool:
        """Whether points are anywhere else than the label file says."""
        return self.turn is not None or self.scale != (1.0, 1.0)

    def transform(self, points: Floats) -> Floats:
        """Points, shape (n, 2), of the label file in the image."""
        scaled = points if self.scale == (1.0, 1.0) else points * np.array(self.scale)
        return scaled if self.turn is None else self.turn.shown(scaled)


@dataclass(frozen=True)
class _Size:
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width} x {self.height}"


def frame_of(
    said: tuple[int, int],
    picture: Picture | None,
    reach: Callable[[], tuple[float, float]],
    *,
    stored: bool = False,
    exchanged: bool = False,
) -> Frame:
    """The frame of a file that says the size `said`, whose image is `picture`; None if missing.

    `reach` gives the largest x and y of all points; it is called where sizes differ. With `stored` points are certainly
    those of the stored image; with `exchanged` who says width for height means that, whatever else is possible. Raises
    `OtherImage` for sizes that conflict.
    """
    own = _Size(*said)
    if picture is None:
        return Frame(own.width, own.height)
    shown, stored_size = _Size(picture.width, picture.height), _Size(picture.stored_width, picture.stored_height)
    if own == stored_size and stored:
        return Frame(shown.width, shown.height, turn=picture)
    if own == shown:
        return Frame(shown.width, shown.height)
    found = None
    if own == _Size(shown.height, shown.width) and (
        _fits(reached := reach(), shown) and (exchanged or not _fits(reached, own))
    ):
        found = Frame(shown.width, shown.height, note="exchanged")
    elif own == stored_size:
        found = Frame(shown.width, shown.height, turn=picture, note="turned")
    elif _alike(own, shown):
        found = Frame(shown.width, shown.height, _scale(own, shown), note="resized")
    elif _alike(own, stored_size):
        found = Frame(shown.width, shown.height, _scale(own, stored_size), picture, "resized")
    if found is None:
        raise OtherImage(str(own), str(shown))
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


def bare_row(line: int, label: str | None, box: tuple[float, float, float, float], frame: Frame) -> dict[str, Any]:
    """A row of `schema.annotations` that has no `tail` yet; `box` (pixels) is left, top, right and bottom."""
    left, top, right, bottom = box
    return {
        "line": line,
        "class_id": -1,
        "label": label,
        "head": None,
        "tail": None,
        "n_tokens": 0,
        "cx": (left + right) / 2 / frame.width,
        "cy": (top + bottom) / 2 / frame.height,
        "w": (right - left) / frame.width,
        "h": (bottom - top) / frame.height,
        "raw": None,
        "loss": None,
    }
