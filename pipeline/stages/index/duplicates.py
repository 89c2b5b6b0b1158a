"""Rows that repeat an earlier row of their file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.base.arrays import Bools, Floats, Ints


def duplicate_rows(file: Ints, class_id: Ints, boxes: Sequence[Floats], tail: pa.ChunkedArray) -> Bools:
    """Which rows repeat an earlier row of the same file: same class, and the same bytes after it; shape (rows,).

    Rows are hashed by their numbers first, and by the length of `tail`, so that bytes are compared only where they may
    be equal.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    prime = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        hashed = file.astype(np.uint64) * prime + class_id.astype(np.uint64)
        lengths = pc.fill_null(pc.binary_length(tail), -1).to_numpy()
        for column in [*boxes, lengths.astype(np.float64)]:
            hashed = (hashed ^ (hashed >> np.uint64(29))) * prime + np.ascontiguousarray(column).view(np.uint64)
    result = np.zeros(len(hashed), np.bool_)
    ordered = np.sort(hashed)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(repeated):
        return result
    chosen = repeated[np.searchsorted(repeated, hashed).clip(max=len(repeated) - 1)] == hashed
    some = np.flatnonzero(chosen)
    order = some[np.argsort(hashed[some], kind="stable")]
    again = np.flatnonzero(hashed[order][1:] == hashed[order][:-1])
    texts = dict(zip(some.tolist(), tail.filter(pa.array(chosen)).to_pylist(), strict=True))
    seen: dict[int, set[tuple[int, int, bytes]]] = {}
    for i in again.tolist():
        group = seen.setdefault(int(hashed[order[i]]), set())
        for row in (int(order[i]), int(order[i + 1])):
            if result[row]:
                continue
            content = (int(file[row]), int(class_id[row]), texts[row])
            if row == int(order[i + 1]) and content in group:
                result[row] = True
            group.add(content)
    return result
