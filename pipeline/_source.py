"""Part of `run`: from a job to indexes that are up to date, and what is wrong with the sources."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pipeline import formats, index, storage
from pipeline.classes import Names
from pipeline.engine import FILES_WORTH_HELPERS, Engine
from pipeline.errors import DataError, plural
from pipeline.index import IndexInfo, Scan
from pipeline.job import Job, SourceJob
from pipeline.progress import Progress
from pipeline.report import Report
from pipeline.schema import part_name

if TYPE_CHECKING:
    import pyarrow as pa


@contextmanager
def index_lock(job: Job) -> Iterator[None]:
    """Hold the indexes of all sources."""
    with ExitStack() as held:
        for source in job.sources:
            path = os.path.relpath(source.index_dir, job.workdir)
            place = storage.locate(job.workdir)
            held.enter_context(place.lock(f"{path}.lock", f"the index {source.index_dir}"))
        yield


def scan(job: Job, engine: Engine | None, progress: Progress, meanwhile: Callable[[], None]) -> list[Scan]:
    """List the sources: in a helper process while this one imports what the next stages need, or right here.

    Without any part of an index every label file is read, and its stats come with that: then only names are listed.
    """
    if engine is not None and any(_many_files(job, source) for source in job.sources):
        engine.warm_up()
    found = []
    with progress.stage("list", 0):
        for number, source in enumerate(job.sources):
            if engine is None:
                found.append(index.scan(source.spec, with_stats=True, keep=job.workdir))
            elif not index.has_parts(source.index_dir):
                found.append(index.scan(source.spec, with_stats=False, keep=job.workdir))
            else:
                first = meanwhile if not number else None
                found.append(index.scan(source.spec, with_stats=True, keep=job.workdir, engine=engine, meanwhile=first))
    return found


def _many_files(job: Job, source: SourceJob) -> bool:
    """Whether this run is likely to read or write more files than this process does alone: a guess from the index."""
    info = IndexInfo.read(source.index_dir)
    if info is None or not job.maps:
        return True
    classes = job.maps[job.sources.index(source)]
    wanted = set(classes.wanted_names) if source.named else {str(i) for i in classes.wanted_ids}
    counts = [n for split in info.totals.values() for i, n in split["class_images"].items() if i in wanted]
    return int(sum(counts)) > FILES_WORTH_HELPERS


def import_for_index() -> None:
    """Import what the index stage needs: done while a helper lists or reads."""
    import dask.delayed
    import pyarrow.parquet

    assert dask.delayed
    assert pyarrow.parquet


def import_for_plan() -> None:
    """Import what the selection needs: done while a helper lists or reads."""
    import dask.dataframe

    assert dask.dataframe


def update_index(
    job: Job, engine: Engine, progress: Progress, found: Sequence[Scan], meanwhile: Callable[[], None]
) -> tuple[Job, list[IndexInfo]]:
    """Bring the indexes of the job's sources up to date, see `index.update`; the job then knows all names."""
    infos = []
    for number, (source, listed) in enumerate(zip(job.sources, found, strict=True)):
        first = meanwhile if not number else None
        infos.append(index.update(source.spec, source.index_dir, listed, buckets=job.config.index.buckets,
                                  engine=engine, progress=progress, keep=job.workdir, meanwhile=first))
    named = [names_of(info) for info in infos]
    for source, names in zip(job.sources, named, strict=True):
        if source.names is None and names is not None and not names.names:
            source_report(job, infos)  # what is bad in its label files is the better thing to tell
            raise DataError(f"source {source.spec.name}: no label file has an object of a class; correct source.root "
                            "or source.splits")
    return job.with_names(named), infos


def names_of(info: IndexInfo | None) -> Names | None:
    """The names that a source gives its classes itself, as its index has them."""
    if info is None or info.names is None:
        return None
    data = dict(info.names)
    return Names(
        tuple(data["names"]),
        tuple(data["kpt_shape"]) if data.get("kpt_shape") else None,
        tuple(data["flip_idx"]) if data.get("flip_idx") else None,
        {int(k): tuple(v) for k, v in data.get("kpt_names", {}).items()},
    )


def source_digest(digests: Sequence[str | None]) -> str | None:
    """One digest of the listings of all sources; None while that of one is not certain."""
    if any(digest is None for digest in digests):
        return None
    return "+".join(str(digest) for digest in digests)


