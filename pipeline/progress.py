"""Progress of a stage: a tqdm bar on a terminal, a line a minute in a log.

Stages report through `Progress.step`; nothing is shown for the first second, so short stages stay silent.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_SHOW_AFTER_S = 1.0
_LOG_EVERY_S = 60.0


class Progress:
    """Makes the progress of stages visible on `stream` (stderr); `quiet` shows nothing."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = True) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._terminal = self._stream.isatty()

    @contextmanager
    def stage(self, name: str, total: int, unit: str = "files") -> Iterator[Step]:
        """Show the progress of one stage of `total` units while inside."""
        step = _make_step(self._stream, self._quiet, self._terminal, name, total, unit)
        try:
            yield step
        finally:
            step.close()


class Step:
    """A stage under way; this one shows nothing."""

    def add(self, count: int) -> None:
        """`count` more units are done."""

    def close(self) -> None:
        """The stage has ended."""


class _Bar(Step):
    def __init__(self, stream: TextIO, name: str, total: int, unit: str) -> None:
        self._started = time.monotonic()
        self._args: dict[str, Any] = {"file": stream, "desc": name, "total": total, "unit": f" {unit}",
                                      "unit_scale": False, "mininterval": 0.2, "leave": True}
        self._bar: Any = None
        self._before = 0

    def add(self, count: int) -> None:
        if self._bar is None:
            self._before += count
            if time.monotonic() - self._started < _SHOW_AFTER_S:
                return
            from tqdm import tqdm

            self._bar = tqdm(**self._args)
            self._bar.start_t -= time.monotonic() - self._started
            count, self._before = self._before, 0
        self._bar.update(count)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _Log(Step):
    def __init__(self, stream: TextIO, name: str, total: int, unit: str) -> None:
        self._stream, self._name, self._total, self._unit = stream, name, total, unit
        self._started = self._told = time.monotonic()
        self._done = 0

    def add(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._told >= _LOG_EVERY_S:
            self._told = now
            self._tell(now - self._started)

    def _tell(self, seconds: float) -> None:
        rate = self._done / seconds
        left = (self._total - self._done) / rate if rate else 0.0
        stamp = time.strftime("%H:%M:%S")
        self._stream.write(f"{stamp} {self._name}: {self._done:,} of {self._total:,} {self._unit}, "
                           f"{rate:,.0f} {self._unit}/s, {left:,.0f} s left\n")
        self._stream.flush()


def _make_step(stream: TextIO, quiet: bool, terminal: bool, name: str, total: int, unit: str) -> Step:
    if quiet:
        return Step()
    return (_Bar if terminal else _Log)(stream, name, total, unit)
