"""The end of a build: dataset files, what was left out, and the manifest last."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from pipeline import storage
from pipeline.base.classes import made_of
from pipeline.base.digest import digest_of
from pipeline.base.terms import SPLITS
from pipeline.base.version import __version__
from pipeline.exporters import Layout
from pipeline.job.job import Job
from pipeline.job.made_subset import layout_of
from pipeline.job.recipe import portable_config, recipe
from pipeline.reports.counts import held_after
from pipeline.reports.report import Report
from pipeline.stages.apply.up_to_date import remember_images
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.index.scan import source_digest
from pipeline.stages.plan.archive import drop_packed
from pipeline.stages.plan.meta_files import MetaFile, marks
from pipeline.stages.plan.planned import Planned
from pipeline.tables.parquet import to_parquet
from pipeline.tables.schema import UNKNOWN, Action, Kind
from pipeline.target.intent import commit_manifest
from pipeline.target.manifest import FOLDER, PROBLEMS, SCRATCH, Manifest, TargetState


def drop_caches(job: Job, planned: Planned, state: TargetState, also: Sequence[str] = ()) -> None:
    """Remove trainers' caches of the labels, and the files `also`: most do not notice a change of equal length.

    Trainers keep one beside each folder of label files: ``labels/train.cache`` of ``labels/train``; what follows the
    last dot of the folder's name is cut off.
    """
    caches = set[str]()
    if any(Kind.LABEL in planned.totals.plan.get(action, {}) for action in (Action.WRITE, Action.DELETE)):
        named = {folder: None for layout in _layouts(job, state) for folder in layout.split_folders(SPLITS, ["labels"])}
        folders = list(named)
        if job.target.keeps_times:
            folders = list(job.target.folder_times(folders))  # finding subfolders at a store would list all files
        caches = {name for f in folders for name in (f"{f}.cache", f"{f.rpartition('.')[0] or f}.cache")}
    job.target.delete_many([*sorted(caches), *also]).must(job.target, "deleted")


def _layouts(job: Job, state: TargetState) -> list[Layout]:
    """The layout of the target, and that which it had before."""
    made = state.manifest
    same = made is not None and made.report["format"] == job.config.target.format
    return [job.layout, *([layout_of(made)] if made is not None and same else [])]


def commit(
    job: Job,
    infos: Sequence[IndexInfo],
    planned: Planned,
    state: TargetState,
    report: Report,
    still_ours: Callable[[], None],
    *,
    complete: bool,
    listed: dict[str, dict[str, int | None]],
) -> None:
    """The YAML comes back, then the manifest is written: from here on the subset is done.

    Where it is not `complete`, because files failed, the manifest names no source: the next build checks all again.
    `still_ours` raises where the target was removed meanwhile. Warnings are added to the `report`.
    """
    assert planned.parts is not None
    writes = [path for action, path in planned.meta if action == "write" and not planned.halted]
    over = [f"{FOLDER}/{PROBLEMS}"] if report.problems is None else []
    if planned.changes:
        drop_caches(job, planned, state, over)
    elif over:
        job.target.delete_many(over)
    _write_meta(job, {path: planned.contents[path] for path in writes})
    job.target.sync(synced_folders(job))  # also where nothing was to be done: a run that was killed may have done it
    zips = [path for action, path in planned.meta if action == "delete" and path.endswith(".zip")]
    job.target.delete_many(zips).must(job.target, "deleted")
    meta = _meta_made(job, planned)
    manifest = Manifest(
        tool=f"coco-diy {__version__}",
        recipe=recipe(job),
        source=source_digest([info.source_digest for info in infos]) if complete else None,
        buckets=planned.buckets,
        parts=planned.parts,
        meta=meta,
        report=_remembered(job, report),
        images=remember_images(job, planned),
        folders=job.folder_times(),
        prefixes=job.prefixes,
        config=portable_config(job),
        numbers=job.numbers(),
        name=job.config.name,
        listed=listed,
        left_out=_write_problems(state, report),
    )
    if complete:
        planned.kept.keep(planned.summaries, planned.parts)
    still_ours()
    report.warnings += commit_manifest(state, manifest)
    if job.config.target.zipped:
        drop_packed(job.plan_dir)
        for folder in job.layout.roots():
            job.target.drop_empty_folders(folder)


def _remembered(job: Job, report: Report) -> dict[str, Any]:
    """What the manifest has of the report of a build."""
    facts = ("classes", "task", "format", "fingerprint", "digest", "subset", "rows", "images", "loss", "problems")
    where_any = ["unlabelled"] if "unlabelled" in report.data else []
    return {key: report.data[key] for key in (*facts, "steps", *where_any)} | {
        "ok": report.ok,
        "warnings": [w for w in report.warnings if w not in report.once],
        "made_of": made_of(job.maps, [source.named for source in job.sources]),
        "held": held_after(report.data["plan"]),
    }


def _write_meta(job: Job, files: dict[str, MetaFile]) -> None:
    if not files:
        return
    scratch = job.target.own(SCRATCH)  # what a kill leaves there is cleared by the next run
    job.target.make_folders([f"{SCRATCH}/"])
    small = {path: file.content for path, file in files.items() if file.content is not None}
    job.target.write_many(list(small), list(small.values()), scratch=scratch).must(job.target)
    for path, file in files.items():
        if file.made is not None:
            folder, name = os.path.split(file.made)
            made = storage.Copies([path], storage.locate(folder), [name], [file.size])
            job.target.copy_many(made, scratch=scratch).must(job.target)


def _write_problems(state: TargetState, report: Report) -> str | None:
    """Write the table of what was left out beside the manifest: the plan's own is the next plan's to replace.

    Returns its digest; None without one: then that of the last build is gone already.
    """
    if report.problems is None:
        return None
    data = to_parquet(report.problems)
    state.folder.write(PROBLEMS, data)
    return digest_of(data).hex()


def synced_folders(job: Job) -> list[str]:
    """Folders of the layout: what is in them must outlive a power cut, also where a link leads to another disk."""
    return list(job.layout.steps(job.splits))


def _meta_made(job: Job, planned: Planned) -> dict[str, dict[str, Any]]:
    """What the manifest says of the files that belong to no image."""
    wait = {path for action, path in planned.meta if action == "write" and planned.halted}
    meta = {
        path: {"size": file.size, "digest": UNKNOWN.hex() if path in wait else file.digest}
        for path, file in planned.contents.items()
    }
    for path, mark in marks(job.target, list(meta)).items():
        meta[path]["mark"] = mark
    return meta
