"""The stages in order: list, index, select, plan, apply; with locks, resume and the quick way out.

`build` is the main job, `make_index` and `make_plan` its first parts. Each returns a report, plain data as `--json`
prints it.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline import __version__, exporters, formats, index, storage
from pipeline import manifest as target_manifest
from pipeline.config import Config
from pipeline.engine import FILES_WORTH_HELPERS, Engine
from pipeline.errors import ConfigError, DataError, StorageError, TargetError, plural
from pipeline.exporters import Dataset
from pipeline.index import IndexInfo, Scan, add_counts
from pipeline.job import Job, resolve
from pipeline.manifest import Manifest, TargetState
from pipeline.plan import digest_of, meta_plan
from pipeline.progress import Progress
from pipeline.schema import Task, part_name

if TYPE_CHECKING:
    from pipeline._planner import PlanContext


@dataclass
class Report:
    """What a command found or did; `data` is what `--json` prints. `ok` is False where the exit code must be 1."""

    data: dict[str, Any]
    ok: bool = True
    warnings: list[str] = field(default_factory=list)


def make_index(config: Config, progress: Progress | None = None) -> Report:
    """Bring the index of `config`'s source up to date."""
    job = resolve(config)
    progress = progress or Progress()
    with Engine(config.engine.scheduler, config.engine.workers) as engine, _index_lock(job):
        info = _update_index(job, engine, progress, _scan(job, engine, _import_for_index), _import_for_index)
        report = _source_report(job, info)
    return Report({"command": "index", **report.data}, report.ok, report.warnings)


def make_plan(config: Config, progress: Progress | None = None) -> Report:
    """What a build would write, copy, keep and delete; nothing is changed at the target."""
    job = resolve(config)
    progress = progress or Progress()
    with Engine(config.engine.scheduler, config.engine.workers) as engine, _index_lock(job):
        info = _update_index(job, engine, progress, _scan(job, engine, _import_for_plan), _import_for_plan)
        planned = _plan(job, info, TargetState(job.root), engine, progress)
    report = _plan_report(job, info, planned)
    report.data["command"] = "plan"
    return report


def source_stats(config: Config, progress: Progress | None = None) -> Report:
    """Counts of the source of `config` by class and split, all classes."""
    job = resolve(config)
    progress = progress or Progress()
    with Engine(config.engine.scheduler, config.engine.workers) as engine, _index_lock(job):
        info = _update_index(job, engine, progress, _scan(job, engine, _import_for_index), _import_for_index)
        report = _source_report(job, info)
    names = job.names.names
    subset = {
        split: {
            "images": counts["images"],
            "labels": sum(n for state, n in counts["labels"].items() if state != "missing"),
            "objects": {name: counts["objects"].get(str(i), 0) for i, name in enumerate(names)},
            "images_by_class": {name: counts["class_images"].get(str(i), 0) for i, name in enumerate(names)},
        }
        for split, counts in info.totals.items()
    }
    data = {"command": "stats", "of": "source", "classes": list(names), "subset": subset}
    return Report(data, report.ok, report.warnings)


def target_stats(root: str) -> Report:
    """Counts of the subset at `root` by class and split, as its manifest has them."""
    root = storage.local_path(root)
    state = TargetState(root)
    if state.manifest is None:
        raise ConfigError(f"{root}: is neither a config file nor a subset that coco-diy built (it has no "
                          f"{target_manifest.FOLDER}/manifest.json)")
    told = state.manifest.report
    return Report({"command": "stats", "of": "target", "target": root, "classes": told["classes"],
                   "subset": told["subset"]})


