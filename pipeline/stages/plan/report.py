"""What a plan says: counts, problems, and what a build is refused for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from pipeline import storage
from pipeline.base.errors import DataError, TargetError
from pipeline.base.humanize import plural
from pipeline.base.terms import SPLITS
from pipeline.job.job import Job
from pipeline.reports.counts import SplitCounts
from pipeline.reports.documents import FetchCost
from pipeline.reports.report import Report
from pipeline.reports.words import Words, words_of
from pipeline.stages.index.problems import shared_splits
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.plan.backgrounds import doubled_warning
from pipeline.stages.plan.balance import image_balance, listed, problem_table, row_balance
from pipeline.stages.plan.compare import all_actions
from pipeline.stages.plan.leaks import leak_warning, source_warnings
from pipeline.stages.plan.planned import Planned, remote_images
from pipeline.stages.plan.shaping import overshoots
from pipeline.stages.plan.shortfall import empty, lost_classes, moved, renumbered, why_empty
from pipeline.stages.select.split_table import split_report
from pipeline.stages.select.steps import step_reports
from pipeline.tables.parquet import to_parquet
from pipeline.target.manifest import Manifest


def plan_report(
    job: Job, infos: Sequence[IndexInfo], source: Report, planned: Planned, before: Manifest | None = None
) -> Report:
    """What the plan does and what the subset will be; not ok where images are lacking or doubled.

    `source` is the report of the indexes `infos`, `before` the manifest of the target as it is.
    """
    warnings = list(source.warnings)
    report = replace(source, data=_plan_data(job, infos, source, planned), warnings=warnings, grave=list(source.grave))
    if before is not None:
        report.warn_gravely(renumbered(before.report.get("classes", ()), job.classes))
    report.warn_gravely(lost_classes(job, infos, planned))
    nothing = empty(job, infos, planned)
    if nothing is not None:
        report.ok = report.incomplete = False
        report.warnings.append(f"{nothing}; a build would stop there")
    else:
        report.warn_gravely(
            [
                f"the subset has no {split} images, and trainers need them; {cure}"
                for split, cure in _lacking(job, infos, planned)
            ]
        )
    report.warn_once(moved(planned))
    report.warnings += planned.shape.warnings()
    report.warnings += overshoots(job, planned.totals.subset) if not planned.shape.waits_for else []
    report.warnings += doubled_warning(planned.doubled) + leak_warning(job, planned)
    report.warnings += source_warnings(job, planned)
    report.warnings += _unlabelled(job, report.data.get("unlabelled", {}))
    report.warn_gravely(_without_label(job, planned.totals.images["no_label"]) + _turned(planned))
    if planned.problems:
        report.ok, report.incomplete = False, job.config.on_error == "skip" and nothing is None
        report.warnings.append(_problem_warning(job, planned, report.data["problems"]))
    if job.config.target.images in ("hardlink", "symlink"):
        report.warnings.append(
            f"images are {job.config.target.images}s: what a trainer does to them (older ones "
            "re-save damaged JPEGs) happens to the source"
        )
    report.data["warnings"] = report.warnings
    if not report.ok:
        report.problems = problem_table(job, infos, planned.problems)
        path = f"{planned.folder}.problems.parquet"
        storage.locate_writable(job.workdir).write(os.path.relpath(path, job.workdir), to_parquet(report.problems))
        report.data["left_out"] = listed(report.problems, path)
    return report


def _plan_data(job: Job, infos: Sequence[IndexInfo], source: Report, planned: Planned) -> dict[str, Any]:
    """The report of a plan, as ``--json`` prints it, but for warnings and what was left out."""
    subset: dict[str, SplitCounts] = {s: planned.totals.subset[s] for s in SPLITS if s in planned.totals.subset}
    split = split_report(job, planned.split, subset) if planned.split is not None else None
    unlabelled = {name: planned.totals.unlabelled[name] for name in job.classes if name in planned.totals.unlabelled}
    return {
        **{name: value for name, value in source.data.items() if name != "buckets"},
        "target": job.root,
        "digest": planned.digest,
        "format": job.config.target.format,
        "classes": list(job.classes),
        "plan": all_actions(planned.totals.plan),
        "plan_files": planned.folder,
        "subset": {name: asdict(counts) for name, counts in subset.items()},
        "rows": row_balance(job, infos, planned.totals.rows),
        "images": image_balance(infos, planned.totals.images),
        "loss": planned.totals.loss,
        **({"unlabelled": unlabelled} if unlabelled else {}),
        "problems": _problem_counts(planned),
        "foreign": planned.conflicts,
        **({"split": split} if split is not None else {}),
        **({"lists": planned.shape.lists} if planned.shape.lists else {}),
        "steps": step_reports(planned.totals.steps, job.classes),
        "changes": planned.changes,
        "fetch": fetch_cost(job, planned),
    }


def _unlabelled(job: Job, counted: dict[str, int]) -> list[str]:
    """The warning for images that may hold objects of wanted classes without a label, `counted` by class."""
    counts = sorted(counted.items(), key=lambda pair: -pair[1])
    if not counts:
        return []
    (name, count), *others = counts
    several = "".join(f", {n:,} unlabelled {other!r}" for other, n in others[:4])
    more = f" (and so of {plural(len(others) - 4, 'more class', 'more classes')})" if len(others) > 4 else ""
    cure = job.config.written.setting("select.on_unlabelled", "drop")
    return [
        f"{plural(count, 'image')} may hold unlabelled {name!r}{several}{more}, which a trainer takes for background; "
        f"label those, or leave such images out with {cure}"
    ]


def _without_label(job: Job, count: int) -> list[str]:
    """The warning for `count` images that nobody labelled, for who wrote no config that leaves them out."""
    cure = job.config.written.setting("select.background", "unlabelled")
    shown = count and job.config.written.options is not None
    return [f"{plural(count, 'image')} without a label file left out; take them with {cure}"] if shown else []


def _turned(planned: Planned) -> list[str]:
    if not planned.turned:
        return []
    return [
        f"{plural(len(planned.turned), 'image')}, {planned.turned[0]} the first, shown turned by EXIF data: label "
        "files say their size without the turn; check their boxes with a viewer"
    ]


def fetch_cost(job: Job, planned: Planned, limits: storage.Limits | None = None) -> FetchCost:
    """What fetching remote images takes: how many, requests, and bytes where they are known.

    With `limits` servers are asked for the sizes of some, and the bytes are about right.
    """
    remote = remote_images(job, planned.sources, planned.buckets)
    costs = [storage.locate(url, job.workdir).ask(names, limits) for url, names in remote.items()]
    sizes = [cost.bytes for cost in costs]
    known = sum(size for size in sizes if size is not None)
    return {
        "images": sum(map(len, remote.values())),
        "requests": sum(cost.requests for cost in costs),
        "bytes": None if None in sizes else known,
        "about": any(cost.about for cost in costs),
    }


def _problem_counts(planned: Planned) -> dict[str, int]:
    return dict(Counter(problem.reason for problem in planned.problems))


def _lacking(job: Job, infos: Sequence[IndexInfo], planned: Planned) -> list[tuple[str, str]]:
    lacking = [split for split in ("train", "val") if not planned.totals.images_in(split)]
    if job.config.split is not None:
        return [(split, _larger_share(job, split)) for split in lacking]
    shared = shared_splits(job) if lacking else {}
    assign = job.config.written.setting("split", "{train: 0.8, val: 0.2}")
    found = []
    for split in lacking:
        if split in job.splits:
            found.append((split, f"split {split} of the source {why_empty(job, infos, planned, split)}"))
        elif split not in shared:  # which was said of the source
            named = (
                f"source.splits names no {split}: add it, as in `{split}: {split}2017`"
                if job.config.written.options is None
                else f"no split {split} was found: add its labels"
            )
            found.append((split, f"{named}, or assign images by {assign}"))
    return found


def _larger_share(job: Job, split: str) -> str:
    written = job.config.written
    if split in job.splits:
        return f"give it a larger share in {written.name_of('split')}, or set another {written.name_of('split.seed')}"
    return f"give it a share, as in {written.setting('split', '{train: 0.8, val: 0.2}')}"


def refuse(job: Job, infos: Sequence[IndexInfo], planned: Planned) -> None:
    """Stop before the first write where a file is a conflict, an image is lacking, or the subset is empty."""
    written = job.config.written
    if planned.conflicts:
        raise TargetError(
            f"{job.target.join(planned.conflicts[0])}: exists and was not made by coco-diy"
            f"{_and_more(len(planned.conflicts))}; move it, or choose another {written.name_of('target.root')}"
        )
    if planned.problems and job.config.on_error == "fail":
        first = planned.problems[0]
        cure = _CURES.get(first.reason, "get it again")
        cure = cure and f"; {cure}"
        raise DataError(f"{first.path}: {first.detail}{_and_more(len(planned.problems))}{cure}, or --set on_error=skip")
    if why := empty(job, infos, planned):
        raise DataError(f"{why}; correct {' or '.join(written.known(('source', 'classes', 'select')))}")


def _problem_warning(job: Job, planned: Planned, counts: dict[str, int]) -> str:
    reasons = ", ".join(
        f"{count:,} {words_of(count, _REASONS.get(reason, _BAD_IMAGE))}" for reason, count in counts.items()
    )
    end = "; a build would stop there (on_error: fail)" if job.config.on_error == "fail" else ""
    return f"{plural(len(planned.problems), 'image')} with a problem: {reasons}{end}"


_CURES = {
    "mixed": "make boxes of all with --set source.options.polygons=boxes",
    "no_image": "get the image",
    "image_suffix": "",  # each says its own
    "many_images": "remove all but one",
    "vanished": "run again",
    "other_size": "get the image that was labelled, or take its size with --set source.options.sizes=image (COCO JSON)",
}

_REASONS: dict[str, Words] = {
    "mixed": "with boxes and polygons in one label file: left out",
    "no_image": "without an image file: left out",
    "image_suffix": "of a suffix that is not read: left out",
    "many_images": "with several: the first taken",
    "vanished": ("gone since it was listed: left out", "gone since they were listed: left out"),
    "other_size": (
        "of another size than its label file says: taken",
        "of another size than their label files say: taken",
    ),
}

_BAD_IMAGE = "that cannot be used: left out"


def _and_more(count: int) -> str:
    return f" (and {count - 1:,} more)" if count > 1 else ""
