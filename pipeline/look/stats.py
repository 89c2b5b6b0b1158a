"""`coco-diy stats`: counts by class and split with the sizes of objects; of a config before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.api import source_stats, target_stats
from pipeline.base.errors import CocoDiyError
from pipeline.config.model import Config
from pipeline.look.numbers import statistics_of
from pipeline.look.view import open_view
from pipeline.reports.report import Report
from pipeline.reports.statistics import SIZES, Statistics, noteworthy
from pipeline.runtime.progress import Progress
from pipeline.storage import locate
from pipeline.target.manifest import FOLDER


def stats(
    what: str | Config, workdir: str, progress: Progress | None = None, engine: Mapping[str, Any] | None = None
) -> Report:
    """Counts of a config's source and, as ``after``, of what it makes; of a target as its manifest says; of a folder.

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
        made_of = view.facts["made_of"]
        report.data["after"] = {"classes": list(view.classes), "made_of": made_of} | counts_of(found, view.classes)
        return report
    if locate(what.removesuffix(f"/{FOLDER}/manifest.json")).exist_many([f"{FOLDER}/manifest.json"])[0]:
        report = target_stats(what)
        report.data["sizes"] = None
        try:
            view = open_view(what, workdir, progress, engine)
            report.data["sizes"] = counts_of(statistics_of(view, progress), view.classes)["sizes"]
        except CocoDiyError as error:
            report.warnings.append(f"sizes of objects are not known: {error}")
        return report
    view = open_view(what, workdir, progress, engine)
    counts = counts_of(statistics_of(view, progress), view.classes)
    data = {"command": "stats", "of": "folder", "folder": what, "classes": list(view.classes)} | counts
    return Report(data, warnings=list(view.facts["warnings"]))


def counts_of(found: Statistics, classes: tuple[str, ...]) -> dict[str, Any]:
    """Counts, sizes and what is noteworthy, in the form that reports have."""
    sizes = {
        split: {
            name: dict(zip(SIZES, row, strict=True)) for name, row in zip(classes, counts.sizes.tolist(), strict=True)
        }
        for split, counts in found.splits.items()
    }
    notes = [{"text": n.text, "source": n.source, "grave": n.grave} for n in noteworthy(found, classes)]
    return {"subset": found.as_subset(classes), "sizes": sizes, "notes": notes}
