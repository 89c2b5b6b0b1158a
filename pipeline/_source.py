"""Part of `run`: from a job to an index that is up to date, and what is wrong with the source."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline import formats, index, storage
from pipeline.engine import FILES_WORTH_HELPERS, Engine
from pipeline.errors import DataError, plural
from pipeline.index import IndexInfo, Scan
from pipeline.job import Job
from pipeline.progress import Progress
from pipeline.schema import part_name

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Report:
    """What a command found or did; `data` is what `--json` prints. `ok` is False where the exit code must be 1.

    `problems` is the table (`schema.problems`) of what was left out, where anything was.
    """

    data: dict[str, Any]
    ok: bool = True
    warnings: list[str] = field(default_factory=list)
    problems: pa.Table | None = None


def index_lock(job: Job) -> Any:
    path = os.path.relpath(job.index_dir, job.workdir)
    return storage.locate(job.workdir).lock(f"{path}.lock", f"the index {job.index_dir}")


def scan(job: Job, engine: Engine | None, meanwhile: Callable[[], None]) -> Scan:
    """List the source: in a helper process while this one imports what the next stages need, or right here.

    Without any part of an index every label file is read, and its stats come with that: then only names are listed.
    """
    suffix = formats.load(job.spec.format).SUFFIX
    if engine is None:
        return index.scan(job.spec, suffix, with_stats=True)
    if _many_files(job):
        engine.warm_up()
    if not index.has_parts(job.index_dir):
        return index.scan(job.spec, suffix, with_stats=False)
    return index.scan(job.spec, suffix, with_stats=True, engine=engine, meanwhile=meanwhile)


def _many_files(job: Job) -> bool:
    """Whether this run is likely to read or write more files than this process does alone: a guess from the index."""
    info = IndexInfo.read(job.index_dir)
    if info is None:
        return True
    wanted = {str(i) for i in job.classes.wanted_ids}
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
    job: Job, engine: Engine, progress: Progress, found: Scan, meanwhile: Callable[[], None]
) -> IndexInfo:
    """Bring the index of the job's source up to date, see `index.update`."""
    return index.update(job.spec, job.index_dir, found, buckets=job.config.index.buckets, engine=engine,
                        progress=progress, meanwhile=meanwhile)


def source_report(job: Job, info: IndexInfo) -> Report:
    """Counts of the source; bad rows are an error or, under `on_error: skip`, exit code 1."""
    bad, beyond = _count_bad(info), _count_beyond(job, info)
    data: dict[str, Any] = {
        "index": job.index_dir,
        "buckets": info.buckets,
        "task": str(job.spec.task),
        "classes": list(job.names.names),
        "fingerprint": info.content,
        "source": info.totals,
    }
    report = Report(data)
    if beyond:
        if job.config.on_error == "fail":
            raise DataError(_first_beyond(job, info, beyond))
        report.ok = False
        report.warnings.append(f"{plural(beyond, 'row')} left out, of a class that is not in {job.config.source.names}")
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
        first = f"{path}: {ODD[reason]}"
    else:
        folder = os.path.join(job.index_dir, "problems")
        tables = [pq.read_table(os.path.join(folder, part_name(b))) for b in range(info.buckets)]
        table = pa.concat_tables(tables).sort_by([("key", "ascending"), ("line", "ascending")])
        row = table.slice(0, 1).to_pylist()[0]
        first = f"{row['path']}{':' + str(row['line']) if row['line'] else ''}: {row['detail']}"
        if os.path.basename(row["path"]) == "classes.txt":
            first += " (a list of class names among the labels? move it elsewhere)"
    more = f" ({plural(bad - 1, 'more bad row or file', 'more bad rows or files')}, all listed in " \
           f"{os.path.join(job.index_dir, 'problems')})" if bad > 1 else ""
    return f"{first}{more}; correct it, or leave such rows out and count them with --set on_error=skip"


ODD = {
    "dangling": "is a link to a file that is not there",
    "link_loop": "is a link that leads back to itself",
    "not_a_file": "is no file",
    "not_utf8": "has a name that is not UTF-8",
}


def _count_beyond(job: Job, info: IndexInfo) -> int:
    """Rows of a class that the names YAML does not have."""
    limit = len(job.names.names)
    return int(sum(n for t in info.totals.values() for i, n in t["objects"].items() if int(i) >= limit))


def _first_beyond(job: Job, info: IndexInfo, rows: int) -> str:
    limit = len(job.names.names)
    first = rows_beyond(job, info).slice(0, 1).to_pylist()[0]
    return (f"{first['path']}:{first['line']}: class {first['class_id']} is not in {job.config.source.names}, which "
            f"has the classes 0 to {limit - 1} ({plural(rows, 'such row')}); is it the YAML of this collection? "
            "Correct it, or leave such rows out and count them with --set on_error=skip")


def rows_beyond(job: Job, info: IndexInfo) -> pa.Table:
    """Rows of a class that the names YAML does not have: key, path, line and class_id, in order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    places = [os.path.join(job.index_dir, "annotations", part_name(bucket)) for bucket in range(info.buckets)]
    beyond = [("class_id", ">=", len(job.names.names))]
    parts = [pq.read_table(place, columns=["key", "line", "class_id"], filters=beyond) for place in places]
    table = pa.concat_tables(parts).sort_by([("key", "ascending"), ("line", "ascending")])
    return table.append_column("path", pa.array([_label_of(job, key) for key in table["key"].to_pylist()], pa.string()))


def _label_of(job: Job, key: str) -> str:
    """The label file of an image's key, as the user knows it."""
    path = key.split("/", 1)[1]
    for split in job.spec.splits:
        if path.startswith(split.folder + "/"):
            suffix = formats.load(job.spec.format).SUFFIX
            return storage.locate(split.labels).join(path[len(split.folder) + 1 :] + suffix)
    return path
