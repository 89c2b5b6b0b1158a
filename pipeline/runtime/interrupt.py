"""Stopping: one flag of this process, which all batches of files check between two files; and what ended a run."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.base.errors import CocoDiyError, Interrupted, StorageError
from pipeline.runtime.counters import WATCHING

#: What is said of it.
STOPPED = "stopped; run the same command again to go on"

#: Signals that stop a run: Ctrl-C, a timer or a cluster, and a terminal or an ssh session that closes.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Set to end every batch of this process after the file that it has under way.
STOP = threading.Event()

#: The signal that stopped this process, once one has.
_SIGNALS: list[int] = []


def note_signal(number: int) -> None:
    """Ask for a stop because the signal `number` came."""
    _SIGNALS.append(number)
    STOP.set()


def on_stop(handle: Callable[[int, Any], object]) -> None:
    """Have a signal that stops a run handled by `handle`; a hangup that is ignored, as `nohup` wants it, stays so."""
    for number in STOPPING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handle)


def exit_code() -> int:
    """What a stopped process ends with, as shells have it: 128 and the number of the signal, 130 without one."""
    return 128 + (_SIGNALS[0] if _SIGNALS else signal.SIGINT)


def failure(error: BaseException) -> dict[str, Any]:
    """What ended a run, as plain data, see `CocoDiyError.facts`."""
    if isinstance(error, CocoDiyError) and not isinstance(error, Interrupted):
        return error.facts()
    if isinstance(error, Interrupted | KeyboardInterrupt) or type(error).__name__ == "Abort":  # click's of a Ctrl-C
        return Interrupted(STOPPED).facts() | {"exit_code": exit_code()}
    if isinstance(error, MemoryError):
        return StorageError("memory is used up; set engine.workers to fewer, or index.buckets to more").facts()
    text = f"internal error, please report it: {type(error).__name__}: {error} (run again with -v for the traceback)"
    return CocoDiyError(text).facts() | {"reason": "internal"}


def forget_signal() -> None:
    """Begin anew: for a process that goes on after a stop."""
    _SIGNALS.clear()
    STOP.clear()


def check_stop() -> None:
    """Raise `Interrupted` where a stop was asked for."""
    if STOP.is_set():
        raise Interrupted(STOPPED)


#: How long a stopped run waits for the file that a thread has under way.
STOP_SECONDS = 1.0

#: How long after its signal a run is ended, in seconds. What is on the disk is whole at every moment.
MOST_SECONDS = 2.5


#: Ends of what is bounded, see `stop_bounded`.
_BOUNDS: list[threading.Event] = []


def unbound_stop() -> None:
    """What is left to do has a bound of its own: a stop ends this process no more."""
    for ended in _BOUNDS:
        ended.set()


#: How much longer it may take now, see `more_time`.
_MORE = [0.0]


def more_time(seconds: float) -> None:
    """From now on a stop may take so many seconds more, in which workers elsewhere end; a second signal ends it."""
    _MORE[0] = seconds


@contextlib.contextmanager
def stop_bounded(end: Callable[[], object]) -> Iterator[None]:
    """While inside, call `end`, which ends this process, where a signal came `MOST_SECONDS` ago.

    Something may wait for what never comes: a store, a disk that is away, a lock of a process that was killed. And
    while the main thread is inside of a library, Python runs no handler: its number comes by a socket all the same.
    """
    ended = threading.Event()
    _BOUNDS.append(ended)
    came, comes = socket.socketpair()
    comes.setblocking(False)  # as `set_wakeup_fd` wants it
    signal.set_wakeup_fd(comes.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        with came:  # to the end: Python would print a traceback for a second signal that nobody takes
            if not _hears_stop(came):
                return
            if _MORE[0]:
                came.settimeout(_MORE[0])
                _hears_stop(came)
            if not ended.wait(MOST_SECONDS):
                end()

    # Of the name that listings know: it holds nothing that a forked process would wait for.
    threading.Thread(target=watch, name=WATCHING, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        ended.set()
        _BOUNDS.remove(ended)
        comes.close()


def _hears_stop(came: socket.socket) -> bool:
    """Note the next signal of a stop; False where the other end is closed before, or the time of the socket is over."""
    with contextlib.suppress(TimeoutError):
        while number := came.recv(1):
            if number[0] in STOPPING:
                note_signal(number[0])
                return True
    return False
