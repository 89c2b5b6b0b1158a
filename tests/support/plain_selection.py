"""What a subset must be, said once more in plain loops: an oracle that shares no code with the stages that it judges.

A `World` is what sources hold, whatever the formats that they are written in. `expected` goes through the steps of a
selection in their order (`conf/README.md`, "Shape the subset" and "Splits"), one image and one object after another.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

import xxhash

SUPERCATEGORIES = {"car": "vehicle", "bus": "vehicle", "truck": "vehicle", "dog": "animal", "person": "person"}


@dataclass(frozen=True)
class Obj:
    """An object: its class in the source, its box (left, top, width, height) in pixels of the image as it is shown."""

    name: str
    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True)
class Picture:
    """An image, its size as it is shown, and its objects; `objects` None: nobody labelled it.

    `file` is ``whole``, ``missing``, ``empty`` or ``cut``; `look` is what it shows. `bad`: its label file has, beside
    the objects, a row that no reader takes (``tokens``), or of a class that has no name (``class``).
    """

    source: str
    split: str
    stem: str
    suffix: str
    width: int
    height: int
    turned: bool
    look: int
    objects: tuple[Obj, ...] | None
    file: str = "whole"
    bad: str | None = None


@dataclass(frozen=True)
class Source:
    """A source: its name, the format of its labels, its classes in their order, and those that it labels everywhere."""

    name: str
    format: str
    names: tuple[str, ...]
    exhaustive: tuple[str, ...] | None = None

    @property
    def says_sizes(self) -> bool:
        """Whether the labels say how large images are."""
        return self.format != "yolo"

    def folder(self, split: str) -> str:
        """What a split is called in keys."""
        return f"instances_{split}2017" if self.format == "coco" else f"{split}2017"


@dataclass(frozen=True)
class World:
    """The sources and their images."""

    sources: tuple[Source, ...]
    pictures: tuple[Picture, ...]

    def source(self, picture: Picture) -> Source:
        """The source of an image."""
        return next(source for source in self.sources if source.name == picture.source)

    def has(self, picture: Picture) -> bool:
        """Whether there is an image file or a label; one that COCO JSON lists alone, without objects, is neither."""
        labelled = bool(picture.objects) or (picture.objects is not None and self.source(picture).format != "coco")
        return labelled or picture.file != "missing"

    def key(self, picture: Picture) -> str:
        """The key of an image."""
        return f"{picture.source}/{self.source(picture).folder(picture.split)}/{picture.stem}"


@dataclass
class Image:
    """What becomes of one image: `rows` are its objects that are left, with their numbers; `why` it was left out."""

    picture: Picture
    key: str
    source: Source
    rows: list[tuple[int, Obj]]
    why: str | None = None
    split: str = ""
    path: str = ""

    def leave(self, why: str) -> None:
        """Leave it out, unless an earlier step did."""
        self.why = self.why or why


@dataclass
class Expected:
    """The subset's classes, its images, what became of all images and rows by counted word, unusable ones by reason."""

    classes: tuple[str, ...]
    taken: list[Image] = field(default_factory=list)
    images: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    unlabelled: Counter[str] = field(default_factory=Counter)
    sides: dict[str, str] = field(default_factory=dict)


#: Conditions of `select.objects.where`, and what they mean of an object, its image and the name of its class.
CONDITIONS: dict[str, Callable[[Obj, Picture, str], bool]] = {
    "w * h > 0.0137": lambda o, p, c: o.w / p.width * o.h / p.height > 0.0137,
    "name != 'car' or cx < 0.4987": lambda o, p, c: c != "car" or (o.x + o.w / 2) / p.width < 0.4987,
    "width >= 40 and not h > 0.7013": lambda o, p, c: p.width >= 40 and not o.h / p.height > 0.7013,
    "name in ('dog', 'bus', 'all')": lambda o, p, c: c in ("dog", "bus", "all"),
}

Hash = Callable[[Picture], int | None]


