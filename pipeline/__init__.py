"""coco-diy: turns a big labelled image collection into the exact training set you need.

The public names, each documented where it stands::

    config = pipeline.load_config("conf/bicycle.yaml", ["target.images=symlink"])
    report = pipeline.build(config)
    frame = pipeline.open_index("work").annotations      # a Dask frame, partition i is bucket i
"""

from __future__ import annotations

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
    "plan": ("pipeline.run", "make_plan"),
    "make_index": ("pipeline.run", "make_index"),
    "load_config": ("pipeline.config", "load_config"),
    "open_index": ("pipeline.index", "open_index"),
}


def __getattr__(name: str) -> Any:
    # Lazily, so that `coco-diy --help` does not wait for what it does not use.
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module, attribute = _WHERE[name]
    value = getattr(importlib.import_module(module), attribute)
    # Importing the submodule `pipeline.plan` has bound that name to the module: here it is the function.
    globals()[name] = value
    if module == "pipeline.run":
        globals()["plan"] = importlib.import_module(module).make_plan
    return value