def build(config: Config, progress: Progress | None = None) -> Report:
    """Make the subset: index, select, plan and apply. Where nothing changed, nothing is done.

    Raises `CocoDiyError`s; a run that ends early is continued by running it again.
    """
    job = resolve(config)
    progress = progress or Progress()
    options = config.engine
    target_lock = storage.lock(os.path.join(job.root, target_manifest.FOLDER, "lock"), f"the target {job.root}")
    with target_lock, Engine(options.scheduler, options.workers) as engine, _index_lock(job):
        state = TargetState(job.root)
        current = _is_current_recipe(job, state)
        found = _scan(job, None if current else engine, _import_for_plan)
        if current and (report := _nothing_to_do(job, state, found)):
            return report
        info = _update_index(job, engine, progress, found, _import_for_plan)
        planned = _plan(job, info, state, engine, progress)
        report = _plan_report(job, info, planned)
        _refuse(job, planned, report)
        failed = _apply(job, planned, state, engine, progress)
        _commit(job, info, planned, state, report)
    report.data["command"] = "build"
    report.data["status"] = "failed" if failed else "built" if planned.changes else "nothing to do"
    if failed:
        report.ok = False
        report.data["failed"] = failed
    _record(job, report)
    return report


# --- index -----------------------------------------------------------------------------------------------------------


def _index_lock(job: Job) -> Any:
    return storage.lock(f"{job.index_dir}.lock", f"the index {job.index_dir}")


def _scan(job: Job, engine: Engine | None, meanwhile: Callable[[], None]) -> Scan:
    """List the source: in a helper process while this one imports what the next stages need, or right here.

    Without an index every label file is read, and its stats come with that: then only names are listed.
    """
    for split in job.spec.splits:
        for folder, what in ((split.labels, "labels"), (split.images, "images")):
            if folder is not None and not os.path.isdir(folder):
                raise ConfigError(f"source: the {what} folder of split {split.split}, {folder}, does not exist; "
                                  "correct source.root or source.splits")
    suffix = formats.load(job.spec.format).SUFFIX
    if engine is None:
        return index.scan(job.spec, suffix, with_stats=True)
    if _many_files(job):
        engine.warm_up()
    if IndexInfo.read(job.index_dir) is None:
        return index.scan(job.spec, suffix, with_stats=False)
    return index.scan(job.spec, suffix, with_stats=True, engine=engine, meanwhile=meanwhile)


def _many_files(job: Job) -> bool:
    """Whether this run is likely to read or write more files than this process does alone: a guess from the index."""
    info = IndexInfo.read(job.index_dir)
    if info is None:
        return True
    wanted = {str(i) for i in job.classes.wanted_ids}
    return FILES_WORTH_HELPERS < sum(
        n for counts in info.totals.values() for i, n in counts["class_images"].items() if i in wanted)


def _import_for_index() -> None:
    import dask.delayed
    import pyarrow.parquet

    assert dask.delayed
    assert pyarrow.parquet


def _import_for_plan() -> None:
    import dask.dataframe

    from pipeline import _planner

    assert dask.dataframe
    assert _planner


def _update_index(
    job: Job, engine: Engine, progress: Progress, found: Scan, meanwhile: Callable[[], None]
) -> IndexInfo:
    return index.update(job.spec, job.index_dir, found, buckets=job.config.index.buckets, engine=engine,
                        progress=progress, meanwhile=meanwhile)


def _source_report(job: Job, info: IndexInfo) -> Report:
    """Counts of the source; bad rows are an error or, under `on_error: skip`, exit code 1."""
    bad = _count_bad(info)
    data: dict[str, Any] = {
        "index": job.index_dir,
        "buckets": info.buckets,
        "task": str(job.spec.task),
        "classes": list(job.names.names),
        "source": info.totals,
    }
    report = Report(data)
    _check_classes(job, info)
    if bad:
        if job.config.on_error == "fail":
            raise DataError(_first_problem(job, info, bad))
        report.ok = False
        report.warnings.append(f"{plural(bad, 'bad row or file', 'bad rows or files')} left out, listed in "
                               f"{os.path.join(job.index_dir, 'problems')}")
    return report


def _count_bad(info: IndexInfo) -> int:
    return sum(sum(t["problems"].values()) for t in info.totals.values()) + len(info.odd)


