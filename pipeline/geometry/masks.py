"""Masks as run lengths, COCO's way: polygons to masks, masks to polygons, areas and boxes; pure.

*Runs* are what COCO calls uncompressed ``counts``: how many pixels are outside, inside, outside, … the object, int64,
column by column from the top left, beginning with those outside (perhaps 0). *Compressed* is COCO's string of the same.
The grammar is that of `pycocotools` (``common/maskApi.c``); a polygon covers the same pixels here and there.

It is not used itself since it trusts what it gets: version 2.0.11 ends the process (SIGSEGV) for a polygon with a NaN
or with a coordinate of 1e9, and never returns from a union with a string that it does not understand. A polygon of 24
corners on 640 x 480 pixels takes 14 µs here among many, and 18 µs there (2026-11-29, CPython 3.11); one alone 260 µs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.geometry import polygon_pixels
from pipeline.geometry.batches import batches

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools, Floats, Ints

#: Pixels of all images whose polygons are taken at once, which are counted in 64 bits.
_MOST_PIXELS = 2.0**60

#: A mask of more polygons is no drawing, and its row would have megabytes.
MOST_PARTS = 10_000

#: Edges of pixels along all outlines of a mask: more are no drawing, and each takes some 100 bytes.
MOST_EDGES = 2_000_000


def of_polygon(xy: Floats, height: int, width: int) -> Ints:
    """Runs of the pixels that a polygon covers; `xy` has shape (points, 2), in pixels, three points or more."""
    import numpy as np

    turns, _ = polygon_pixels.turns(xy, np.array([0, len(xy)]), np.array([height]), np.array([width]))
    return _between(turns, height * width)


def areas_of_polygons(xy: Floats, starts: Ints, heights: Ints, widths: Ints) -> Ints:
    """Pixels that each of many polygons covers, all at once: what `area` is of the runs of each.

    `xy` has shape (points, 2), in pixels, of all polygons one after another; `starts` is where each begins, and has the
    end of the last, too. `heights` and `widths` are those of the image of each.
    """
    import numpy as np

    found = np.zeros(len(starts) - 1, np.int64)
    for here, turns, ends in _turns(xy, starts, heights, widths):
        inside = np.concatenate([[0], np.cumsum(turns[1::2] - turns[::2])])
        found[here] = np.diff(inside[ends // 2])  # each polygon has an even number: in and out again
    return found


def areas_of_unions(xy: Floats, starts: Ints, parts: Ints, heights: Ints, widths: Ints) -> Ints:
    """Pixels that each of many objects of some polygons covers: what `area` is of the `union` of the runs of each.

    `xy` and `starts` are as in `areas_of_polygons`; `parts` is where in `starts` the polygons of each object begin, and
    has the end of the last, too. `heights` and `widths` are those of the image of each object.
    """
    import numpy as np

    found, counts = np.zeros(len(parts) - 1, np.int64), np.diff(parts)
    if (counts == 1).all():
        return areas_of_polygons(xy, starts, heights, widths)
    pixels = np.concatenate([[0.0], np.cumsum(heights.astype(np.float64) * widths * counts)]) / _MOST_PIXELS
    turning = polygon_pixels.most_turns(xy, starts, widths)[parts]
    for first, last in batches(turning + pixels):
        own, some = starts[parts[first] : parts[last] + 1], counts[first:last]
        height, width = heights[first:last], widths[first:last]
        base = np.concatenate([[0], np.cumsum(height * width + 1)])  # pixels are counted by object, not by polygon
        turns = _turns_in_objects(xy[own[0] : own[-1]], own - own[0], height, width, some, base[:-1])
        order = np.argsort(turns, kind="stable")
        depth, at = np.cumsum(np.where(order % 2 == 0, 1, -1)), turns[order]  # each polygon turns in, out, in, out, …
        inside = np.concatenate([[0], np.cumsum(np.diff(at, append=at[-1:]) * (depth > 0))])
        found[first:last] = np.diff(inside[np.searchsorted(at, base)])
    return found


def _turns_in_objects(xy: Floats, starts: Ints, heights: Ints, widths: Ints, counts: Ints, base: Ints) -> Ints:
    """Where the polygons of objects turn in and out, each object's `counts` of them counted from its `base`."""
    import numpy as np

    heights, widths, base = (np.repeat(values, counts) for values in (heights, widths, base))
    sizes, found = heights * widths + 1, [np.zeros(0, np.int64)]
    for here, turns, ends in _turns(xy, starts, heights, widths):
        before = np.cumsum(sizes[here]) - sizes[here]
        found.append(turns + np.repeat(base[here] - before, np.diff(ends)))
    return np.concatenate(found)


