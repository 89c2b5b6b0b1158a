"""There and back between the formats: what a format can hold comes back, what it cannot is in the loss report."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.api import build
from pipeline.config.load import validate
from pipeline.geometry import masks
from tests.formats.test_labelme import png
from tests.support.helpers import repeated, slow, write_file

NAMES = ("kite", "dog", "red fox", "ähre")
Thing = tuple[str, Any]  # kind and points, in pixels

#: Builds of three datasets an example: a few examples go a long way.
few = settings(
    phases=(Phase.explicit, Phase.generate),  # an example smaller by one is three builds more
    max_examples=repeated(10),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


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


def _make(root: Path, source: dict[str, Any], to: str, names: Sequence[str] = NAMES) -> tuple[Path, dict[str, Any]]:
    """Build `source` in the layout `to`: the target, and what the report says."""
    number = len(list(root.glob("out*")))
    target = root / f"out{number}"
    report = build(
        validate(
            {
                "source": source,
                "classes": list(names),
                "select": {"backgrounds": "all"},
                "target": {"root": str(target), "format": to},
                "workdir": str(root / f"work{number}"),
                "engine": {"scheduler": "sync"},
            },
            "round trip",
        )
    )
    assert report.ok
    return target, report.data


def _draw(root: Path, pictures: list[Picture]) -> None:
    for number, picture in enumerate(pictures):
        (root / "images/train").mkdir(parents=True, exist_ok=True)
        Image.new("L", picture.size).save(root / f"images/train/{number}.png")


def _yolo(root: Path, task: str) -> dict[str, Any]:
    return {"task": task, "root": str(root), "names": str(root / "data.yaml"), "splits": {"train": "train"}}


def _coco(root: Path, task: str) -> dict[str, Any]:
    return {
        "format": "coco",
        "task": task,
        "root": str(root),
        "splits": {"train": {"annotations": "annotations/instances_train.json", "images": "images/train"}},
    }


def _json(root: Path, kind: str = "instances") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / f"annotations/{kind}_train.json").read_text())
    return found


def _rows(root: Path) -> dict[str, list[tuple[int, Any]]]:
    rows = {p.stem: [line.split() for line in p.read_text().splitlines()] for p in (root / "labels/train").iterdir()}
    return {stem: [(int(row[0]), np.array(row[1:], float)) for row in found] for stem, found in rows.items()}


# --- rows to JSON, and back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["segment", *slow("detect")])
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
            pairs = list(zip(before.get(str(number), []), after.get(str(number), []), strict=True))
            for (class_id, values), (class_id_after, values_after) in pairs:
                assert class_id == class_id_after
                near = np.resize(0.0011 / picture.scale, len(values)) + 1.1e-6  # 3 decimals of a pixel, 6 of a share
                assert (np.abs(values - values_after) <= near).all()


# --- rows to NDJSON, and back -----------------------------------------------------------------------------------------


def _ndjson(root: Path, task: str) -> dict[str, Any]:
    return {"format": "ndjson", "task": task, "root": str(root), "splits": {"train": "train"}}


@pytest.mark.parametrize("task", ["segment", *slow("detect")])
@few
@given(pictures=_pictures("polygon", "parts", "rle", "nothing"))
def test_rows_come_back_from_ndjson(task: str, pictures: list[Picture]) -> None:
    """Of COCO JSON the rows are the same, byte for byte, by way of NDJSON; COCO JSON of both has the same objects."""
    with _folder() as root:
        _write_coco(root / "in", pictures)
        straight, told = _make(root, _coco(root / "in", task), "yolo")
        middle, told_middle = _make(root, _coco(root / "in", task), "ndjson")
        back, told_back = _make(root, _ndjson(middle, task), "yolo")
        assert (told["loss"], told_back["loss"]) == (told_middle["loss"], {})
        files = {path.name: path.read_bytes() for path in (straight / "labels/train").iterdir()}
        assert {path.name: path.read_bytes() for path in (back / "labels/train").iterdir()} == files
        made = [_json(_make(root, source, "coco")[0]) for source in (_ndjson(middle, task), _yolo(straight, task))]
        parts = ("images", "annotations", "categories")
        assert [made[0][part] for part in parts] == [made[1][part] for part in parts]


# --- JSON to rows, and back -------------------------------------------------------------------------------------------


def _annotation(number: int, image: int, label: str, thing: Thing, picture: Picture) -> dict[str, Any]:
    kind, parts = thing
    width, height = picture.size
    corners = np.concatenate([np.array(p) for p in parts])
    low, high = corners.min(axis=0), corners.max(axis=0)
    segmentation: Any = [np.array(p).ravel().tolist() for p in parts]
    if kind in ("crowd", "rle", "packed"):
        runs = masks.of_polygon(np.array(parts[0]), height, width)
        segmentation = {"size": [height, width], "counts": masks.compress(runs) if kind == "packed" else runs.tolist()}
        x, y, w, h = masks.box(runs, height)
        low, high = np.array([x, y]), np.array([x + w, y + h])
    elif kind == "nothing":
        segmentation = []
    box = [*low.tolist(), *(high - low).tolist()]
    if kind == "flat":
        box[2] = 0
    return {
        "id": number,
        "image_id": image,
        "category_id": 10 * NAMES.index(label) + 7,
        "segmentation": segmentation,
        "bbox": box,
        "area": 1.5,
        "iscrowd": int(kind == "crowd"),
        "note": {"id": [number]},
    }


def _write_coco(root: Path, pictures: list[Picture]) -> dict[str, Any]:
    _draw(root, pictures)
    images = [
        {"id": 100 - n, "file_name": f"{n}.png", "width": p.size[0], "height": p.size[1], "license": 3}
        for n, p in enumerate(pictures)
    ]
    objects = [(n, label, thing) for n, p in enumerate(pictures) for label, thing in p.objects]
    data = {
        "info": {"year": 2017},
        "licenses": [{"id": 3}],
        "images": images,
        "annotations": [
            _annotation(i + 1, 100 - n, label, thing, pictures[n]) for i, (n, label, thing) in enumerate(objects)
        ],
        "categories": [{"id": 10 * i + 7, "name": name, "supercategory": "x"} for i, name in enumerate(NAMES)],
    }
    write_file(root / "annotations/instances_train.json", json.dumps(data))
    return data


#: What has no row of a task, by the word that counts it.
LOST = {"detect": {"crowd": "crowd"}, "segment": {"crowd": "crowd", "nothing": "no_polygon"}}


def _extent(thing: Thing) -> list[float]:
    """The box of all corners, as COCO has it."""
    corners = np.concatenate([np.array(p) for p in thing[1]])
    low, high = corners.min(axis=0), corners.max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]


@pytest.mark.parametrize("task", ["segment", *slow("detect")])
@few
@given(pictures=_pictures("polygon", "parts", "crowd", "rle", "packed", "nothing", "flat"))
def test_coco_json_comes_back_from_rows(task: str, pictures: list[Picture]) -> None:
    with _folder() as root:
        given_ = _write_coco(root / "in", pictures)
        rows, told = _make(root, _coco(root / "in", task), "yolo")
        things = {i + 1: thing for i, (_, thing) in enumerate(o for p in pictures for o in p.objects)}
        kinds = {number: kind for number, (kind, _) in things.items()}
        boxes = {
            a["id"]: _extent(things[a["id"]]) if kinds[a["id"]] == "flat" else a["bbox"] for a in given_["annotations"]
        }
        empty = [a for a in given_["annotations"] if boxes[a["id"]][2] * boxes[a["id"]][3] == 0]
        no_area = {"detect": "zero_area", "segment": "no_polygon"}[task]  # of a mask without a pixel
        lost = {
            a["id"]: LOST[task].get(kinds[a["id"]])
            or (no_area if a in empty and (task == "detect" or kinds[a["id"]] in ("rle", "packed")) else None)
            for a in given_["annotations"]
        }
        partly = {word: n for word, n in told["loss"].items() if word in ("holes", "short_part", "boxed")}
        flat = [number for number, kind in kinds.items() if kind == "flat" and lost[number] is None]
        assert partly.pop("boxed", 0) == (len(flat) if task == "detect" else 0)
        kept = sum(word is None for word in lost.values())
        further = told["loss"].pop("attributes", 0)  # each annotation has a field beyond COCO's; one word counts
        assert further == kept - sum(partly.values()) - (len(flat) if task == "detect" else 0)
        assert Counter(told["loss"]) - Counter({"boxed": len(flat)}) - Counter(partly) == Counter(
            filter(None, lost.values())
        )
        assert told["rows"]["kept"] == kept
        back, told_back = _make(root, _yolo(rows, task), "coco")
        assert told_back["loss"] == {}
        made = _json(back)
        names = {c["id"]: c["name"] for c in made["categories"]}
        assert {(i["file_name"], i["width"], i["height"]) for i in made["images"]} == {
            (i["file_name"], i["width"], i["height"]) for i in given_["images"]
        }
        owners = {i["id"]: int(i["file_name"].split(".")[0]) for i in made["images"]}
        taken = sorted((a for a in given_["annotations"] if lost[a["id"]] is None), key=lambda a: -a["image_id"])
        for before, after in zip(taken, made["annotations"], strict=True):
            picture = pictures[owners[after["image_id"]]]
            assert owners[after["image_id"]] == 100 - before["image_id"]
            assert names[after["category_id"]] == NAMES[(before["category_id"] - 7) // 10]
            near = 0.0011 + 1.1e-6 * max(picture.size)
            assert np.allclose(boxes[before["id"]], after["bbox"], rtol=0, atol=2 * near)
            if task == "segment" and kinds[before["id"]] == "polygon":
                assert np.allclose(before["segmentation"], after["segmentation"], rtol=0, atol=near)
            elif task == "segment" and kinds[before["id"]] == "rle" and not partly:
                assert after["area"] == sum(before["segmentation"]["counts"][1::2])


@few
@given(pictures=_pictures("polygon", "parts", "crowd", "rle", "packed", "nothing", "flat"))
def test_coco_json_is_kept_whole_by_coco_json(pictures: list[Picture]) -> None:
    with _folder() as root:
        given_ = _write_coco(root / "in", pictures)
        target, told = _make(root, _coco(root / "in", "segment"), "coco")
        assert told["rows"]["kept"] == len(given_["annotations"])
        made = _json(target)
        assert (made["info"], made["licenses"]) == (made["info"] | given_["info"], given_["licenses"])
        assert {i["id"]: i for i in made["images"]} == {i["id"]: i for i in given_["images"]}
        assert [c["name"] for c in made["categories"]] == list(NAMES)
        things = [thing for picture in pictures for _, thing in picture.objects]
        for before, after in zip(
            given_["annotations"], sorted(made["annotations"], key=lambda a: a["id"]), strict=True
        ):
            thing = things[before["id"] - 1]
            box = _extent(thing) if thing[0] == "flat" else before["bbox"]  # a box without area comes from the polygon
            assert np.allclose(box, after["bbox"], rtol=0, atol=0.0011 if thing[0] == "flat" else 0)
            wanted = before | {"category_id": (before["category_id"] - 7) // 10 + 1, "bbox": after["bbox"]}
            assert after == wanted


# --- keypoints --------------------------------------------------------------------------------------------------------

POINTS = 3


@st.composite
def _persons(draw: st.DrawFn) -> list[Picture]:
    """Images of persons with keypoints; seen 0 is a point that nobody marked, at 0, 0 as COCO writes it."""
    pictures = []
    for _ in range(draw(st.integers(2, 3))):
        size = draw(st.tuples(st.integers(10, 200), st.integers(10, 200)))
        persons: list[tuple[str, Thing]] = []
        for _ in range(draw(st.integers(2, 4))):
            seen = draw(st.lists(st.integers(0, 2), min_size=POINTS, max_size=POINTS))
            points = [[draw(_coordinate(size[0])), draw(_coordinate(size[1])), v] if v else [0, 0, 0] for v in seen]
            kind = draw(st.sampled_from(["person", "person", "crowd"]))
            persons.append(("dog", (kind, [points, draw(_polygon(size))])))
        pictures.append(Picture(size, persons))
    return pictures


def _pose_json(root: Path, pictures: list[Picture]) -> dict[str, Any]:
    """A COCO source of persons; its annotations."""
    _draw(root, pictures)
    annotations = []
    for number, (image, (_, (kind, (points, corners)))) in enumerate(
        [(n, o) for n, p in enumerate(pictures) for o in p.objects], 1
    ):
        low, high = np.min(corners, axis=0), np.max(corners, axis=0)
        annotations.append(
            {
                "id": number,
                "image_id": image,
                "category_id": 5,
                "iscrowd": int(kind == "crowd"),
                "area": 2.50,
                "bbox": [*low.tolist(), *(high - low).tolist()],
                "keypoints": np.array(points).ravel().tolist(),
                "num_keypoints": sum(p[2] > 0 for p in points),
                "segmentation": [np.array(corners).ravel().tolist()],
            }
        )
    data = {
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": p.size[0], "height": p.size[1]} for n, p in enumerate(pictures)
        ],
        "annotations": annotations,
        "categories": [{"id": 5, "name": "dog", "keypoints": ["nose", "left_ear", "right_ear"], "skeleton": []}],
    }
    write_file(root / "annotations/person_keypoints_train.json", json.dumps(data))
    return data


def _pose(root: Path) -> dict[str, Any]:
    return {
        "format": "coco",
        "task": "pose",
        "root": str(root),
        "splits": {"train": {"annotations": "annotations/person_keypoints_train.json", "images": "images/train"}},
    }


@few
@given(pictures=_persons())
def test_keypoints_come_back_from_rows(pictures: list[Picture]) -> None:
    with _folder() as root:
        given_ = _pose_json(root / "in", pictures)
        assume(any(a["num_keypoints"] and not a["iscrowd"] for a in given_["annotations"]))  # else nothing is made
        rows, told = _make(root, _pose(root / "in"), "yolo", ["dog"])
        lost = [
            "crowd" if a["iscrowd"] else "no_keypoints"
            for a in given_["annotations"]
            if a["iscrowd"] or not a["num_keypoints"]
        ]
        assert told["loss"] == Counter(lost)
        assert yaml.safe_load((rows / "data.yaml").read_text())["flip_idx"] == [0, 2, 1]
        back, told_back = _make(root, _yolo(rows, "pose"), "coco", ["dog"])
        assert told_back["loss"] == {}
        made = _json(back, "person_keypoints")
        kept = [a for a in given_["annotations"] if a["num_keypoints"] and not a["iscrowd"]]
        owners = {i["id"]: int(i["file_name"].split(".")[0]) for i in made["images"]}
        assert made["categories"][0]["keypoints"] == ["nose", "left_ear", "right_ear"]
        for before, after in zip(kept, made["annotations"], strict=True):
            near = 0.0011 + 1.1e-6 * max(pictures[before["image_id"]].size)
            assert owners[after["image_id"]] == before["image_id"]
            assert before["num_keypoints"] == after["num_keypoints"]
            assert before["keypoints"][2::3] == after["keypoints"][2::3]
            assert np.allclose(before["keypoints"], after["keypoints"], rtol=0, atol=near)
            assert np.allclose(before["bbox"], after["bbox"], rtol=0, atol=2 * near)
        again, told_again = _make(root, _pose(back), "yolo", ["dog"])
        assert told_again["loss"] == {}
        for stem, before_rows in _rows(rows).items():
            for (_, before_row), (_, after_row) in zip(before_rows, _rows(again)[stem], strict=True):
                assert np.allclose(before_row, after_row, rtol=0, atol=0.0011 / 10 + 1.1e-6)


@few
@given(pictures=_persons())
def test_keypoints_are_kept_whole_by_coco_json(pictures: list[Picture]) -> None:
    with _folder() as root:
        given_ = _pose_json(root / "in", pictures)
        target, told = _make(root, _pose(root / "in"), "coco", ["dog"])
        assert told["rows"]["kept"] == len(given_["annotations"])
        made = _json(target, "person_keypoints")
        assert made["images"] == given_["images"]
        assert made["annotations"] == [a | {"category_id": 1} for a in given_["annotations"]]
        assert made["categories"] == [given_["categories"][0] | {"id": 1, "supercategory": "dog"}]


# --- from labelme, by both ways ---------------------------------------------------------------------------------------


@st.composite
def _drawn(draw: st.DrawFn, kind: str, size: tuple[int, int]) -> dict[str, Any]:
    """What labelme keeps of one shape beside its label."""
    points = draw(_polygon(size))
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    if kind == "mask":
        (x, y), (right, bottom) = np.floor(low).astype(int), np.minimum(np.ceil(high), np.array(size) - 1).astype(int)
        shape = (max(int(bottom - y), 0) + 1, max(int(right - x), 0) + 1)
        cells = draw(st.lists(st.booleans(), min_size=9, max_size=9).filter(any))
        rows, columns = np.arange(shape[0]) * 3 // shape[0], np.arange(shape[1]) * 3 // shape[1]
        patch = np.array(cells).reshape(3, 3)[rows][:, columns]
        if not patch.any():
            patch[:] = True
        points = [[int(x), int(y)], [int(x) + shape[1] - 1, int(y) + shape[0] - 1]]
        return {"shape_type": kind, "points": points, "mask": png(patch), "patch": patch.tolist()}
    if kind == "rectangle":
        points = [[low[0], high[1]], [high[0], low[1]]]
    elif kind == "oriented_rectangle":
        points = [[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]]
    elif kind in ("circle", "line"):
        points = [low.tolist(), high.tolist()]
    elif kind == "point":
        points = points[:1]
    return {"shape_type": kind, "points": [[float(v) for v in p] for p in points]}


@st.composite
def _photo(draw: st.DrawFn, kinds: list[str]) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """An image's size and its shapes; some are of one object, by their group."""
    size = draw(st.tuples(st.integers(10, 120), st.integers(10, 120)))
    return size, [
        {
            "label": draw(st.sampled_from(NAMES)),
            "group_id": draw(st.sampled_from([None, None, 1, 2])),
            "flags": {},
            **draw(_drawn(kind, size)),
        }
        for kind in draw(st.lists(st.sampled_from(kinds), min_size=3, max_size=7))
    ]


