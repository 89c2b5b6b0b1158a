"""The candidates of a subset: images that no step of their own bucket leaves out, with what is decided on of all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline import exporters
from pipeline.config.select import Background
from pipeline.stages.index.reader import read_table
from pipeline.stages.plan.choice import BucketChoice, choose_bucket
from pipeline.stages.plan.dataset_files import read_arrow, write_arrow
from pipeline.stages.plan.frame import cut_of
from pipeline.stages.plan.images import hash_images, usable, with_sources
from pipeline.stages.select.draw import rank_of
from pipeline.stages.select.steps import positions
from pipeline.tables.schema import part_name

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.base.arrays import AnyInts, Bools, Ints
    from pipeline.stages.plan.context import PlanContext, PlannedSource


def candidates_folder(plan_dir: str) -> str:
    """Folder beside that of a plan: by bucket the candidates, and how many objects of which class each has."""
    return f"{plan_dir}.candidates"


def candidates_bucket(context: PlanContext, *frames: Any, partition_info: Mapping[str, int]) -> int:
    """Write the candidates of one bucket, see `frame.compute`.

    Returns how many of those are not fetched yet of which it takes the picture to decide: all for near duplicates,
    those with objects for caps of what is within limits in pixels.
    """
    import numpy as np
    import pyarrow as pa

    bucket = partition_info["number"]
    choice = choose_bucket(context, bucket, frames)
    images = _in_order(context, bucket, choice)
    split = images if context.split_rule is None else context.split_rule.split(images, bucket)
    rows = choice.rows.filter(pa.array(choice.chosen.outcome.taken[positions(choice.rows, choice.images)]))
    image = positions(rows, images)
    pairs, counts = np.unique(image << 32 | rows["class_id"].to_numpy().astype(np.int64), return_counts=True)
    background = np.ones(images.num_rows, np.bool_)
    background[image] = False
    keys = images["key"].to_pylist()
    share = context.select.background
    seed = share.seed if isinstance(share, Background) else 0
    near = isinstance(share, Background) and share.prefer == "near-miss"
    columns = {
        "key": images["key"].combine_chunks(),
        "split": split["split"].combine_chunks(),
        "background": background,
        "rank": np.array([rank_of(key, seed) for key in keys], np.int64),
        "cap_rank": np.array([rank_of(key, context.select.per_class.seed) for key in keys], np.int64),
        **({"others": _others(context, bucket, images)} if near else {}),
        **(_hashes(context, bucket, images, choice, split["split"]) if context.select.dedup is not None else {}),
    }
    objects = {"image": pairs >> 32, "class_id": pairs & 0xFFFFFFFF, "count": counts}
    for name, table in (("images", pa.table(columns)), ("objects", pa.table(objects))):
        write_arrow(os.path.join(candidates_folder(context.plan_dir), name, part_name(bucket)), table)
    if context.select.dedup is not None:
        return _not_fetched(context, images)
    by_size = context.select.has_caps and context.select.objects.in_pixels
    return _not_fetched(context, images.filter(pa.array(~background))) if by_size else 0


def _not_fetched(context: PlanContext, images: pa.Table) -> int:
    """How many of `images` are to be fetched before they can be read."""
    images = images.filter(images["image_path"].is_valid())
    names = images["image_path"].to_pylist()
    return sum(
        not there
        for location, here in context.origins.locations(images["key"].to_pylist(), names)
        for there in location.at_hand([names[i] for i in here])
    )


def _in_order(context: PlanContext, bucket: int, choice: BucketChoice) -> pa.Table:
    """The images that are taken so far, without those with objects whose files no plan would take, see `usable`."""
    import pyarrow as pa

    checked = context.images != "none" and (
        context.select.check_images != "none" or any(source.linked for source in context.sources)
    )
    if not checked and not exporters.load(context.exporter).GATHERS:
        return choice.chosen.images
    with_rows = choice.chosen.outcome.taken & choice.chosen.marked(choice.rows["key"].combine_chunks())
    images = with_sources(context, choice.images.filter(pa.array(with_rows)).combine_chunks(), choice.chosen)
    usable(context, bucket, images, choice.chosen)
    return choice.chosen.images


def _hashes(
    context: PlanContext, bucket: int, images: pa.Table, choice: BucketChoice, split: pa.ChunkedArray
) -> dict[str, pa.ChunkedArray]:
    """Hash and digest of each image that is of a split which is to have none of another; null for the others."""
    import pyarrow as pa
    import pyarrow.compute as pc

    assert context.select.dedup is not None
    those = images.filter(pc.is_in(split, pa.array([str(name) for name in context.select.dedup.across], pa.string())))
    found = hash_images(context, bucket, with_sources(context, those.combine_chunks(), choice.chosen))
    at = pc.index_in(images["key"].combine_chunks(), found["key"].combine_chunks())
    return {name: found[name].take(at) for name in ("hash", "digest")}


def _others(context: PlanContext, bucket: int, images: pa.Table) -> pa.Array:
    """For each image the names of the classes that it has and the subset has not."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = [_unwanted(context, source, bucket) for source in context.sources]
    table = pa.concat_tables(parts)
    at = pc.index_in(table["key"].combine_chunks(), images["key"].combine_chunks())
    names = table["name"].combine_chunks().filter(at.is_valid())
    image = at.drop_null().to_numpy().astype(np.int64)
    order = np.argsort(image, kind="stable")
    offsets = np.zeros(images.num_rows + 1, np.int32)
    np.cumsum(np.bincount(image, minlength=images.num_rows), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(order)))


