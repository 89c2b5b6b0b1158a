"""coco-diy: turns a big labelled image collection into the exact training set you need.

The public names, each documented where it is defined::

    print(pipeline.plan("conf/bicycle.yaml"))            # as the command prints it
    config = pipeline.load_config("conf/bicycle.yaml", ["target.images=symlink"])
    report = pipeline.build(config)
    frame = pipeline.open_index(config).annotations      # a Dask frame, partition i is bucket i
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pipeline.base.version import __version__

__all__ = ["__version__", "build", "load_config", "make_index", "open_dataset", "open_index", "open_subset", "plan"]

if TYPE_CHECKING:
    from pipeline.api import build, make_index, open_index
    from pipeline.api import make_plan as plan
    from pipeline.config.load import load_config
    from pipeline.look.notebook import open_dataset, open_subset

_HOMES = {
    "build": ("pipeline.api", "build"),
    "load_config": ("pipeline.config.load", "load_config"),
    "make_index": ("pipeline.api", "make_index"),
    "open_dataset": ("pipeline.look.notebook", "open_dataset"),
    "open_index": ("pipeline.api", "open_index"),
    "open_subset": ("pipeline.look.notebook", "open_subset"),
    "plan": ("pipeline.api", "make_plan"),
}


def __getattr__(name: str) -> Any:
    # Lazily, so that `coco-diy --help` does not wait for what it does not use.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
