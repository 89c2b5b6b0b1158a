"""coco-diy: turns a big labelled image collection into the exact training set you need.

The public names, each documented where it stands::

    config = pipeline.load_config("conf/bicycle.yaml", ["target.images=symlink"])
    report = pipeline.build(config)
    frame = pipeline.open_index("work").annotations      # a Dask frame, partition i is bucket i
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "build", "load_config", "make_index", "open_index", "plan"]

if TYPE_CHECKING:
    from pipeline.config import load_config
    from pipeline.index import open_index
    from pipeline.run import build, make_index
    from pipeline.run import make_plan as plan

_WHERE = {
    "build": ("pipeline.run", "build"),
    "make_index": ("pipeline.run", "make_index"),
    "load_config": ("pipeline.config", "load_config"),
    "open_index": ("pipeline.index", "open_index"),
}


def __getattr__(name: str) -> Any:
    # Lazily, so that `coco-diy --help` does not wait for what it does not use.
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _WHERE[name]
    return getattr(importlib.import_module(module), attribute)


class _Package(types.ModuleType):
    """This package. `plan` is the function here, though a stage's module has that name too."""

    @property
    def plan(self) -> Any:
        """See `pipeline.run.make_plan`."""
        return importlib.import_module("pipeline.run").make_plan

    @plan.setter
    def plan(self, module: types.ModuleType) -> None:
        """The import system binds the submodule's name here; it is found in `sys.modules` anyway."""


sys.modules[__name__].__class__ = _Package