def _first_problem(job: Job, info: IndexInfo, bad: int) -> str:
    """The sentence for the first bad row in order of keys, with the number of all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if info.odd:
        path, reason = info.odd[0]
        first = f"{path}: {_ODD[reason]}"
    else:
        folder = os.path.join(job.index_dir, "problems")
        tables = [pq.read_table(os.path.join(folder, part_name(b))) for b in range(info.buckets)]
        table = pa.concat_tables(tables).sort_by([("key", "ascending"), ("line", "ascending")])
        row = table.slice(0, 1).to_pylist()[0]
        first = f"{row['path']}{':' + str(row['line']) if row['line'] else ''}: {row['detail']}"
    more = f" ({plural(bad - 1, 'more bad row or file', 'more bad rows or files')}, all listed in " \
           f"{os.path.join(job.index_dir, 'problems')})" if bad > 1 else ""
    return f"{first}{more}; correct it, or leave such rows out and count them with --set on_error=skip"


_ODD = {
    "dangling": "is a link to a file that is not there",
    "link_loop": "is a link that leads back to itself",
    "not_a_file": "is no file",
    "not_utf8": "has a name that is not UTF-8",
}


def _check_classes(job: Job, info: IndexInfo) -> None:
    """A class id beyond the names is told with its first file and line."""
    limit = len(job.names.names)
    beyond = sorted(int(i) for t in info.totals.values() for i in t["objects"] if int(i) >= limit)
    if not beyond:
        return
    rows = sum(n for t in info.totals.values() for i, n in t["objects"].items() if int(i) >= limit)
    key, line, class_id = _find_class(job, info, limit)
    path = key.split("/", 1)[1]
    for split in job.spec.splits:
        if path.startswith(split.folder + "/"):
            suffix = formats.load(job.spec.format).SUFFIX
            path = os.path.join(split.labels, path[len(split.folder) + 1 :] + suffix)
            break
    raise DataError(f"{path}:{line}: class {class_id} is not in {job.config.source.names}, which has the classes "
                    f"0 to {limit - 1} ({plural(rows, 'such row')}); is it the YAML of this collection?")


def _find_class(job: Job, info: IndexInfo, limit: int) -> tuple[str, int, int]:
    import pyarrow.parquet as pq

    first: tuple[str, int, int] | None = None
    for bucket in range(info.buckets):
        path = os.path.join(job.index_dir, "annotations", part_name(bucket))
        table = pq.read_table(path, columns=["key", "line", "class_id"], filters=[("class_id", ">=", limit)])
        for row in table.slice(0, 1).to_pylist():
            first = min(first or (row["key"], row["line"], row["class_id"]), (row["key"], row["line"], row["class_id"]))
    assert first is not None
    return first


# --- plan ------------------------------------------------------------------------------------------------------------


@dataclass
class Planned:
    """A plan by bucket in `folder`, its counts, and what stands in its way."""

    folder: str
    buckets: int
    summaries: list[dict[str, Any]]
    totals: dict[str, Any]
    meta: list[tuple[str, str]]
    contents: dict[str, bytes]
    problems: list[list[Any]]
    foreign: list[str]

    @property
    def touched(self) -> list[int]:
        """Buckets with anything to write, copy or delete."""
        return [s["bucket"] for s in self.summaries if s["changes"]]

    @property
    def changes(self) -> int:
        """Files to write, copy or delete."""
        return sum(s["changes"] for s in self.summaries) + sum(action != "keep" for action, _ in self.meta)


def _plan(job: Job, info: IndexInfo, state: TargetState, engine: Engine, progress: Progress) -> Planned:
    """The Dask frame over the index, ending in one plan a bucket."""
    from pipeline import _planner

    _source_report(job, info)  # raises for bad rows and unknown class ids before anything is decided
    if job.need_image and any(s.images is None for s in job.spec.splits):
        split = next(s for s in job.spec.splits if s.images is None)
        raise ConfigError(f"source: split {split.split} has no images folder beside {split.labels}; add one, or set "
                          "target.images to none to make labels only")
    context = _plan_context(job, info, state)
    with progress.stage("plan", info.buckets, "buckets") as step:
        summaries = _planner.run(context, engine)
        step.add(info.buckets)
    totals: dict[str, Any] = {}
    problems: list[list[Any]] = []
    foreign: list[str] = []
    for summary in summaries:
        add_counts(totals, summary["counts"])
        problems += summary["problems"]
        foreign += summary["foreign"]
    splits = tuple(s for s in ("train", "val", "test") if totals["subset"].get(s, {}).get("images"))
    exporter = exporters.load(job.config.target.format)
    contents = exporter.assemble(
        Dataset(job.classes, job.names, job.spec.task is Task.POSE, splits, job.root, job.config.target.yaml)
    )
    meta = meta_plan(contents, _still_there(job, state))
    foreign += [p for a, p in meta if a == "write" and p not in state.meta and storage.exist_many(job.root, [p])[0]]
    return Planned(job.plan_dir, info.buckets, summaries, totals, meta, contents, sorted(problems), sorted(foreign))


def _still_there(job: Job, state: TargetState) -> dict[str, dict[str, Any]]:
    paths = sorted(state.meta)
    there = storage.exist_many(job.root, paths)
    return {path: state.meta[path] for path, found in zip(paths, there, strict=True) if found}


def _plan_context(job: Job, info: IndexInfo, state: TargetState) -> PlanContext:
    from pipeline._planner import PlanContext

    folders = _folder_times(job)
    held = state.manifest.folders if state.manifest and state.intent is None else {}
    return PlanContext(
        index_dir=job.index_dir,
        buckets=info.buckets,
        plan_dir=job.plan_dir,
        root=job.root,
        classes=job.classes,
        duplicates=job.config.select.duplicates,
        backgrounds=job.config.select.backgrounds,
        images=job.config.target.images,
        source_folders={s.split: s.images for s in job.spec.splits},
        format=job.spec.format,
        exporter=job.config.target.format,
        check_there=folders != held,
        check_foreign=bool(folders),
    )


def _folder_times(job: Job) -> dict[str, int]:
    """Change times (ns) of the target's folders: they tell whether files came or went since the last run."""
    exporter = exporters.load(job.config.target.format)
    return storage.folder_times(job.root, exporter.FOLDERS)


