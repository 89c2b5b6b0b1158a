"""The Dask frame from index to plan: select, choose images, export, compare; a bucket at a time."""

from __future__ import annotations

import functools
import json
import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline import exporters, storage
from pipeline.formats._image_names import TRIED
from pipeline.images.header import IMAGE_SUFFIXES
from pipeline.images.inspection import UnusableImage, check_images
from pipeline.images.sizes import Sizes, compare_sizes
from pipeline.reports.text import CHANGED
from pipeline.stages.index.reader import index_at
from pipeline.stages.plan.archive import set_aside
from pipeline.stages.plan.backgrounds import never_of
from pipeline.stages.plan.compare import compare, doubt, image_mark, losses, summarise
from pipeline.stages.plan.dataset_files import gather, records_folder, with_sizes
from pipeline.stages.select import rows as selection
from pipeline.stages.select.images import Choice, choose
from pipeline.stages.select.split_table import summary_of
from pipeline.tables.digest import digest_of
from pipeline.tables.frames import to_arrow
from pipeline.tables.parquet import to_parquet
from pipeline.tables.schema import Action, Kind, part_name
from pipeline.target.manifest import staged_path

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.runtime.engine import Engine
    from pipeline.stages.plan.context import PlanContext, PlannedSource

_Unusable = dict[str, UnusableImage]
#: Steps of a split's folder in every layout (``images/train``): users may leave links for these, not for deeper ones.
_SPLIT_DEPTH = 2


def run(context: PlanContext, engine: Engine, done: Callable[[int], None]) -> list[dict[str, Any]]:
    """Plan all buckets; returns their summaries in order. Plans are left in `context.plan_dir`.

    `done` is called with the number of buckets that were planned since it was called last.
    """
    import dask.dataframe as dd
    import pandas as pd

    frames = [frame for source in context.sources for frame in _frames(context, source)]
    numbers = dd.from_map(_number, range(context.buckets), meta=_number(0).iloc[:0])
    step = functools.partial(plan_bucket, context)
    meta = pd.DataFrame({"summary": pd.Series([], dtype=object)})
    summaries = dd.map_partitions(step, numbers, *frames, meta=meta, align_dataframes=False, enforce_metadata=False)
    keep = {part_name(b) for b in range(context.buckets)}
    for folder in (context.plan_dir, touched_folder(context.plan_dir), records_folder(context.plan_dir)):
        place = storage.locate(folder)
        place.delete_many(sorted(place.names() - keep))
    return [json.loads(part["summary"].iloc[0]) for part in engine.compute(summaries, done)]


def _frames(context: PlanContext, source: PlannedSource) -> tuple[Any, Any]:
    """The Dask frames of one source: kept rows with their new ids, and images."""
    found = index_at(source.index_dir)
    exporter = exporters.load(context.exporter)
    more = [c for c in exporter.COLUMNS if source.named or c not in ("loss", "raw")]
    if source.mixed and exporter.OF_TASK:
        more += ["loss", "n_tokens", "line"]
    columns = selection.columns(context.duplicates, [*more, "label"] if source.named else more)
    classes = source.classes
    wanted: Any = classes.wanted_names if source.named else classes.wanted_ids
    # Names of a file may leave some of the source's out, so it is never certain that all rows are wanted.
    everything = not source.named and len(wanted) == len(classes.lut)
    rows = found.frame("annotations", columns, None if everything else wanted, context.buckets)
    return selection.select(rows, classes), found.frame("images", None, None, context.buckets)


def touched_folder(plan_dir: str) -> str:
    """Folder beside that of a plan: by bucket the paths that the plan will touch, as the intent has them."""
    return f"{plan_dir}.touched"


def _number(bucket: int) -> Any:
    import pandas as pd

    return pd.DataFrame({"bucket": [bucket]})


