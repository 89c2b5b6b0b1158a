"""A build that may change something: from listings of the sources to a subset that is done."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from pipeline.base.arrow import arrow_alone
from pipeline.base.errors import StorageError
from pipeline.job.job import Job
from pipeline.job.waiting import INDEX_S, IndexChangedError, waiting
from pipeline.reports.report import Report
from pipeline.runtime.engine import Engine
from pipeline.runtime.interrupt import check_stop
from pipeline.runtime.progress import Progress
from pipeline.runtime.run import timed
from pipeline.stages.apply.commit import commit
from pipeline.stages.apply.subset import apply_plan, gather, reclaim
from pipeline.stages.index.locks import index_lock
from pipeline.stages.index.problems import source_report
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.index.scan import Scan
from pipeline.stages.index.sources import check_subsets, update_index
from pipeline.stages.plan.brake import check_source, source_counts
from pipeline.stages.plan.planned import Planned, remote_images
from pipeline.stages.plan.subset import feasible_plan
from pipeline.stages.select.split_table import remember
from pipeline.target.manifest import PROBLEMS, TargetState


def rebuild(
    job: Job,
    state: TargetState,
    found: Sequence[Scan],
    engine: Engine,
    progress: Progress,
    suspects: frozenset[str],
    indexes: ExitStack,
    still_ours: Callable[[], None],
) -> Report:
    """Index what was `found`, plan and apply; the target is locked, and `still_ours` raises where it no longer is.

    `indexes` holds the lock of the indexes, which is let go of once they are read.
    """
    if state.manifest is not None:
        arrow_alone()  # few buckets are planned then, and without a frame
    subsets = check_subsets(job)
    check_source(job, state, found)
    listed = source_counts(job, found)
    job, infos = update_index(job, engine, progress, found, subsets)
    job = job.keep_numbers(state.manifest)
    check_stop()
    plan = functools.partial(feasible_plan, job, infos, state, source_report(job, infos), engine, progress, suspects)
    planned, report = _gathered(job, infos, plan, indexes, progress)
    remember(job, planned.split)
    indexes.close()  # other subsets of these sources need not wait for the files of this one
    try:
        failed = apply_plan(job, planned, state, engine, progress, still_ours)
        check_stop()
        still_ours()
    except StorageError:
        with contextlib.suppress(StorageError):
            reclaim(job, planned)
        raise
    whole = not failed and not planned.passing
    with timed("commit"):
        commit(job, infos, planned, state, report, still_ours, complete=whole, listed=listed)
    if report.problems is not None:
        report.data["left_out"]["table"] = state.folder.join(PROBLEMS)
    return _done(job, report, planned, failed)


def _gathered(
    job: Job,
    infos: Sequence[IndexInfo],
    plan: Callable[..., tuple[Planned, Report]],
    indexes: ExitStack,
    progress: Progress,
) -> tuple[Planned, Report]:
    """The plan that is carried out, and its report: where images come from elsewhere, made anew once they are here.

    While they come, other subsets may use the `indexes`, which this run has locked. Raises `IndexChangedError` where
    one of these found other label files than this run.
    """
    planned, report = plan()
    cost = report.data.get("fetch")
    lazily = job.config.select.has_caps  # room that damaged images leave below a cap is for others, not fetched yet
    asked: set[tuple[str, str]] = set()
    while remote := _new(remote_images(job, planned.sources, planned.buckets), asked):
        indexes.close()
        gather(job, remote, progress)
        waiting(INDEX_S, lambda: indexes.enter_context(index_lock(job)))
        for source, info in zip(job.sources, infos, strict=True):
            now = IndexInfo.read(source.index_dir)
            if now is None or now.parts != info.parts:
                raise IndexChangedError(source.index_dir)
        planned, report = plan(fetched=not lazily)  # sizes are known now, and images can be checked
    if asked and lazily:
        planned, report = plan(fetched=True)
    if asked:
        report.data["fetch"] = cost
    check_stop()
    return planned, report


def _new(remote: dict[str, list[str]], asked: set[tuple[str, str]]) -> dict[str, list[str]]:
    """Those of the `remote` images that are not `asked` for yet; from now on they are."""
    new = {url: some for url, names in remote.items() if (some := [name for name in names if (url, name) not in asked])}
    asked.update((url, name) for url, names in new.items() for name in names)
    return new


def _done(job: Job, report: Report, planned: Planned, failed: dict[str, str]) -> Report:
    """The report of a plan as that of the build that carried it out; `failed` are paths with reasons."""
    report.data["command"] = "build"
    report.data["status"] = "failed" if failed else "built" if planned.changes or planned.resumed else "nothing to do"
    archive = next((path for action, path in planned.meta if path.endswith(".zip") and action != "delete"), None)
    report.data["archive"] = archive
    if job.target.local is not None and job.need_image:
        path = job.target.join(archive or "")
        report.data["training"] = job.exporter.training(job.task, path)
    if failed:
        report.ok = report.incomplete = False
        report.later = planned.later
        report.data["failed"] = failed
    return report
