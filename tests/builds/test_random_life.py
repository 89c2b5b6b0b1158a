"""Random lives of random datasets: each build is what plain loops say, and what a plan said; each rebuild a fresh one.

A life is a small dataset of one or two sources in several formats, a config, and edits of both. After each edit a plan
is made and carried out, and compared with `plain_selection.expected`: images, rows, class ids, splits, and how many were
left out for which reason. At its end the target is, byte for byte, what a first build makes of the same source.
"""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

import pipeline
from pipeline.api import verify
from pipeline.config.load import validate
from pipeline.images.hashes import difference_hash
from tests.support import plain_selection
from tests.support.helpers import contents, settle, write_file
from tests.support.plain_selection import CONDITIONS, SUPERCATEGORIES, Expected, Obj, Picture, Source, World

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


CLASSES = (
    None,
    ["car", "dog"],
    ["dog", {"name": "vehicle", "from": ["car", "bus"]}],
    [{"name": "all", "from": "*"}],
    ["traffic *", "cat"],
    [{"name": "moving", "supercategory": "vehicle"}, "person"],
    [{"exclude": ["person"]}],
    [{"supercategory": "vehicle", "exclude": ["bus"]}, {"name": "signs", "from": ["traffic*"], "exclude": ["* light"]}],
    ["person", {"name": "dog", "from": ["dog", "cat"]}],
)

KEYS: dict[str, st.SearchStrategy[Any]] = {
    "classes": st.sampled_from(CLASSES),
    "objects": st.sampled_from(
        (
            {},
            {},
            {"min_side": 10},
            {"min_side": 4.5, "max_side": 20, "drop": "image"},
            {"min_area": 50, "max_area": 250},
            {"max_aspect": 2},
            {"max_aspect": 4, "drop": "image"},
            {"min_area_ratio": 0.0137},
            *({"where": text} for text in CONDITIONS),
        )
    ),
    "duplicates": st.sampled_from(("keep", "drop")),
    "objects_per_image": st.sampled_from(({}, {}, {"min": 2}, {"max": 2}, {"min": 2, "max": 3})),
    "check_images": st.sampled_from(("none", "none", "header", "full")),
    "on_unlabelled": st.sampled_from(("keep", "keep", "drop")),
    "dedup": st.sampled_from(
        (None, None, {"across": ["train", "val"], "keep": "val", "bits": 0}, {"across": ["train", "test", "val"], "keep": "train", "bits": 3})
    ),
    "per_class": st.sampled_from(({}, {}, {"max_images": 2}, {"max_objects": 3, "seed": 4}, {"max_images": 3, "max_objects": 4})),
    "background": st.sampled_from(
        (
            "none",
            "unlabelled",
            "all",
            {"ratio": 0.3},
            {"ratio": 0.1, "max": 2, "seed": 3},
            {"max": 1},
            {"ratio": 0.5, "prefer": "near-miss"},
        )
    ),
    "listed": st.sampled_from((None, None, ("a", "sub/d.png", "cam1_b", "nowhere"), ("source/train2017/a", "/x/y/train2017/sub/e.jpg", "b", "ü.jpg", "cam2_c", "f"))),
    "excluded": st.sampled_from((None, None, ("a",), ("sub/a.jpg", "train2017/b.png"))),
    "split": st.sampled_from(
        (
            None,
            None,
            {"train": 0.5, "val": 0.5, "by": "image", "stratify": False, "seed": 0},
            {"train": 0.6, "val": 0.2, "test": 0.2, "by": "folder", "stratify": False, "seed": 1},
            {"train": 0.5, "val": 0.5, "by": "^(cam[0-9]+)_", "stratify": False, "seed": 2},
            {"train": 0.5, "val": 0.3, "test": 0.2, "by": "image", "stratify": True, "seed": 3},
            {"train": 0.5, "val": 0.5, "by": "folder", "stratify": True, "seed": 0},
        )
    ),
    "format": st.sampled_from(("yolo", "yolo", "coco")),
    "images": st.sampled_from(("copy", "copy", "hardlink", "none")),
    "flat": st.sampled_from((False, False, True)),
    "layout": st.sampled_from(("default", "default", "roboflow", "coco2017")),
    "buckets": st.sampled_from((1, 4, "auto")),
}  # fmt: skip