def _turns(xy: Floats, starts: Ints, heights: Ints, widths: Ints) -> Iterator[tuple[slice, Ints, Ints]]:
    """Batches of polygons, each with their `polygon_pixels.turns`, a step of which costs what it has so far."""
    import numpy as np

    pixels = np.concatenate([[0.0], np.cumsum(heights.astype(np.float64) * widths)]) / _MOST_PIXELS
    for first, last in batches(polygon_pixels.most_turns(xy, starts, widths) + pixels):
        here, own = slice(first, last), starts[first : last + 1]
        yield here, *polygon_pixels.turns(xy[own[0] : own[-1]], own - own[0], heights[here], widths[here])


def _between(positions: Ints, size: int) -> Ints:
    """Runs that turn at each of the sorted `positions`; two turns at one position cancel out."""
    import numpy as np

    unique, counts = np.unique(positions, return_counts=True)
    turns = unique[counts % 2 == 1]
    runs: Ints = np.diff(turns[turns < size], prepend=0, append=size).astype(np.int64)
    return runs


def of_mask(mask: Bools) -> Ints:
    """Runs of a mask of shape (height, width)."""
    import numpy as np

    flat = np.asarray(mask, np.bool_).ravel(order="F")
    turns = np.flatnonzero(np.diff(flat, prepend=False))
    return np.diff(turns, prepend=0, append=len(flat)).astype(np.int64)


def of_patch(patch: Bools, left: int, top: int, height: int, width: int) -> Ints:
    """Runs of a mask of which `patch`, shape (rows, columns), is all that is inside; it is within `height, width`."""
    import numpy as np

    turns = np.diff(np.pad(patch.T, ((0, 0), (1, 1))).astype(np.int8), axis=1)  # a row a column of the image
    column, row = np.nonzero(turns)
    return _between((left + column) * height + top + row, height * width)


def checked(runs: Sequence[int] | Ints, height: int, width: int) -> Ints:
    """`runs`; raises `ValueError` where they are not of a mask of that size."""
    import numpy as np

    lengths = np.asarray(runs, np.int64)
    if (lengths < 0).any() or (lengths > height * width).any() or lengths.sum() != height * width:
        raise ValueError(f"run lengths add up to {int(lengths.sum())}, not to {height} x {width} pixels")
    return lengths


def to_mask(runs: Sequence[int] | Ints, height: int, width: int) -> Bools:
    """The mask, shape (height, width), of `runs`; raises `ValueError` where they are not of that size."""
    import numpy as np

    lengths = checked(runs, height, width)
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape((height, width), order="F")


def to_patch(runs: Ints, height: int, box: tuple[int, int, int, int], step: int = 1) -> Bools:
    """Each `step`-th pixel of the part within the xywh `box` of the mask of `runs`, however large that is."""
    import numpy as np

    left, top, columns, rows = box
    x, y = np.arange(left, left + columns, step), np.arange(top, top + rows, step)
    run = np.searchsorted(np.cumsum(runs), x * height + y[:, None], side="right")
    return np.asarray(run % 2 == 1)