def plan_bucket(context: PlanContext, numbers: Any, *frames: Any) -> Any:
    """Plan one bucket: writes its part of the plan and returns a frame with its summary as JSON.

    `frames` are, for each source, its kept rows and its images.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    bucket = int(numbers["bucket"].iloc[0])
    found = _choose(context, bucket, frames)
    rows, all_images, choice = found.rows, found.images, found.choice
    exporter = exporters.load(context.exporter)
    chosen = choice.images if context.dealing is None else context.dealing.split(choice.images, bucket)
    if context.images != "none":
        chosen, vanished = _with_sources(context, chosen)
        choice.problems += [(key, "vanished") for key in vanished]
        choice.dropped["vanished"] = len(vanished)
    with_image = _of_images(rows, chosen)
    chosen, bad = _usable(context, bucket, chosen, choice)
    taken = _of_images(with_image, chosen) if bad else with_image
    if context.several:
        chosen = _in_folders(chosen)
    if exporter.GATHERS:
        gather(context, bucket, taken, chosen)
    wanted = exporter.fragment(taken, chosen)
    if context.archive:
        wanted = set_aside(context.plan_dir, bucket, wanted)
    target = storage.locate(context.root)
    listed = context.state.rows(bucket, context.buckets)
    held = _still_there(context, target, listed) if context.check_there else listed
    if context.suspects:
        held = doubt(held, context.suspects)
    table = compare(wanted, held)
    foreign = _foreign(target, table, held) if context.check_foreign else []
    if foreign and context.state.lost:
        foreign = sorted({*foreign} - _as_wanted(context, target, table, foreign))
    sizes = _compare_sizes(context, chosen, table)
    choice.problems += [(key, "other_size") for key in sizes.other]
    path = os.path.join(context.plan_dir, part_name(bucket))
    storage.replace_with(path, lambda p: pq.write_table(table, p, use_dictionary=["split"], write_statistics=False))
    touched = table.select(["path", "kind", "key", "split"]).filter(pc.not_equal(table["action"], Action.KEEP.value))
    foreign += target.links_among(touched["path"].to_pylist(), beyond=_SPLIT_DEPTH)
    beside = storage.locate(touched_folder(context.plan_dir))
    beside.write_many([part_name(bucket)], [to_parquet(touched)]).must(beside)
    summary = {
        "bucket": bucket,
        "changes": int(table.num_rows - _count(table, Action.KEEP)),
        "untrue": context.state.lost or held.num_rows < listed.num_rows,
        "lost": context.state.lost,
        "foreign": foreign,
        "loss_at_target": losses(table, held),
        "problems": [
            [key, reason, *_detail(context, reason, key, all_images, bad, found.mixed, sizes)]
            for key, reason in choice.problems
        ],
        "turned": sizes.turned,
        "left_out": [[one.prefix, one.name, one.digest.hex()] for one in bad.values()],
        "rows": {
            "kept": taken.num_rows,
            "duplicates": found.duplicates,
            "without_image": rows.num_rows - with_image.num_rows,
            "bad_image": with_image.num_rows - taken.num_rows,
            "lost": found.left_out,
        },
        "loss": found.lost,
        "lost_of": found.lost_of,
        "counts": _counts(context, taken, chosen, choice, table),
    }
    pa.default_memory_pool().release_unused()  # otherwise the pool keeps the largest bucket it ever saw
    return pd.DataFrame({"summary": [json.dumps(summary)]})


@dataclass
class _Found:
    """What a bucket has for the subset: its rows, all of its images, those chosen; and rows that were left out.

    `mixed` are images whose rows are boxes and polygons, with what is to be told of each.
    """

    rows: pa.Table
    images: pa.Table
    choice: Choice
    lost: dict[str, int]
    lost_of: dict[str, dict[str, dict[str, int]]]
    left_out: int
    duplicates: int
    mixed: dict[str, str]


def _choose(context: PlanContext, bucket: int, frames: Sequence[Any]) -> _Found:
    import pyarrow as pa
    import pyarrow.compute as pc

    mapped = _together(frames[0::2])
    images = _together(frames[1::2])
    of_task = exporters.load(context.exporter).OF_TASK
    rows, mixed = selection.unmixed(mapped) if of_task else (mapped, {})
    rows, lost, lost_rows = _rows_held(rows, of_task=of_task)
    lost_of = _lost_of(lost_rows, images, context.classes) if lost_rows is not None else {}
    all_rows = rows.num_rows
    rows = selection.drop_duplicates(rows) if context.duplicates == "drop" else rows
    others = images.filter(pc.invert(pc.is_in(images["key"], pa.array(list(mixed), pa.string())))) if mixed else images
    # What has a wanted object that is in no row is no background: a trainer would learn that nothing is there.
    never = never_of(context.never, bucket) | {"unwritable": pc.unique(mapped["key"].combine_chunks())}
    choice = choose(rows, others, backgrounds=context.backgrounds, need_image=context.images != "none", never=never)
    if mixed:
        choice.dropped["mixed"] = len(mixed)
        choice.problems += [(key, "mixed") for key in mixed]
    left_out, duplicates = mapped.num_rows - all_rows, all_rows - rows.num_rows
    return _Found(rows, images, choice, lost, lost_of, left_out, duplicates, mixed)


def strata(context: PlanContext, engine: Engine) -> list[str]:
    """The groups of each bucket that `context.dealing` would deal out, see `summary_of`."""
    import dask.dataframe as dd
    import pandas as pd

    frames = [frame for source in context.sources for frame in _frames(context, source)]
    meta = pd.DataFrame({"groups": pd.Series([], dtype=object)})
    numbers = dd.from_map(_number, range(context.buckets), meta=_number(0).iloc[:0])
    found = dd.map_partitions(
        functools.partial(_strata_of_bucket, context),
        numbers,
        *frames,
        meta=meta,
        align_dataframes=False,
        enforce_metadata=False,
    )
    return [part["groups"].iloc[0] for part in engine.compute(found, lambda _: None)]


def _strata_of_bucket(context: PlanContext, numbers: Any, *frames: Any) -> Any:
    import pandas as pd

    assert context.dealing is not None
    found = _choose(context, int(numbers["bucket"].iloc[0]), frames)
    return pd.DataFrame({"groups": [summary_of(context.dealing, found.rows, found.choice.images)]})


def _together(frames: Sequence[Any]) -> pa.Table:
    """The same bucket of several sources as one table; keys stay sorted, for sources are in the order of theirs."""
    import pyarrow as pa

    tables = [to_arrow(frame) for frame in frames]
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default").combine_chunks()


def _rows_held(rows: pa.Table, *, of_task: bool) -> tuple[pa.Table, dict[str, int], pa.Table | None]:
    """The rows that a target can hold; how many it does not hold, or not whole, by reason; and those not held, if any.

    `of_task`: it has rows of the task alone; else it takes whatever is an object.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if "loss" not in rows.column_names or rows["loss"].null_count == rows.num_rows:
        return rows, {}, None
    held = pc.is_valid(rows["tail"])
    losses = rows["loss"]
    if not of_task:
        held = pc.or_(held, pc.is_valid(rows["raw"]))
        losses = losses.filter(pc.or_(pc.invert(held), pc.is_in(losses, pa.array(sorted(CHANGED)))))
    counts = {e["values"]: e["counts"] for e in losses.drop_null().value_counts().to_pylist()}
    lost = rows.filter(pc.invert(held)) if rows["loss"].null_count < rows.num_rows else None
    return rows.filter(held).combine_chunks(), dict(sorted(counts.items())), lost


