"""Layouts of a dataset: rows to wanted files. One module each; its name is the key in a config.

An exporter module has

- ``fragment(rows, images, render) -> pyarrow.Table``: the wanted files (`schema.wanted`) of one bucket;
- ``assemble(dataset) -> dict[str, bytes]``: files of the whole dataset, by path.

Nothing here touches a file system.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from pipeline.errors import UnknownNameError, unknown

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.classes import ClassMap, Names


@dataclass(frozen=True)
class Dataset:
    """What an exporter needs to know of a whole subset.

    `splits` are those with an image, in the order train, val, test; `root` is the target's place, for the YAML that
    names it; `yaml` is portable, absolute or cloud.
    """

    classes: ClassMap
    source: Names
    pose: bool
    splits: tuple[str, ...]
    root: str
    yaml: str


class Exporter(Protocol):
    """What an exporter module offers."""

    FOLDERS: tuple[str, ...]

    def fragment(self, rows: pa.Table, images: pa.Table, render: Callable[[Any, Any, Any], Any]) -> pa.Table:
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
