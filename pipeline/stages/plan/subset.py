"""From an index to a plan, its report, and what stands in its way."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline import exporters, storage
from pipeline.base.errors import ConfigError
from pipeline.base.humanize import plural
from pipeline.exporters import Dataset
from pipeline.job.job import Job
from pipeline.reports.dataset_card import dataset_record
from pipeline.reports.text import left_out_words
from pipeline.reports.words import LOSSES
from pipeline.runtime.engine import Engine
from pipeline.runtime.progress import Progress
from pipeline.stages.index.problems import source_report
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.plan.archive import pack, packed_folder
from pipeline.stages.plan.backgrounds import keep, look_through
from pipeline.stages.plan.balance import record_facts
from pipeline.stages.plan.compare import compare, meta_held, meta_wanted, summarise
from pipeline.stages.plan.context import plan_context
from pipeline.stages.plan.dataset_files import MetaFile, assemble
from pipeline.stages.plan.planned import Planned, far_images
from pipeline.stages.select.split_table import SplitDecision, by_hash, by_table, stems_twice
from pipeline.tables.counts import add_counts
from pipeline.tables.schema import UNKNOWN
from pipeline.target.manifest import TargetState

if TYPE_CHECKING:
    from pipeline.stages.plan.context import PlanContext


#: The record beside the training YAML.
RECORD = "DATASET.md"

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
    """The Dask frame over the indexes, ending in one plan a bucket; files in `suspects` are not believed.

    `fetched`: images that lie far away were fetched, as far as they can be had.
    """
    import pyarrow.parquet as pq

    from pipeline.stages.plan.bucket import run

    source_report(job, infos)  # raises for bad rows and unknown class ids before anything is decided
    without = [split for source in job.sources for split in source.spec.splits if split.images is None]
    if job.need_image and without:
        split = without[0]
        raise ConfigError(
            f"source: split {split.split} has no images folder beside {split.labels}; add one, or set "
            "target.images to none to make labels only"
        )
    images = look_through(job, infos)
    context = plan_context(job, infos, state, suspects, fetched)
    context = replace(context, never=keep(images, f"{job.plan_dir}.never", context.buckets))
    context, dealt = _dealt(job, infos, context, engine)
    with progress.stage("plan", context.buckets, "buckets") as step:
        summaries = run(context, engine, step.add)
    totals: dict[str, Any] = {}
    problems: list[list[Any]] = []
    left_out: list[list[str]] = []
    turned: list[str] = []
    foreign: list[str] = []
    for summary in summaries:
        add_counts(
            totals,
            summary["counts"] | {"rows": summary["rows"], "loss": summary["loss"], "lost_of": summary["lost_of"]},
        )
        problems += summary["problems"]
        turned += summary["turned"]
        left_out += summary["left_out"]
        foreign += summary["foreign"]
    splits = tuple(s for s in ("train", "val", "test") if totals["subset"].get(s, {}).get("images"))
    names = tuple(s.names for s in job.sources if s.names is not None)
    documents = tuple(info.document.get("splits", {}) for info in infos)
    dataset = Dataset(job.maps, names, job.task, splits, job.root, job.config.target.yaml, documents)
    contents = assemble(job.config.target.format, dataset, context.plan_dir, context.buckets)
    contents[RECORD] = MetaFile.of(dataset_record(record_facts(job, infos, totals)).encode())
    held = _meta_held(job, state, suspects)
    if job.config.target.zipped:
        count = sum(s["labels"] + s["images"] * job.need_image for s in totals["subset"].values())
        with progress.stage("pack", count) as step:
            contents = _packed(job, context, contents, held, step.add)
    table = compare(meta_wanted(contents), meta_held(held))
    storage.replace_with(os.path.join(job.plan_dir, META_PART), lambda path: pq.write_table(table, path))
    add_counts(totals, {"plan": summarise(table)})
    meta = list(zip(table["action"].to_pylist(), table["path"].to_pylist(), strict=True))
    state.lost = state.lost or any(summary["lost"] for summary in summaries)
    foreign += _meta_foreign(job, state, contents, [p for a, p in meta if a == "write" and p not in state.meta])
    foreign += _files_for_folders(job) + _links_of_others(job, state)
    totals["turned"] = sorted(turned)
    return Planned(
        job.plan_dir,
        context.buckets,
        summaries,
        totals,
        meta,
        contents,
        sorted(problems),
        sorted(foreign),
        context.staged,
        sorted(left_out),
        dealt,
        packed_folder(job.plan_dir) if job.config.target.zipped else job.plan_dir,
        images.doubled,
    )


def _packed(
    job: Job,
    context: PlanContext,
    contents: dict[str, MetaFile],
    held: Mapping[str, Mapping[str, Any]],
    add: Callable[[int], None],
) -> dict[str, MetaFile]:
    """The zip of the subset; as long as remote images of it are not fetched, a file of which nothing is known."""
    name, folder = os.path.basename(job.root), packed_folder(context.plan_dir)
    far = far_images(job, folder, context.buckets) if not context.fetched else {}
    if not all(all(storage.locate(place, job.workdir).at_hand(names)) for place, names in far.items()):
        return {f"{name}.zip": MetaFile(0, UNKNOWN.hex(), None)}
    return pack(context.plan_dir, context.buckets, name, contents, job.origins, job.workdir, held, add)


def _meta_held(job: Job, state: TargetState, suspects: frozenset[str]) -> dict[str, dict[str, Any]]:
    """Those of the target's files that belong to no image, as far as their content is believed.

    Where classes get other numbers, labels of two meanings stand side by side for a while: nobody is to train on them
    by an old YAML, so that goes and comes back, even if its bytes are the same.
    """
    held = {path: _looked_at(job, state, path, file) for path, file in still_there(job, state).items()}
    doubted = {*suspects}
    before = state.manifest.numbers if state.manifest is not None else None
    has_rows = "labels" in exporters.load(job.config.target.format).FOLDERS and not job.config.target.zipped
    if has_rows and before not in (None, job.numbers()):
        doubted.update(held.keys() - {RECORD})
    return {path: file | {"digest": UNKNOWN.hex()} if path in doubted else file for path, file in held.items()}


def _files_for_folders(job: Job) -> list[str]:
    """Files at the target where a folder of the layout must be."""
    if job.target.local is None or job.config.target.zipped:  # stores have no folders
        return []
    layout = exporters.load(job.config.target.format).FOLDERS
    wanted = {"": layout} | dict.fromkeys(layout, job.splits)
    found = [
        f"{folder}/{name}".lstrip("/")
        for folder, names in wanted.items()
        for name in job.target.flat_names(folder)
        if name in names
    ]
    return [path for path in found if not job.target.below(path).exists()]  # a link may lead to a folder


def _links_of_others(job: Job, state: TargetState) -> list[str]:
    """Folders of the layout that are links, beside a manifest that this machine did not write.

    What such a manifest lists would be deleted and overwritten wherever the links lead.
    """
    links = job.target.links_among([f"{folder}/" for folder in job.layout], beyond=0)
    return links if links and not state.is_ours() else []


def _dealt(
    job: Job, infos: Sequence[IndexInfo], context: PlanContext, engine: Engine
) -> tuple[PlanContext, SplitDecision | None]:
    """The context that knows how images are dealt out, as the config says."""
    from pipeline.stages.plan.bucket import strata

    options = job.config.split
    if options is None:
        return context, None
    dealt = by_hash(options)
    if job.split_table is not None:
        groups = strata(replace(context, dealing=dealt.dealing), engine)
        dealt = by_table(job, options, groups, context.state.folder)
    return replace(context, dealing=replace(dealt.dealing, twice=stems_twice(job, infos))), dealt


def _meta_foreign(job: Job, state: TargetState, wanted: Mapping[str, MetaFile], paths: Sequence[str]) -> list[str]:
    """Those of `paths`, of files that belong to no image, that somebody else's file has.

    Where nobody knows any more what is ours, one with the very content that is wanted is.
    """
    there = [path for path, found in zip(paths, job.target.exist_many(paths), strict=True) if found]
    if not state.lost or not there:
        return there
    return [
        path
        for path, digest in zip(there, job.target.content_digests(there), strict=True)
        if digest is None or digest.hex() != wanted[path].digest
    ]


def still_there(job: Job, state: TargetState) -> dict[str, dict[str, Any]]:
    """Those of the target's files that belong to no image, as the manifest has them, that are there.

    The ``mark`` of each is that of now.
    """
    paths = sorted(state.meta)
    held = dict(zip(paths, job.target.fingerprints(paths), strict=True))
    return {
        path: file | ({"mark": found.mark.hex()} if "mark" in file else {})
        for path, file in state.meta.items()
        if (found := held[path]) is not None
    }


def _looked_at(job: Job, state: TargetState, path: str, file: dict[str, Any]) -> dict[str, Any]:
    """What is at the target of a file that changed since the manifest: its content decides."""
    changed = path.endswith(".zip") or file.get("mark") != state.meta[path].get("mark")
    if not changed or file["digest"] == UNKNOWN.hex():
        return file
    digest = job.target.content_digests([path])[0]
    return file | {"digest": (digest or UNKNOWN).hex()}


def _renumbered(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """What is to be said of classes that the target has by another number."""
    moved = [
        f"{name!r} was {old}, is {now.index(name)}"
        for old, name in enumerate(before)
        if name in now and now.index(name) != old
    ]
    if not moved:
        return []
    more = f" (and {len(moved) - 5:,} more)" if len(moved) > 5 else ""
    return [
        f"class numbers change at the target: {', '.join(moved[:5])}{more}; models trained on the old ones do not "
        "fit, so keep the order of `classes` or of the names, or build into a new folder"
    ]


def _objects_of(job: Job, infos: Sequence[IndexInfo], split: str | None = None) -> dict[str, int]:
    """Objects of the subset's classes in the sources, by class, in `split` or all splits; read ones alone."""
    counts: dict[str, int] = dict.fromkeys(job.classes, 0)
    for source, info, classes in zip(job.sources, infos, job.maps, strict=True):
        number = {
            name if source.named else str(i): new
            for i, (name, new) in enumerate(zip(classes.source, classes.lut, strict=True))
        }
        for name, totals in info.totals.items():
            for key, count in totals["objects"].items() if split in (None, name) else ():
                if number.get(key, -1) >= 0:
                    counts[job.classes[number[key]]] += count
    return counts