def expected(
    world: World, config: Mapping[str, Any], look_hash: Hash, fixed: Mapping[str, str] | None = None
) -> Expected | None:
    """The subset of `world` that `config` asks for; None where its classes are refused.

    Lists of images are in ``listed`` and ``excluded``. `look_hash` gives the difference hash of an image, None where it
    cannot be decoded; `fixed` are groups that a split table has.
    """
    if (mapped := class_numbers(world, config["classes"])) is None:
        return None
    (names, numbers), select = mapped, config["select"]
    found, images = Expected(names), []
    for picture in sorted(filter(world.has, world.pictures), key=world.key):
        objects, source = picture.objects or (), world.source(picture)
        rows = [(numbers[one.name], one) for one in objects if one.name in numbers]
        found.rows += Counter(other_classes=len(objects) - len(rows))
        found.rows[{"tokens": "bad", "class": "unknown_class"}.get(picture.bad or "", "bad")] += bool(picture.bad)
        images.append(Image(picture, world.key(picture), source, rows))
    several = len(world.sources) > 1
    _lists(images, config, several=several)
    need_image = config["target"]["images"] != "none"
    for image in images:
        _objects(image, select, found, need_image=need_image)
        _image(image, select, found, _doubtful(image.source, names, numbers), need_image=need_image)
    _splits(images, config["split"], found, fixed or {})
    _duplicates(images, select["dedup"], look_hash)
    _caps(images, select["per_class"], names)
    _backgrounds(images, select["background"], numbers, names)
    for image in images:
        if need_image and not image.rows:
            _check(image, select, found)
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
        if any(_names(entry, image.key, keys, several=several) for entry in config.get("excluded", ())):
            image.leave("excluded")
        elif "listed" in config and not any(
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


def _objects(image: Image, select: Mapping[str, Any], found: Expected, *, need_image: bool) -> None:
    """Leave out rows that repeat one, and rows beyond a limit, or the image for them."""
    limits = {key: limit for key, limit in select["objects"].items() if key != "drop" and limit is not None}
    picture, rows = image.picture, image.rows
    repeated = _repeated(rows) if select["duplicates"] == "drop" else []
    rows = [row for i, row in enumerate(rows) if i not in repeated]
    pixels = bool({*limits} - {"where", "min_area_ratio"}) or "width" in limits.get("where", "")
    known = image.source.says_sizes or (picture.file == "whole")
    unreadable = pixels and not known and picture.file != "missing" and bool(rows) and image.why is None
    if not known and (pixels or not need_image):
        assert need_image or picture.file != "missing" or not pixels, "the size of an image that is not there is asked"
    beyond = [row for row in rows if _beyond(row, picture, found.classes, limits, known=known and image.why is None)]
    left = [row for row in rows if row not in beyond]
    if image.why is not None:  # its rows go with it
        return
    found.rows["duplicates"] += len(repeated)
    found.rows["beyond"] += len(beyond)
    image.rows = left
    if unreadable:
        found.problems["image_unreadable"] += 1
    if beyond and select["objects"].get("drop") == "image":
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
    image: Image, select: Mapping[str, Any], found: Expected, doubtful: Sequence[int], *, need_image: bool
) -> None:
    """Leave out an image for the number of its objects, for what it may hold, or because it cannot be used."""
    picture, how = image.picture, select["background"]
    if image.why is not None:
        return
    if image.rows:
        least, most = (select["objects_per_image"].get(end) for end in ("min", "max"))
        if len(image.rows) < (least or 1):
            image.leave("few_objects")
        elif most is not None and len(image.rows) > most:
            image.leave("many_objects")
        elif doubtful and select["on_unlabelled"] == "drop":
            image.leave("unlabelled_class")
        elif need_image and picture.file == "missing":
            image.leave("no_image")
            found.problems["no_image"] += 1
        elif need_image:
            _check(image, select, found)
        return
    if how == "none" or picture.file == "missing" or (how == "unlabelled" and (picture.objects or picture.bad)):
        image.leave("other_classes" if picture.objects or picture.bad else "background")
    elif picture.bad:
        image.leave("unread")
    elif doubtful:
        image.leave("unlabelled_class")


def _check(image: Image, select: Mapping[str, Any], found: Expected) -> None:
    """Leave out an image that cannot be used, if it is checked."""
    picture, reason = image.picture, None
    if select["check_images"] == "none" or image.why is not None:
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


# --- all images together ----------------------------------------------------------------------------------------------


def _left(images: Iterable[Image]) -> list[Image]:
    return [image for image in images if image.why is None]


