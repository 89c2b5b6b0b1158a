"""The Dask frame from index to plan: select, choose images, export, compare; a bucket at a time."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline import exporters, storage
from pipeline.images.inspection import Bad, check_images
from pipeline.stages.index.reader import index_at
from pipeline.stages.plan.archive import set_aside
from pipeline.stages.plan.compare import compare, doubt, image_mark, summarise
from pipeline.stages.plan.dataset_files import gather, records_folder
from pipeline.stages.select import rows as selection
from pipeline.stages.select.images import Choice, choose
from pipeline.stages.select.split_table import summary_of
from pipeline.tables.frames import to_arrow
from pipeline.tables.parquet import to_parquet
from pipeline.tables.schema import Action, part_name
from pipeline.target.manifest import staged_path

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.runtime.engine import Engine
    from pipeline.stages.plan.context import PlanContext, PlannedSource


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
    found = _choose(context, frames)
    rows, all_images, choice = found.rows, found.images, found.choice
    exporter = exporters.load(context.exporter)
    chosen = choice.images if context.dealing is None else context.dealing.split(choice.images, bucket)
    if context.images != "none":
        chosen, vanished = _with_sources(context, chosen)
        choice.problems += [(key, "vanished") for key in vanished]
        choice.dropped["vanished"] = len(vanished)
    with_image = _of_images(rows, chosen)
    chosen, bad = _without_bad(context, bucket, chosen, choice)
    taken = _of_images(with_image, chosen) if bad else with_image
    if context.several:
        chosen = _in_folders(chosen)
    if exporter.GATHERS:
        chosen = gather(context, bucket, taken, chosen)
    wanted = exporter.fragment(taken, chosen)
    if context.archive:
        wanted = set_aside(context.plan_dir, bucket, wanted)
    target = storage.locate(context.root)
    held = context.state.rows(bucket, context.buckets)
    if context.check_there:
        places = [staged_path(path, context.staged) for path in held["path"].to_pylist()]
        held = held.filter(pa.array(target.exist_many(places), pa.bool_()))
    if context.suspects:
        held = doubt(held, context.suspects)
    table = compare(wanted, held)
    foreign = _foreign(target, table, held) if context.check_foreign else []
    path = os.path.join(context.plan_dir, part_name(bucket))
    storage.replace_with(path, lambda p: pq.write_table(table, p, use_dictionary=["split"], write_statistics=False))
    touched = table.select(["path", "kind", "key", "split"]).filter(pc.not_equal(table["action"], Action.KEEP.value))
    beside = storage.locate(touched_folder(context.plan_dir))
    beside.write_many([part_name(bucket)], [to_parquet(touched)]).must(beside)
    summary = {
        "bucket": bucket,
        "changes": int(table.num_rows - _count(table, Action.KEEP)),
        "foreign": foreign,
        "problems": [[key, reason, *_detail(context, reason, key, all_images, bad)] for key, reason in choice.problems],
        "left_out": [[found.prefix, found.name, found.digest.hex()] for found in bad.values()],
        "rows": {
            "kept": taken.num_rows,
            "duplicates": found.duplicates,
            "without_image": rows.num_rows - with_image.num_rows,
            "bad_image": with_image.num_rows - taken.num_rows,
            "lost": found.left_out,
        },
        "loss": found.lost,
        "counts": _counts(context, taken, chosen, choice, table),
    }
    pa.default_memory_pool().release_unused()  # otherwise the pool keeps the largest bucket it ever saw
    return pd.DataFrame({"summary": [json.dumps(summary)]})


@dataclass
class _Found:
    """What a bucket has for the subset: its rows, all of its images, those chosen; and rows that were left out."""

    rows: pa.Table
    images: pa.Table
    choice: Choice
    lost: dict[str, int]
    left_out: int
    duplicates: int


def _choose(context: PlanContext, frames: Sequence[Any]) -> _Found:
    mapped = _together(frames[0::2])
    images = _together(frames[1::2])
    rows, lost = _rows_held(mapped, of_task=exporters.load(context.exporter).OF_TASK)
    all_rows = rows.num_rows
    rows = selection.drop_duplicates(rows) if context.duplicates == "drop" else rows
    choice = choose(rows, images, backgrounds=context.backgrounds, need_image=context.images != "none")
    return _Found(rows, images, choice, lost, mapped.num_rows - all_rows, all_rows - rows.num_rows)


def strata(context: PlanContext, engine: Engine) -> list[str]:
    """The groups of each bucket that `context.dealing` would deal out, see `summary_of`."""
    import dask.dataframe as dd
    import pandas as pd

    frames = [frame for source in context.sources for frame in _frames(context, source)]
    meta = pd.DataFrame({"groups": pd.Series([], dtype=object)})
    found = dd.map_partitions(
        functools.partial(_strata_of_bucket, context),
        *frames,
        meta=meta,
        align_dataframes=False,
        enforce_metadata=False,
    )
    return [part["groups"].iloc[0] for part in engine.compute(found, lambda _: None)]


def _strata_of_bucket(context: PlanContext, *frames: Any) -> Any:
    import pandas as pd

    assert context.dealing is not None
    found = _choose(context, frames)
    return pd.DataFrame({"groups": [summary_of(context.dealing, found.rows, found.choice.images)]})


def _together(frames: Sequence[Any]) -> pa.Table:
    """The same bucket of several sources as one table; keys stay sorted, for sources are in the order of theirs."""
    import pyarrow as pa

    tables = [to_arrow(frame) for frame in frames]
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default").combine_chunks()


def _rows_held(rows: pa.Table, *, of_task: bool) -> tuple[pa.Table, dict[str, int]]:
    """The rows that a target can hold, and how many it does not hold, or not whole, by reason.

    `of_task`: it has rows of the task alone; else it takes whatever is an object.
    """
    import pyarrow.compute as pc

    if "loss" not in rows.column_names or rows["loss"].null_count == rows.num_rows:
        return rows, {}
    held = pc.is_valid(rows["tail"])
    losses = rows["loss"]
    if not of_task:
        held = pc.or_(held, pc.is_valid(rows["raw"]))
        losses = losses.filter(pc.invert(held))
    counts = {e["values"]: e["counts"] for e in losses.drop_null().value_counts().to_pylist()}
    return rows.filter(held).combine_chunks(), dict(sorted(counts.items()))


def _in_folders(images: pa.Table) -> pa.Table:
    """`images` with a folder for each source before the stem."""
    import pyarrow as pa
    import pyarrow.compute as pc

    source = pa.array([key.split("/", 1)[0] for key in images["key"].to_pylist()], pa.string())
    stem = pc.binary_join_element_wise(source, images["stem"].combine_chunks(), "/")
    return images.set_column(images.schema.get_field_index("stem"), "stem", stem)


def _without_bad(
    context: PlanContext, bucket: int, images: pa.Table, choice: Choice
) -> tuple[pa.Table, dict[str, Bad]]:
    """`images` without those that cannot be used, and these by key; they are noted in `choice`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if context.images == "none" or context.check_images == "none":
        return images, {}
    bad: dict[str, Bad] = {}
    for source in context.sources:
        own = images.filter(pc.starts_with(images["key"], source.prefix))
        origins = {prefix: place for prefix, place in context.origins.items() if prefix.startswith(source.prefix)}
        bad |= check_images(source.index_dir, bucket, context.check_images, origins, own, context.workdir)
    for key, found in bad.items():
        choice.problems.append((key, found.reason))
        choice.dropped[found.reason] = choice.dropped.get(found.reason, 0) + 1
    if bad:
        images = images.filter(pc.invert(pc.is_in(images["key"], pa.array(list(bad))))).combine_chunks()
    return images, bad


