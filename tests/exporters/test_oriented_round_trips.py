"""Oriented boxes there and back: YOLO rows, COCO JSON and DOTA's label files hold the same four corners."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.api import build
from pipeline.config.load import validate
from tests.exporters.test_round_trips import NAMES, Picture, _coco, _draw, _folder, _json, _make, _rows, _yolo, few
from tests.support.helpers import write_file

Floats = npt.NDArray[np.float64]


@st.composite
def _oriented(draw: st.DrawFn, size: tuple[int, int]) -> list[list[float]]:
    """The corners of a turned box that lies within an image of `size`, in tenths of a pixel."""
    reach = min(size) / 2 - 1
    half = draw(st.floats(1.5, reach)), draw(st.floats(1.0, reach))
    long = math.hypot(*half)
    width, height = (side * min(1.0, reach / long) for side in half)
    turn = draw(st.floats(0, 2 * math.pi))
    corners = np.array([[-width, -height], [width, -height], [width, height], [-width, height]])
    corners @= np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    middle = [draw(st.floats(reach + 1, side - reach - 1)) for side in size]
    made: list[list[float]] = np.round(np.clip(corners + middle, 0, size), 1).tolist()
    return made


@st.composite
def _pictures(draw: st.DrawFn) -> list[Picture]:
    pictures = []
    for _ in range(draw(st.integers(2, 3))):
        size = draw(st.tuples(st.integers(20, 200), st.integers(20, 200)))
        count = draw(st.integers(2, 5))
        things = [(draw(st.sampled_from(NAMES[:2])), ("obb", [draw(_oriented(size))])) for _ in range(count)]
        pictures.append(Picture(size, things))
    return pictures


def _corners(picture: Picture) -> list[tuple[str, Floats]]:
    return [(label, np.array(points)) for label, (_, (points,)) in picture.objects]


def _write_yolo(root: Path, pictures: list[Picture]) -> dict[str, Any]:
    _draw(root, pictures)
    write_file(root / "data.yaml", yaml.safe_dump({"names": list(NAMES)}, allow_unicode=True))
    for number, picture in enumerate(pictures):
        rows = [(NAMES.index(label), (xy / picture.scale).ravel()) for label, xy in _corners(picture)]
        text = "".join(f"{n} {' '.join(f'{v:.6f}' for v in values)}\n" for n, values in rows)
        write_file(root / f"labels/train/{number}.txt", text)
    return _yolo(root, "obb")


def _write_dota(root: Path, pictures: list[Picture]) -> dict[str, Any]:
    _draw(root, pictures)
    for number, picture in enumerate(pictures):
        rows = [f"{' '.join(map(str, xy.ravel().tolist()))} {label} {number % 2}\n" for label, xy in _corners(picture)]
        write_file(root / f"labelTxt/{number}.txt", "imagesource:GoogleEarth\ngsd:0.5\n" + "".join(rows))
    paths = {"labels": "labelTxt", "images": "images/train"}
    return {"format": "dota", "task": "obb", "root": str(root), "splits": {"train": paths}}


def _check_rows(target: Path, pictures: list[Picture], pixels: float, names: Sequence[str] = NAMES) -> None:
    """Rows are those of the pictures, in their order; `pixels` is what a middle station may have rounded."""
    found = _rows(target)
    for number, picture in enumerate(pictures):
        rows = found[str(number)]
        assert [names[class_id] for class_id, _ in rows] == [label for label, _ in _corners(picture)]
        for (_, values), (_, xy) in zip(rows, _corners(picture), strict=True):
            near = np.resize(pixels / picture.scale, 8) + 1.1e-6
            assert (np.abs(values - (xy / picture.scale).ravel()) <= near).all()


def _check_json(made: dict[str, Any], pictures: list[Picture], pixels: float) -> None:
    names = {category["id"]: category["name"] for category in made["categories"]}
    number_of = {image["id"]: int(image["file_name"].split(".")[0]) for image in made["images"]}
    for number, picture in enumerate(pictures):
        objects = [a for a in made["annotations"] if number_of[a["image_id"]] == number]
        assert [names[a["category_id"]] for a in objects] == [label for label, _ in _corners(picture)]
        for annotation, (_, xy) in zip(objects, _corners(picture), strict=True):
            low, high = xy.min(axis=0), xy.max(axis=0)
            near = pixels + 1.1e-6 * max(picture.size)
            assert np.allclose(annotation["segmentation"], [xy.ravel()], rtol=0, atol=near)
            assert np.allclose(annotation["bbox"], [*low, *(high - low)], rtol=0, atol=2 * near)


@few
@given(pictures=_pictures())
def test_oriented_rows_come_back_from_coco_json(pictures: list[Picture]) -> None:
    with _folder() as root:
        middle, told = _make(root, _write_yolo(root / "in", pictures), "coco")
        back, told_back = _make(root, _coco(middle, "obb"), "yolo")
        assert (told["loss"], told_back["loss"]) == ({}, {})
        _check_json(_json(middle), pictures, 0.0011)
        _check_rows(back, pictures, 0.0011)


@few
@given(pictures=_pictures())
def test_label_files_of_dota_are_rows_and_coco_json(pictures: list[Picture]) -> None:
    """Straight, and by way of COCO JSON, which has every number as it was written."""
    with _folder() as root:
        source = _write_dota(root / "in", pictures)
        names = sorted({label for picture in pictures for label, _ in picture.objects})
        straight, told = _make(root, source, "yolo", names)
        middle, told_middle = _make(root, source, "coco", names)
        back, told_back = _make(root, _coco(middle, "obb"), "yolo", names)
        difficult = sum(len(picture.objects) for picture in pictures[1::2])
        assert told["loss"] == ({"marked_difficult": difficult} if difficult else {})
        assert (told_middle["loss"], told_back["loss"]) == ({}, told["loss"])
        _check_rows(straight, pictures, 0, names)
        made = _json(middle)
        _check_json(made, pictures, 0)
        number_of = {image["id"]: int(image["file_name"].split(".")[0]) for image in made["images"]}
        assert all(a["difficult"] == number_of[a["image_id"]] % 2 for a in made["annotations"])
        assert all((image["gsd"], image["imagesource"]) == (0.5, "GoogleEarth") for image in made["images"])
        files = [{p.name: p.read_bytes() for p in (t / "labels/train").iterdir()} for t in (straight, back)]
        assert files[0] == files[1]


@few
@given(pictures=_pictures())
def test_rows_of_yolo_stay_as_they_are_and_are_boxes_to_detect(pictures: list[Picture]) -> None:
    with _folder() as root:
        source = _write_yolo(root / "in", pictures)
        same, told = _make(root, source, "yolo")
        kept, told_kept = _make(root, source | {"task": "detect"}, "yolo")
        boxes, told_boxes = _make(root, source | {"task": "detect", "options": {"polygons": "boxes"}}, "yolo")
        assert (told["loss"], told_kept["loss"], told_boxes["loss"]) == ({}, {}, {})
        for number, picture in enumerate(pictures):
            name = f"labels/train/{number}.txt"
            before = (root / "in" / name).read_bytes()
            assert (same / name).read_bytes() == (kept / name).read_bytes() == before
            for row, (_, xy) in zip((boxes / name).read_text().splitlines(), _corners(picture), strict=True):
                low, high = (xy / picture.scale).min(axis=0), (xy / picture.scale).max(axis=0)
                wanted = [*((low + high) / 2), *(high - low)]
                assert np.allclose(np.array(row.split()[1:], float), wanted, rtol=0, atol=2.1e-6)


@few
@given(pictures=_pictures(), triangles=st.booleans())
def test_what_has_not_four_corners_is_in_no_row_and_stays_in_coco_json(
    pictures: list[Picture], triangles: bool
) -> None:
    with _folder() as root:
        middle, _ = _make(root, _write_yolo(root / "in", pictures), "coco")
        path = middle / "annotations/instances_train.json"
        data = json.loads(path.read_bytes())
        for annotation in data["annotations"][::2]:
            (polygon,) = annotation["segmentation"]
            annotation["segmentation"] = [polygon[:6]] if triangles else [polygon, polygon]
        write_file(root / "other/annotations/instances_train.json", json.dumps(data))
        _draw(root / "other", pictures)
        rows, told = _make(root, _coco(root / "other", "obb"), "yolo")
        changed = len(data["annotations"][::2])
        assert told["loss"] == {"no_four_corners": changed}
        assert sum(map(len, _rows(rows).values())) == len(data["annotations"]) - changed
        again, told_again = _make(root, _coco(root / "other", "obb"), "coco")
        assert told_again["loss"] == {}
        assert len(_json(again)["annotations"]) == len(data["annotations"])


def test_limits_of_a_build_are_those_of_the_oriented_boxes(tmp_path: Path) -> None:
    """Three boxes whose boxes around them are squares of 40 pixels, or less: a square, a slender one, a small one."""
    middle, boxes = np.array([50, 50]), {"square": (28.3, 28.3), "slender": (50, 6.6), "small": (6, 6)}
    things = []
    for name, (long, short) in boxes.items():
        corners = np.array([[-long, -short], [long, -short], [long, short], [-long, short]]) / 2
        turned = corners @ np.array([[1, 1], [-1, 1]]) / math.sqrt(2) + middle
        things.append((NAMES[list(boxes).index(name)], ("obb", [turned.tolist()])))
    source = _write_yolo(tmp_path / "in", [Picture((100, 100), things)])
    for limits, kept in (
        ({"max_aspect": 3}, ["0", "2"]),
        ({"min_side": 10}, ["0"]),
        ({"min_area": 350}, ["0"]),
        ({"min_area": 300}, ["0", "1"]),
        ({"min_area_ratio": 0.04}, ["0"]),
    ):
        for to in ("yolo", "coco") if "max_aspect" in limits else ("yolo",):
            target = tmp_path / f"{to}-{'-'.join(map(str, limits.items()))}"
            data = {
                "source": source,
                "select": {"objects": limits},
                "target": {"root": str(target), "format": to},
                "workdir": str(tmp_path / "work"),
                "engine": {"scheduler": "sync"},
            }
            report = build(validate(data, "limits"))
            assert report.ok
            if to == "yolo":
                found = [line.split()[0] for line in (target / "labels/train/0.txt").read_text().splitlines()]
            else:
                found = [str(a["category_id"] - 1) for a in _json(target)["annotations"]]
            assert found == kept, limits
