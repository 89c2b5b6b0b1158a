"""Small datasets drawn at random, what happens to them, and the files of each in its format."""

from __future__ import annotations

import functools
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from hypothesis import strategies as st
from PIL import Image as PillowImage

from pipeline.images.hashes import difference_hash
from tests.support.helpers import write_file
from tests.support.plain_world import SUPERCATEGORIES, Obj, Picture, Source, World

POOL = ("person", "car", "bus", "traffic light", "traffic sign", "dog", "cat")

#: Width and height; the last is no image to a trainer.
SIZES = ((40, 30), (30, 50), (64, 48), (427, 20), (60, 9))

#: Sides of boxes in pixels: at limits, a little beside them, and others.
SIDES = (4, 5, 9.99, 10, 10.01, 12.5, 3.3, 20)

STEMS = ("a", "b", "cam1_a", "cam1_b", "cam2_c", "sub/d", "sub/e", "sub/a", "other/f", "a b", "ü")


# --- what is drawn ----------------------------------------------------------------------------------------------------


@st.composite
def objects(draw: st.DrawFn, names: Sequence[str], size: tuple[int, int]) -> tuple[Obj, ...]:
    """Objects that are within an image."""
    found = []
    for _ in range(draw(st.integers(0, 3))):
        w, h = (min(draw(st.sampled_from(SIDES)), side) for side in size)
        x, y = (draw(st.sampled_from((0, 0.5, 1))) * (side - own) for side, own in zip(size, (w, h), strict=True))
        found.append(Obj(draw(st.sampled_from(names)), round(x, 4), round(y, 4), w, h))
    if found and draw(st.integers(0, 4)) == 0:
        found.append(found[0])
    return tuple(found)


