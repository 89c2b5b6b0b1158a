"""How labelme's files are parsed: a file at a time, a shape at a time. The rules stand in `formats.labelme`."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.config.class_names import NO_CLASS
from pipeline.formats import Parsed, Pictures, Problem
from pipeline.formats.labelme.shapes import Bad, Outline, read_outline
from pipeline.geometry.polygons import join_polygons
from pipeline.images.header import Picture, picture_of
from pipeline.tables import schema
from pipeline.tables.schema import LabelState, Task

_BOM = b"\xef\xbb\xbf"

_NAMED = ("line", "class_id", "label", "head", "tail", "cx", "cy", "w", "h", "n_tokens", "raw", "loss")

_MAX_SIDE = 1_000_000

Floats = npt.NDArray[np.float64]


class _File(msgspec.Struct):
    """What we read of a file; ``imageData``, most of its bytes, is passed over."""

    version: Any = None
    shapes: Any = None
    imagePath: Any = None  # noqa: N815 - labelme's name
    imageData: msgspec.Raw = msgspec.Raw(b"null")  # noqa: N815
    imageHeight: Any = None  # noqa: N815
    imageWidth: Any = None  # noqa: N815
    flags: Any = None


@dataclass
class _Object:
    """One object: the shapes of one label and group."""

    line: int
    label: str
    shapes: list[Outline] = field(default_factory=list)
    extras: dict[str, Any] = field(default_factory=dict)


class _Batch:
    """Rows and facts of all files, column by column."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {name: [] for name in ("file", *_NAMED)}
        self.images: dict[str, list[Any]] = {"width": [], "height": [], "raw": [], "image_said": []}
        self.states: list[LabelState] = []
        self.problems: list[Problem] = []


def parse(files: Sequence[bytes], task: Task, numbers: str, pictures: Pictures) -> Parsed:
    """See `pipeline.formats.labelme.parse`."""
    batch = _Batch()
    for number, content in enumerate(files):
        rows, told = len(batch.columns["file"]), len(batch.problems)
        try:
            found = _decode(content)
            picture, turned = _size(found, number, pictures)
        except Bad as bad:
            batch.problems.append(Problem(number, bad.line, bad.reason, str(bad)))
            found, picture, turned = _File(shapes=[]), None, False
        if picture is not None:
            for row in _objects(found.shapes, picture, turned, number, batch.problems):
                _add(batch, number, _row(row, picture, task, numbers))
        _add_image(batch, found, picture)
        good, bad_ones = len(batch.columns["file"]) > rows, len(batch.problems) > told
        batch.states.append(LabelState.FOUND if good else LabelState.CORRUPT if bad_ones else LabelState.EMPTY)
    fields = {f.name: f.type for f in schema.annotations()}
    types = {"file": pa.int32(), **{n: fields.get(n, pa.string()) for n in _NAMED}, "raw": pa.binary()}
    rows_ = pa.table({name: pa.array(values, types[name]) for name, values in batch.columns.items()})
    kinds = {"width": pa.int32(), "height": pa.int32(), "raw": pa.binary(), "image_said": pa.string()}
    images = pa.table({name: pa.array(values, kinds[name]) for name, values in batch.images.items()})
    return Parsed(rows_, batch.states, batch.problems, images)


def _decode(content: bytes) -> _File:
    """The file's content, not looked at closely; raises `Bad` for what is no labelme file."""
    text = content.removeprefix(_BOM)
    if not text.strip():
        raise Bad("not_json", 'is empty; a label file without objects has `"shapes": []`')
    try:
        found = msgspec.json.decode(text, type=_File)
    except msgspec.ValidationError:
        raise Bad("not_labelme", "is JSON, but no label file of labelme; move it elsewhere") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _decode_slowly(text)
    if not isinstance(found.shapes, list):
        raise Bad("not_labelme", "is JSON, but has no list `shapes`: no label file of labelme; move it elsewhere")
    return found


