"""From a plan to a subset that is done: intent, apply, commit; and the quick proof that it still is."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

from pipeline import storage
from pipeline.base.errors import StorageError
from pipeline.base.terms import SPLITS
from pipeline.images.integrity import ends_whole
from pipeline.job.job import Job
from pipeline.job.limits import limits
from pipeline.runtime.engine import Engine
from pipeline.runtime.progress import Progress
from pipeline.stages.apply.commit import drop_caches, synced_folders
from pipeline.stages.plan.planned import Planned
from pipeline.storage.local.disk_space import refuse_without_room
from pipeline.tables.schema import part_name
from pipeline.target.intent import settle, write_intent
from pipeline.target.manifest import DoneMarks, TargetState, staged_path


def apply_plan(
    job: Job, planned: Planned, state: TargetState, engine: Engine, progress: Progress, still_ours: Callable[[], None]
) -> dict[str, str]:
    """Carry out the plan; returns path: reason of the files that failed.

    `still_ours` raises where the target was removed meanwhile.
    """
    from pipeline.stages.apply.bucket import ApplyContext, apply_bucket

    failed: dict[str, str] = {}
    passing: set[str] = set()
    touched = planned.touched
    planned.resumed = state.intent is not None
    if not touched and not planned.changes:
        planned.parts = settle(state, planned.buckets).parts
        engine.drop_fence()
        _publish(job, planned, still_ours)
        return failed
    paths = {b: _intended(planned, b) for b in touched}
    write_intent(state, planned.buckets, paths, [p for a, p in planned.meta if a != "keep"])
    parts = list(state.base.parts)
    _prepare_target(job, planned, state)
    files = sum(s.changes for s in planned.summaries)
    context = ApplyContext(job.root, job.config.target.images, planned.staged, job.origins, job.folders, engine.fence)
    function = functools.partial(apply_bucket, context)
    tasks = [(planned.folder, bucket) for bucket in touched]
    marks = DoneMarks(state, synced_folders(job))
    with progress.stage("apply", files) as step:
        for outcome in engine.map(function, tasks, files=engine.weight(files) if _on_disks(job) else files):
            parts[outcome.bucket] = outcome.part
            failed |= outcome.results.failed
            passing |= outcome.results.passing
            step.add(outcome.results.done)
            marks.add(outcome.bucket, outcome.part)
    engine.drop_fence()
    if job.target.local is not None:  # a store is asked before what is written next; marks are in a folder of this run
        still_ours()
    marks.write()
    _publish(job, planned, still_ours)
    planned.parts = parts
    planned.later = bool(failed) and passing >= failed.keys()
    labels = tuple(f"{folder}/" for folder in job.layout.split_folders(SPLITS, ["labels"]))
    planned.halted = any(path.startswith(labels) for path in failed)
    return failed


def _on_disks(job: Job) -> bool:
    """Whether files go from folder to folder: what goes through a network or out of an archive takes longer."""
    folders = [origin.location.local for origin in job.origins if origin.url is not None]
    return job.target.local is not None and None not in folders


def _publish(job: Job, planned: Planned, still_ours: Callable[[], None]) -> None:
    """Move the folders to the target that were filled beside it, by this run or by one that was stopped."""
    from pipeline.stages.apply.bucket import publish

    if planned.staged:
        still_ours()
        publish(job.target, planned.staged)


def gather(job: Job, remote: dict[str, list[str]], progress: Progress) -> None:
    """Bring `remote_images` to the workdir: from one process, so that limits are kept."""
    with progress.stage("fetch", sum(map(len, remote.values())), "images") as step:
        for url, names in remote.items():
            location = storage.locate(url, job.workdir)
            refuse_without_room(os.path.join(job.workdir, "fetched"), location.ask(names).bytes or 0)
            location.gather(names, limits(job.config), step.add, ends_whole)


def reclaim(job: Job, planned: Planned) -> None:
    """Say again what this run has touched, where the target was removed under it, and the intent with it.

    What a hand that removes it leaves is ours, and the next run must know. Where another run has begun there, it is
    its; what is in another folder of that name, on which the target's disk was mounted, say, is the user's.
    """
    if job.target.local is None:  # a store's is not to be removed by a hand
        return
    state = job.state()
    if state.manifest is None and state.intent is None:
        parts = {b: _intended(planned, b) for b in planned.touched}
        write_intent(state, planned.buckets, parts, [p for a, p in planned.meta if a != "keep"])


def _intended(planned: Planned, bucket: int) -> bytes:
    from pipeline.stages.plan.bucket import touched_folder

    data = storage.locate(touched_folder(planned.folder)).read(part_name(bucket))
    if data is None:
        raise StorageError(f"{planned.folder}: the plan is gone while it is carried out; run again")
    return data


def _prepare_target(job: Job, planned: Planned, state: TargetState) -> None:
    """Before the first label changes: folders exist, trainers' caches are gone, and so is a YAML that will change.

    A zip is whole by itself, and somebody may be reading it by its URL: it stays until the new one is there.
    """
    splits = [split for split in SPLITS if planned.totals.images_in(split)]
    kinds = [kind for kind in job.layout.folders if kind != "images" or job.need_image]
    folders = [f"{folder}/" for folder in job.layout.split_folders(splits, kinds)]
    if job.config.target.zipped:
        folders.clear()
    job.target.make_folders([staged_path(folder, planned.staged) for folder in folders])
    yamls = [path for action, path in planned.meta if action != "keep" and not path.endswith(".zip")]
    drop_caches(job, planned, state, yamls)
