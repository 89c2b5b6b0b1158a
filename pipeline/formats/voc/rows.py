"""How files of Pascal VOC are parsed: a file at a time to its corners, then all boxes at once. See `formats.voc`."""

from __future__ import annotations

import itertools
import json
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import numpy as np
import pyarrow as pa

from pipeline.base.text import plain_name
from pipeline.formats import Parsed, Pictures, Problem
from pipeline.formats._drawn import Drawn, states_of
from pipeline.formats._framing import Frame, OtherImage, frame_of
from pipeline.formats._unsaid import says
from pipeline.formats._values import as_number, shown
from pipeline.formats._xml import XmlFlaw, lines_of, read, text_of
from pipeline.formats.voc.options import Options
from pipeline.tables import schema

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools, Floats

_CORNERS = ("xmin", "ymin", "xmax", "ymax")

#: Coordinates beyond it, in pixels, are in no image.
_FARTHEST = 1e9

#: OpenCV, with which trainers read images, takes no larger ones.
_MAX_PIXELS = 1 << 30

#: A box this much beyond the image, in pixels, is counted as cut off.
_CUT = 1.0

#: Root elements of other tools, with what they are.
_OTHERS = {
    "annotations": "CVAT's own",
    "dataset": "dlib's or a tracker's",
    "svg": "an SVG image",
    "doc": "another tool's",
    "html": "a web page",
}

#: What of an object goes along to COCO JSON, if it is not 0.
_FLAGS = ("truncated", "difficult", "occluded")

#: What else of an object is read, or passed over; any other element but those of `_COUNTED` is an attribute.
_KNOWN = frozenset({*_FLAGS, "name", "bndbox", "pose", "actions", "point"})

_COUNTED = ("part", "polygon")

_tag_of = operator.attrgetter("tag")

#: What an attribute means that is no text.
_TRUTH = {"true": True, "false": False}


class _Bad(ValueError):  # noqa: N818 - a clause of a sentence, not an error
    """Why a file or an object is not taken: the counted word, a clause, and the line (from 1)."""

    def __init__(self, reason: str, clause: str, line: int | None = None) -> None:
        super().__init__(clause)
        self.reason, self.line = reason, line


@dataclass
class _Objects:
    """Objects of all files, column by column; `corners` are as they are written, `first` as `_first` has it."""

    file: list[int] = field(default_factory=list)
    line: list[int] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    corners: list[tuple[float, ...]] = field(default_factory=list)
    extras: list[dict[str, Any]] = field(default_factory=list)
    parts: list[bool] = field(default_factory=list)
    outlines: list[bool] = field(default_factory=list)
    first: list[tuple[int, int]] = field(default_factory=list)


def parse(files: Sequence[bytes], options: Options, pictures: Pictures) -> Parsed:
    """See `pipeline.formats.voc.parse`."""
    objects, problems = _Objects(), list[Problem]()
    frames: list[Frame | None] = []
    said: list[str | None] = []
    for number, content in enumerate(files):
        root, frame = None, None
        try:
            root = _root(content)
            frame = _frame(root, number, options, pictures)
        except (XmlFlaw, _Bad) as bad:
            count = 1 if root is None else max(1, len(root.findall("object")))
            problems.append(Problem(number, bad.line, bad.reason, str(bad), rows=count))
        frames.append(frame)
        said.append(_image_path(root) if root is not None else None)
        if root is not None and frame is not None:
            _add_objects(objects, root, number, content, problems, _first(root, options))
    rows = _table(objects, frames, options)
    return Parsed(rows, states_of(len(files), objects.file, problems), problems, _image_table(frames, said))


def _root(content: bytes) -> Element:
    root = read(content)
    if root.tag == "annotation":
        return root
    what = _OTHERS.get(root.tag, f"with <{root.tag[:40]}> as its first element")
    raise _Bad("not_voc", f"is XML, but {what}, not Pascal VOC's (<annotation>); move it elsewhere")


def _frame(root: Element, number: int, options: Options, pictures: Pictures) -> Frame:
    """The frame of the corners of a file; its image is asked for its size, see `formats._framing`. Raises `_Bad`."""
    size = _said_size(root)
    there = pictures(number, _image_path(root)) if size is None or options.sizes == "check" else None
    if size is None:
        if there is None:
            raise _Bad(
                "no_size",
                "does not say the size of its image (<size>), and there is no image that would; put the image where "
                "the others are",
            )
        size = (there.width, there.height)
    if size[0] * size[1] > _MAX_PIXELS:
        raise _Bad(
            "size",
            f"its image of {size[0]} x {size[1]} pixels is larger than trainers read ({_MAX_PIXELS:,}); correct <size>",
        )
    try:
        return frame_of(size, there, lambda: _reach(root))
    except OtherImage as bad:
        raise _Bad(
            "size_differs",
            f"says that its image has {bad.own} pixels, but it has {bad.shown}: it was changed after it was labelled; "
            "put the labelled image back, or label this one",
        ) from None


