"""From an index to a plan: the Dask frame bucket by bucket, then the files of the whole dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from pipeline import storage
from pipeline.base.errors import BrakeError, ConfigError
from pipeline.base.terms import SPLITS
from pipeline.exporters import Dataset
from pipeline.job.job import Job
from pipeline.reports.dataset_card import dataset_record
from pipeline.reports.documents import PlanReport
from pipeline.reports.report import Report
from pipeline.runtime.engine import Engine
from pipeline.runtime.progress import Progress
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.plan import frame
from pipeline.stages.plan.archive import pack, packed_folder
from pipeline.stages.plan.backgrounds import beyond_buckets, write_excluded
from pipeline.stages.plan.balance import record_facts, taken_away
from pipeline.stages.plan.brake import is_too_much, target_brake, target_loss
from pipeline.stages.plan.bucket import group_bucket, plan_bucket, touched_folder
from pipeline.stages.plan.compare import Loss, compare, summarise
from pipeline.stages.plan.conflicts import conflicts_of_layout, conflicts_of_meta
from pipeline.stages.plan.context import PlanContext, plan_context
from pipeline.stages.plan.dataset_files import assemble, records_folder
from pipeline.stages.plan.fitness import refuse_unfit
from pipeline.stages.plan.handovers import hand_over, passed_on
from pipeline.stages.plan.images import refuse_same_names
from pipeline.stages.plan.kept import KeptPlans
from pipeline.stages.plan.meta_files import RECORD, MetaFile, believed, manifest_table, wanted_table
from pipeline.stages.plan.planned import Planned, remote_images
from pipeline.stages.plan.report import plan_report, refuse
from pipeline.stages.plan.shaping import obey_lists, shaped
from pipeline.stages.plan.summary import BucketSummary, PlanCounts
from pipeline.stages.select.split_table import SplitDecision, by_hash, by_table, duplicate_stems
from pipeline.tables.schema import UNKNOWN, part_name
from pipeline.target.manifest import TargetState

if TYPE_CHECKING:
    import pyarrow as pa

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
    """The plan of `job` from indexes without bad rows; the content of files in `suspects` is not believed.

    `fetched`: remote images were fetched, as far as they can be had. Raises `ConfigError` where images are wanted and
    a split has no folder of them.
    """
    _refuse_without_images(job)
    beyond = beyond_buckets(job, infos)
    context = plan_context(job, infos, state, suspects, fetched=fetched)
    never = write_excluded(beyond.never, f"{job.plan_dir}.never", context.buckets)
    context = replace(context, no_backgrounds=never)
    context, shape = obey_lists(job, infos, context)
    context, split = _with_split_rule(job, infos, context, engine)
    context = shaped(job, context, shape, engine, progress)
    kept = KeptPlans.of(job, context)
    summaries = hand_over(context, _plan_buckets(context, kept, engine, progress))
    if context.flat:
        refuse_same_names([summary.stems for summary in summaries if summary.stems is not None])
    state.lost = state.lost or any(summary.lost for summary in summaries)
    totals = PlanCounts()
    for summary in summaries:
        totals.add(summary.counts)
    content = sum(summary.content for summary in summaries) % 2**64
    digest, contents, at_target = _meta_files(job, infos, context, totals, content, progress)
    table = compare(wanted_table(contents), manifest_table(at_target))
    _write_meta(job, table)
    totals.add(PlanCounts(plan=summarise(table)))
    meta = list(zip(table["action"].to_pylist(), table["path"].to_pylist(), strict=True))
    conflicts = [path for summary in summaries for path in summary.conflicts]
    conflicts += conflicts_of_meta(job, state, contents, [path for action, path in meta if action == "write"])
    conflicts += conflicts_of_layout(job, state)
    return Planned(
        job.plan_dir,
        context.buckets,
        summaries,
        totals,
        _loss(job, context, summaries),
        meta,
        contents,
        sorted(conflicts),
        context.staged,
        split,
        packed_folder(job.plan_dir) if job.config.target.zipped else job.plan_dir,
        beyond.doubled,
        digest,
        shape,
        kept,
    )


def _loss(job: Job, context: PlanContext, summaries: Sequence[BucketSummary]) -> Loss:
    """What the plan takes from the target; where that is too much, without images of another split now."""
    loss = Loss.of_all([summary.loss for summary in summaries])
    return passed_on(context, summaries, loss) if is_too_much(job, context.state, loss) else loss


def _refuse_without_images(job: Job) -> None:
    without = [split for source in job.sources for split in source.spec.splits if split.images is None]
    if job.need_image and without:
        split = without[0]
        raise ConfigError(
            f"source: split {split.split} has no images folder beside {split.labels}; add one, or "
            "make labels only with --set target.images=none"
        )


def _plan_buckets(context: PlanContext, kept: KeptPlans, engine: Engine, progress: Progress) -> list[BucketSummary]:
    """Plan all buckets but those that were `kept`; parts of an earlier plan that had more go."""
    with progress.stage("plan", context.buckets, "buckets") as step:
        parts = {part_name(bucket) for bucket in range(context.buckets)}
        for folder in (context.plan_dir, touched_folder(context.plan_dir), records_folder(context.plan_dir)):
            location = storage.locate_writable(folder)
            location.delete_many(sorted(location.names() - parts))
        found = dict(kept.found)
        step.add(len(found))
        only = [bucket for bucket in range(context.buckets) if bucket not in found]
        planned = frame.compute(context, plan_bucket, engine, step.add, only)
        found |= {summary.bucket: summary for summary in planned}
        return [found[bucket] for bucket in range(context.buckets)]


def _with_split_rule(
    job: Job, infos: Sequence[IndexInfo], context: PlanContext, engine: Engine
) -> tuple[PlanContext, SplitDecision | None]:
    """The context that knows how images are assigned to splits, as the config says."""
    options = job.config.split
    if options is None:
        return context, None
    decision = by_hash(options)
    if job.split_table is not None:
        groups = frame.compute(replace(context, split_rule=decision.rule), group_bucket, engine)
        decision = by_table(job, options, groups, context.state.folder)
    return replace(context, split_rule=replace(decision.rule, duplicates=duplicate_stems(job, infos))), decision


def _meta_files(
    job: Job,
    infos: Sequence[IndexInfo],
    context: PlanContext,
    totals: PlanCounts,
    content: int,
    progress: Progress,
) -> tuple[str, dict[str, MetaFile], dict[str, dict[str, object]]]:
    """The subset's digest, the files of the whole of it that are wanted, and those at the target (`believed`)."""
    splits = tuple(split for split in SPLITS if totals.images_in(split))
    names = tuple(s.names for s in job.sources if s.names is not None)
    documents = tuple(info.document.get("splits", {}) for info in infos)
    facts = record_facts(job, infos, totals, content)
    dataset = Dataset(
        job.maps, names, job.task, splits, job.root, job.config.target.yaml, facts["digest"], documents, job.layout
    )
    contents = assemble(job.config.target.format, dataset, context.plan_dir, context.buckets)
    contents[RECORD] = MetaFile.of(dataset_record(facts).encode())
    at_target = believed(job, context.state, context.suspects)
    if job.config.target.zipped:
        count = sum(s.labels + s.images * job.need_image for s in totals.subset.values())
        with progress.stage("pack", count) as step:
            contents = _packed(job, context, contents, at_target, step.add)
    return facts["digest"], contents, at_target


