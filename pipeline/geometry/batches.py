"""Batches of what is computed at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def batches(cost: npt.NDArray[np.number], most: float = 1) -> Iterator[tuple[int, int]]:
    """First item and the one after the last of batches that cost `most` at most, or are one item.

    `cost`, shape (items + 1,), is that of all items before each, and of all.
    """
    import numpy as np

    first, count = 0, len(cost) - 1
    while first < count:
        last = max(int(np.searchsorted(cost, cost[first] + most, side="right")) - 1, first + 1)
        yield first, last
        first = last