def _first(root: Element, options: Options) -> tuple[int, int]:
    """What a file calls the left edge of its image, as xmin and as xmax: VOC 1 and 0, for xmax is the last pixel."""
    if options.first_pixel != "auto":
        return options.first_pixel, 0
    return (1, 1) if (root.findtext("source/database") or "").strip().lower().startswith("roboflow.") else (1, 0)


def _said_size(root: Element) -> tuple[int, int] | None:
    """The size that a file says, None where it says none, or one of 0; raises `_Bad` for what is no size."""
    size = root.find("size")
    if size is None:
        return None
    sides = []
    for name in ("width", "height"):
        text = text_of(size, name)
        number = as_number(text) if text else 0
        if number is None or number != int(number) or number > 1 << 30:
            raise _Bad("size", f"its <{name}> is {shown(text)}, no size in pixels; correct it, or remove <size>")
        sides.append(max(int(number), 0))
    return (sides[0], sides[1]) if all(sides) else None


def _reach(root: Element) -> tuple[float, float]:
    """The largest x and y of all boxes, as far as they are numbers."""
    right = bottom = 0.0
    for one in root.findall("object"):
        box = one.find("bndbox")
        if box is not None and (corners := _numbers(box)) is not None:
            right, bottom = max(right, corners[0], corners[2]), max(bottom, corners[1], corners[3])
    return right, bottom


def _numbers(box: Element) -> tuple[float, ...] | None:
    """xmin, ymin, xmax and ymax; None where one is missing, or no number."""
    try:
        left, top, right, bottom = corners = tuple([float(box.findtext(name) or "") for name in _CORNERS])
    except ValueError:
        return None
    low, high = -_FARTHEST, _FARTHEST
    inside = low <= left <= high and low <= top <= high and low <= right <= high and low <= bottom <= high
    return corners if inside else None


def _add_objects(
    objects: _Objects, root: Element, number: int, content: bytes, problems: list[Problem], first: tuple[int, int]
) -> None:
    """Add the objects of a file; those that cannot be taken are added to `problems`."""
    lines: list[int] = []
    for position, one in enumerate(root.findall("object"), 1):
        label = plain_name(one.findtext("name") or "")
        box = one.find("bndbox")
        corners = _numbers(box) if box is not None else None
        if not label or corners is None:
            lines = lines or lines_of(content, "object")
            problems.append(Problem(number, lines[position - 1], *_why_bad(position, label, box)))
            continue
        objects.file.append(number)
        objects.line.append(position)
        objects.label.append(label)
        objects.corners.append(corners)
        plain = _KNOWN.issuperset(map(_tag_of, one))
        extras = _extras(one)
        if not plain and (attributes := _attributes(one)):
            extras["attributes"] = attributes
        objects.extras.append(extras)
        objects.parts.append(not plain and one.find("part") is not None)
        objects.outlines.append(not plain and one.find("polygon/*") is not None)
        objects.first.append(first)


def _why_bad(position: int, label: str, box: Element | None) -> tuple[str, str]:
    """The counted word and the clause for an object that cannot be taken."""
    if not label:
        return "name", f"object {position} has no <name>; add it"
    what = f"object {position} ({shown(label)})"
    if box is None:
        return "box", f"{what} has no <bndbox>; draw its box"
    for name in _CORNERS:
        number = as_number(text_of(box, name))
        if number is None or abs(number) > _FARTHEST:
            return "box", f"{what} has the {name} {shown(text_of(box, name))}, which is no number of pixels; correct it"
    return "box", f"{what} has a box that is no four numbers; draw it anew"


def _extras(one: Element) -> dict[str, Any]:
    """What else is known of an object, for COCO JSON."""
    extras: dict[str, Any] = {}
    for name in _FLAGS:
        given = one.findtext(name)
        if not given or given == "0":
            continue
        text = given.strip()
        value = as_number(text) if text and text != "0" else None
        if text.lower() == "true" or value:
            extras[name] = 1 if value is None else int(value) if value == int(value) else value
    pose = text_of(one, "pose")
    if pose and pose.lower() != "unspecified":
        extras["pose"] = pose
    return extras


def _attributes(one: Element) -> dict[str, Any]:
    """What elements say that VOC does not have: CVAT's ``<attributes>`` one by one, any other by its tag."""
    attributes: dict[str, Any] = {}
    for element in one:
        if element.tag in _KNOWN or element.tag in _COUNTED:
            continue
        several = element.findall("attribute") if element.tag == "attributes" else []
        for attribute in several:
            if name := text_of(attribute, "name"):
                text = text_of(attribute, "value")
                attributes[name] = _TRUTH.get(text.lower(), text)
        if not several and says(value := _value(element)):
            attributes[element.tag] = value
    return attributes