def _of_images(rows: pa.Table, images: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    return rows.filter(pc.is_in(rows["key"].combine_chunks(), images["key"].combine_chunks())).combine_chunks()


def _with_sources(context: PlanContext, images: pa.Table) -> tuple[pa.Table, list[str]]:
    """`images` with their source path, size and fingerprint now; and the keys of those that are gone."""
    import pyarrow as pa

    keys = images["key"].to_pylist()
    names = images["image_path"].to_pylist()
    sources: list[str | None] = [None] * len(names)
    stats: list[storage.Fingerprint | None] = [None] * len(names)
    for prefix, folder in context.origins.items():
        here = [i for i, key in enumerate(keys) if key.startswith(prefix)]
        assert folder is not None
        origin = storage.locate(folder, context.workdir)
        for i, found in zip(here, origin.fingerprints([names[i] for i in here]), strict=True):
            sources[i], stats[i] = origin.join(names[i]), found
    images = images.append_column("source", pa.array(sources, pa.string()))
    images = images.append_column("size", pa.array([s and s.size for s in stats], pa.int64()))
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


def _foreign(target: storage.Location, table: pa.Table, held: pa.Table) -> list[str]:
    """Paths to be made that are there already and are not ours."""
    import pyarrow as pa
    import pyarrow.compute as pc

    new = pc.is_in(table["action"], pa.array([Action.WRITE.value, Action.COPY.value]))
    new = pc.and_(new, pc.invert(pc.is_in(table["path"], held["path"].combine_chunks())))
    paths = table["path"].filter(new).to_pylist()
    return [path for path, there in zip(paths, target.exist_many(paths), strict=True) if there]


def _detail(context: PlanContext, reason: str, key: str, images: pa.Table, bad: dict[str, Bad]) -> tuple[str, str]:
    """The file that a problem is about, and what it is."""
    import pyarrow.compute as pc

    row = images.filter(pc.equal(images["key"], key)).slice(0, 1).to_pylist()[0]
    place = next(folder for prefix, folder in context.origins.items() if key.startswith(prefix))
    folder = storage.locate(place or "")
    if reason == "no_image":
        return folder.join(f"{row['stem']}.*"), f"the label {row['label_path']} has no image"
    path = folder.join(row["image_path"])
    if reason == "many_images":
        others = ", ".join(row["other_images"].split("\n"))
        return path, f"has a second image of the same stem ({others}), one label for both"
    return path, "is gone since the folder was listed" if reason == "vanished" else bad[key].detail


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
