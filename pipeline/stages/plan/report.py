"""What a plan says: counts, problems, and what a build is refused for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline import storage
from pipeline.errors import DataError, TargetError
from pipeline.humanize import plural
from pipeline.job.job import Job
from pipeline.reports.report import Report
from pipeline.stages.index.problems import source_report
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.plan.balance import image_balance, problem_table, row_balance, told
from pipeline.stages.select.split_table import split_report
from pipeline.tables.parquet import to_parquet

if TYPE_CHECKING:
    from pipeline.stages.plan.planned import Planned


def plan_report(job: Job, infos: Sequence[IndexInfo], planned: Planned) -> Report:
    """What the plan does and what the subset will be; not ok where images are lacking or doubled."""
    report = source_report(job, infos)
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
    report.data["fetch"] = _requests(job, planned)
    for split, cure in _lacking(job, report.data["subset"]):
        report.warnings.append(f"the subset has no {split} images, and trainers need them; {cure}")
    if planned.problems:
        report.ok = False
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


def far_images(job: Job, planned: Planned) -> dict[str, list[str]]:
    """Names of the images that are to be copied and lie far away, by their place; see `Location.gather`."""
    from pipeline.stages.plan.planned import image_sources

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
    return {
        "images": sum(map(len, far.values())),
        "requests": sum(a.requests for a in asked),
        "bytes": None if None in sizes else known,
    }


def none() -> dict[str, int]:
    """Counts of no file at all."""
    return {"files": 0, "bytes": 0}


def _problem_counts(problems: list[list[Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for _, reason, *_ in problems:
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def _lacking(job: Job, subset: dict[str, Any]) -> list[tuple[str, str]]:
    if job.config.split is not None:
        return [
            (
                split,
                "give it a larger share in `split`, or set another split.seed"
                if split in job.splits
                else "give it a share, as in `split: {train: 0.8, val: 0.2}`",
            )
            for split in ("train", "val")
            if not subset.get(split, {}).get("images")
        ]
    return [
        (
            split,
            f"split {split} of the source has no object of these classes"
            if split in job.splits
            else f"the source has none: add its labels and name them in source.splits, as in `{split}: {split}2017`, "
            "or set `split: {train: 0.8, val: 0.2}`",
        )
        for split in ("train", "val")
        if not subset.get(split, {}).get("images")
    ]


def refuse(job: Job, planned: Planned) -> None:
    """Stop before the first write where a file is in the way or an image is lacking."""
    if planned.foreign:
        raise TargetError(
            f"{job.target.join(planned.foreign[0])}: is in the way and was not made by coco-diy"
            f"{_and_more(len(planned.foreign))}; move it, or choose another target.root"
        )
    if planned.problems and job.config.on_error == "fail":
        _, reason, path, detail = planned.problems[0]
        cure = _CURES.get(reason, "get it again")
        raise DataError(f"{path}: {detail}{_and_more(len(planned.problems))}; {cure}, or --set on_error=skip")


def _problem_warning(job: Job, planned: Planned, counts: dict[str, int]) -> str:
    told = ", ".join(f"{count:,} {_REASONS.get(reason, _BAD_IMAGE)}" for reason, count in counts.items())
    end = "; a build would stop there (on_error: fail)" if job.config.on_error == "fail" else ""
    return f"{plural(len(planned.problems), 'image')} with a problem: {told}{end}"


_CURES = {"no_image": "get the image", "many_images": "remove all but one", "vanished": "run again"}

_REASONS = {
    "no_image": "without an image file: left out",
    "many_images": "with several: the first taken",
    "vanished": "gone since they were listed: left out",
}

_BAD_IMAGE = "that cannot be used: left out"


def _and_more(count: int) -> str:
    return f" (and {count - 1:,} more)" if count > 1 else ""
