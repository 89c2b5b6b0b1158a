"""The outlines of an object, for drawing: from a label row or from a COCO annotation; pure.

All coordinates are shares of the image's sides, 0 to 1, shape (points, 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.geometry import masks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.base.arrays import Bools, Floats, Ints

#: Masks are outlined on a grid of at most so many cells a side.
_MASK_SIDE = 512

#: Polygons of an object, of which one with more is drawn as its box; points of each, and keypoints, that are drawn.
_MOST_POLYGONS, _MOST_POINTS = 200, 2_000

#: COCO's skeleton of a person, from 0: https://cocodataset.org/#format-data
PERSON = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
    (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """An object: its class, the corners of its box (left, top, right, bottom), polygons, and keypoints.

    `polygons` cover it by the even-odd rule; an oriented box is one of four points. `points` has shape (K, 2), `seen`
    (K,) says which of them are labelled; edges between them are those of `PERSON` where there are 17.
    """

    class_id: int
    box: tuple[float, float, float, float]
    polygons: tuple[Floats, ...] = ()
    points: Floats | None = None
    seen: tuple[bool, ...] = ()

    def moved(self, move: Callable[[Floats], Floats]) -> Shape:
        """This shape with `move` done to all its points."""
        import numpy as np

        left, top, right, bottom = self.box
        corners = move(np.array([[left, top], [right, bottom]]))
        low, high = corners.min(axis=0), corners.max(axis=0)
        return replace(
            self,
            box=(float(low[0]), float(low[1]), float(high[0]), float(high[1])),
            polygons=tuple(map(move, self.polygons)),
            points=None if self.points is None else move(self.points),
        )

    @property
    def corners(self) -> int:
        """How many points are drawn of it."""
        return sum(map(len, self.polygons)) + len(self.seen) or 4

    @property
    def edges(self) -> list[tuple[int, int]]:
        """The edges of its skeleton whose ends are both labelled."""
        return [(a, b) for a, b in PERSON if self.seen[a] and self.seen[b]] if len(self.seen) == 17 else []


def of_row(class_id: int, box: Sequence[float], tail: bytes, keypoints: tuple[int, int] | None) -> Shape:
    """The shape of a YOLO row: `box` is its cxcywhn, `tail` what follows the class, `keypoints` (K, D) of pose."""
    import numpy as np

    numbers = np.array(tail.split(), np.float64)
    corners = _corners(box)
    if keypoints is not None and len(numbers) == 4 + keypoints[0] * keypoints[1]:
        points = numbers[4:].reshape(keypoints)
        labelled = points[:, 2] > 0 if keypoints[1] == 3 else (points != 0).any(axis=1)
        return _with_points(Shape(class_id, corners), points, labelled)
    outline = points_of_row(tail, keypoints)
    return Shape(class_id, corners, _outlines([outline]) if len(outline) else ())


def _with_points(shape: Shape, points: Floats, seen: Bools) -> Shape:
    """`shape` with keypoints, whose first two columns are x and y, as far as they are drawn."""
    return replace(shape, points=points[:_MOST_POINTS, :2], seen=tuple(seen[:_MOST_POINTS].tolist()))


def _outlines(polygons: Sequence[Floats]) -> tuple[Floats, ...]:
    """`polygons` as they are drawn: of one with very many points every so manieth."""
    if len(polygons) > _MOST_POLYGONS:
        return ()
    return tuple(polygon[:: -(-len(polygon) // _MOST_POINTS)] for polygon in polygons)


def of_annotation(
    class_id: int, box: Sequence[float], annotation: dict[str, Any], width: float, height: float
) -> Shape:
    """The shape of a COCO annotation; `box` is its cxcywhn. What of it is no outline is left out."""
    import numpy as np

    scale = np.array([width, height], np.float64)
    segmentation = annotation.get("segmentation")
    polygons = _of_mask(segmentation) if isinstance(segmentation, dict) else _polygons(segmentation)
    shape = Shape(class_id, _corners(box), _outlines([polygon / scale for polygon in polygons]))
    points = annotation.get("keypoints")
    if isinstance(points, list) and points and len(points) % 3 == 0:
        table = np.array(points, np.float64).reshape(-1, 3)
        shape = _with_points(shape, table[:, :2] / scale, table[:, 2] > 0)
    return shape


def points_of_row(tail: bytes, keypoints: tuple[int, int] | None) -> Floats:
    """The corners of the polygon or oriented box of a YOLO row, shape (points, 2); none of a row of any other kind."""
    import numpy as np

    numbers = np.array(tail.split(), np.float64)
    pose = keypoints is not None and len(numbers) == 4 + keypoints[0] * keypoints[1]
    outlined = len(numbers) >= 6 and len(numbers) % 2 == 0 and not pose
    return numbers.reshape(-1, 2) if outlined else np.zeros((0, 2))


def points_of_annotation(annotation: Mapping[str, Any]) -> Floats:
    """The corners, shape (points, 2), in pixels, of all polygons of a COCO annotation, or around its mask; or none."""
    import numpy as np

    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        runs, height = _runs(segmentation)
        return masks.corners(runs, height)
    return np.concatenate([np.zeros((0, 2)), *_polygons(segmentation)])


def _polygons(segmentation: Any) -> list[Floats]:
    import numpy as np

    parts = segmentation if isinstance(segmentation, list) else []
    parts = [p for p in parts if isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0]
    return [np.array(part, np.float64).reshape(-1, 2) for part in parts]


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    cx, cy, w, h = box
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def _of_mask(segmentation: dict[str, Any]) -> list[Floats]:
    """The polygons around a mask of run lengths, in its pixels, on a coarser grid where it is large."""
    runs, height = _runs(segmentation)
    left, top, *sides = box = masks.box(runs, height)
    step = max(1, -(-max(sides) // _MASK_SIDE))
    outer, holes = masks.outlines(masks.to_patch(runs, height, box, step), _MOST_POLYGONS)
    return [polygon * step + (left, top) for polygon in (*outer, *holes)]


def _runs(segmentation: dict[str, Any]) -> tuple[Ints, int]:
    """The run lengths of a mask and its height; of one that is damaged none, and 1."""
    import numpy as np

    try:
        height, width = (int(side) for side in segmentation["size"])
        counts = segmentation["counts"]
        return masks.checked(masks.decompress(counts) if isinstance(counts, str) else counts, height, width), height
    except (KeyError, TypeError, ValueError, OverflowError):
        return np.zeros(0, np.int64), 1
