"""An index, opened: its tables as Dask frames, its parts, its totals."""

from __future__ import annotations

import functools
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline import storage
from pipeline.errors import ConfigError, DataError
from pipeline.tables.frames import to_pandas
from pipeline.tables.schema import VERSION, part_name

TABLES = ("files", "images", "annotations", "problems")


@dataclass
class IndexInfo:
    """The content of `index.json`: `totals` by split, see `_summary`.

    `names` is what the source calls its classes itself, if it does (the fields of `classes.Names`); `document` is what
    belongs to a label file as a whole, by split. `left_out` counts the files of folders that nobody wants. `content` is
    a digest of the label files' names and contents, the same on every machine. `links` are the folders that links in a
    folder lead to, with their number and one of them.
    """

    spec: dict[str, Any]
    spec_digest: str
    buckets: int
    source_digest: str | None
    totals: dict[str, Any]
    names: dict[str, Any] | None = None
    document: dict[str, Any] = field(default_factory=dict)
    odd: list[list[str]] = field(default_factory=list)
    links: list[tuple[str, str, int, str]] = field(default_factory=list)
    content: str | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    version: int = VERSION

    @staticmethod
    def read(directory: str) -> IndexInfo | None:
        """The index at `directory`, or None where there is none that this version can read."""
        data = storage.locate(directory).read("index.json")
        if data is None:
            return None
        try:
            info = IndexInfo(**json.loads(data))
        except (ValueError, TypeError):
            return None
        return info if info.version == VERSION else None


def has_parts(directory: str) -> bool:
    """Whether there is any part of an index at `directory`: then the stats of a listing tell what is unchanged."""
    return bool(storage.locate(directory).names("files"))


def open_index(path: str) -> Index:
    """The index at `path` (the folder that holds `index.json`, or a workdir with one index, or its URL); see `Index`.

    Raises `ConfigError` where there is none.
    """
    candidates = [path, *sorted(_below(path))]
    found = [(p, info) for p in candidates if (info := IndexInfo.read(p)) is not None]
    if not found:
        raise ConfigError(f"{path}: holds no index; make one with `coco-diy index CONFIG`")
    if len(found) > 1:
        raise ConfigError(f"{path}: holds {len(found)} indexes; open one of them: {', '.join(p for p, _ in found)}")
    return Index(*found[0])


def _below(path: str) -> list[str]:
    root = storage.locate(path).below("index")
    return [root.join(name) for name in sorted({n.split("/")[0] for n in root.names()})]


class Index:
    """An index on disk or in a store.

    `annotations`, `images`, `files` and `problems` are Dask frames: partition i is bucket i.
    """

    def __init__(self, directory: str, info: IndexInfo) -> None:
        self.directory = directory
        self.info = info

    @property
    def annotations(self) -> Any:
        """One row an object, see `schema.annotations`."""
        return self.frame("annotations")

    @property
    def images(self) -> Any:
        """One row an image, see `schema.images`."""
        return self.frame("images")

    @property
    def files(self) -> Any:
        """One row a listed file, see `schema.files`."""
        return self.frame("files")

    @property
    def problems(self) -> Any:
        """One row for each row or file that could not be taken, see `schema.problems`."""
        return self.frame("problems")

    def frame(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        classes: Sequence[int | str] | None = None,
        buckets: int | None = None,
    ) -> Any:
        """A Dask frame over one table; `columns` and the class filter are passed down to the Parquet read.

        `classes` are class ids or, of a source whose rows carry names, names. `buckets`, a multiple of the index's,
        cuts the frame finer, as another source is cut.

        `dask.dataframe.read_parquet` would fuse small files, and a partition would no longer be a bucket.
        """
        import dask
        import dask.dataframe as dd

        own = self.info.buckets
        read = functools.partial(
            read_part,
            self.directory,
            table,
            columns=columns,
            classes=classes,
            cut=None if buckets in (None, own) else (own, buckets),
        )
        with dask.config.set({"dataframe.convert-string": False}):  # the columns are Arrow's already
            return dd.from_map(read, range(buckets or own), meta=_meta(table, columns))


def read_part(
    directory: str,
    table: str,
    bucket: int,
    columns: Sequence[str] | None = None,
    classes: Sequence[int | str] | None = None,
    cut: tuple[int, int] | None = None,
) -> Any:
    """One bucket of a table as a pandas frame with Arrow-backed columns; `classes` keeps rows of these classes.

    They are ids or names, see `Index.frame`. With `cut` = (n, m) it is bucket `bucket` of m, where m is a multiple of
    the n that are there: bucket i of m is a part of bucket i % n of n. `columns` then has the key.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    filters = None
    if classes is not None:
        filters = [("label" if any(isinstance(c, str) for c in classes) else "class_id", "in", list(classes))]
    place, path = storage.locate(directory), f"{table}/{part_name(bucket % cut[0] if cut else bucket)}"
    file: Any = os.path.join(place.local, path) if place.local is not None else pa.BufferReader(place.read(path))
    try:
        found = pq.read_table(file, columns=columns, filters=filters, memory_map=True, use_threads=False)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{place.join(path)}: this part of the index cannot be read ({str(error).splitlines()[0]}); "
            f"delete {directory}: the next run makes it anew"
        ) from None
    if cut:
        found = found.filter(
            pa.array([zlib.crc32(k.encode()) % cut[1] == bucket for k in found["key"].to_pylist()], pa.bool_())
        )
    return to_pandas(found)


def _meta(table: str, columns: Sequence[str] | None) -> Any:
    from pipeline.tables import schema

    arrow = {
        "annotations": schema.annotations,
        "images": schema.images,
        "files": schema.files,
        "problems": schema.problems,
    }[table]()
    empty = arrow.empty_table()
    return to_pandas(empty.select(list(columns)) if columns is not None else empty)
