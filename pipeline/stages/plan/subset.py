"""From an index to a plan, its report, and what stands in its way."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline import exporters, storage
from pipeline.errors import ConfigError
from pipeline.exporters import Dataset
from pipeline.job.job import Job
from pipeline.reports.dataset_card import dataset_record
from pipeline.runtime.engine import Engine
from pipeline.runtime.progress import Progress
from pipeline.stages.index.problems import source_report
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.plan.archive import pack, packed_folder
from pipeline.stages.plan.balance import record_facts
from pipeline.stages.plan.compare import compare, meta_held, meta_wanted, summarise
from pipeline.stages.plan.context import plan_context
from pipeline.stages.plan.dataset_files import MetaFile, assemble
from pipeline.stages.plan.planned import Planned
from pipeline.stages.select.split_table import Dealt, by_hash, by_table, stems_twice
from pipeline.tables.counts import add_counts
from pipeline.tables.schema import UNKNOWN
from pipeline.target.manifest import TargetState

if TYPE_CHECKING:
    from pipeline.stages.plan.context import PlanContext


#: The record beside the training YAML.
RECORD = "DATASET.md"

#: The part of a plan that belongs to no bucket: files of the whole subset.
META_PART = "meta.parquet"


def plan_subset(
    job: Job,
    infos: Sequence[IndexInfo],
    state: TargetState,
    engine: Engine,
    progress: Progress,
    suspects: frozenset[str] = frozenset(),
    *,
    fetched: bool = False,
) -> Planned:
    """The Dask frame over the indexes, ending in one plan a bucket; files in `suspects` are not believed.

    `fetched`: images that lie far away were fetched, as far as they can be had.
    """
    import pyarrow.parquet as pq

    from pipeline.stages.plan.bucket import run

    source_report(job, infos)  # raises for bad rows and unknown class ids before anything is decided
    without = [split for source in job.sources for split in source.spec.splits if split.images is None]
    if job.need_image and without:
        split = without[0]
        raise ConfigError(
            f"source: split {split.split} has no images folder beside {split.labels}; add one, or set "
            "target.images to none to make labels only"
        )
    context, dealt = _dealt(job, infos, plan_context(job, infos, state, suspects, fetched), engine)
    with progress.stage("plan", context.buckets, "buckets") as step:
        summaries = run(context, engine, step.add)
    totals: dict[str, Any] = {}
    problems: list[list[Any]] = []
    left_out: list[list[str]] = []
    foreign: list[str] = []
    for summary in summaries:
        add_counts(totals, summary["counts"] | {"rows": summary["rows"], "loss": summary["loss"]})
        problems += summary["problems"]
        left_out += summary["left_out"]
        foreign += summary["foreign"]
    splits = tuple(s for s in ("train", "val", "test") if totals["subset"].get(s, {}).get("images"))
    names = tuple(s.names for s in job.sources if s.names is not None)
    documents = tuple(info.document.get("splits", {}) for info in infos)
    dataset = Dataset(job.maps, names, job.task, splits, job.root, job.config.target.yaml, documents)
    contents = assemble(job.config.target.format, dataset, context.plan_dir, context.buckets)
    contents[RECORD] = MetaFile.of(dataset_record(record_facts(job, infos, totals)).encode())
    held = _meta_held(job, state, suspects)
    if job.config.target.zipped:
        count = sum(s["labels"] + s["images"] * job.need_image for s in totals["subset"].values())
        with progress.stage("pack", count) as step:
            contents = pack(
                context.plan_dir, context.buckets, os.path.basename(job.root), contents, job.origins, held, step.add
            )
    table = compare(meta_wanted(contents), meta_held(held))
    storage.replace_with(os.path.join(job.plan_dir, META_PART), lambda path: pq.write_table(table, path))
    add_counts(totals, {"plan": summarise(table)})
    meta = list(zip(table["action"].to_pylist(), table["path"].to_pylist(), strict=True))
    foreign += [p for a, p in meta if a == "write" and p not in state.meta and job.target.exist_many([p])[0]]
    foreign += _files_for_folders(job)
    return Planned(
        job.plan_dir,
        context.buckets,
        summaries,
        totals,
        meta,
        contents,
        sorted(problems),
        sorted(foreign),
        context.staged,
        sorted(left_out),
        dealt,
        packed_folder(job.plan_dir) if job.config.target.zipped else job.plan_dir,
    )


def _meta_held(job: Job, state: TargetState, suspects: frozenset[str]) -> dict[str, dict[str, Any]]:
    """Those of the target's files that belong to no image, as far as their content is believed.

    Where classes get other numbers, labels of two meanings stand side by side for a while: nobody is to train on them
    by an old YAML, so that goes and comes back, even if its bytes are the same.
    """
    held = still_there(job, state)
    doubted = {*suspects}
    before = state.manifest.numbers if state.manifest is not None else None
    has_rows = "labels" in exporters.load(job.config.target.format).FOLDERS and not job.config.target.zipped
    if has_rows and before not in (None, job.numbers()):
        doubted.update(held.keys() - {RECORD})
    return {path: file | {"digest": UNKNOWN.hex()} if path in doubted else file for path, file in held.items()}


def _files_for_folders(job: Job) -> list[str]:
    """Files at the target where a folder of the layout must be."""
    if job.target.local is None or job.config.target.zipped:  # stores have no folders
        return []
    layout = exporters.load(job.config.target.format).FOLDERS
    wanted = {"": layout} | dict.fromkeys(layout, job.splits)
    found = [
        f"{folder}/{name}".lstrip("/")
        for folder, names in wanted.items()
        for name in job.target.flat_names(folder)
        if name in names
    ]
    return [path for path in found if not job.target.below(path).exists()]  # a link may lead to a folder


def _dealt(
    job: Job, infos: Sequence[IndexInfo], context: PlanContext, engine: Engine
) -> tuple[PlanContext, Dealt | None]:
    """The context that knows how images are dealt out, as the config says."""
    from pipeline.stages.plan.bucket import strata

    options = job.config.split
    if options is None:
        return context, None
    dealt = by_hash(options)
    if job.split_table is not None:
        groups = strata(replace(context, dealing=dealt.dealing), engine)
        dealt = by_table(job, options, groups)
    return replace(context, dealing=replace(dealt.dealing, twice=stems_twice(job, infos))), dealt


def still_there(job: Job, state: TargetState) -> dict[str, dict[str, Any]]:
    """Those of the target's files that belong to no image, as the manifest has them, that are there."""
    paths = sorted(state.meta)
    there = job.target.exist_many(paths)
    return {path: state.meta[path] for path, found in zip(paths, there, strict=True) if found}
