"""Boxes in shares of their image, cut off at its edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.formats._numbers import TOLERANCE

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools, Floats


@dataclass(frozen=True)
class Boxes:
    """Boxes as cxcywhn, shape (n, 4), within their image; of each whether it was `cut` off at its edge, by over 1 %.

    Those wholly beyond it are `outside`, others `empty` that have no area.
    """

    cxcywhn: Floats
    cut: Bools
    outside: Bools
    empty: Bools

    @classmethod
    def between(cls, first: Floats, second: Floats, size: Floats | None = None) -> Boxes:
        """The boxes between two corners each, shape (n, 2), in any order.

        They are in pixels of an image of this `size`, shape (n, 2), or without one in shares of the image.
        """
        size = np.ones_like(first) if size is None else size
        low, high = np.minimum(first, second), np.maximum(first, second)
        outside: Bools = np.logical_or.reduce((high <= 0) | (low >= size), axis=1)
        cut: Bools = np.logical_or.reduce((low < -TOLERANCE * size) | (high > (1 + TOLERANCE) * size), axis=1)
        low, high = np.clip(low, 0, size), np.clip(high, 0, size)
        box = np.concatenate([(low + high) / 2 / size, (high - low) / size], axis=1)
        empty: Bools = np.logical_or.reduce(box[:, 2:] <= 0, axis=1)
        return cls(box, cut, outside, empty & ~outside)

    def mark(self, words: npt.NDArray[np.object_]) -> None:
        """Write into `words`, one a box, why one is no row."""
        words[self.empty] = "zero_area"
        words[self.outside] = "outside"