@st.composite
def picture(draw: st.DrawFn, source: Source) -> Picture:
    """An image of a source."""
    size = draw(st.sampled_from(SIZES))
    labelled = draw(st.integers(0, 5)) > 0
    file = draw(st.sampled_from(("whole",) * 12 + (*(("missing",) if labelled else ()), "empty", "cut")))
    listed = source.format == "coco"
    bad = draw(st.sampled_from((None,) * 12 + ("tokens", "class"))) if labelled and source.format == "yolo" else None
    return Picture(
        source.name,
        draw(st.sampled_from(("train", "train", "val"))),
        draw(st.sampled_from(STEMS)),
        draw(st.sampled_from((".png", ".jpg"))),
        *size,
        source.format == "yolo" and draw(st.integers(0, 3)) == 0,
        draw(st.integers(0, 5)),
        draw(objects(source.names, size)) if labelled else () if listed else None,
        file if not listed or file in ("whole", "missing") else "whole",
        bad,
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """One source or two, with some images each."""
    sources = []
    for name in draw(st.sampled_from((("source",), ("source",), ("one", "two")))):
        names = tuple(draw(st.permutations(POOL))[: draw(st.integers(3, 6))])
        everywhere = tuple(names[:2]) if draw(st.integers(0, 5)) == 0 else None
        sources.append(Source(name, draw(st.sampled_from(("yolo", "yolo", "coco", "labelme"))), names, everywhere))
    pictures: dict[str, Picture] = {}
    for source in sources:
        for one in draw(st.lists(picture(source), min_size=2, max_size=9)):
            pictures.setdefault(f"{one.source}/{one.split}/{one.stem}", one)
    return World(tuple(sources), tuple(pictures.values()))


# --- edits ------------------------------------------------------------------------------------------------------------


@st.composite
def edited(draw: st.DrawFn, world: World) -> World:
    """The world after something happened to one of its images."""
    at = draw(st.integers(0, len(world.pictures) - 1))
    one = world.pictures[at]
    source = world.source(one)
    rest = [*world.pictures[:at], *world.pictures[at + 1 :]]
    what = draw(
        st.sampled_from(("objects", "gone", "new", "renamed", "moved", "swapped", "image", "suffix", "unlabelled"))
    )
    if what == "gone" and len(rest) > 2:
        return replace(world, pictures=tuple(rest))
    if what == "swapped" and len(rest) > 1:
        other = draw(st.sampled_from(rest))
        rest.remove(other)
        if other.source == one.source:
            return replace(
                world,
                pictures=(
                    *rest,
                    replace(one, stem=other.stem, split=other.split),
                    replace(other, stem=one.stem, split=one.split),
                ),
            )
    changed = {
        "objects": replace(one, objects=draw(objects(source.names, (one.width, one.height)))),
        "renamed": replace(one, stem=draw(st.sampled_from(STEMS))),
        "moved": replace(one, split="val" if one.split == "train" else "train"),
        "image": replace(one, look=one.look + 1, file="whole"),
        "suffix": replace(one, suffix=".png" if one.suffix == ".jpg" else ".jpg"),
        "unlabelled": replace(one, objects=() if source.format == "coco" or one.file == "missing" else None, bad=None),
        "new": draw(picture(source)),
    }.get(what, one)
    pictures = {f"{p.source}/{p.split}/{p.stem}": p for p in ([*world.pictures] if what == "new" else rest)}
    pictures.setdefault(f"{changed.source}/{changed.split}/{changed.stem}", changed)
    return replace(world, pictures=tuple(pictures.values()))


def clear(world: World) -> World:
    """The world with a file of each image that COCO JSON alone would know, or might take for another of its name.

    What becomes of those is tested in `tests/formats`.
    """

    def name(one: Picture) -> tuple[str, str, str]:
        return one.source, one.split, Path(one.stem).name

    count = Counter(map(name, world.pictures))
    pictures = (
        replace(one, file="whole")
        if one.file == "missing" and world.source(one).format == "coco" and (not one.objects or count[name(one)] > 1)
        else one
        for one in world.pictures
    )
    return replace(world, pictures=tuple(pictures))


# --- what is written --------------------------------------------------------------------------------------------------


@functools.cache
def image_bytes(look: int, size: tuple[int, int], suffix: str, *, turned: bool, file: str) -> bytes:
    """An image file, of which `size` is as it is shown."""
    if file == "empty":
        return b""
    # A chequered picture of its own for each look: two of them differ in many bits of their hashes.
    small = PillowImage.new("L", (9, 8))
    small.putdata(
        [(x * (look * 37 + 11) + y * (look * 23 + 7) + x * y * look * 5) % 256 for y in range(8) for x in range(9)]
    )
    made = small.resize(size, PillowImage.Resampling.NEAREST)
    exif = PillowImage.Exif()
    if turned:
        made = made.transpose(PillowImage.Transpose.ROTATE_90)
        exif[0x0112] = 6
    stream = io.BytesIO()
    made.save(stream, {".png": "PNG", ".jpg": "JPEG"}[suffix], exif=exif)
    data = stream.getvalue()
    return data[: len(data) // 2] if file == "cut" else data


def file_of(one: Picture) -> bytes:
    return image_bytes(one.look, (one.width, one.height), one.suffix, turned=one.turned, file=one.file)


def look_hash(one: Picture) -> int | None:
    """The hash that the tool gives an image: what is compared here is what becomes of images that are near."""
    return _hash_of(file_of(one))


_hash_of = functools.cache(difference_hash)


def shares(one: Obj, picture: Picture) -> tuple[float, float, float, float]:
    """The centre, width and height of an object's box as parts of its image's sides."""
    width, height = picture.width, picture.height
    return (one.x + one.w / 2) / width, (one.y + one.h / 2) / height, one.w / width, one.h / height


def tail(one: Obj, picture: Picture) -> str:
    """An object's box as label files have it: six digits, or fewer."""
    return " ".join(f"{value:.6f}".rstrip("0").rstrip(".") or "0" for value in shares(one, picture))


def _yolo(source: Source, pictures: Sequence[Picture]) -> dict[str, bytes]:
    files = {}
    for one in pictures:
        if one.objects is not None:
            rows = [f"{source.names.index(o.name)} {tail(o, one)}\n" for o in one.objects]
            rows += {None: [], "tokens": ["0 0.5 0.5\n"], "class": [f"{len(source.names)} 0.5 0.5 0.1 0.1"]}[one.bad]
            files[f"labels/{one.split}2017/{one.stem}.txt"] = "".join(rows).encode()
    return files


def _labelme(source: Source, pictures: Sequence[Picture]) -> dict[str, bytes]:
    files = {}
    for one in pictures:
        if one.objects is not None:
            shapes = [
                {"label": o.name, "shape_type": "rectangle", "points": [[o.x, o.y], [o.x + o.w, o.y + o.h]]}
                for o in one.objects
            ]
            name = f"{Path(one.stem).name}{one.suffix}"
            document = {"imagePath": name, "imageWidth": one.width, "imageHeight": one.height, "shapes": shapes}
            files[f"labels/{one.split}2017/{one.stem}.json"] = json.dumps(document).encode()
    return files


def _coco(source: Source, pictures: Sequence[Picture]) -> dict[str, bytes]:
    files = {}
    for split in ("train", "val"):
        here = [one for one in pictures if one.split == split]
        images = [
            {"id": n, "file_name": f"{one.stem}{one.suffix}", "width": one.width, "height": one.height}
            for n, one in enumerate(here)
        ]
        annotations = [
            {"image_id": n, "category_id": source.names.index(o.name), "bbox": [o.x, o.y, o.w, o.h], "area": o.w * o.h}
            for n, one in enumerate(here)
            for o in one.objects or ()
        ]
        numbered = [{"id": n, "iscrowd": 0, **one} for n, one in enumerate(annotations, 1)]
        categories = [
            {"id": n, "name": name, **({"supercategory": SUPERCATEGORIES[name]} if name in SUPERCATEGORIES else {})}
            for n, name in enumerate(source.names)
        ]
        document = {"images": images, "annotations": numbered, "categories": categories}
        files[f"annotations/instances_{split}2017.json"] = json.dumps(document).encode()
    return files


def source_files(world: World) -> dict[str, bytes]:
    """The files of all sources, each below a folder of its own."""
    files: dict[str, bytes] = {}
    for source in world.sources:
        here = [one for one in world.pictures if one.source == source.name]
        made = {"yolo": _yolo, "coco": _coco, "labelme": _labelme}[source.format](source, here)
        for one in here:
            if one.file != "missing":
                made[f"images/{one.split}2017/{one.stem}{one.suffix}"] = file_of(one)
        names = {
            "names": dict(enumerate(source.names)),
            "supercategories": {n: SUPERCATEGORIES[n] for n in source.names if n in SUPERCATEGORIES},
        }
        made["names.yaml"] = yaml.safe_dump(names).encode()
        files |= {f"{source.name}/{path}": data for path, data in made.items()}
    return files


def write_world(root: Path, before: Mapping[str, bytes], files: Mapping[str, bytes]) -> None:
    """Bring the sources at `root` from one state to the other; what is the same in both is not touched."""
    for path in before.keys() - files.keys():
        (root / path).unlink()
    for path, data in files.items():
        if before.get(path) != data:
            write_file(root / path, data)
    for name in {path.split("/")[0] for path in files}:
        for folder in ("labels", "images"):
            for split in ("train", "val"):
                (root / name / folder / f"{split}2017").mkdir(parents=True, exist_ok=True)
