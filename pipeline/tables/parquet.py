"""Arrow tables as bytes of Parquet, and the one way to read them back: what no run has written is refused."""

from __future__ import annotations

import errno
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.base.memory import release_beside
from pipeline.tables.schema import misfit

if TYPE_CHECKING:
    import pyarrow as pa


class Misfit(ValueError):  # noqa: N818 - what a table is, to who can do without it
    """A file holds no table of the schema that is asked for; the argument is a clause that says why."""


#: What a machine lacks or refuses: a file that cannot be read for it is not damaged.
_OF_THE_MACHINE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.EACCES}


def to_parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def of_parquet(file: str | bytes, fitting: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """The `columns` (None: all of `fitting`) of the Parquet file at a path, or of its bytes; raises `Misfit`.

    What the machine lacks is raised as it is, an OSError or a MemoryError. No table that a run writes has more rows
    than its file has bytes (the least seen is 2.2 a row, of a manifest).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(fitting.names if columns is None else columns)
    try:
        source = pa.BufferReader(file) if isinstance(file, bytes) else pa.memory_map(file)
        with source, pq.ParquetFile(source) as opened:
            if opened.metadata.num_rows > source.size():
                raise Misfit("has more rows than bytes")
            table = opened.read(names, use_threads=False)
        release_beside(table)
    except FileNotFoundError:
        raise Misfit("is not there") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) in _OF_THE_MACHINE:
            raise  # and says nothing of the file
        raise Misfit("is cut or damaged") from None
    asked = pa.schema([fitting.field(name) for name in names])
    if (why := misfit(table, asked)) is not None:
        raise Misfit(why)
    return table.select(names).cast(asked)