def _packed(
    job: Job,
    context: PlanContext,
    contents: dict[str, MetaFile],
    at_target: Mapping[str, Mapping[str, object]],
    add: Callable[[int], None],
) -> dict[str, MetaFile]:
    """The zip of the subset; as long as remote images of it are not fetched, a file of which nothing is known."""
    name, folder = os.path.basename(job.root), packed_folder(context.plan_dir)
    remote = remote_images(job, folder, context.buckets) if not context.fetched else {}
    if not all(all(storage.locate(url, job.workdir).at_hand(names)) for url, names in remote.items()):
        return {f"{name}.zip": MetaFile(0, UNKNOWN.hex(), None)}
    return pack(context.plan_dir, context.buckets, name, contents, job.origins, at_target, add)


def _write_meta(job: Job, plan: pa.Table) -> None:
    import pyarrow.parquet as pq

    storage.replace_with(os.path.join(job.plan_dir, META_PART), lambda path: pq.write_table(plan, path))


def feasible_plan(
    job: Job,
    infos: Sequence[IndexInfo],
    state: TargetState,
    source: Report,
    engine: Engine,
    progress: Progress,
    suspects: frozenset[str],
    *,
    fetched: bool = False,
) -> tuple[Planned, Report]:
    """A plan that can be carried out, and its report; `source` is that of the indexes."""
    planned = plan_subset(job, infos, state, engine, progress, suspects, fetched=fetched)
    report, brake = judge(job, infos, state, source, planned)
    if brake is not None:
        raise brake
    refuse(job, infos, planned)
    refuse_unfit(job, planned)
    return planned, report


def judge(
    job: Job, infos: Sequence[IndexInfo], state: TargetState, source: Report, planned: Planned
) -> tuple[Report, BrakeError | None]:
    """The report of a plan, with what it takes from the target, and why a build must not carry it out, if so."""
    report = plan_report(job, infos, source, planned, state.manifest)
    loss = target_loss(state, planned)
    report.data["lost"] = loss.data()
    if state.manifest is not None:
        before, now = cast(PlanReport, state.manifest.report), cast(PlanReport, report.data)
        report.warn_once(taken_away(before, now))
    return report, target_brake(job, infos, state, loss, planned.totals)
