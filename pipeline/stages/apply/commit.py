"""The end of a build: dataset files, what was left out, and the manifest last."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence

from pipeline import exporters, storage
from pipeline.job.job import Job
from pipeline.job.recipe import portable_config, recipe
from pipeline.reports.report import Report
from pipeline.stages.apply.up_to_date import remember_images
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.index.sources import source_digest
from pipeline.stages.plan.archive import drop_packed
from pipeline.stages.plan.context import folder_times
from pipeline.stages.plan.dataset_files import MetaFile
from pipeline.stages.plan.planned import Planned
from pipeline.tables.parquet import to_parquet
from pipeline.target.intent import commit_manifest
from pipeline.target.manifest import FOLDER, PROBLEMS, SCRATCH, Manifest, TargetState
from pipeline.version import __version__


def drop_caches(job: Job, planned: Planned) -> None:
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
    job: Job, infos: Sequence[IndexInfo], planned: Planned, state: TargetState, report: Report, *, complete: bool
) -> None:
    """The YAML comes back, then the manifest is written: from here on the subset is done.

    Where it is not `complete`, because files failed, the manifest names no source: the next build looks at all again.
    """
    writes = [path for action, path in planned.meta if action == "write"]
    if planned.changes:
        drop_caches(job, planned)
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
    commit_manifest(state, manifest)
    if job.config.target.zipped:
        drop_packed(job.plan_dir)
        for folder in exporters.load(job.config.target.format).FOLDERS:
            job.target.drop_empty_folders(folder)


def held_after(plan: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Files and bytes by kind that a target holds once `plan`, its counts by action and kind, is carried out."""
    return {
        kind: {
            what: sum(plan[action][kind][what] for action in ("write", "copy", "keep")) for what in ("files", "bytes")
        }
        for kind in plan["keep"]
    }


def _write_meta(job: Job, files: dict[str, MetaFile]) -> None:
    if not files:
        return
    scratch = job.target.below(SCRATCH)  # what a kill leaves there is cleared by the next run
    job.target.make_folders([f"{SCRATCH}/"])
    small = {path: file.content for path, file in files.items() if file.content is not None}
    job.target.write_many(list(small), list(small.values()), scratch=scratch).must(job.target)
    for path, file in files.items():
        if file.place is not None:
            folder, name = os.path.split(file.place)
            job.target.copy_many([path], storage.locate(folder), [name], [file.size], "copy", scratch=scratch).must(
                job.target
            )


def _keep_problems(state: TargetState, report: Report) -> None:
    """The table of what was left out stands beside the manifest: the plan's own is the next plan's to replace."""
    if report.problems is not None:
        state.folder.write(PROBLEMS, to_parquet(report.problems))
    else:
        state.folder.delete_many([PROBLEMS])


def record(job: Job, report: Report) -> None:
    """One small file a run: what it did, when and where."""
    import socket

    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    record = {
        "time": now,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "tool": f"coco-diy {__version__}",
        "report": report.data,
    }
    path = f"{FOLDER}/runs/{now}-{os.getpid()}.json"
    job.target.write_many([path], [json.dumps(record, ensure_ascii=False, indent=1).encode()])