def _lost_of(rows: pa.Table, images: pa.Table, classes: Sequence[str]) -> dict[str, dict[str, dict[str, int]]]:
    """How many rows are lost by split of the source, class and reason."""
    import pyarrow.compute as pc

    splits = images["split"].take(pc.index_in(rows["key"].combine_chunks(), images["key"].combine_chunks()))
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for split, number, reason in zip(
        splits.to_pylist(), rows["class_id"].to_pylist(), rows["loss"].to_pylist(), strict=True
    ):
        of_class = counts.setdefault(split, {}).setdefault(classes[number], {})
        of_class[reason] = of_class.get(reason, 0) + 1
    return counts


def _in_folders(images: pa.Table) -> pa.Table:
    """`images` with a folder for each source before the stem."""
    import pyarrow as pa
    import pyarrow.compute as pc

    source = pa.array([key.split("/", 1)[0] for key in images["key"].to_pylist()], pa.string())
    stem = pc.binary_join_element_wise(source, images["stem"].combine_chunks(), "/")
    return images.set_column(images.schema.get_field_index("stem"), "stem", stem)


def _usable(context: PlanContext, bucket: int, images: pa.Table, choice: Choice) -> tuple[pa.Table, _Unusable]:
    """`images` without those that cannot be used, and these by key; they are noted in `choice`."""
    images, bad = _without_bad(context, bucket, images)
    if exporters.load(context.exporter).GATHERS:
        images, sizeless = with_sizes(context, images)
        bad |= sizeless
    for key, found in bad.items():
        choice.problems.append((key, found.reason))
        choice.dropped[found.reason] = choice.dropped.get(found.reason, 0) + 1
    return images, bad


