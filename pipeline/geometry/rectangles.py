"""The smallest rectangles around shapes, turned as the shapes are; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.base.arrays import Floats, Ints

#: Rounds in which points within a hull are left out: outlines take some ten. Points that are still there are tried too.
_ROUNDS = 64

#: Sides of a hull along which a rectangle is laid: more are those of round shapes, whose rectangles are alike.
_SIDES = 48


def smallest_rectangles(xy: Floats, starts: Ints) -> tuple[Floats, Floats]:
    """Long and short side, each of shape (shapes,), of the rectangle of least area around each shape, at any angle.

    `xy`, shape (points, 2), are the points of one shape after another, `starts`, shape (shapes,), where each begins;
    each has at least one. The rectangle has a side along one of the convex hull (Freeman and Shapira, 1975,
    doi:10.1145/360881.360919), so all of these are tried, of a hull of more than 48 sides 48.
    """
    import numpy as np

    count = len(starts)
    owner = np.repeat(np.arange(count), np.diff(starts, append=len(xy)))
    chains = [_chain(xy, owner, sign) for sign in (1.0, -1.0)]
    chain = np.concatenate(chains)
    within = np.concatenate([owner[c][1:] == owner[c][:-1] for c in chains])
    side = np.concatenate([xy[c][1:] - xy[c][:-1] for c in chains])[within]
    of_side = np.concatenate([owner[c][1:] for c in chains])[within]
    side, of_side = (values[np.argsort(of_side, kind="stable")] for values in (side, of_side))
    chain = chain[np.argsort(owner[chain], kind="stable")]
    first, number = np.searchsorted(of_side, np.arange(count)), np.bincount(of_side, minlength=count)
    best = np.zeros((count, 2))
    area = np.full(count, np.inf)
    for turn in range(min(_SIDES, int(number.max(initial=0)))):
        some = np.flatnonzero(number > turn)
        step = side[first[some] + turn * np.maximum(number[some], _SIDES) // _SIDES]
        along = np.zeros((count, 2))
        along[some] = step / np.hypot(step[:, 0], step[:, 1])[:, None]
        here = chain[(number > turn)[owner[chain]]]
        found = _extents(xy[here], along[owner[here]], np.searchsorted(owner[here], some))
        better = found[:, 0] * found[:, 1] < area[some]
        best[some[better]], area[some[better]] = found[better], (found[:, 0] * found[:, 1])[better]
    return best.max(axis=1), best.min(axis=1)


def _chain(xy: Floats, owner: Ints, sign: float) -> Ints:
    """Indices of the points of the lower (`sign` 1) or upper (-1) hull of each shape, from left to right.

    Whatever lies on or within the line from one point to the next but one is on no hull, whether those stay or go.
    """
    import numpy as np

    chain = np.lexsort((xy[:, 1], xy[:, 0], owner))
    again = (owner[chain][1:] == owner[chain][:-1]) & (xy[chain][1:] == xy[chain][:-1]).all(axis=1)
    chain = chain[np.append(True, ~again)] if len(chain) else chain
    for _ in range(_ROUNDS):
        points, of = xy[chain], owner[chain]
        step = points[1:] - points[:-1]
        turns = sign * (step[:-1, 0] * step[1:, 1] - step[:-1, 1] * step[1:, 0])
        stays = np.ones(len(chain), np.bool_)
        stays[1:-1] = (turns > 0) | (of[2:] != of[:-2])
        if stays.all():
            break
        chain = chain[stays]
    return chain


def _extents(points: Floats, along: Floats, starts: Ints) -> Floats:
    """How long each shape is along the unit vectors of its points, and across them; shape (shapes, 2)."""
    import numpy as np

    along_it = points[:, 0] * along[:, 0] + points[:, 1] * along[:, 1]
    across = points[:, 1] * along[:, 0] - points[:, 0] * along[:, 1]
    ranges = [
        np.maximum.reduceat(values, starts) - np.minimum.reduceat(values, starts) for values in (along_it, across)
    ]
    return np.stack(ranges, axis=1)
