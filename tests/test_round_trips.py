"""There and back between the formats: what a format can hold comes back, what it cannot is in the loss report."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline import masks
from pipeline.config import validate
from pipeline.run import build
from tests.helpers import write_file

NAMES = ("kite", "dog", "red fox", "ähre")
Thing = tuple[str, Any]  # kind and points, in pixels

#: Builds of three datasets an example: a few examples go a long way.
few = settings(max_examples=5, deadline=None, derandomize=True,
               suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@dataclass
class Picture:
    """An image of `size` (width, height) and its objects: each a class and a thing."""

    size: tuple[int, int]
    objects: list[tuple[str, Thing]]

    @property
    def scale(self) -> Any:
        return np.array(self.size, float)


def _coordinate(limit: int) -> st.SearchStrategy[float]:
    return st.integers(0, limit * 10).map(lambda n: n / 10)


@st.composite
def _polygon(draw: st.DrawFn, size: tuple[int, int]) -> list[list[float]]:
    points = draw(st.lists(st.tuples(_coordinate(size[0]), _coordinate(size[1])), min_size=3, max_size=7, unique=True))
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    if (high - low < 2).any():
        points = [(0, 0), (size[0], 0), (size[0] / 2, size[1])]
    return [list(p) for p in points]


@st.composite
def _picture(draw: st.DrawFn, kinds: list[str]) -> Picture:
    size = draw(st.tuples(st.integers(10, 200), st.integers(10, 200)))
    objects: list[tuple[str, Thing]] = []
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=3, max_size=7)):
        label = draw(st.sampled_from(NAMES))
        count = 2 if kind == "parts" else 1
        objects.append((label, (kind, [draw(_polygon(size)) for _ in range(count)])))
    return Picture(size, objects)


def _pictures(*kinds: str) -> st.SearchStrategy[list[Picture]]:
    return st.lists(_picture(list(kinds)), min_size=2, max_size=4)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _make(root: Path, source: dict[str, Any], to: str) -> tuple[Path, dict[str, Any]]:
    """Build `source` in the layout `to`: the target, and what the report says."""
    number = len(list(root.glob("out*")))
    target = root / f"out{number}"
    report = build(validate({
        "source": source, "classes": list(NAMES), "select": {"backgrounds": "all"},
        "target": {"root": str(target), "format": to}, "workdir": str(root / f"work{number}"),
        "engine": {"scheduler": "sync"}}, "round trip"))
    assert report.ok
    return target, report.data


def _draw(root: Path, pictures: list[Picture]) -> None:
    for number, picture in enumerate(pictures):
        (root / "images/train").mkdir(parents=True, exist_ok=True)
        Image.new("L", picture.size).save(root / f"images/train/{number}.png")


def _yolo(root: Path, task: str) -> dict[str, Any]:
    return {"task": task, "root": str(root), "names": str(root / "data.yaml"), "splits": {"train": "train"}}


def _coco(root: Path, task: str) -> dict[str, Any]:
    return {"format": "coco", "task": task, "root": str(root), "splits": {
        "train": {"annotations": "annotations/instances_train.json", "images": "images/train"}}}


def _json(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "annotations/instances_train.json").read_text())
    return found


def _rows(root: Path) -> dict[str, list[tuple[int, Any]]]:
    rows = {p.stem: [line.split() for line in p.read_text().splitlines()]
            for p in (root / "labels/train").iterdir()}
    return {stem: [(int(row[0]), np.array(row[1:], float)) for row in found] for stem, found in rows.items()}


# --- rows to JSON, and back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["detect", "segment"])
@few
@given(pictures=_pictures("polygon"))
def test_rows_come_back_from_coco_json(task: str, pictures: list[Picture]) -> None:
    with _folder() as root:
        _draw(root / "in", pictures)
        write_file(root / "in/data.yaml", yaml.safe_dump({"names": list(NAMES)}, allow_unicode=True))
        for number, picture in enumerate(pictures):
            lines = []
            for label, (_, (points,)) in picture.objects:
                polygon = np.array(points) / picture.scale
                low, high = polygon.min(axis=0), polygon.max(axis=0)
                values = polygon.ravel() if task == "segment" else np.concatenate([(low + high) / 2, high - low])
                lines.append(" ".join([str(NAMES.index(label)), *(f"{v:.6f}" for v in values)]) + "\n")
            write_file(root / f"in/labels/train/{number}.txt", "".join(lines))
        middle, told = _make(root, _yolo(root / "in", task), "coco")
        back, told_back = _make(root, _coco(middle, task), "yolo")
        assert (told["loss"], told_back["loss"]) == ({}, {})
        before, after = _rows(root / "in"), _rows(back)
        assert set(before) == set(after)
        for number, picture in enumerate(pictures):
            pairs = list(zip(before[str(number)], after[str(number)], strict=True))
            for (class_id, values), (class_id_after, values_after) in pairs:
                assert class_id == class_id_after
                near = np.resize(0.0011 / picture.scale, len(values)) + 1.1e-6  # 3 decimals of a pixel, 6 of a share
                assert (np.abs(values - values_after) <= near).all()


# --- JSON to rows, and back -------------------------------------------------------------------------------------------


def _annotation(number: int, image: int, label: str, thing: Thing, picture: Picture) -> dict[str, Any]:
    kind, parts = thing
    width, height = picture.size
    corners = np.concatenate([np.array(p) for p in parts])
    low, high = corners.min(axis=0), corners.max(axis=0)
    segmentation: Any = [np.array(p).ravel().tolist() for p in parts]
    if kind in ("crowd", "rle"):
        runs = masks.of_polygon(np.array(parts[0]), height, width)
        segmentation = {"size": [height, width], "counts": runs.tolist()}
        x, y, w, h = masks.box(runs, height)
        low, high = np.array([x, y]), np.array([x + w, y + h])
    elif kind == "nothing":
        segmentation = []
    box = [*low.tolist(), *(high - low).tolist()]
    if kind == "flat":
        box[2] = 0
    return {"id": number, "image_id": image, "category_id": 10 * NAMES.index(label) + 7, "segmentation": segmentation,
            "bbox": box, "area": 1.5, "iscrowd": int(kind == "crowd"), "note": {"id": [number]}}


def _write_coco(root: Path, pictures: list[Picture]) -> dict[str, Any]:
    _draw(root, pictures)
    images = [{"id": 100 - n, "file_name": f"{n}.png", "width": p.size[0], "height": p.size[1], "license": 3}
              for n, p in enumerate(pictures)]
    objects = [(n, label, thing) for n, p in enumerate(pictures) for label, thing in p.objects]
    data = {"info": {"year": 2017}, "licenses": [{"id": 3}], "images": images,
            "annotations": [_annotation(i + 1, 100 - n, label, thing, pictures[n])
                            for i, (n, label, thing) in enumerate(objects)],
            "categories": [{"id": 10 * i + 7, "name": name, "supercategory": "x"} for i, name in enumerate(NAMES)]}
    write_file(root / "annotations/instances_train.json", json.dumps(data))
    return data


#: What has no row of a task, by the word that counts it.
LOST = {"detect": {"crowd": "crowd", "flat": "zero_area"},
        "segment": {"crowd": "crowd", "flat": "zero_area", "nothing": "no_polygon"}}


@pytest.mark.parametrize("task", ["detect", "segment"])
@few
@given(pictures=_pictures("polygon", "parts", "crowd", "rle", "nothing", "flat"))
def test_coco_json_comes_back_from_rows(task: str, pictures: list[Picture]) -> None:
    with _folder() as root:
        given_ = _write_coco(root / "in", pictures)
        rows, told = _make(root, _coco(root / "in", task), "yolo")
        empty = [a for a in given_["annotations"] if a["bbox"][2] * a["bbox"][3] == 0]
        kinds = {i + 1: thing[0] for i, (_, thing) in enumerate(o for p in pictures for o in p.objects)}
        lost = {a["id"]: LOST[task].get(kinds[a["id"]]) or ("zero_area" if a in empty else None)
                for a in given_["annotations"]}
        partly = {word: n for word, n in told["loss"].items() if word in ("holes", "short_part")}
        assert Counter(told["loss"]) - Counter(partly) == Counter(filter(None, lost.values()))
        assert told["rows"]["kept"] == sum(word is None for word in lost.values())
        back, told_back = _make(root, _yolo(rows, task), "coco")
        assert told_back["loss"] == {}
        made = _json(back)
        names = {c["id"]: c["name"] for c in made["categories"]}
        assert {(i["file_name"], i["width"], i["height"]) for i in made["images"]} == {
            (i["file_name"], i["width"], i["height"]) for i in given_["images"]}
        owners = {i["id"]: int(i["file_name"].split(".")[0]) for i in made["images"]}
        kept = sorted((a for a in given_["annotations"] if lost[a["id"]] is None), key=lambda a: -a["image_id"])
        for before, after in zip(kept, made["annotations"], strict=True):
            picture = pictures[owners[after["image_id"]]]
            assert owners[after["image_id"]] == 100 - before["image_id"]
            assert names[after["category_id"]] == NAMES[(before["category_id"] - 7) // 10]
            near = 0.0011 + 1.1e-6 * max(picture.size)
            assert np.allclose(before["bbox"], after["bbox"], rtol=0, atol=2 * near)
            if task == "segment" and kinds[before["id"]] == "polygon":
                assert np.allclose(before["segmentation"], after["segmentation"], rtol=0, atol=near)
            elif task == "segment" and kinds[before["id"]] == "rle" and not partly:
                assert after["area"] == sum(before["segmentation"]["counts"][1::2])


@few
@given(pictures=_pictures("polygon", "parts", "crowd", "rle", "nothing", "flat"))
def test_coco_json_is_kept_whole_by_coco_json(pictures: list[Picture]) -> None:
    with _folder() as root:
        given_ = _write_coco(root / "in", pictures)
        target, told = _make(root, _coco(root / "in", "segment"), "coco")
        assert told["rows"]["kept"] == len(given_["annotations"])
        made = _json(target)
        assert (made["info"], made["licenses"]) == (given_["info"], given_["licenses"])
        assert {i["id"]: i for i in made["images"]} == {i["id"]: i for i in given_["images"]}
        assert [c["name"] for c in made["categories"]] == list(NAMES)
        assert {a["id"]: a for a in made["annotations"]} == {
            a["id"]: a | {"category_id": (a["category_id"] - 7) // 10 + 1} for a in given_["annotations"]}


# --- from labelme, by both ways ---------------------------------------------------------------------------------------


def _shape(label: str, thing: Thing) -> dict[str, Any]:
    kind, (points,) = thing
    count = {"rectangle": 2, "circle": 2, "line": 2, "point": 1}.get(kind, len(points))
    return {"label": label, "points": points[:count], "shape_type": kind, "group_id": None, "flags": {}}


@few
@given(pictures=_pictures("polygon", "point", "line", "linestrip"))
def test_labelme_by_coco_json_is_labelme_straight(pictures: list[Picture]) -> None:
    with _folder() as root:
        for number, picture in enumerate(pictures):
            (root / "in").mkdir(exist_ok=True)
            Image.new("L", picture.size).save(root / f"in/{number}.png")
            write_file(root / f"in/{number}.json", json.dumps({
                "version": "5.4.1", "flags": {}, "imageData": None, "imagePath": f"{number}.png",
                "imageWidth": picture.size[0], "imageHeight": picture.size[1],
                "shapes": [_shape(label, thing) for label, thing in picture.objects]}))
        names = write_file(root / "labels.txt", "\n".join(NAMES) + "\n")
        source = {"format": "labelme", "task": "segment", "names": str(names), "root": str(root),
                  "splits": {"train": "in"}}
        straight, told = _make(root, source, "yolo")
        things = Counter(thing[0] for p in pictures for _, thing in p.objects)
        lost = things.total() - things["polygon"]
        assert told["loss"] == ({"no_area": lost} if lost else {})
        middle, told_json = _make(root, source, "coco")
        assert told_json["loss"] == told["loss"]
        made = _json(middle)
        drawn = [np.array(thing[1][0]).ravel().tolist() for p in pictures for _, thing in p.objects
                 if thing[0] == "polygon"]
        assert sorted(a["segmentation"][0] for a in made["annotations"]) == sorted(drawn)
        by_json, told_rows = _make(root, _coco(middle, "segment"), "yolo")
        assert told_rows["loss"] == {}
        assert {p.name: p.read_bytes() for p in (by_json / "labels/train").iterdir()} == {
            p.name: p.read_bytes() for p in (straight / "labels/train").iterdir()}
