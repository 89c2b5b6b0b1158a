"""Processors that a run leaves idle: where the engine has one task at a time, that may use another thread."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

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


class Alone:
    """A function of tasks that are done one at a time, while `number` processors have nothing to do."""

    def __init__(self, function: Callable[..., T], number: int) -> None:
        self._function, self._number = function, number

    def __call__(self, *task: Any) -> Any:
        """Do a task."""
        with sparing(self._number):
            return self._function(*task)
