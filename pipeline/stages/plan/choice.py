"""What a bucket has for the subset: rows that the target can have, and the images that they bring along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline import exporters
from pipeline.reports.text import CHANGED
from pipeline.stages.plan.backgrounds import excluded_from
from pipeline.stages.select import rows as selection
from pipeline.stages.select.exhaustive import Unlabelled, joined, unlabelled
from pipeline.stages.select.images import Choice, choose
from pipeline.tables.frames import to_arrow

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.stages.plan.context import PlanContext


@dataclass
class BucketChoice:
    """The `rows` of one bucket for the subset, all of its `images`, and those chosen.

    `unwritable` rows are left out because the target cannot have them, `duplicates` because they repeat another.
    `loss` counts objects that the target cannot have, or not whole, by reason, and `lost_of` those left out by split of
    the source, class and reason. `mixed` has a clause for each image whose rows are boxes and polygons. `unlabelled`
    says which images may hold unlabelled objects, and `unlabelled_rows` are left out with those.
    """

    rows: pa.Table
    images: pa.Table
    chosen: Choice
    unwritable: int
    duplicates: int
    loss: dict[str, int] = field(default_factory=dict)
    lost_of: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    mixed: dict[str, str] = field(default_factory=dict)
    unlabelled: Unlabelled | None = None
    unlabelled_rows: int = 0


def choose_bucket(context: PlanContext, bucket: int, frames: Sequence[Any]) -> BucketChoice:
    """Choose of one bucket; `frames` are those of `frame.compute`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    mapped = _of_all_sources(frames[0::2])
    images = _of_all_sources(frames[1::2])
    of_task = exporters.load(context.exporter).OF_TASK
    rows, mixed = selection.unmixed(mapped) if of_task else (mapped, {})
    rows, loss, lost = writable(rows, of_task=of_task)
    written = rows.num_rows
    rows = selection.drop_duplicates(rows) if context.duplicates == "drop" else rows
    others = images.filter(pc.invert(pc.is_in(images["key"], pa.array(list(mixed), pa.string())))) if mixed else images
    # What has a wanted object that is in no row is no background: a trainer would learn that nothing is there.
    never = excluded_from(context.no_backgrounds, bucket) | {"unwritable": pc.unique(mapped["key"].combine_chunks())}
    doubtful = _unlabelled(context, frames[1::2])
    taken, dropped = rows, pa.array([], pa.string())
    if doubtful is not None:
        never["unlabelled_class"] = doubtful.images()
        if context.on_unlabelled == "drop":
            dropped = pc.unique(rows["key"].filter(pc.is_in(rows["key"], doubtful.images())))
            taken = rows.filter(pc.invert(pc.is_in(rows["key"], dropped))).combine_chunks()
            others = others.filter(pc.invert(pc.is_in(others["key"], dropped)))
    chosen = choose(taken, others, backgrounds=context.backgrounds, need_image=context.images != "none", never=never)
    if len(dropped):
        chosen.dropped["unlabelled_class"] = chosen.dropped.get("unlabelled_class", 0) + len(dropped)
    if mixed:
        chosen.dropped["mixed"] = len(mixed)
        chosen.problems += [(key, "mixed") for key in mixed]
    return BucketChoice(
        taken,
        images,
        chosen,
        mapped.num_rows - written,
        written - rows.num_rows,
        loss,
        _by_split_and_class(lost, images, context.classes) if lost is not None else {},
        mixed,
        doubtful,
        rows.num_rows - taken.num_rows,
    )


def _unlabelled(context: PlanContext, images: Sequence[Any]) -> Unlabelled | None:
    """Which images of all sources, a frame of each, may hold unlabelled objects."""
    columns = ["key", "exhaustive"]
    return joined(
        [
            unlabelled(to_arrow(frame[columns]), source.classes, source.partly)
            for source, frame in zip(context.sources, images, strict=True)
        ]
    )


def _of_all_sources(frames: Sequence[Any]) -> pa.Table:
    """The same bucket of several sources as one table; keys stay sorted, for sources are in the order of theirs."""
    import pyarrow as pa

    tables = [to_arrow(frame) for frame in frames]
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default").combine_chunks()


def writable(rows: pa.Table, *, of_task: bool) -> tuple[pa.Table, dict[str, int], pa.Table | None]:
    """The rows that a target can have; how many it has not, or not whole, by reason; and those it has not, if any.

    `of_task`: it has rows of the task alone; else it takes whatever is an object.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if "loss" not in rows.column_names or rows["loss"].null_count == rows.num_rows:
        return rows, {}, None
    fit = pc.is_valid(rows["tail"])
    losses = rows["loss"]
    if not of_task:
        fit = pc.or_(fit, pc.is_valid(rows["raw"]))
        losses = losses.filter(pc.or_(pc.invert(fit), pc.is_in(losses, pa.array(sorted(CHANGED)))))
    counts = {e["values"]: e["counts"] for e in losses.drop_null().value_counts().to_pylist()}
    return rows.filter(fit).combine_chunks(), dict(sorted(counts.items())), rows.filter(pc.invert(fit))


def _by_split_and_class(
    rows: pa.Table, images: pa.Table, classes: Sequence[str]
) -> dict[str, dict[str, dict[str, int]]]:
    """How many `rows` are lost by split of the source, class and reason."""
    import pyarrow.compute as pc

    splits = images["split"].take(pc.index_in(rows["key"].combine_chunks(), images["key"].combine_chunks()))
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for split, number, reason in zip(
        splits.to_pylist(), rows["class_id"].to_pylist(), rows["loss"].to_pylist(), strict=True
    ):
        of_class = counts.setdefault(split, {}).setdefault(classes[number], {})
        of_class[reason] = of_class.get(reason, 0) + 1
    return counts
