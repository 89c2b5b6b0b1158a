"""Masks as run lengths (RLE), as tools write them: a list of counts or COCO's string, perhaps as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.formats._values import run_lengths
from pipeline.geometry import masks

Ints = npt.NDArray[np.int64]

Bools = npt.NDArray[np.bool_]

#: A mask of more pixels is refused: it would take gigabytes.
MAX_PIXELS = 1 << 28


def read_rle(given: dict[str, Any]) -> Bools | None:
    """The mask, shape (height, width), of an RLE, as a list of counts or compressed; None for anything else."""
    runs = read_runs(given)
    return masks.to_mask(runs[0], runs[1], runs[2]) if runs is not None else None


def read_runs(given: dict[str, Any]) -> tuple[Ints, int, int] | None:
    """The runs of an RLE, see `geometry.masks`, its height and its width; None for anything else."""
    given = run_lengths(given)
    counts, size = given.get("counts"), given.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)):
        return None
    height, width = size
    try:
        runs = masks.decompress(counts) if isinstance(counts, str) else np.array(counts, np.int64)
    except (ValueError, TypeError, OverflowError):
        return None
    good = height * width <= MAX_PIXELS and runs.ndim == 1 and bool(((runs >= 0) & (runs <= height * width)).all())
    return (runs, height, width) if good and int(runs.sum()) == height * width else None
