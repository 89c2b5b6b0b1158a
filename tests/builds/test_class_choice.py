"""Classes that are known once the source is read: supercategories and wildcards of COCO JSON and labelme."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.class_names import read_names
from tests.conftest import MakeSubset, Subset
from tests.support.helpers import PROJECT, picture, write_file

CATEGORIES = [
    {"id": 3, "name": "car", "supercategory": "vehicle"},
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 10, "name": "traffic light", "supercategory": "outdoor"},
    {"id": 6, "name": "bus", "supercategory": "vehicle"},
    {"id": 17, "name": "cat", "supercategory": None},
]


def coco_json(root: Path, split: str, categories: list[dict[str, Any]]) -> None:
    """One image with a box of each category."""
    images = [{"id": 1, "file_name": "a.png", "width": 10, "height": 10}]
    boxes = [
        {"id": n, "image_id": 1, "category_id": c["id"], "bbox": [1, 1, 2 + n, 3], "area": 6, "iscrowd": 0}
        for n, c in enumerate(categories, 1)
    ]
    write_file(root / f"{split}.json", json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    write_file(root / split / "a.png", picture(split))


@pytest.fixture
def zoo(tmp_path: Path, make_subset: MakeSubset) -> Any:
    root = tmp_path / "zoo"
    coco_json(root, "train", CATEGORIES)
    coco_json(root, "val", [*CATEGORIES[:2], {"id": 8, "name": "truck", "supercategory": "vehicle"}])

    def make(classes: Any, **keys: Any) -> Subset:
        splits = {s: {"annotations": f"{s}.json", "images": s} for s in ("train", "val")}
        source = {"format": "coco", "root": str(root), "splits": splits} | keys
        return make_subset(root, source=source, classes=classes)

    return make


def test_a_supercategory_of_coco_json(zoo: Any) -> None:
    """It has the classes of all splits: trucks are in one of them alone."""
    subset = zoo([{"name": "vehicle", "supercategory": "vehicle"}, "traffic *"])
    made = subset.build()
    assert made["classes"] == ["vehicle", "traffic light"]
    assert made["subset"]["train"]["objects"] == {"vehicle": 2, "traffic light": 1}
    assert made["subset"]["val"]["objects"] == {"vehicle": 2, "traffic light": 0}
    assert subset.build()["changes"] == 0


@pytest.mark.parametrize(
    "names", [["car", "person", "bus", "truck", "traffic light", "cat"], ["person", "bus", "car", "truck"]]
)
def test_a_names_file_gives_the_order_and_the_json_the_supercategories(
    zoo: Any, tmp_path: Path, names: list[str]
) -> None:
    file = write_file(tmp_path / "order.txt", "\n".join(names))
    made = zoo([{"supercategory": "vehicle"}], names=str(file)).build()
    assert made["classes"] == [name for name in names if name in ("car", "bus", "truck")]


def test_a_names_file_may_say_another_supercategory(zoo: Any, tmp_path: Path) -> None:
    file = write_file(tmp_path / "order.yaml", "names: [cat, car, bus]\nsupercategories: {cat: pet, car: pet}\n")
    made = zoo([{"name": "pet", "supercategory": "pet"}, {"supercategory": "vehicle"}], names=str(file)).build()
    assert made["classes"] == ["pet", "bus"]
    assert made["subset"]["train"]["objects"] == {"pet": 2, "bus": 1}


def test_another_supercategory_in_the_names_file_is_another_subset(zoo: Any, tmp_path: Path) -> None:
    file = write_file(tmp_path / "order.yaml", "names: [cat, car, bus]\nsupercategories: {cat: pet}\n")
    subset = zoo([{"name": "pet", "supercategory": "pet"}], names=str(file))
    assert subset.build()["subset"]["train"]["objects"] == {"pet": 1}
    write_file(file, "names: [cat, car, bus]\nsupercategories: {cat: pet, bus: pet}\n")
    assert subset.build()["subset"]["train"]["objects"] == {"pet": 2}


def test_what_no_source_has_is_an_error_once_it_is_read(zoo: Any) -> None:
    error = zoo([{"supercategory": "vehicles"}]).command("build", code=2).err
    assert "classes: unknown supercategory 'vehicles'; did you mean 'vehicle'?" in error
    assert "classes: unknown class 'trafic *'" in zoo(["trafic *"]).command("plan", code=2).err


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ([{"name": "vehicle", "from": ["bus", "truck"]}, "car"], True),
        ([{"name": "vehicle", "from": ["bus", "truck"]}, "person"], False),
        ([{"name": "vehicle", "supercategory": "vehicle"}, "cat"], False),
        ([{"name": "vehicle", "supercategory": "vehicle", "exclude": "car"}, {"name": "auto", "from": "car"}], True),
        (["person", "car"], False),
    ],
)
def test_a_merged_class_called_as_the_supercategory_of_another(zoo: Any, classes: Any, *, said: bool) -> None:
    warnings = zoo(classes).plan()["warnings"]
    sentence = "class 'vehicle' is called as the supercategory of 'car', which is no part of it"
    assert any(w.startswith(sentence) for w in warnings) is said


def photo(root: Path, name: str, *labels: str) -> None:
    shapes = [{"label": label, "shape_type": "rectangle", "points": [[1, 1], [5, 5]]} for label in labels]
    facts = {"version": "5.0.1", "imagePath": f"{name}.png", "imageData": None, "imageWidth": 10, "imageHeight": 10}
    write_file(root / f"{name}.json", json.dumps(facts | {"shapes": shapes}))
    write_file(root / f"{name}.png", picture(name))


def test_numbers_stay_where_a_wildcard_fits_new_labels(tmp_path: Path, make_subset: MakeSubset) -> None:
    """The wildcard gives no order, so a label that comes is not to change what the others mean."""
    root = tmp_path / "photos"
    photo(root, "a", "traffic sign", "dog")
    photo(root, "b", "traffic light", "person")
    source = {"format": "labelme", "root": str(tmp_path), "splits": {"train": "photos"}}
    subset = make_subset(root, source=source, classes=["person", "traffic *"])
    assert subset.build()["classes"] == ["person", "traffic light", "traffic sign"]
    photo(root, "c", "traffic cone", "ant")
    made = subset.build()
    assert made["classes"] == ["person", "traffic light", "traffic sign", "traffic cone"]
    assert made["subset"]["train"]["objects"] == dict.fromkeys(made["classes"], 1)
    (root / "b.json").unlink()
    photo(root, "d", "person")
    assert "class 'traffic light' has no object in the source any more; it keeps its number 1" in (
        subset.command("build", "--set", "target.images=none").err
    )
    fresh = subset.build("--set", f"target.root={tmp_path}/fresh")
    assert fresh["classes"] == ["person", "traffic cone", "traffic sign"]
    assert subset.build("--set", "classes=[person, '*sign']")["classes"] == ["person", "traffic sign"]


def test_supercategories_of_the_names_file_are_those_of_coco(shared: Path) -> None:
    annotations = (shared / "data/coco/annotations/instances_val2017.json").read_bytes()
    categories = json.JSONDecoder().raw_decode(
        annotations[annotations.index(b'"categories"') + 13 :].decode().lstrip()
    )[0]
    names = read_names((PROJECT / "conf/coco.yaml").read_text(encoding="utf-8"), "coco.yaml")
    assert names.supercategories == {category["name"]: category["supercategory"] for category in categories}
