"""Arrow tables as pandas frames and back, for Dask partitions: columns stay Arrow's, nothing is copied or converted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def to_pandas(table: pa.Table) -> Any:
    """An Arrow table as a pandas frame with Arrow-backed columns."""
    import pandas as pd

    return table.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)


def to_arrow(frame: Any) -> pa.Table:
    """A pandas frame with Arrow-backed columns, or a table, as an Arrow table of one chunk."""
    import pyarrow as pa

    if isinstance(frame, pa.Table):
        return frame.combine_chunks()
    # One thread: there is nothing to convert, and Arrow would start a pool for each call.
    table = pa.Table.from_pandas(frame, preserve_index=False, nthreads=1)
    return table.replace_schema_metadata(None).combine_chunks()
