"""Progress of a stage: a tqdm bar on a terminal, a line a minute in a log.

Stages report through `Progress.stage`; nothing is shown for the first second, so short stages stay silent. A thread
shows it: a bucket of large images may take minutes to report that it is done, so files are counted where they are read
and written (`pipeline.runtime.counters`), and the thread reads that count.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from pipeline.base.text import printable
from pipeline.runtime.counters import WATCHING, files_counted
from pipeline.runtime.run import timed

_SHOW_AFTER_S = 1.0

_BAR_EVERY_S = 0.2

_LOG_EVERY_S = 60.0


def write_line(stream: TextIO, line: str) -> None:
    """Write a line on `stream` above the bar that may be there."""
    tqdm = getattr(sys.modules.get("tqdm"), "tqdm", None)  # not loaded: no bar
    if tqdm is None:
        stream.write(f"{line}\n")
    else:
        tqdm.write(line, file=stream)
    stream.flush()


class Progress:
    """Makes the progress of stages visible on `stream` (stderr); `quiet` shows nothing.

    `log_every` is in seconds, for streams that are no terminal.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = True, log_every: float = _LOG_EVERY_S) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._log_every = log_every

    @contextmanager
    def stage(self, name: str, total: int, unit: str = "files") -> Iterator[Step]:
        """Show the progress of one stage of `total` units while inside; of ``files`` also those of batches under way.

        A `total` of 0 is one that is not known.
        """
        step = self.open(name, total, unit)
        try:
            with timed(name.partition(" ")[0]):
                yield step
        finally:
            step.close()

    def open(self, name: str, total: int, unit: str = "files", before: int = 0) -> Step:
        """Like `stage`, for one whose end is not that of a block; `before` units of it were done earlier.

        The unit ``B``, bytes, is shown in MB and GB.
        """
        if self._quiet:
            return Step()
        name = printable(name)
        if self._stream.isatty() or _in_notebook():
            step: _Watched = _Bar(self._stream, name, total, unit)
        else:
            step = _Log(self._stream, name, total, unit, self._log_every)
        step.start(before)
        return step


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return "ipykernel" in sys.modules


class Step:
    """A stage under way; this one shows nothing."""

    def add(self, count: int) -> None:
        """`count` more units are done."""

    def grow(self, count: int) -> None:
        """There are `count` units more than was thought."""

    def skip(self, count: int) -> None:
        """`count` units more were done earlier, and say nothing of the speed; fewer, where it is negative."""

    def close(self) -> None:
        """The stage has ended."""


class _Watched(Step):
    """A stage that a thread shows: first after `first` seconds, then every `every`."""

    def __init__(self, stream: TextIO, name: str, total: int, unit: str, first: float, every: float) -> None:
        self.stream, self.name, self.total, self.unit = stream, name, total, unit
        self.started = time.monotonic()
        self._first, self._every = first, every
        self._added = 0
        self._before = files_counted()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=WATCHING, daemon=True)

    def start(self, before: int) -> None:
        """Begin; `before` units were done earlier."""
        self.initial = self._added = before
        self._thread.start()

    def add(self, count: int) -> None:
        """See `Step.add`."""
        self._added += count

    def grow(self, count: int) -> None:
        """See `Step.grow`."""
        self.total += count

    def skip(self, count: int) -> None:
        """See `Step.skip`."""
        self.initial += count
        self._added += count

    def done(self) -> int:
        """Units done so far."""
        under_way = files_counted() - self._before if self.unit == "files" else 0
        found = max(self._added, under_way)
        return min(found, self.total) if self.total else found

    def close(self) -> None:
        """See `Step.close`."""
        self._ended.set()
        self._thread.join()
        self.finish()

    def show(self) -> None:
        """Show the progress."""

    def finish(self) -> None:
        """The stage has ended."""

    def _watch(self) -> None:
        wait = self._first
        while not self._ended.wait(wait):
            self.show()
            wait = self._every


class _Bar(_Watched):
    def __init__(self, stream: TextIO, name: str, total: int, unit: str) -> None:
        super().__init__(stream, name, total, unit, _SHOW_AFTER_S, _BAR_EVERY_S)
        self._bar: Any = None

    def show(self) -> None:
        """See `_Watched.show`."""
        if self._bar is None:
            from tqdm.auto import tqdm  # a widget in a notebook, text in a terminal

            tqdm.monitor_interval = 0  # this thread does what tqdm's own would
            octets = self.unit == "B"
            self._bar = tqdm(
                file=self.stream,
                desc=self.name,
                total=self.total or None,
                initial=self.initial,
                unit="B" if octets else f" {self.unit}",
                unit_scale=octets,
                mininterval=0,
                miniters=1,
                smoothing=0,
            )
            self._bar.start_t -= time.monotonic() - self.started
        self._bar.total, self._bar.initial = self.total or None, self.initial
        self._bar.update(self.done() - self._bar.n)

    def finish(self) -> None:
        """See `_Watched.finish`."""
        if self._bar is not None:
            self.show()
            self._bar.close()


class _Log(_Watched):
    def __init__(self, stream: TextIO, name: str, total: int, unit: str, every: float) -> None:
        super().__init__(stream, name, total, unit, every, every)

    def show(self) -> None:
        """See `_Watched.show`."""
        done, seconds = self.done(), time.monotonic() - self.started
        rate = (done - self.initial) / seconds
        left = f", {(self.total - done) / rate:,.0f} s left" if self.total and rate else ""
        many, unit = (1_000_000, "MB") if self.unit == "B" else (1, self.unit)
        state = f"{done // many:,} of {self.total // many:,} {unit}" if self.total else f"{done // many:,} {unit}"
        stamp = time.strftime("%H:%M:%S")
        self.stream.write(f"{stamp} {self.name}: {state}, {rate / many:,.0f} {unit}/s{left}\n")
        self.stream.flush()
