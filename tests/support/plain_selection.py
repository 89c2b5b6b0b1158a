"""What a subset must be, said once more in plain loops: an oracle that shares no code with the stages that it judges.

A `World` is what sources hold, whatever the formats that they are written in. `expected` goes through the steps of a
selection in their order (`conf/README.md`, "Shape the subset" and "Splits"), one image and one object after another.
"""

from __future__ import annotations

import fnmatch
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from tests.support.plain_decisions import Hash, assign, cap, draw_backgrounds, drop_duplicates
from tests.support.plain_world import SUPERCATEGORIES, Expected, Image, Obj, Picture, Source, World

#: Conditions of `select.objects.where`, and what they mean of an object, its image and the name of its class.
CONDITIONS: dict[str, Callable[[Obj, Picture, str], bool]] = {
    "w * h > 0.0137": lambda o, p, c: o.w / p.width * o.h / p.height > 0.0137,
    "name != 'car' or cx < 0.4987": lambda o, p, c: c != "car" or (o.x + o.w / 2) / p.width < 0.4987,
    "width >= 40 and not h > 0.7013": lambda o, p, c: p.width >= 40 and not o.h / p.height > 0.7013,
    "name in ('dog', 'bus', 'all')": lambda o, p, c: c in ("dog", "bus", "all"),
}


def expected(
    world: World, config: Mapping[str, Any], look_hash: Hash, fixed: Mapping[str, str] | None = None
) -> Expected | None:
    """The subset of `world` that `config` asks for; None where its classes are refused.

    `config` has all keys of `select`, `target` and the others side by side, the entries of lists of images in
    ``listed`` and ``excluded``. `look_hash` gives the difference hash of an image, None where it cannot be decoded;
    `fixed` are groups that a split table has.
    """
    if (mapped := class_numbers(world, config["classes"])) is None:
        return None
    names, numbers = mapped
    found, images = Expected(names), []
    for picture in sorted(filter(world.has, world.pictures), key=world.key):
        objects, source = picture.objects or (), world.source(picture)
        rows = [(numbers[one.name], one) for one in objects if one.name in numbers]
        found.rows += Counter(other_classes=len(objects) - len(rows))
        found.rows[{"tokens": "bad", "class": "unknown_class"}.get(picture.bad or "", "bad")] += bool(picture.bad)
        images.append(Image(picture, world.key(picture), source, rows))
    several = len(world.sources) > 1
    _lists(images, config, several=several)
    need_image = config["images"] != "none"
    for image in images:
        _objects(image, config, found, need_image=need_image)
        _image(image, config, found, _doubtful(image.source, names, numbers), need_image=need_image)
    assign(images, config["split"], found, fixed or {})
    drop_duplicates(images, config["dedup"], look_hash)
    cap(images, config["per_class"], names)
    draw_backgrounds(images, config["background"], numbers)
    for image in images:
        if need_image and not image.rows:
            _check(image, config, found)
        found.images[image.why or "kept"] += 1
        found.rows[_word(image.why)] += len(image.rows)
        if image.why is None:
            found.taken.append(image)
            found.unlabelled.update(names[i] for i in _doubtful(image.source, names, numbers))
    _paths(images, found, config, several=several)
    return found


# --- classes ----------------------------------------------------------------------------------------------------------


def class_numbers(world: World, entries: Sequence[Any] | None) -> tuple[tuple[str, ...], dict[str, int]] | None:
    """The names of the subset's classes and, by class of the sources, its number; None where `entries` are refused."""
    known = list(dict.fromkeys(name for source in world.sources for name in source.names))
    names: list[str] = []
    numbers: dict[str, int] = {}
    for entry in known if entries is None else entries:
        called, taken = _entry(entry, known)
        if not taken or any(name in numbers for name in taken):
            return None
        own = [called] if called is not None else taken
        if any(name in names for name in own):
            return None
        names += own
        numbers |= {name: names.index(called or name) for name in taken}
    return tuple(names), numbers


