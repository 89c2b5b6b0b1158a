"""Points as keypoints: those of the group of an object, by their labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.formats._numbers import TOLERANCE
from pipeline.formats._shapes.outlines import ShapeOutline

if TYPE_CHECKING:
    from pipeline.base.arrays import Floats

#: COCO's: labelled but not seen, and seen.
_HIDDEN, _SEEN = 1, 2


@dataclass
class ShapeObject:
    """One object: the shapes of one label and `group`; `points` are its keypoints, by name: x, y and how visible.

    `alone`: it is a keypoint that belongs to no object. `related`: other objects have its group.
    """

    line: int
    label: str
    group: int | str | None = None
    shapes: list[ShapeOutline] = field(default_factory=list)
    extras: dict[str, Any] = field(default_factory=dict)
    note: str | None = None
    points: dict[str, tuple[float, float, int]] = field(default_factory=dict)
    alone: bool = False
    related: bool = False


def with_keypoints(things: Sequence[ShapeObject], names: Sequence[str]) -> list[ShapeObject]:
    """`things` without the points that are keypoints of one of them.

    A point called one of `names` belongs to the only object with an area that has its group, if that has no such
    keypoint yet; else it stays, and is `alone`.
    """
    owners: dict[int | str, list[ShapeObject]] = {}
    for thing in things:
        if thing.group is not None and thing.shapes[0].has_area:
            owners.setdefault(thing.group, []).append(thing)
    kept = []
    for thing in things:
        given = thing.shapes[0].given
        if thing.label not in names or thing.shapes[0].has_area or given is None or len(given) != 1:
            kept.append(thing)
            continue
        several = owners.get(thing.group, []) if thing.group is not None else []
        if len(several) == 1 and thing.label not in several[0].points:
            x, y = given[0].tolist()
            several[0].points[thing.label] = x, y, _HIDDEN if thing.extras.get("difficult") else _SEEN
        else:
            thing.alone = True
            kept.append(thing)
    return kept


def keypoints_of(thing: ShapeObject, names: Iterable[str], width: int, height: int) -> tuple[Floats, bool]:
    """x, y in pixels and how visible it is of each keypoint, zeros where there is none, shape (names, 3).

    A keypoint beyond the image counts as missing; the second value says whether there is one.
    """
    points = np.array([thing.points.get(name, (0.0, 0.0, 0)) for name in names], np.float64).reshape(-1, 3)
    shares = points[:, :2] / (width, height)
    beyond = ((shares < -TOLERANCE) | (shares > 1 + TOLERANCE)).any(axis=1)
    points[beyond] = 0
    return points, bool(beyond.any())
