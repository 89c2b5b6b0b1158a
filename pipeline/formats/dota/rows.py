"""How DOTA's label files are parsed: lines of a batch, then all their numbers at once; see `formats.dota`."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from pipeline.base.humanize import noun, plural
from pipeline.base.terms import NO_CLASS, Task
from pipeline.base.text import plain_name
from pipeline.formats import Parsed, Pictures, Problem
from pipeline.formats._drawn import Drawn, states_of
from pipeline.formats._flaws import cause_of_rows
from pipeline.formats._numbers import TOLERANCE, parse_numbers
from pipeline.geometry.quadrilaterals import areas, oblique, within

if TYPE_CHECKING:
    from pipeline.base.arrays import Floats

_BOM = b"\xef\xbb\xbf"

#: What stands before the rows, and becomes a member of the image in COCO JSON.
_HEADER = re.compile(rb"\s*(imagesource|gsd|acquisition dates)\s*:(.*)", re.IGNORECASE | re.DOTALL)

_SHOWN = 60

#: Coordinates beyond it, in pixels, are in no image.
_FARTHEST = 1e9


@dataclass
class _Lines:
    """Lines that look like rows, column by column: `corners` is the text of eight numbers with commas between them."""

    file: list[int] = field(default_factory=list)
    line: list[int] = field(default_factory=list)
    corners: list[bytes] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    difficult: list[int] = field(default_factory=list)

    def filtered(self, good: Sequence[bool]) -> _Lines:
        """Those lines that are `good`."""
        columns = (self.file, self.line, self.corners, self.label, self.difficult)
        return _Lines(*([value for value, keep in zip(column, good, strict=True) if keep] for column in columns))  # type: ignore[arg-type]


class BadRowError(ValueError):
    """The counted word for a line that is no row, and a clause."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def parse(files: Sequence[bytes], task: Task, pictures: Pictures, *, numbers: str, drop_difficult: bool) -> Parsed:
    """See `pipeline.formats.dota.parse`."""
    lines, problems = _Lines(), list[Problem]()
    headers = [_read(number, content, lines, problems) for number, content in enumerate(files)]
    lines, corners = _corners(lines, problems)
    problems = _with_causes(files, lines, problems)
    sizes = _sizes(lines, pictures, problems)
    known = [number in sizes for number in lines.file]
    if not all(known):
        lines, corners = lines.filtered(known), corners[np.array(known, np.bool_)]
    rows = _table(lines, corners, sizes, task, numbers, drop_difficult=drop_difficult)
    states = states_of(len(files), lines.file, problems)
    problems.sort(key=lambda p: (p.file, p.line or 0))
    said = [sizes.get(number, (None, None)) for number in range(len(files))]
    images = pa.table(
        {
            "width": pa.array([width for width, _ in said], pa.int32()),
            "height": pa.array([height for _, height in said], pa.int32()),
            "raw": pa.array([msgspec.json.encode(header) if header else None for header in headers], pa.binary()),
        }
    )
    return Parsed(rows, states, problems, images)


def _read(number: int, content: bytes, lines: _Lines, problems: list[Problem]) -> dict[str, Any]:
    """Add the rows of a file to `lines`, and all else to `problems`; returns what is said of the image."""
    header: dict[str, Any] = {}
    for line, text in enumerate(content.removeprefix(_BOM).splitlines(), 1):
        tokens = text.split()
        if not tokens:
            continue
        if b":" in text and (found := _HEADER.fullmatch(text)) is not None:
            header |= _said(found[1], found[2])
            continue
        try:
            corners, label, difficult = _columns(tokens)
        except BadRowError as bad:
            problems.append(Problem(number, line, bad.reason, str(bad)))
            continue
        lines.file.append(number)
        lines.line.append(line)
        lines.corners.append(corners)
        lines.label.append(label)
        lines.difficult.append(difficult)
    return header


