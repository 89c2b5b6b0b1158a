"""Files of one bucket's images that come to be those of another's: an image may have two keys, one after the other.

An image that goes from one split of the source to another has a new key, and often a new bucket. Where the config
assigns the splits, or has all images in one folder, its files keep their paths. Bucket by bucket that is a deletion
here, and there a file that is not ours. Where they get new paths, it is a loss here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.stages.plan.bucket import write_plan
from pipeline.stages.plan.compare import EXAMPLES, Loss, losses, successors, summarise
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


class _File(NamedTuple):
    """A file of a plan; what is `same` of two is the same file under two keys."""

    path: str
    name: str
    split: str
    same: tuple[str, str, str, int | None]


def passed_on(context: PlanContext, summaries: Sequence[BucketSummary], loss: Loss) -> Loss:
    """`loss`, which is that of `summaries`, without the files of images that went from one split to another.

    Of such an image another comes from the same source of its size and, without what its key begins with, its name.
    """
    lost: list[_File] = []
    coming: dict[tuple[str, str, str, int | None], list[str]] = {}
    for summary in summaries:
        if summary.changes:
            gone, new = _lost_and_new(context, summary.bucket)
            lost += gone
            for file in new:
                coming.setdefault(file.same, []).append(file.split)
    left, went, sides = list[_File](), set[str](), set[tuple[str, str, str]]()
    for file in lost:
        if splits := coming.get(file.same):
            went.add(file.path)
            sides.add((file.name, file.split, splits.pop()))
        else:
            left.append(file)
    moved = {side for side in sides if side[1] != side[2]}
    return replace(
        loss,
        lost=len(left),
        images=len({(file.split, *file.same[1:3]) for file in left}),
        names=[name for name in loss.names if name not in went] or [file.path for file in left][:EXAMPLES],
        moved=loss.moved + len(moved),
        sides=sorted([*loss.sides, *moved])[:EXAMPLES],
    )


def _lost_and_new(context: PlanContext, bucket: int) -> tuple[list[_File], list[_File]]:
    """Files that a bucket deletes, and no other of their image and kind comes; and those that were not there before."""
    import pyarrow as pa
    import pyarrow.compute as pc

    plan = read_part(context.plan_dir, bucket, schema.plan(), ["path", "kind", "key", "split", "action", "size"])
    gone = plan.filter(pc.equal(plan["action"], Action.DELETE.value))
    left, successor = successors(plan, gone)
    before = context.state.rows(bucket, context.buckets)["path"].combine_chunks()
    is_new = pc.and_(
        pc.is_in(left["action"], pa.array([Action.WRITE.value, Action.COPY.value])),
        pc.invert(pc.is_in(left["path"], before)),
    )
    prefixes = tuple(context.state.prefixes.values())

    def file(row: Mapping[str, Any]) -> _File:
        key = row["key"]
        name = key.removeprefix(next((prefix for prefix in prefixes if key.startswith(prefix)), ""))
        return _File(row["path"], name, row["split"], (row["kind"], key.partition("/")[0], name, row["size"]))

    lost = gone.filter(pc.is_null(successor))
    return [*map(file, lost.to_pylist())], [*map(file, left.filter(is_new).to_pylist())]


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
