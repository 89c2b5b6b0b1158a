"""Numbers of label rows of decoded COCO annotations, and the word for what is lost of each.

The rules are in `formats.coco`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.base.terms import Task
from pipeline.formats._numbers import TOLERANCE, numbers_of_lists
from pipeline.formats._values import UnusableObject, mended, plain
from pipeline.formats.coco.placing import box_of
from pipeline.formats.coco.plain_polygons import Plain
from pipeline.formats.coco.run_lengths import read_rle
from pipeline.geometry import masks
from pipeline.geometry.polygons import clip_polygon, join_polygons, order_of_pairs
from pipeline.geometry.quadrilaterals import areas, four_corners, within

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools, Floats, Ints

#: Two shares that are the whole together may be this much more.
_ROUNDED = 1e-4

_ZEROS = (0.0, 0.0, 0.0, 0.0)

#: Tasks whose rows are outlines; those of the others have a box.
OUTLINED = frozenset({Task.SEGMENT, Task.OBB})


@dataclass
class DecodedRows:
    """Some annotations, decoded: those that could be, `image` is the index of each one's image in the part.

    `plain`, for tasks of outlines alone, is the text of plain polygons; None where what there is is decoded in `found`.
    `notes` are the counted words for what was put right of all rows of an image; empty where
    nothing was. `unsaid` are those for what rows do not say of each; empty where that is nothing. `boxes` are what
    `boxes_of` gives of them. Of those `unmasked`, by index, a mask was left out that no reader can decode.
    """

    image: Ints
    line: Ints
    raw: list[bytes]
    found: list[Any]
    label: list[str]
    class_id: list[int]
    plain: list[Plain | None]
    notes: Sequence[str | None] = ()
    unsaid: Sequence[str | None] = ()
    boxes: tuple[Floats, Bools, Bools] | None = None
    unmasked: set[int] = field(default_factory=set)


@dataclass
class Values:
    """Row i has ``values[starts[i]:starts[i + 1]]`` after its class where `is_row`; `words` are those of losses.

    `boxes`, cxcywhn, are of all: of what has no box, zeros. What is `bare` has nothing that readers of COCO JSON want.
    """

    values: Floats
    starts: Ints
    boxes: Floats
    is_row: Bools
    bare: Bools
    words: npt.NDArray[np.object_]


class _RowReasons:
    """The counted reason of each row that is no row of the task, the first one stays; and what others lose in part."""

    def __init__(self, count: int) -> None:
        self.word: npt.NDArray[np.object_] = np.full(count, None, object)
        self.partly: npt.NDArray[np.object_] = np.full(count, None, object)
        self.free = np.ones(count, np.bool_)

    def add(self, where: Bools, word: str) -> None:
        """Count the rows `where` as `word`, unless they have a reason already."""
        where = where & self.free
        self.word[where] = word
        self.free &= ~where

    def some(self, row: int, word: str | None) -> None:
        """Note that row `row` is kept, but not whole."""
        self.partly[row] = self.partly[row] or word


def values_of(rows: DecodedRows, sizes: Floats, task: Task, keypoints: tuple[int, int] | None) -> Values:
    """The numbers of rows of a `task`; `sizes`, shape (rows, 2), are width and height of each one's image in pixels."""
    losses = _RowReasons(len(rows.found))
    for i in rows.unmasked:
        losses.some(i, "damaged_mask")
    losses.add(np.array([bool(a.iscrowd) for a in rows.found], np.bool_), "crowd")
    box, has_box, has_area = rows.boxes or boxes_of(rows)
    without_box = ~has_box
    if task not in OUTLINED:
        for row in np.flatnonzero(losses.free & ~has_area).tolist():
            if (made := _box_of(rows.raw[row])) is not None:
                box[row], has_box[row], has_area[row] = made, True, True
                losses.some(row, "boxed")
        losses.add(~has_box, "no_box")
        losses.add(~has_area, "zero_area")
    box = _clipped(box, sizes, losses, needed=task not in OUTLINED)
    centre = _normalised(box, sizes)
    if task is Task.SEGMENT:
        values, starts = _segments(rows, sizes, losses)
        centre = _boxes_of_polygons(centre, ~(has_box & has_area), values, starts)
    elif task is Task.OBB:
        values, starts = _oriented(rows, sizes, losses)
        centre = _boxes_of_polygons(centre, losses.free, values, starts)
    elif task is Task.POSE:
        values, starts = _keypoints(rows, centre, sizes, keypoints, losses)
    else:
        starts = np.concatenate([[0], np.cumsum(np.where(losses.free, 4, 0))])
        values = centre[losses.free].ravel()
    for several in (rows.notes, rows.unsaid):
        for i, note in enumerate(several):
            losses.some(i, note)
    words = losses.word
    words[losses.free] = losses.partly[losses.free]
    bare = without_box & ~losses.free
    bare[bare] = [_is_bare(rows.raw[i]) for i in np.flatnonzero(bare).tolist()]
    return Values(values, starts, centre, losses.free, bare, words)


