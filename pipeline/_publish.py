"""Part of `run`: from a plan to a subset that is done: intent, apply, commit; and the quick proof that it still is."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence

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
from pipeline.schema import part_name

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
    if not planned.changes:
        planned.totals["parts"] = target_manifest.settle(state, planned.buckets).parts
        return failed
    paths = {b: _intended(planned, b) for b in touched}
    target_manifest.write_intent(state, planned.buckets, paths, [p for a, p in planned.meta if a != "keep"])
    assert state.intent is not None
    parts = list(state.base.parts)
    _prepare_target(job, planned)
    files = sum(s["changes"] for s in planned.summaries)
    context = apply.ApplyContext(job.root, job.workdir, state.intent["folder"], job.config.target.images,
                                 planned.staged, job.origins, job.layout)
    function = functools.partial(apply.apply_bucket, context)
    tasks = [(os.path.join(planned.folder, part_name(b)), b) for b in touched]
    with progress.stage("apply", files) as step:
        for outcome in engine.map(function, tasks, files=files):
            parts[outcome.bucket] = outcome.part
            failed |= outcome.failed
            step.add(outcome.done)
    still_ours()
    apply.publish(job.target, planned.staged)
    planned.totals["parts"] = parts
    return failed


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
    job.target.delete_many([path for action, path in planned.meta if action != "keep" and not path.endswith(".zip")])


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
        job.target.delete_many(sorted(caches))


def commit(
    job: Job, infos: Sequence[IndexInfo], planned: Planned, state: TargetState, report: Report,
    still_ours: Callable[[], None], *, complete: bool
) -> None:
    """The YAML comes back, then the manifest is written: from here on the subset is done.

    Where it is not `complete`, because files failed, the manifest names no source: the next build looks at all again.
    `still_ours` raises where the target was removed meanwhile, or its lock is another run's.
    """
    writes = [path for action, path in planned.meta if action == "write"]
    if planned.changes:
        _drop_caches(job, planned)
    _write_meta(job, {path: planned.contents[path] for path in writes})
    if planned.changes:
        layout = exporters.load(job.config.target.format).FOLDERS
        # What the manifest vouches for must outlive a power cut, also where a link leads to another disk.
        job.target.sync([*layout, *(f"{folder}/{split}" for folder in layout for split in job.splits)])
    job.target.delete_many([path for action, path in planned.meta if action == "delete" and path.endswith(".zip")])
    meta = {path: {"size": file.size, "digest": file.digest} for path, file in planned.contents.items()}
    kept = ("classes", "task", "format", "fingerprint", "subset", "rows", "images", "loss", "problems")
    told = {key: report.data[key] for key in kept} | {"ok": report.ok, "warnings": report.warnings}
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
    )
    _keep_problems(state, report)
    still_ours()
    target_manifest.commit(state, manifest)
    if job.config.target.zipped:
        drop_packed(job.plan_dir)
        for folder in exporters.load(job.config.target.format).FOLDERS:
            job.target.drop_empty_folders(folder)


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


def _keep_problems(state: TargetState, report: Report) -> None:
    """The table of what was left out stands beside the manifest: the plan's own is the next plan's to replace."""
    if report.problems is not None:
        state.folder.write(PROBLEMS, target_manifest.to_parquet(report.problems))
    else:
        state.folder.delete_many([PROBLEMS])


def record(job: Job, report: Report) -> None:
    """One small file a run: what it did, when and where."""
    import socket

    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    record = {"time": now, "host": socket.gethostname(), "process": os.getpid(), "tool": f"coco-diy {__version__}",
              "report": report.data}
    path = f"{target_manifest.FOLDER}/runs/{now}-{os.getpid()}.json"
    job.target.write_many([path], [json.dumps(record, ensure_ascii=False, indent=1).encode()])


def is_current_recipe(job: Job, state: TargetState) -> bool:
    return state.manifest is not None and state.intent is None and state.manifest.recipe == recipe(job)


def nothing_to_do(job: Job, state: TargetState, found: Sequence[Scan]) -> Report | None:
    """The report of a build that changes nothing, if that is certain without reading a table."""
    manifest = state.manifest
    digest = source_digest([scan.digest(s.spec) for s, scan in zip(job.sources, found, strict=True)])
    if manifest is None or digest is None or manifest.source != digest or manifest.folders != folder_times(job):
        return None
    if still_there(job, state).keys() != manifest.meta.keys():
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
    return Report(data, ok, warnings)


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
        origin = storage.locate(folder, job.workdir)
        for name, image in zip(names, origin.fingerprints(names), strict=True):
            if image is None:
                return None
            digests.append(digest_of(image_mark(how, image, origin.join(name))))
    return digest_of(b"".join(digests)).hex()
