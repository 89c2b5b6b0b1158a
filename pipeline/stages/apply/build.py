"""A build of a job: under its locks the quick way out, or all the way from listings to a subset that is done."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from contextlib import ExitStack

from pipeline.base.errors import StorageError
from pipeline.job.job import Job
from pipeline.reports.report import Report
from pipeline.runtime.engine import Engine
from pipeline.runtime.log import LOG
from pipeline.runtime.progress import Progress
from pipeline.stages.apply.up_to_date import is_current_recipe, nothing_to_do, remember_build, remember_target
from pipeline.stages.index.locks import index_lock, plan_lock
from pipeline.stages.index.scan import import_for_plan, scanned
from pipeline.target.intent import tidy
from pipeline.target.manifest import FOLDER, INTENT_PATH, LOCK, SCRATCH


def break_lock(job: Job) -> None:
    """Take the lock at the target of `job` from whoever has it."""
    job.target.break_lock(LOCK)


def build_subset(job: Job, progress: Progress, suspects: frozenset[str], engine_of: Callable[[], Engine]) -> Report:
    """Make the subset of `job` under the locks of all that it uses; nothing where it is what the config wants.

    The files `suspects` are made anew. `engine_of` gives what runs the tasks, once the indexes are locked. Raises
    `LockError` where another run has a lock.
    """
    target_lock = job.target.lock(LOCK, f"the target {job.root}")
    still_ours: Callable[[], None]
    with ExitStack() as stack:
        if job.target.local is not None:
            had_folder = job.target.exist_many([FOLDER])[0]
            leave_none = functools.partial(_leave_no_target, job, had_folder, job.target.exists())
            still_ours = stack.enter_context(target_lock)
            stack.push(leave_none)
        stack.enter_context(plan_lock(job))
        indexes = stack.enter_context(ExitStack())
        indexes.enter_context(index_lock(job))
        engine = stack.enter_context(engine_of())
        job.target.begin_listing()  # where each file costs a request
        state = job.state(remembered=True)
        if job.target.local is not None:
            tidy(state)
        current = is_current_recipe(job, state) and not suspects and not (state.damaged and job.target.local is None)
        if state.manifest is None:  # else it is not needed, see `frame.takes_tables`, or need not be done ahead
            engine.begin(import_for_plan)
        found = stack.enter_context(scanned(job, None if current else engine, progress))
        if current and (report := nothing_to_do(job, state, found)):
            remember_target(job, state)
            LOG.info("%s: nothing changed since the last build; its index and plan are not made anew", job.root)
            return report
        if job.target.local is None:  # taking this lock costs requests: not where there is nothing to do
            still_ours = stack.enter_context(target_lock)
            job.memory.forget()
            state = job.state()
            tidy(state)
            stack.push(engine)  # what it has under way ends before the lock does
        from pipeline.stages.apply.rebuild import rebuild

        engine.connect(job.target, SCRATCH)
        report = rebuild(job, state, found, engine, progress, suspects, indexes, still_ours)
        if job.target.local is None and report.ok:
            still_ours()
            remember_build(job)
        return report


def _leave_no_target(job: Job, had_folder: bool, had_root: bool, kind: type[BaseException] | None, *_: object) -> None:
    """Of a build that ends before its first write, leave no target where there was none; it is locked still."""
    if kind is None or had_folder or job.target.exist_many([INTENT_PATH])[0]:
        return
    with contextlib.suppress(StorageError):
        job.target.delete_many([LOCK])
        job.target.drop_empty_folders("" if not had_root else FOLDER)
