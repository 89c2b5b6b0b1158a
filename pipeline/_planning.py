"""Part of `run`: from an index to a plan, its report, and what stands in its way."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline import exporters, storage
from pipeline._gathering import MetaFile, assemble
from pipeline._losses import image_balance, problem_table, record_facts, row_balance, told
from pipeline._packing import pack, packed_folder
from pipeline._source import source_report
from pipeline._splitting import Dealt, by_hash, by_table, split_report, stems_twice
from pipeline.engine import Engine
from pipeline.errors import ConfigError, DataError, TargetError, plural
from pipeline.exporters import Dataset
from pipeline.index import IndexInfo, add_counts
from pipeline.job import Job, keep_out_of_subsets
from pipeline.manifest import TargetState, to_parquet
from pipeline.plan import compare, meta_held, meta_wanted, summarise
from pipeline.progress import Progress
from pipeline.report import LOSSES, Report, dataset_record
from pipeline.schema import UNKNOWN, Task

if TYPE_CHECKING:
    from pipeline._planner import PlanContext


#: The record beside the training YAML.
RECORD = "DATASET.md"
#: The part of a plan that belongs to no bucket: files of the whole subset.
META_PART = "meta.parquet"


@dataclass
class Planned:
    """A plan by bucket in `folder`, its counts, and what stands in its way; parts in `sources` tell all images."""

    folder: str
    buckets: int
    summaries: list[dict[str, Any]]
    totals: dict[str, Any]
    meta: list[tuple[str, str]]
    contents: dict[str, MetaFile]
    problems: list[list[Any]]
    foreign: list[str]
    staged: tuple[str, ...]
    left_out: list[list[str]]
    dealt: Dealt | None
    sources: str

    @property
    def touched(self) -> list[int]:
        """Buckets with anything to write, copy or delete."""
        return [s["bucket"] for s in self.summaries if s["changes"]]

    @property
    def changes(self) -> int:
        """Files to write, copy or delete."""
        return int(sum(s["changes"] for s in self.summaries)) + sum(action != "keep" for action, _ in self.meta)


def plan_subset(
    job: Job, infos: Sequence[IndexInfo], state: TargetState, engine: Engine, progress: Progress,
    suspects: frozenset[str] = frozenset(), *, fetched: bool = False,
) -> Planned:
    """The Dask frame over the indexes, ending in one plan a bucket; files in `suspects` are not believed.

    `fetched`: images that lie far away were fetched, as far as they can be had.
    """
    import pyarrow.parquet as pq

    from pipeline import _planner

    source_report(job, infos)  # raises for bad rows and unknown class ids before anything is decided
    without = [split for source in job.sources for split in source.spec.splits if split.images is None]
    if job.need_image and without:
        split = without[0]
        raise ConfigError(f"source: split {split.split} has no images folder beside {split.labels}; add one, or set "
                          "target.images to none to make labels only")
    context, dealt = _dealt(job, infos, _plan_context(job, infos, state, suspects, fetched), engine)
    with progress.stage("plan", context.buckets, "buckets") as step:
        summaries = _planner.run(context, engine, step.add)
    totals: dict[str, Any] = {}
    problems: list[list[Any]] = []
    left_out: list[list[str]] = []
    turned: list[str] = []
    foreign: list[str] = []
    for summary in summaries:
        add_counts(totals, summary["counts"] | {"rows": summary["rows"], "loss": summary["loss"],
                                                "lost_of": summary["lost_of"]})
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
            contents = pack(context.plan_dir, context.buckets, os.path.basename(job.root), contents, job.origins, held,
                            step.add)
    table = compare(meta_wanted(contents), meta_held(held))
    storage.replace_with(os.path.join(job.plan_dir, META_PART), lambda path: pq.write_table(table, path))
    add_counts(totals, {"plan": summarise(table)})
    meta = list(zip(table["action"].to_pylist(), table["path"].to_pylist(), strict=True))
    foreign += [p for a, p in meta if a == "write" and p not in state.meta and job.target.exist_many([p])[0]]
    foreign += _files_for_folders(job)
    totals["turned"] = sorted(turned)
    return Planned(job.plan_dir, context.buckets, summaries, totals, meta, contents, sorted(problems), sorted(foreign),
                   context.staged, sorted(left_out), dealt,
                   packed_folder(job.plan_dir) if job.config.target.zipped else job.plan_dir)


def _meta_held(job: Job, state: TargetState, suspects: frozenset[str]) -> dict[str, dict[str, Any]]:
    """Those of the target's files that belong to no image, as far as their content is believed.

    Where classes get other numbers, labels of two meanings stand side by side for a while: nobody is to train on them
    by an old YAML, so that goes and comes back, even if its bytes are the same.
    """
    held = still_there(job, state)
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
    found = [f"{folder}/{name}".lstrip("/") for folder, names in wanted.items()
             for name in job.target.flat_names(folder) if name in names]
    return [path for path in found if not job.target.below(path).exists()]  # a link may lead to a folder


def _dealt(
    job: Job, infos: Sequence[IndexInfo], context: PlanContext, engine: Engine
) -> tuple[PlanContext, Dealt | None]:
    """The context that knows how images are dealt out, as the config says."""
    from pipeline import _planner

    options = job.config.split
    if options is None:
        return context, None
    dealt = by_hash(options)
    if job.split_table is not None:
        groups = _planner.strata(replace(context, dealing=dealt.dealing), engine)
        dealt = by_table(job, options, groups)
    return replace(context, dealing=replace(dealt.dealing, twice=stems_twice(job, infos))), dealt


def still_there(job: Job, state: TargetState) -> dict[str, dict[str, Any]]:
    """Those of the target's files that belong to no image, as the manifest has them, that are there."""
    paths = sorted(state.meta)
    there = job.target.exist_many(paths)
    return {path: state.meta[path] for path, found in zip(paths, there, strict=True) if found}