def _unwanted(context: PlanContext, source: PlannedSource, bucket: int) -> pa.Table:
    """Key and name of the class of each object of a source whose class the subset has not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = "label" if source.named else "class_id"
    rows = read_table(source.index_dir, "annotations", bucket, ["key", column], cut=cut_of(context, source))
    keys, values = (rows[name].combine_chunks() for name in ("key", column))
    names = pa.array(source.classes.source, pa.string())
    if not source.named:
        known = pc.and_(pc.greater_equal(values, 0), pc.less(values, len(names)))
        values = names.take(pc.if_else(known, values, pa.scalar(None, values.type)))
    found = pa.table({"key": keys.cast(pa.string()), "name": values.cast(pa.string())})
    unwanted = pc.and_(pc.is_valid(found["name"]), pc.invert(pc.is_in(found["name"], _wanted(source))))
    return found.filter(unwanted)


def _wanted(source: PlannedSource) -> pa.Array:
    import pyarrow as pa

    return pa.array(source.classes.wanted_names, pa.string())


@dataclass
class Candidates:
    """The candidates of all buckets, one after another, as arrays; their keys stay on the disk.

    `split` numbers the splits; `rank` and `cap_rank` are those of `draw.rank_of`. `image`, `class_id` and `count` say
    how many objects of a class an image has. `others` are names of its unwanted classes, where those are needed.
    """

    context: PlanContext
    sizes: list[int]
    split: Ints
    background: Bools
    rank: Ints
    cap_rank: Ints
    image: Ints
    class_id: Ints
    count: Ints
    others: pa.ChunkedArray | None

    @staticmethod
    def read(context: PlanContext) -> Candidates:
        """What `candidates_bucket` left."""
        import numpy as np
        import pyarrow as pa

        images = [_part(context, "images", bucket) for bucket in range(context.buckets)]
        objects = [_part(context, "objects", bucket) for bucket in range(context.buckets)]
        sizes = [part.num_rows for part in images]
        starts = np.cumsum([0, *sizes])
        table = pa.concat_tables([part.drop_columns("key") for part in images])
        counts = pa.concat_tables(objects)
        offset = np.repeat(starts[:-1], [part.num_rows for part in objects])
        return Candidates(
            context,
            sizes,
            table["split"].combine_chunks().dictionary_encode().indices.to_numpy(),
            table["background"].to_numpy(),
            table["rank"].to_numpy(),
            table["cap_rank"].to_numpy(),
            counts["image"].to_numpy() + offset,
            counts["class_id"].to_numpy(),
            counts["count"].to_numpy(),
            table["others"].combine_chunks() if "others" in table.column_names else None,
        )

    def hashes(self) -> pa.Table:
        """Key, split, hash and digest of each candidate."""
        import pyarrow as pa

        names = ["key", "split", "hash", "digest"]
        parts = range(self.context.buckets)
        return pa.concat_tables([_part(self.context, "images", bucket).select(names) for bucket in parts])

    def marked(self, keys: Iterable[str]) -> Bools:
        """Which of the candidates have one of `keys`."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array(list(keys), pa.string())
        parts = [_part(self.context, "images", bucket)["key"] for bucket in range(self.context.buckets)]
        found: Bools = np.concatenate([pc.is_in(part, wanted).to_numpy() for part in parts])
        return found

    def by_bucket(self, values: AnyInts) -> Iterator[tuple[int, pa.ChunkedArray, AnyInts]]:
        """Each bucket with the keys of its candidates, and those of `values`, one a candidate."""
        start = 0
        for bucket, size in enumerate(self.sizes):
            yield bucket, _part(self.context, "images", bucket)["key"], values[start : start + size]
            start += size


def _part(context: PlanContext, name: str, bucket: int) -> pa.Table:
    return read_arrow(os.path.join(candidates_folder(context.plan_dir), name, part_name(bucket)))
