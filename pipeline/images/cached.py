"""What was found out about images, cached in the index: a table a kind of finding, with one file a bucket.

A row is of an image in the state in which it was read (`mark`, its fingerprint): of an image whose fingerprint is
another it says nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline import storage
from pipeline.base.digest import digest_of
from pipeline.tables.parquet import Misfit, of_parquet, to_parquet
from pipeline.tables.schema import part_name

if TYPE_CHECKING:
    import pyarrow as pa


def read_cached(index_dir: str, table: str, bucket: int, fitting: pa.Schema) -> pa.Table:
    """A bucket's part of a cached table, which is its digest and a Parquet file; nothing where that is not whole."""
    data = storage.locate(os.path.join(index_dir, table)).read(part_name(bucket))
    if data is not None and digest_of(data[16:]) == data[:16]:
        with contextlib.suppress(Misfit):
            return of_parquet(data[16:], fitting)
    return fitting.empty_table()


def rows_of(cached: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The rows of a bucket's part of a cached table that are of `keys`, in their order; nulls where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return cached.take(pc.index_in(pa.array(keys, pa.string()), cached["key"].combine_chunks().cast(pa.string())))


def add_cached(index_dir: str, table: str, bucket: int, before: pa.Table, rows: list[dict[str, object]]) -> None:
    """Add `rows` to a bucket's part of a cached table as it was `before`; they replace those of their keys."""
    import pyarrow as pa
    import pyarrow.compute as pc

    added = pa.Table.from_pylist(rows, before.schema)
    others = before.filter(pc.invert(pc.is_in(before["key"], added["key"].combine_chunks())))
    data = to_parquet(pa.concat_tables([others, added]).sort_by("key"))
    path = os.path.join(index_dir, table, part_name(bucket))
    storage.write_with(path, lambda file: file.write(digest_of(data) + data))
