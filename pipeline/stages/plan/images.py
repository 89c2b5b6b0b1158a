"""The chosen images of a bucket as they are now: where, how large, usable or not, in which folder of the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline import exporters, storage
from pipeline.base.digest import digest_of
from pipeline.base.errors import ConfigError
from pipeline.base.humanize import plural
from pipeline.exporters import flat_stems
from pipeline.images.hashes import image_hashes
from pipeline.images.inspection import UnusableImage, check_images, check_linked
from pipeline.images.sizes import Sizes, compare_sizes
from pipeline.stages.plan.compare import image_mark
from pipeline.stages.plan.dataset_files import with_sizes
from pipeline.stages.select.images import Choice
from pipeline.stages.select.steps import Step
from pipeline.tables.schema import Action

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.stages.plan.context import PlanContext


def with_sources(context: PlanContext, images: pa.Table, choice: Choice) -> pa.Table:
    """`images` with the columns source (path or URL), size, mark and state, see `check_images`, as they are now.

    Those that are gone are left out, and noted in `choice`.
    """
    if context.images == "none":
        return images
    images = _asked(context, images, choice)
    there = images["mark"].is_valid()
    gone = images["key"].filter(images["mark"].is_null()).to_pylist()
    choice.leave(gone, Step.IMAGES, "vanished", problem=True)
    return (images.filter(there) if gone else images).combine_chunks()


def _asked(context: PlanContext, images: pa.Table, choice: Choice) -> pa.Table:
    """As `with_sources`, with those that are gone; they have no mark. Each image of `choice` is asked for once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = choice.sources
    if found is None:
        found = rows = choice.sources = _sources(context, images)
    else:
        new = images.filter(pc.invert(pc.is_in(images["key"], found["key"].combine_chunks())))
        if new.num_rows:
            found = choice.sources = pa.concat_tables([found, _sources(context, new)]).combine_chunks()
        rows = found.take(pc.index_in(images["key"].combine_chunks(), found["key"].combine_chunks()))
    for name in ("source", "size", "mark", "state"):
        images = images.append_column(name, rows[name])
    return images


def _sources(context: PlanContext, images: pa.Table) -> pa.Table:
    """Key, source, size, mark and state of `images`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys, names = images["key"].to_pylist(), images["image_path"].to_pylist()
    sources: list[str] = [""] * len(names)
    stats: list[storage.Fingerprint | None] = [None] * len(names)
    for location, here in context.origins.locations(keys, names):
        for i, found in zip(here, location.fingerprints([names[i] for i in here]), strict=True):
            sources[i], stats[i] = location.join(names[i]), found
    marks = [s and image_mark(context.images, s, source) for s, source in zip(stats, sources, strict=True)]
    sizes = pa.array([s and s.size for s in stats], pa.int64())  # of an image in a label file the index knows it
    states = [s.mark if s and s.settled else None for s in stats]
    columns = {
        "key": images["key"],
        "source": pa.array(sources, pa.string()),
        "size": pc.coalesce(sizes, images["image_size"].combine_chunks()),
        "mark": pa.array(marks, pa.binary()),
        "state": pa.array(states, pa.binary()),
    }
    return pa.table(columns)


def usable(
    context: PlanContext, bucket: int, images: pa.Table, choice: Choice
) -> tuple[pa.Table, dict[str, UnusableImage]]:
    """`images` without those that cannot be used, and these by key; they are noted in `choice`."""
    images, bad = _checked(context, bucket, images)
    gathers = exporters.load(context.exporter).GATHERS
    if gathers and (context.images != "none" or exporters.load_gathering(context.exporter).NEEDS_SIZES):
        images, sizeless = with_sizes(context, bucket, images)
        bad |= sizeless
    leave_unusable(choice, bad)
    return images, bad


def looked_into(context: PlanContext, choice: Choice, rows: pa.Table) -> list[UnusableImage]:
    """Images with any of `rows` that are left out for what they are: of another size, say, they may be taken."""
    import numpy as np
    import pyarrow as pa

    if context.images == "none" or not (context.select.objects.in_pixels or context.select.dedup):
        return []
    steps = choice.outcome.step
    with_rows = choice.marked(rows["key"].combine_chunks())
    which = (steps == Step.DUPLICATES) | (with_rows & np.isin(steps, (Step.OBJECTS, Step.IMAGES)))
    images = choice.source.filter(pa.array(which))
    images = images.filter(images["image_path"].is_valid()).combine_chunks()
    found = _asked(context, images, choice).select(["key", "image_path", "mark"]).to_pylist()
    return [
        UnusableImage(context.origins.of(row["key"]).prefix, row["image_path"], digest_of(row["mark"]), "left_out", "")
        for row in found
        if row["mark"] is not None
    ]


def leave_unusable(choice: Choice, bad: Mapping[str, UnusableImage]) -> None:
    """Note in `choice` the images that cannot be used."""
    for reason in dict.fromkeys(found.reason for found in bad.values()):
        keys = [key for key, found in bad.items() if found.reason == reason]
        choice.leave(keys, Step.IMAGES, reason, problem=True)


def _checked(context: PlanContext, bucket: int, images: pa.Table) -> tuple[pa.Table, dict[str, UnusableImage]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if context.images == "none":
        return images, {}
    bad: dict[str, UnusableImage] = {}
    for source in context.sources:
        if context.select.check_images == "none" and not source.linked:
            continue
        own = images.filter(pc.starts_with(images["key"], source.prefix))
        if context.select.check_images == "none":
            bad |= check_linked(source.index_dir, bucket, source.root, context.origins, own)
        else:
            bad |= check_images(source.index_dir, bucket, context.select.check_images, context.origins, own)
    if bad:
        images = images.filter(pc.invert(pc.is_in(images["key"], pa.array(list(bad))))).combine_chunks()
    return images, bad


def hash_images(context: PlanContext, bucket: int, images: pa.Table) -> pa.Table:
    """Key, hash and digest of the `images` of a bucket, see `image_hashes`; they are as `with_sources` gives them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = []
    for source in context.sources:
        own = images.filter(pc.starts_with(images["key"], source.prefix))
        parts.append(image_hashes(source.index_dir, bucket, context.origins, own))
    return pa.concat_tables(parts).combine_chunks()


