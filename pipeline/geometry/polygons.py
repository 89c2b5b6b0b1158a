"""Box arithmetic on NumPy arrays; pure.

Conventions: ``xyxy`` two corners in pixels, ``xywh`` top-left corner and size in pixels (COCO), ``cxcywhn`` centre and
size, normalised to 0-1 by the image's size (YOLO).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.geometry.batches import batches

if TYPE_CHECKING:
    from pipeline.base.arrays import Floats, Ints

#: Distances of pairs of polygons that are computed together, some 80 bytes each: they stay in the processor's cache.
_AT_ONCE = 20_000

#: Distances that are compared at once, 8 bytes each: outlines of masks have points by the hundred thousand.
_PAIRS = 1 << 22


def polygons_to_cxcywhn(xs: Floats, ys: Floats, starts: Ints) -> tuple[Floats, Floats, Floats, Floats]:
    """Boxes around polygons whose points follow one another in `xs` and `ys`, shape (points,), normalised 0-1.

    `starts`, shape (polygons,), is where each polygon begins; each has at least one point. Returns cx, cy, w, h, each
    of shape (polygons,): Ultralytics' `segments2boxes`, in float64.
    """
    import numpy as np

    if len(starts) == 0:
        empty = np.empty(0)
        return empty, empty, empty, empty
    left, right = np.minimum.reduceat(xs, starts), np.maximum.reduceat(xs, starts)
    top, bottom = np.minimum.reduceat(ys, starts), np.maximum.reduceat(ys, starts)
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def clip_polygon(xy: Floats, width: float, height: float) -> Floats:
    """The part of a polygon, shape (points, 2), in pixels, that is in an image; no points where nothing does.

    Sutherland-Hodgman, one edge of the image after the other: parts that the edge cuts apart stay joined along it.
    """
    import numpy as np

    if ((xy >= 0) & (xy <= (width, height))).all():
        return xy
    for axis, sign, bound in ((0, -1.0, 0.0), (0, 1.0, width), (1, -1.0, 0.0), (1, 1.0, height)):
        beyond = sign * (xy[:, axis] - bound)  # positive outside
        inside: list[Floats] = []
        for i in range(len(xy)):
            here, before = beyond[i], beyond[i - 1]
            if (here > 0) != (before > 0):
                cut = xy[i - 1] + (xy[i] - xy[i - 1]) * (before / (before - here))
                cut[axis] = bound
                inside.append(cut)
            if here <= 0:
                inside.append(xy[i])
        xy = np.array(inside, np.float64).reshape(-1, 2)
        if len(xy) < 3:
            return np.zeros((0, 2))
    return xy


def _nearest(points: Floats, others: Floats) -> tuple[int, int]:
    """The indexes of the two points, one of each, that are nearest; of several pairs the first."""
    step = max(1, _PAIRS // len(others))
    best: tuple[float, int, int] | None = None
    for begin in range(0, len(points), step):
        some = points[begin : begin + step]
        across = some[:, 0, None] - others[:, 0]
        down = some[:, 1, None] - others[:, 1]
        across *= across
        down *= down
        across += down
        first, second = divmod(int(across.argmin()), len(others))
        if best is None or across[first, second] < best[0]:
            best = float(across[first, second]), begin + first, second
    assert best is not None
    return best[1], best[2]


def join_polygons(parts: Sequence[Floats]) -> Floats:
    """Polygons of one object, shape (points, 2) each, as one: each is joined to the next where they are nearest.

    The way there and back is one line, so the area is that of all parts. The order of points is that of the polygons in
    the labels that Ultralytics gives out for COCO (`merge_multi_segment` of JSON2YOLO).
    """
    import numpy as np

    if len(parts) == 1:
        return parts[0]
    ways: list[list[int]] = [[] for _ in parts]
    for i in range(1, len(parts)):
        first, second = _nearest(parts[i - 1], parts[i])
        ways[i - 1].append(first)
        ways[i].append(second)
    if len(parts) == 2:  # most are, and there are thousands
        return np.concatenate(
            [turn for part, (way,) in zip(parts, ways, strict=True) for turn in (part[way:], part[: way + 1])]
        )
    there: list[Floats] = []
    back: list[Floats] = []
    for i, (part, way) in enumerate(zip(parts, ways, strict=True)):
        points = part
        if len(way) == 2 and way[0] > way[1]:
            # Walked the other way round, as in the labels that Ultralytics gives out for COCO.
            way, points = [len(part) - 1 - step for step in way], part[::-1]  # noqa: PLW2901
        points = np.concatenate([points[way[0] :], points[: way[0] + 1]])
        if i in (0, len(parts) - 1):
            there.append(points)
        else:
            there.append(points[: way[1] - way[0] + 1])
            back.append(points[way[1] - way[0] :])
    return np.concatenate(there + back[::-1])


def order_of_pairs(xy: Floats, begins: Ints, middles: Ints, ends: Ints) -> Ints:
    """The order of points in which `join_polygons` joins pairs of polygons, of all pairs one after another.

    `xy`, shape (points, 2), are finite; the polygons of a pair are from its `begins` to its `middles`, and from there
    to its `ends`. Two points of each pair come twice.
    """
    import numpy as np

    sizes = np.stack([middles - begins, ends - middles], axis=1)
    distances = sizes[:, 0] * sizes[:, 1]
    ways = np.zeros_like(sizes)
    for low, high in batches(np.concatenate([[0.0], np.cumsum(distances)]) / _AT_ONCE):
        if distances[low] > _AT_ONCE:
            ways[low] = _nearest(xy[begins[low] : middles[low]], xy[middles[low] : ends[low]])
            continue
        count, width = distances[low:high], np.repeat(sizes[low:high, 1], distances[low:high])
        first = np.cumsum(count) - count
        one, other = np.divmod(np.arange(int(count.sum())) - np.repeat(first, count), width)
        apart = xy.take(np.repeat(begins[low:high], count) + one, axis=0)  # a tenth of the time of `xy[…]`
        apart -= xy.take(np.repeat(middles[low:high], count) + other, axis=0)
        apart *= apart
        across = apart[:, 0] + apart[:, 1]
        nearest = np.flatnonzero(across == np.repeat(np.minimum.reduceat(across, first), count))
        nearest = nearest[np.searchsorted(nearest, first)]  # of several the first
        ways[low:high] = np.stack([one[nearest], other[nearest]], axis=1)
    # Each polygon is walked from its nearest point, all round, and to that point again.
    around, start = sizes.ravel(), np.stack([begins, middles], axis=1).ravel()
    turn = around + 1
    step = np.arange(int(turn.sum())) - np.repeat(np.cumsum(turn) - turn, turn)
    return np.asarray(np.repeat(start, turn) + (np.repeat(ways.ravel(), turn) + step) % np.repeat(around, turn))
