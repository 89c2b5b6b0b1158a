"""Shapes of an image as points, as far as their numbers can be read: the grammar of CVAT's elements."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import numpy as np
import pyarrow as pa

from pipeline.base.humanize import plural
from pipeline.formats._numbers import parse_numbers
from pipeline.formats._values import as_number, category_name, shown

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools, Floats

#: Attributes with the numbers of each kind of shape; ``points`` are pairs.
_CORNERS = ("xtl", "ytl", "xbr", "ybr")
_CUBOID = tuple(f"{axis}{corner}{face}" for face in "12" for corner in ("tl", "bl", "tr", "br") for axis in "xy")
_NUMBERS: dict[str, tuple[str, ...]] = {
    "box": _CORNERS,
    "ellipse": ("cx", "cy", "rx", "ry"),
    "cuboid": _CUBOID,
    "mask": ("left", "top", "width", "height"),
}

_PAIRS = {kind: ";".join(["%s,%s"] * (len(names) // 2)) for kind, names in _NUMBERS.items()}

#: Which of left, top, right and bottom are x and y of the corners of a box, clockwise from the first.
_ROUND = np.array([0, 1, 2, 1, 2, 3, 0, 3])

#: Points that a shape has at least.
_LEAST = {"polygon": 3, "polyline": 1, "points": 1}

#: Elements that are shapes.
SHAPES = frozenset({*_NUMBERS, *_LEAST, "skeleton"})

#: Coordinates beyond it, in pixels, are in no image.
_FARTHEST = 1e9

#: How many pixels a side of the polygon for an ellipse may be off.
_SAGITTA = 0.1

#: Pixels of a mask; more are no drawing.
_MOST_PIXELS = 1 << 26


class BadShapeError(Exception):
    """A shape that cannot be taken: the counted word, and a clause."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


_COMMA, _SEMICOLON = b",;"

_NOWHERE: Floats = np.zeros((0, 2))


@dataclass(slots=True)
class Shape:
    """A shape of the image number `file`: the `line`-th there (from 1), its element, its label as it looks.

    `numbers` is the text of its numbers, in pairs as CVAT writes points (``1,2;3,4``), and `count` how many there
    are to be. `points` are what they mean: the outline of what has one, the labelled keypoints of a skeleton, all
    points of anything else, shape (n, 2), in pixels. `keypoints` are x, y and how visible each is, shape (K, 3).
    `extras` is what goes along to COCO JSON.
    """

    file: int
    line: int
    element: Element
    kind: str
    label: str
    numbers: str = ""
    count: int = 0
    points: Floats = field(default_factory=lambda: _NOWHERE)
    keypoints: Floats | None = None
    extras: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"shape {self.line} ({self.kind} {shown(self.label)})"


def keypoint_key(skeleton: str, keypoint: str) -> str:
    """What of `FileOutline.labels` has the number of a keypoint of a skeleton, as text."""
    return f"{skeleton}\0{keypoint}"


def shapes_of(image: Element, file: int) -> Iterator[Shape | tuple[int, BadShapeError]]:
    """The shapes of an image, without points yet; those that cannot be taken with their number, and why."""
    line = 0
    for element in image:
        kind = element.tag
        if kind not in SHAPES:
            continue
        line += 1
        said = element.attrib
        label = _label(said.get("label", ""))
        if not label:
            yield line, BadShapeError("label", f"shape {line} ({kind}) has no label; choose one, or delete it")
            continue
        made = Shape(file, line, element, kind, label)
        if (names := _NUMBERS.get(kind)) is not None:
            made.numbers, made.count = _PAIRS[kind] % tuple([said.get(name, "") for name in names]), len(names)
        elif kind != "skeleton":
            made.numbers = said.get("points", "").strip().strip(";")
            made.count = 2 * (made.numbers.count(";") + 1)
        if len(element) or any(said.get(name, usual) != usual for name, usual in _USUAL):
            _add_extras(made)
        yield made


#: What shapes have of which nothing else is to be said.
_USUAL = (("occluded", "0"), ("z_order", "0"), ("source", "manual"), ("rotation", ""), ("group_id", ""))


@functools.lru_cache(maxsize=4096)
def _label(text: str) -> str:
    """A label as it looks; empty for one that names nothing."""
    return category_name({"name": text}) or ""


