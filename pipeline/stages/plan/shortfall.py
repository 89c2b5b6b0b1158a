"""What a subset lacks, and why: classes without an object, splits without an image, nothing at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.base.humanize import noun, plural
from pipeline.job.job import Job
from pipeline.reports.counts import add_counts, label_files
from pipeline.reports.text import left_out_words
from pipeline.reports.words import LOSSES, words_of
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.plan.planned import Planned


def renumbered(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """The warning for classes that the target has by another number, if there are any."""
    moved = [
        f"{name!r} was {old}, is {now.index(name)}"
        for old, name in enumerate(before)
        if name in now and now.index(name) != old
    ]
    if not moved:
        return []
    more = f" (and {len(moved) - 5:,} more)" if len(moved) > 5 else ""
    return [
        f"class numbers change at the target: {', '.join(moved[:5])}{more}; models trained on the old ones do not "
        "fit, so keep the order of `classes` or of the names, or build into a new folder"
    ]


def _objects_of(job: Job, infos: Sequence[IndexInfo]) -> dict[str, int]:
    """Objects of the subset's classes in the sources, by class; read ones alone."""
    counts: dict[str, int] = dict.fromkeys(job.classes, 0)
    for source, info, classes in zip(job.sources, infos, job.maps, strict=True):
        named = source.named
        number = {
            name if named else str(i): new
            for i, (name, new) in enumerate(zip(classes.source, classes.lut, strict=True))
        }
        for totals in info.totals.values():
            for key, count in totals["objects"].items():
                if number.get(key, -1) >= 0:
                    counts[job.classes[number[key]]] += count
    return counts


def lost_classes(job: Job, infos: Sequence[IndexInfo], planned: Planned) -> list[str]:
    """Sentences for the classes of which nothing is left, though the sources have objects of them."""
    found = []
    for name, count in _objects_of(job, infos).items():
        if any(counts.objects.get(name) for counts in planned.totals.subset.values()):
            continue
        if reasons := _lost_objects(planned, classes=(name,)):
            cure = _cure_of(reasons)
            found.append(f"class {name!r} has no object in the subset: all are left out ({_reasons(reasons)}){cure}")
        elif count:
            all_of = f"all {plural(count, 'object')}" if count > 1 else "the one object"
            found.append(f"{all_of} of class {name!r} {noun(count, 'is', 'are')} left out")
    return found


def _lost_objects(
    planned: Planned, *, split: str | None = None, classes: Sequence[str] | None = None
) -> dict[str, int]:
    """Wanted objects that the target cannot have, by reason: of one split and of some classes, or of all."""
    counts: dict[str, int] = {}
    for side, of_split in planned.totals.lost_of.items():
        for name, reasons in of_split.items() if split in (None, side) else ():
            if classes is None or name in classes:
                add_counts(counts, reasons)
    return counts


def _cure_of(reasons: Mapping[str, int]) -> str:
    return "; --set source.options.crowd=keep takes crowds as objects" if "crowd" in reasons else ""


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(
        f"{count:,} {words_of(count, LOSSES.get(reason, reason))}" for reason, count in sorted(counts.items())
    )


def why_empty(job: Job, infos: Sequence[IndexInfo], planned: Planned, split: str | None = None) -> str:
    """Why the subset has no image of a split of the source, or of any: no files, no object of its classes, or what."""
    files, labels, rows, objects = 0, 0, 0, 0
    for source, classes, info in zip(job.sources, job.maps, infos, strict=True):
        wanted = classes.wanted_names if source.named else [str(i) for i in classes.wanted_ids]
        for name, counts in info.totals.items():
            if split in (None, name):
                files += counts["images"] + counts["no_image"]
                labels += label_files(counts["labels"])
                rows += sum(counts["objects"].values())
                objects += sum(counts["objects"].get(i, 0) for i in wanted)
    lost = _lost_objects(planned, split=split)
    if lost and not objects:
        return f"has objects of these classes, and none can be used: {_reasons(lost)}{_cure_of(lost)}"
    bad = any(
        info.odd or info.totals[name]["problems"] for info in infos for name in info.totals if split in (None, name)
    )
    if bad and not objects:
        return "has objects of these classes, if any, in bad rows or files alone, which are left out"
    for count, lacks in (
        (files, "label file and no image"),
        (labels, "label file"),
        (rows, "object of any class"),
        (objects, "object of these classes"),
    ):
        if not count:
            return f"has no {lacks}"
    unused = planned.totals.images | {"lost": planned.totals.rows["lost"]}
    reasons = {key: n for key, n in unused.items() if key not in ("kept", "background", "no_label", "other_classes")}
    why = _reasons(lost) + _cure_of(lost) if lost else left_out_words(reasons)
    return f"has {plural(objects, 'object')} of these classes, and none can be used" + (f": {why}" if why else "")


def empty(job: Job, infos: Sequence[IndexInfo], planned: Planned) -> str | None:
    """The sentence for a subset without an image, with the cause; None for any other."""
    if any(counts.images for counts in planned.totals.subset.values()):
        return None
    return f"{job.root}: the subset would be empty: the source {why_empty(job, infos, planned)}"


def moved(planned: Planned) -> list[str]:
    """A warning for images that change sides: a model that was trained on them is not to be tested on them."""
    count, sides = planned.loss.moved, planned.loss.sides
    if not count and planned.split is not None:  # of a zip or a JSON alone the split table knows
        count, sides = len(planned.split.moved), sorted(planned.split.moved)[:3]
    names = ", ".join(f"{name} ({before} to {after})" for name, before, after in sides)
    return [f"{plural(count, 'image')} in another split than before: {names}"] if count else []
