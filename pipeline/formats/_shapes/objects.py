"""Objects of shapes as rows: boxes, polygons, oriented boxes and keypoints. The rules are in `formats.labelme`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from pipeline.base.terms import NO_CLASS, Task
from pipeline.formats._drawn import Drawn
from pipeline.formats._framing import Frame
from pipeline.formats._numbers import TOLERANCE
from pipeline.formats._shapes.keypoints import ShapeObject, keypoints_of
from pipeline.formats._shapes.outlines import ShapeOutline
from pipeline.formats._unsaid import unsaid
from pipeline.geometry import masks
from pipeline.geometry.polygons import join_polygons
from pipeline.geometry.quadrilaterals import areas, four_corners, within

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools, Floats

#: Points of objects whose rows are made at once: the more, the less time each takes, but they are in memory.
_AT_ONCE = 50_000

#: Numbers from which on, and up to which, all encoders of JSON write the same text.
_LEAST, _MOST = 1e-4, 1e16


@dataclass(slots=True)
class _Placed:
    """An object of the file of index `file`: its shapes as one, in the image of `frame`.

    `nothing` is the counted word for what is nothing in any target; `points` and `beyond` are those of `keypoints_of`.
    """

    file: int
    thing: ShapeObject
    whole: ShapeOutline
    frame: Frame
    nothing: str | None
    points: Floats | None = None
    beyond: bool = False

    @property
    def size(self) -> int:
        """How many numbers its outlines have, to know how much memory objects take."""
        runs = 0 if self.whole.runs is None else len(self.whole.runs)
        return runs + sum(map(len, [*self.whole.parts, *self.whole.holes]))


class RowTable:
    """Rows of objects to `task`, made some thousand at a time.

    `numbers` is how coordinates are written, `keypoints` the names of keypoints, in their order.
    """

    def __init__(self, task: Task, numbers: str, keypoints: Sequence[str] = ()) -> None:
        self._rules = task, numbers, keypoints
        self._made = [_rows([], *self._rules)]
        self._waiting: list[_Placed] = []
        self._size = 0

    def add(self, file: int, thing: ShapeObject, frame: Frame) -> None:
        """Add the row of an object of the file of this index."""
        whole = ShapeOutline.of_several(thing.shapes)
        placed = _Placed(file, thing, whole, frame, _nothing_of(thing, whole))
        self._waiting.append(placed)
        self._size += 1 + placed.size
        if self._size >= _AT_ONCE:
            self._make()

    def table(self) -> pa.Table:
        """All of them, see `Parsed.rows`."""
        self._make()
        return pa.concat_tables(self._made).combine_chunks()

    def _make(self) -> None:
        self._made.append(_rows(self._waiting, *self._rules))
        self._waiting, self._size = [], 0


class _Lost(Exception):  # noqa: N818 - not an error
    """An object that is in no row; the counted word."""


def _rows(several: Sequence[_Placed], task: Task, numbers: str, keypoints: Sequence[str]) -> pa.Table:
    """The rows of objects, see `RowTable`."""
    corners = np.array([p.whole.box for p in several], np.float64).reshape(-1, 4)
    sizes = np.array([(p.frame.width, p.frame.height) for p in several], np.float64).reshape(-1, 2)
    low, high = corners[:, :2], corners[:, 2:]
    boxes = np.concatenate([(low + high) / 2 / sizes, (high - low) / sizes], axis=1)
    for placed in several if keypoints else ():
        placed.points, placed.beyond = keypoints_of(placed.thing, keypoints, placed.frame.width, placed.frame.height)
    values: list[Floats] = []
    losses: list[str | None] = []
    for placed, box in zip(several, boxes, strict=True):
        try:
            found, word = _values(placed, task, box)
        except _Lost as lost:
            found, word = np.zeros(0), str(lost)
        values.append(found)
        losses.append(word)
    lengths = np.array([len(found) for found in values], np.int64)
    flat = np.concatenate([np.zeros(0), *values])
    drawn = Drawn(
        file=[p.file for p in several],
        line=[p.thing.line for p in several],
        label=pa.array([p.thing.label for p in several], pa.string()),
        boxes=boxes,
        is_row=lengths > 0,
        raw=pa.array(_raws(several, np.concatenate([low, high - low], axis=1)), pa.binary()),
        loss=losses,
    )
    return drawn.table(numbers, flat, np.cumsum([0, *lengths.tolist()]))


def _values(placed: _Placed, task: Task, box: Floats) -> tuple[Floats, str | None]:
    """The numbers of the row of an object, and the counted word where it is not as it was drawn; raises `_Lost`.

    `box` is that of the row; to task obb it becomes that around the four corners.
    """
    thing, whole, size = placed.thing, placed.whole, (placed.frame.width, placed.frame.height)
    if placed.nothing is not None:
        raise _Lost(placed.nothing)
    left, top, right, bottom = whole.box
    if right <= left or bottom <= top:
        raise _Lost("zero_area")
    if "iscrowd" in thing.extras:
        raise _Lost("crowd")
    word = _partly(thing, whole, task)
    if task is Task.DETECT:
        return box, word
    if task is Task.SEGMENT:
        return (join_polygons(whole.parts) / size).ravel(), word
    if task is Task.OBB:
        return _oriented(placed, box, word)
    if placed.points is None or not placed.points[:, 2].any():
        raise _Lost("no_keypoints")
    values = np.concatenate([box, (placed.points / (*size, 1)).ravel()])
    return values, "keypoint_outside" if placed.beyond else word


def _nothing_of(thing: ShapeObject, whole: ShapeOutline) -> str | None:
    """The counted word for what is nothing in any target; None for an object."""
    if thing.label in NO_CLASS:
        return "no_class"
    if not whole.has_area:
        return "keypoint_alone" if thing.alone else "no_area"
    return None if whole.parts else "outside"


def _oriented(placed: _Placed, box: Floats, word: str | None) -> tuple[Floats, str | None]:
    """See `_values`, of an object of exactly four corners, each within the image."""
    given = placed.whole.given
    corners = four_corners(given) if given is not None else None
    if corners is None:
        raise _Lost("no_four_corners")
    size = np.array([[placed.frame.width, placed.frame.height]], np.float64)
    (moved,), (cut,), (outside,) = within(corners[None] / size, np.ones((1, 2)), np.full((1, 2), TOLERANCE))
    if outside or not areas(moved[None])[0] > 0:
        raise _Lost("outside" if outside else "zero_area")
    low, high = moved.min(axis=0), moved.max(axis=0)
    box[:] = np.concatenate([(low + high) / 2, high - low])
    return moved.ravel(), "clipped" if cut else word if word != "clipped" else _unsaid(placed.thing)


def _partly(thing: ShapeObject, whole: ShapeOutline, task: Task) -> str | None:
    """The counted word for an object that is taken, but not as it was drawn."""
    if task is Task.SEGMENT and whole.holes:
        return "holes"
    if thing.note is not None:
        return thing.note
    if whole.cut:
        return "clipped"
    if task is Task.DETECT and whole.oriented:
        return "oriented"
    return "joined" if task is Task.SEGMENT and len(whole.parts) > 1 else _unsaid(thing)


def _unsaid(thing: ShapeObject) -> str | None:
    """The counted word for what a row does not say: a group is its object, unless that of other objects as well."""
    if not thing.extras:
        return "attributes" if thing.related else None
    word = unsaid({name: value for name, value in thing.extras.items() if name not in ("group_id", "iscrowd")})
    return word or ("attributes" if thing.related else None)


def _raws(several: Sequence[_Placed], boxes: Floats) -> list[bytes | None]:
    """COCO annotation objects without what only a whole dataset knows: id, image_id and category_id.

    `boxes`, shape (objects, 4), are in pixels, as xywh. What is nothing in any target has none.
    """
    made: list[bytes | None] = [None] * len(several)
    there = [i for i, placed in enumerate(several) if placed.nothing is None]
    plain: list[bool] = _plain(boxes[there]).tolist()
    found = _segmentations([several[i] for i in there])
    for i, box, sure, (segmentation, area) in zip(there, boxes[there].tolist(), plain, found, strict=True):
        placed = several[i]
        more = {"iscrowd": 0, **placed.thing.extras}
        if placed.points is not None:
            seen = int((placed.points[:, 2] > 0).sum())
            more |= {"keypoints": placed.points.ravel().tolist(), "num_keypoints": seen}
        rest = as_json(more)[1:] if len(more) > 1 or more["iscrowd"] else b'"iscrowd":0}'
        made[i] = b'{"segmentation":%b,"area":%d,"bbox":%b,%b' % (segmentation, area, _encoded(box, sure), rest)
    return made


def _segmentations(several: Sequence[_Placed]) -> Iterator[tuple[bytes, int]]:
    """COCO's ``segmentation`` and ``area``, the pixels that each covers: polygons, or RLE where any shape is a mask."""
    outlined = [placed for placed in several if placed.whole.runs is None]
    polygons = [polygon for placed in outlined for polygon in placed.whole.drawn]
    xy = np.concatenate([np.zeros((0, 2)), *polygons])
    starts = np.cumsum([0, *map(len, polygons)])
    parts = np.cumsum([0, *(len(placed.whole.drawn) for placed in outlined)])
    sizes = np.array([(placed.frame.height, placed.frame.width) for placed in outlined], np.int64).reshape(-1, 2)
    covered = iter(masks.areas_of_unions(xy, starts, parts, sizes[:, 0], sizes[:, 1]).tolist())
    numbers: list[float] = xy.ravel().tolist()
    doubtful = set((np.searchsorted(starts, np.flatnonzero(~_plain(xy)), side="right") - 1).tolist())
    spans = list(pairwise((2 * starts).tolist()))
    polygon = 0
    for placed in several:
        if placed.whole.runs is None:
            own = range(polygon, polygon := polygon + len(placed.whole.drawn))
            outline = [numbers[slice(*spans[i])] for i in own]
            yield _encoded(outline, doubtful.isdisjoint(own)), next(covered)
            continue
        height, width = placed.frame.height, placed.frame.width
        every = [masks.of_polygon(p, height, width) for p in placed.whole.drawn]
        runs = masks.union([*every, placed.whole.runs])
        yield as_json({"size": [height, width], "counts": masks.compress(runs)}), masks.area(runs)


def _plain(rows: Floats) -> Bools:
    """In which `rows` all numbers are such that every encoder of JSON writes them alike, without an exponent."""
    return np.asarray(((rows == 0) | ((rows >= _LEAST) & (rows < _MOST))).all(axis=1), np.bool_)


def _encoded(numbers: Any, plain: bool) -> bytes:
    """Lists of numbers as Python writes them; where all are plain, msgspec does so in a fifth of the time."""
    return msgspec.json.encode(numbers) if plain else as_json(numbers)


def as_json(data: Any) -> bytes:
    """`data` as JSON, in UTF-8."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")  # a lone surrogate, which JSON can say and UTF-8 cannot