def _value(element: Element) -> str | dict[str, str]:
    """The text of an element, or those of its elements by their tags."""
    if not len(element):
        return (element.text or "").strip()
    return {one.tag: "".join(one.itertext()).strip() for one in element}


def _table(objects: _Objects, frames: Sequence[Frame | None], options: Options) -> pa.Table:
    """All rows."""
    count = len(objects.file)
    file = np.array(objects.file, np.int32)
    sizes = np.array([(f.width, f.height) if f is not None else (1, 1) for f in frames], np.float64).reshape(-1, 2)[
        file
    ]
    given = np.array(objects.corners, np.float64).reshape(count, 2, 2)
    low, high = given.min(axis=1), given.max(axis=1)
    first = np.array(objects.first, np.float64).reshape(count, 2)
    zero = (low < first[:, :1]).any(axis=1) & (first[:, 0] > 0)
    low, high = low - first[:, :1], high - first[:, 1:]
    for i in np.flatnonzero([f is not None and f.moves for f in frames] or [False]).tolist():
        _move(low, high, file == i, frames[i])
    beyond = ((low < -_CUT) | (high > sizes + _CUT)).any(axis=1)
    left_top, right_bottom = np.clip(low, 0, sizes), np.clip(high, 0, sizes)
    outside = ((high <= 0) | (low >= sizes)).any(axis=1)
    extent = right_bottom - left_top
    words = np.full(count, None, object)
    for where, word in (
        (first[:, 1] > 0, "edges_from_one"),
        (np.array([bool(e) and says(e) for e in objects.extras], np.bool_), "attributes"),
        (_marked(objects, "occluded"), "occluded"),
        (_marked(objects, "truncated"), "truncated"),
        (_marked(objects, "difficult"), "marked_difficult"),
        (np.array(objects.parts, np.bool_), "parts"),
        (np.array(objects.outlines, np.bool_), "outlines"),
        (zero, "pixel_zero"),
        (beyond, "clipped"),
    ):
        words[where] = word
    notes = np.array([f.note if f is not None else None for f in frames], object)
    noted = np.array([note is not None for note in notes], np.bool_)[file]
    words[noted] = notes[file][noted]
    dropped = _marked(objects, "difficult") & (options.difficult == "drop")
    lost = np.full(count, False)
    for where, word in ((dropped, "difficult"), (outside, "outside"), ((extent <= 0).any(axis=1), "zero_area")):
        words[where & ~lost] = word
        lost |= where
    boxes = np.concatenate([(left_top + right_bottom) / 2 / sizes, extent / sizes], axis=1)
    label = pa.array(objects.label, pa.string())
    raw = pa.array(_raws(left_top, extent, objects.extras), pa.binary(), mask=lost)
    return Drawn(file, objects.line, label, boxes, ~lost, raw, words.tolist()).table(options.numbers)


def _marked(objects: _Objects, flag: str) -> Bools:
    """Which objects have a flag."""
    return np.array([flag in extras for extras in objects.extras], np.bool_)


def _move(low: Floats, high: Floats, where: Bools, frame: Frame | None) -> None:
    """Put the boxes of a file where they are in its image, in place."""
    assert frame is not None
    one, other = frame.transform(low[where]), frame.transform(high[where])
    low[where], high[where] = np.minimum(one, other), np.maximum(one, other)


def _raws(left_top: Floats, extent: Floats, extras: Sequence[dict[str, Any]]) -> list[bytes]:
    """COCO annotation objects without what only a whole dataset knows: id, image_id and category_id."""
    areas = extent.prod(axis=1).tolist()
    made = []
    for (x, y), (w, h), area, more in zip(left_top.tolist(), extent.tolist(), areas, extras, strict=True):
        rest = f",{json.dumps(more, ensure_ascii=False)[1:-1]}" if more else ""
        made.append(f'{{"bbox":[{x!r},{y!r},{w!r},{h!r}],"area":{area!r},"iscrowd":0{rest}}}'.encode())
    return made


def _image_table(frames: Sequence[Frame | None], said: Sequence[str | None]) -> pa.Table:
    columns: dict[str, Sequence[Any]] = {
        "width": [f and f.width for f in frames],
        "height": [f and f.height for f in frames],
        "image_said": said,
    }
    empty = dict(zip(("raw", "held_suffix", "held_size"), itertools.repeat([None] * len(frames)), strict=False))
    fields = {f.name: f.type for f in schema.images()}
    return pa.table({name: pa.array(values, fields[name]) for name, values in {**columns, **empty}.items()})


def _image_path(root: Element) -> str | None:
    """Where the image is, with ``/``, as the file says it: its name, or the path on the machine that wrote it."""
    said = text_of(root, "filename") or text_of(root, "path")
    return said.replace("\\", "/") or None  # backslashes are Windows'
