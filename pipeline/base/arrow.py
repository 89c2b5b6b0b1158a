"""Arrow without pandas, which it imports at its first conversion where it finds it: 0.3 s and 60 MB."""

from __future__ import annotations

import importlib.abc
import sys


class _NoPandas(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:  # noqa: ARG002
        if name == "pandas":
            raise ModuleNotFoundError(name)


def hide_pandas() -> None:
    """Have no import of this process find pandas: it never needs it."""
    sys.meta_path.insert(0, _NoPandas())


def arrow_alone() -> None:
    """Have Arrow do without pandas until something asks for a frame; then it finds it.

    It imports it at its first conversion or never, and this is that one. No other thread may be importing it meanwhile.
    """
    import pyarrow as pa

    if "pandas" in sys.modules:
        return
    hidden = _NoPandas()
    sys.meta_path.insert(0, hidden)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(hidden)
