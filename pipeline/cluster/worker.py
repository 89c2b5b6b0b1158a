"""What a worker does: one task, from its description to its outcome."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pipeline.base.errors import CocoDiyError, StorageError
from pipeline.base.os_errors import any_os_error
from pipeline.cluster import fitness
from pipeline.cluster.run_folder import Facts, Made, WorkerStep, attempt_name, facts_of
from pipeline.runtime.log import LOG
from pipeline.runtime.tasks import Outcome
from pipeline.storage.local.outbox import collected

#: What an outcome calls a worker that cannot do what others can.
UNFIT = "unfit"

#: So much of the log of one task goes to the driver.
_MOST_LINES, _LONGEST_LINE = 20, 500


def run_task(folder: str, number: int, worker: str) -> Outcome:
    """Do task `number` of the step in `folder`, as the worker that is called `worker`; errors are outcomes, too."""
    step, attempt, began = WorkerStep(folder), attempt_name(number), time.monotonic()
    error, kind = None, ""
    with _logged() as lines:
        try:
            _do(step, number, attempt, worker)
        except _UnfitError as unfit:
            error, kind = str(unfit), UNFIT
        except CocoDiyError as known:
            error, kind = str(known), type(known).__name__
        except OSError as known:
            error, kind = str(any_os_error(known)), StorageError.__name__
        except MemoryError:
            error, kind = "memory is used up; give the worker more, or set index.buckets to more", "CocoDiyError"
        except Exception as unknown:  # noqa: BLE001 - the driver reports it
            error, kind = f"internal error, please report it: {type(unknown).__name__}: {unknown}", "internal"
        finally:  # also of one that is stopped: it is not one that died of its task
            with suppress(CocoDiyError, OSError):
                step.end(attempt)
    return Outcome(attempt, worker, os.uname().nodename, time.monotonic() - began, error, kind, tuple(lines))


class _UnfitError(CocoDiyError):
    """This worker cannot do what others can."""


def _do(step: WorkerStep, number: int, attempt: str, worker: str) -> None:
    facts, function = _of_step(step.path)
    step.begin(attempt, worker)
    with collected(facts.workdir, step.folder_of(attempt)) as outbox:
        try:
            value = function(*step.arguments(number))
            outbox.sync()
        finally:
            # Whatever came of it is not to be believed where a disk went away meanwhile.
            _refuse(fitness.unseen(facts))
    made = os.path.relpath(step.folder_of(attempt), facts.workdir)
    step.leave(attempt, Made(value, made, outbox.files))


@functools.lru_cache(maxsize=4)
def _of_step(folder: str) -> tuple[Facts, Callable[..., Any]]:
    """The facts of the run and the function of a step; raises `_UnfitError` where this worker is no worker for it."""
    run_path = os.path.dirname(folder)
    _refuse_unfit(run_path)
    return facts_of(run_path), WorkerStep(folder).function()


@functools.lru_cache(maxsize=8)
def _refuse_unfit(run_path: str) -> None:
    _refuse(fitness.examine(run_path, facts_of(run_path).versions).problems)


def _refuse(problems: Sequence[fitness.Problem]) -> None:
    """Raise `_UnfitError` for the first of the problems, if there are any."""
    if problems:
        raise _UnfitError(f"{problems[0].what}; {problems[0].cure}")


class _Collector(logging.Handler):
    """Takes what one thread logs."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, str]] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record, unless there are too many."""
        if record.thread == self._thread and len(self.lines) < _MOST_LINES:
            self.lines.append((record.levelno, record.getMessage()[:_LONGEST_LINE]))


@contextmanager
def _logged() -> Iterator[list[tuple[int, str]]]:
    """What this thread logs while inside, retries too."""
    collector = _Collector()
    LOG.addHandler(collector)
    if LOG.level == logging.NOTSET or LOG.level > logging.INFO:
        LOG.setLevel(logging.INFO)
    try:
        yield collector.lines
    finally:
        LOG.removeHandler(collector)