def _lost_classes(job: Job, infos: Sequence[IndexInfo], planned: Planned) -> list[str]:
    """Sentences for the classes of which nothing is left, though the sources have objects of them."""
    told = []
    for name, count in _objects_of(job, infos).items():
        if any(counts["objects"].get(name) for counts in planned.totals["subset"].values()):
            continue
        if reasons := _lost_objects(planned, classes=(name,)):
            cure = _cure_of(reasons)
            told.append(f"class {name!r} has no object in the subset: all are left out ({_reasons(reasons)}){cure}")
        elif count:
            told.append(f"all {count:,} objects of class {name!r} are left out")
    return told


def _lost_objects(
    planned: Planned, *, split: str | None = None, classes: Sequence[str] | None = None
) -> dict[str, int]:
    """Wanted objects that the target cannot hold, by reason: of one split and of some classes, or of all."""
    counts: dict[str, int] = {}
    for side, of_split in planned.totals["lost_of"].items():
        for name, reasons in of_split.items() if split in (None, side) else ():
            if classes is None or name in classes:
                add_counts(counts, reasons)
    return counts


def _cure_of(reasons: dict[str, int]) -> str:
    return "; --set source.options.crowd=keep takes crowds as objects" if "crowd" in reasons else ""


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {LOSSES.get(reason, reason)}" for reason, count in sorted(counts.items()))