Config = dict[str, Any]


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """A config as flat keys; of `select` most are as they are without being named."""
    named = draw(st.sets(st.sampled_from(sorted(KEYS)), max_size=7))
    return {**USUAL, **{name: draw(KEYS[name]) for name in sorted(named)}}


USUAL: Config = {
    "classes": ["car", "dog"],
    "objects": {},
    "duplicates": "keep",
    "objects_per_image": {},
    "check_images": "none",
    "on_unlabelled": "keep",
    "dedup": None,
    "per_class": {},
    "background": "none",
    "listed": None,
    "excluded": None,
    "split": None,
    "format": "yolo",
    "images": "copy",
    "flat": False,
    "layout": "default",
    "buckets": 4,
}


# --- what is written --------------------------------------------------------------------------------------------------


@functools.cache
def image_bytes(look: int, size: tuple[int, int], suffix: str, *, turned: bool, file: str) -> bytes:
    """An image file, of which `size` is as it is shown."""
    if file == "empty":
        return b""
    # A chequered picture of its own for each look: two of them differ in many bits of their hashes.
    small = PillowImage.new("L", (9, 8))
    small.putdata([(x * (look * 37 + 11) + y * (look * 23 + 7) + x * y * look * 5) % 256 for y in range(8) for x in range(9)])
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


def share(value: float, whole: int) -> str:
    """A part of an image's side as label files have it, in six digits or in fewer."""
    return f"{value / whole:.6f}".rstrip("0").rstrip(".") or "0"


def tail(one: Obj, picture: Picture) -> str:
    centre = (share(one.x + one.w / 2, picture.width), share(one.y + one.h / 2, picture.height))
    return " ".join((*centre, share(one.w, picture.width), share(one.h, picture.height)))


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
    files = {}
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


# --- what is asked ----------------------------------------------------------------------------------------------------


def config_of(root: Path, world: World, keys: Config, place: str, table: Path | None) -> dict[str, Any]:
    """The config of `keys`, for a target and a workdir of `place`."""
    sources = []
    for source in world.sources:
        splits = {
            split: {
                **({"annotations": f"annotations/instances_{split}2017.json"} if source.format == "coco" else {"labels": f"labels/{split}2017"}),
                "images": f"images/{split}2017",
            }
            for split in ("train", "val")
        }
        folder = root / "sources" / source.name
        one = {"name": source.name, "format": source.format, "root": str(folder), "splits": splits}
        one |= {"names": str(folder / "names.yaml"), "exhaustive": source.exhaustive and list(source.exhaustive)}
        sources.append(one)
    select = {name: keys[name] for name in ("objects", "duplicates", "objects_per_image", "check_images", "on_unlabelled", "dedup", "per_class", "background")}
    for key, name in (("listed", "images"), ("excluded", "exclude_images")):
        if keys[key] is not None:
            select[name] = str(write_file(root / f"{key}.txt", "\n".join(keys[key])))
    split = keys["split"] and {**keys["split"], **({"table": str(table)} if table is not None and keys["split"]["stratify"] else {})}
    return {
        "source": sources,
        "classes": keys["classes"],
        "select": select,
        "split": split,
        "target": {"root": str(root / place), "format": keys["format"], "images": keys["images"], "flat": keys["flat"], "layout": keys["layout"], "max_delete": "none"},
        "index": {"buckets": keys["buckets"]},
        "engine": {"scheduler": "sync"},
        "on_error": "skip",
        "workdir": str(root / f"{place}-work"),
    }  # fmt: skip


def wanted_of(world: World, keys: Config, fixed: Mapping[str, str]) -> Expected | None:
    asked = {
        "classes": keys["classes"],
        "select": keys,
        "split": keys["split"],
        "target": {"images": keys["images"], "flat": keys["flat"]},
        **{key: keys[key] for key in ("listed", "excluded") if keys[key] is not None},
    }
    return plain_selection.expected(world, asked, look_hash, fixed)