def _rank(image: Image, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(image.key.encode(), seed) >> 1


def _group(stem: str, by: str) -> str:
    if by == "image":
        return stem
    if by == "folder":
        return stem.rpartition("/")[0]
    match = re.search(by, stem)
    return match[1] if match else stem


def _splits(images: Sequence[Image], split: Mapping[str, Any] | None, found: Expected, fixed: Mapping[str, str]) -> None:
    for image in images:
        image.split = image.picture.split
    if split is None:
        return
    shares = {name: split[name] for name in ("train", "val", "test") if name in split}
    groups = {image.key: _group(image.picture.stem, split["by"]) for image in images}
    if split["stratify"]:
        members: dict[str, list[Image]] = {}
        for image in _left(images):
            members.setdefault(groups[image.key], []).append(image)
        found.sides = stratified(members, shares, split["seed"], fixed)
    for image in images:
        group, upto = groups[image.key], 0.0
        at = xxhash.xxh3_64_intdigest(f"{split['seed']}\0{group}".encode()) / 2**64
        for name, share in shares.items():
            image.split, upto = name, upto + share
            if at < upto:
                break
        image.split = found.sides.get(group, image.split)


def stratified(
    members: Mapping[str, Sequence[Image]], shares: Mapping[str, float], seed: int, fixed: Mapping[str, str]
) -> dict[str, str]:
    """Iterative stratification (Sechidis and others, 2011): the rarest class first, its largest groups first."""
    sides: dict[str, str] = {}
    counts = {g: Counter(number for image in some for number, _ in image.rows) for g, some in members.items()}
    totals = sum(counts.values(), Counter())
    everything = sum(map(len, members.values()))

    def lack(side: str, number: int | None) -> float:
        """How many objects of a class, or images, a split still lacks."""
        of_side = [group for group, where in sides.items() if where == side]
        if number is None:
            return shares[side] * everything - sum(len(members[group]) for group in of_side)
        lacking = shares[side] * totals[number]
        for group in of_side:
            lacking -= counts[group][number]
        return lacking

    def point(group: str) -> float:
        return float(xxhash.xxh3_64_intdigest(f"{seed}\0{group}".encode())) / 2**64

    for group in sorted(members):
        if group in fixed:
            sides[group] = fixed[group]
    while left := Counter(n for group, of in counts.items() if group not in sides for n in of.elements()):
        rarest = min(left, key=lambda number: (left[number], number))
        for group in sorted(
            (g for g in members if g not in sides and counts[g][rarest]),
            key=lambda g: (-counts[g][rarest], point(g), g),
        ):
            sides[group] = max(shares, key=lambda side: (round(lack(side, rarest), 9), round(lack(side, None), 9)))
    for group in sorted((g for g in members if g not in sides), key=lambda g: (-len(members[g]), point(g), g)):
        sides[group] = max(shares, key=lambda side: round(lack(side, None), 9))
    return sides


def _duplicates(images: Sequence[Image], dedup: Mapping[str, Any] | None, look_hash: Hash) -> None:
    """Leave out images of which another split has an equal or a near one."""
    if dedup is None:
        return
    candidates = _left(images)
    stay = [image for image in candidates if image.split == dedup["keep"]]
    for split in reversed([name for name in dedup["across"] if name != dedup["keep"]]):
        here = [image for image in candidates if image.split == split]
        for image in here:
            why = {_likeness(image.picture, other.picture, dedup["bits"], look_hash) for other in stay}
            for reason in ("equal_image", "near_duplicate"):
                if reason in why:
                    image.leave(reason)
        stay += _left(here)


def _likeness(one: Picture, other: Picture, bits: int, look_hash: Hash) -> str | None:
    def content(p: Picture) -> tuple[Any, ...]:
        return ("empty",) if p.file == "empty" else (p.look, p.width, p.height, p.turned, p.suffix, p.file)

    if content(one) == content(other):
        return "equal_image"
    hashes = look_hash(one), look_hash(other)
    if None in hashes or any(value in (0, 2**64 - 1) for value in hashes):
        return None
    return "near_duplicate" if ((hashes[0] or 0) ^ (hashes[1] or 0)).bit_count() <= bits else None


def _caps(images: Sequence[Image], caps: Mapping[str, Any], names: Sequence[str]) -> None:
    """Take images of the rarest class first, in the order of their ranks, as long as they fit below the caps."""
    limits = []
    for key in ("max_images", "max_objects"):
        cap = caps.get(key)
        of_class = cap if isinstance(cap, dict) else dict.fromkeys(names, cap)
        limits.append([math.inf if of_class.get(name) is None else of_class[name] for name in names])
    having = [[image for image in _left(images) if any(n == number for n, _ in image.rows)] for number in range(len(names))]
    order = sorted((number for number, some in enumerate(having) if some), key=lambda n: (len(having[n]), n))
    taken: list[Image] = []
    for number in order:
        def objects(image: Image, number: int = number) -> int:
            return sum(n == number for n, _ in image.rows)

        here = [image for image in having[number] if image in taken]
        most_images, most_objects = limits[0][number] - len(here), limits[1][number] - sum(map(objects, here))
        for image in sorted(having[number], key=lambda image: (_rank(image, caps.get("seed", 0)), image.key)):
            if image in taken or image.why is not None:
                continue
            if objects(image) <= most_objects and most_images > 0:
                most_objects -= objects(image)
                most_images -= 1
                taken.append(image)
            else:
                image.leave("capped")


def _backgrounds(images: Sequence[Image], how: Any, numbers: Mapping[str, int], names: Sequence[str]) -> None:
    """Leave out what is above the share of backgrounds."""
    if isinstance(how, str):
        return
    free = sorted((i for i in _left(images) if not i.rows), key=lambda i: _rank(i, how.get("seed", 0)))
    if how.get("prefer") == "near-miss":
        free = _nearest_first(images, free, how.get("seed", 0), numbers)
    if how.get("ratio") is not None:
        ratio, drawn = Fraction(repr(how["ratio"])), []
        for split in ("train", "val", "test"):
            here = [image for image in free if image.split == split]
            full = sum(bool(image.rows) and image.split == split for image in _left(images))
            while here and Fraction(len(here), len(here) + full) > ratio:
                here.pop()
            drawn += here
        free = [image for image in free if image in drawn]
    free = free[: how.get("max") if how.get("max") is not None else None]
    for image in images:
        if not image.rows and image.why is None and image not in free:
            image.leave("not_drawn")


def _nearest_first(
    images: Sequence[Image], free: Sequence[Image], seed: int, numbers: Mapping[str, int]
) -> list[Image]:
    """By an exponential race: those whose classes occur beside wanted ones, each with a chance by how often they do."""
    groups = {SUPERCATEGORIES.get(name) for name in numbers} - {None}
    others = {i.key: {o.name for o in i.picture.objects or () if o.name not in numbers} for i in images}
    # Of all images that come so far: those that go as near duplicates, or for a cap, are evidence as well.
    seen = [i for i in images if i.why in (None, "equal_image", "near_duplicate", "capped")]
    weight = {}
    for name in {name for some in others.values() for name in some}:
        having = [image for image in seen if name in others[image.key]]
        share = sum(bool(image.rows) for image in having) / len(having) if having else 0.0
        share = share if share >= 0.01 else 0.0
        weight[name] = max(share, 0.01) if SUPERCATEGORIES.get(name) in groups else share

    def place(image: Image) -> tuple[bool, float, int]:
        near = max((weight[name] for name in others[image.key]), default=0.0)
        u = (_rank(image, seed) + 1.0) / 2.0**63
        return near <= 0, -math.log(min(u, 1 - 2.0**-53)) / near if near > 0 else 0.0, _rank(image, seed)

    return sorted(free, key=place)


def _paths(images: Sequence[Image], found: Expected, config: Mapping[str, Any], *, several: bool) -> None:
    """Where each image is below its split: of two of one name that are assigned anew, below its old split's folder."""
    stems = Counter((image.source.name, image.picture.stem) for image in images)
    for image in found.taken:
        stem = image.picture.stem
        if config["split"] is not None and stems[image.source.name, stem] > 1:
            stem = f"{image.source.folder(image.picture.split)}/{stem}"
        stem = f"{image.source.name}/{stem}" if several else stem
        image.path = stem.replace("/", "__") if config["target"].get("flat") else stem
