"""What was left out, where and why, and the numbers that must add up. Part of `run`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pipeline import schema, storage
from pipeline._source import ODD, rows_beyond
from pipeline.index import IndexInfo
from pipeline.job import Job
from pipeline.schema import part_name

if TYPE_CHECKING:
    import pyarrow as pa


def problem_table(job: Job, info: IndexInfo, images: list[list[Any]]) -> pa.Table:
    """Every row, file and image that could not be taken, as `schema.problems`: by file and line.

    `images` are key, reason, path and detail of the images that are wanted and cannot be had.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = os.path.join(job.index_dir, "problems")
    parts = [pq.read_table(os.path.join(folder, part_name(b))).cast(schema.problems()) for b in range(info.buckets)]
    told = [{"key": "", "path": path, "line": None, "reason": reason, "detail": ODD[reason], "rows": 0}
            for path, reason in info.odd]
    told += [{"key": row["key"], "path": row["path"], "line": row["line"], "reason": "unknown_class", "rows": 1,
              "detail": f"class {row['class_id']} is not in {job.config.source.names}"}
             for row in rows_beyond(job, info).to_pylist()] if job.config.on_error == "skip" else []
    told += [{"key": key, "path": path, "line": None, "reason": reason, "detail": detail, "rows": 0}
             for key, reason, path, detail in images]
    table = pa.concat_tables([*parts, pa.Table.from_pylist(told, schema.problems())])
    return table.sort_by([("path", "ascending"), ("line", "ascending")]).combine_chunks()


def told(table: pa.Table, where: str) -> dict[str, Any]:
    """`table` (`schema.problems`) as a report has it: counts by reason, the file that holds it, and every row."""
    rows = table.select(["path", "line", "reason", "detail"]).to_pylist()
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["reason"]] = counts.get(row["reason"], 0) + 1
    return {"counts": dict(sorted(counts.items())), "table": where, "listed": rows}


def read_table(place: storage.Location, path: str) -> pa.Table:
    """The table of problems at `path` of `place`; empty where there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = place.read(path)
    return schema.problems().empty_table() if data is None else pq.read_table(pa.BufferReader(data), use_threads=False)


def row_balance(job: Job, info: IndexInfo, planned: dict[str, int]) -> dict[str, int]:
    """Where the source's rows went; `source` is the sum of the others. `planned` are the counts of the plan."""
    limit = len(job.names.names)
    good = sum(t["rows"] for t in info.totals.values())
    bad = sum(t["bad_rows"] for t in info.totals.values())
    beyond = sum(n for t in info.totals.values() for i, n in t["objects"].items() if int(i) >= limit)
    rest = good - sum(planned.values()) - beyond
    return {"source": good + bad, **planned, "other_classes": rest, "unknown_class": beyond, "bad": bad}


def image_balance(info: IndexInfo, planned: dict[str, int]) -> dict[str, int]:
    """Where the source's images went (whatever has a label file or an image); `source` is the sum of the others."""
    return {"source": sum(t["images"] + t["no_image"] for t in info.totals.values()), **planned}
