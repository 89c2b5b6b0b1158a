"""An index, opened: its tables as Dask frames, its parts, its totals."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from pipeline import storage
from pipeline.base.classes import SourceNames  # IndexInfo is read by its annotations
from pipeline.base.digest import digest_of, fitted, seal, unseal
from pipeline.base.errors import ConfigError, DataError
from pipeline.base.memory import release_after
from pipeline.base.version import VERSION
from pipeline.reports.documents import SourceTotals  # IndexInfo is read by its annotations
from pipeline.stages.index.parts import damaged, digest_of_states, index_part, sound_state, stated
from pipeline.tables.frames import to_pandas
from pipeline.tables.schema import part_name

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.base.classes import Names


class SourceDocument(TypedDict, total=False):
    """What belongs to a source as a whole.

    `notes` are warnings, `grave` those of a split that is empty. Of a format with one file a split: its number of
    `images`, the bytes of their and their objects' `text`, the digest of its `content`, and by split what the file says
    beside images and objects, as JSON.
    """

    notes: list[str]
    grave: list[str]
    images: int
    text: int
    content: str
    splits: dict[str, str]


@dataclass
class IndexInfo:
    """The content of `index.json`: `totals` by split, see `_summary`.

    `names` is what the source calls its classes itself, if it does. `left_out` counts the files of folders that nobody
    wants. `content` is a digest of the label files' names and contents, the same on every machine. `links` are the
    folders that links in a folder lead to, with their number and one of them. `parts` is one of the states of all
    buckets, which have those of their parts.
    """

    spec: dict[str, Any]
    spec_digest: str
    buckets: int
    source_digest: str | None
    totals: dict[str, SourceTotals]
    names: SourceNames | None = None
    document: SourceDocument = field(default_factory=SourceDocument)
    odd: list[list[str]] = field(default_factory=list)
    links: list[tuple[str, str, int, str]] = field(default_factory=list)
    content: str | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    parts: str | None = None
    version: int = VERSION

    @staticmethod
    def read(directory: str) -> IndexInfo | None:
        """The index at `directory`, or None where this version can read none."""
        info = fitted(unseal(storage.locate(directory).read("index.json")), IndexInfo)
        if info is None or info.version != VERSION:
            return None
        return info if all(map(_is_object, info.document.get("splits", {}).values())) else None

    def write(self, directory: str) -> None:
        """Vouch for the index at `directory`, the last of all."""
        location = storage.locate_writable(directory)
        self.parts = digest_of_states([stated(directory, bucket) for bucket in range(self.buckets)])
        location.sync()  # what this vouches for must outlive a power cut
        location.write("index.json", seal(self))

    def is_sound(self, directory: str) -> bool:
        """Whether every part at `directory` is the one that this vouches for, bit by bit."""
        states = [sound_state(directory, bucket) for bucket in range(self.buckets)]
        return self.parts is not None and digest_of_states(states) == self.parts


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def has_parts(directory: str) -> bool:
    """Whether there is any part of an index at `directory`: then the stats of a listing show what is unchanged."""
    return bool(storage.locate(directory).names("files"))


def open_index(path: str, names: Names | None = None) -> Index:
    """The index at `path` (the folder that holds `index.json`, or a workdir with one index, or its URL); see `Index`.

    `names` are those of its classes. Raises `ConfigError` where none exists.
    """
    candidates = [path, *sorted(_below(path))]
    found = [(p, info) for p in candidates if (info := IndexInfo.read(p)) is not None]
    if not found:
        raise ConfigError(f"{path}: holds no index; make one with `coco-diy index CONFIG`")
    if len(found) > 1:
        raise ConfigError(f"{path}: holds {len(found)} indexes; open one of them: {', '.join(p for p, _ in found)}")
    return Index(*found[0], checked=True, names=names.names if names is not None else None)


def index_at(directory: str) -> Index:
    """The index at `directory`, which this run has just brought up to date."""
    info = IndexInfo.read(directory)
    if info is None:
        raise DataError(f"{directory}: the index is gone while it is used; run again")
    return Index(directory, info)


def _below(path: str) -> list[str]:
    root = storage.locate(path).below("index")
    return [root.join(name) for name in sorted({n.split("/")[0] for n in root.names()})]


class Index:
    """An index on disk or in a store.

    `annotations`, `images`, `files` and `problems` are Dask frames: partition i is bucket i. Where it is `checked`,
    each part is compared with its digest when it is read; a run that has just done so need not. `names` are those of
    classes, of a source whose rows carry numbers.
    """

    def __init__(
        self, directory: str, info: IndexInfo, *, checked: bool = False, names: Sequence[str] | None = None
    ) -> None:
        self.directory = directory
        self._names = names
        self.info = info
        self._checked = checked

    @property
    def annotations(self) -> Any:
        """One row an object, see `schema.annotations`; opened by a config, `label` has the name of each class."""
        frame = self.frame("annotations")
        return frame if self._names is None else frame.map_partitions(_with_labels, self._names, meta=frame._meta)

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
        own = self.info.buckets
        read = functools.partial(
            read_table,
            self.directory,
            table,
            columns=columns,
            classes=classes,
            cut=None if buckets in (None, own) else (own, buckets),
            checked=self._checked,
        )
        return frame_of(read, buckets or own, _empty(table, columns))


def frame_of(read: Callable[[int], pa.Table], buckets: int, empty: pa.Table) -> Any:
    """The Dask frame whose partition i is ``read(i)``; `empty` is a table with its columns."""
    import dask
    import dask.dataframe as dd

    with dask.config.set({"dataframe.convert-string": False}):  # the columns are Arrow's already
        return dd.from_map(functools.partial(_read_frame, read), range(buckets), meta=to_pandas(empty))


def _with_labels(part: Any, names: Sequence[str]) -> Any:
    """A part of the annotations with the name of each class; null for an id beyond `names`."""
    import pandas as pd
    import pyarrow as pa

    ids = part["class_id"].to_numpy(dtype="int64")
    labels = pa.array(names, pa.string()).take(pa.array(ids, mask=(ids < 0) | (ids >= len(names))))
    return part.assign(label=pd.array(labels, dtype=part["label"].dtype))


def _read_frame(read: Callable[[int], pa.Table], bucket: int) -> Any:
    return to_pandas(read(bucket))


def read_table(
    directory: str,
    table: str,
    bucket: int,
    columns: Sequence[str] | None = None,
    classes: Sequence[int | str] | None = None,
    cut: tuple[int, int] | None = None,
    *,
    checked: bool = False,
) -> pa.Table:
    """One bucket of a table; `classes` keeps rows of these classes.

    They are ids or names, see `Index.frame`. With `cut` = (n, m) it is bucket `bucket` of m, where m is a multiple of
    the n that are there: bucket i of m is a part of bucket i % n of n. `columns` then has the key.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    here, data = bucket % cut[0] if cut else bucket, None
    if checked:
        # Bytes that were compared with their digest are those that are read: nothing can change them in between.
        path, state = f"{table}/{part_name(here)}", stated(directory, here)
        data = storage.locate(directory).read(path) or b""
        if state is None or digest_of(data).hex() != state.parts.get(table):
            raise damaged(directory, path, "is not as it was written", [])
    of_class = "label" if any(isinstance(c, str) for c in classes or ()) else "class_id"
    asked = columns if columns is None or classes is None else [*dict.fromkeys([*columns, of_class])]
    found = index_part(directory, table, here, asked, data)
    if classes is not None:
        chosen, size = pa.array(classes, found.schema.field(of_class).type), int(found.nbytes)
        found = found.filter(pc.is_in(found[of_class], chosen)).select(columns or found.column_names)
        release_after(size)
    if cut:
        found = found.filter(
            pa.array([zlib.crc32(k.encode()) % cut[1] == bucket for k in found["key"].to_pylist()], pa.bool_())
        )
    return found


def _empty(table: str, columns: Sequence[str] | None) -> pa.Table:
    from pipeline.tables import schema

    empty: pa.Table = getattr(schema, table)().empty_table()
    return empty.select(list(columns)) if columns is not None else empty