def _decode_slowly(text: bytes) -> _File:
    """By the standard library, which tells the line of a mistake and takes NaN, as Python writes it."""
    try:
        data = json.loads(text.decode())
    except UnicodeDecodeError:
        raise Bad(
            "not_utf8",
            "is not UTF-8 text (old versions of labelme wrote the encoding of their Windows); save it as UTF-8",
        ) from None
    except json.JSONDecodeError as error:
        raise Bad("not_json", f"is not JSON ({error.msg})", error.lineno) from None
    except (RecursionError, ValueError):
        raise Bad("not_json", "is JSON too deep or with numbers too long to be read") from None
    if not isinstance(data, dict):
        raise Bad("not_labelme", "is JSON, but no label file of labelme; move it elsewhere")
    embedded = json.dumps(data.get("imageData")).encode()
    plain = {name: data.get(name) for name in _File.__struct_fields__ if name != "imageData"}
    return _File(imageData=msgspec.Raw(embedded), **plain)


def _size(found: _File, number: int, pictures: Pictures) -> tuple[Picture, bool]:
    """The image's size, and whether points are those of the stored image and still to be turned."""
    width, height = found.imageWidth, found.imageHeight
    if width is not None and height is not None:
        if all(
            isinstance(n, int | float) and not isinstance(n, bool) and n == n // 1 and 0 < n <= _MAX_SIDE
            for n in (width, height)
        ):
            return Picture(int(width), int(height)), False
        raise Bad("size", f"imageWidth {_shown(width)} and imageHeight {_shown(height)} are no size in pixels")
    picture = _embedded(found.imageData) or pictures(number, _image_path(found))
    if picture is None:
        raise Bad(
            "no_size",
            "does not say the size of its image (imageWidth, imageHeight), and there is no image that "
            "would; put the image beside it",
        )
    return picture, _before_orientation(found.version)


def _before_orientation(version: Any) -> bool:
    """Whether a labelme of `version` showed images as they are stored, whatever their EXIF data say."""
    major = re.match(r"\d+", version) if isinstance(version, str) else None
    return major is None or int(major[0]) < 4


def _embedded(data: msgspec.Raw) -> Picture | None:
    try:
        text = msgspec.json.decode(data)
        return picture_of(base64.b64decode(text)) if isinstance(text, str) and text else None
    except (msgspec.DecodeError, binascii.Error, ValueError):
        return None


def _objects(
    shapes: Sequence[Any], picture: Picture, turned: bool, number: int, problems: list[Problem]
) -> list[_Object]:
    """Shapes by object, in order of first shapes; an object with a bad shape is left out."""
    found: dict[tuple[Any, ...], _Object] = {}
    broken: set[tuple[Any, ...]] = set()
    for place, shape in enumerate(shapes, 1):
        label, group = None, None
        try:
            label, group = _label(shape), _group(shape)
            outline = read_outline(shape, picture, turned=turned)
        except Bad as bad:
            name = f" ({_shown(label)})" if label is not None else ""
            problems.append(Problem(number, None, bad.reason, f"shape {place}{name}: {bad}"))
            broken.add((label, group))
            continue
        # What has no area is nobody's part: it is counted by itself.
        key = (place,) if group is None or not outline.has_area else (label, group)
        thing = found.setdefault(key, _Object(place, label))
        thing.shapes.append(outline)
        _add_extras(thing.extras, shape, group)
    return [thing for key, thing in found.items() if key not in broken]


def _label(shape: Any) -> str:
    if not isinstance(shape, dict):
        raise Bad("shape", f"is {_shown(shape)}, not an object with label and points")
    label = shape.get("label")
    if not isinstance(label, str) or not label.strip():
        raise Bad("label", f"its label is {_shown(label)}, not a text" if "label" in shape else "has no label")
    if any(ord(c) < 32 for c in label):
        raise Bad("label", f"its label {_shown(label)} holds a control character or a line break")
    return label


