"""Part of `run`: from a plan to a subset that is done: intent, apply, commit; and the quick proof that it still is."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline import __version__, exporters, storage
from pipeline import manifest as target_manifest
from pipeline._download import refuse_without_room
from pipeline._gathering import MetaFile
from pipeline._packing import drop_packed
from pipeline._planning import Planned, far_images, folder_times, none, still_there
from pipeline._portable import portable_config, recipe
from pipeline._source import source_digest
from pipeline.digest import digest_of
from pipeline.engine import Engine
from pipeline.errors import StorageError
from pipeline.fetch import limits
from pipeline.index import IndexInfo, Scan
from pipeline.job import Job
from pipeline.manifest import Manifest, TargetState
from pipeline.plan import image_mark
from pipeline.progress import Progress
from pipeline.report import Report
from pipeline.schema import UNKNOWN, part_name

#: Below the target's `.coco-diy`: what was left out by the last build, `schema.problems`.
PROBLEMS = "problems.parquet"


def apply_plan(
    job: Job, planned: Planned, state: TargetState, engine: Engine, progress: Progress, still_ours: Callable[[], None]
) -> dict[str, str]:
    """Carry out the plan; returns path: reason of the files that failed.

    `still_ours` raises where the target was removed meanwhile.
    """
    from pipeline import apply

    failed: dict[str, str] = {}
    touched = planned.touched
    planned.resumed = state.intent is not None
    if not touched and not planned.changes:
        planned.totals["parts"] = target_manifest.settle(state, planned.buckets).parts
        _publish(job, planned, still_ours)
        return failed
    paths = {b: _intended(planned, b) for b in touched}
    target_manifest.write_intent(state, planned.buckets, paths, [p for a, p in planned.meta if a != "keep"])
    parts = list(state.base.parts)
    _prepare_target(job, planned)
    files = sum(s["changes"] for s in planned.summaries)
    context = apply.ApplyContext(job.root, job.workdir, job.config.target.images, planned.staged, job.origins,
                                 job.layout)
    function = functools.partial(apply.apply_bucket, context)
    tasks = [(os.path.join(planned.folder, part_name(b)), b) for b in touched]
    marks = target_manifest.DoneMarks(state, _synced_folders(job))
    with progress.stage("apply", files) as step:
        for outcome in engine.map(function, tasks, files=files):
            parts[outcome.bucket] = outcome.part
            failed |= outcome.failed
            step.add(outcome.done)
            marks.add(outcome.bucket, outcome.part)
    still_ours()
    marks.write()
    _publish(job, planned, still_ours)
    planned.totals["parts"] = parts
    planned.halted = any(path.startswith("labels/") for path in failed)
    return failed


def _publish(job: Job, planned: Planned, still_ours: Callable[[], None]) -> None:
    """Put the folders in place that were filled beside the target, by this run or by one that was stopped."""
    from pipeline import apply

    still_ours()
    apply.publish(job.target, planned.staged)


def _synced_folders(job: Job) -> list[str]:
    """Folders of the layout: what is in them must outlive a power cut, also where a link leads to another disk."""
    layout = exporters.load(job.config.target.format).FOLDERS
    return [*layout, *(f"{folder}/{split}" for folder in layout for split in job.splits)]


def gather(job: Job, planned: Planned, progress: Progress) -> bool:
    """Bring images that lie far away to the workdir: from one process, so that limits hold. Whether there were any."""
    far = far_images(job, planned)
    with progress.stage("fetch", sum(map(len, far.values())), "images") as step:
        for place, names in far.items():
            origin = storage.locate(place, job.workdir)
            refuse_without_room(os.path.join(job.workdir, "fetched"), origin.ask(names).bytes or 0)
            origin.gather(names, limits(job.config), step.add)
    return bool(far)


def reclaim(job: Job, planned: Planned) -> None:
    """Say again what this run has touched, where the target was removed under it, and the intent with it.

    Files that it made since are ours, and the next run must know. Where another run has begun there, they are its.
    """
    if job.target.local is None:  # a store's is not to be removed by a hand
        return
    state = TargetState(job.target, job.prefixes)
    if job.target.exists() and state.manifest is None and state.intent is None:
        parts = {b: _intended(planned, b) for b in planned.touched}
        target_manifest.write_intent(state, planned.buckets, parts, [p for a, p in planned.meta if a != "keep"])


def _intended(planned: Planned, bucket: int) -> bytes:
    from pipeline import _planner

    data = storage.locate(_planner.touched_folder(planned.folder)).read(part_name(bucket))
    if data is None:
        raise StorageError(f"{planned.folder}: the plan is gone while it is carried out; run again")
    return data


def _prepare_target(job: Job, planned: Planned) -> None:
    """Before the first label changes: folders exist, trainers' caches are gone, and so is a YAML that will change.

    A zip is whole by itself, and somebody may be reading it by its URL: it stays until the new one is there.
    """
    exporter = exporters.load(job.config.target.format)
    splits = [s for s in ("train", "val", "test") if planned.totals["subset"].get(s, {}).get("images")]
    folders = [f"{folder}/{split}/" for folder in exporter.FOLDERS if folder != "images" or job.need_image
               for split in splits]
    if job.config.target.zipped:
        folders.clear()
    job.target.make_folders([target_manifest.staged_path(folder, planned.staged) for folder in folders])
    _drop_caches(job, planned)
    yamls = [path for action, path in planned.meta if action != "keep" and not path.endswith(".zip")]
    job.target.delete_many(yamls).must(job.target, "deleted")


def _drop_caches(job: Job, planned: Planned) -> None:
    """Remove trainers' caches of the labels: most versions do not notice a change of equal length.

    Trainers keep one beside each folder of label files: ``labels/train.cache`` of ``labels/train``; what follows the
    last dot of the folder's name is cut off.
    """
    if any(kind == "label" for action in ("write", "delete") for kind in planned.totals["plan"].get(action, {})):
        if job.target.keeps_times:
            folders = [f for f in job.target.folder_times(["labels"]) if f != "labels"]
        else:  # looking for subfolders would take a listing of all files
            folders = [f"labels/{split}" for split in job.splits]
        caches = {name for f in folders for name in (f"{f}.cache", f"{f.rpartition('.')[0] or f}.cache")}
        job.target.delete_many(sorted(caches)).must(job.target, "deleted")


def commit(
    job: Job, infos: Sequence[IndexInfo], planned: Planned, state: TargetState, report: Report,
    still_ours: Callable[[], None], *, complete: bool, listed: dict[str, dict[str, int | None]],
) -> None:
    """The YAML comes back, then the manifest is written: from here on the subset is done.

    Where it is not `complete`, because files failed, the manifest names no source: the next build looks at all again.
    still_ours()
    report.warnings += target_manifest.commit(state, manifest)
    """
    writes = [path for action, path in planned.meta if action == "write" and not planned.halted]
    if planned.changes:
        _drop_caches(job, planned)
    _write_meta(job, {path: planned.contents[path] for path in writes})
    job.target.sync(_synced_folders(job))  # also where nothing was to be done: a run that was killed may have done it
    job.target.delete_many([path for action, path in planned.meta if action == "delete" and path.endswith(".zip")])
    meta = _meta_made(job, planned)
    kept = ("classes", "task", "format", "fingerprint", "subset", "rows", "images", "loss", "problems")
    told = {key: report.data[key] for key in kept} | {
        "ok": report.ok, "warnings": [w for w in report.warnings if w not in report.once]}
    manifest = Manifest(
        tool=f"coco-diy {__version__}",
        recipe=recipe(job),
        source=source_digest([info.source_digest for info in infos]) if complete else None,
        buckets=planned.buckets,
        parts=planned.totals["parts"],
        meta=meta,
        report=told | {"held": held_after(report.data["plan"])},
        images=remember_images(job, planned),
        folders=folder_times(job),
        prefixes=job.prefixes,
        config=portable_config(job),
        numbers=job.numbers(),
        name=job.config.name,
        listed=listed,
        left_out=_keep_problems(state, report),
    )
    still_ours()
    report.warnings += target_manifest.commit(state, manifest)
    if job.config.target.zipped:
        drop_packed(job.plan_dir)
        for folder in exporters.load(job.config.target.format).FOLDERS:
            job.target.drop_empty_folders(folder)


def _meta_made(job: Job, planned: Planned) -> dict[str, dict[str, Any]]:
    """What the manifest says of the files that belong to no image."""
    wait = {path for action, path in planned.meta if action == "write" and planned.halted}
    meta = {path: {"size": file.size, "digest": UNKNOWN.hex() if path in wait else file.digest}
            for path, file in planned.contents.items()}
    archives = [path for path in meta if path.endswith(".zip")]
    for path, found in zip(archives, job.target.fingerprints(archives), strict=True):
        if found is not None:
            meta[path]["mark"] = found.mark.hex()
    return meta


def held_after(plan: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Files and bytes by kind that a target holds once `plan`, its counts by action and kind, is carried out."""
    return {kind: {what: sum(plan[action][kind][what] for action in ("write", "copy", "keep"))
                   for what in ("files", "bytes")} for kind in plan["keep"]}