def _entry(entry: Any, known: Sequence[str]) -> tuple[str | None, list[str]]:
    """The name that an entry of `classes` gives, and the classes of the sources that it takes; none where it errs."""
    if isinstance(entry, str):
        return (None if "*" in entry else entry), _fitting(entry, known)
    texts = entry.get("from", [] if "supercategory" in entry else ["*"])
    taken: list[str] = []
    for text in [texts] if isinstance(texts, str) else texts:
        taken += (fits := _fitting(text, known))
        if not fits:
            return None, []
    if (group := entry.get("supercategory")) is not None:
        taken += (fits := [name for name in known if SUPERCATEGORIES.get(name) == group])
        if not fits:
            return None, []
    for text in (excluded := entry.get("exclude", ())):
        if not _fitting(text, taken):
            return None, []
    gone = {name for text in excluded for name in _fitting(text, taken)}
    return entry.get("name"), [name for name in dict.fromkeys(taken) if name not in gone]


def _fitting(text: str, known: Sequence[str]) -> list[str]:
    return [text] if text in known else [name for name in known if fnmatch.fnmatchcase(name, text)]


def _doubtful(source: Source, names: Sequence[str], numbers: Mapping[str, int]) -> list[int]:
    """The classes of the subset that a source does not label wherever they are to be seen."""
    return [
        number
        for number in range(len(names))
        if not (of_source := [name for name in source.names if numbers.get(name) == number])
        or (source.exhaustive is not None and not {*of_source} <= {*source.exhaustive})
    ]


# --- one image after another ------------------------------------------------------------------------------------------


def _lists(images: Sequence[Image], config: Mapping[str, Any], *, several: bool) -> None:
    keys = {image.key for image in images}
    for image in images:
        if any(_names(entry, image.key, keys, several=several) for entry in config["excluded"] or ()):
            image.leave("excluded")
        elif config["listed"] is not None and not any(
            _names(entry, image.key, keys, several=several) for entry in config["listed"]
        ):
            image.leave("not_listed")


def _names(entry: str, key: str, keys: Iterable[str], *, several: bool) -> bool:
    """Whether an entry of a list names an image: its key, or the end of its path, with or without the suffix."""
    path = PurePosixPath(entry)
    steps = (path.with_suffix("") if path.suffix in (".png", ".jpg") else path).parts
    whole = tuple(key.split("/"))
    if several and "/".join(steps) in keys:
        return steps == whole
    if len(steps) >= len(whole):
        return steps[1 - len(whole) :] == whole[1:]
    return whole[-len(steps) :] == steps


def _objects(image: Image, config: Mapping[str, Any], found: Expected, *, need_image: bool) -> None:
    """Leave out rows that repeat one, and rows beyond a limit, or the image for them."""
    limits = {key: limit for key, limit in config["objects"].items() if key != "drop" and limit is not None}
    picture, rows = image.picture, image.rows
    repeated = _repeated(rows) if config["duplicates"] == "drop" else []
    rows = [row for i, row in enumerate(rows) if i not in repeated]
    pixels = bool({*limits} - {"where", "min_area_ratio"}) or "width" in limits.get("where", "")
    known = image.source.says_sizes or picture.file in ("whole", "cut")  # of one that is cut short the header says it
    unreadable = pixels and not known and picture.file != "missing" and bool(rows) and image.why is None
    beyond = [row for row in rows if _beyond(row, picture, found.classes, limits, known=known and image.why is None)]
    left = [row for row in rows if row not in beyond]
    if image.why is not None:  # its rows go with it
        return
    found.rows["duplicates"] += len(repeated)
    found.rows["beyond"] += len(beyond)
    image.rows = left
    if unreadable:
        found.problems["image_unreadable"] += 1
    if beyond and config["objects"].get("drop") == "image":
        image.leave("any_beyond")
    if unreadable:
        image.leave("image_unreadable")
    if beyond and not left:
        image.leave("all_beyond")


