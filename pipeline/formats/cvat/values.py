"""The numbers of rows of each task, of shapes that are in the pixels of their image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pipeline.base.terms import Task
from pipeline.formats._numbers import TOLERANCE
from pipeline.formats.cvat.shapes import Shape
from pipeline.geometry.polygons import join_polygons
from pipeline.geometry.quadrilaterals import areas, four_corners, within

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools, Floats, Ints


@dataclass
class Masked:
    """What the pixels of a mask are in the image: outlines, how many holes, and runs."""

    parts: list[Floats]
    holes: int
    runs: Ints


@dataclass
class Objects:
    """All shapes that have points; by shape the `words` of losses (`lost`: it is no row), and what it is otherwise."""

    shapes: list[Shape]
    words: list[str | None]
    lost: Bools
    masked: dict[int, Masked] = field(default_factory=dict)
    corners: dict[int, Floats] = field(default_factory=dict)

    def lose(self, where: Iterable[int], word: str) -> None:
        """Count the shapes `where` as `word`, unless they are lost already."""
        for i in where:
            if not self.lost[i]:
                self.words[i] = word
                self.lost[i] = True


def values_of(
    objects: Objects, boxes: Floats, sizes: Floats, task: Task, keypoints: tuple[int, int] | None
) -> tuple[Floats, Ints]:
    """The numbers after the class of all rows, normalised, and how many each has; none of what is lost."""
    if task is Task.DETECT:
        return boxes[~objects.lost].ravel(), np.where(objects.lost, 0, 4)
    if task is Task.SEGMENT:
        made = [_outline(objects, i, sizes[i]) for i in range(len(boxes))]
    elif task is Task.OBB:
        made = _oriented(objects, boxes, sizes)
    else:
        made = [_pose(objects, i, boxes[i], sizes[i], keypoints) for i in range(len(boxes))]
    kept = [values for values, lost in zip(made, objects.lost.tolist(), strict=True) if not lost]
    counts = np.zeros(len(boxes), np.int64)
    counts[~objects.lost] = [len(values) for values in kept]
    return np.concatenate([np.zeros(0), *kept]), counts


def _outline(objects: Objects, i: int, size: Floats) -> Floats:
    """The polygon of a shape of task segment."""
    shape, mask = objects.shapes[i], objects.masked.get(i)
    if shape.kind == "skeleton":
        objects.lose([i], "no_polygon")
    elif mask is not None and not objects.lost[i]:
        word = "holes" if mask.holes else "joined" if len(mask.parts) > 1 else None
        objects.words[i] = "holes" if mask.holes else objects.words[i] or word
        return np.asarray((join_polygons(mask.parts) / size).ravel(), np.float64)
    return (shape.points / size).ravel()


def _oriented(objects: Objects, boxes: Floats, sizes: Floats) -> list[Floats]:
    """The four corners of each row, moved into the image; `boxes` are then around those."""
    found: dict[int, Floats] = {}
    for i in np.flatnonzero(~objects.lost).tolist():
        shape = objects.shapes[i]
        corners = four_corners(objects.corners.get(i, shape.points)) if shape.kind in ("box", "polygon") else None
        if corners is None:
            objects.lose([i], "no_four_corners")
        else:
            found[i] = corners
    at = np.fromiter(found, np.int64, len(found))
    shares = np.array([*found.values()], np.float64).reshape(-1, 4, 2) / sizes[at, None]
    moved, cut, outside = within(shares, np.ones((len(at), 2)), np.full((len(at), 2), TOLERANCE))
    objects.lose(at[outside].tolist(), "outside")
    objects.lose(at[np.less_equal(areas(moved), 0)].tolist(), "zero_area")
    low, high = moved.min(axis=1), moved.max(axis=1)
    boxes[at] = np.concatenate([(low + high) / 2, high - low], axis=1)
    for i, is_cut in zip(at.tolist(), cut.tolist(), strict=True):
        word = objects.words[i]
        if not objects.lost[i]:
            objects.words[i] = (word or "clipped") if is_cut else word if word != "clipped" else None
    made = [np.zeros(0)] * len(boxes)
    for i, values in zip(at.tolist(), moved.reshape(-1, 8), strict=True):
        made[i] = values
    return made


def _pose(objects: Objects, i: int, box: Floats, size: Floats, keypoints: tuple[int, int] | None) -> Floats:
    """Box and keypoints of a row of task pose; a keypoint beyond the image counts as missing."""
    given = objects.shapes[i].keypoints
    if given is None or objects.lost[i]:
        objects.lose([i], "no_keypoints")
        return box
    if keypoints is None or len(given) != keypoints[0]:
        objects.lose([i], "other_keypoints")
        return box
    points = given / np.array([*size.tolist(), 1.0])
    beyond = ((points[:, :2] < -TOLERANCE) | (points[:, :2] > 1 + TOLERANCE)).any(axis=1)
    if beyond.any():
        points[beyond] = 0
        objects.words[i] = "keypoint_outside"
        if not (points[:, 2] > 0).any():
            objects.lose([i], "no_keypoints")
    return np.concatenate([box, points[:, : keypoints[1]].ravel()])