def _plan_report(job: Job, info: IndexInfo, planned: Planned) -> Report:
    report = _source_report(job, info)
    plan = {action: {"label": _none(), "image": _none(), "meta": _none()} for action in
            ("write", "copy", "keep", "delete")}
    for action, kinds in planned.totals["plan"].items():
        for kind, counts in kinds.items():
            plan[action][kind] = counts
    for action, path in planned.meta:
        plan[action]["meta"]["files"] += 1
        plan[action]["meta"]["bytes"] += len(planned.contents.get(path, b""))
    subset = planned.totals["subset"]
    report.data |= {
        "target": job.root,
        "classes": list(job.classes.names),
        "plan": plan,
        "plan_files": planned.folder,
        "subset": {s: subset[s] for s in ("train", "val", "test") if s in subset},
        "rows": _row_balance(info, planned),
        "problems": _problem_counts(planned.problems),
        "foreign": planned.foreign,
    }
    report.data.pop("buckets", None)
    report.data["changes"] = planned.changes
    for split, cure in _lacking(job, report.data["subset"]):
        report.warnings.append(f"the subset has no {split} images, and trainers need them; {cure}")
    if planned.problems:
        report.ok = False
    if job.config.target.images in ("hardlink", "symlink"):
        report.warnings.append(f"images are {job.config.target.images}s: what a trainer does to them (older ones "
                               "re-save damaged JPEGs) happens to the source")
    report.data["warnings"] = report.warnings
    return report


def _none() -> dict[str, int]:
    return {"files": 0, "bytes": 0}


def _row_balance(info: IndexInfo, planned: Planned) -> dict[str, int]:
    """Where the source's rows went; `source` is the sum of the others."""
    rows = dict(planned.totals["rows"])
    total = sum(t["rows"] for t in info.totals.values())
    rows["other_classes"] = total - rows["kept"] - rows["duplicates"] - rows["without_image"]
    return {"source": total, **rows}


