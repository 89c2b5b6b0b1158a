"""Files of one bucket's images that come to be those of another's: two keys may lead to one path, one after the other.

An image that goes from one split of the source to another has a new key, and often a new bucket. Where the config
assigns the splits, or has all images in one folder, its files keep their paths. Bucket by bucket that is a deletion
here, and there a file that is not ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.stages.plan.bucket import write_plan
from pipeline.stages.plan.compare import losses, summarise
from pipeline.stages.plan.summary import BucketSummary
from pipeline.stages.select.parts import read_part
from pipeline.tables import schema
from pipeline.tables.schema import Action

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.stages.plan.context import PlanContext


def hand_over(context: PlanContext, summaries: Sequence[BucketSummary]) -> list[BucketSummary]:
    """The `summaries` once no bucket deletes what another wants, and the other does not take it for somebody else's.

    The plan of a bucket that gives a file up no longer names it; nor does its part of the manifest, once that is
    carried out. A run that was stopped may have left a path in the manifest's parts of both.
    """
    givers = [s.bucket for s in summaries if Action.DELETE in s.counts.plan]
    if not givers or not (context.state.intent or any(summary.conflicts for summary in summaries)):
        return list(summaries)
    given = {path for bucket in givers for path in _paths(context, bucket, deleted=True)}
    wanted = {path for summary in summaries for path in given.intersection(_paths(context, summary.bucket))}
    return [_without(context, summary, wanted) for summary in summaries] if wanted else list(summaries)


def _paths(context: PlanContext, bucket: int, *, deleted: bool = False) -> list[str]:
    """The paths of a bucket's plan that are `deleted`, or those that are there afterwards."""
    table = read_part(context.plan_dir, bucket, schema.plan(), ["path", "action"])
    pairs = zip(table["path"].to_pylist(), table["action"].to_pylist(), strict=True)
    return [path for path, action in pairs if (action == Action.DELETE) is deleted]


def _without(context: PlanContext, summary: BucketSummary, wanted: set[str]) -> BucketSummary:
    """The summary of a bucket that does not delete the paths `wanted`, and may write them."""
    summary = replace(summary, conflicts=[path for path in summary.conflicts if path not in wanted])
    if Action.DELETE not in summary.counts.plan:
        return summary
    plan = read_part(context.plan_dir, summary.bucket, schema.plan())
    left = _not_deleted(plan, wanted)
    if left.num_rows == plan.num_rows:
        return summary
    changes, part = write_plan(context, summary.bucket, left)
    return replace(
        summary,
        changes=changes,
        part=part,
        stale=True,  # its part of the manifest still has what it gives up
        counts=replace(summary.counts, plan=summarise(left)),
        loss=losses(left, context.state.rows(summary.bucket, context.buckets)),
    )


def _not_deleted(plan: pa.Table, wanted: set[str]) -> pa.Table:
    """`plan` without the deletions of the paths `wanted`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    given = pc.is_in(plan["path"], pa.array(sorted(wanted), pa.string()))
    return plan.filter(pc.invert(pc.and_(given, pc.equal(plan["action"], Action.DELETE.value)))).combine_chunks()