def _said(name: bytes, value: bytes) -> dict[str, Any]:
    """A line before the rows: a number where it is one; nothing for ``None`` and the like."""
    text = value.decode(errors="replace").strip()
    if text.lower() in ("", "none", "null", "nan"):
        return {}
    try:
        number = float(text)
    except ValueError:
        return {name.decode().lower(): text}
    return {name.decode().lower(): number} if np.isfinite(number) else {}


def _columns(tokens: list[bytes]) -> tuple[bytes, str, int]:
    """The text of the corners, the label, and how difficult the object is; raises `BadRowError`."""
    corners = b",".join(tokens[:8])
    if len(tokens) not in (9, 10):
        raise BadRowError("tokens", _guess_of(tokens))
    if corners.count(b",") != 7:
        raise BadRowError("not_a_number", f"{_shown(tokens)} has a comma in a number; put blanks between numbers")
    if len(tokens) == 9 and _is_number(tokens[8]):
        raise BadRowError("tokens", f"{_shown(tokens)} looks like a row of YOLO: it has no category; take format yolo")
    try:
        label = plain_name(tokens[8].decode())
    except UnicodeDecodeError:
        label = ""
    if not label or any(ord(c) < 32 for c in label):
        raise BadRowError("label", f"the category of {_shown(tokens)} is no text in UTF-8; write it anew")
    difficult = tokens[9] if len(tokens) == 10 else b"0"
    if (not difficult.isdigit() or tokens[8][:1].isdigit()) and not _is_number(tokens[0]):
        raise BadRowError("tokens", _guess_of(tokens))
    if not difficult.isdigit() or len(difficult) > 9:
        raise BadRowError(
            "difficult", f"{_shown(tokens)} ends with {_quoted(difficult)}, not with 0 or 1 for difficult"
        )
    return corners, label, int(difficult)


def _guess_of(tokens: list[bytes]) -> str:
    count = len(tokens)
    if count >= 10 and not _is_number(tokens[0]) and all(map(_is_number, tokens[1:10])):
        like = "a result of DOTA's Task 1 (image, score, corners), no label"
    elif count == 5 and all(map(_is_number, tokens)):
        like = "a box of YOLO; take format yolo"
    elif count < 9:
        like = "a row cut short"
    else:
        like = "a category with blanks in it, or more than a box; write blanks in categories as -"
    return (
        f"{plural(count, 'token')} {_shown(tokens)} {noun(count, 'looks', 'look')} like {like}; a row has four "
        "corners, category and difficult (9 or 10 tokens)"
    )


def _corners(lines: _Lines, problems: list[Problem]) -> tuple[_Lines, Floats]:
    """Lines whose corners are numbers, and these, shape (rows, 4, 2), in pixels."""
    try:
        values = parse_numbers(lines.corners)
    except pa.ArrowInvalid:
        good = [_reported(lines, i, problems) for i in range(len(lines.corners))]
        lines = lines.filtered(good)
        values = parse_numbers(lines.corners)
    corners = values.reshape(-1, 4, 2)
    with np.errstate(invalid="ignore"):
        inside = np.asarray((np.abs(corners) <= _FARTHEST).all(axis=(1, 2)), np.bool_)
    if inside.all():
        return lines, corners
    for i in np.flatnonzero(~inside).tolist():
        detail = f"{_quoted(lines.corners[i].replace(b',', b' '))} has a number that is not finite, or in no image"
        problems.append(Problem(lines.file[i], lines.line[i], "not_finite", detail))
    return lines.filtered(inside.tolist()), corners[inside]


def _reported(lines: _Lines, i: int, problems: list[Problem]) -> bool:
    """Whether the corners of a line are numbers; if not, it is a problem."""
    if _are_numbers(lines.corners[i], 8):
        return True
    for token in lines.corners[i].split(b","):
        if not _is_number(token):
            problems.append(
                Problem(lines.file[i], lines.line[i], "not_a_number", f"{_quoted(token)} is not a number; correct it")
            )
            return False
    return True


@functools.lru_cache(4096)  # categories are few, and Arrow takes 0.2 ms to refuse one
def _is_number(token: bytes) -> bool:
    return _are_numbers(token, 1)


