"""How files of shapes are parsed: a file at a time, a shape at a time. The rules are in `formats.labelme`."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from pipeline.base.terms import NO_CLASS, Task
from pipeline.base.text import plain_name, whole_number
from pipeline.formats import Parsed, Pictures, Problem
from pipeline.formats._flaws import flaw_of
from pipeline.formats._framing import Frame, OtherImage, frame_of
from pipeline.formats._shapes.keypoints import ShapeObject, with_keypoints
from pipeline.formats._shapes.objects import RowTable, as_json
from pipeline.formats._shapes.outlines import ShapeError, is_without_area, reach_of, read_outline
from pipeline.formats._values import as_flag, as_number, finite
from pipeline.images.header import HEAD_BYTES, Picture, picture_of, suffix_of, unpacked
from pipeline.tables import schema
from pipeline.tables.schema import LabelState

_BOM = b"\xef\xbb\xbf"

_MAX_SIDE = 10_000_000

#: OpenCV, with which trainers read images, takes no larger ones.
_MAX_PIXELS = 1 << 30

#: How labelme before 4.0 named the instances of a class: ``person-1``, ``person-2``.
_INSTANCE = re.compile(r"(.*[^-\s])-(\d+)")


class ShapeFile(msgspec.Struct):
    """What we read of a file, by labelme's names; ``imageData``, most of its bytes, is passed over."""

    version: Any = None
    shapes: Any = None
    imagePath: Any = None  # noqa: N815 - labelme's name
    imageData: msgspec.Raw = msgspec.Raw(b"null")  # noqa: N815
    imageHeight: Any = None  # noqa: N815
    imageWidth: Any = None  # noqa: N815
    flags: Any = None


class _Batch:
    """Rows and facts of all files, column by column."""

    def __init__(self, rows: RowTable) -> None:
        self.rows = rows
        self.images: dict[str, list[Any]] = {
            name: [] for name in ("width", "height", "raw", "image_said", "held_suffix", "held_size")
        }
        self.states: list[LabelState] = []
        self.problems: list[Problem] = []


@dataclass(frozen=True)
class Rules:
    """What the options say: how numbers are written, whether images are asked for their size, and labels numbered.

    `keypoints` are the names of points, in their order; empty but for task pose. With `crowds` what has ``iscrowd`` is
    a crowd, which is in no row.
    """

    numbers: str
    check_sizes: bool
    instances: bool
    keypoints: tuple[str, ...] = ()
    crowds: bool = False


def parse(
    files: Sequence[bytes],
    task: Task,
    rules: Rules,
    pictures: Pictures,
    decode: Callable[[bytes], ShapeFile],
) -> Parsed:
    """See `pipeline.formats.labelme.parse`; `decode` reads a file, or raises `ShapeError`."""
    batch = _Batch(RowTable(task, rules.numbers, rules.keypoints))
    for number, content in enumerate(files):
        problems_before = len(batch.problems)
        found, frame, things = ShapeFile(shapes=[]), None, []
        try:
            found = decode(content)
            frame = _frame(found, number, rules, pictures)
        except ShapeError as bad:
            batch.problems.append(Problem(number, bad.line, bad.reason, str(bad), rows=_count(found, rules)))
        if frame is not None:
            things = _objects(found, frame, rules, number, batch.problems)
            for thing in things:
                batch.rows.add(number, thing, frame)
        _add_image(batch, found, frame)
        bad_ones = len(batch.problems) > problems_before
        batch.states.append(LabelState.FOUND if things else LabelState.CORRUPT if bad_ones else LabelState.EMPTY)
    images = pa.table(
        {name: pa.array(values, schema.images().field(name).type) for name, values in batch.images.items()}
    )
    return Parsed(batch.rows.table(), batch.states, batch.problems, images)


def read_json(content: bytes) -> Any:
    """What a file of JSON says, also one with NaN; raises `ShapeError` with what is wrong with it."""
    text = content.removeprefix(_BOM)
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if (flaw := flaw_of(text)) is not None:
            raise ShapeError(flaw.reason, flaw.detail, flaw.line) from None
        return json.loads(text)


