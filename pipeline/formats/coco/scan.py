"""One pass over a COCO JSON: where everything lies, and what belongs to what."""

from __future__ import annotations

import itertools
import mmap
import posixpath
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.formats.coco.parts import Outline
from pipeline.tables.schema import Task

Ints = npt.NDArray[np.int64]

Bytes = bytes | mmap.mmap

Id = int | str | float | None

_BOM = b"\xef\xbb\xbf"

#: Keypoints of the left and the right side, as COCO and its kin call them: a flip makes one of the other.
_SIDES = (("left", "right"), ("Left", "Right"), ("l_", "r_"))


class _File(msgspec.Struct):
    images: list[msgspec.Raw] = []
    annotations: list[msgspec.Raw] = []


class _Rest(msgspec.Struct):
    categories: list[dict[str, Any]] | None = None


class _Image(msgspec.Struct, gc=False):
    id: Id = None
    file_name: str = ""


class _OfImage(msgspec.Struct, gc=False):
    image_id: Id = None


_image = msgspec.json.Decoder(_Image).decode

_of_image = msgspec.json.Decoder(_OfImage).decode


def outline(file_data: Bytes, task: Task) -> Outline:
    """See `pipeline.formats.coco.outline`."""
    data = memoryview(file_data)
    shift = len(_BOM) if data[:3] == _BOM else 0
    file = _decode(data[shift:])
    spans = {"images": _spans(file.images, data), "annotations": _spans(file.annotations, data)}
    rest = _without(data[shift:], [s - shift for s in spans.values() if len(s)])
    found = Outline(spans["images"], spans["annotations"], np.zeros(0, np.int64), [], [], rest=rest)
    _categories(found, task)
    if file.annotations and not found.labels:
        raise ValueError("has annotations but no categories: their classes have no names")
    found.places = _images(found, file.images)
    _belongings(found, file.annotations, found.places)
    return found


def captions(file_data: Bytes, of: Outline) -> tuple[Ints, Ints]:
    """See `pipeline.formats.coco.captions`."""
    data = memoryview(file_data)
    shift = len(_BOM) if data[:3] == _BOM else 0
    raws = _decode(data[shift:]).annotations
    spans = _spans(raws, data)
    owner = np.array([_place(of.places, i) for i in _owners(raws)], np.int64)
    order = np.flatnonzero(owner >= 0)
    return spans[order], owner[order]


def _decode(data: memoryview) -> _File:
    try:
        return msgspec.json.decode(data, type=_File)
    except msgspec.ValidationError as error:
        raise ValueError(f"is JSON, but no COCO dataset ({error})") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"is not JSON ({error})") from None


def _spans(raws: Sequence[msgspec.Raw], data: memoryview) -> Ints:
    """Begin and end of values of one array of `data`."""
    if not raws:
        return np.zeros((0, 2), np.int64)
    base = _address(data)
    lengths = np.fromiter([len(memoryview(raw)) for raw in raws], np.int64, len(raws))
    first = _address(raws[0]) - base
    if len(raws) > 1:
        # Nearly all files have the same bytes between any two values. That is checked, and saves asking each of them.
        gap = _address(raws[1]) - base - first - int(lengths[0])
        begin = first + np.cumsum(lengths + gap) - lengths - gap
        if int(begin[-1]) == _address(raws[-1]) - base and _all_apart(data, begin, lengths, gap):
            return np.stack([begin, begin + lengths], axis=1)
    begin = np.fromiter((_address(raw) for raw in raws), np.int64, len(raws)) - base
    return np.stack([begin, begin + lengths], axis=1)


def _all_apart(data: memoryview, begin: Ints, lengths: Ints, gap: int) -> bool:
    """Whether every value is followed by the same `gap` bytes: a comma and blanks."""
    text = np.frombuffer(data, np.uint8)
    first_stop = int(begin[0] + lengths[0])
    between = text[first_stop : first_stop + gap]
    stops = (begin + lengths)[:-1]
    return all(bool((text[stops + i] == between[i]).all()) for i in range(gap)) and bool(
        (text[begin] == text[begin[0]]).all()
    )


def _address(value: Any) -> int:
    return int(np.frombuffer(value, np.uint8).__array_interface__["data"][0])


def _without(data: memoryview, arrays: Sequence[Ints]) -> bytes:
    """The file with these arrays empty."""
    cuts = sorted((int(spans[0, 0]), int(spans[-1, 1])) for spans in arrays)
    kept, here = [], 0
    for begin, stop in cuts:
        kept.append(bytes(data[here:begin]))
        here = stop
    return b"".join([*kept, bytes(data[here:])])


