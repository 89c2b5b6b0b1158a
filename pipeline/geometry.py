"""Box arithmetic on NumPy arrays; pure.

Conventions: ``xyxy`` two corners in pixels, ``xywh`` top-left corner and size in pixels (COCO), ``cxcywhn`` centre and
size, normalised to 0-1 by the image's size (YOLO).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]


def polygons_to_cxcywhn(xs: Floats, ys: Floats, starts: Ints) -> tuple[Floats, Floats, Floats, Floats]:
    """Boxes around polygons whose points lie one after another in `xs` and `ys`, shape (points,), normalised 0-1.

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
