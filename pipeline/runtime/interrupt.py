"""Stopping: one flag of this process, which all batches of files look at between two files; and what ended a run."""

from __future__ import annotations

import signal
import threading
from typing import Any

from pipeline.errors import CocoDiyError, Interrupted

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


def failure(error: BaseException) -> dict[str, Any]:
    """What ended a run, as plain data, see `CocoDiyError.facts`."""
    if isinstance(error, CocoDiyError) and not isinstance(error, Interrupted):
        return error.facts()
    if isinstance(error, Interrupted | KeyboardInterrupt) or type(error).__name__ == "Abort":  # click's of a Ctrl-C
        return Interrupted(STOPPED).facts() | {"exit_code": exit_code()}
    told = (
        f"a fault of coco-diy's own, please report it: {type(error).__name__}: {error} "
        "(run again with -v for the traceback)"
    )
    return CocoDiyError(told).facts() | {"reason": "internal"}


def forget_signal() -> None:
    """Begin anew: for a process that goes on after a stop."""
    _SIGNALS.clear()
    STOP.clear()


def check_stop() -> None:
    """Raise `Interrupted` where a stop was asked for."""
    if STOP.is_set():
        raise Interrupted(STOPPED)
