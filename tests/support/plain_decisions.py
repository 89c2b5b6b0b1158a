"""What is decided on of all images together, in plain loops: splits, duplicates, caps and backgrounds."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import xxhash

from tests.support.plain_world import SUPERCATEGORIES, Expected, Image, Picture

#: The difference hash of an image; None where it cannot be decoded.
Hash = Callable[[Picture], int | None]


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


def assign(images: Sequence[Image], split: Mapping[str, Any] | None, found: Expected, fixed: Mapping[str, str]) -> None:
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


def drop_duplicates(images: Sequence[Image], dedup: Mapping[str, Any] | None, look_hash: Hash) -> None:
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


def cap(images: Sequence[Image], caps: Mapping[str, Any], names: Sequence[str]) -> None:
    """Take images of the rarest class first, in the order of their ranks, as long as they fit below the caps."""
    having = [
        [image for image in _left(images) if any(n == number for n, _ in image.rows)] for number in range(len(names))
    ]
    order = sorted((number for number, some in enumerate(having) if some), key=lambda n: (len(having[n]), n))
    taken: list[Image] = []
    for number in order:

        def objects(image: Image, number: int = number) -> int:
            return sum(n == number for n, _ in image.rows)

        here = [image for image in having[number] if image in taken]
        most_images = caps.get("max_images", math.inf) - len(here)
        most_objects = caps.get("max_objects", math.inf) - sum(map(objects, here))
        for image in sorted(having[number], key=lambda image: (_rank(image, caps.get("seed", 0)), image.key)):
            if image in taken or image.why is not None:
                continue
            if objects(image) <= most_objects and most_images > 0:
                most_objects -= objects(image)
                most_images -= 1
                taken.append(image)
            else:
                image.leave("capped")


def draw_backgrounds(images: Sequence[Image], how: Any, numbers: Mapping[str, int]) -> None:
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
