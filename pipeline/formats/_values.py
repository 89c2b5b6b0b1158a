"""Values of COCO JSON as tools write them, made the numbers that they mean.

Numbers as text (Roboflow), flags as ``"false"`` and ``0.0`` (Label Studio, pylabel), NaN (Python's `json` writes it),
flat lists of a polygon's numbers, points in pairs: what `json.load` and NumPy take, with which pycocotools and
Ultralytics' converter read.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import msgspec

from pipeline.base.text import plain_name

_FALSE = frozenset({"false", "0", "0.0", "no", "none", "null", ""})

_TRUE = frozenset({"true", "1", "1.0", "yes"})

_NUMBERS = ("area", "num_keypoints", "width", "height", "score")


class UnusableObject(ValueError):  # noqa: N818 - a clause of a sentence, not an error
    """A clause that says why an object cannot be used."""


class TypedAnnotation(msgspec.Struct, gc=False):
    """An annotation whose known fields have the types that COCO gives them; others are passed over."""

    bbox: list[float] | None = None
    segmentation: list[list[float]] | dict[str, Any] | None = None
    area: float | None = None
    iscrowd: int | None = None
    keypoints: list[float] | None = None
    num_keypoints: int | None = None


_numbers = msgspec.json.Decoder(TypedAnnotation).decode


def plain(text: bytes) -> Any:
    """A value as Python's `json` reads it, NaN too; None for what is no JSON."""
    try:
        return json.loads(text, parse_constant=float)
    except (ValueError, RecursionError):
        return None


def as_id(value: Any) -> int | str | None:
    """An id: a whole number, or a text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value == int(value) else None
    return value if value != "" else None


def as_number(value: Any) -> float | None:
    """The finite number that `value` is, or that its text says; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_pixels(value: Any) -> int | None:
    """A width or a height: a whole number above 0 that an image can have; None for anything else."""
    if type(value) is int and 0 < value < 1 << 31:
        return value
    number = as_number(value)
    return int(number) if number is not None and 0 < number < 1 << 31 and number == int(number) else None


def category_name(category: dict[str, Any]) -> str | None:
    """The name of a category, as it looks; some tools write it as a number. None for one without a proper name."""
    name = category.get("name")
    if isinstance(name, int | float) and not isinstance(name, bool):
        return str(name)
    if not isinstance(name, str) or not name.strip() or not is_text(name) or any(ord(c) < 32 for c in name):
        return None
    return plain_name(name) or None


def supercategory_name(category: dict[str, Any]) -> str | None:
    """The name of the supercategory of a category, None where it has no proper one."""
    return category_name({"name": category.get("supercategory")})


def shown(value: Any) -> str:
    """A value for a sentence: as JSON, cut where it is long."""
    text = json.dumps(finite(value) if isinstance(value, str) else value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:60]}…"


def with_numbers(text: bytes) -> bytes:
    """The annotation `text` with numbers where COCO has numbers: as it is where that holds already.

    What is no number is left out: a part of a polygon, an area.
    """
    if typed(text) is None:
        try:
            return mended(text, "")
        except UnusableObject:
            return text
    return text