def _write_meta(job: Job, files: dict[str, MetaFile]) -> None:
    if not files:
        return
    scratch = job.target.own(target_manifest.SCRATCH)  # what a kill leaves there is cleared by the next run
    job.target.make_folders([f"{target_manifest.SCRATCH}/"])
    small = {path: file.content for path, file in files.items() if file.content is not None}
    job.target.write_many(list(small), list(small.values()), scratch=scratch).must(job.target)
    for path, file in files.items():
        if file.place is not None:
            folder, name = os.path.split(file.place)
            job.target.copy_many([path], storage.locate(folder), [name], [file.size], "copy",
                                 scratch=scratch).must(job.target)


def _keep_problems(state: TargetState, report: Report) -> str | None:
    """The table of what was left out stands beside the manifest: the plan's own is the next plan's to replace.

    Returns its digest; None without one.
    """
    if report.problems is None:
        state.folder.delete_many([PROBLEMS])
        return None
    data = target_manifest.to_parquet(report.problems)
    state.folder.write(PROBLEMS, data)
    return digest_of(data).hex()


def _problems_there(state: TargetState, digest: str | None) -> bool:
    """Whether the table of what was left out is as it was written."""
    data = state.folder.read(PROBLEMS) if digest is not None else None
    return digest is None or (data is not None and digest_of(data).hex() == digest)


