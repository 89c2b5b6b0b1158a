"""The Dask frame from index to plan: select, choose images, export, compare; a bucket at a time. Part of `run`."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline import exporters, formats, index, select, storage
from pipeline._images import Bad, check_images
from pipeline.frames import to_arrow
from pipeline.manifest import TargetState, staged_path, to_parquet
from pipeline.plan import compare, doubt, image_mark, summarise
from pipeline.schema import Action, part_name

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.classes import ClassMap
    from pipeline.engine import Engine


@dataclass(frozen=True)
class PlanContext:
    """Everything that the plan of one bucket depends on, but its rows; sent to workers.

    `check_there`: files came or went at the target since the manifest was written, so kept ones are looked for.
    `check_foreign`: the target has files, so new ones are looked for in case they are somebody else's.
    `staged`: folders that are not at the target yet. `prefixes`: what keys begin with, by split.
    `suspects`: paths whose content is not believed to be what the manifest says.
    """

    index_dir: str
    buckets: int
    plan_dir: str
    root: str
    classes: ClassMap
    duplicates: str
    backgrounds: str
    images: str
    source_folders: dict[str, str | None]
    format: str
    exporter: str
    check_there: bool
    check_foreign: bool
    staged: tuple[str, ...]
    prefixes: dict[str, str]
    suspects: frozenset[str]
    check_images: str


def run(context: PlanContext, engine: Engine, done: Callable[[int], None]) -> list[dict[str, Any]]:
    """Plan all buckets; returns their summaries in order. Plans are left in `context.plan_dir`.

    `done` is called with the number of buckets that were planned since it was called last.
    """
    import dask.dataframe as dd
    import pandas as pd

    found = index.open_index(context.index_dir)
    wanted = context.classes.wanted_ids
    everything = len(wanted) == len(context.classes.lut)
    rows = found.frame("annotations", select.columns(context.duplicates), None if everything else wanted)
    kept = select.select(rows, context.classes)
    numbers = dd.from_map(_number, range(context.buckets), meta=_number(0).iloc[:0])
    step = functools.partial(plan_bucket, context)
    meta = pd.DataFrame({"summary": pd.Series([], dtype=object)})
    summaries = dd.map_partitions(
        step, kept, found.images, numbers, meta=meta, align_dataframes=False, enforce_metadata=False
    )
    keep = {part_name(b) for b in range(context.buckets)}
    for folder in (context.plan_dir, touched_folder(context.plan_dir)):
        place = storage.locate(folder)
        place.delete_many(sorted(place.names() - keep))
    return [json.loads(part["summary"].iloc[0]) for part in engine.compute(summaries, done)]


def touched_folder(plan_dir: str) -> str:
    """Folder beside that of a plan: by bucket the paths that the plan will touch, as the intent has them."""
    return f"{plan_dir}.touched"


def _number(bucket: int) -> Any:
    import pandas as pd

    return pd.DataFrame({"bucket": [bucket]})


def plan_bucket(context: PlanContext, kept: Any, images: Any, numbers: Any) -> Any:
    """Plan one bucket: writes its part of the plan and returns a frame with its summary as JSON."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    bucket = int(numbers["bucket"].iloc[0])
    mapped = to_arrow(kept)
    rows = select.drop_duplicates(mapped) if context.duplicates == "drop" else mapped
    all_images = to_arrow(images)
    need_image = context.images != "none"
    choice = select.choose(rows, all_images, backgrounds=context.backgrounds, need_image=need_image)
    chosen = choice.images
    bad: dict[str, Bad] = {}
    if need_image:
        chosen, vanished = _with_sources(context, chosen)
        choice.problems += [(key, "vanished") for key in vanished]
        choice.dropped["vanished"] = len(vanished)
    with_image = _of_images(rows, chosen)
    if need_image and context.check_images != "none":
        bad = check_images(context.index_dir, bucket, context.check_images, context.source_folders, chosen)
        for key, found in bad.items():
            choice.problems.append((key, found.reason))
            choice.dropped[found.reason] = choice.dropped.get(found.reason, 0) + 1
        if bad:
            chosen = chosen.filter(pc.invert(pc.is_in(chosen["key"], pa.array(list(bad))))).combine_chunks()
    taken = _of_images(with_image, chosen) if bad else with_image
    render = formats.load(context.format).render
    wanted = exporters.load(context.exporter).fragment(taken, chosen, render)
    target = storage.locate(context.root)
    held = TargetState(target, context.prefixes).rows(bucket, context.buckets)
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
        "left_out": [[found.split, found.name, found.digest.hex()] for found in bad.values()],
        "rows": {"kept": taken.num_rows, "duplicates": mapped.num_rows - rows.num_rows,
                 "without_image": rows.num_rows - with_image.num_rows,
                 "bad_image": with_image.num_rows - taken.num_rows},
        "counts": _counts(context, taken, chosen, choice, table),
    }
    pa.default_memory_pool().release_unused()  # otherwise the pool keeps the largest bucket it ever saw
    return pd.DataFrame({"summary": [json.dumps(summary)]})