def _add_extras(shape: Shape) -> None:
    """What CVAT's own COCO JSON has of a shape in ``attributes``; its group and its order; who made it but people."""
    element, extras = shape.element, shape.extras
    said = element.attrib
    attributes: dict[str, Any] = {}
    for one in element if len(element) else ():
        if one.tag == "attribute" and (name := one.get("name")):
            text = (one.text or "").strip()
            attributes[name] = {"true": True, "false": False}.get(text.lower(), text)
    if said.get("occluded", "0") == "1":
        attributes["occluded"] = True
    rotation = said.get("rotation")
    if rotation and (turn := as_number(rotation)):
        attributes["rotation"] = turn
    if attributes:
        extras["attributes"] = attributes
    for name in ("group_id", "z_order"):
        number = as_number(said[name]) if said.get(name, "0") != "0" else None
        if number:
            extras[name] = int(number) if number == int(number) else number
    if said.get("source", "manual") != "manual":
        extras["source"] = said["source"]


def read_points(shapes: Sequence[Shape], order: Mapping[int | str, str]) -> list[BadShapeError | None]:
    """Give all `shapes` their points; what is wrong with those that have none. `order` has `keypoint_key`s.

    The numbers of all of them are read at once.
    """
    flat = [shape for shape in shapes if shape.kind != "skeleton"]
    bad: dict[int, BadShapeError] = {}
    values = _all_numbers(flat)
    if values is None:
        values = np.concatenate([np.zeros(0), *map(_own_numbers, flat)])
    ends = np.cumsum([0, *(shape.count for shape in flat)])
    fit = np.abs(values) <= _FARTHEST  # not NaN
    wrong = np.zeros(len(flat), np.bool_) if fit.all() else ~np.logical_and.reduceat(fit, ends[:-1])
    plain = np.array([s.kind == "box" and "rotation" not in s.element.attrib for s in flat], np.bool_) & ~wrong
    some = np.flatnonzero(plain)
    for i, corners in zip(some.tolist(), values[ends[some, None] + _ROUND], strict=True):
        flat[i].points = corners.reshape(4, 2)
    for i in np.flatnonzero(~plain).tolist():
        try:
            if wrong[i]:
                raise _bad_numbers(flat[i])
            flat[i].points = _points(flat[i], values[ends[i] : ends[i + 1]])
        except BadShapeError as error:
            bad[id(flat[i])] = error
    numbers = _numbers_of_keypoints(order)
    for shape in shapes:
        if shape.kind == "skeleton":
            try:
                _read_skeleton(shape, numbers.get(shape.label, {}))
            except BadShapeError as error:
                bad[id(shape)] = error
    return [bad.get(id(shape)) for shape in shapes]


def _numbers_of_keypoints(order: Mapping[int | str, str]) -> dict[str, dict[str, int]]:
    """The number of each keypoint, by the label of its skeleton and its own."""
    found: dict[str, dict[str, int]] = {}
    for key, number in order.items():
        skeleton, _, name = str(key).partition("\0")
        found.setdefault(skeleton, {})[name] = int(number)
    return found


def _all_numbers(shapes: Sequence[Shape]) -> Floats | None:
    """The numbers of all shapes; None where one of them has other text, which may hold a separator itself."""
    text = ";".join([shape.numbers for shape in shapes]).encode(errors="replace")
    every = np.frombuffer(text, np.uint8)
    between = every[(every == _COMMA) | (every == _SEMICOLON)]
    count = sum([shape.count for shape in shapes])
    if len(between) + 1 != count or (between[::2] != _COMMA).any() or (between[1::2] != _SEMICOLON).any():
        return None
    try:
        values = parse_numbers([text.replace(b";", b",")])
    except pa.ArrowInvalid:
        return None
    return values if len(values) == count else None


def _own_numbers(shape: Shape) -> Floats:
    """The numbers of a shape, each by its own text, NaN for other text; as many as there are to be."""
    names = _NUMBERS.get(shape.kind)
    numbers = (
        [as_number(shape.element.get(name)) for name in names]
        if names is not None
        else [number for pair in shape.numbers.split(";") for number in _pair(pair) or (None, None)]
    )
    return np.array([math.nan if number is None else number for number in numbers], np.float64)


def _pair(text: str) -> tuple[float, float] | None:
    """The x and the y that a point is by its text; None for what is no pair of numbers."""
    numbers = [number for one in text.split(",") if (number := as_number(one)) is not None]
    return (numbers[0], numbers[1]) if len(numbers) == text.count(",") + 1 == 2 else None


def _bad_numbers(shape: Shape) -> BadShapeError:
    """The error for a shape whose numbers are not all finite."""
    for name in _NUMBERS.get(shape.kind, ()):
        text = shape.element.get(name)
        number = as_number(text)
        if number is None or abs(number) > _FARTHEST:
            what = f"has the {name} {shown(text)}" if text is not None else f"has no {name}"
            cure = "write it with a decimal point" if text and _has_decimal_comma(text) else "draw it anew"
            return BadShapeError("numbers", f"{shape} {what}, which is no number of pixels; {cure}")
    for text in shape.numbers.split(";") if shape.numbers else ():
        pair = _pair(text)
        if pair is None or max(map(abs, pair)) > _FARTHEST:
            cure = "write two numbers with decimal points" if text.count(",") > 1 else "draw it anew"
            return BadShapeError("points", f"{shape} has the point {shown(text)}, which is no pair of numbers; {cure}")
    return BadShapeError("points", f"{shape} has points that are no pairs of numbers; draw it anew")


