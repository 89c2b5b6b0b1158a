"""How YOLO label files are parsed: by columns, a whole batch at a time. The rules are in `formats.yolo`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.base.humanize import noun, plural
from pipeline.base.terms import Task
from pipeline.formats import Parsed, Problem
from pipeline.formats._numbers import TOLERANCE, tails
from pipeline.formats._row_strangers import check_strangers
from pipeline.geometry.polygons import polygons_to_cxcywhn
from pipeline.geometry.quadrilaterals import areas, sides
from pipeline.tables.schema import LabelState

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools, Bytes, Floats, Ints

_BOM = b"\xef\xbb\xbf"

_BLANK = np.zeros(256, np.bool_)

_BLANK[[9, 10, 13, 32]] = True

_MAX_CLASS = 1_000_000

#: The class, and x and y of four corners.
_OBB_TOKENS = 9

_SHOWN = 60

#: What rows of so many tokens are that are meant for oriented boxes.
_OBB_LIKE = {
    6: "a box with an angle, whose corners are to be written, or with a confidence",
    10: "an oriented box with a confidence, as predictions have; remove the last",
    11: "an oriented box with a confidence and a track's number, as predictions have; remove both",
}


def parse(
    files: Sequence[bytes], task: Task, keypoints: tuple[int, int] | None, *, polygons_to_boxes: bool = False
) -> Parsed:
    """See `pipeline.formats.yolo.parse`; with `polygons_to_boxes` polygons of task detect are given by their boxes."""
    bare = [f[3:] if f[:3] == _BOM else f for f in files]
    text = b"\n" + b"\n".join(bare) + b"\n"
    rows = RowTokens(text, bare)
    reasons = BadRows(rows)
    if keypoints is not None and task is Task.DETECT:
        # As Ultralytics takes them: a pose row is its box. Every [K, 2] would else look like a polygon.
        rows.cut(rows.count == _pose_tokens(keypoints), 5)
    elif task is not Task.POSE and (rows.count > 5).any():
        check_strangers(rows, reasons, task, keypoints)
    _check_tokens(rows, reasons, task, keypoints)
    box = _boxes(rows, reasons, task, keypoints)
    parsed = _finish(rows, reasons, box, len(files))
    if polygons_to_boxes and task is Task.DETECT:
        parsed.rows = _as_boxes(parsed.rows)
    parsed.rows = _mark_mixed(parsed.rows)
    return parsed


class RowTokens:
    """Where rows and tokens are in the text. Arrays over tokens: `start`, `end`, `value`; over rows: the rest."""

    def __init__(self, text: bytes, files: Sequence[bytes]) -> None:
        self.buffer: Bytes = np.frombuffer(text, np.uint8)
        blank = _BLANK[self.buffer]
        # The text begins and ends with a line end, so token starts and ends alternate.
        edges = np.flatnonzero(blank[1:] != blank[:-1]) + 1
        self.start: Ints = edges[0::2]
        self.end: Ints = edges[1::2]
        line_ends = self._line_ends(has_cr=b"\r" in text)
        before = np.searchsorted(self.start, line_ends)
        count = np.diff(before)
        row = np.flatnonzero(count)
        #: first token of each row, and how many it has
        self.first: Ints = before[:-1][row]
        self.count: Ints = count[row]
        self.begin: Ints = line_ends[:-1][row] + 1
        self.stop: Ints = line_ends[1:][row]
        self.stop = self.stop - ((self.buffer[self.stop] == 10) & (self.buffer[self.stop - 1] == 13))
        sizes = np.fromiter(map(len, files), np.int64, len(files))
        file_start = np.empty(len(files) + 1, np.int64)
        file_start[0] = 1
        np.cumsum(sizes + 1, out=file_start[1:])
        file_start[1:] += 1
        self.file: Ints = np.searchsorted(file_start, self.begin, side="right") - 1
        first_line = np.searchsorted(line_ends, file_start)  # line ends before each file's first byte
        self.line: Ints = row - first_line[self.file] + 2
        self.value, self.unreadable = self._values(blank)

    def _line_ends(self, *, has_cr: bool) -> Ints:
        ends = self.buffer == 10
        if has_cr:
            lone = self.buffer == 13
            lone[:-1] &= ~ends[1:]
            ends = ends | lone
        return np.flatnonzero(ends)

    def _values(self, blank: Bools) -> tuple[Floats, Bools]:
        offsets = np.zeros(len(self.start) + 1, np.int32)
        np.cumsum(self.end - self.start, out=offsets[1:])
        letters = self.buffer[~blank]
        tokens = pa.StringArray.from_buffers(len(self.start), pa.py_buffer(offsets), pa.py_buffer(letters))
        unreadable = np.zeros(len(self.start), np.bool_)
        try:
            return tokens.cast(pa.float64()).to_numpy(zero_copy_only=False), unreadable
        except pa.ArrowInvalid:
            values = np.full(len(self.start), np.nan)
            for i, token in enumerate(tokens.cast(pa.binary()).to_pylist()):
                try:
                    # float() takes underscores and strips form feeds; neither is a number in a label file
                    values[i] = float(token if b"_" not in token and token == token.strip() else b"?")
                except ValueError:
                    unreadable[i] = True
            return values, unreadable

    def cut(self, marked: Bools, tokens: int) -> None:
        """Forget what the `marked` rows have beyond so many tokens."""
        rows = np.flatnonzero(marked & (self.count > tokens))
        if not len(rows):
            return
        beyond = self.count[rows] - tokens
        within = np.arange(int(beyond.sum())) - np.repeat(np.cumsum(beyond) - beyond, beyond)
        forgotten = np.repeat(self.first[rows] + tokens, beyond) + within
        self.value, self.unreadable = self.value.copy(), self.unreadable.copy()
        self.value[forgotten], self.unreadable[forgotten] = 0, False
        self.stop[rows] = self.end[self.first[rows] + tokens - 1]
        self.count[rows] = tokens

    def token(self, index: int) -> str:
        """A token as it is quoted in a sentence."""
        return self._shown(self.start[index], self.end[index])

    def text(self, row: int) -> str:
        """A row as it is quoted in a sentence, cut where it is long."""
        return self._shown(self.begin[row], self.stop[row])

    def _shown(self, begin: int, stop: int) -> str:
        cut = bytes(self.buffer[begin : min(stop, begin + _SHOWN)])
        return repr(cut.decode(errors="backslashreplace") + ("…" if stop - begin > _SHOWN else ""))

    def per_row(self, over_tokens: Bools) -> Bools:
        """Whether any token of each row is marked."""
        if not len(self.first):
            return np.zeros(0, np.bool_)
        if not over_tokens.any():
            return np.zeros(len(self.first), np.bool_)
        return np.logical_or.reduceat(over_tokens, self.first)

    def first_marked(self, row: int, over_tokens: Bools) -> int:
        """Index of the first marked token of a row."""
        first = int(self.first[row])
        return first + int(np.argmax(over_tokens[first : first + int(self.count[row])]))


class BadRows:
    """Which rows are bad: the first reason found for a row is the one that is reported."""

    def __init__(self, rows: RowTokens) -> None:
        self._rows = rows
        self.bad: Bools = np.zeros(len(rows.first), np.bool_)
        self.problems: list[Problem] = []

    def add(self, marked: Bools, reason: str, detail: Callable[[int], str]) -> None:
        """The rows that are `marked` are bad for `reason`, unless they were before; `detail` is asked for each."""
        new = marked & ~self.bad
        if new.any():
            for row in np.flatnonzero(new).tolist():
                self.problems.append(Problem(int(self._rows.file[row]), int(self._rows.line[row]), reason, detail(row)))
            self.bad |= new


def _check_tokens(rows: RowTokens, reasons: BadRows, task: Task, keypoints: tuple[int, int] | None) -> None:
    if rows.unreadable.any():
        reasons.add(
            rows.per_row(rows.unreadable),
            "not_a_number",
            lambda r: _no_number(rows.token(rows.first_marked(r, rows.unreadable))),
        )
    reasons.add(~_fits(rows.count, task, keypoints), "tokens", lambda r: _guess_of(rows, r, task, keypoints))
    infinite = ~np.isfinite(rows.value)
    if infinite.any():
        reasons.add(
            rows.per_row(infinite),
            "not_finite",
            lambda r: f"{rows.token(rows.first_marked(r, infinite))} is not a finite number",
        )
    ids = rows.value[rows.first]
    with np.errstate(invalid="ignore"):
        reasons.add(ids < 0, "negative_class", lambda r: f"class {rows.token(rows.first[r])} is negative")
        reasons.add(
            (ids != np.floor(ids)) | (ids > _MAX_CLASS),
            "class_not_integer",
            lambda r: f"class {rows.token(rows.first[r])} is not a whole number below {_MAX_CLASS:,}",
        )


def _no_number(token: str) -> str:
    return f"{token} is not a number{'; put blanks between numbers' if ',' in token else ''}"


def _fits(count: Ints, task: Task, keypoints: tuple[int, int] | None) -> Bools:
    if task is Task.OBB:
        return np.asarray(count == _OBB_TOKENS, np.bool_)
    polygon: Bools = (count >= 7) & (count % 2 == 1)
    if task is Task.SEGMENT:
        return polygon
    box: Bools = count == (_pose_tokens(keypoints) if task is Task.POSE else 5)
    return box if task is Task.POSE else polygon | box


def _pose_tokens(keypoints: tuple[int, int] | None) -> int:
    if keypoints is None:
        raise ValueError("task pose needs keypoints=(K, D)")
    return 5 + keypoints[0] * keypoints[1]


def _guess_of(rows: RowTokens, row: int, task: Task, keypoints: tuple[int, int] | None) -> str:
    count = int(rows.count[row])
    needs = {
        Task.DETECT: "a box (5 tokens) or a polygon (odd, 7 or more)",
        Task.SEGMENT: "a polygon (odd, 7 or more tokens)",
        Task.POSE: f"{_pose_tokens(keypoints)} tokens (kpt_shape {list(keypoints)})" if keypoints else "",
        Task.OBB: f"the four corners of an oriented box ({_OBB_TOKENS} tokens)",
    }[task]
    if count == 5:
        like = "a box"
    elif task is Task.OBB and count in _OBB_LIKE:
        like = _OBB_LIKE[count]
    elif count == 6:
        like = "a box with a confidence or a track's number, as predictions have; remove the last"
    elif count < 5:
        like = "a row cut short"
    elif count % 2:
        like = "a polygon or a pose row"
    elif (count - 5) % 3 == 0 and count > 10 and task is not Task.POSE:
        like = f"a pose row (kpt_shape [{(count - 5) // 3}, 3]); name a YAML that has kpt_shape"
    else:
        like = "a polygon with an odd number of coordinates, or a prediction with its confidence"
    seen = f"{plural(count, 'token')} {rows.text(row)} {noun(count, 'looks', 'look')}"
    return f"{seen} like {like}; task {task} takes {needs}"


def _boxes(
    rows: RowTokens, reasons: BadRows, task: Task, keypoints: tuple[int, int] | None
) -> tuple[Floats, Floats, Floats, Floats]:
    """cx, cy, w, h of every row, 0 where a row is bad; checks what they must be."""
    _check_range(rows, reasons, task, keypoints)
    boxes = tuple(np.zeros(len(rows.first)) for _ in range(4))
    # A bad row may have fewer tokens than a box: only good ones are checked.
    has_box = ~reasons.bad & ((rows.count == 5) | (task is Task.POSE))
    first = rows.first[has_box]
    for i, column in enumerate(boxes, 1):
        column[has_box] = rows.value[first + i]
    negative = (boxes[2] < 0) | (boxes[3] < 0)
    reasons.add(negative, "negative_size", lambda r: f"negative width or height in {rows.text(r)}")
    polygon = np.flatnonzero(~reasons.bad & ~has_box)
    if len(polygon):
        points = (rows.count[polygon] - 1) // 2
        starts = np.zeros(len(polygon), np.int64)
        np.cumsum(points[:-1], out=starts[1:])
        within = np.arange(int(points.sum())) - np.repeat(starts, points)
        xs = np.repeat(rows.first[polygon] + 1, points) + 2 * within
        for column, values in zip(boxes, polygons_to_cxcywhn(rows.value[xs], rows.value[xs + 1], starts), strict=True):
            column[polygon] = values
    return boxes[0], boxes[1], boxes[2], boxes[3]


def _check_range(rows: RowTokens, reasons: BadRows, task: Task, keypoints: tuple[int, int] | None) -> None:
    with np.errstate(invalid="ignore"):
        outside = (rows.value < -TOLERANCE) | (rows.value > 1 + TOLERANCE)
    outside[rows.first] = False
    if task is Task.POSE and keypoints is not None and keypoints[1] == 3 and outside.any():
        good = np.flatnonzero(~reasons.bad)
        visibility = (rows.first[good, None] + 7 + 3 * np.arange(keypoints[0])[None, :]).ravel()
        outside[visibility] = rows.value[visibility] < -TOLERANCE
    # A size below zero is reported as such, not as a coordinate.
    size = rows.first[(rows.count == 5) & ~reasons.bad]
    for offset in (3, 4):
        negative = rows.value[size + offset] < 0
        outside[size[negative] + offset] = False
    if outside.any():
        reasons.add(
            rows.per_row(outside),
            "out_of_range",
            lambda r: (
                f"{rows.token(rows.first_marked(r, outside))} is not within 0 and 1 (0.01 more is accepted): "
                "pixels instead of normalised coordinates?"
            ),
        )


def _mark_mixed(rows: pa.Table) -> pa.Table:
    """`rows` with the loss ``mixed`` for those of files that have boxes and polygons, where there are such files.

    Trainers misread such a file, COCO JSON does not mind: what is made of them decides.
    """
    box = rows["n_tokens"].to_numpy() == 5
    if not box.any() or box.all():
        return rows
    file = rows["file"].to_numpy()
    mixed = np.isin(file, np.intersect1d(file[box], file[~box]))
    if not mixed.any():
        return rows
    return rows.append_column("loss", pc.if_else(pa.array(mixed), pa.scalar("mixed"), pa.scalar(None, pa.string())))


def _as_boxes(rows: pa.Table) -> pa.Table:
    """`rows` with the box of each polygon instead of it."""
    polygon = rows["n_tokens"].to_numpy() > 5
    if not polygon.any():
        return rows
    values = np.stack([rows[name].to_numpy()[polygon] for name in ("cx", "cy", "w", "h")], axis=1)
    boxes = tails(values.ravel(), np.arange(0, 4 * len(values) + 1, 4), "%.6f")
    tail = pc.replace_with_mask(rows["tail"].combine_chunks(), pa.array(polygon), boxes)
    count = np.where(polygon, 5, rows["n_tokens"].to_numpy()).astype(np.int32)
    for name, column in (("tail", tail), ("n_tokens", pa.array(count))):
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    return rows


def _finish(rows: RowTokens, reasons: BadRows, box: tuple[Floats, Floats, Floats, Floats], files: int) -> Parsed:
    keep = slice(None) if not reasons.bad.any() else np.flatnonzero(~reasons.bad)
    first = rows.first[keep]
    begin, stop = rows.begin[keep], rows.stop[keep]
    columns: dict[str, Any] = {
        "file": rows.file[keep].astype(np.int32),
        "line": rows.line[keep].astype(np.int32),
        "class_id": rows.value[first].astype(np.int32),
        "head": _heads(rows.buffer, begin, rows.start[first]),
        "tail": _gather(rows.buffer, rows.end[first], stop),
        **dict(zip(("cx", "cy", "w", "h"), (column[keep] for column in box), strict=True)),
        "n_tokens": rows.count[keep].astype(np.int32),
    }
    has_rows = np.zeros(files, np.bool_)
    has_rows[columns["file"]] = True
    bad = np.zeros(files, np.bool_)
    bad[[p.file for p in reasons.problems]] = True
    states = [
        LabelState.FOUND if good else LabelState.CORRUPT if broken else LabelState.EMPTY
        for good, broken in zip(has_rows.tolist(), bad.tolist(), strict=True)
    ]
    reasons.problems.sort(key=lambda p: (p.file, p.line or 0))
    return Parsed(pa.table(columns), states, reasons.problems)


def _heads(buffer: Bytes, begin: Ints, start: Ints) -> pa.Array:
    has = start > begin
    if not has.any():
        return pa.nulls(len(begin), pa.binary())
    return pc.if_else(pa.array(has), _gather(buffer, begin, start), pa.scalar(None, pa.binary()))


def _gather(buffer: Bytes, begin: Ints, stop: Ints) -> pa.Array:
    """The slices ``buffer[begin[i]:stop[i]]`` (ascending, not overlapping) as a binary array."""
    offsets = np.zeros(len(begin) + 1, np.int32)
    np.cumsum(stop - begin, out=offsets[1:])
    # outside, inside, outside, … : how many bytes of each, in turn
    runs = np.empty(2 * len(begin) + 1, np.int64)
    runs[1::2] = stop - begin
    runs[0] = begin[0] if len(begin) else len(buffer)
    runs[2:-1:2] = begin[1:] - stop[:-1]
    runs[-1] = len(buffer) - stop[-1] if len(begin) else runs[0]
    inside = np.zeros(len(runs), np.bool_)
    inside[1::2] = True
    data = buffer[np.repeat(inside, runs)]
    return pa.BinaryArray.from_buffers(pa.binary(), len(begin), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def render(head: pa.Array, class_id: pa.Array, tail: pa.Array) -> pa.Array:
    """See `pipeline.formats.yolo.render`."""
    ids = class_id.cast(pa.string()).cast(pa.binary())
    empty, end = pa.scalar(b"", pa.binary()), pa.scalar(b"\n", pa.binary())
    parts = [ids, tail, end] if head.null_count == len(head) else [pc.fill_null(head, empty), ids, tail, end]
    return pc.binary_join_element_wise(*parts, empty)


def oriented_measures(tails: Sequence[bytes], wide: Floats, high: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Both sides and the area (pixels) of oriented boxes in images of `wide` by `high`, and their share of the image.

    `tails` are rows after the class: x and y of four corners as shares.
    """
    corners = np.array(b"".join(tails).split(), np.float64).reshape(-1, 4, 2)
    in_pixels = corners * np.stack([wide, high], axis=1)[:, None, :]
    return *sides(in_pixels), areas(in_pixels), areas(corners)
