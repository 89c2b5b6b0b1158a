"""Several sources in one subset: classes aligned by name, files kept apart, tables of different counts nested."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import MakeSubset, Subset
from tests.support.helpers import contents, make_tree, picture, write_file

#: The other collection numbers its classes otherwise, has one of its own, and a file name that the town has too.
OTHER_NAMES = ("tram", "car", "bicycle")
OTHER = {"t": {"a": "0 0.5 0.5 0.1 0.1\n1 0.25 0.25 0.1 0.2\n", "b-2": "2 0.5 0.5 0.3 0.3\n"}}


@pytest.fixture
def other(tmp_path: Path) -> Path:
    root = make_tree(tmp_path / "other", OTHER, {"t": ("a.jpg", "b-2.png")}, OTHER_NAMES)
    for path in (root / "images/t").iterdir():
        os.utime(path, (1e9, 1e9))  # an image younger than two seconds would be copied again
    return root


def entry(name: str, root: Path, splits: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "names": str(root / "coco.yaml"), "root": str(root), "splits": splits}


@pytest.fixture
def both(town: Path, other: Path, make_subset: MakeSubset) -> Subset:
    sources = [entry("town", town, {"train": "train2017", "val": "val2017"}), entry("mine", other, {"train": "t"})]
    return make_subset(town, source=sources, classes=["tram", {"name": "wheels", "from": ["bicycle", "car"]}])


MINE = {
    "labels/train/mine/a.txt": b"0 0.5 0.5 0.1 0.1\n1 0.25 0.25 0.1 0.2\n",
    "labels/train/mine/b-2.txt": b"1 0.5 0.5 0.3 0.3\n",
    "images/train/mine/a.jpg": picture("t/a.jpg"),
    "images/train/mine/b-2.png": picture("t/b-2.png"),
}


def test_classes_are_aligned_by_name_and_files_kept_apart(both: Subset) -> None:
    told = both.build()
    made = contents(both.target)
    assert {p: c for p, c in made.items() if "/mine/" in p} == MINE
    assert made["labels/train/town/a.txt"] == b"1 0.25 0.25 0.1 0.1\n"
    assert made["labels/train/town/sub/e.txt"] == b"1 0.5 0.5 0.25 0.25\n"
    assert made["images/train/town/a.jpg"] == picture("train2017/a.jpg")
    assert told["rows"]["source"] == 19 + 4 - 1
    assert told["subset"]["train"]["objects"] == {"tram": 1, "wheels": 8}
    assert [w for w in told["warnings"] if "town has no class for 'tram'" in w]
    assert both.build()["changes"] == 0
    assert both.command("verify").code == 0


@pytest.mark.parametrize("buckets", [1, 7])
def test_bytes_do_not_depend_on_buckets(both: Subset, buckets: int, tmp_path: Path) -> None:
    both.build()
    made = contents(both.target)
    both.build(
        "--set", f"index.buckets={buckets}", "--set", f"target.root={tmp_path}/again", "--set", f"workdir={tmp_path}/w2"
    )
    assert contents(tmp_path / "again") == made


def test_an_index_of_more_buckets_cuts_the_other_finer(both: Subset, town: Path, tmp_path: Path) -> None:
    """Each source keeps its index: tables whose counts are powers of two nest."""
    both.build()
    made = contents(both.target)
    single = {
        "name": "town",
        "names": str(town / "coco.yaml"),
        "root": str(town),
        "splits": {"train": "train2017", "val": "val2017"},
    }
    both.command("index", "--set", f"source={json.dumps(single)}", "--set", "index.buckets=4", "--set", "classes=[car]")
    both.build("--set", f"target.root={tmp_path}/again")
    assert contents(tmp_path / "again") == made
    again = both.build()
    assert again["changes"] == 0


def test_a_change_in_one_source_changes_its_files_alone(both: Subset, other: Path) -> None:
    both.build()
    (other / "labels/t/b-2.txt").write_bytes(b"0 0.5 0.5 0.3 0.3\n")
    told = both.build()
    assert told["changes"] == 3  # and the record, and the digest in the YAML
    assert contents(both.target)["labels/train/mine/b-2.txt"] == b"0 0.5 0.5 0.3 0.3\n"


@pytest.mark.parametrize(
    ("override", "clause"),
    [
        ("classes=[tramm]", "unknown class 'tramm'; did you mean 'tram'"),
        ("source=[]", "the list is empty"),
    ],
)
def test_usage_errors(both: Subset, override: str, clause: str) -> None:
    assert clause in both.command("build", "--set", override, code=2).err


def test_sources_need_names_of_their_own_and_one_task(town: Path, make_subset: MakeSubset) -> None:
    one = entry("town", town, {"train": "train2017"})
    assert "two sources are called 'town'" in make_subset(town, source=[one, one]).command("plan", code=2).err
    two = one | {"name": "two", "task": "segment"}
    assert "declare the same task" in make_subset(town, source=[one, two]).command("plan", code=2).err


@pytest.mark.parametrize("layout", ["yolo", "coco"])
def test_photographs_with_polygons_join_a_subset_of_coco_json(
    layout: str, tmp_path: Path, make_subset: MakeSubset
) -> None:
    """Two ways to write labels, one image name: classes meet by name, files do not."""
    polygon = [[1, 1], [9, 1], [9, 4]]
    write_file(
        tmp_path / "json/all.json",
        json.dumps(
            {
                "images": [{"id": 7, "file_name": "a.png", "width": 10, "height": 5}],
                "annotations": [
                    {
                        "id": 9,
                        "image_id": 7,
                        "category_id": 50,
                        "bbox": [1, 1, 8, 3],
                        "area": 12,
                        "iscrowd": 0,
                        "segmentation": [[1, 1, 9, 1, 9, 4]],
                    }
                ],
                "categories": [{"id": 50, "name": "car"}, {"id": 2, "name": "tram"}],
            }
        ),
    )
    write_file(
        tmp_path / "photos/a.json",
        json.dumps(
            {
                "version": "5.4.1",
                "imagePath": "a.png",
                "imageData": None,
                "imageWidth": 10,
                "imageHeight": 5,
                "shapes": [{"label": label, "shape_type": "polygon", "points": polygon} for label in ("kite", "car")],
            }
        ),
    )
    write_file(tmp_path / "photos/a.png", picture("photos"))
    write_file(tmp_path / "json/a.png", picture("json"))
    sources = [
        {
            "name": "coco",
            "format": "coco",
            "task": "segment",
            "root": str(tmp_path / "json"),
            "splits": {"train": {"annotations": "all.json", "images": "."}},
        },
        {"name": "mine", "format": "labelme", "task": "segment", "root": str(tmp_path), "splits": {"train": "photos"}},
    ]
    subset = make_subset(
        tmp_path, source=sources, classes=["kite", "car"], target={"root": str(tmp_path / "subset"), "format": layout}
    )
    told = subset.build()
    assert [w for w in told["warnings"] if "coco has no class for 'kite'" in w]
    assert told["subset"]["train"]["objects"] == {"kite": 1, "car": 2}
    made = contents(subset.target)
    assert (made["images/train/coco/a.png"], made["images/train/mine/a.png"]) == (picture("json"), picture("photos"))
    if layout == "yolo":
        row = b"0.100000 0.200000 0.900000 0.200000 0.900000 0.800000\n"
        assert made["labels/train/coco/a.txt"] == b"1 " + row
        assert made["labels/train/mine/a.txt"] == b"0 " + row + b"1 " + row
    else:
        data = json.loads(made["annotations/instances_train.json"])
        assert [(i["id"], i["file_name"]) for i in data["images"]] == [(7, "coco/a.png"), (1, "mine/a.png")]
        assert [(o["id"], o["image_id"], o["category_id"]) for o in data["annotations"]] == [
            (9, 7, 2),
            (1, 1, 1),
            (2, 1, 2),
        ]
        assert [c["name"] for c in data["categories"]] == ["kite", "car"]


@pytest.mark.parametrize(
    ("facts", "row", "clause"),
    [
        (
            {"kpt_shape": [3, 3]},
            "0.5 0.5 2 0.6 0.6 2 0.4 0.4 2",
            "the same kpt_shape, but a has [2, 3] and b has [3, 3]",
        ),
        ({"kpt_shape": [2, 2]}, "0.5 0.5 0.6 0.6", "the same kpt_shape"),
        ({"kpt_shape": [2, 3], "flip_idx": [0, 1]}, "0.5 0.5 2 0.6 0.6 2", "the same flip_idx, but a has [1, 0] and b"),
        ({"kpt_shape": [2, 3]}, "0.5 0.5 2 0.6 0.6 2", "the same flip_idx, but a has [1, 0] and b has none"),
        (
            {"kpt_shape": [2, 3], "flip_idx": [1, 0], "kpt_names": {0: ["right", "left"]}},
            "0.5 0.5 2 0.6 0.6 2",
            "the keypoints of class 'p' have other names",
        ),
        ({"kpt_shape": [2, 3], "flip_idx": [1, 0]}, "0.5 0.5 2 0.6 0.6 2", None),
    ],
)
def test_sources_have_the_same_keypoints(
    tmp_path: Path, make_subset: MakeSubset, facts: dict[str, Any], row: str, clause: str | None
) -> None:
    """Rows of both are read by one kpt_shape: what differs is refused before anything is read."""
    first = {"kpt_shape": [2, 3], "flip_idx": [1, 0], "kpt_names": {0: ["left", "right"]}}
    sources = []
    for name, told, points in (("a", first, "0.5 0.5 2 0.6 0.6 2"), ("b", facts, row)):
        root = make_tree(tmp_path / name, {"t": {"x": f"0 0.5 0.5 0.2 0.2 {points}\n"}}, {"t": ("x.jpg",)}, ("p",))
        write_file(root / "coco.yaml", yaml.safe_dump({"names": ["p"], **told}))
        sources.append(entry(name, root, {"train": "t"}) | {"task": "pose"})
    subset = make_subset(tmp_path, source=sources, classes=None)
    told_of = subset.command("build", code=2 if clause else 0)
    assert (clause or "") in told_of.err
