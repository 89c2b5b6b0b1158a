"""`coco-diy report`: what the page of a view says, gathered."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from pipeline import storage
from pipeline.base.humanize import noun, plural
from pipeline.base.redaction import redact_url
from pipeline.base.version import __version__
from pipeline.config.model import Config
from pipeline.look.fonts import Lettering
from pipeline.look.heat import heat_png
from pipeline.look.html_page import MOST_NAMES, PageData, PagePicture, render
from pipeline.look.numbers import statistics_of
from pipeline.look.sample import Sample, Shown, Wish, choose, pictures
from pipeline.look.sheet import draw_sheet
from pipeline.look.stats import counts_of
from pipeline.look.thumbnails import DESCRIPTION, encoded, fitted
from pipeline.look.view import View, open_view
from pipeline.reports import class_table
from pipeline.reports.class_table import renamed, stats_csv
from pipeline.reports.dataset_card import PAGE, SHEET
from pipeline.reports.report import Report
from pipeline.reports.statistics import Note, Statistics, noteworthy
from pipeline.reports.steps_text import CLASSES, STEPS, class_rows, is_shaped, objects_after, step_rows
from pipeline.reports.words import balance, counted, lost
from pipeline.runtime.progress import Progress
from pipeline.stages.index.reader import read_table
from pipeline.stages.select.steps import Step

#: Pictures of a page at most, and so many of each class.
_MOST_PICTURES, _OF_CLASS = 160, 6

#: Bytes of all pictures of a page, as JPEG; base64 takes a third more.
_MOST_BYTES = 2_900_000

#: Elements of all pictures of a page: with those of the rest a browser has no more than 6,000 to lay out.
_MOST_NODES = 3_700

#: Sides of pictures in pixels: of few, and of many; and the quality of their JPEG.
_SIDES, _FEW, _QUALITY = (480, 240), 48, 60

#: Classes of the picture of pairs.
_PAIRED = 40

#: Problems that are listed with the file's name.
_LISTED = 10


def page_of(view: View, progress: Progress | None = None, *, images: bool = True, seed: int = 0) -> bytes:
    """The page of `view` as HTML; without `images` no picture is embedded."""
    progress = progress or Progress()
    found = statistics_of(view, progress)
    data = counts_of(found, view.classes)
    page = PageData(
        view.what,
        _KINDS[view.kind],
        _facts(view),
        view.classes,
        found,
        class_table.class_rows(data, every=True),
        stats_csv({**data, "of": view.kind}, every=True),
        [*_problem_notes(view), *noteworthy(found, view.classes)],
        _loss(view),
        *_steps(view),
        {"centres": heat_png(found.centres), "boxes": heat_png(found.boxes)},
        made_of=_made_of(view),
        tool=f"coco-diy {__version__}",
    )
    _add_pairs(page, found)
    if images:
        page.pictures = list(_pictures(view, found, progress, seed))
    page.why_none = "No picture is embedded (--no-images)." if not images else "There is no image that can be shown."
    return render(page)


def leave_page(config: Config, report: Report, progress: Progress | None = None) -> None:
    """Write page and sheet of the target that `config` has made beside its run records.

    The `report` of that build says where the page is, and what could not be written on the sheet.
    """
    target = storage.locate_writable(config.target.root)
    view = open_view(target.url, config.workdir, progress, config.engine.model_dump(exclude={"performance_report"}))
    folder = target.own(os.path.dirname(PAGE))
    page, sheet = (os.path.basename(path) for path in (PAGE, SHEET))
    if config.target.images != "none":
        letters = Lettering()
        folder.write(
            sheet, encoded(draw_sheet(view, letters=letters), os.path.splitext(sheet)[1], description=DESCRIPTION)
        )
        report.warnings += letters.advice()
    folder.write(page, page_of(view, progress))
    report.data["report"] = folder.join(page)


_KINDS = {
    "config": "What a build of this config makes",
    "target": "A data set that coco-diy made",
    "folder": "A folder with a data set",
}


def _facts(view: View) -> list[tuple[str, str]]:
    facts = view.facts
    listed = [("of", redact_url(str(root))) for root in facts.get("made_from", ())]
    listed += [("from", redact_url(str(s["root"]))) for s in facts["sources"] if s["root"] and view.kind != "target"]
    listed += [("at", redact_url(facts["target"]))] if "target" in facts else []
    tasks = sorted({f"{s['format']}, task {s['task']}" for s in facts["sources"]})
    listed += [("", text) for text in tasks]
    if facts.get("time"):
        stamp = facts["time"]
        listed.append(("last run", f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]} {stamp[9:11]}:{stamp[11:13]} UTC"))
    listed += [("by", facts.get("tool", f"coco-diy {__version__}"))]
    listed += [("digest", str(facts.get("digest") or facts["fingerprint"])[:12])]
    return listed


def _made_of(view: View) -> list[tuple[int, str, str]]:
    old = renamed(view.facts["made_of"], view.classes)
    return [(i, view.classes[i], ", ".join(names)) for i, names in enumerate(old) if names]


def _problem_notes(view: View) -> list[Note]:
    """What could not be read, with the first files' names; and the warnings of the run that made it."""
    notes = [Note(text, grave=True) for text in view.facts["warnings"][:_LISTED]]
    for row in islice(_problems(view), _LISTED):
        line = f", line {row['line']}" if row["line"] else ""
        notes.append(Note(f"{redact_url(row['path'])}{line}: {row['detail']}", "could not be taken", grave=True))
    more = sum(view.facts["problems"].values()) - _LISTED
    return [*notes, *([Note(f"{plural(more, 'more problem')} of the same source.", grave=True)] if more > 0 else [])]


