"""Processors that a run leaves idle: where the engine has one task at a time, that may use another thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_SPARE = [0]


def spare_processors() -> int:
    """Processors beside this thread's that nobody else of this run uses."""
    return _SPARE[0]


@contextlib.contextmanager
def sparing(number: int) -> Iterator[None]:
    """While inside, so many processors have nothing to do."""
    before = _SPARE[0]
    _SPARE[0] = number
    try:
        yield
    finally:
        _SPARE[0] = before
