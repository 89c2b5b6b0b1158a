"""Parts of tables that a run has written for itself, one a bucket: what it selects, decides and plans."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.base.errors import DataError
from pipeline.tables.parquet import Misfit, of_parquet
from pipeline.tables.schema import part_name

if TYPE_CHECKING:
    import pyarrow as pa


def read_part(folder: str, bucket: int, fitting: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """A bucket's part of a table in `folder`, which the run has written itself; raises `DataError` if damaged since."""
    path = os.path.join(folder, part_name(bucket))
    try:
        return of_parquet(path, fitting, columns)
    except Misfit as why:
        raise DataError(f"{path}: {why}; run again, which makes it anew") from None


def read_parts(folder: str, buckets: int, fitting: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """The parts of all `buckets` as one table, see `read_part`."""
    import pyarrow as pa

    return pa.concat_tables([read_part(folder, bucket, fitting, columns) for bucket in range(buckets)])