def _repeated(rows: Sequence[tuple[int, Obj]]) -> list[int]:
    boxes = [(number, one.x, one.y, one.w, one.h) for number, one in rows]
    return [i for i, box in enumerate(boxes) if box in boxes[:i]]


def _beyond(
    row: tuple[int, Obj], picture: Picture, classes: Sequence[str], limits: Mapping[str, Any], *, known: bool
) -> bool:
    """Whether an object is beyond any limit, in hundredths of a pixel; of an image of unknown size no such limit is."""
    number, one = row
    least, most = sorted((round(one.w, 2), round(one.h, 2)))
    area = round(least * most, 4)
    checks: dict[str, Callable[[Any], bool]] = {
        "min_area_ratio": lambda limit: one.w * one.h / (picture.width * picture.height) < limit,
        "where": lambda text: (known or "width" not in text) and not CONDITIONS[text](one, picture, classes[number]),
    }
    if known:
        checks |= {
            "min_side": lambda limit: least < limit,
            "max_side": lambda limit: most > limit,
            "min_area": lambda limit: area < limit,
            "max_area": lambda limit: area > limit,
            "max_aspect": lambda limit: (most / least if least else math.inf) > limit + 1e-9,
        }
    return any(checks[key](limit) for key, limit in limits.items() if key in checks)


def _image(
    image: Image, config: Mapping[str, Any], found: Expected, doubtful: Sequence[int], *, need_image: bool
) -> None:
    """Leave out an image for the number of its objects, for what it may hold, or because it cannot be used."""
    picture, how = image.picture, config["background"]
    if image.why is not None:
        return
    if image.rows:
        least, most = (config["objects_per_image"].get(end) for end in ("min", "max"))
        if len(image.rows) < (least or 1):
            image.leave("few_objects")
        elif most is not None and len(image.rows) > most:
            image.leave("many_objects")
        elif doubtful and config["on_unlabelled"] == "drop":
            image.leave("unlabelled_class")
        elif need_image and picture.file == "missing":
            image.leave("no_image")
            found.problems["no_image"] += 1
        elif need_image:
            _check(image, config, found)
        return
    if picture.bad == "tokens" and not picture.objects:
        image.leave("corrupt")
    elif how == "none" or picture.file == "missing" or (how == "unlabelled" and (picture.objects or picture.bad)):
        image.leave("other_classes" if picture.objects or picture.bad else "background")
    elif picture.bad:
        image.leave("unread")
    elif doubtful:
        image.leave("unlabelled_class")


def _check(image: Image, config: Mapping[str, Any], found: Expected) -> None:
    """Leave out an image that cannot be used, if it is checked."""
    picture, reason = image.picture, None
    if config["check_images"] == "none" or image.why is not None:
        return
    if picture.file != "whole":
        reason = {"empty": "image_empty", "cut": "image_cut_short"}[picture.file]
    elif min(picture.width, picture.height) < 10:
        reason = "image_too_small"
    if reason is not None:
        image.leave(reason)
        found.problems[reason] += 1


def _word(why: str | None) -> str:
    """What a report calls the rows that go with their image, by the word for that."""
    if why is not None and why.startswith("image_"):
        return "bad_image"
    return {None: "kept", "no_image": "without_image", "unlabelled_class": why or ""}.get(why, "not_taken")


def _paths(images: Sequence[Image], found: Expected, config: Mapping[str, Any], *, several: bool) -> None:
    """Where each image is below its split: of two of one name that are assigned anew, below its old split's folder."""
    stems = Counter((image.source.name, image.picture.stem) for image in images)
    for image in found.taken:
        stem = image.picture.stem
        if config["split"] is not None and stems[image.source.name, stem] > 1:
            stem = f"{image.source.folder(image.picture.split)}/{stem}"
        stem = f"{image.source.name}/{stem}" if several else stem
        image.path = stem.replace("/", "__") if config["flat"] else stem
