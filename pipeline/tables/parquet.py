"""Arrow tables as bytes of Parquet, and the parts of a table, one file a bucket."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.tables.schema import part_name

if TYPE_CHECKING:
    import pyarrow as pa


def to_parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def of_parquet(data: bytes) -> pa.Table:
    """The table of which `data` is the Parquet file; raises `pyarrow.ArrowException` or `OSError` where it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(data), use_threads=False)


def read_parts(folder: str, buckets: int, columns: Sequence[str] | None = None, filters: Any = None) -> pa.Table:
    """The parts of all `buckets` of the table in `folder` as one; `filters` are those of `pyarrow.parquet`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = [os.path.join(folder, part_name(bucket)) for bucket in range(buckets)]
    return pa.concat_tables([pq.read_table(path, columns=columns, filters=filters) for path in paths])
