"""Whether the run that a worker writes for is still under way, where no folder can be taken away from it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from pipeline.base.os_errors import run_ended
from pipeline.storage.stores.client import Client
from pipeline.storage.stores.in_flight import insist

T = TypeVar("T")

#: How long an answer holds. A process or machine that was stopped asks first when it wakes up: the clock went on.
HOLDS_S = 5.0

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Seconds since this machine started, also those in which it slept."""
    return time.clock_gettime(_CLOCK)


class Guard(Protocol):
    """Makes of the writing of a file one that is guarded."""

    def __call__(self, work: Callable[..., T], /) -> Callable[..., T]:
        """`work`, guarded."""


def unguarded(work: Callable[..., T], /) -> Callable[..., T]:
    """Just `work`: who does it does not outlive the run."""
    return work


class Asking:
    """A `Guard` that asks for the file `key` every few seconds; `url` is what messages call it."""

    def __init__(self, client: Callable[[], Client], key: str, url: str) -> None:
        self._client, self._key, self._url = client, key, url
        self._lock, self._asked = threading.Lock(), float("-inf")

    def __call__(self, work: Callable[..., T], /) -> Callable[..., T]:
        """`work`, but asking first. Raises `StorageError` where the file is gone."""

        def guarded(*args: object) -> T:
            self._ask()
            return work(*args)

        return guarded

    def _ask(self) -> None:
        with self._lock:
            if clock() - self._asked < HOLDS_S:
                return
            now = clock()
            if insist(lambda: self._client().head(self._key), self._url, "read") is None:
                raise run_ended(self._url, "; nothing more is written for it")
            self._asked = now


def outlast_answers() -> None:
    """Wait until no answer holds that was given before, and what was begun by one of them is over; also amid a stop."""
    time.sleep(2 * HOLDS_S)