def union(several: Sequence[Ints]) -> Ints:
    """Runs of what is inside of any of `several`, all of one size."""
    import numpy as np

    if len(several) == 1:
        return several[0]
    size = int(several[0].sum())
    edges = [np.cumsum(runs)[: len(runs) // 2 * 2] for runs in several]
    positions = np.concatenate([e[0::2] for e in edges] + [e[1::2] for e in edges])
    signs = np.repeat([1, -1], [sum(len(e[0::2]) for e in edges), sum(len(e[1::2]) for e in edges)])
    order = np.lexsort((-signs, positions))  # at one position what begins comes before what ends
    depth = np.cumsum(signs[order])
    before = depth - signs[order]
    return _between(np.sort(positions[order][(depth == 0) | (before == 0)]), size)


def area(runs: Ints) -> int:
    """Pixels inside."""
    return int(runs[1::2].sum())


def box(runs: Ints, height: int) -> tuple[int, int, int, int]:
    """The xywh box, in pixels, around what is inside; zeros where nothing is."""
    import numpy as np

    ends = np.cumsum(runs)
    begin, stop = ends[0::2][: len(ends) // 2], ends[1::2]
    begin, stop = begin[stop > begin], stop[stop > begin]
    if not len(begin):
        return 0, 0, 0, 0
    left, right = int(begin[0] // height), int((stop[-1] - 1) // height)
    if ((stop - 1) // height > begin // height).any():  # a run over a column's end fills from the top to the bottom
        top, bottom = 0, height - 1
    else:
        top, bottom = int((begin % height).min()), int(((stop - 1) % height).max())
    return left, top, right - left + 1, bottom - top + 1


def corners(runs: Ints, height: int) -> Floats:
    """Corners of pixels inside, shape (points, 2), whose hull is that of all that is inside; none where nothing is."""
    import numpy as np

    ends = np.cumsum(runs)
    begin, last = ends[0::2][: len(ends) // 2], ends[1::2] - 1
    begin, last = begin[last >= begin], last[last >= begin]
    wraps = begin // height != last // height  # over a column's end: from there to the bottom, and on from the top
    bottom, top = begin[wraps] // height * height + height - 1, last[wraps] // height * height
    pixels = np.stack(np.divmod(np.concatenate([begin, last, bottom, top]), height), axis=1)
    return np.concatenate([pixels + corner for corner in ((0, 0), (0, 1), (1, 0), (1, 1))]).astype(np.float64)


def compress(runs: Ints) -> str:
    """COCO's string: from the third on, each count less the one before the last, in 5 bits a character."""
    text = bytearray()
    counts = [int(c) for c in runs]
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            low, value = value & 31, value >> 5
            more = value != (-1 if low & 16 else 0)
            text.append((low | 32 if more else low) + 48)
            if not more:
                break
    return text.decode("ascii")


def decompress(text: str | bytes) -> Ints:
    """The runs of COCO's string; raises `ValueError` for an invalid one."""
    import numpy as np

    counts: list[int] = []
    value = shift = 0
    for byte in text.encode() if isinstance(text, str) else text:
        low = byte - 48
        if not 0 <= low < 64 or shift > 60:
            raise ValueError("no run lengths in COCO's compressed form")
        value |= (low & 31) << shift
        shift += 5
        if not low & 32:
            if low & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    if shift or any(c < 0 for c in counts):
        raise ValueError("no run lengths in COCO's compressed form")
    return np.array(counts, np.int64)


def outlines(mask: Bools, most: int | None = None) -> tuple[list[Floats], list[Floats]]:
    """Polygons along the pixels' edges of a mask of shape (height, width): those around its parts, and its holes'.

    Each has shape (points, 2), x and y in pixels, corners only; parts that touch by a corner are two. The outer ones
    less the holes cover exactly the mask's pixels. Of a mask with more than `most` polygons there are none, and of one
    whose edges are more than `MOST_EDGES`.
    """
    import numpy as np

    mask = np.asarray(mask, np.bool_)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return [], []
    first = np.array([columns[0], rows[0]], np.float64)
    padded = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)  # most objects are small
    width = padded.shape[1] - 1  # of the grid of corners, which are numbered row by row
    across = padded[1:, 1:-1].astype(np.int8) - padded[:-1, 1:-1]  # edges along x, between a row and the one above
    along = padded[1:-1, 1:].astype(np.int8) - padded[1:-1, :-1]  # edges along y, between a column and its left one
    if int(np.count_nonzero(across)) + int(np.count_nonzero(along)) > MOST_EDGES:
        return [], []
    # Every edge is walked with the inside on its right hand: east above it, west below, south on its right, north left.
    begins, ends, ways = [], [], []
    for grid, sign, way in ((across, 1, 0), (across, -1, 2), (along, -1, 1), (along, 1, 3)):
        y, x = np.nonzero(grid == sign)
        one, other = y * width + x, y * width + x + (1 if grid is across else width)
        begins.append(one if way < 2 else other)
        ends.append(other if way < 2 else one)
        ways.append(np.full(len(y), way))
    outer: list[Floats] = []
    holes: list[Floats] = []
    for loop in _loops(np.concatenate(begins), np.concatenate(ends), np.concatenate(ways), width):
        (outer if _turns_right(loop) else holes).append(np.array(loop, np.float64) + first)
        if most is not None and len(outer) + len(holes) > most:
            return [], []
    return outer, holes


def _loops(begin: Ints, end: Ints, way: Ints, width: int) -> Iterator[list[tuple[int, int]]]:
    """Closed walks over edges, by their corners; `begin` and `end` number corners, `way` is east, south, west, north.

    Where two parts touch by a corner there are two ways on: the right hand stays on the same part.
    """
    import numpy as np

    order = np.argsort(begin * 4 + way)
    keys = (begin * 4 + way)[order]
    right = end * 4 + (way + 1) % 4
    at = np.minimum(np.searchsorted(keys, right), len(keys) - 1)
    following = order[np.where(keys[at] == right, at, np.searchsorted(keys, end * 4))]
    _, seen_first, corner_of = np.unique(begin, return_index=True, return_inverse=True)
    starts = np.argsort(seen_first[corner_of], kind="stable")  # the edges of a corner one after another
    turns = np.ones(len(way), np.bool_)
    turns[following] = way[following] != way
    # Views, for a list would have an object for each number.
    turning, corners, closing, onward = (array.data for array in (turns, begin, end, following))
    left = bytearray(b"\1") * len(way)
    for start in starts.data:
        if not left[start]:
            continue
        edge, loop = start, []
        while True:
            left[edge] = 0
            if edge == start or turning[edge]:
                loop.append(edge)
            if closing[edge] == corners[start]:
                break
            edge = onward[edge]
        if len(loop) > 1 and way[edge] == way[start]:
            loop.pop(0)  # the walk began in the middle of a side
        yield [(corners[one] % width, corners[one] // width) for one in loop]


def _turns_right(loop: list[tuple[int, int]]) -> bool:
    """Whether a walk goes clockwise on the screen (y downwards): around a part, not a hole."""
    ends = [*loop[1:], loop[0]]
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(loop, ends, strict=True)) > 0