Photo = tuple[tuple[int, int], list[dict[str, Any]]]
OUTLINES = ["polygon", "rectangle", "oriented_rectangle", "circle"]
NO_AREA = ["point", "line", "linestrip"]


def _write_labelme(root: Path, photos: list[Photo], task: str) -> dict[str, Any]:
    """A labelme source, and its names in a file."""
    for number, (size, shapes) in enumerate(photos):
        (root / "in").mkdir(exist_ok=True)
        Image.new("L", size).save(root / f"in/{number}.png")
        write_file(
            root / f"in/{number}.json",
            json.dumps(
                {
                    "version": "5.4.1",
                    "flags": {},
                    "imageData": None,
                    "imagePath": f"{number}.png",
                    "imageWidth": size[0],
                    "imageHeight": size[1],
                    "shapes": [{k: v for k, v in s.items() if k != "patch"} for s in shapes],
                }
            ),
        )
    names = write_file(root / "labels.txt", "\n".join(NAMES) + "\n")
    return {"format": "labelme", "task": task, "names": str(names), "root": str(root), "splits": {"train": "in"}}


def _things(shapes: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The shapes of each object: of one label and group."""
    found: dict[Any, list[dict[str, Any]]] = {}
    for number, shape in enumerate(shapes):
        if shape["shape_type"] not in NO_AREA:
            key = (shape["label"], shape["group_id"]) if shape["group_id"] is not None else number
            found.setdefault(key, []).append(shape)
    return list(found.values())


@pytest.mark.parametrize("task", ["segment", *slow("detect")])
@few
@given(photos=st.lists(_photo([*OUTLINES, "mask", *NO_AREA]), min_size=2, max_size=3))
def test_labelme_by_coco_json_is_labelme_straight(task: str, photos: list[Photo]) -> None:
    with _folder() as root:
        source = _write_labelme(root, photos, task)
        straight, told = _make(root, source, "yolo")
        lost = sum(s["shape_type"] in NO_AREA for _, shapes in photos for s in shapes)
        assert told["loss"].pop("no_area", 0) == lost
        assert set(told["loss"]) <= {"clipped", "attributes"} | ({"holes", "joined"} if task == "segment" else set())
        middle, told_json = _make(root, source, "coco")
        assert told_json["rows"]["kept"] == sum(len(_things(shapes)) for _, shapes in photos)
        by_json, told_rows = _make(root, _coco(middle, task), "yolo")
        assert told_rows["loss"].keys() <= {"holes", "attributes"}
        before, after = _rows(straight), _rows(by_json)
        assert before.keys() == after.keys()
        for number, (_, shapes) in enumerate(photos):
            for thing, one, other in zip(
                _things(shapes), before.get(str(number), []), after.get(str(number), []), strict=True
            ):
                assert one[0] == other[0] == NAMES.index(thing[0]["label"])
                if task == "detect" or len(thing) == 1 or all(s["shape_type"] != "mask" for s in thing):
                    assert np.allclose(one[1], other[1], rtol=0, atol=1.1e-6)


@few
@given(photos=st.lists(_photo([*OUTLINES, "mask"]), min_size=2, max_size=3))
def test_coco_json_of_labelme_is_what_was_drawn(photos: list[Photo]) -> None:
    """Pixel by pixel where there is a mask; polygons number by number, circles by their radius."""
    with _folder() as root:
        target, _ = _make(root, _write_labelme(root, photos, "segment"), "coco")
        made = _json(target)
        names = {c["id"]: c["name"] for c in made["categories"]}
        for image in made["images"]:
            (width, height), shapes = photos[int(image["file_name"].split(".")[0])]
            objects = [a for a in made["annotations"] if a["image_id"] == image["id"]]
            for thing, annotation in zip(_things(shapes), objects, strict=True):
                assert names[annotation["category_id"]] == thing[0]["label"]
                assert annotation.get("group_id") == thing[0]["group_id"]
                drawn = np.zeros((height, width), bool)
                for shape in thing:
                    (x, y), patch = np.array(shape["points"][0]), np.array(shape.get("patch", [[False]]))
                    if shape["shape_type"] == "mask":
                        drawn[y : y + patch.shape[0], x : x + patch.shape[1]] |= patch
                segmentation = annotation["segmentation"]
                if not drawn.any():
                    assert len(segmentation) == len(thing)
                    for shape, numbers in zip(thing, segmentation, strict=True):
                        _assert_drawn(shape, np.array(numbers).reshape(-1, 2), (width, height))
                    continue
                held = masks.to_mask(masks.decompress(segmentation["counts"]), height, width)
                assert annotation["area"] == held.sum()
                assert held[drawn].all()
                if all(s["shape_type"] == "mask" for s in thing):
                    assert (held == drawn).all()


def _assert_drawn(shape: dict[str, Any], made: Any, size: tuple[int, int]) -> None:
    """That a polygon is the shape."""
    points = np.array(shape["points"])
    if shape["shape_type"] == "rectangle":
        assert (made.min(axis=0) == points.min(axis=0)).all()
        assert (made.max(axis=0) == points.max(axis=0)).all()
        assert len(made) == 4
    elif shape["shape_type"] == "circle":
        radius = np.hypot(*(points[1] - points[0]))
        away = np.hypot(*(made - points[0]).T)
        inner = ((made > 0) & (made < size)).all(axis=1)
        assert np.allclose(away[inner], radius)
        assert (away <= radius + 1e-6).all()
    else:
        assert (made == points).all()
