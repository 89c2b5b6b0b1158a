"""Stopping: one flag of this process, which all batches of files look at between two files."""

from __future__ import annotations

import signal
import threading

from pipeline.errors import Interrupted

#: What is said of it.
STOPPED = "stopped; run the same command again to go on"
#: Set to end every batch of this process after the file that it has under way.
STOP = threading.Event()
#: The signal that stopped this process, once one has.
_SIGNALS: list[int] = []


def note_signal(number: int) -> None:
    """Ask for a stop because the signal `number` came."""
    _SIGNALS.append(number)
    STOP.set()


def exit_code() -> int:
    """What a stopped process ends with, as shells have it: 128 and the number of the signal, 130 without one."""
    return 128 + (_SIGNALS[0] if _SIGNALS else signal.SIGINT)


def forget_signal() -> None:
    """Begin anew: for a process that goes on after a stop."""
    _SIGNALS.clear()
    STOP.clear()


def check_stop() -> None:
    """Raise `Interrupted` where a stop was asked for."""
    if STOP.is_set():
        raise Interrupted(STOPPED)
