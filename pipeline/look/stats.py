"""`coco-diy stats`: counts by class and split with the sizes of objects; of a config before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.api import source_stats, target_stats
from pipeline.base.errors import CocoDiyError
from pipeline.config.model import Config
from pipeline.job.made_subset import made_of_target
from pipeline.look.numbers import statistics_of
from pipeline.look.view import open_view
from pipeline.reports.report import Report
from pipeline.reports.statistics import SIZES, Statistics, noteworthy
from pipeline.runtime.progress import Progress
from pipeline.stages.verify.status import target_at


def stats(
    what: str | Config, workdir: str, progress: Progress | None = None, engine: Mapping[str, Any] | None = None
) -> Report:
    """Counts of a config's source and, as ``after``, of what it makes; of a target as its manifest says; of a folder.

    ``made_of`` is, by class, what of the source it is made of, old ids with names (`base.classes.made_of`).
    ``sizes`` are objects by size (`SIZES`), by split and class; None where the objects themselves cannot be read.
    """
    progress = progress or Progress()
    if isinstance(what, Config):
        report = source_stats(what, progress)
        report.data["after"] = None
        try:
            view = open_view(what, workdir, progress, engine)
        except CocoDiyError as error:
            report.warnings.append(f"what would be made is not known: {error}")
            return report
        found = statistics_of(view, progress)
        report.warnings += [warning for warning in view.facts["warnings"] if warning not in report.warnings]
        made_of = view.facts["made_of"]
        report.data["after"] = {"made_of": made_of} | _with_notes(found, view.classes)
        return report
    if (target := target_at(what)) is not None:
        report = target_stats(what)
        report.data["made_of"] = made_of_target(target.made)
        report.data["sizes"] = None
        try:
            view = open_view(what, workdir, progress, engine)
            report.data["sizes"] = _sizes_of(statistics_of(view, progress), view.classes)
        except CocoDiyError as error:
            report.warnings.append(f"sizes of objects are not known: {error}")
        return report
    view = open_view(what, workdir, progress, engine)
    data = {"command": "stats", "of": "folder", "folder": what}
    counts = _with_notes(statistics_of(view, progress), view.classes)
    return Report(data | counts, warnings=list(view.facts["warnings"]))


def counts_of(found: Statistics, classes: tuple[str, ...]) -> dict[str, Any]:
    """Classes, counts and sizes, in the form that reports have."""
    return {"classes": list(classes), "subset": found.as_subset(classes), "sizes": _sizes_of(found, classes)}


def _with_notes(found: Statistics, classes: tuple[str, ...]) -> dict[str, Any]:
    """The counts, and what is noteworthy about them."""
    notes = [{"text": n.text, "source": n.source, "grave": n.grave} for n in noteworthy(found, classes)]
    return counts_of(found, classes) | {"notes": notes}


def _sizes_of(found: Statistics, classes: tuple[str, ...]) -> dict[str, dict[str, dict[str, int]]] | None:
    """Objects by size (`SIZES`), by split and class; None where the size in pixels of no image is known."""
    if found.unsized and found.unsized == found.objects:
        return None
    return {
        split: {
            name: dict(zip(SIZES, row, strict=True)) for name, row in zip(classes, counts.sizes.tolist(), strict=True)
        }
        for split, counts in found.splits.items()
    }
