"""From a job to indexes that are up to date, and what is wrong with the sources."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from pipeline import storage
from pipeline.base.classes import Names
from pipeline.base.errors import DataError, LockError
from pipeline.job.checks import correct_paths
from pipeline.job.job import Job, SourceJob
from pipeline.job.named_splits import forget_lists
from pipeline.runtime.engine import FILES_WORTH_HELPERS, Engine
from pipeline.runtime.progress import Progress
from pipeline.stages.index.problems import source_report
from pipeline.stages.index.reader import IndexInfo, has_parts
from pipeline.stages.index.scan import Scan, keep_splits_apart, scan_source
from pipeline.stages.index.source import update
from pipeline.target.manifest import LOCK, TargetState, is_subset


@contextmanager
def index_lock(job: Job) -> Iterator[None]:
    """Hold the indexes of all sources, and clear what killed runs had under way: of what others use what is old."""
    location = job.work
    with ExitStack() as locks:
        for source in job.sources:
            path = os.path.relpath(source.index_dir, job.workdir)
            locks.enter_context(location.lock(f"{path}.lock", f"the index {source.index_dir}"))
            location.own(path).drop_temporaries()
        for folder in ("plans", "members", "splits"):
            location.own(folder).drop_temporaries(shared=True)
        yield


@contextmanager
def plan_lock(job: Job) -> Iterator[None]:
    """Hold the plan of this job, and clear what killed runs had under way there.

    A build holds it while it carries the plan out, where the indexes are free for other subsets already.
    """
    location = job.work
    plan = os.path.relpath(job.plan_dir, job.workdir)
    with location.lock(f"{plan}.lock", f"the plan of {job.root}"):
        for end in ("", ".touched", ".archive", ".records", ".splits"):
            location.own(f"{plan}{end}").drop_temporaries()
        yield


def scan(job: Job, engine: Engine | None, progress: Progress) -> list[Scan]:
    """List the sources: in a helper process while this one does what `engine` has begun, or right here.

    Without any part of an index every label file is read, and its stats come with that: then only names are listed.
    """
    if engine is not None and any(_many_files(job, source) for source in job.sources):
        engine.warm_up()
    found = []
    with progress.stage("list", 0):
        for source in job.sources:
            if engine is None:
                found.append(scan_source(source.spec, with_stats=True, keep=job.workdir))
            elif not has_parts(source.index_dir):
                found.append(scan_source(source.spec, with_stats=False, keep=job.workdir))
            else:
                found.append(scan_source(source.spec, with_stats=True, keep=job.workdir, engine=engine))
    forget_lists()
    keep_splits_apart([(source.spec, listed) for source, listed in zip(job.sources, found, strict=True)])
    return found


def _many_files(job: Job, source: SourceJob) -> bool:
    """Whether this run is likely to read or write more files than this process does alone: a guess from the index."""
    info = IndexInfo.read(source.index_dir)
    if info is None or not job.maps:
        return True
    classes = job.maps[job.sources.index(source)]
    wanted = set(classes.wanted_names) if source.named else {str(i) for i in classes.wanted_ids}
    counts = [n for split in info.totals.values() for i, n in split["class_images"].items() if i in wanted]
    return int(sum(counts)) > FILES_WORTH_HELPERS


def import_for_index() -> None:
    """Import what the index stage needs: done while a helper lists or reads."""
    import dask.delayed
    import pyarrow.parquet

    assert dask.delayed
    assert pyarrow.parquet


def import_for_plan() -> None:
    """Import what the selection needs: done while a helper lists or reads."""
    import dask.dataframe

    assert dask.dataframe


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
    for source, names in zip(job.sources, named, strict=True):
        if source.names is None and names is not None and not names.names:
            source_report(job, infos)  # what is bad in its label files is the better message
            raise DataError(
                f"{source.source.root or source.spec.splits[0].labels}: no label file there has an object of a class; "
                + correct_paths(job.config)
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
    )


def source_digest(digests: Sequence[str | None]) -> str | None:
    """One digest of the listings of all sources; None while that of one is not certain."""
    if any(digest is None for digest in digests):
        return None
    return "+".join(str(digest) for digest in digests)
