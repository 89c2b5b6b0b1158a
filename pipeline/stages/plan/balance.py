"""What was left out, where and why, and the numbers that must add up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline import formats, storage
from pipeline.base.digest import digest_of
from pipeline.base.humanize import plural
from pipeline.base.terms import SPLITS
from pipeline.base.version import __version__
from pipeline.job.job import Job, SourceJob
from pipeline.job.recipe import recorded_config
from pipeline.reports.counts import label_files
from pipeline.stages.index.parts import index_table
from pipeline.stages.index.problems import count_beyond, rows_beyond
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.plan.summary import PlanCounts, Problem
from pipeline.stages.select.steps import step_reports
from pipeline.tables import schema

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.reports.documents import LeftOut, PlanReport


#: So few objects of a class are lost without a word, if any stay.
_FEW = 10


def problem_table(job: Job, infos: Sequence[IndexInfo], images: Sequence[Problem]) -> pa.Table:
    """Every row, file and image that could not be taken, as `schema.problems`: by file and line.

    `images` are those that are wanted but unusable.
    """
    import pyarrow as pa

    parts = [part for source, info in zip(job.sources, infos, strict=True) for part in _of_source(job, source, info)]
    rows = [{**image._asdict(), "line": None, "rows": 0} for image in images]
    table = pa.concat_tables([*parts, pa.Table.from_pylist(rows, schema.problems())])
    return table.sort_by([("path", "ascending"), ("line", "ascending")]).combine_chunks()


def _of_source(job: Job, source: SourceJob, info: IndexInfo) -> list[pa.Table]:
    import pyarrow as pa

    bad = index_table(source.index_dir, "problems", info.buckets)
    rows = [
        {"key": "", "path": path, "line": None, "reason": reason, "detail": storage.UNUSABLE[reason], "rows": 0}
        for path, reason in info.odd
    ]
    if job.config.on_error == "skip" and count_beyond(source, info):
        rows += [
            {
                "key": row["key"],
                "path": row["path"],
                "line": row["line"],
                "reason": "unknown_class",
                "rows": 1,
                "detail": f"class {row['class_id']} is not in {source.source.names}",
            }
            for row in rows_beyond(source, info).to_pylist()
        ]
    return [bad, pa.Table.from_pylist(rows, schema.problems())]


def listed(table: pa.Table, where: str) -> LeftOut:
    """`table` (`schema.problems`) as a report has it: counts by reason, the file that has it, and every row."""
    rows = table.select(["path", "line", "reason", "detail"]).to_pylist()
    counts = Counter(row["reason"] for row in rows)
    return {"counts": dict(sorted(counts.items())), "table": where, "listed": rows}


def row_balance(job: Job, infos: Sequence[IndexInfo], planned: dict[str, int]) -> dict[str, int]:
    """Where the sources' rows went; `source` is the sum of the others. `planned` are the counts of the plan."""
    totals = [t for info in infos for t in info.totals.values()]
    good, bad = sum(t["rows"] for t in totals), sum(t["bad_rows"] for t in totals)
    beyond = sum(count_beyond(source, info) for source, info in zip(job.sources, infos, strict=True))
    rest = good - sum(planned.values()) - beyond
    return {"source": good + bad, **planned, "other_classes": rest, "unknown_class": beyond, "bad": bad}


def image_balance(infos: Sequence[IndexInfo], planned: dict[str, int]) -> dict[str, int]:
    """Where the sources' images went (whatever has a label file or an image); `source` is the sum of the others."""
    totals = [t for info in infos for t in info.totals.values()]
    return {"source": sum(t["images"] + t["no_image"] for t in totals), **planned}


def taken_away(before: PlanReport, now: PlanReport) -> list[str]:
    """Splits and classes that were in the target by its report `before`, and have nothing, or by far less, in `now`."""
    found = []
    for split, counts in before["subset"].items():
        if counts["images"] and split in now["subset"] and not now["subset"][split]["images"]:
            found.append(f"split {split} had {plural(counts['images'], 'image')} in the target, and has none now")
    for name in before["classes"]:
        had, has = (sum(split["objects"].get(name, 0) for split in r["subset"].values()) for r in (before, now))
        few = had - has <= _FEW and has > 0
        if name in now["classes"] and 2 * has < had and not few:
            found.append(
                f"class {name!r} had {plural(had, 'object')} in the target, and has {f'{has:,}' if has else 'none'} now"
            )
    return found


def record_facts(job: Job, infos: Sequence[IndexInfo], totals: PlanCounts, content: int) -> dict[str, Any]:
    """What the record of a subset says: all that made it, and nothing of when, where or by how many.

    `content` is the sum of that of all buckets, see `summary.content_of`.
    """
    return {
        "tool": f"coco-diy {__version__}",
        "digest": _set_digest(job, infos, content),
        "fingerprint": "+".join(str(info.content) for info in infos),
        "label_files": sum(_label_files(info) for info in infos),
        "classes": [
            {
                "name": name,
                "from": list(
                    dict.fromkeys(
                        old for m in job.maps for old, new in zip(m.source, m.lut, strict=True) if new == number
                    )
                ),
            }
            for number, name in enumerate(job.classes)
        ],
        "subset": {split: asdict(totals.subset[split]) for split in SPLITS if split in totals.subset},
        "rows": row_balance(job, infos, totals.rows),
        "images": image_balance(infos, totals.images),
        "steps": step_reports(totals.steps, job.classes),
        "config": recorded_config(job),
    }


def _set_digest(job: Job, infos: Sequence[IndexInfo], content: int) -> str:
    """Twelve hex digits that change with the subset: paths of its files, contents of its labels, its classes.

    Where objects are not in label files but in one file, the contents of the source decide.
    """
    objects = "" if "labels" in job.exporter.FOLDERS else [str(info.content) for info in infos]
    return digest_of(json.dumps([content, job.classes, job.task, objects]).encode()).hex()[:12]


def _label_files(info: IndexInfo) -> int:
    """How many label files there are; of a format of which one file holds all labels of a split, those files."""
    if formats.load(info.spec["format"]).WHOLE:
        return sum(1 + (split["captions"] is not None) + len(split.get("further", ())) for split in info.spec["splits"])
    return sum(label_files(totals["labels"]) for totals in info.totals.values())