def source_report(job: Job, infos: Sequence[IndexInfo]) -> Report:
    """Counts of the sources; bad rows are an error or, under `on_error: skip`, exit code 1."""
    report = Report({
        "index": [s.index_dir for s in job.sources] if job.several else job.sources[0].index_dir,
        "buckets": max(info.buckets for info in infos),
        "task": str(job.task),
        "classes": list(job.names),
        "fingerprint": "+".join(str(info.content) for info in infos),
        "source": _totals(job, infos),
    })
    fail = job.config.on_error == "fail"
    for source, info in zip(job.sources, infos, strict=True):
        if not source.named and (beyond := count_beyond(source, info)):
            if fail:
                raise DataError(_first_beyond(source, info, beyond))
            report.ok = False
            report.warnings.append(f"{plural(beyond, 'row')} left out, of a class that is not in {source.source.names}")
        elif source.named and source.file_names is not None:
            report.warnings += _unlisted(source, info)
        bad = _count_bad(info)
        folder = os.path.join(source.index_dir, "problems")
        if bad and fail:
            raise DataError(_first_problem(info, bad, folder))
        if bad:
            report.ok = False
            told = plural(bad, "bad row or file", "bad rows or files")
            report.warnings.append(f"{told} left out, listed in {folder}")
    report.warnings += [note for info in infos for note in info.document.get("notes", ())]
    for source, classes in zip(job.sources, job.maps, strict=False):
        for name in classes.lacking:
            report.warnings.append(f"source {source.spec.name} has no class for {name!r}: such objects in its images "
                                   "are not labelled, and a trainer takes them for background")
    return report


def _totals(job: Job, infos: Sequence[IndexInfo]) -> dict[str, Any]:
    if not job.several:
        return infos[0].totals
    return {s.spec.name: info.totals for s, info in zip(job.sources, infos, strict=True)}


def _unlisted(source: SourceJob, info: IndexInfo) -> list[str]:
    """Classes of a source that its names file leaves out: their objects are other classes."""
    assert source.file_names is not None
    counts: dict[str, int] = {}
    for totals in info.totals.values():
        for name, count in totals["objects"].items():
            if name not in source.file_names.names:
                counts[name] = counts.get(name, 0) + count
    told = ", ".join(f"{name!r} ({count:,})" for name, count in sorted(counts.items()))
    return [f"{source.source.names} leaves out classes of the source {source.spec.name}: {told}"] if counts else []


def _count_bad(info: IndexInfo) -> int:
    return sum(sum(t["problems"].values()) for t in info.totals.values()) + len(info.odd)


def _first_problem(info: IndexInfo, bad: int, folder: str) -> str:
    """The sentence for the first bad row in order of keys, with the number of all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if info.odd:
        path, reason = info.odd[0]
        first = f"{path}: {storage.ODD[reason]}"
    else:
        tables = [pq.read_table(os.path.join(folder, part_name(b))) for b in range(info.buckets)]
        table = pa.concat_tables(tables).sort_by([("key", "ascending"), ("line", "ascending")])
        row = table.slice(0, 1).to_pylist()[0]
        first = f"{row['path']}{':' + str(row['line']) if row['line'] else ''}: {row['detail']}"
        if os.path.basename(row["path"]) == "classes.txt":
            first += " (a list of class names among the labels? move it elsewhere)"
    more = f" ({plural(bad - 1, 'more bad row or file', 'more bad rows or files')}, all listed in {folder})" \
        if bad > 1 else ""
    return f"{first}{more}; correct it, or leave such rows out and count them with --set on_error=skip"


def count_beyond(source: SourceJob, info: IndexInfo) -> int:
    """Rows of a class that the names YAML does not have; none where rows carry the names of their classes."""
    if source.named:
        return 0
    assert source.names is not None
    limit = len(source.names.names)
    return int(sum(n for t in info.totals.values() for i, n in t["objects"].items() if int(i) >= limit))


def _first_beyond(source: SourceJob, info: IndexInfo, rows: int) -> str:
    assert source.names is not None
    first = rows_beyond(source, info).slice(0, 1).to_pylist()[0]
    return (f"{first['path']}:{first['line']}: class {first['class_id']} is not in {source.source.names}, which has "
            f"the classes 0 to {len(source.names.names) - 1} ({plural(rows, 'such row')}); is it the YAML of this "
            "collection? Correct it, or leave such rows out and count them with --set on_error=skip")


def rows_beyond(source: SourceJob, info: IndexInfo) -> pa.Table:
    """Rows of a class that the names YAML does not have: key, path, line and class_id, in order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert source.names is not None
    places = [os.path.join(source.index_dir, "annotations", part_name(bucket)) for bucket in range(info.buckets)]
    beyond = [("class_id", ">=", len(source.names.names))]
    parts = [pq.read_table(place, columns=["key", "line", "class_id"], filters=beyond) for place in places]
    table = pa.concat_tables(parts).sort_by([("key", "ascending"), ("line", "ascending")])
    paths = [_label_of(source, key) for key in table["key"].to_pylist()]
    return table.append_column("path", pa.array(paths, pa.string()))


def _label_of(source: SourceJob, key: str) -> str:
    """The label file of an image's key, as the user knows it."""
    path = key.split("/", 1)[1]
    for split in source.spec.splits:
        if path.startswith(split.folder + "/"):
            suffix = formats.load(source.spec.format).SUFFIX
            return storage.locate(split.labels).join(path[len(split.folder) + 1 :] + suffix)
    return path
