"""Stopping: one flag of this process, which all batches of files look at between two files."""

from __future__ import annotations

import threading

from pipeline.errors import Interrupted

#: What is said of it.
STOPPED = "stopped; run the same command again to go on"

#: Set to end every batch of this process after the file that it has under way.
STOP = threading.Event()


def check_stop() -> None:
    """Raise `Interrupted` where a stop was asked for."""
    if STOP.is_set():
        raise Interrupted(STOPPED)
