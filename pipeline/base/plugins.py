"""Modules of a package, each named for what it adds: the formats and the exporters."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
from types import ModuleType

from pipeline.base.errors import UnknownNameError, unknown


def available(package: str) -> list[str]:
    """Names of the modules of `package` that are for all; those with an underscore are its own."""
    return sorted(m.name for m in pkgutil.iter_modules(sys.modules[package].__path__) if not m.name.startswith("_"))


def load(package: str, kind: str, name: str) -> ModuleType:
    """The module `name` of `package`; raises `UnknownNameError`, which calls it a `kind`, with what there is."""
    return _load(package, tuple(sys.modules[package].__path__), kind, name)


@functools.cache  # it is asked some hundred times a build, and each answer lists the folders of the package
def _load(package: str, path: tuple[str, ...], kind: str, name: str) -> ModuleType:  # noqa: ARG001 - plugins add to it
    names = available(package)
    if name not in names:
        raise UnknownNameError(unknown(kind, name, names))
    return importlib.import_module(f"{package}.{name}")
