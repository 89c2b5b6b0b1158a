"""A slow reading of YOLO label files, row by row, written from the rules and not from the code under test."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from pipeline.base.terms import Task

_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass
class Row:
    """A row that is in order: line, class id, and the bytes it is made of."""

    line: int
    class_id: int
    head: bytes
    token: bytes
    tail: bytes
    count: int


@dataclass
class Reading:
    """Rows that are in order and lines that are not."""

    rows: list[Row] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)


def source_lines(content: bytes) -> list[bytes]:
    """The lines of a label file, line ends and the byte order mark taken off."""
    return _LINE_END.split(content.removeprefix(b"\xef\xbb\xbf"))


def read(content: bytes, task: Task, keypoints: tuple[int, int] | None) -> Reading:
    """Read one label file."""
    found = Reading()
    for number, line in enumerate(source_lines(content), 1):
        tokens = [t for t in re.split(rb"[ \t]+", line) if t]
        if not tokens:
            continue
        if not _is_row(tokens, task, keypoints):
            found.bad.append(number)
            continue
        head = line[: len(line) - len(line.lstrip(b" \t"))]
        tail = line[len(head) + len(tokens[0]) :]
        found.rows.append(Row(number, int(float(tokens[0])), head, tokens[0], tail, len(tokens)))
    return found


def _is_row(tokens: list[bytes], task: Task, keypoints: tuple[int, int] | None) -> bool:
    if not all(_NUMBER.fullmatch(t) and math.isfinite(float(t)) for t in tokens):
        return False
    class_id, *numbers = map(float, tokens)
    if not class_id.is_integer() or not 0 <= class_id <= 1_000_000:
        return False
    is_polygon = len(tokens) >= 7 and len(tokens) % 2 == 1
    if task is Task.OBB:
        return len(tokens) == 9 and _within(numbers)
    if task is Task.SEGMENT:
        return is_polygon and _within(numbers)
    if task is Task.DETECT:
        return (is_polygon and _within(numbers)) or (len(tokens) == 5 and _within(numbers) and min(numbers[2:]) >= 0)
    assert keypoints is not None
    points, dimensions = keypoints
    if len(numbers) != 4 + points * dimensions or min(numbers[2:4]) < 0:
        return False
    visible = set(range(6, len(numbers), 3)) if dimensions == 3 else set()
    return _within([n for i, n in enumerate(numbers) if i not in visible]) and all(numbers[i] >= -0.01 for i in visible)


def _within(numbers: list[float]) -> bool:
    return all(-0.01 <= n <= 1.01 for n in numbers)