def boxes_of(rows: DecodedRows) -> tuple[Floats, Bools, Bools]:
    """The xywh boxes, shape (rows, 4), zeros if missing; whether a row has one, and whether that has an area."""
    given = [a.bbox if a.bbox is not None and len(a.bbox) == 4 else None for a in rows.found]
    numbers = itertools.chain.from_iterable([_ZEROS if b is None else b for b in given])
    box = np.fromiter(numbers, np.float64, 4 * len(given)).reshape(-1, 4)
    finite = np.isfinite(box).all(axis=1)
    box[~finite] = 0
    has_box = np.array([b is not None for b in given], np.bool_) & finite
    return box, has_box, (box[:, 2] > 0) & (box[:, 3] > 0)


def are_shares(rows: DecodedRows) -> Bools:
    """Which rows have boxes in shares of their image, as Azure writes them: all of it are within its first pixel."""
    box, _, has_area = rows.boxes or boxes_of(rows)
    within = (box[:, :2] >= 0) & (box[:, 2:] <= 1 + _ROUNDED - box[:, :2])
    shares = has_area & within.all(axis=1)
    if not shares.any():
        return shares
    pixels = rows.image[has_area & ~shares]
    parts = rows.image[shares & (box != np.floor(box)).any(axis=1)]  # a pixel is a box as well
    return np.asarray(shares & np.isin(rows.image, parts) & ~np.isin(rows.image, pixels), np.bool_)


def _box_of(raw: bytes) -> list[float] | None:
    """The box of the polygons of an annotation that has none of its own."""
    try:
        return box_of(plain(mended(raw, "")))
    except UnusableObject:
        return None


def _is_bare(raw: bytes) -> bool:
    """Whether an annotation without a box has no outline and no keypoints either."""
    try:
        data = plain(mended(raw, ""))
    except UnusableObject:
        return True
    return box_of(data) is None and not data.get("keypoints")


def _clipped(box: Floats, sizes: Floats, losses: _RowReasons, *, needed: bool) -> Floats:
    """The xywh boxes without what is beyond their image, where that is more than trainers let pass."""
    slack = TOLERANCE * sizes
    with np.errstate(over="ignore"):  # then it is infinite, and beyond
        low, high = box[:, :2], box[:, :2] + box[:, 2:]
    beyond = ((low < -slack) | (high > sizes + slack) | (box[:, 2:] > sizes + slack)).any(axis=1)
    if not beyond.any():
        return box
    corners = np.concatenate([low, high], axis=1)[beyond]
    corners = np.clip(corners, 0, np.tile(sizes[beyond], 2))
    box = box.copy()
    box[beyond] = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    if needed:
        losses.add(beyond & ((box[:, 2] <= 0) | (box[:, 3] <= 0)), "outside")
        for row in np.flatnonzero(beyond & losses.free).tolist():
            losses.some(row, "clipped")
    return box


def _normalised(box: Floats, sizes: Floats) -> Floats:
    """The same boxes as cxcywhn; the order of operations is that of Ultralytics' `convert_coco`."""
    centre = box.copy()
    centre[:, :2] += centre[:, 2:] / 2
    centre[:, [0, 2]] /= sizes[:, :1]
    centre[:, [1, 3]] /= sizes[:, 1:]
    return centre


def _boxes_of_polygons(boxes: Floats, lacking: Bools, values: Floats, starts: Ints) -> Floats:
    """`boxes` (cxcywhn) with those around the polygons where the file has none."""
    for row in np.flatnonzero(lacking & (np.diff(starts) > 0)).tolist():
        xy = values[starts[row] : starts[row + 1]].reshape(-1, 2)
        low, high = xy.min(axis=0), xy.max(axis=0)
        boxes[row] = *((low + high) / 2), *(high - low)
    return boxes