def is_current_recipe(job: Job, state: TargetState) -> bool:
    certain = state.manifest is not None and state.intent is None and not state.lost
    return certain and state.manifest is not None and state.manifest.recipe == recipe(job)


def nothing_to_do(job: Job, state: TargetState, found: Sequence[Scan]) -> Report | None:
    """The report of a build that changes nothing, if that is certain without reading a table."""
    manifest = state.manifest
    digest = source_digest([scan.digest(s.spec) for s, scan in zip(job.sources, found, strict=True)])
    if manifest is None or digest is None or manifest.source != digest or manifest.folders != folder_times(job):
        return None
    if still_there(job, state) != manifest.meta or not _problems_there(state, manifest.left_out):
        return None
    if job.need_image and (manifest.images is None or _images_digest(job) != manifest.images):
        return None
    told = dict(manifest.report)
    ok, warnings, held = told.pop("ok"), told.pop("warnings"), told.pop("held", None)
    if held is None:
        return None
    plan = {action: {kind: none() for kind in held} for action in ("write", "copy", "delete")} | {"keep": held}
    data = {"command": "build", "status": "nothing to do", "target": job.root, **told, "plan": plan, "changes": 0,
            "warnings": warnings}
    if not ok:
        from pipeline import _losses

        data["left_out"] = _losses.told(_losses.read_table(state.folder, PROBLEMS), state.folder.join(PROBLEMS))
    return Report(data, ok, warnings, incomplete=not ok)  # of a build that failed the manifest names no source


def _images_file(job: Job) -> str:
    return f"{os.path.relpath(job.plan_dir, job.workdir)}.images"


def remember_images(job: Job, planned: Planned) -> str | None:
    """Keep the list of the images in the subset, so that a later run can look for changed ones without the tables.

    Returns the digest of their digests; None without images.
    """
    if not job.need_image:
        return None
    from pipeline import _images

    names, digests = _images.image_sources(planned.sources, planned.buckets, job.origins, planned.left_out)
    storage.locate(job.workdir).write(_images_file(job), json.dumps(names).encode())
    return digest_of(digests).hex()


def _images_digest(job: Job) -> str | None:
    """What `remember_images` returned, of the images as they are now; None where one is gone."""
    data = storage.locate(job.workdir).read(_images_file(job))
    if data is None:
        return None
    how = job.config.target.images
    digests: list[bytes] = []
    for folder, names in json.loads(data).items():
        found: dict[int, bytes] = {}
        for origin, some in storage.image_places(storage.locate(folder, job.workdir), names):
            for i, image in zip(some, origin.fingerprints([names[i] for i in some]), strict=True):
                if image is None:
                    return None
                found[i] = digest_of(image_mark(how, image, origin.join(names[i])))
        digests += [found[i] for i in range(len(names))]
    return digest_of(b"".join(digests)).hex()