def _problem_counts(problems: list[list[Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for _, reason, _ in problems:
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def _lacking(job: Job, subset: dict[str, Any]) -> list[tuple[str, str]]:
    declared = {s.split for s in job.spec.splits}
    return [(split, f"split {split} of the source has no object of these classes" if split in declared
             else f"name a folder for it in source.splits, as in `{split}: {split}2017`")
            for split in ("train", "val") if not subset.get(split, {}).get("images")]


def _refuse(job: Job, planned: Planned, report: Report) -> None:
    """Stop before the first write where a file is in the way or an image is lacking."""
    if planned.foreign:
        raise TargetError(f"{os.path.join(job.root, planned.foreign[0])}: is in the way and was not made by coco-diy"
                          f"{_and_more(len(planned.foreign))}; move it, or choose another target.root")
    if planned.problems and job.config.on_error == "fail":
        _, reason, detail = planned.problems[0]
        raise DataError(f"{detail}{_and_more(len(planned.problems))}; {_CURES[reason]}, or --set on_error=skip")
    if planned.problems:
        report.warnings.append(f"{plural(len(planned.problems), 'image')} with a problem: " + ", ".join(
            f"{count:,} {_REASONS[reason]}" for reason, count in report.data["problems"].items()))


_CURES = {"no_image": "get the image", "many_images": "remove all but one", "vanished": "run again"}
_REASONS = {"no_image": "without an image file: left out", "many_images": "with several: the first taken",
            "vanished": "gone since they were listed: left out"}


def _and_more(count: int) -> str:
    return f" (and {count - 1:,} more)" if count > 1 else ""


# --- apply -----------------------------------------------------------------------------------------------------------


def _apply(job: Job, planned: Planned, state: TargetState, engine: Engine, progress: Progress) -> dict[str, str]:
    """Carry out the plan; returns path: reason of the files that failed."""
    from pipeline import apply

    failed: dict[str, str] = {}
    touched = planned.touched
    parts = [state.part(b, planned.buckets) for b in range(planned.buckets)]
    if not planned.changes:
        planned.totals["parts"] = parts
        return failed
    paths = {b: _intended(planned, b) for b in touched}
    target_manifest.write_intent(state, planned.buckets, paths, [p for a, p in planned.meta if a != "keep"])
    assert state.intent is not None
    _prepare_target(job, planned, state)
    files = sum(s["changes"] for s in planned.summaries)
    function = functools.partial(
        apply.apply_bucket, job.root, state.folder, state.intent["folder"], job.config.target.images)
    tasks = [(os.path.join(planned.folder, part_name(b)), b) for b in touched]
    with progress.stage("apply", files) as step:
        for outcome in engine.map(function, tasks, files=files):
            parts[outcome.bucket] = outcome.part
            failed |= outcome.failed
            step.add(outcome.done)
    planned.totals["parts"] = parts
    return failed


def _intended(planned: Planned, bucket: int) -> bytes:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(os.path.join(planned.folder, part_name(bucket)),
                          columns=["path", "kind", "key", "split", "action"])
    return target_manifest.to_parquet(table.filter(pc.not_equal(table["action"], "keep")))


def _prepare_target(job: Job, planned: Planned, state: TargetState) -> None:
    """Before the first label changes: folders exist, trainers' caches are gone, and so is a YAML that will change."""
    exporter = exporters.load(job.config.target.format)
    splits = [s for s in ("train", "val", "test") if planned.totals["subset"].get(s, {}).get("images")]
    folders = [f"{folder}/{split}" for folder in exporter.FOLDERS if folder != "images" or job.need_image
               for split in splits]
    storage.make_folders(job.root, folders)
    _drop_caches(job, planned)
    storage.delete_many(job.root, [path for action, path in planned.meta if action != "keep"])
    del state


def _drop_caches(job: Job, planned: Planned) -> None:
    """Remove trainers' caches of the labels: most versions do not notice a change of equal length."""
    if any(kind == "label" for action in ("write", "delete") for kind in planned.totals["plan"].get(action, {})):
        caches = [name for name in storage.list_flat(os.path.join(job.root, "labels")) if name.endswith(".cache")]
        storage.delete_many(os.path.join(job.root, "labels"), caches)


def _commit(job: Job, info: IndexInfo, planned: Planned, state: TargetState, report: Report) -> None:
    """The YAML comes back, then the manifest is written: from here on the subset is done."""
    writes = [path for action, path in planned.meta if action == "write"]
    if planned.changes:
        _drop_caches(job, planned)
    results = storage.write_many(job.root, writes, [planned.contents[p] for p in writes])
    if results.failed:
        path, reason = next(iter(results.failed.items()))
        raise StorageError(f"{os.path.join(job.root, path)}: cannot be written: {reason}")
    meta = {p: {"size": len(c), "digest": digest_of(c).hex()} for p, c in planned.contents.items()}
    kept = ("classes", "task", "subset", "rows", "problems")
    manifest = Manifest(
        tool=f"coco-diy {__version__}",
        recipe=job.recipe(),
        source=info.source_digest,
        buckets=planned.buckets,
        parts=planned.totals["parts"],
        meta=meta,
        report={key: report.data[key] for key in kept} | {"ok": report.ok, "warnings": report.warnings},
        images=_remember_images(job, planned),
        folders=_folder_times(job),
    )
    target_manifest.commit(state, manifest)


def _record(job: Job, report: Report) -> None:
    """One small file a run: what it did, when and where."""
    import socket

    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    record = {"time": now, "host": socket.gethostname(), "process": os.getpid(), "tool": f"coco-diy {__version__}",
              "report": report.data}
    path = f"{target_manifest.FOLDER}/runs/{now}-{os.getpid()}.json"
    storage.write_many(job.root, [path], [json.dumps(record, ensure_ascii=False, indent=1).encode()])


# --- the quick way out -----------------------------------------------------------------------------------------------


def _is_current_recipe(job: Job, state: TargetState) -> bool:
    return state.manifest is not None and state.intent is None and state.manifest.recipe == job.recipe()


def _nothing_to_do(job: Job, state: TargetState, found: Scan) -> Report | None:
    """The report of a build that changes nothing, if that is certain without reading a table."""
    manifest = state.manifest
    digest = found.digest(job.spec)
    if manifest is None or digest is None or manifest.source != digest or manifest.folders != _folder_times(job):
        return None
    if _still_there(job, state).keys() != manifest.meta.keys():
        return None
    if manifest.images is not None and _images_digest(job) != manifest.images:
        return None
    files = {"label": 0, "image": 0, "meta": len(manifest.meta)}
    for counts in manifest.report["subset"].values():
        files["label"] += counts["labels"]
        files["image"] += counts["images"] if job.need_image else 0
    plan = {action: {kind: _none() for kind in files} for action in ("write", "copy", "keep", "delete")}
    for kind, count in files.items():
        plan["keep"][kind]["files"] = count
    told = dict(manifest.report)
    ok, warnings = told.pop("ok"), told.pop("warnings")
    data = {"command": "build", "status": "nothing to do", "target": job.root, **told, "plan": plan, "changes": 0,
            "warnings": warnings}
    return Report(data, ok, warnings)


def _images_file(job: Job) -> str:
    return f"{job.plan_dir}.images"


def _remember_images(job: Job, planned: Planned) -> str | None:
    """Keep the list of the images in the subset, so that a later run can look for changed ones without the tables.

    Returns the digest of their fingerprints; None without images.
    """
    if not job.need_image:
        return None
    from pipeline import _planner

    listed = _planner.image_sources(planned.folder, planned.buckets, {s.split: s.images for s in job.spec.splits})
    storage.write_whole(_images_file(job), json.dumps(listed).encode())
    return _images_digest(job)


def _images_digest(job: Job) -> str | None:
    import xxhash

    data = storage.read_whole(_images_file(job))
    if data is None:
        return None
    state = xxhash.xxh3_128(data)
    for folder, names in json.loads(data):
        for found in storage.fingerprints(folder, names):
            if found is None or len(found[1]) != 32:
                return None
            state.update(found[1])
    return str(state.hexdigest())