def _categories(found: Outline, task: Task) -> None:
    """Names by id; several categories of one name are one class."""
    try:
        categories = msgspec.json.decode(found.rest, type=_Rest).categories or []
    except msgspec.ValidationError as error:
        raise ValueError(f"has categories that are none ({error})") from None
    keypoints: dict[str, list[str]] = {}
    for number, category in enumerate(categories):
        name, key = category.get("name"), category.get("id")
        if not isinstance(name, str) or not name.strip() or any(ord(c) < 32 for c in name):
            raise ValueError(f"has a category without a proper name (number {number + 1}, id {key!r})")
        if not isinstance(key, int | str) or isinstance(key, bool) or key in found.labels:
            raise ValueError(
                f"has the category id {key!r} twice"
                if key in found.labels
                else f"has a category without an id ({name!r})"
            )
        found.labels[key] = name
        if isinstance(points := category.get("keypoints"), list) and points:
            keypoints.setdefault(name, [str(p) for p in points])
    order = sorted(found.labels, key=lambda key: (isinstance(key, str), key))
    names = list(dict.fromkeys(found.labels[key] for key in order))
    found.names = {"names": names}
    if task is Task.POSE and keypoints:
        points = keypoints[next(name for name in names if name in keypoints)]
        found.names |= {
            "kpt_shape": [len(points), 3],
            "flip_idx": _flips(points),
            "kpt_names": {str(names.index(name)): told for name, told in keypoints.items() if len(told) == len(points)},
        }


def _flips(points: Sequence[str]) -> list[int] | None:
    """For each keypoint the one that it is after a flip from left to right, by name; None where names do not tell."""
    result = []
    for name in points:
        mirrored = name
        for left, right in _SIDES:
            if left in name or right in name:
                mirrored = name.replace(left, "\0").replace(right, left).replace("\0", right)
                break
        if mirrored not in points:
            return None
        result.append(points.index(mirrored))
    return result if result != list(range(len(points))) else None


def _images(found: Outline, raws: Sequence[msgspec.Raw]) -> dict[Id, int]:
    """The place of each image by id; those that cannot be used are taken out."""
    places: dict[Id, int] = {}
    stems: set[str] = set()
    kept: list[int] = []
    for number, raw in enumerate(raws):
        try:
            image = _image(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            found.problems.append(("", "bad_image", f"images[{number}] is no image of COCO ({error})"))
            continue
        path, stem = _file_name(image.file_name)
        told = f"images[{number}] ({image.file_name!r}, id {image.id!r})"
        if image.id is None or not stem:
            found.problems.append(
                (
                    "",
                    "bad_image",
                    f"{told} has no id" if stem else f"{told} has no file name below the folder of images",
                )
            )
        elif image.id in places:
            found.problems.append((stem, "image_twice", f"{told} has the id of an image before it"))
        elif stem in stems:
            found.problems.append(
                (
                    stem,
                    "stem_twice",
                    f"{told} has the stem of an image before it: label files, which "
                    "are called by the stem, cannot tell them apart",
                )
            )
        else:
            places[image.id] = len(kept)
            stems.add(stem)
            kept.append(number)
            found.stems.append(stem)
            found.paths.append(path)
    if len(kept) < len(raws):
        found.images = found.images[kept]
    return places


def _file_name(name: str) -> tuple[str, str]:
    """The path of an image below the folder of images, and that without its suffix; empty where it is none."""
    plain = "/" not in name and "\\" not in name and name not in (".", "..")
    path = name if plain else posixpath.normpath(name.replace("\\", "/"))
    if not path or path.startswith(("../", "/")) or path in (".", "..") or "\0" in path or path[1:2] == ":":
        return "", ""
    stem, dot, suffix = path.rpartition(".")
    return (path, stem) if dot and stem and "/" not in suffix and not stem.endswith("/") else (path, path)


def _belongings(found: Outline, raws: Sequence[msgspec.Raw], places: dict[Id, int]) -> None:
    """The image of each annotation; those of none are taken out."""
    owners = _owners(raws)
    found.image_of = np.fromiter(map(places.get, owners, itertools.repeat(-1)), np.int64, len(owners))
    lost = np.flatnonzero(found.image_of < 0)
    if not len(lost):
        return
    for number in lost.tolist():
        found.image_of[number] = _place(places, owners[number])
    lost = np.flatnonzero(found.image_of < 0)
    found.problems += [
        ("", "no_such_image", f"annotations[{number}] belongs to no image (image_id {owners[number]!r})")
        for number in lost.tolist()
    ]
    keep = found.image_of >= 0
    found.annotations, found.image_of = found.annotations[keep], found.image_of[keep]


def _owners(raws: Sequence[msgspec.Raw]) -> list[Id]:
    try:
        return [_of_image(raw).image_id for raw in raws]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [_owner(raw) for raw in raws]


def _owner(raw: msgspec.Raw) -> Id:
    try:
        return _of_image(raw).image_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _place(places: dict[Id, int], owner: Id) -> int:
    """The place of an image by its id, which may be written as text here and as a number there."""
    if owner in places:
        return places[owner]
    if isinstance(owner, str) and owner.lstrip("-").isdecimal():
        return places.get(int(owner), -1)
    return places.get(str(owner), -1) if isinstance(owner, int) else -1
