"""The run of a command: what it is called, how long its stages take, and who wants to know when it begins and ends.

One at a time in a process. A library that calls `api.build` has one for each build, the command line one a command.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.runtime.counters import FETCHED, READ, REQUESTS, WRITTEN, counted

_BYTES = {"read": READ, "written": WRITTEN, "fetched": FETCHED}


class Observer(Protocol):
    """What hears of a run. What goes wrong there is a warning, and nothing of the run changes."""

    def begins(self, run: Run) -> None:
        """The run begins."""

    def ends(self, run: Run) -> None:
        """The run is over, and `run.code` says how."""


@dataclass(eq=False)
class Run:
    """A run: `code` is what it came to (an exit code), `outcome` the record of a build or else what was printed.

    `config`, `target` and `record` (where the record is) are paths or URLs, empty where there is none. `outputs` are
    the files that options name to be written, by option: absolute paths. `elsewhere` has another one for each that
    nobody named, for where the usual one would be in a folder of the source.
    """

    id: str
    code: int | None = None
    outcome: dict[str, Any] = field(default_factory=dict)
    config: str = ""
    target: str = ""
    record: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.time)
    stages: dict[str, float] = field(default_factory=dict)
    #: The stage that is under way or, of a run that failed, where that was.
    stage: str | None = None
    _observers: list[Observer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._clock = time.monotonic()
        self._before = {what: counted(what) for what in (*_BYTES.values(), REQUESTS)}

    @property
    def status(self) -> str:
        """What became of it, in a word: ``built``, ``nothing to do``, or the reason of the failure."""
        report, error = self.outcome.get("report", self.outcome), self.outcome.get("error", {})
        return str(report.get("status") or (error if isinstance(error, dict) else self.outcome).get("reason", "done"))

    def attach(self, observer: Observer) -> None:
        """Have `observer` hear that this run begins, and later that it ends."""
        self._observers.append(observer)
        observer.begins(self)

    def facts(self) -> dict[str, Any]:
        """This run so far, as plain data: times are UTC, ISO 8601; bytes and requests those of this machine."""
        seconds = time.monotonic() - self._clock
        return {
            "id": self.id,
            "start": stamp_of(self.began),
            "end": stamp_of(self.began + seconds),
            "seconds": round(seconds, 3),
            "stages": {name: round(took, 3) for name, took in self.stages.items()},
            "stage": self.stage,
            "bytes": {name: counted(what) - self._before[what] for name, what in _BYTES.items()},
            "requests": counted(REQUESTS) - self._before[REQUESTS],
        }

    def end(self) -> None:
        """Have all observers hear that it is over."""
        while self._observers:
            with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C is for who hears of it now, not for all
                self._observers.pop(0).ends(self)


_CURRENT: list[Run] = []


def current() -> Run | None:
    """The run that is under way in this process."""
    return _CURRENT[-1] if _CURRENT else None


@contextlib.contextmanager
def running() -> Iterator[Run]:
    """The run that is under way, or else a new one while inside, which ends with this block."""
    if _CURRENT:
        yield _CURRENT[-1]
        return
    now = time.time()
    run = Run(f"{compact_stamp(now)}-{os.getpid()}")
    _CURRENT.append(run)
    try:
        yield run
    finally:
        try:
            run.end()
        finally:
            _CURRENT.remove(run)


@contextlib.contextmanager
def timed(name: str) -> Iterator[None]:
    """What is done inside is the stage `name` of the run that is under way, if there is one."""
    run = current()
    if run is None:
        yield
        return
    before, began, run.stage = run.stage, time.monotonic(), name
    try:
        yield
        run.stage = before
    finally:
        run.stages[name] = run.stages.get(name, 0.0) + time.monotonic() - began


def compact_stamp(seconds: float) -> str:
    """A moment in seconds since 1970 as a part of a name, UTC, to the millisecond: ``20261128T031700000Z``."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(seconds))}{int(seconds * 1000) % 1000:03d}Z"


def stamp_of(seconds: float) -> str:
    """A moment in seconds since 1970 as ISO 8601, UTC, to the millisecond."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{thousandths:03d}Z"
