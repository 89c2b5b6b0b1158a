"""Classes with their images, objects, shares and sizes: for a terminal and as CSV. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.base.humanize import plural
from pipeline.base.terms import SPLITS
from pipeline.reports.statistics import SIZES, unsized_text
from pipeline.reports.text import table

_BAR = 24

#: Characters of what a class is made of, at most.
_ORIGIN = 40

#: Eighths of a character's width.
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class ClassRow:
    """One class: id, name, images and objects by split, the share of all objects, and objects by size if known."""

    number: int
    name: str
    images: dict[str, int]
    objects: dict[str, int]
    share: float
    sizes: tuple[int, ...] | None

    @property
    def total(self) -> int:
        """Objects of all splits."""
        return sum(self.objects.values())


def class_rows(data: Mapping[str, Any], *, every: bool = False) -> list[ClassRow]:
    """The classes of a report (``classes``, ``subset``, ``sizes``), most objects first; `every`: also empty ones."""
    subset, sizes = data["subset"], data.get("sizes")
    splits: list[str] = [split for split in SPLITS if split in subset]
    all_objects = sum(sum(subset[s]["objects"].values()) for s in splits)
    rows = []
    for number, name in enumerate(data["classes"]):
        objects = {s: subset[s]["objects"][name] for s in splits}
        images = {s: subset[s]["images_by_class"][name] for s in splits}
        share = sum(objects.values()) / all_objects if all_objects else 0.0
        known = [sizes[s][name] for s in splits if s in sizes] if sizes else None
        counts = tuple(sum(one[size] for one in known) for size in SIZES) if known is not None else None
        if every or sum(objects.values()):
            rows.append(ClassRow(number, name, images, objects, share, counts))
    return sorted(rows, key=lambda row: (-row.total, row.number))


def stats_text(data: Mapping[str, Any], *, every: bool = False, bars: bool = False) -> str:
    """What `coco-diy stats` prints; with `bars` each class has one, for a terminal."""
    if data.get("after") is None:
        return _one_text(data, every=every, bars=bars)
    parts = [("Before: the source", data), ("After: what a build makes", data["after"])]
    return "\n\n".join(f"{title}\n\n{_one_text(one, every=every, bars=bars)}" for title, one in parts)


def _one_text(data: Mapping[str, Any], *, every: bool, bars: bool) -> str:
    rows = class_rows(data, every=every)
    splits = [split for split in SPLITS if split in data["subset"]]
    sized = any(row.sizes is not None for row in rows)
    old = renamed(data.get("made_of") or {}, data["classes"])
    header = ["class", *[f"{s} {what}" for s in splits for what in ("images", "objects")], "share"]
    header += [*(SIZES if sized else ()), *([""] if bars else [])]
    most = max((row.total for row in rows), default=0)
    lines: list[list[str | int]] = []
    for row in rows:
        cells: list[str | int] = [f"{row.number} {row.name}{_origin(old[row.number]) if old else ''}"]
        for split in splits:
            cells += [row.images[split], row.objects[split]]
        cells += [f"{row.share:.1%}", *((row.sizes or ()) if sized else ())]
        lines.append([*cells, *([bar(row.total, most)] if bars else [])])
    total: list[str | int] = ["total"]
    for split in splits:
        total += [data["subset"][split]["images"], sum(data["subset"][split]["objects"].values())]
    total += ["", *([sum(row.sizes[i] for row in rows if row.sizes) for i in range(len(SIZES))] if sized else [])]
    parts = [table(header, lines, total=[*total, *([""] if bars else [])])]
    if sized and (unsized := sum(row.total - sum(row.sizes or ()) for row in rows)):
        parts.append(unsized_text(unsized, sum(row.total for row in rows)))
    if hidden := len(data["classes"]) - len(rows):
        parts.append(f"{plural(hidden, 'class', 'classes')} without an object; --all shows them.")
    return "\n".join(parts)


def renamed(made_of: Mapping[str, Sequence[str]], classes: Sequence[str]) -> list[Sequence[str]]:
    """Of each class what of the source it is made of; nothing where all of them have the ids and names they had."""
    found = [made_of.get(name, ()) for name in classes]
    same = all(
        list(old) in ([], [name], [f"{i} {name}"]) for i, (name, old) in enumerate(zip(classes, found, strict=True))
    )
    return [] if same else found


def _origin(names: Sequence[str]) -> str:
    """What a class is made of, behind its name."""
    text = ", ".join(names)
    return f" <- {text if len(text) <= _ORIGIN else text[: _ORIGIN - 1] + '…'}" if text else ""


def bar(count: int, most: int, width: int = _BAR) -> str:
    """A bar of block elements as long as `count` is of `most`, padded to `width` characters."""
    eighths = round(8 * width * count / most) if most else 0
    whole, rest = divmod(max(eighths, 1 if count else 0), 8)
    return ("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(width)


#: What a formula begins with.
_FORMULAS = tuple("=+-@\t\r")


def stats_csv(data: Mapping[str, Any], *, every: bool = False) -> str:
    """The same as CSV: a row a class; of a config the column ``of`` says source or subset.

    A name that spreadsheets take for a formula begins with an apostrophe, as OWASP has it ("CSV injection").
    """
    parts = [(data["of"], data), *([("subset", data["after"])] if data.get("after") else [])]
    splits = [s for s in SPLITS if any(s in part["subset"] for _, part in parts)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [f"{what}_{s}" for s in splits for what in ("images", "objects")]
    writer.writerow(["of", "id", "class", *names, "share", *SIZES])
    for of, part in parts:
        for row in class_rows(part, every=every):
            counts = [side.get(s, 0) for s in splits for side in (row.images, row.objects)]
            sizes = row.sizes if row.sizes is not None else [""] * len(SIZES)
            name = f"'{row.name}" if row.name[:1] in _FORMULAS else row.name
            writer.writerow([of, row.number, name, *counts, f"{row.share:.6f}", *sizes])
    return out.getvalue().rstrip("\n")