FOLDERS = {
    ("yolo", "default"): ("images/{}", "labels/{}", {}),
    ("yolo", "roboflow"): ("{}/images", "{}/labels", {"val": "valid"}),
    ("yolo", "coco2017"): ("images/{}2017", "labels/{}2017", {}),
    ("coco", "default"): ("images/{}", "annotations/instances_{}.json", {}),
    ("coco", "roboflow"): ("{}", "{}/_annotations.coco.json", {"val": "valid"}),
    ("coco", "coco2017"): ("{}2017", "annotations/instances_{}2017.json", {}),
}


def check_target(target: Path, world: World, keys: Config, wanted: Expected) -> None:
    """Compare what is at the target with what must be."""
    made = contents(target)
    images, labels, called = FOLDERS[keys["format"], keys["layout"]]
    files: dict[str, bytes] = {}
    rows: dict[str, list[list[float]]] = {}
    for one in wanted.taken:
        picture = one.picture
        split = called.get(one.split, one.split)
        path = f"{images.format(split)}/{one.path}{picture.suffix}"
        if keys["images"] != "none":
            files[path] = file_of(picture)
        found = [[n, (o.x + o.w / 2) / picture.width, (o.y + o.h / 2) / picture.height, o.w / picture.width, o.h / picture.height] for n, o in one.rows]  # fmt: skip
        label = f"{labels.format(split)}/{one.path}.txt"
        rows[label if keys["format"] == "yolo" else f"{split}/{one.path}{picture.suffix}"] = found
        if keys["format"] == "yolo" and one.source.format == "yolo":
            assert made[label].decode() == "".join(f"{n} {tail(o, picture)}\n" for n, o in one.rows)
    assert {p: d for p, d in made.items() if p.endswith((".png", ".jpg"))} == files
    if keys["format"] == "yolo":
        there = {p: [[float(t) for t in line.split()] for line in d.decode().splitlines()] for p, d in made.items() if p.endswith(".txt")}  # fmt: skip
    else:
        there = {}
        for split in ("train", "val", "test"):
            split = called.get(split, split)  # noqa: PLW2901
            if (data := made.get(labels.format(split))) is not None:
                there |= coco_rows(json.loads(data), split, wanted.classes)
    assert there.keys() == rows.keys()
    for path, some in rows.items():
        assert there[path] == pytest.approx(some, abs=2e-6) if not some else len(there[path]) == len(some), path
        for row, own in zip(there[path], some, strict=True):
            assert row == pytest.approx(own, abs=2e-6), path


def coco_rows(document: Any, split: str, classes: Sequence[str]) -> dict[str, list[list[float]]]:
    """The objects of a COCO JSON by image, as rows of shares."""
    names = {category["id"]: classes.index(category["name"]) for category in document["categories"]}
    found: dict[str, list[list[float]]] = {}
    for image in document["images"]:
        size = image["width"], image["height"]
        rows = found[f"{split}/{image['file_name']}"] = []
        for one in document["annotations"]:
            if one["image_id"] == image["id"]:
                (x, y, w, h), (width, height) = one["bbox"], size
                rows.append([names[one["category_id"]], (x + w / 2) / width, (y + h / 2) / height, w / width, h / height])
    return found


def check_counts(report: Mapping[str, Any], wanted: Expected) -> None:
    """Compare what a plan says with what must be."""
    for key, counter in (("images", wanted.images), ("rows", wanted.rows)):
        said = {word: count for word, count in report[key].items() if count and word != "source"}
        assert said == {word: count for word, count in counter.items() if count}, (key, said, counter)
        assert report[key]["source"] == counter.total()
    assert report["problems"] == {word: count for word, count in wanted.problems.items() if count}
    assert report.get("unlabelled", {}) == dict(wanted.unlabelled)
    for split, counts in report["subset"].items():
        here = [one for one in wanted.taken if one.split == split]
        objects = Counter(wanted.classes[n] for one in here for n, _ in one.rows)
        images = Counter(name for one in here for name in {wanted.classes[n] for n, _ in one.rows})
        assert counts["images"] == len(here)
        assert counts["backgrounds"] == sum(not one.rows for one in here)
        assert {n: c for n, c in counts["objects"].items() if c} == objects
        assert {n: c for n, c in counts["images_by_class"].items() if c} == images
    for step in report["steps"].values():
        for what in ("images", "objects"):
            assert step[what]["in"] - sum(step[what]["left_out"].values()) == step[what]["out"]


