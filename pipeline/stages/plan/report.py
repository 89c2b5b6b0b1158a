"""What a plan says: counts, problems, and what a build is refused for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from pipeline import storage
from pipeline.base.errors import DataError, TargetError
from pipeline.base.humanize import plural
from pipeline.job.job import Job
from pipeline.reports.report import Report
from pipeline.stages.index.problems import source_report
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.plan.backgrounds import doubled_warning
from pipeline.stages.plan.balance import image_balance, problem_table, row_balance, told
from pipeline.stages.plan.planned import Planned, far_images
from pipeline.stages.plan.subset import _lost_classes, _moved, _renumbered, _why_empty, empty
from pipeline.stages.select.split_table import split_report
from pipeline.tables.parquet import to_parquet
from pipeline.target.manifest import Manifest


def plan_report(job: Job, infos: Sequence[IndexInfo], planned: Planned, before: Manifest | None = None) -> Report:
    """What the plan does and what the subset will be; not ok where images are lacking or doubled.

    `before` is the manifest of the target as it is.
    """
    report = source_report(job, infos)
    if before is not None:
        report.warn_gravely(_renumbered(before.report.get("classes", ()), job.classes))
    plan = {
        action: {"label": none(), "image": none(), "meta": none()} for action in ("write", "copy", "keep", "delete")
    }
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
    report.data["fetch"] = fetch_cost(job, planned)
    report.warn_gravely(_lost_classes(job, infos, planned))
    if (why := empty(job, infos, planned)) is not None:
        report.ok = report.incomplete = False
        report.warnings.append(f"{why}; a build would stop there")
    else:
        report.warn_gravely(
            [
                f"the subset has no {split} images, and trainers need them; {cure}"
                for split, cure in _lacking(job, infos, planned)
            ]
        )
    report.warn_once(_moved(planned))
    report.warnings += doubled_warning(planned.doubled)
    if turned := planned.totals["turned"]:
        report.warn_gravely(
            [
                f"{plural(len(turned), 'image')}, {turned[0]} the first, shown turned by EXIF data: label "
                "files say their size without the turn; look at their boxes with a viewer"
            ]
        )
    if planned.problems:
        report.ok, report.incomplete = False, job.config.on_error == "skip" and why is None
        report.warnings.append(_problem_warning(job, planned, report.data["problems"]))
    if job.config.target.images in ("hardlink", "symlink"):
        report.warnings.append(
            f"images are {job.config.target.images}s: what a trainer does to them (older ones "
            "re-save damaged JPEGs) happens to the source"
        )
    report.data["warnings"] = report.warnings
    if not report.ok:
        report.problems = problem_table(job, infos, planned.problems)
        place = f"{planned.folder}.problems.parquet"
        storage.locate(job.workdir).write(os.path.relpath(place, job.workdir), to_parquet(report.problems))
        report.data["left_out"] = told(report.problems, place)
    return report


def fetch_cost(job: Job, planned: Planned, limits: storage.Limits | None = None) -> dict[str, int | bool | None]:
    """What fetching far images takes: how many, requests, and bytes where they are known.

    With `limits` servers are asked for the sizes of some, and the bytes are about right.
    """
    far = far_images(job, planned.sources, planned.buckets)
    asked = [storage.locate(place, job.workdir).ask(names, limits) for place, names in far.items()]
    sizes = [a.bytes for a in asked]
    known = sum(s for s in sizes if s is not None)
    return {
        "images": sum(map(len, far.values())),
        "requests": sum(a.requests for a in asked),
        "bytes": None if None in sizes else known,
        "about": any(a.about for a in asked),
    }


def none() -> dict[str, int]:
    """Counts of no file at all."""
    return {"files": 0, "bytes": 0}


def _problem_counts(problems: list[list[Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for _, reason, *_ in problems:
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def _lacking(job: Job, infos: Sequence[IndexInfo], planned: Planned) -> list[tuple[str, str]]:
    subset = planned.totals["subset"]
    lacking = [split for split in ("train", "val") if not subset.get(split, {}).get("images")]
    if job.config.split is not None:
        return [
            (
                split,
                "give it a larger share in `split`, or set another split.seed"
                if split in job.splits
                else "give it a share, as in `split: {train: 0.8, val: 0.2}`",
            )
            for split in lacking
        ]
    return [
        (
            split,
            f"split {split} of the source {_why_empty(job, infos, planned, split)}"
            if split in job.splits
            else f"the source has none: add its labels and name them in source.splits, as in `{split}: {split}2017`, "
            "or set `split: {train: 0.8, val: 0.2}`",
        )
        for split in lacking
    ]


def refuse(job: Job, infos: Sequence[IndexInfo], planned: Planned) -> None:
    """Stop before the first write where a file is in the way, an image is lacking, or there is none at all."""
    if planned.foreign:
        raise TargetError(
            f"{job.target.join(planned.foreign[0])}: is in the way and was not made by coco-diy"
            f"{_and_more(len(planned.foreign))}; move it, or choose another target.root"
        )
    if planned.problems and job.config.on_error == "fail":
        _, reason, path, detail = planned.problems[0]
        cure = _CURES.get(reason, "get it again")
        raise DataError(f"{path}: {detail}{_and_more(len(planned.problems))}; {cure}, or --set on_error=skip")
    if why := empty(job, infos, planned):
        raise DataError(f"{why}; correct the source, `classes` or `select`")


def _problem_warning(job: Job, planned: Planned, counts: dict[str, int]) -> str:
    told = ", ".join(f"{count:,} {_REASONS.get(reason, _BAD_IMAGE)}" for reason, count in counts.items())
    end = "; a build would stop there (on_error: fail)" if job.config.on_error == "fail" else ""
    return f"{plural(len(planned.problems), 'image')} with a problem: {told}{end}"


_CURES = {
    "mixed": "make boxes of all with --set source.options.polygons=boxes",
    "no_image": "get the image",
    "many_images": "remove all but one",
    "vanished": "run again",
    "other_size": "get the image that was labelled, or set source.options.sizes to image (COCO JSON)",
}

_REASONS = {
    "mixed": "with boxes and polygons in one label file: left out",
    "no_image": "without an image file: left out",
    "many_images": "with several: the first taken",
    "vanished": "gone since they were listed: left out",
    "other_size": "of another size than their label file says: taken",
}

_BAD_IMAGE = "that cannot be used: left out"


def _and_more(count: int) -> str:
    return f" (and {count - 1:,} more)" if count > 1 else ""