def _of_images(rows: pa.Table, images: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    return rows.filter(pc.is_in(rows["key"].combine_chunks(), images["key"].combine_chunks())).combine_chunks()


def _with_sources(context: PlanContext, images: pa.Table) -> tuple[pa.Table, list[str]]:
    """`images` with their source path, size and fingerprint now; and the keys of those that are gone."""
    import pyarrow as pa

    splits = images["split"].to_pylist()
    names = images["image_path"].to_pylist()
    sources: list[str | None] = [None] * len(names)
    stats: list[storage.Fingerprint | None] = [None] * len(names)
    for split, folder in context.source_folders.items():
        here = [i for i, s in enumerate(splits) if s == split]
        assert folder is not None
        origin = storage.locate(folder)
        for i, found in zip(here, origin.fingerprints([names[i] for i in here]), strict=True):
            sources[i], stats[i] = origin.join(names[i]), found
    images = images.append_column("source", pa.array(sources, pa.string()))
    images = images.append_column("size", pa.array([s and s.size for s in stats], pa.int64()))
    images = images.append_column("mark", pa.array(
        [s and image_mark(context.images, s, source or "") for s, source in zip(stats, sources, strict=True)],
        pa.binary()))
    images = images.append_column("state", pa.array([s.mark if s and s.settled else None for s in stats], pa.binary()))
    there = pa.array([s is not None for s in stats], pa.bool_())
    gone = [key for key, s in zip(images["key"].to_pylist(), stats, strict=True) if s is None]
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
    folder = storage.locate(context.source_folders[row["split"]] or "")
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


def _counts(
    context: PlanContext, taken: pa.Table, images: pa.Table, choice: select.Choice, table: pa.Table
) -> dict[str, Any]:
    import numpy as np
    import pyarrow.compute as pc

    image_of_row = pc.index_in(taken["key"].combine_chunks(), images["key"].combine_chunks())
    image_of_row = image_of_row.to_numpy(zero_copy_only=False).astype(np.int64)
    ids = taken["class_id"].to_numpy().astype(np.int64)
    splits = np.array(images["split"].to_pylist(), object)
    pairs = np.unique(image_of_row << 32 | ids)
    subset: dict[str, Any] = {}
    for split in context.source_folders:
        here = splits == split
        of_row, of_pair = here[image_of_row], here[pairs >> 32]
        subset[split] = {
            "images": int(here.sum()),
            "labels": int(here.sum()),
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

    counts = np.bincount(ids, minlength=len(context.classes.names))
    return {name: int(counts[i]) for i, name in enumerate(context.classes.names)}


def image_sources(
    folder: str, buckets: int, roots: dict[str, str | None], left_out: list[list[str]]
) -> tuple[dict[str, list[str]], bytes]:
    """Names of the source images of a plan by folder, and their digests (16 bytes each) in the same order, joined.

    `left_out` are split, name and digest (hex) of those that were looked at and are bad: one may be mended.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    columns = ["split", "source", "action", "digest"]
    parts = [pq.read_table(os.path.join(folder, part_name(b)), columns=columns) for b in range(buckets)]
    table = pa.concat_tables(parts)
    table = table.filter(pc.and_(table["source"].is_valid(), pc.not_equal(table["action"], Action.DELETE.value)))
    names: dict[str, list[str]] = {}
    digests: list[bytes] = []
    for split, root in roots.items():
        assert root is not None
        part = table.filter(pc.equal(table["split"], split))
        names.setdefault(root, []).extend(map(storage.locate(root).name_of, part["source"].to_pylist()))
        digests += part["digest"].to_pylist()
        for _, name, digest in (entry for entry in left_out if entry[0] == split):
            names[root].append(name)
            digests.append(bytes.fromhex(digest))
    return names, b"".join(digests)
