"""Processes beside this one, which share its buckets."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from pipeline.base.arrow import hide_pandas
from pipeline.base.errors import CocoDiyError
from pipeline.runtime.counters import WIDTH, add_helpers, count_in
from pipeline.runtime.interrupt import STOP_SECONDS, check_stop
from pipeline.runtime.log import LOG, show_log, shown_level
from pipeline.runtime.log_file import LogFile, log_file, log_to
from pipeline.runtime.pins import pin, pins

_MAIN_LOCK = threading.Lock()

_ENDING = threading.Lock()

#: Slots in which helpers count.
_SLOTS = 64

#: How often helpers that were started since are searched for.
_POLL_SECONDS = 0.2


def start_helpers(count: int, *, needs_pandas: bool) -> Helpers:
    """A pool of `count` processes. They are spawned: forking a process that has threads (pyarrow's) can hang it."""
    import multiprocessing

    _start_tracker()
    context = multiprocessing.get_context("spawn")
    counts = context.RawArray("q", _SLOTS * WIDTH)
    add_helpers(counts)
    return Helpers(count, context, _start_worker, (needs_pandas, counts, shown_level(), log_file(), pins()))


def _start_tracker() -> None:
    """Start Python's tracker of resources: it removes the semaphores of a run that is ended, without a word."""
    from multiprocessing.resource_tracker import ensure_running

    quiet = "ignore::UserWarning:multiprocessing.resource_tracker"
    sys.warnoptions.append(quiet)  # processes that start now have it as their option
    try:
        ensure_running()
    finally:
        sys.warnoptions.remove(quiet)


#: Signals that a terminal sends to all processes of its session.
_OF_TERMINAL = {signal.SIGINT, signal.SIGHUP}


def _start_worker(needs_pandas: bool, counts: Any, log_level: int, log: LogFile | None, pinned: dict[str, int]) -> None:
    """First of all in a worker process. Ctrl-C, or a terminal that closes, is for the parent, which ends its workers.

    A helper beside the parent indexes and applies, so it never needs pandas.
    """
    for number in _OF_TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_TERMINAL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if log_level:
        show_log(log_level)
    if log is not None:
        log_to(log)
    pin(pinned)
    first = os.getpid() % _SLOTS * WIDTH  # two of one slot would only lose some counts
    count_in(memoryview(counts).cast("B").cast("q")[first : first + WIDTH])
    gc.set_threshold(100_000, 50, 50)  # lists of a hundred thousand names are no garbage
    if not needs_pandas:
        hide_pandas()


def _end_with_parent() -> None:
    """A parent that was killed cannot end its workers, and they would wait for its tasks for ever."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def warm_up() -> None:
    """First task of a helper: what later ones import."""
    import pyarrow.parquet

    assert pyarrow.parquet


@contextmanager
def workers_lost() -> Iterator[None]:
    """Say in a sentence that processes were killed while they were at work."""
    try:
        yield
    except BrokenExecutor:
        check_stop()
        raise CocoDiyError(
            "a worker process was killed (out of memory?); run again with fewer --workers: it goes on where it was"
        ) from None


class Helpers(ProcessPoolExecutor):
    """A pool whose processes do not import the caller's main module.

    They need nothing of it, and a user's script without a ``__name__`` guard would run twice.
    """

    _watched = _ended = _warned = False

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """See `ProcessPoolExecutor.submit`: this may start a process."""
        try:
            with _no_main(), _no_interrupt():
                future = super().submit(*args, **kwargs)
        except OSError:
            if not self._ended:
                raise
            raise BrokenExecutor("its processes were ended") from None
        if not self._watched:
            self._watched = True
            threading.Thread(target=self._watch, name="coco-diy-helpers", daemon=True).start()
        return future

    def _watch(self) -> None:
        """End all helpers when one has died: it may hold the lock, or half of the pipe, that the others wait for."""
        from multiprocessing.connection import wait

        while not self._ended and (processes := list((self._processes or {}).values())):
            if wait([process.sentinel for process in processes], timeout=_POLL_SECONDS):
                self._end(processes)

    def _end(self, processes: Sequence[Any]) -> None:
        """End all processes: what they were doing is lost, as if the machine had stopped there.

        One that was killed amid an answer leaves half of it in the pipe. Nobody else writes there any more, so its end
        is closed, and whoever reads the other half sees that instead of waiting for ever.
        """
        with _ENDING:  # two threads may come here at once, and a descriptor is to be closed once
            if self._ended:
                return
            self._ended = True
        for process in processes:
            process.kill()
        writer = getattr(self._result_queue, "_writer", None)
        if writer is not None and not writer.closed:
            writer.close()

    def kill(self) -> None:
        """End all processes and threads of this pool, as `_end` says."""
        manager: Any = self._executor_manager_thread
        self._end(list((self._processes or {}).values()))
        self.shutdown(wait=False, cancel_futures=True)
        if manager is not None:
            manager.join(STOP_SECONDS)

    def say_lost(self) -> None:
        """Say, once, that helpers are gone."""
        if not self._warned:
            self._warned = True
            LOG.warning(
                "a helper process was killed (out of memory?); this one goes on alone; fewer --workers take less memory"
            )


@contextmanager
def _no_main() -> Iterator[None]:
    """Hide the caller's main module while workers start.

    Spawned processes import the parent's main module anew; ours need nothing of it, and a user's script without a
    ``__name__`` guard would run twice.
    """
    with _MAIN_LOCK:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Block Ctrl-C and hangups in this thread, so in workers that it starts: until `_start_worker` they die of it.

    What starts before them, Python's tracker of resources, ends a block of its own by letting all through.
    """
    from multiprocessing.resource_tracker import ensure_running

    ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