def _frame(found: ShapeFile, number: int, rules: Rules, pictures: Pictures) -> Frame:
    """The frame of the points of a file; its image is asked where the file gives no size, or one that may be wrong.

    Raises `ShapeError`.
    """
    said = _said_size(found)
    there = pictures(number, _image_path(found)) if said is None or rules.check_sizes else None
    picture, stored, size = there, False, said
    if size is None:
        picture = _embedded(found) or there
        if picture is None:
            raise ShapeError(
                "no_size",
                "does not say the size of its image (imageWidth, imageHeight), and there is no image "
                "that would; put the image beside it",
            )
        stored = _is_old(found)
        size = (picture.stored_width, picture.stored_height) if stored else (picture.width, picture.height)
        picture = there or picture
    try:
        frame = frame_of(size, picture, lambda: reach_of(found.shapes), stored=stored)
    except OtherImage as bad:
        raise ShapeError(
            "size_differs",
            f"says that its image has {bad.own} pixels, but it has {bad.shown}: it was changed after it "
            "was labelled; put the labelled image back, or label this one",
        ) from None
    if frame.width * frame.height > _MAX_PIXELS:
        raise ShapeError(
            "size",
            f"its image of {frame.width} x {frame.height} pixels is larger than trainers read "
            f"({_MAX_PIXELS:,}); correct imageWidth and imageHeight",
        )
    return frame


def _said_size(found: ShapeFile) -> tuple[int, int] | None:
    """The size that a file says, None where it says none: tools begin with -1, or 0. Raises `ShapeError` for others."""
    sides = [_side(found.imageWidth), _side(found.imageHeight)]
    if None in sides:
        raise ShapeError(
            "size",
            f"imageWidth {_shown(found.imageWidth)} and imageHeight {_shown(found.imageHeight)} are no "
            "size in pixels; correct them, or set both to null",
        )
    width, height = (side or 0 for side in sides)
    return (width, height) if width and height else None


def _side(value: Any) -> int | None:
    """A width or height in pixels, 0 for none; None for what is no number."""
    if value is None:
        return 0
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_MAX_SIDE <= value <= _MAX_SIDE:
        return None
    return max(int(value), 0) if value == int(value) else None


def _is_old(found: ShapeFile) -> bool:
    """Whether labelme before 4.0 wrote it: by its version, and because no shape can be of a group.

    Those versions showed images as they are stored, whatever their EXIF data say, and numbered instances in labels.
    """
    major = re.match(r"\d+", found.version) if isinstance(found.version, str) else None
    number = whole_number(major[0]) if major is not None else None
    early = found.version is None or (number is not None and number < 4)
    return early and not any(isinstance(shape, dict) and "group_id" in shape for shape in found.shapes)


def _embedded(found: ShapeFile) -> Picture | None:
    """The embedded image as its first bytes have it or, where much else is in front, all of them."""
    data = bytes(found.imageData)
    head = unpacked(data, HEAD_BYTES)
    if not head:
        return None
    return picture_of(head) or picture_of(unpacked(data) or b"")


@dataclass(frozen=True)
class _Identity:
    """Whose part a shape is: shapes with one `key` are one object; `instance`: its label had the object's number."""

    key: tuple[Any, ...]
    label: str
    group: int | str | None
    instance: bool


def _identify(shape: Any, position: int, *, numbered: bool) -> _Identity:
    """What the shape at `position` belongs to, by label and group; raises `ShapeError`."""
    label, group = _label(shape), _group(shape)
    instance = _INSTANCE.fullmatch(label) if numbered else None
    number = whole_number(instance[2]) if instance is not None else None
    if instance is not None and number is not None:
        label, group = instance[1], number
    # What has no area is nobody's part: it is counted by itself.
    key = (position,) if group is None or is_without_area(shape) else (label, group)
    return _Identity(key, label, group if number is None else None, number is not None)


def _is_numbered(found: ShapeFile, rules: Rules) -> bool:
    """Whether a number at the end of a label is that of an instance."""
    return rules.instances and _is_old(found)


def _count(found: ShapeFile, rules: Rules) -> int:
    """How many objects the shapes of a file are, at least 1."""
    keys, numbered = set(), _is_numbered(found, rules)
    for position, shape in enumerate(found.shapes, 1):
        try:
            keys.add(_identify(shape, position, numbered=numbered).key)
        except ShapeError:
            keys.add((position,))
    return max(len(keys), 1)


