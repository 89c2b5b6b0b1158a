"""Layouts of a dataset: rows to wanted files. One module each; its name is the key in a config.

An exporter module has

- ``FOLDERS``: the folders of its layout, each with one subfolder a split;
- ``COLUMNS``: columns of `schema.annotations` that it needs beside key, class_id, head and tail;
- ``OF_TASK``: whether it writes rows of the task, and has no place for objects that are none;
- ``fragment(rows, images) -> pyarrow.Table``: the wanted files (`schema.wanted`) of one bucket;
- ``assemble(dataset) -> dict[str, bytes]``: files of the whole dataset, by path.

Nothing here touches a file system.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from pipeline.errors import UnknownNameError, unknown

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.classes import ClassMap, Names
    from pipeline.schema import Task


@dataclass(frozen=True)
class Dataset:
    """What an exporter needs to know of a whole subset.

    `maps` has the class map of each source, `sources` what each calls its classes; `splits` are those with an image,
    in the order train, val, test; `root` is the target's place, for the YAML that names it; `yaml` is portable,
    absolute or cloud.
    """

    maps: tuple[ClassMap, ...]
    sources: tuple[Names, ...]
    task: Task
    splits: tuple[str, ...]
    root: str
    yaml: str


class Exporter(Protocol):
    """What an exporter module offers."""

    FOLDERS: tuple[str, ...]
    COLUMNS: tuple[str, ...]
    OF_TASK: bool

    def fragment(self, rows: pa.Table, images: pa.Table) -> pa.Table:
        """The wanted files of one bucket."""

    def assemble(self, dataset: Dataset) -> dict[str, bytes]:
        """Files of the whole dataset: path below the target to content."""


def available() -> list[str]:
    """Names of all exporters."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def load(name: str) -> Exporter:
    """The exporter module called `name`; raises `UnknownNameError` with what there is."""
    if name not in available():
        raise UnknownNameError(unknown("target format", name, available()))
    return cast("Exporter", importlib.import_module(f"{__name__}.{name}"))
