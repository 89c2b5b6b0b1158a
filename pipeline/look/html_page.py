"""One page of HTML that says what a dataset holds: a file of its own, which asks nobody for anything. Pure.

Names and paths are text and nothing else: all of it is escaped, its direction is its own (``bdi``), and the page's own
policy lets no other script or style run and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from pipeline.base.humanize import noun, plural
from pipeline.base.text import printable
from pipeline.look.colours import colour_of
from pipeline.reports.class_table import ClassRow
from pipeline.reports.statistics import ASPECTS, SIZES, Note, Statistics

if TYPE_CHECKING:
    from pipeline.look.shapes import Shape

#: What says that a page is ours.
GENERATOR = '<meta name="generator" content="coco-diy">'

#: Rows of the table of classes that are shown at once; all are in its CSV.
MOST_ROWS = 100

#: Rows of the tables of what a selection did.
_MOST_FLOW = 40

#: Classes of one picture whose names are written on it.
MOST_NAMES = 8

#: Classes that a caption, or a line of the head, names one by one.
_NAMED = 12


@dataclass(frozen=True)
class PagePicture:
    """A picture of the gallery: a JPEG of some size, what the image is called, its size in pixels, and its objects.

    Of a crowded image `shapes` are the largest, and so many `others` are not drawn.
    """

    jpeg: bytes
    size: tuple[int, int]
    image_size: tuple[int, int]
    name: str
    split: str
    shapes: tuple[Shape, ...]
    others: int = 0


@dataclass
class PageData:
    """What the page says; `facts` are rows (what, value), `loss` lines, `steps` and `balance` tables, header first.

    `heats` are PNGs by what they show: centres, boxes and, where there are several classes, pairs; `pair_names` are the
    classes of the last, and `top_pairs` the commonest pairs with the number of their images.
    """

    title: str
    kind: str
    facts: list[tuple[str, str]]
    classes: Sequence[str]
    found: Statistics
    rows: list[ClassRow]
    csv: str
    notes: list[Note]
    loss: list[str]
    steps: list[Sequence[str | int]]
    balance: list[Sequence[str | int]]
    heats: dict[str, bytes]
    pair_names: list[str] = field(default_factory=list)
    top_pairs: list[tuple[str, str, int]] = field(default_factory=list)
    made_of: list[tuple[int, str, str]] = field(default_factory=list)
    pictures: list[PagePicture] = field(default_factory=list)
    why_none: str = ""
    tool: str = ""


def render(data: PageData) -> bytes:
    """The page as UTF-8."""
    style = _asset("page.css")
    script = _asset("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        f'<meta name="referrer" content="no-referrer">\n{GENERATOR}\n',
        f"<title>{_text(data.title)}</title>\n<style>{style}</style>\n</head>\n<body>\n",
        _head(data),
        "<main>\n",
        _classes(data),
        _charts(data),
        _gallery(data),
        _origin(data),
        f"</main>\n<footer>{_text(data.tool)}. This page asks no server for anything"
        f"{'; it holds copies of images' if data.pictures else ''}.</footer>\n",
        f'<script type="application/json" id="data">{_json(data)}</script>\n',
        f"<script>{script}</script>\n</body>\n</html>\n",
    ]
    return "".join(parts).encode("utf-8", "replace")


def _asset(name: str) -> str:
    found = pkgutil.get_data("pipeline.look", name)
    assert found is not None
    return found.decode()


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _text(value: str) -> str:
    """`value` as text of the page: escaped, and what is invisible or turns the direction of writing made visible."""
    return escape(printable(value))


def _name(value: str) -> str:
    """A name as text whose direction of writing changes nothing around it."""
    return f"<bdi>{_text(value)}</bdi>"


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _head(data: PageData) -> str:
    found = data.found
    numbers = [
        (found.images, noun(found.images, "image")),
        *((counts.images, f"in {split}") for split, counts in found.splits.items() if len(found.splits) > 1),
        (found.objects, noun(found.objects, "object")),
        (len(data.classes), noun(len(data.classes), "class", "classes")),
        (found.backgrounds, "without an object"),
    ]
    boxes = "".join(f"<div><b>{count:,}</b><span>{_text(what)}</span></div>" for count, what in numbers)
    notes = "".join(_note(note) for note in data.notes) or (
        '<li class="fine">Nothing noteworthy by any of the thresholds of this page.</li>'
    )
    facts = " · ".join(f"{_text(what)} {_name(value)}" if what else _name(value) for what, value in data.facts)
    loss = (
        '<h2 id="loss">What was left out or changed</h2>\n<ul class="card plain">'
        + "".join(f"<li>{_text(line)}</li>" for line in data.loss)
        + "</ul>\n"
        if data.loss
        else ""
    )
    loss += _table("steps", "How it was selected", data.steps)
    loss += _table("balance", "Classes before and after", data.balance)
    return (
        f'<header>\n<h1>{_name(data.title)}</h1>\n<p class="kind">{_text(data.kind)}</p>\n<p class="kind">{facts}</p>\n'
        f'{_renamed(data)}<div class="numbers">{boxes}</div>\n<ul class="notes">{notes}</ul>\n{loss}</header>\n'
    )


def _table(ident: str, title: str, rows: Sequence[Sequence[str | int]]) -> str:
    """A small table, the first of `rows` its header, the first cell of each a name. Nothing without rows."""
    if not rows:
        return ""
    header, *body = rows
    heads = "".join(f'<th scope="col">{_text(str(name))}</th>' for name in header)
    lines = []
    for name, *rest in body[:_MOST_FLOW]:
        cells = "".join(f"<td>{f'{cell:,}' if isinstance(cell, int) else _text(cell)}</td>" for cell in rest)
        lines.append(f"<tr><td>{_name(str(name))}</td>{cells}</tr>\n")
    more = len(body) - _MOST_FLOW
    others = f"<p><small>and {more:,} more</small></p>\n" if more > 0 else ""
    return (
        f'<h2 id="{ident}">{title}</h2>\n<div class="scroll"><table class="flow"><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{''.join(lines)}</tbody></table></div>\n{others}"
    )


def _renamed(data: PageData) -> str:
    """What the first classes are made of, old id and name to new; the table at the end has all of them."""
    if not data.made_of:
        return ""
    pairs = [f"{_name(old)} → {_name(f'{number} {name}')}" for number, name, old in data.made_of[:_NAMED]]
    more = [f'<a href="#origin">all {len(data.made_of):,}</a>'] if len(data.made_of) > _NAMED else []
    return f'<p class="kind">classes {" · ".join([*pairs, *more])}</p>\n'


def _note(note: Note) -> str:
    source = f"<small>{_text(note.source)}</small>" if note.source else ""
    kind = ' class="grave"' if note.grave else ""
    return f"<li{kind}>{_text(note.text)}{source}</li>"


def _columns(data: PageData) -> list[str]:
    sized = any(row.sizes is not None for row in data.rows)
    of_splits = [f"{split} {what}" for split in data.found.splits for what in ("images", "objects")]
    return ["id", "class", *of_splits, *(SIZES if sized else ()), "share"]


def _cells(data: PageData, row: ClassRow) -> list[str | int]:
    cells: list[str | int] = [row.number, printable(row.name)]
    for split in data.found.splits:
        cells += [row.images[split], row.objects[split]]
    sized = any(other.sizes is not None for other in data.rows)
    return [*cells, *((row.sizes or [0] * len(SIZES)) if sized else ()), f"{row.share:.1%}"]


def _bar(row: ClassRow, most: int) -> float:
    return round(100 * row.total / most, 2) if most else 0.0


def _box(kind: str, fill: str, width: float) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect fill="{fill}" width="{width:g}" height="10"/></svg>'
    )


def _classes(data: PageData) -> str:
    most = max((row.total for row in data.rows), default=0)
    header = "".join(f'<th scope="col"><button type="button">{_text(name)}</button></th>' for name in _columns(data))
    lines = []
    for row in data.rows[:MOST_ROWS]:
        number, name, *rest = _cells(data, row)
        cells = "".join(f"<td>{value:,}</td>" if isinstance(value, int) else f"<td>{value}</td>" for value in rest)
        swatch = _box("swatch", colour_of(row.number), 100)
        bar = _box("bar", "currentColor", _bar(row, most))
        lines.append(
            f"<tr><td>{number}</td><td>{swatch}<bdi>{escape(str(name))}</bdi></td>{cells}<td>{bar}</td></tr>\n"
        )
    more = len(data.rows) - MOST_ROWS
    shown = f"the first {MOST_ROWS} of {plural(len(data.rows), 'class', 'classes')}" if more > 0 else ""
    return (
        '<h2 id="table">Classes</h2>\n<div class="tools"><input id="search" type="search" placeholder="Find a class" '
        'aria-label="Find a class"><button id="copy" type="button">Copy as CSV</button></div>\n'
        f'<div class="scroll"><table id="classes"><thead><tr>{header}<th></th></tr></thead>\n<tbody>\n{"".join(lines)}'
        f'</tbody></table></div>\n<p><small id="shown">{shown}</small></p>\n'
        f'<details><summary>All classes as CSV</summary><pre id="csv">{escape(data.csv)}</pre></details>\n'
    )


def _charts(data: PageData) -> str:
    found = data.found
    if not found.objects:
        return ""
    cards = [
        _heat(
            data, "centres", "Where objects are", "centres of boxes, the image from its top left to its bottom right"
        ),
        _heat(data, "boxes", "How large they are", "width to the right, height downwards, as shares of the image"),
        f'<div class="stack">{_aspects(found)}{_per_image(found)}</div>',
    ]
    if "pairs" in data.heats:
        names = data.pair_names
        order = ", ".join(names) if len(names) <= _NAMED else f"the {len(names)} with most objects, in that order"
        cards.append(_heat(data, "pairs", "Classes in one image", f"the stronger, the more images have both: {order}"))
        pairs = "".join(
            f"<li><bdi>{_text(a)} · {_text(b)}</bdi><span>{plural(n, 'image')}</span></li>"
            for a, b, n in data.top_pairs
        )
        cards.append(f'<div class="card"><h3>Most often together</h3><ol class="pairs">{pairs}</ol></div>')
    return f'<h2 id="shapes">Objects</h2>\n<div class="cards">{"".join(cards)}</div>\n'


def _heat(data: PageData, key: str, title: str, caption: str) -> str:
    return (
        f'<figure class="card"><h3>{title}</h3><img class="heat" alt="{escape(f"{title}: {caption}"[:300])}" '
        f'src="{_uri("png", data.heats[key])}"><figcaption>{_text(caption)}</figcaption></figure>'
    )


def _histogram(title: str, caption: str, counts: Sequence[int], labels: dict[int, str]) -> str:
    """A card with bars; `labels` are those of some of them."""
    most = max(counts) or 1
    width = 300 / len(counts)
    gap = min(2.0, width / 5)
    heights = [(i, max(1.0, 112 * n / most)) for i, n in enumerate(counts) if n]
    bars = "".join(f"M{i * width + gap / 2:.1f} 120v-{h:.1f}h{width - gap:.1f}v{h:.1f}z" for i, h in heights)
    texts = "".join(
        f'<text x="{(i + 0.5) * width:.1f}" y="134" text-anchor="middle">{escape(text)}</text>'
        for i, text in labels.items()
    )
    return (
        f'<figure class="card"><h3>{title}</h3><svg class="chart" viewBox="0 0 300 138" role="img" '
        f'aria-label="{escape(f"{title}: {caption}")}"><path fill="currentColor" d="{bars}"/>{texts}</svg>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _aspects(found: Statistics) -> str:
    counts = found.aspects.tolist()
    labels = {0: "1:16", ASPECTS // 4: "1:4", ASPECTS // 2: "1:1", 3 * ASPECTS // 4: "4:1", ASPECTS - 1: "16:1"}
    square = counts[ASPECTS // 2] / max(1, sum(counts))
    return _histogram("Width to height", f"{square:.0%} are about square", counts, labels)


def _per_image(found: Statistics) -> str:
    counts = found.per_image.tolist()
    last = max((i for i, n in enumerate(counts) if n), default=0)
    shown = counts[: max(10, last + 1)]
    mean = found.objects / max(1, found.images)
    step = max(1, len(shown) // 5)
    labels = {i: f"{i}+" if i == len(counts) - 1 else str(i) for i in range(0, len(shown), step)}
    return _histogram("Objects in an image", f"{mean:.1f} on average", shown, labels)


def _gallery(data: PageData) -> str:
    if not data.pictures:
        return f'<h2 id="images">Images</h2>\n<p class="muted">{_text(data.why_none)}</p>\n'
    figures = "".join(_figure(data, number, picture) for number, picture in enumerate(data.pictures))
    return (
        '<h2 id="images">Images</h2>\n<div class="tools"><select id="by-class" aria-label="Class"><option value="">'
        'All classes</option></select><select id="by-split" aria-label="Split"><option value="">All splits</option>'
        '</select><small id="count"></small></div>\n<p><small>A sample of each class, the largest classes first; these '
        f'pictures travel with the page.<span class="click"> Click to enlarge.</span></small></p>\n'
        f'<div class="gallery">{figures}</div>\n'
    )


def _figure(data: PageData, number: int, picture: PagePicture) -> str:
    numbers = sorted({shape.class_id for shape in picture.shapes})
    counts = {i: sum(shape.class_id == i for shape in picture.shapes) for i in numbers}
    what = ", ".join(f"{counts[i]} {data.classes[i]}" for i in numbers) or "no object"
    if picture.others:
        what = f"{plural(picture.others, 'more object')} not drawn; {what}"
    width, height = picture.image_size
    sides = f'width="{picture.size[0]}" height="{picture.size[1]}"'
    lines = _outlines(data, picture, numbers)
    return (
        f'<figure id="i{number}" data-s="{escape(picture.split)}" data-c="{" ".join(map(str, numbers))}">'
        f'<a class="frame" href="#i{number}"><img decoding="async" {sides} '
        f'alt="{_text(f"{picture.name}: {what}"[:400])}" src="{_uri("jpeg", picture.jpeg)}">'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">{lines}</svg></a>'
        f"<figcaption>{_name(picture.name)} · {_text(picture.split)} · {_text(what[:300])}</figcaption></figure>\n"
    )


def _outlines(data: PageData, picture: PagePicture, numbers: Sequence[int]) -> str:
    """The outlines of all objects in the image's coordinates, in the class's colour on a dark line; and names."""
    size = picture.image_size
    digits = 1 if max(size) < 2000 else 0
    # What is closer than half a pixel of the picture is not seen on it.
    least = 0.5 * max(size) / max(picture.size)
    fills, strokes, names, dark = [], [], [], []
    for number in numbers:
        shapes, colour = [s for s in picture.shapes if s.class_id == number], colour_of(number)
        areas = [_ring(_thinned(polygon * size, least), digits) for s in shapes for polygon in s.polygons]
        line = "".join([*areas, *(_frame(s, size, digits, least) for s in shapes)])
        dark.append(line)
        fills += [f'<path class="fill" fill="{colour}" d="{"".join(areas)}"/>'] if areas else []
        strokes.append(f'<path stroke="{colour}" d="{line}"/>')
        largest = max(shapes, key=lambda s: (s.box[2] - s.box[0]) * (s.box[3] - s.box[1]))
        font = max(size) / 40
        x, y = min(max(largest.box[0], 0.0), 0.9) * size[0], max(largest.box[1] * size[1], font)
        names.append(f'<text x="{x:.0f}" y="{y:.0f}" font-size="{font:.0f}">{_text(data.classes[number])}</text>')
    halo = f'<path class="halo" d="{"".join(dark)}"/>' if dark else ""
    return "".join([*fills, halo, *strokes, *names[:MOST_NAMES]])


def _frame(shape: Shape, size: tuple[int, int], digits: int, least: float) -> str:
    """The box of an object that has no polygon, and its skeleton."""
    lines = []
    if not shape.polygons:
        left, top, right, bottom = (v * s for v, s in zip(shape.box, (*size, *size), strict=True))
        lines.append(_ring([(left, top), (right, top), (right, bottom), (left, bottom)], digits))
    if shape.points is not None:
        points, dot = (shape.points * size).tolist(), 2 * least
        lines += [f"M{_at(points[a], digits)}L{_at(points[b], digits)}" for a, b in shape.edges]
        lines += [
            _ring([(x - dot, y - dot), (x + dot, y - dot), (x + dot, y + dot), (x - dot, y + dot)], digits)
            for (x, y), seen in zip(points, shape.seen, strict=True)
            if seen
        ]
    return "".join(lines)


def _thinned(polygon: Any, least: float) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for x, y in polygon.tolist():
        if not points or abs(x - points[-1][0]) + abs(y - points[-1][1]) >= least:
            points.append((x, y))
    return points


def _ring(points: Sequence[tuple[float, float]], digits: int) -> str:
    return "M" + "L".join(_at(point, digits) for point in points) + "z"


def _at(point: Sequence[float], digits: int) -> str:
    return " ".join(f"{round(v, digits):g}" if abs(v) < 1e5 else f"{v:.0f}" for v in point)


def _origin(data: PageData) -> str:
    if len(data.made_of) <= _NAMED:
        return ""
    rows = "".join(
        f"<tr><td>{number}</td><td>{_name(name)}</td><td>{_name(old)}</td></tr>"
        for number, name, old in data.made_of[:200]
    )
    more = f"<p><small>and {len(data.made_of) - 200:,} more</small></p>" if len(data.made_of) > 200 else ""
    return (
        '<h2 id="origin">What the classes are made of</h2>\n<div class="scroll"><table class="plain"><thead><tr>'
        f"<th>new id</th><th>class</th><th>of the source</th></tr></thead><tbody>{rows}</tbody></table></div>{more}\n"
    )


def _json(data: PageData) -> str:
    """What the script reads; no character of it can end its element."""
    most = max((row.total for row in data.rows), default=0)
    facts = {
        "rows": [
            {
                "cells": _cells(data, row),
                "colour": colour_of(row.number),
                "bar": _bar(row, most),
                "total": row.total,
            }
            for row in data.rows
        ],
        "names": [printable(name) for name in data.classes],
        "most": MOST_ROWS,
        "sorted": len(_columns(data)) - 1,
    }
    text = json.dumps(facts, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