def _segments(rows: DecodedRows, sizes: Floats, losses: _RowReasons) -> tuple[Floats, Ints]:
    """One polygon a row, normalised and clipped."""
    joined: dict[int, Floats] = {}
    plain: dict[int, Plain] = {}
    for i in np.flatnonzero(losses.free).tolist():
        polygons = rows.plain[i]
        if polygons is None:
            parts, word = _parts(rows.found[i].segmentation, sizes[i])
            losses.some(i, word)
            if parts:
                joined[i] = join_polygons(parts).ravel()
        elif polygons[1]:
            plain[i] = polygons
            if not polygons[2]:
                losses.some(i, "short_part")
    values, counts_of = _joined(plain, joined, len(rows.found))
    losses.add(counts_of == 0, "no_polygon")
    starts = np.concatenate([[0], np.cumsum(counts_of)])
    return _within(values / np.repeat(sizes, counts_of // 2, axis=0).ravel(), starts, losses)


def _joined(plain: Mapping[int, Plain], joined: dict[int, Floats], count: int) -> tuple[Floats, Ints]:
    """The numbers of `count` rows, one polygon each, and how many each has: of `plain` ones and of those `joined`."""
    points = numbers_of_lists([text for text, _, _ in plain.values()]).reshape(-1, 2)
    at = np.fromiter(plain, np.int64, len(plain))
    parts = np.array([len(counts) for _, counts, _ in plain.values()], np.int64)
    sizes = np.array([sum(counts) for _, counts, _ in plain.values()], np.int64) // 2
    first = np.cumsum(sizes) - sizes
    pairs = (parts == 2) & bool(np.isfinite(points).all())
    for n in np.flatnonzero((parts > 1) & ~pairs).tolist():
        i = int(at[n])
        edges = itertools.accumulate((size // 2 for size in plain[i][1]), initial=int(first[n]))
        joined[i] = join_polygons([points[a:b] for a, b in itertools.pairwise(edges)]).ravel()
    here = (parts == 1) | pairs
    sizes = np.where(here, sizes + 2 * pairs, 0)
    if not here.all() or pairs.any():
        order = np.arange(int(sizes.sum())) + np.repeat(first - np.cumsum(sizes) + sizes, sizes)
        middles = first[pairs] + np.array([plain[i][1][0] // 2 for i in at[pairs].tolist()], np.int64)
        order[np.repeat(pairs, sizes)] = order_of_pairs(points, first[pairs], middles, (first + sizes - 2)[pairs])
        points = points.take(order, axis=0)
    counts_of = np.zeros(count, np.int64)
    counts_of[at] = 2 * sizes
    if not joined:
        return points.ravel(), counts_of
    others = np.zeros(count, np.bool_)
    for i, given in joined.items():
        counts_of[i], others[i] = len(given), True
    values = np.empty(int(counts_of.sum()))
    values[np.repeat(~others, counts_of)] = points.ravel()
    values[np.repeat(others, counts_of)] = np.concatenate([joined[i] for i in sorted(joined)])
    return values, counts_of


def _oriented(rows: DecodedRows, sizes: Floats, losses: _RowReasons) -> tuple[Floats, Ints]:
    """The four corners of each row, normalised, and moved into the image."""
    outlines = _outlines(rows, losses.free)
    found = {i: box for i, outline in outlines.items() if (box := four_corners(outline)) is not None}
    at = np.fromiter(found, np.int64, len(found))
    corners = np.array([found[i] for i in at.tolist()], np.float64).reshape(-1, 4, 2)
    lacking = np.ones(len(rows.found), np.bool_)
    lacking[at] = False
    losses.add(lacking, "no_four_corners")
    corners, cut, outside = within(
        corners / sizes[at, None, :], np.ones((len(at), 2)), np.full((len(at), 2), TOLERANCE)
    )
    for marked, word in ((outside, "outside"), (~(areas(corners) > 0), "zero_area")):
        lost = np.zeros(len(rows.found), np.bool_)
        lost[at[marked]] = True
        losses.add(lost, word)
    for i in at[cut].tolist():
        losses.some(i, "clipped")
    return corners[losses.free[at]].ravel(), np.concatenate([[0], np.cumsum(np.where(losses.free, 8, 0))])


def _outlines(rows: DecodedRows, wanted: Bools) -> dict[int, Floats]:
    """The outline, shape (points, 2), in pixels, of each of the `wanted` rows that is one polygon, by its index."""
    outlines: dict[int, Floats] = {}
    plain: dict[int, Plain] = {}
    for i in np.flatnonzero(wanted).tolist():
        polygon = rows.plain[i]
        if polygon is not None and len(polygon[1]) == 1 and polygon[2]:
            plain[i] = polygon
        elif polygon is None:
            given = rows.found[i].segmentation
            if isinstance(given, list) and len(given) == 1 and not len(given[0]) % 2:
                outlines[i] = np.array(given[0], np.float64).reshape(-1, 2)
    ends = itertools.accumulate((counts[0] for _, counts, _ in plain.values()), initial=0)
    numbers = numbers_of_lists([text for text, _, _ in plain.values()])
    for i, (begin, stop) in zip(plain, itertools.pairwise(ends), strict=True):
        outlines[i] = numbers[begin:stop].reshape(-1, 2)
    return dict(sorted(outlines.items()))


def _within(values: Floats, starts: Ints, losses: _RowReasons) -> tuple[Floats, Ints]:
    """Normalised polygons without what is beyond their image."""
    outside = ~((values >= -TOLERANCE) & (values <= 1 + TOLERANCE))
    if not outside.any():
        return values, starts
    row = np.unique(np.searchsorted(starts, np.flatnonzero(outside), side="right") - 1)
    parts = np.split(values, starts[1:-1])
    for i in row.tolist():
        polygon = parts[i].reshape(-1, 2)
        parts[i] = clip_polygon(polygon, 1, 1).ravel() if np.isfinite(polygon).all() else np.zeros(0)
        losses.some(i, "clipped")
    counts = np.array([len(part) for part in parts], np.int64)
    lost = np.zeros(len(counts), np.bool_)
    lost[row] = counts[row] < 6
    losses.add(lost, "outside")
    return np.concatenate([part for part, bad in zip(parts, lost.tolist(), strict=True) if not bad] or [np.zeros(0)]), (
        np.concatenate([[0], np.cumsum(np.where(lost, 0, counts))])
    )


def _parts(given: Any, size: Floats) -> tuple[list[Floats], str | None]:
    """The polygons of an object, shape (points, 2), in pixels of its image of `size`; the word for what they lack."""
    if isinstance(given, dict):
        runs = read_rle(given)
        if runs is None:
            return [], None
        outer, holes = masks.outlines(runs, masks.MOST_PARTS)
        scale = size / runs.shape[::-1]  # a mask may be that of a smaller image
        return [part * scale for part in outer] if (scale != 1).any() else outer, "holes" if holes else None
    good = [np.array(p, np.float64).reshape(-1, 2) for p in given or () if len(p) >= 6 and not len(p) % 2]
    return good, "short_part" if good and len(good) < len(given) else None


def _keypoints(
    rows: DecodedRows, centre: Floats, sizes: Floats, keypoints: tuple[int, int] | None, losses: _RowReasons
) -> tuple[Floats, Ints]:
    """Box and keypoints of each row, normalised; each has x, y and how visible it is, zeros where it is not labelled.

    So are those beyond the image: trainers drop an image that has one.
    """
    width = 3 * keypoints[0] if keypoints else 0
    given = [a.keypoints or () for a in rows.found]
    counted = [any(v > 0 for v in k[2::3]) and a.num_keypoints != 0 for a, k in zip(rows.found, given, strict=True)]
    losses.add(~np.array(counted, np.bool_), "no_keypoints")
    losses.add(np.array([len(k) != width for k in given], np.bool_), "other_keypoints")
    free = np.flatnonzero(losses.free)
    points = np.array([given[i] for i in free.tolist()], np.float64).reshape(len(free), width // 3, 3)
    points[:, :, :2] /= sizes[free, None]
    unlabelled = ~(points[:, :, 2] > 0)
    inside = ((points[:, :, :2] >= -TOLERANCE) & (points[:, :, :2] <= 1 + TOLERANCE)).all(axis=2)
    cut = ~unlabelled & ~inside
    points[unlabelled | cut] = 0
    for i in np.flatnonzero(cut.any(axis=1)).tolist():
        losses.some(int(free[i]), "keypoint_outside")
    lost = np.zeros(len(losses.free), np.bool_)
    seen = (points[:, :, 2] > 0).any(axis=1)
    lost[free[~seen]] = True
    losses.add(lost, "no_keypoints")
    values = np.concatenate([centre[free], points.reshape(len(free), width)], axis=1)[seen].ravel()
    return values, np.concatenate([[0], np.cumsum(np.where(losses.free, 4 + width, 0))])