def _group(shape: dict[str, Any]) -> int | str | None:
    group = shape.get("group_id")
    if group is None or (isinstance(group, int | str) and not isinstance(group, bool)):
        return group
    raise Bad("group", f"its group_id is {_shown(group)}, not a whole number")


def _add_extras(extras: dict[str, Any], shape: dict[str, Any], group: int | str | None) -> None:
    """``group_id``, ``flags`` and ``description`` of an object: of several shapes all flags, and each text once."""
    if group is not None:
        extras["group_id"] = group
    flags = shape.get("flags")
    if isinstance(flags, dict) and flags:
        held = extras.setdefault("flags", {})
        for name, value in flags.items():
            held[name] = held.get(name) or value
    text = shape.get("description")
    if isinstance(text, str) and text and text not in extras.get("description", "").split("\n"):
        extras["description"] = "\n".join(filter(None, (extras.get("description"), text)))


def _row(thing: _Object, picture: Picture, task: Task, numbers: str) -> dict[str, Any]:
    """One row of the index."""
    width, height = picture.width, picture.height
    whole = Outline.of_several(thing.shapes)
    left, top, right, bottom = whole.box
    scale = np.array([width, height], np.float64)
    row: dict[str, Any] = {
        "line": thing.line,
        "class_id": -1,
        "label": thing.label,
        "head": None,
        "tail": None,
        "n_tokens": 0,
        "cx": (left + right) / 2 / width,
        "cy": (top + bottom) / 2 / height,
        "w": (right - left) / width,
        "h": (bottom - top) / height,
        "raw": None,
        "loss": None,
    }
    if thing.label in NO_CLASS:
        return row | {"loss": "no_class"}
    if not whole.has_area:
        return row | {"loss": "no_area"}
    if not whole.parts:
        return row | {"loss": "outside"}
    row["raw"] = _raw(thing, whole, width, height)
    if right <= left or bottom <= top:
        return row | {"loss": "zero_area"}
    if task is Task.DETECT:
        values = [row["cx"], row["cy"], row["w"], row["h"]]
    else:
        values = (join_polygons(whole.parts) / scale).ravel().tolist()
        row["loss"] = "holes" if whole.holes else None
    row["tail"] = "".join([" " + numbers % v for v in values]).encode()
    row["n_tokens"] = 1 + len(values)
    return row


def _raw(thing: _Object, whole: Outline, width: int, height: int) -> bytes:
    """A COCO annotation object without what only a whole dataset knows: id, image_id and category_id."""
    left, top, right, bottom = whole.box
    segmentation, area = whole.segmentation(height, width)
    data = {
        "segmentation": segmentation,
        "area": area,
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": 0,
        **thing.extras,
    }
    return _json(data)


def _json(data: dict[str, Any]) -> bytes:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")  # a lone surrogate, which JSON can say and UTF-8 cannot


def _add(batch: _Batch, number: int, row: dict[str, Any]) -> None:
    batch.columns["file"].append(number)
    for name in _NAMED:
        batch.columns[name].append(row[name])


def _add_image(batch: _Batch, found: _File, picture: Picture | None) -> None:
    batch.images["width"].append(picture and picture.width)
    batch.images["height"].append(picture and picture.height)
    flags = found.flags
    batch.images["raw"].append(_json({"flags": flags}) if isinstance(flags, dict) and flags else None)
    batch.images["image_said"].append(_image_path(found))


def _image_path(found: _File) -> str | None:
    """Where the image is, relative to the label file, as far as that can be believed."""
    path = found.imagePath
    if not isinstance(path, str) or not path.isprintable():
        return None
    path = path.replace("\\", "/")  # backslashes are Windows'
    if re.match(r"^([A-Za-z]:|/)", path):
        path = path.rpartition("/")[2]  # a drive, or the root of another machine: the name alone may be right
    return path or None


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else f"{text[:60]}…"