def _plan_context(
    job: Job, infos: Sequence[IndexInfo], state: TargetState, suspects: frozenset[str], fetched: bool
) -> PlanContext:
    from pipeline._planner import PlanContext, PlannedSource

    if job.target.local is None and state.manifest is None:
        keep_out_of_subsets(job)  # asked once: it costs requests
    folders = folder_times(job)
    held = state.manifest.folders if state.manifest and state.intent is None else {}
    return PlanContext(
        sources=tuple(PlannedSource(f"{s.spec.name}/", s.index_dir, m, s.named)
                      for s, m in zip(job.sources, job.maps, strict=True)),
        several=job.several,
        buckets=_common_buckets([info.buckets for info in infos]),
        plan_dir=job.plan_dir,
        workdir=job.workdir,
        root=job.root,
        classes=job.classes,
        splits=job.splits,
        duplicates=job.config.select.duplicates,
        backgrounds=job.config.select.backgrounds,
        images=job.config.target.images,
        origins=job.origins,
        exporter=job.config.target.format,
        check_there=folders != held or not job.target.keeps_times,
        staged=_staged(job),
        state=state,
        keypoints=next((s.names.kpt_shape for s in job.sources if s.names and job.task is Task.POSE), None),
        suspects=suspects,
        fetched=fetched,
        check_images=job.config.select.check_images,
        archive=job.config.target.zipped,
        check_foreign=bool(folders) or not job.target.keeps_times,
    )


def _common_buckets(counts: Sequence[int]) -> int:
    """Buckets of a plan: those of the index that has most; the others are cut finer, for all are powers of two."""
    most = max(counts)
    assert all(most % count == 0 for count in counts), counts
    return most


def _staged(job: Job) -> tuple[str, ...]:
    """Folders of the layout, each with a final /, that are not at the target yet: they are filled beside it."""
    if job.config.target.zipped:
        return ()
    exporter = exporters.load(job.config.target.format)
    folders = [f"{kind}/{split}" for kind in exporter.FOLDERS for split in job.splits]
    folders = [folder for folder in folders if job.target.can_stage(folder)]
    there = job.target.exist_many(folders)
    return tuple(f"{folder}/" for folder, found in zip(folders, there, strict=True) if not found)


def folder_times(job: Job) -> dict[str, int]:
    """Change times (ns) of the target's folders: they tell whether files came or went since the last run."""
    exporter = exporters.load(job.config.target.format)
    return job.target.folder_times(exporter.FOLDERS)


def plan_report(job: Job, infos: Sequence[IndexInfo], planned: Planned) -> Report:
    """What the plan does and what the subset will be; not ok where images are lacking or doubled."""
    report = source_report(job, infos)
    plan = {action: {"label": none(), "image": none(), "meta": none()} for action in
            ("write", "copy", "keep", "delete")}
    for action, kinds in planned.totals["plan"].items():
        for kind, counts in kinds.items():
            plan[action][kind] = counts
    subset = planned.totals["subset"]
    report.data |= {
        "target": job.root,
        "format": job.config.target.format,
        "classes": list(job.classes),
        "plan": plan,
        "plan_files": planned.folder,
        "subset": {s: subset[s] for s in ("train", "val", "test") if s in subset},
        "rows": row_balance(job, infos, planned.totals["rows"]),
        "images": image_balance(infos, planned.totals["images"]),
        "loss": planned.totals["loss"],
        "problems": _problem_counts(planned.problems),
        "foreign": planned.foreign,
    }
    if job.config.split is not None and planned.dealt is not None:
        report.data["split"] = split_report(job.config.split, planned.dealt, report.data["subset"])
    report.data.pop("buckets", None)
    report.data["changes"] = planned.changes
    report.data["fetch"] = _requests(job, planned)
    lost = planned.totals["lost_of"]
    report.alarm(_lost_classes(job, report.data["subset"], lost))
    for split, cure in _lacking(job, report.data["subset"], lost):
        report.warnings.append(f"the subset has no {split} images, and trainers need them; {cure}")
    if turned := planned.totals["turned"]:
        report.alarm([f"{plural(len(turned), 'image')}, {turned[0]} the first, shown turned by EXIF data: label files "
                      "say their size without the turn; look at their boxes with a viewer"])
    if planned.problems:
        report.ok = False
        report.warnings.append(_problem_warning(job, planned, report.data["problems"]))
    if job.config.target.images in ("hardlink", "symlink"):
        report.warnings.append(f"images are {job.config.target.images}s: what a trainer does to them (older ones "
                               "re-save damaged JPEGs) happens to the source")
    report.data["warnings"] = report.warnings
    if not report.ok:
        report.problems = problem_table(job, infos, planned.problems)
        place = f"{planned.folder}.problems.parquet"
        storage.locate(job.workdir).write(os.path.relpath(place, job.workdir), to_parquet(report.problems))
        report.data["left_out"] = told(report.problems, place)
    return report


