"""From a job to indexes that are up to date, and what is wrong with the sources."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import storage
from pipeline.base.classes import Names
from pipeline.base.errors import DataError, LockError
from pipeline.job.checks import correct_paths
from pipeline.job.job import Job
from pipeline.runtime.engine import Engine
from pipeline.runtime.progress import Progress
from pipeline.stages.index.problems import source_report
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.index.scan import Scan
from pipeline.stages.index.source import update
from pipeline.target.manifest import LOCK, TargetState, is_subset


def update_index(
    job: Job, engine: Engine, progress: Progress, found: Sequence[Scan], subsets: Mapping[str, Any]
) -> tuple[Job, list[IndexInfo]]:
    """Bring the indexes of the job's sources up to date, see `index.update`; the job then knows all names.

    `subsets` are what `check_subsets` found before; raises `DataError` where one of them was built anew meanwhile.
    """
    infos = []
    for source, listed in zip(job.sources, found, strict=True):
        infos.append(
            update(
                source.spec,
                source.index_dir,
                listed,
                buckets=job.config.index.buckets,
                engine=engine,
                progress=progress,
                keep=job.workdir,
            )
        )
    if (location := next((p for p, made in check_subsets(job).items() if subsets.get(p) != made), None)) is not None:
        raise DataError(f"{location}: is a subset that was built anew while it was read as a source; run again")
    named = [names_of(info) for info in infos]
    for source, names, info in zip(job.sources, named, infos, strict=True):
        if source.names is None and names is not None and not names.names:
            report = source_report(job, infos)  # what is bad in its label files is the better message
            notes = [*info.document.get("grave", ()), *info.document.get("notes", ()), *report.warnings]
            raise DataError(
                f"{source.source.root or source.spec.splits[0].labels}: no label file there has an object of a class"
                f"{f' ({notes[0]})' if notes else ''}; {correct_paths(job.config)}"
            )
    return job.with_names(named), infos


def check_subsets(job: Job) -> dict[str, Any]:
    """The sources that are subsets of coco-diy themselves, and what each was last made as.

    Raises `LockError` where a run is changing one, `DataError` where one did not end: such labels have two meanings.
    """
    roots = {source.source.root for source in job.sources if source.source.root is not None}
    for source in job.sources:
        for url in (u for split in source.spec.splits for u in (split.labels, split.images) if u is not None):
            roots |= {os.path.dirname(url), os.path.dirname(os.path.dirname(url))}
    found = {}
    for root in sorted(roots):
        if "::" in root or root.startswith(storage.WEB_SCHEMES):  # nobody builds there
            continue
        location = storage.locate_writable(root)
        if not is_subset(location):
            continue
        state = TargetState(location)
        if holder := location.lock_holder(LOCK):
            raise LockError(f"{location.url}: is a source, and a subset that is being built by {holder}; wait for it")
        if state.intent is not None:
            raise DataError(
                f"{location.url}: is a source, and a subset whose build did not end; run that build again first"
            )
        found[location.url] = state.base
    return found


def names_of(info: IndexInfo | None) -> Names | None:
    """The names that a source gives its classes itself, as its index has them."""
    if info is None or info.names is None:
        return None
    data = info.names
    return Names(
        tuple(data["names"]),
        data.get("kpt_shape") or None,
        tuple(data.get("flip_idx") or ()) or None,
        {int(k): tuple(v) for k, v in data.get("kpt_names", {}).items() if k.isdecimal()},
        supercategories=data.get("supercategories", {}),
        ancestors=data.get("ancestors", {}),
    )
