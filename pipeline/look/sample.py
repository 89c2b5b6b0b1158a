"""A sample of a view: which images or objects are shown, and their pictures.

What is chosen depends on the seed and the keys of the images alone, not on buckets or workers. The tables are gone
through twice, a bucket at a time: once for what ranks first, once for the rows of those.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from pipeline import storage
from pipeline.base.humanize import plural
from pipeline.geometry.rectangles import smallest_rectangles
from pipeline.look import shapes
from pipeline.look.bucket import Bucket, read_bucket, with_sizes
from pipeline.look.shapes import Shape
from pipeline.look.thumbnails import Opened, open_upright, why_none
from pipeline.runtime.log import LOG

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.base.arrays import Floats, Ints
    from pipeline.look.view import View

#: How a sample is sorted: of images by chance or most objects, of objects by the area of their boxes, by how long and
#: thin they are themselves, at any angle, or by chance.
IMAGE_SORTS = ("random", "most")
OBJECT_SORTS = ("smallest", "largest", "extreme", "random")

#: Objects of an image that are drawn, and about so many points of all their outlines: of more none is seen for itself.
_MOST_OBJECTS, _MOST_POINTS = 1_000, 20_000

#: What ranks: whether it is of an image of unknown size, where sizes matter, and its number among such or the others;
#: class (of `Wish.each`, else -1), key, row of the object (of an image -1), bucket.
_Entry = tuple[tuple[bool, float], int, str, int, int]


@dataclass(frozen=True)
class Wish:
    """What is to be shown: at most `count` images or, with `objects`, objects; of some classes and one split, or all.

    `each` asks for so many images of each class instead, in the order of `classes`, with all of their objects.
    """

    count: int
    seed: int = 0
    classes: tuple[int, ...] | None = None
    split: str | None = None
    objects: bool = False
    sort: str = "random"
    each: int | None = None


@dataclass(frozen=True)
class Sample:
    """An image that is shown: its shapes, as shares of the image that labels describe, of `said` size in pixels.

    They are those of its largest objects, largest first: so many `others` are not drawn. With `single` one object is
    shown, the only one in `shapes`.
    """

    key: str
    split: str
    path: str | None
    said: tuple[int, int] | None
    shapes: tuple[Shape, ...]
    others: int = 0
    single: bool = False


@dataclass(frozen=True)
class Shown:
    """A sample with its picture and its shapes as shares of that; None where the image cannot be had, with `reason`."""

    sample: Sample
    opened: Opened | None
    shapes: tuple[Shape, ...]
    reason: str = ""


def choose(view: View, wish: Wish) -> list[Sample]:
    """The samples that `wish` asks for, in its order."""
    best: list[_Entry] = []
    for bucket in range(view.buckets):
        best = _first([*best, *_ranked(view, wish, bucket)], wish)
    if wish.each is not None:  # an image is there once, for the first of its classes
        best = list({entry[2]: entry for entry in reversed(best)}.values())[::-1]
    by_bucket: dict[int, list[_Entry]] = {}
    for entry in best:
        by_bucket.setdefault(entry[4], []).append(entry)
    found: dict[Any, Sample] = {}
    for bucket, entries in by_bucket.items():
        found.update(zip(entries, _read(view, wish, bucket, entries), strict=True))
    samples = [found[entry] for entry in best]
    _say_others(samples)
    return samples


def _say_others(samples: Sequence[Sample]) -> None:
    crowded = [sample for sample in samples if sample.others]
    if crowded:
        first, more = crowded[0], f" and {plural(len(crowded) - 1, 'more image')}" if len(crowded) > 1 else ""
        LOG.warning(
            "%s%s: %s are not drawn; of a crowded image the largest are", first.path or first.key, more,
            plural(sum(sample.others for sample in crowded), "object"),
        )  # fmt: skip


def _first(entries: list[Any], wish: Wish) -> list[Any]:
    """The entries that rank first, of `each` class where that is asked."""
    if wish.each is None:
        return sorted(entries, key=lambda entry: (entry[0], entry[2], entry[3]))[: wish.count]
    rank = {number: i for i, number in enumerate(wish.classes or ())}
    entries.sort(key=lambda entry: (rank.get(entry[1], 0), entry[0], entry[2]))
    taken: Counter[int] = Counter()
    first = []
    for entry in entries:
        if taken[entry[1]] < wish.each:
            taken[entry[1]] += 1
            first.append(entry)
    return first


def _ranked(view: View, wish: Wish, bucket: int) -> list[_Entry]:
    import numpy as np

    found = read_bucket(view, bucket, raw=wish.objects and wish.sort == "extreme")
    keys = found.images["key"].to_pylist()
    there = found.images["image_path"].is_valid().to_numpy()
    if wish.split is not None:
        there = there & (np.array(found.images["split"].to_pylist(), object) == wish.split)
    classes = found.objects["class_id"].to_numpy()
    rows = there[found.image]
    if wish.classes is not None:
        rows = rows & np.isin(classes, wish.classes)
    if wish.objects:
        return _objects(view, wish, bucket, found, np.flatnonzero(rows), keys)
    chance = _chance(keys, wish.seed)
    if wish.each is not None:
        count = len(view.classes)
        pairs = np.unique(found.image[rows] * count + classes[rows])
        number, image = pairs % count, pairs // count
        order = np.lexsort((chance[image], number))
        among = np.arange(len(order)) - np.searchsorted(number[order], number[order])  # those of its class
        best = order[among < wish.each]
        return [
            ((False, float(chance[i])), int(c), keys[i], -1, bucket)
            for i, c in zip(image[best], number[best], strict=True)
        ]
    wanted = there.copy()
    if wish.classes is not None:
        wanted &= np.bincount(found.image[rows], minlength=len(keys)) > 0
    rank = chance
    if wish.sort == "most":
        rank = chance - np.bincount(found.image[rows], minlength=len(keys))
    some = np.flatnonzero(wanted)
    some = some[np.argsort(rank[some], kind="stable")][: wish.count]
    return [((False, float(rank[i])), -1, keys[i], -1, bucket) for i in some.tolist()]


def _objects(view: View, wish: Wish, bucket: int, found: Bucket, rows: Ints, keys: Sequence[str]) -> list[_Entry]:
    import numpy as np

    image, unknown = found.image[rows], np.zeros(len(rows), bool)
    if wish.sort == "random":
        own = rows - np.searchsorted(found.image, image)  # its number within the image, whatever bucket that is in
        rank = _chance([f"{keys[i]}/{n}" for i, n in zip(image.tolist(), own.tolist(), strict=True)], wish.seed)
    else:
        images = with_sizes(view, found.images)
        sides = [images[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in ("width", "height")]
        width, height = (np.nan_to_num(side[image], nan=1.0) for side in sides)  # without a size, shares rank
        unknown = np.isnan(sides[0][image])
        w, h = (found.objects[name].to_numpy()[rows] for name in ("w", "h"))
        w, h = w * width, h * height
        if wish.sort == "extreme":
            w, h = _sides(view, found.objects.take(rows), w, h, np.stack([width, height], axis=1))
        w, h = np.maximum(w, 1e-9), np.maximum(h, 1e-9)
        rank = {"smallest": w * h, "largest": -w * h, "extreme": -np.maximum(w / h, h / w)}[wish.sort]
    order = np.lexsort((rank, unknown))[: wish.count]
    return [((bool(unknown[i]), float(rank[i])), -1, keys[image[i]], int(rows[i]), bucket) for i in order.tolist()]


def _sides(view: View, objects: pa.Table, w: Floats, h: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """The sides of `objects`: of boxes `w` and `h`, of other shapes those of the smallest rectangle around each.

    `scale`, shape (objects, 2), is by what shares of an image are multiplied.
    """
    import numpy as np

    some = np.flatnonzero((objects["n_tokens"].to_numpy() > 5) | objects["raw"].is_valid().to_numpy())
    tails, raws = (objects[name].take(some).to_pylist() for name in ("tail", "raw"))
    points = [
        shapes.points_of_annotation(_decoded(raw)) if raw is not None
        else shapes.points_of_row(tail or b"", view.keypoints) * scale[i]
        for i, tail, raw in zip(some.tolist(), tails, raws, strict=True)
    ]  # fmt: skip
    counts = np.array(list(map(len, points)), np.int64)
    outlined = some[counts > 0]
    if len(outlined):
        counts = counts[counts > 0]
        w[outlined], h[outlined] = smallest_rectangles(np.concatenate(points), np.cumsum(counts) - counts)
    return w, h


def _decoded(raw: bytes) -> dict[str, Any]:
    """A COCO annotation; of one that cannot be read nothing."""
    try:
        found = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _chance(names: Sequence[str], seed: int) -> Floats:
    """A number from 0 to 1 for each of `names`, the same in every run with the same seed."""
    import numpy as np

    start = zlib.crc32(str(seed).encode())
    hashes = np.fromiter((zlib.crc32(name.encode(), start) for name in names), np.uint64, len(names))
    mixed = (hashes ^ (hashes >> np.uint64(15))) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


def _read(view: View, wish: Wish, bucket: int, entries: Sequence[_Entry]) -> Iterator[Sample]:
    """The samples of one bucket, in the order of `entries`."""
    import numpy as np

    found = read_bucket(view, bucket, raw=True)
    position = {key: i for i, key in enumerate(found.images["key"].to_pylist())}
    edges = np.searchsorted(found.image, np.arange(found.images.num_rows + 1))
    classes = found.objects["class_id"].to_numpy()
    for _, _, key, row, _ in entries:
        image = found.images.slice(position[key], 1).to_pylist()[0]
        said = (image["width"], image["height"]) if image["width"] and image["height"] else None
        rows = np.arange(edges[position[key]], edges[position[key] + 1]) if row < 0 else np.array([row])
        if row < 0 and wish.classes is not None and wish.each is None:
            rows = rows[np.isin(classes[rows], wish.classes)]
        drawn = _drawn(view, found.objects, rows, said)
        yield Sample(key, image["split"], image["image_path"], said, drawn, len(rows) - len(drawn), row >= 0)


def _drawn(view: View, objects: pa.Table, rows: Ints, said: tuple[int, int] | None) -> tuple[Shape, ...]:
    """The shapes of those of `rows`, the objects of one image, that are drawn: the largest, as far as there is room."""
    import numpy as np

    w, h = (objects[name].to_numpy()[rows] for name in ("w", "h"))
    drawn: list[Shape] = []
    room = _MOST_POINTS
    for row in rows[np.argsort(-(w * h), kind="stable")][:_MOST_OBJECTS].tolist():
        drawn.append(_shape(view, objects.slice(row, 1).to_pylist()[0], said))
        room -= drawn[-1].corners
        if room <= 0:
            break
    return tuple(drawn)


def _shape(view: View, row: dict[str, Any], said: tuple[int, int] | None) -> Shape:
    box = (row["cx"], row["cy"], row["w"], row["h"])
    if row["raw"] is not None and said is not None:
        return shapes.of_annotation(row["class_id"], box, _decoded(row["raw"]), *said)
    return shapes.of_row(row["class_id"], box, row["tail"] or b"", view.keypoints)


def pictures(view: View, samples: Sequence[Sample], side: int) -> Iterator[tuple[int, Shown]]:
    """The picture of each of `samples`, by its index, as they come; of at least `side` pixels where it has them."""
    having = {i: sample.path for i, sample in enumerate(samples) if sample.path is not None}
    numbers = list(having)
    for location, some in view.origins.locations([samples[i].key for i in numbers], list(having.values())):
        yield from _fetched(location, samples, [numbers[i] for i in some], side)
    for i, sample in enumerate(samples):
        if i not in having:
            yield i, Shown(sample, None, sample.shapes, "has no image")


def _fetched(
    location: storage.Location, samples: Sequence[Sample], numbers: Sequence[int], side: int
) -> Iterator[tuple[int, Shown]]:
    paths = [str(samples[i].path) for i in numbers]
    if location.remote:
        location.gather(paths, storage.Limits(), lambda _: None)
    for fetched in location.fetch_many(paths):
        number = numbers[fetched.index]
        sample = samples[number]
        if fetched.reason is not None:
            yield number, Shown(sample, None, sample.shapes, f"cannot be read: {fetched.reason}")
            continue
        # A crop of a small object needs all pixels that there are.
        opened = open_upright(fetched.data, 1 << 20 if sample.single else side)
        if opened is None:
            yield number, Shown(sample, None, sample.shapes, why_none(fetched.data))
            continue
        yield number, Shown(sample, opened, tuple(opened.as_shown(s, sample.said) for s in sample.shapes))


def in_order(found: Iterator[tuple[int, Shown]]) -> list[Shown]:
    """Pictures in the order of their samples."""
    return [shown for _, shown in sorted(found, key=lambda pair: pair[0])]