def far_images(job: Job, planned: Planned) -> dict[str, list[str]]:
    """Names of the images that are to be copied and lie far away, by their place; see `Location.gather`."""
    from pipeline._images import image_sources

    origins = {prefix: url for prefix, url in job.origins.items() if url and storage.locate(url).far}
    if not job.need_image or not origins:
        return {}
    names, _ = image_sources(planned.sources, planned.buckets, dict(origins), [], copies=True)
    return {place: some for place, some in names.items() if some}


def _requests(job: Job, planned: Planned) -> dict[str, int | None]:
    """What fetching far images takes: how many, requests, and bytes where they are known."""
    far = far_images(job, planned)
    asked = [storage.locate(place, job.workdir).ask(names) for place, names in far.items()]
    sizes = [a.bytes for a in asked]
    known = sum(s for s in sizes if s is not None)
    return {"images": sum(map(len, far.values())), "requests": sum(a.requests for a in asked),
            "bytes": None if None in sizes else known}


def none() -> dict[str, int]:
    return {"files": 0, "bytes": 0}


def _problem_counts(problems: list[list[Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for _, reason, *_ in problems:
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def _lost_classes(job: Job, subset: dict[str, Any], lost: dict[str, Any]) -> list[str]:
    """Sentences for the classes of which nothing is left, though the source has objects of them."""
    told = []
    for name in job.classes:
        reasons: dict[str, int] = {}
        for of_split in lost.values():
            add_counts(reasons, of_split.get(name, {}))
        if reasons and not any(counts["objects"][name] for counts in subset.values()):
            cure = "; --set source.options.crowd=keep takes crowds as objects" if "crowd" in reasons else ""
            told.append(f"class {name!r} has no object in the subset: all are left out ({_reasons(reasons)}){cure}")
    return told


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {LOSSES.get(reason, reason)}" for reason, count in sorted(counts.items()))


def _lacking(job: Job, subset: dict[str, Any], lost: dict[str, Any]) -> list[tuple[str, str]]:
    if job.config.split is not None:
        return [(split, "give it a larger share in `split`, or set another split.seed" if split in job.splits
                 else "give it a share, as in `split: {train: 0.8, val: 0.2}`")
                for split in ("train", "val") if not subset.get(split, {}).get("images")]
    return [(split, _no_object(split, lost.get(split, {})) if split in job.splits
             else f"the source has none: add its labels and name them in source.splits, as in `{split}: {split}2017`, "
                  "or set `split: {train: 0.8, val: 0.2}`")
            for split in ("train", "val") if not subset.get(split, {}).get("images")]


def _no_object(split: str, lost: dict[str, dict[str, int]]) -> str:
    reasons: dict[str, int] = {}
    for of_class in lost.values():
        add_counts(reasons, of_class)
    return (f"all objects of these classes in split {split} are left out ({_reasons(reasons)})" if reasons
            else f"split {split} of the source has no object of these classes")


def refuse(job: Job, planned: Planned) -> None:
    """Stop before the first write where a file is in the way or an image is lacking."""
    if planned.foreign:
        raise TargetError(f"{job.target.join(planned.foreign[0])}: is in the way and was not made by coco-diy"
                          f"{_and_more(len(planned.foreign))}; move it, or choose another target.root")
    if planned.problems and job.config.on_error == "fail":
        _, reason, path, detail = planned.problems[0]
        cure = _CURES.get(reason, "get it again")
        raise DataError(f"{path}: {detail}{_and_more(len(planned.problems))}; {cure}, or --set on_error=skip")


def _problem_warning(job: Job, planned: Planned, counts: dict[str, int]) -> str:
    told = ", ".join(f"{count:,} {_REASONS.get(reason, _BAD_IMAGE)}" for reason, count in counts.items())
    end = "; a build would stop there (on_error: fail)" if job.config.on_error == "fail" else ""
    return f"{plural(len(planned.problems), 'image')} with a problem: {told}{end}"


_CURES = {"no_image": "get the image", "many_images": "remove all but one", "vanished": "run again",
          "other_size": "get the image that was labelled, or set source.options.sizes to image (COCO JSON)"}
_REASONS = {"no_image": "without an image file: left out", "many_images": "with several: the first taken",
            "vanished": "gone since they were listed: left out",
            "other_size": "of another size than their label file says: taken"}
_BAD_IMAGE = "that cannot be used: left out"


def _and_more(count: int) -> str:
    return f" (and {count - 1:,} more)" if count > 1 else ""