def compared_sizes(context: PlanContext, images: pa.Table, plan: pa.Table) -> Sizes:
    """See `images.sizes`: of the images that are to be copied, unless the index compared them."""
    import pyarrow.compute as pc

    if context.images == "none":
        return Sizes()
    copied = plan["key"].filter(pc.equal(plan["action"], Action.COPY.value))
    changed = images.filter(pc.is_in(images["key"], copied.combine_chunks()))
    origins = context.origins.beside(*(source.prefix for source in context.sources if source.sized))
    return compare_sizes(changed, origins, normalised=exporters.load(context.exporter).OF_TASK)


def in_one_folder(images: pa.Table) -> pa.Table:
    """`images` with stems without folders, see `flat_stems`."""
    stem = flat_stems(images["stem"].combine_chunks())
    return images.set_column(images.schema.get_field_index("stem"), "stem", stem)


def refuse_same_names(stems: Sequence[pa.Table]) -> None:
    """Raise `ConfigError` where two images of a split have one name; `stems` has split, stem and key by bucket."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = pa.concat_tables(stems)
    counts = table.group_by(["split", "stem"]).aggregate([([], "count_all"), ("key", "min"), ("key", "max")])
    same = counts.filter(pc.greater(counts["count_all"], 1)).sort_by([("split", "ascending"), ("stem", "ascending")])
    if same.num_rows:
        first = same.slice(0, 1).to_pylist()[0]
        others = f", and {plural(same.num_rows - 1, 'more name')} too" if same.num_rows > 1 else ""
        raise ConfigError(
            f"target.flat: {first['key_min']} and {first['key_max']} would both be {first['stem']} in "
            f"{first['split']}{others}; rename an image or a source, or leave target.flat out"
        )


def in_folders(images: pa.Table) -> pa.Table:
    """`images` with a folder for each source before the stem."""
    import pyarrow as pa
    import pyarrow.compute as pc

    source = pa.array([key.split("/", 1)[0] for key in images["key"].to_pylist()], pa.string())
    stem = pc.binary_join_element_wise(source, images["stem"].combine_chunks(), "/")
    return images.set_column(images.schema.get_field_index("stem"), "stem", stem)