def _objects(found: ShapeFile, frame: Frame, rules: Rules, number: int, problems: list[Problem]) -> list[ShapeObject]:
    """Shapes by object, in order of first shapes; an object with a bad shape is left out, and counted once."""
    objects: dict[tuple[Any, ...], ShapeObject] = {}
    broken: set[tuple[Any, ...]] = set()
    numbered = _is_numbered(found, rules)
    for position, shape in enumerate(found.shapes, 1):
        owner = None
        try:
            owner = _identify(shape, position, numbered=numbered)
            outline = read_outline(shape, frame)
        except ShapeError as bad:
            key, name = (owner.key, f" ({_shown(owner.label)})") if owner is not None else ((position,), "")
            detail = f"shape {position}{name}: {bad}"
            problems.append(Problem(number, None, bad.reason, detail, rows=int(key not in broken)))
            broken.add(key)
            continue
        note = "instance" if owner.instance else frame.note
        crowd = rules.crowds and bool(as_flag(shape.get("iscrowd")))
        thing = objects.setdefault((*owner.key, crowd), ShapeObject(position, owner.label, owner.group, note=note))
        if crowd:
            thing.extras["iscrowd"] = 1
        thing.shapes.append(outline)
        _add_extras(thing.extras, shape, owner.group)
    things = [thing for key, thing in objects.items() if key[:-1] not in broken]
    groups = Counter(thing.group for thing in things if thing.shapes[0].has_area and thing.label not in NO_CLASS)
    for thing in things:
        thing.related = thing.group is not None and groups[thing.group] > 1
    return with_keypoints(things, rules.keypoints) if rules.keypoints else things


def _label(shape: Any) -> str:
    """The shape's label; labels that differ in blanks or in the form of Unicode alone are one."""
    if not isinstance(shape, dict):
        raise ShapeError("shape", f"is {_shown(shape)}, not an object with label and points")
    label = shape.get("label")
    if isinstance(label, int) and not isinstance(label, bool):  # scripts write a digit's class as a number
        label = str(label)
    plain = plain_name(label) if isinstance(label, str) else ""
    if not isinstance(label, str) or not plain:
        raise ShapeError("label", f"its label is {_shown(label)}, not a text" if "label" in shape else "has no label")
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in label.strip()):
        raise ShapeError("label", f"its label {_shown(label)} holds a control character; write it anew")
    return plain


def _group(shape: dict[str, Any]) -> int | str | None:
    """The shape's group; scripts write a number as text or with a point, and none as NaN or as an empty text."""
    group = shape.get("group_id")
    if group is None or (isinstance(group, float) and math.isnan(group)):
        return None
    if isinstance(group, int) and not isinstance(group, bool):
        return group
    number = as_number(group)
    if number is not None and number == int(number):
        return int(number)
    if isinstance(group, str):
        return plain_name(group) or None
    raise ShapeError("group", f"its group_id is {_shown(group)}, not a whole number")


def _add_extras(extras: dict[str, Any], shape: dict[str, Any], group: int | str | None) -> None:
    """What goes along of an object to COCO JSON: of several shapes all flags and attributes, and each text once.

    That is ``group_id``, ``flags`` and ``description`` (AnyLabeling: ``text``); X-AnyLabeling's ``attributes``,
    ``difficult``, ``score`` and ``kie_linking``.
    """
    if group is not None:
        extras["group_id"] = group
    for field_name in ("flags", "attributes"):
        given = shape.get(field_name)
        if isinstance(given, dict) and given:
            merged = extras.setdefault(field_name, {})
            for name, value in given.items():
                merged[name] = merged.get(name) or finite(value)
    if shape.get("difficult") is True:
        extras["difficult"] = True
    links = shape.get("kie_linking")
    if isinstance(links, list) and links:
        extras["kie_linking"] = [*extras.get("kie_linking", []), *finite(links)]
    score = as_number(shape.get("score"))
    if score is not None:
        extras.setdefault("score", score)
    text = shape.get("description") or shape.get("text")
    said = extras.get("description", "")
    if isinstance(text, str) and text and f"\n{text}\n" not in f"\n{said}\n":  # it may be of several lines itself
        extras["description"] = f"{said}\n{text}" if said else text


def _add_image(batch: _Batch, found: ShapeFile, frame: Frame | None) -> None:
    batch.images["width"].append(frame and frame.width)
    batch.images["height"].append(frame and frame.height)
    flags = found.flags
    batch.images["raw"].append(as_json({"flags": flags}) if isinstance(flags, dict) and flags else None)
    batch.images["image_said"].append(_image_path(found))
    data = bytes(found.imageData)
    suffix = suffix_of(unpacked(data, 48) or b"")
    batch.images["held_suffix"].append(suffix)
    batch.images["held_size"].append(len(unpacked(data) or b"") if suffix else None)


def _image_path(found: ShapeFile) -> str | None:
    """Where the image is, with ``/``, as the file says it: relative to itself, or on the machine that wrote it."""
    path = found.imagePath
    if not isinstance(path, str) or any(unicodedata.category(c) in ("Cc", "Cs") for c in path):
        return None
    return path.strip().replace("\\", "/") or None  # backslashes are Windows'


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str).encode(errors="backslashreplace").decode()
    return text if len(text) <= 60 else f"{text[:60]}…"