def _why_empty(job: Job, infos: Sequence[IndexInfo], planned: Planned, split: str | None = None) -> str:
    """Why the subset has no image of a split of the source, or of any: no files, no object of its classes, or what."""
    files, labels, rows, objects = 0, 0, 0, 0
    for source, classes, info in zip(job.sources, job.maps, infos, strict=True):
        wanted = classes.wanted_names if source.named else [str(i) for i in classes.wanted_ids]
        for name, counts in info.totals.items():
            if split in (None, name):
                files += counts["images"] + counts["no_image"]
                labels += sum(n for state, n in counts["labels"].items() if state != "missing")
                rows += sum(counts["objects"].values())
                objects += sum(counts["objects"].get(i, 0) for i in wanted)
    lost = _lost_objects(planned, split=split)
    if lost and not objects:
        return f"has objects of these classes, and none can be used: {_reasons(lost)}{_cure_of(lost)}"
    bad = any(
        info.totals.get(name, {}).get("bad_rows") for info in infos for name in info.totals if split in (None, name)
    )
    if bad and labels and not objects:
        return "has objects of these classes, if any, in bad rows or files alone, which are left out"
    for count, lacks in (
        (files, "label file and no image"),
        (labels, "label file"),
        (rows, "object of any class"),
        (objects, "object of these classes"),
    ):
        if not count:
            return f"has no {lacks}"
    counts = planned.totals["images"] | {"lost": planned.totals["rows"]["lost"]}
    reasons = {key: n for key, n in counts.items() if key not in ("kept", "background", "other_classes")}
    told = _reasons(lost) + _cure_of(lost) if lost else left_out_words(reasons)
    return f"has {plural(objects, 'object')} of these classes, and none can be used" + (f": {told}" if told else "")


def empty(job: Job, infos: Sequence[IndexInfo], planned: Planned) -> str | None:
    """The sentence for a subset without an image, with the cause; None for any other."""
    if any(counts["images"] for counts in planned.totals["subset"].values()):
        return None
    return f"{job.root}: the subset would be empty: the source {_why_empty(job, infos, planned)}"


def _moved(planned: Planned) -> list[str]:
    """A warning for images that change sides: a model that was trained on them is not to be tested on them."""
    moved = sum(summary["loss_at_target"]["moved"] for summary in planned.summaries)
    sides = [side for summary in planned.summaries for side in summary["loss_at_target"]["sides"]]
    if not moved and planned.dealt is not None:  # of a zip or a JSON alone the split table knows
        moved, sides = len(planned.dealt.moved), planned.dealt.moved
    names = ", ".join(f"{name} ({before} to {after})" for name, before, after in sorted(map(tuple, sides))[:3])
    return [f"{plural(moved, 'image')} in another split than before: {names}"] if moved else []
