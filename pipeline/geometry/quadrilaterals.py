"""Oriented boxes by their four corners, shape (boxes, 4, 2), one after another round the box; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.geometry.polygons import clip_polygon

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools, Floats

#: By how much of its area a box may differ from the upright one around it and still be that.
_ROUNDING = 1e-6


def four_corners(outline: Floats) -> Floats | None:
    """The corners of an outline, shape (points, 2), that has exactly four; None for any other.

    A fifth point that repeats the first closes the outline, as Shapely's and GeoJSON's rings do, and is no corner.
    """
    if len(outline) == 5 and (outline[0] == outline[4]).all():
        outline = outline[:4]
    return outline if len(outline) == 4 else None


def sides(corners: Floats) -> tuple[Floats, Floats]:
    """The lengths of the two sides of each box, shape (boxes,): of two that face each other the mean."""
    import numpy as np

    lengths = np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2)
    return (lengths[:, 0] + lengths[:, 2]) / 2, (lengths[:, 1] + lengths[:, 3]) / 2


def areas(corners: Floats) -> Floats:
    """The area of each box, shape (boxes,), whichever way round its corners are."""
    import numpy as np

    x, y = corners[:, :, 0], corners[:, :, 1]
    twice = (x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)).sum(axis=1)
    return np.asarray(np.abs(twice) / 2, np.float64)


def oblique(corners: Floats) -> Bools:
    """Which boxes, shape (boxes,), are smaller than the upright boxes around them, by more than rounding."""
    import numpy as np

    around: Floats = (corners.max(axis=1) - corners.min(axis=1)).prod(axis=1)
    return np.asarray(areas(corners) < around * (1 - _ROUNDING), np.bool_)


def within(corners: Floats, sizes: Floats, slack: Floats) -> tuple[Floats, Bools, Bools]:
    """`corners` without what is more than `slack` beyond images of `sizes`, both of shape (boxes, 2).

    A corner beyond goes to the nearest point of the image, so that four stay. Returns which boxes were cut, and which
    of these have no area within the image.
    """
    import numpy as np

    sizes, slack = sizes[:, None, :], slack[:, None, :]
    beyond: Bools = np.logical_not(((corners >= -slack) & (corners <= sizes + slack)).all(axis=(1, 2)))
    outside = np.zeros(len(corners), np.bool_)
    if not beyond.any():
        return corners, beyond, outside
    moved = corners.copy()
    moved[beyond] = np.clip(corners[beyond], 0, sizes[beyond])
    for i in np.flatnonzero(beyond).tolist():
        width, height = sizes[i, 0].tolist()
        finite = bool(np.isfinite(corners[i]).all())
        outside[i] = not finite or not len(clip_polygon(corners[i], width, height))
    outside |= beyond & ~(areas(moved) > 0)
    return moved, beyond, outside
