"""Rows of Arrow tables, without a copy of the texts in them where that can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.geometry.batches import batches

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.base.arrays import Ints


def binaries(texts: Sequence[bytes]) -> pa.Array:
    """`texts` as an array of Arrow's, in a quarter of the time that `pyarrow.array` takes."""
    import numpy as np
    import pyarrow as pa

    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    if len(texts) and ends[-1] >= 1 << 31:
        return pa.array(texts, pa.binary())
    offsets = np.zeros(len(texts) + 1, np.int32)
    offsets[1:] = ends
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))]
    return pa.BinaryArray.from_buffers(pa.binary(), len(texts), buffers)


def rows_where(table: pa.Table, mask: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The rows of `table` for which `mask`, without nulls, is true; where they follow each other they are no copies."""
    import numpy as np

    which = np.flatnonzero(np.asarray(mask))
    begin, count = (int(which[0]), len(which)) if len(which) else (0, 0)
    return table.slice(begin, count) if not count or which[-1] == begin + count - 1 else table.filter(mask)


def slices(table: pa.Table, sizes: Ints, most: int) -> Iterator[pa.Table]:
    """The rows of `table`, some at a time: `most` of their `sizes` together, but one row at least."""
    import numpy as np

    for first, last in batches(np.concatenate([[0], np.cumsum(sizes)]), most):
        yield table.slice(first, last - first)
