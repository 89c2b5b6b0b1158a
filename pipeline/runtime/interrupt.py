"""Stopping: one flag of this process, which all batches of files look at between two files."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

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
def stop_bounded(code: int) -> Iterator[None]:
    """While inside, end this process with `code` where it has not ended `MOST_SECONDS` after a stop was asked for.

    Something may wait for what never comes: a store, a disk that is away, a lock of a process that was killed.
    """
    ended = threading.Event()

    def watch() -> None:
        STOP.wait()
        if not ended.wait(MOST_SECONDS):
            with contextlib.suppress(OSError):
                os.write(2, f"coco-diy: {STOPPED}\n".encode())
            os._exit(code)

    # Of the name that listings know: it holds nothing that a forked process would wait for.
    threading.Thread(target=watch, name=WATCHING, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