def _without_bad(context: PlanContext, bucket: int, images: pa.Table) -> tuple[pa.Table, _Unusable]:
    """`images` without those that cannot be used, and these by key."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if context.images == "none":
        return images, {}
    bad: _Unusable = {}
    for source in (source for source in context.sources if source.check != "none"):
        own = images.filter(pc.starts_with(images["key"], source.prefix))
        bad |= check_images(source.index_dir, bucket, source.check, context.origins, own, context.workdir, source.root)
    if bad:
        images = images.filter(pc.invert(pc.is_in(images["key"], pa.array(list(bad))))).combine_chunks()
    return images, bad


def _of_images(rows: pa.Table, images: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    return rows.filter(pc.is_in(rows["key"].combine_chunks(), images["key"].combine_chunks())).combine_chunks()


def _with_sources(context: PlanContext, images: pa.Table) -> tuple[pa.Table, list[str]]:
    """`images` with their source path, size and fingerprint now; and the keys of those that are gone."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = images["key"].to_pylist()
    names = images["image_path"].to_pylist()
    sources: list[str | None] = [None] * len(names)
    stats: list[storage.Fingerprint | None] = [None] * len(names)
    for prefix, folder in context.origins.items():
        here = [i for i, key in enumerate(keys) if key.startswith(prefix)]
        assert folder is not None
        for origin, some in storage.image_places(storage.locate(folder, context.workdir), [names[i] for i in here]):
            found = origin.fingerprints([names[here[n]] for n in some])
            for i, one in zip((here[n] for n in some), found, strict=True):
                sources[i], stats[i] = origin.join(names[i]), one
    images = images.append_column("source", pa.array(sources, pa.string()))
    sizes = pa.array([s and s.size for s in stats], pa.int64())  # of an image in a label file the index knows it
    images = images.append_column("size", pc.coalesce(sizes, images["image_size"].combine_chunks()))
    images = images.append_column(
        "mark",
        pa.array(
            [s and image_mark(context.images, s, source or "") for s, source in zip(stats, sources, strict=True)],
            pa.binary(),
        ),
    )
    images = images.append_column("state", pa.array([s.mark if s and s.settled else None for s in stats], pa.binary()))
    there = pa.array([s is not None for s in stats], pa.bool_())
    gone = [key for key, s in zip(keys, stats, strict=True) if s is None]
    return (images.filter(there) if gone else images).combine_chunks(), gone


def _still_there(context: PlanContext, target: storage.Location, listed: pa.Table) -> pa.Table:
    """Those of the files `listed` that are at the target, or ready to be put there."""
    import pyarrow as pa

    places = [staged_path(path, context.staged) for path in listed["path"].to_pylist()]
    return listed.filter(pa.array(target.exist_many(places, sure=True), pa.bool_()))