def _problems(view: View) -> Iterator[dict[str, Any]]:
    if not view.facts["problems"]:
        return
    for source in view.sources:
        for bucket in range(source.buckets):
            yield from read_table(source.index_dir, "problems", bucket).to_pylist()


def _loss(view: View) -> list[str]:
    """What a build left out or changed, in words."""
    report = view.facts.get("report")
    if not report:
        return []
    lines = []
    for what in ("images", "rows"):
        counts = report.get(what)
        if counts:
            drops = "; ".join(f"{n:,} {words}" for n, words in lost(counts))
            kept = balance(counts, "image" if what == "images" else "object")
            lines.append(f"{kept} {noun(counts['kept'], 'is', 'are')} in it{f': {drops}' if drops else ''}.")
    return [*lines, *counted(report.get("loss", {}))]


def _steps(view: View) -> tuple[list[Sequence[str | int]], list[Sequence[str | int]]]:
    """The steps of the selection, and the classes before and after, largest first; neither where it only takes some."""
    report = view.facts.get("report")
    if not report or not is_shaped(report.get("steps", {})):
        return [], []
    steps = {step.word: report["steps"][step.word] for step in Step}  # in a manifest keys are sorted
    rows = sorted(class_rows(steps, objects_after(report)), key=lambda row: (-int(row[1]), row[0]))
    return [STEPS, *step_rows(steps)], [CLASSES, *rows]


def _add_pairs(page: PageData, found: Statistics) -> None:
    """The picture of pairs: of the largest classes, most objects first."""
    import numpy as np

    if not found.pairs:
        return
    numbers = [row.number for row in page.rows if row.total][:_PAIRED]
    index = {number: i for i, number in enumerate(numbers)}
    table = np.zeros((len(numbers), len(numbers)), np.int64)
    for (first, second), count in found.pairs.items():
        if first in index and second in index:
            table[index[first], index[second]] = table[index[second], index[first]] = count
    page.heats["pairs"] = heat_png(table)
    page.pair_names = [page.classes[i] for i in numbers]
    top = sorted(found.pairs.items(), key=lambda pair: (-pair[1], pair[0]))[:10]
    page.top_pairs = [(page.classes[a], page.classes[b], n) for (a, b), n in top]


def _pictures(view: View, found: Statistics, progress: Progress, seed: int) -> Iterator[PagePicture]:
    """Pictures of a sample of each class, those of large classes first, as many as there is room for."""
    samples = _samples(view, found, seed)
    side = _SIDES[0] if len(samples) <= _FEW else _SIDES[1]
    made: dict[int, PagePicture] = {}
    with progress.stage("pictures", len(samples), "images") as step:
        for number, shown in pictures(view, samples, side):
            step.add(1)
            if (picture := _picture(shown, side)) is not None:
                made[number] = picture
    room, nodes = _MOST_BYTES, _MOST_NODES
    for number in sorted(made):
        shapes = made[number].shapes
        size = len(made[number].jpeg) + 30 * sum(s.corners for s in shapes)
        numbers = {s.class_id for s in shapes}
        count = 7 + len(numbers) + len({s.class_id for s in shapes if s.polygons}) + min(MOST_NAMES, len(numbers))
        if size <= room and count <= nodes:
            room, nodes = room - size, nodes - count
            yield made[number]


def _samples(view: View, found: Statistics, seed: int) -> list[Sample]:
    if not found.objects:
        return choose(view, Wish(_FEW, seed))
    import numpy as np

    objects = found.total("objects")
    order = [int(i) for i in np.argsort(-objects, kind="stable") if objects[i]][:_MOST_PICTURES]
    each = min(_OF_CLASS, max(1, _MOST_PICTURES // len(order)))
    if len(order) == 1:
        each = _FEW // 2
    return choose(view, Wish(0, seed, tuple(order), each=each))[:_MOST_PICTURES]


def _picture(shown: Shown, side: int) -> PagePicture | None:
    if shown.opened is None:
        return None
    small = fitted(shown.opened.image, side)
    name = (shown.sample.path or shown.sample.key).rpartition("/")[2]
    return PagePicture(
        encoded(small, ".jpg", _QUALITY), small.size, shown.opened.size, name, shown.sample.split, shown.shapes,
        shown.sample.others,
    )  # fmt: skip