def _has_decimal_comma(text: str) -> bool:
    return text.count(",") == 1 and as_number(text.replace(",", ".")) is not None


def _points(shape: Shape, values: Floats) -> Floats:
    """The points of a shape with finite numbers; raises `BadShapeError`."""
    if shape.kind == "box":
        (left, top, right, bottom) = values.tolist()
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        turn = _rotation(shape)
        return _turned(corners, (left + right) / 2, (top + bottom) / 2, turn) if turn else corners
    if shape.kind == "ellipse":
        cx, cy, rx, ry = values.tolist()
        outline = _circle(max(abs(rx), abs(ry))) * (abs(rx), abs(ry)) + (cx, cy)
        return _turned(outline, cx, cy, _rotation(shape))
    if shape.kind == "mask":
        left, top, width, height = values.tolist()
        return np.array([[left, top], [left + width, top + height]])
    if len(values) < 2 * _LEAST.get(shape.kind, 0):
        have = plural(len(values) // 2, "point")
        raise BadShapeError("points", f"{shape} has {have}; it needs {_LEAST[shape.kind]} or more")
    return values.reshape(-1, 2)


def _rotation(shape: Shape) -> float:
    """Degrees clockwise; raises `BadShapeError`."""
    text = shape.element.get("rotation")
    if not text:
        return 0.0
    number = as_number(text)
    if number is None or abs(number) > _FARTHEST:
        raise BadShapeError("numbers", f"{shape} has the rotation {shown(text)}, no number of degrees; draw it anew")
    return number % 360


def _turned(points: Floats, cx: float, cy: float, degrees: float) -> Floats:
    """Points turned clockwise around a centre."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    centre = np.array([cx, cy])
    return np.asarray((points - centre) @ np.array([[cos, sin], [-sin, cos]]) + centre, np.float64)


def _circle(radius: float) -> Floats:
    """The corners of a regular polygon on a circle of radius 1, as many as one of `radius` pixels needs."""
    half_angle = math.acos(1 - min(_SAGITTA / radius, 1)) if radius > 0 else math.pi
    corners = min(max(12, 4 * math.ceil(math.pi / half_angle / 4)), 4096)
    angle = 2 * math.pi / corners * np.arange(corners)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _read_skeleton(shape: Shape, numbers: Mapping[str, int]) -> None:
    """Give a skeleton its keypoints, and the labelled ones as its points; raises `BadShapeError`."""
    points = np.zeros((len(numbers), 3))
    for one in shape.element:
        said = one.attrib
        number = numbers.get(_label(said.get("label", "")))
        if one.tag != "points" or number is None or said.get("outside", "0") == "1":
            continue
        pair = _pair(said.get("points", ""))
        if pair is None or max(map(abs, pair)) > _FARTHEST:
            what = f"has the keypoint {shown(said['label'])} at {shown(said.get('points', ''))}"
            raise BadShapeError("points", f"{shape} {what}, which is no pair of numbers; draw it anew")
        points[number] = *pair, 1 if said.get("occluded", "0") == "1" else 2
    shape.keypoints = points
    shape.points = points[points[:, 2] > 0, :2]


def read_patch(shape: Shape) -> tuple[Bools, int, int]:
    """The pixels of a mask, shape (rows, columns), and the x and y of the first of them; raises `BadShapeError`.

    Run lengths go row by row, and begin with those outside; what they do not reach is outside.
    """
    left, top, right, bottom = np.rint(shape.points).ravel().tolist()
    columns, rows = int(right - left), int(bottom - top)
    if not (columns > 0 and rows > 0 and columns * rows <= _MOST_PIXELS):
        raise BadShapeError("mask", f"{shape} is a mask of {columns} x {rows} pixels; draw it anew")
    try:
        runs = np.array([int(text) for text in shape.element.get("rle", "").split(",")], np.int64)
    except (ValueError, OverflowError):
        raise BadShapeError("mask", f"{shape} has an `rle` that is no list of whole numbers; draw it anew") from None
    total = columns * rows
    if (runs < 0).any() or (runs > total).any() or (size := int(runs.sum())) > total:
        raise BadShapeError("mask", f"{shape} has an `rle` of more than its {columns} x {rows} pixels; draw it anew")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.pad(inside, (0, total - size)).reshape(rows, columns), int(left), int(top)