def _as_wanted(context: PlanContext, target: storage.Location, table: pa.Table, paths: Sequence[str]) -> set[str]:
    """Those of `paths` whose content at the target is what the plan `table` has for them.

    Where the manifest is lost these are ours, as far as anybody can know: nothing is lost when they are made anew.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = table.filter(pc.is_in(table["path"], pa.array(paths)))
    there = dict(zip(rows["path"].to_pylist(), target.content_digests(rows["path"].to_pylist()), strict=True))
    labels = rows.filter(pc.equal(rows["kind"], Kind.LABEL.value))
    same = {
        path
        for path, digest in zip(labels["path"].to_pylist(), labels["digest"].to_pylist(), strict=True)
        if there[path] == digest
    }
    images = rows.filter(pc.equal(rows["kind"], Kind.IMAGE.value))
    for prefix, url in context.origins.items():
        mine = images.filter(pc.starts_with(images["key"], prefix))
        if url is None or not mine.num_rows:
            continue
        origin = storage.locate(url, context.workdir)
        names, own = [origin.name_of(source) for source in mine["source"].to_pylist()], mine["path"].to_pylist()
        same |= {
            own[found.index]
            for found in origin.fetch_many(names)
            if found.reason is None and there[own[found.index]] == digest_of(found.data)
        }
    return same


def _compare_sizes(context: PlanContext, images: pa.Table, plan: pa.Table) -> Sizes:
    """See `images.sizes`: of the images that are to be copied, unless the index compared them."""
    import pyarrow.compute as pc

    if context.images == "none":
        return Sizes()
    copied = plan["key"].filter(pc.equal(plan["action"], Action.COPY.value))
    changed = images.filter(pc.is_in(images["key"], copied.combine_chunks()))
    sized = tuple(source.prefix for source in context.sources if source.sized)
    origins = {prefix: folder for prefix, folder in context.origins.items() if not prefix.startswith(sized)}
    return compare_sizes(changed, origins, context.workdir, normalised=exporters.load(context.exporter).OF_TASK)


def _foreign(target: storage.Location, table: pa.Table, held: pa.Table) -> list[str]:
    """Paths to be made that are there already and are not ours."""
    import pyarrow as pa
    import pyarrow.compute as pc

    new = pc.is_in(table["action"], pa.array([Action.WRITE.value, Action.COPY.value]))
    new = pc.and_(new, pc.invert(pc.is_in(table["path"], held["path"].combine_chunks())))
    paths = table["path"].filter(new).to_pylist()
    return [path for path, there in zip(paths, target.exist_many(paths), strict=True) if there]


def _detail(
    context: PlanContext,
    reason: str,
    key: str,
    images: pa.Table,
    bad: _Unusable,
    mixed: dict[str, str],
    sizes: Sizes,
) -> tuple[str, str]:
    """The file that a problem is about, and what it is."""
    import pyarrow.compute as pc

    row = images.filter(pc.equal(images["key"], key)).slice(0, 1).to_pylist()[0]
    if reason == "mixed":
        labels = next(
            url for source in context.sources for prefix, url in source.labels.items() if key.startswith(prefix)
        )
        return storage.locate(labels).join(row["label_path"]), mixed[key]
    place = next(folder for prefix, folder in context.origins.items() if key.startswith(prefix))
    folder = storage.locate(place or "")
    if reason == "no_image" and row["raw"] is not None and row["image_said"]:
        return folder.url, f"has no image {row['image_said']!r} ({TRIED})"
    if reason == "no_image":
        said = f", and none where it says ({row['image_said']})" if row["image_said"] else ""
        held = "; the one in it is taken where labels and images are one folder" if row["held_suffix"] else ""
        told = f"the label {row['label_path']} has no image of this name{said}{held}"
        if other := _other_form(folder, row["stem"]):
            told += (
                f"; {other} there has composed letters where this has decomposed ones, or the other way round "
                "(Unicode NFC and NFD): rename one of them"
            )
        return folder.join(f"{row['stem']}.*"), told
    path = folder.join(row["image_path"] or f"{row['stem']}.*")
    if reason == "many_images":
        others = ", ".join(row["other_images"].split("\n"))
        return path, f"has a second image of the same stem ({others}), one label for both"
    if reason == "other_size":
        return path, sizes.other[key]
    return path, "is gone since the folder was listed" if reason == "vanished" else bad[key].detail


def _other_form(folder: storage.Location, stem: str) -> str | None:
    """The image whose name looks like `stem` and is another to a file system: macOS hands out decomposed letters."""
    forms = {unicodedata.normalize(form, stem) for form in ("NFC", "NFD")} - {stem}
    names = [form + suffix for form in sorted(forms) for suffix in IMAGE_SUFFIXES]
    return next((name for name, there in zip(names, folder.exist_many(names), strict=True) if there), None)


def _count(table: pa.Table, action: Action) -> int:
    import pyarrow.compute as pc

    return int(pc.sum(pc.equal(table["action"], action.value)).as_py() or 0)


def _counts(context: PlanContext, taken: pa.Table, images: pa.Table, choice: Choice, table: pa.Table) -> dict[str, Any]:
    import numpy as np
    import pyarrow.compute as pc

    image_of_row = pc.index_in(taken["key"].combine_chunks(), images["key"].combine_chunks())
    image_of_row = image_of_row.to_numpy(zero_copy_only=False).astype(np.int64)
    ids = taken["class_id"].to_numpy().astype(np.int64)
    splits = np.array(images["split"].to_pylist(), object)
    pairs = np.unique(image_of_row << 32 | ids)
    subset: dict[str, Any] = {}
    labels = "labels" in exporters.load(context.exporter).FOLDERS
    for split in context.splits:
        here = splits == split
        of_row, of_pair = here[image_of_row], here[pairs >> 32]
        subset[split] = {
            "images": int(here.sum()),
            "labels": int(here.sum()) if labels else 0,
            "backgrounds": int(here.sum()) - len(np.unique(image_of_row[of_row])),
            "objects": _by_class(context, ids[of_row]),
            "images_by_class": _by_class(context, pairs[of_pair] & 0xFFFFFFFF),
        }
    return {
        "subset": subset,
        "images": {"kept": images.num_rows, **choice.dropped},
        "plan": summarise(table),
    }


def _by_class(context: PlanContext, ids: Any) -> dict[str, int]:
    import numpy as np

    counts = np.bincount(ids, minlength=len(context.classes))
    return {name: int(counts[i]) for i, name in enumerate(context.classes)}
