"""The plan of one bucket: choose, export, compare with what is at the target, write; what that comes to is returned."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline import exporters, storage
from pipeline.base.memory import release_after, release_beside
from pipeline.stages.plan.archive import set_aside
from pipeline.stages.plan.choice import choose_bucket
from pipeline.stages.plan.compare import compare, doubt, losses, summarise
from pipeline.stages.plan.conflicts import conflicts_of_bucket
from pipeline.stages.plan.dataset_files import gather, read_arrow, write_arrow
from pipeline.stages.plan.images import compared_sizes, in_folders, in_one_folder, looked_into, usable, with_sources
from pipeline.stages.plan.problems import image_problems
from pipeline.stages.plan.summary import BucketSummary, PlanCounts, content_of, subset_counts
from pipeline.stages.select.split_table import GroupCounts, group_counts
from pipeline.tables.parquet import to_parquet
from pipeline.tables.rows import rows_where
from pipeline.tables.schema import Action, part_name
from pipeline.target.manifest import staged_path

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.stages.plan.context import PlanContext

#: Bytes of a page of a plan, where rows are so long that 1,024 have more.
_PAGE = 1 << 20


def plan_bucket(context: PlanContext, *frames: Any, partition_info: Mapping[str, int]) -> BucketSummary:
    """Plan one bucket, see `frame.compute`: its part of the plan is left in `context.plan_dir`."""
    summary, size = _plan(context, partition_info["number"], frames)
    release_after(size)  # otherwise each thread keeps what its largest bucket took
    return summary


def _plan(context: PlanContext, bucket: int, frames: Sequence[Any]) -> tuple[BucketSummary, int]:
    """Plan one bucket; also returns the bytes of the plan."""
    choice = choose_bucket(context, bucket, frames)
    chosen = choice.chosen.images
    if context.split_rule is not None:
        chosen = context.split_rule.split(chosen, bucket)
    chosen = with_sources(context, chosen, choice.chosen)
    chosen, bad = usable(context, bucket, chosen, choice.chosen)
    taken = _of_images(choice.rows.drop_columns("row"), chosen)
    bad |= choice.bad
    if context.several:
        chosen = in_folders(chosen)
    if context.flat:
        chosen = in_one_folder(chosen)
    if choice.beyond is not None:
        beside = os.path.join(beyond_folder(context.plan_dir), part_name(bucket))
        write_arrow(beside, choice.beyond.select(["key", "line"]))
    has_labels = "labels" in exporters.load(context.exporter).FOLDERS
    exported = _exported(context, bucket, taken, chosen)
    wanted = set_aside(context.plan_dir, bucket, exported) if context.archive else exported
    target = storage.locate(context.root)
    listed = context.state.rows(bucket, context.buckets)
    ours = _still_there(context, target, listed) if context.check_there else listed
    if context.suspects:
        ours = doubt(ours, context.suspects)
    plan = compare(wanted, ours)
    sizes = compared_sizes(context, chosen, plan)
    choice.chosen.problems += [(key, "other_size") for key in sizes.other]
    changes, part = write_plan(context, bucket, plan)
    summary = BucketSummary(
        bucket,
        content_of(exported),
        changes=changes,
        conflicts=conflicts_of_bucket(context, target, plan, ours),
        stale=context.state.lost or ours.num_rows < listed.num_rows,
        lost=context.state.lost,
        counts=PlanCounts(
            subset_counts(context.classes, context.splits, taken, chosen, labels=has_labels),
            {"kept": chosen.num_rows, **choice.chosen.dropped},
            summarise(plan),
            choice.row_counts(),
            choice.loss,
            choice.lost_of,
            choice.steps(context.classes),
            choice.unlabelled.counts(context.classes, chosen["key"].combine_chunks()) if choice.unlabelled else {},
        ),
        loss=losses(plan, ours),
        problems=image_problems(context, choice, bad, sizes),
        turned=sizes.turned,
        stems=chosen.select(["split", "stem", "key"]) if context.flat else None,
        left_out=[*bad.values(), *looked_into(context, choice.chosen, choice.mapped)],
        part=part,
    )
    return summary, int(plan.nbytes)


def _batch_of(plan: pa.Table) -> int:
    """Rows of a `plan` that are written at a time, no more than a page of some MiB: its texts are in memory thrice."""
    return max(16, min(1024, _PAGE * int(plan.num_rows) // max(int(plan.nbytes), 1)))


def group_bucket(context: PlanContext, *frames: Any, partition_info: Mapping[str, int]) -> GroupCounts:
    """The groups of one bucket that `context.split_rule` would assign to splits, see `frame.compute`."""
    assert context.split_rule is not None
    choice = choose_bucket(context, partition_info["number"], frames)
    return group_counts(context.split_rule, choice.rows, choice.chosen.images)


def touched_folder(plan_dir: str) -> str:
    """Folder beside that of a plan: by bucket the paths that the plan will touch, as the intent has them."""
    return f"{plan_dir}.touched"


def beyond_folder(plan_dir: str) -> str:
    """Folder beside that of a plan: by bucket key and line of the rows beyond a limit, where the config has any."""
    return f"{plan_dir}.beyond"


def read_beyond(plan_dir: str, bucket: int) -> pa.Table:
    """What `beyond_folder` has of one bucket."""
    return read_arrow(os.path.join(beyond_folder(plan_dir), part_name(bucket)))


def _of_images(rows: pa.Table, images: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    return rows_where(rows, pc.is_in(rows["key"].combine_chunks(), images["key"].combine_chunks())).combine_chunks()


def _exported(context: PlanContext, bucket: int, rows: pa.Table, images: pa.Table) -> pa.Table:
    """The files that the bucket wants at the target, as `schema.wanted`."""
    exporter = exporters.load(context.exporter)
    if exporter.GATHERS:
        gather(context, bucket, rows, images)
    exported = exporter.fragment(rows, images)
    release_beside(exported)
    return context.layout.placed(exported)


def _still_there(context: PlanContext, target: storage.Location, listed: pa.Table) -> pa.Table:
    """Those of the files `listed` that are at the target, or ready to be put there."""
    import pyarrow as pa

    paths = [staged_path(path, context.staged) for path in listed["path"].to_pylist()]
    return listed.filter(pa.array(target.exist_many(paths, sure=True), pa.bool_()))


def write_plan(context: PlanContext, bucket: int, plan: pa.Table) -> tuple[int, str]:
    """Write the bucket's part of the plan, and what it touches.

    Returns the number of files that it changes, and the XXH3-128 (hex) of its part.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = os.path.join(context.plan_dir, part_name(bucket))
    options = {"use_dictionary": ["split"], "write_statistics": False, "write_batch_size": _batch_of(plan)}
    _, digest = storage.write_with(path, lambda file: pq.write_table(plan, file, **options))
    touched = plan.select(["path", "kind", "key", "split"]).filter(pc.not_equal(plan["action"], Action.KEEP.value))
    beside = os.path.join(touched_folder(context.plan_dir), part_name(bucket))
    storage.write_with(beside, lambda file: file.write(to_parquet(touched)))
    return int(touched.num_rows), digest.hex()