# --- edits ------------------------------------------------------------------------------------------------------------


@st.composite
def edited(draw: st.DrawFn, world: World) -> World:
    """The world after something happened to one of its images."""
    at = draw(st.integers(0, len(world.pictures) - 1))
    one = world.pictures[at]
    source = world.source(one)
    rest = [*world.pictures[:at], *world.pictures[at + 1 :]]
    what = draw(st.sampled_from(("objects", "gone", "new", "renamed", "moved", "swapped", "image", "suffix", "unlabelled")))
    if what == "gone" and len(rest) > 2:
        return replace(world, pictures=tuple(rest))
    if what == "swapped" and len(rest) > 1:
        other = draw(st.sampled_from(rest))
        rest.remove(other)
        if other.source == one.source:
            return replace(world, pictures=(*rest, replace(one, stem=other.stem, split=other.split), replace(other, stem=one.stem, split=one.split)))
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


@st.composite
def lives(draw: st.DrawFn) -> tuple[list[tuple[World, Config]], bool]:
    """States of a world and a config, one after another; and whether files are touched between them."""
    world, keys = draw(worlds()), draw(configs())
    found = [(world, keys)]
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.integers(0, 2)):
            for _ in range(draw(st.integers(1, 3))):
                world = draw(edited(world))
        else:
            name = draw(st.sampled_from(sorted(KEYS)))
            keys = {**keys, name: draw(KEYS[name])}
        found.append((world, keys))
    return found, draw(st.booleans())


# --- a life -----------------------------------------------------------------------------------------------------------


def _said(report: Any) -> dict[str, Any]:
    """What plan and build must agree on."""
    names = ("plan", "subset", "rows", "images", "steps", "problems", "digest", "classes", "changes", "loss", "lists", "split", "unlabelled", "foreign")
    return {name: report.data[name] for name in names if name in report.data}


def one_step(root: Path, world: World, keys: Config, table: Path | None, place: str) -> tuple[Any, Any]:
    """A plan and a build: reports, or what they raise, in words."""
    made = []
    for command in (pipeline.plan, pipeline.build):
        try:
            made.append(command(validate(config_of(root, world, keys, place, table), "a life")))
        except pipeline.CocoDiyError as error:
            made.append(str(error))
    return made[0], made[1]


def live(root: Path, states: Sequence[tuple[World, Config]], *, touched: bool) -> None:
    files: dict[str, bytes] = {}
    fixed: dict[str, str] = {}
    for number, (world, keys) in enumerate(states):
        before, files = files, source_files(world)
        write_world(root / "sources", before, files)
        if touched:
            for path in files:
                os.utime(root / "sources" / path)
        settle()
        wanted = wanted_of(world, keys, fixed)
        planned, report = one_step(root, world, keys, None, "subset")
        if wanted is None:
            assert isinstance(report, str), (number, report)
            assert isinstance(planned, str), (number, planned)
            continue
        if not wanted.taken:
            assert isinstance(report, str), number
            assert "the subset would be empty" in report, report
            continue
        assert not isinstance(report, str), (number, report)
        check_counts(report.data, wanted)
        check_target(root / "subset", world, keys, wanted)
        assert _said(planned) == _said(report), number
        fixed |= wanted.sides
    if isinstance(report, str):
        return
    again = pipeline.build(validate(config_of(root, world, keys, "subset", None), "a life"))
    assert again.data["changes"] == 0
    assert _said(again).keys() >= {"subset", "rows", "images"}
    table = next(iter((root / "subset-work/splits").glob("*.csv")), None) if (root / "subset-work/splits").exists() else None
    if table is not None:
        table = Path(shutil.copy(table, root / "table.csv"))
    _, fresh = one_step(root, world, keys, table, "fresh")
    assert not isinstance(fresh, str), fresh
    assert contents(root / "fresh", record=True) == contents(root / "subset", record=True)
    checked = verify(str(root / "subset"), deep=True)
    assert checked.ok, checked.data


#: Builds a few times an example; nothing is gained by making a life shorter by a day.
@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(life=lives())
def test_a_life(life: tuple[list[tuple[World, Config]], bool]) -> None:
    states, touched = life
    with tempfile.TemporaryDirectory() as name:
        live(Path(name), states, touched=touched)
