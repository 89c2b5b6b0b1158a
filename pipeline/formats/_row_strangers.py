"""Rows that look like polygons but are not: pose rows, and predictions with confidences and tracks.

Ultralytics' ``save_txt`` writes ``class x y w h [confidence] [track]``, and the same after polygons; every pose row of
keypoints ``x y`` has as many tokens as some polygon. Ultralytics takes it for one where the YAML has no ``kpt_shape``.
What gives a prediction away is its last number, which is whole; what gives away rows of pose is that all are as long,
their points are in the box that they begin with, and are no outline with it: its size is no point near the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from pipeline.base.terms import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.base.arrays import Bools, Bytes, Floats, Ints

#: Rows of pose that are checked for crossing lines, which takes time: one in three has some even of three keypoints.
_SOME = 100

_NEAR = 0.02

#: Fewer rows of seven numbers may be triangles by chance, and Ultralytics takes them for such.
_FEW = 3

#: A triangle may have a point this many times as far from the others as those are from each other.
_SLENDER = 3

#: Twice the area of a triangle, of which a corner is on the side across from it but for rounding.
_TOUCHING = 1e-7

_DOT, _E, _BIG_E = b".eE"


class TokensOfRows(Protocol):
    """What is checked of `_label_rows.RowTokens`."""

    buffer: Bytes
    start: Ints
    end: Ints
    first: Ints
    count: Ints
    file: Ints
    value: Floats

    def text(self, row: int) -> str:
        """The row, shortened."""


class ReasonsOfRows(Protocol):
    """What is reported of bad rows."""

    def add(self, marked: Bools, reason: str, detail: Callable[[int], str]) -> None:
        """Mark rows as bad."""


def check_strangers(rows: TokensOfRows, reasons: ReasonsOfRows, task: Task, keypoints: tuple[int, int] | None) -> None:
    """Mark rows of task detect or segment that are of predictions or of pose, each with what it is and the cure."""
    if keypoints is not None:
        pose = rows.count == 5 + keypoints[0] * keypoints[1]
        reasons.add(
            pose,
            "pose",
            lambda r: f"{rows.text(r)} is a pose row (kpt_shape {list(keypoints)}), no polygon; take task pose",
        )
    doubtful = (rows.count >= 7) & (rows.count % 2 == 1)
    if not doubtful.any():
        return
    tracks = _tracks(rows, doubtful, task)
    reasons.add(
        tracks,
        "tracks",
        lambda r: (
            f"{rows.text(r)} ends with a track's number: a prediction (save_txt), no "
            "polygon; remove it and the confidence"
        ),
    )
    if keypoints is None:
        shape = _pose_shape(rows, doubtful & ~tracks)
        if shape is not None:
            reasons.add(
                doubtful,
                "pose",
                lambda r: (
                    f"{rows.text(r)} looks like a pose row (kpt_shape {list(shape)}): its "
                    "points are in the box before them; name a YAML that has kpt_shape"
                ),
            )


def _tracks(rows: TokensOfRows, doubtful: Bools, task: Task) -> Bools:
    """Rows that end with the number of a track."""
    marked = np.zeros(len(rows.first), np.bool_)
    some = np.flatnonzero(doubtful)
    last = rows.first[some] + rows.count[some] - 1
    value = rows.value[last]
    with np.errstate(invalid="ignore"):
        whole = (value == np.floor(value)) & (value >= 0)
    some, last, value = some[whole], last[whole], value[whole]
    if not len(some):
        return marked
    plain = np.array(
        [
            not {_DOT, _E, _BIG_E} & set(rows.buffer[a:b].tolist())
            for a, b in zip(rows.start[last].tolist(), rows.end[last].tolist(), strict=True)
        ]
    )
    some, value = some[plain], value[plain]
    marked[some[value >= 2]] = True
    marked &= ~_has_visibility(rows, marked)  # 2 is that of a keypoint, see `_pose_shape`
    marked[some[np.isin(rows.file[some], rows.file[marked])]] = True
    # Track 1: its number could be a coordinate. A box with it has seven tokens, and is a box.
    few = some[(value < 2) & (rows.count[some] == 7)]
    long = np.unique(rows.file[rows.count > 7])
    if task is Task.DETECT or bool((rows.count == 7).all()):
        marked[few[_is_box(rows, few) & ~np.isin(rows.file[few], long)]] = True
    return marked


def _is_no_outline(values: Floats) -> bool:
    """Whether one of the rows, shape (rows, numbers), is no outline: a point is far from all others, or lines cross.

    The point is the second, which is the size of the box where rows are those of pose, and has nothing to do with where
    others are. Of COCO's polygons whose points are in such a box that is so of 1 in 150, of its poses of 9 in 10.
    """
    points = values.reshape(len(values), -1, 2)
    others = np.delete(points, 1, axis=1)
    low, high = others.min(axis=1), others.max(axis=1)
    room = (high - low).max(axis=1, keepdims=True)  # a square on its corner has its second point as far as that
    room *= _SLENDER if points.shape[1] == 3 else 1
    if bool(((points[:, 1] < low - room) | (points[:, 1] > high + room)).any()):
        return True
    return points.shape[1] > 4 and any(_crosses_itself(outline) for outline in points[:_SOME])


def _crosses_itself(points: Floats) -> bool:
    """Whether two sides of a closed outline, shape (n, 2), cross."""
    ends = np.roll(points, -1, axis=0)

    def side(of: Floats) -> Floats:
        """On which side of each line each point of `of` is, shape (lines, points)."""
        along, to = (ends - points)[:, None], of[None] - points[:, None]
        sides = along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0]
        return np.where(np.abs(sides) < _TOUCHING, 0.0, np.sign(sides))

    apart = side(points) * side(ends) < 0
    return bool((apart & apart.T).any())


def _is_box(rows: TokensOfRows, some: Ints) -> Bools:
    """Whether four numbers after the class are a box within the image."""
    cx, cy, w, h = (rows.value[rows.first[some] + i] for i in range(1, 5))
    with np.errstate(invalid="ignore"):
        inside = [(c - s / 2 >= -_NEAR) & (c + s / 2 <= 1 + _NEAR) & (s > 0) for c, s in ((cx, w), (cy, h))]
    return np.asarray(inside[0] & inside[1], np.bool_)


def _has_visibility(rows: TokensOfRows, marked: Bools) -> Bools:
    """Which of the `marked` rows are of three values a keypoint: every third is 0, 1 or 2."""
    found = np.zeros(len(marked), np.bool_)
    for row in np.flatnonzero(marked & ((rows.count - 5) % 3 == 0) & (rows.count > 10)).tolist():
        every = rows.value[rows.first[row] + 7 : rows.first[row] + rows.count[row] : 3]
        found[row] = bool(np.isin(every, (0, 1, 2)).all())
    return found


def _pose_shape(rows: TokensOfRows, doubtful: Bools) -> tuple[int, int] | None:
    """The kpt_shape of a collection whose rows are all of pose; None for polygons."""
    some = np.flatnonzero(doubtful)
    count = int(rows.count[some[0]]) if len(some) else 0
    if len(some) < (_FEW if count == 7 else 1) or not (rows.count == count).all() or not _is_box(rows, some).all():
        return None
    values = rows.value[rows.first[some, None] + np.arange(1, count)[None, :]]
    cx, cy, w, h = (values[:, i, None] for i in range(4))
    for step in (3, 2):
        if (count - 5) % step:
            continue
        x, y = values[:, 4::step], values[:, 5::step]
        seen = (x != 0) | (y != 0)
        if step == 3 and not np.isin(values[:, 6::step], (0, 1, 2)).all():
            continue
        within = (np.abs(x - cx) <= w / 2 + _NEAR) & (np.abs(y - cy) <= h / 2 + _NEAR)
        if (within | ~seen).all() and (step == 3 or _is_no_outline(values)):
            return (count - 5) // step, step
    return None