def _are_numbers(text: bytes, count: int) -> bool:
    """Whether `text` is so many numbers with commas between them."""
    try:
        return len(parse_numbers([text])) == count
    except pa.ArrowInvalid:
        return False


def _quoted(text: bytes) -> str:
    return repr(text[:_SHOWN].decode(errors="backslashreplace") + ("…" if len(text) > _SHOWN else ""))


def _shown(tokens: list[bytes]) -> str:
    return _quoted(b" ".join(tokens[:20]))


def _with_causes(files: Sequence[bytes], lines: _Lines, problems: list[Problem]) -> list[Problem]:
    """`problems` with one of the whole file for those without a row that are plainly something else."""
    lost = Counter(problem.file for problem in problems)
    causes = {n: cause for n in sorted(lost.keys() - set(lines.file)) if (cause := cause_of_rows(files[n])) is not None}
    kept = [problem for problem in problems if problem.file not in causes]
    return kept + [Problem(number, None, "not_dota", cause, lost[number]) for number, cause in causes.items()]


def _sizes(lines: _Lines, pictures: Pictures, problems: list[Problem]) -> dict[int, tuple[int, int]]:
    """Width and height of the images of all files that have rows; a file without a known one is a problem."""
    sizes: dict[int, tuple[int, int]] = {}
    for number, count in Counter(lines.file).items():
        picture = pictures(number, None)
        if picture is not None:
            sizes[number] = picture.width, picture.height
        else:
            detail = (
                "has corners in pixels, and no image at hand says how large it is; put the image beside it, unpacked "
                "if it is in an archive elsewhere"
            )
            problems.append(Problem(number, None, "no_size", detail, count))
    return sizes


def _table(
    lines: _Lines,
    corners: Floats,
    sizes: dict[int, tuple[int, int]],
    task: Task,
    numbers: str,
    *,
    drop_difficult: bool,
) -> pa.Table:
    """`Parsed.rows`."""
    count = len(lines.file)
    size = np.array([sizes[number] for number in lines.file], np.float64).reshape(-1, 2)
    unit, slack = np.ones((count, 2)), np.full((count, 2), TOLERANCE)
    moved, cut, outside = within(corners / size[:, None, :], unit, slack)
    low, high = moved.min(axis=1), moved.max(axis=1)
    box = np.concatenate([(low + high) / 2, high - low], axis=1)
    difficult, no_class = np.array(lines.difficult, np.int64) > 0, np.isin(lines.label, NO_CLASS)
    dropped = difficult & drop_difficult
    loss = np.full(count, None, object)
    loss[difficult] = "marked_difficult"
    if task is not Task.OBB:
        loss[oblique(moved * size[:, None, :])] = "oriented"
    loss[cut] = "clipped"
    is_row = np.full(count, True)
    for where, word in (
        (~(areas(moved) > 0), "zero_area"),
        (outside, "outside"),
        (no_class, "no_class"),
        (dropped, "difficult"),
    ):
        loss[where] = word
        is_row &= ~where
    values = moved.reshape(count, 8) if task is Task.OBB else box
    label = pa.array(lines.label, pa.string())
    raw = pa.array(_raws(lines, corners), pa.binary(), mask=dropped | no_class)
    drawn = Drawn(lines.file, lines.line, label, box, is_row, raw, loss.tolist())
    return drawn.table(numbers, values.ravel(), np.arange(count + 1) * values.shape[1])


def _raws(lines: _Lines, corners: Floats) -> list[bytes]:
    """COCO annotations without what only a whole dataset knows: id, image_id and category_id."""
    low, high = corners.min(axis=1), corners.max(axis=1)
    boxes = np.concatenate([low, high - low], axis=1).tolist()
    return [
        msgspec.json.encode(
            {"segmentation": [flat], "area": area, "bbox": box, "iscrowd": 0, "difficult": difficult},
        )
        for flat, area, box, difficult in zip(
            corners.reshape(-1, 8).tolist(), areas(corners).tolist(), boxes, lines.difficult, strict=True
        )
    ]
