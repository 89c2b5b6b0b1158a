"""Ready configs of datasets that one downloads oneself: each builds from a sample laid out as its dataset is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run
from tests.support.helpers import PROJECT, picture, write_file

COW = json.loads((PROJECT / "tests/formats/real/lvis.json").read_text(encoding="utf-8"))


def lvis(root: Path) -> None:
    """The real excerpt is of val; of LVIS's val most images are in COCO's train2017, as one is here."""
    for split, ids in (("train", {1: "train2017"}), ("val", {87470: "val2017", 3: "train2017"})):
        images: list[dict[str, Any]] = []
        objects: list[dict[str, Any]] = []
        for number, folder in ids.items():
            name = f"{folder}/{number:012d}.jpg"
            images.append({**COW["images"][0], "id": number, "coco_url": f"http://images.cocodataset.org/{name}"})
            objects += [{**one, "id": number * 10 + i, "image_id": number} for i, one in enumerate(COW["annotations"])]
            write_file(root / "lvis/images" / name, picture(name))
        data = {**COW, "images": images, "annotations": objects}
        write_file(root / f"lvis/annotations/lvis_v1_{split}.json", json.dumps(data))


def objects365(root: Path) -> None:
    for split, names in (
        ("train", ["v1/patch8/objects365_v1_00420917.jpg", "v2/patch16/objects365_v2_00900002.jpg"]),
        ("val", ["v1/patch6/objects365_v1_00320532.jpg"]),
    ):
        images, objects = [], []
        for i, name in enumerate(names, 1):
            images.append({"id": i, "file_name": f"images/{name}", "width": 64, "height": 48})
            objects.append(
                {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 30, 20], "area": 600, "iscrowd": 0}
            )
            write_file(root / "objects365" / split / name.partition("/")[2], picture(name))
        data = {
            "images": images,
            "annotations": objects,
            "categories": [{"id": 1, "name": "Person"}, {"id": 6, "name": "Car"}],
        }
        write_file(root / f"objects365/annotations/zhiyuan_objv2_{split}.json", json.dumps(data))


def visdrone(root: Path) -> None:
    """As ultralytics 8.4 (cfg/datasets/VisDrone.yaml) leaves it: VisDrone's own rows are there, too."""
    for i, split in enumerate(("train", "val", "test")):
        folder, name = root / "VisDrone", f"000000{i}_00001_d_0000001"
        write_file(folder / f"images/{split}/{name}.jpg", picture(name))
        write_file(
            folder / f"VisDrone2019-DET-{split}/annotations/{name}.txt", "10,10,20,20,1,4,0,0\n5,5,9,9,0,0,0,0\n"
        )
        write_file(folder / f"labels/{split}/{name}.txt", "3 0.200000 0.200000 0.200000 0.200000\n")


@pytest.mark.parametrize(
    ("name", "make", "changes", "files", "row"),
    [
        ("lvis", lvis, ["classes=[cow]"], {"train": 1, "val": 2}, "0 0.3"),
        ("objects365", objects365, [], {"train": 2, "val": 1}, "1 0.25"),
        ("visdrone", visdrone, [], {"train": 1, "val": 1, "test": 1}, "0 0.200000 "),
    ],
)
def test_a_ready_config_builds_from_the_layout_of_its_dataset(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, make: Any, changes: list[str],
    files: dict[str, int], row: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "datasets")
    run("init", name)
    words = [word for change in (*changes, "target.root=out") for word in ("--set", change)]
    run("build", f"conf/{name}.yaml", *words)
    for folder in ("images", "labels"):
        found = {split: sum(p.is_file() for p in Path("out", folder, split).rglob("*")) for split in files}
        assert found == files
    assert all(row in p.read_text(encoding="utf-8") for p in Path("out/labels").rglob("*.txt"))
