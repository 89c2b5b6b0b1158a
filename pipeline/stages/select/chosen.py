"""Images that a caller of the library names: what was found in an index with Dask goes back into a build."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pipeline import storage
from pipeline.base.digest import digest_of
from pipeline.base.errors import ConfigError
from pipeline.tables.parquet import to_parquet

if TYPE_CHECKING:
    from pipeline.config.model import Config

#: Folder of the workdir with lists of images, each called by its digest.
FOLDER = "lists"


def with_chosen(config: Config, keep: Any) -> Config:
    """`config` with the images `keep` as its list of images, which is written to the workdir.

    `keep` is a frame with a column key (of Dask, pandas or Arrow), such as a part of an index, a column of keys, or any
    names, stems or keys. Raises `ConfigError` for another value, and where the config has a list already.
    """
    import pyarrow as pa

    if config.select.images is not None:
        raise ConfigError("keep: the config has a list of images, select.images; leave out one of the two")
    names = sorted({*_names(keep)})
    if not names:
        raise ConfigError("keep: names no image")
    data = to_parquet(pa.table({"key": pa.array(names, pa.string())}))
    name = f"{digest_of(data).hex()[:16]}.parquet"
    folder = os.path.join(storage.local_path(config.workdir), FOLDER)
    storage.locate_writable(folder).write(name, data)
    select = config.select.model_copy(update={"images": os.path.join(folder, name)})
    return config.model_copy(update={"select": select})


def _names(keep: Any) -> Iterable[str]:
    """The names in a frame, a column or any sequence."""
    if isinstance(keep, str | bytes | os.PathLike):
        raise ConfigError("keep: is one text; name images in a list, or a file of them by select.images")
    if hasattr(keep, "columns") or hasattr(keep, "column_names"):
        columns = list(keep.column_names if hasattr(keep, "column_names") else keep.columns)
        if "key" not in columns:
            raise ConfigError(f"keep: the frame has no column key; it has {', '.join(map(str, columns[:6])) or 'none'}")
        keep = keep["key"]
    keep = keep.compute() if hasattr(keep, "compute") else keep
    if not hasattr(keep, "to_pylist") and not isinstance(keep, Iterable):
        raise ConfigError(f"keep: is {keep!r}, no list of images; give names, stems or keys in one")
    values = keep.to_pylist() if hasattr(keep, "to_pylist") else list(keep)
    if strange := [value for value in values if not isinstance(value, str)]:
        raise ConfigError(f"keep: {strange[0]!r} is no name of an image; give names, stems or keys as text")
    return values
