"""Stopping: one flag of this process, which all batches of files look at between two files."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from pipeline.errors import Interrupted
from pipeline.runtime.counters import WATCHING

#: What is said of it.
STOPPED = "stopped; run the same command again to go on"

#: Set to end every batch of this process after the file that it has under way.
STOP = threading.Event()


def check_stop() -> None:
    """Raise `Interrupted` where a stop was asked for."""
    if STOP.is_set():
        raise Interrupted(STOPPED)


#: How long a stop may take in all, in seconds. What is on the disk is whole at every moment, so no more is needed.
MOST_SECONDS = 2.5


@contextlib.contextmanager
def stop_bounded(end: Callable[[], object]) -> Iterator[None]:
    """While inside, call `end`, which ends this process, where a stop was asked for `MOST_SECONDS` ago.

    Something may wait for what never comes: a store, a disk that is away, a lock of a process that was killed.
    """
    ended = threading.Event()

    def watch() -> None:
        STOP.wait()
        if not ended.wait(MOST_SECONDS):
            end()

    # Of the name that listings know: it holds nothing that a forked process would wait for.
    threading.Thread(target=watch, name=WATCHING, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