def typed(text: bytes) -> TypedAnnotation | None:
    """The annotation `text`; None where a field has a value of another type than COCO's."""
    try:
        return _numbers(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def mended(text: bytes, task: str) -> bytes:
    """An annotation with the numbers and flags that it means; raises `UnusableObject` without one that `task` needs."""
    try:
        data = json.loads(text, parse_constant=float)
    except RecursionError:
        raise UnusableObject("is nested too deep") from None
    except json.JSONDecodeError:
        raise UnusableObject("is not JSON; correct it, or get the file again") from None
    except ValueError:
        raise UnusableObject("has a number that is too long to be one; correct it") from None
    if not isinstance(data, dict):
        raise UnusableObject(f"is {shown(data)}, no object")
    if as_id(data.get("category_id")) is None:
        raise UnusableObject(f"has the category_id {shown(data.get('category_id'))}, which is no id")
    data["category_id"] = as_id(data["category_id"])
    for name, mend, tasks in (
        ("bbox", _box, ("detect", "pose")),
        ("segmentation", _segmentation, ("segment", "obb")),
        ("keypoints", _keypoints, ("pose",)),
    ):
        if name in data:
            data[name] = mend(data[name], needed=task in tasks)
    if "iscrowd" in data:
        data["iscrowd"] = as_flag(data["iscrowd"])
    for name in _NUMBERS:
        if name in data:
            number = as_number(data[name])
            data[name] = int(number) if number is not None and number == int(number) and name != "score" else number
            if number is None:
                del data[name]
    if "area" not in data and isinstance(data.get("bbox"), list) and len(data["bbox"]) == 4:
        data["area"] = min(data["bbox"][2] * data["bbox"][3], sys.float_info.max)
    return msgspec.json.encode(finite(data))


def _box(value: Any, *, needed: bool) -> list[float] | None:
    value = from_text(value)
    if value in (None, [], ""):
        return None
    numbers = _numbers_of(value) if isinstance(value, list) else None
    if numbers is None and needed:
        raise UnusableObject(f"has the bbox {shown(value)}, which is not four numbers")
    return numbers if numbers and all(map(math.isfinite, numbers)) else None


def _numbers_of(values: list[Any]) -> list[float] | None:
    """The numbers that `values` are, NaN for null; None where one of them is no number."""
    numbers = [
        math.nan if v is None or (isinstance(v, float) and not math.isfinite(v)) else as_number(v) for v in values
    ]
    return None if None in numbers else [n for n in numbers if n is not None]


def _segmentation(value: Any, *, needed: bool) -> Any:
    """A list of polygons, each a flat list of numbers; or an RLE."""
    value = from_text(value)
    if not value:
        return []
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]
    if isinstance(value, dict) and "counts" in value:
        return run_lengths(value)
    parts = _polygons(value)
    if parts is None and needed:
        raise UnusableObject(f"has the segmentation {shown(value)}, which is neither polygons nor run lengths")
    return parts or []


def _polygons(value: Any) -> list[list[float]] | None:
    if not isinstance(value, list):
        return None
    if not any(isinstance(part, list) for part in value):
        value = [value]
    elif len(value) > 2 and all(
        isinstance(part, list) and len(part) == 2 and not isinstance(part[0], list) for part in value
    ):
        value = [value]  # points in pairs
    parts: list[list[float]] = []
    for part in value:
        if not isinstance(part, list):
            return None
        numbers = _numbers_of([v for point in part for v in (point if isinstance(point, list) else [point])])
        if numbers is None:
            return None
        parts.append(numbers if all(map(math.isfinite, numbers)) else [])
    return parts


def run_lengths(value: dict[str, Any]) -> dict[str, Any]:
    """An RLE whose size and counts are whole numbers, as far as they mean such."""
    made = dict(value)
    for name in ("size", "counts"):
        given = from_text(made[name]) if name in made and name == "size" else made.get(name)
        if isinstance(given, list):
            numbers = [as_number(v) for v in given]
            if all(n is not None and n == int(n) for n in numbers):
                made[name] = [int(n) for n in numbers if n is not None]
    return made


def _keypoints(value: Any, *, needed: bool) -> list[float]:
    value = from_text(value)
    if not isinstance(value, list):
        value = []
    flat = [v for point in value for v in (point if isinstance(point, list) else [point])]
    numbers = _numbers_of(flat)
    if numbers is None and needed:
        raise UnusableObject(f"has the keypoints {shown(value)}, which are not numbers")
    points = [numbers[i : i + 3] for i in range(0, len(numbers or ()), 3)] if numbers else []
    return [v for point in points for v in (point if all(map(math.isfinite, point)) else [0.0] * len(point))]


def as_flag(value: Any) -> int:
    """1 for what means yes, also as text, else 0."""
    if isinstance(value, str):
        text = value.strip().lower()
        return int(text in _TRUE) if text in _TRUE | _FALSE else int(bool(as_number(text)))
    return int(bool(value)) if not isinstance(value, float) or math.isfinite(value) else 0


def from_text(value: Any) -> Any:
    """What a text says that is a list or an object as JSON (a table's cell), else `value`."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        return plain(value.encode())
    return value


def is_text(value: str) -> bool:
    """Whether UTF-8 can say a text: JSON can write half of a pair of surrogates, which is no character."""
    return not any("\ud800" <= c <= "\udfff" for c in value) if not value.isascii() else True


def finite(value: Any) -> Any:
    """`value` as JSON in UTF-8 can have it: null for what is no finite number, ``?`` for half a character."""
    if isinstance(value, str):
        return value if is_text(value) else value.encode(errors="replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {finite(name): finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return float(value) if abs(value) < 1 << 1000 else None
    return value
