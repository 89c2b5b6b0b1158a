"""Ready configs of datasets that one downloads oneself: each builds from a sample laid out as its dataset is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

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


OPEN_IMAGES = PROJECT / "tests/formats/real/openimages"

#: That there is neither a person nor a vehicle; no car, but maybe a truck.
VERIFIED = """{0},verification,/m/01g317,0
{0},verification,/m/07yv9,0
{1},verification,/m/01g317,0
{1},verification,/m/0k4j,0
"""


def open_images(root: Path) -> None:
    """Real rows under the names of the download; those of V4's test are here of validation."""
    real = {path.name: path.read_text(encoding="utf-8") for path in OPEN_IMAGES.iterdir()}
    labels = real["train-annotations-human-imagelabels-boxable.csv"]
    verified = labels.partition("\n")[0] + "\n" + VERIFIED.format("000062a39995e348", "000026e7ee790996")
    folder = root / "open-images/annotations"
    for name, text in {
        "oidv6-train-annotations-bbox.csv": real["oidv6-train-annotations-bbox.csv"],
        "train-annotations-human-imagelabels-boxable.csv": labels,
        "validation-annotations-bbox.csv": real["test-annotations-bbox.csv"],
        "validation-annotations-human-imagelabels-boxable.csv": verified,
        "oidv7-class-descriptions-boxable.csv": "LabelName,DisplayName\n" + real["class-descriptions-boxable.csv"],
        "bbox_labels_600_hierarchy.json": real["bbox_labels_600_hierarchy.json"],
    }.items():
        write_file(folder / name, text)
    for split, file in (("train", "oidv6-train-annotations-bbox.csv"), ("validation", "test-annotations-bbox.csv")):
        for line in real[file].splitlines()[1:]:
            name = f"{line.partition(',')[0]}.jpg"
            write_file(root / "open-images" / split / name, picture(name))


def crowdhuman(root: Path) -> None:
    """Real lines, with images as large as those."""
    text = (PROJECT / "tests/formats/real/crowdhuman.odgt").read_text(encoding="utf-8")
    for split, line, size in zip(("train", "val"), text.splitlines(), ((800, 1067), (1600, 1200)), strict=True):
        write_file(root / f"CrowdHuman/annotation_{split}.odgt", line + "\n")
        path = root / f"CrowdHuman/Images/{json.loads(line)['ID']}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", size).save(path)


@pytest.mark.parametrize(
    ("name", "make", "changes", "files", "row"),
    [
        ("lvis", lvis, ["classes=[cow]"], {"train": 1, "val": 2}, "0 0.3"),
        ("objects365", objects365, [], {"train": 2, "val": 1}, "1 0.25"),
        ("open-images", open_images, [], {"train": 1, "val": 1}, " 0."),
        ("crowdhuman", crowdhuman, [], {"train": 1, "val": 1}, "0 0."),
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


def test_images_of_open_images_are_backgrounds_for_what_is_verified_not_to_be_there(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    open_images(tmp_path / "datasets")
    run("init", "open-images")
    words = ["--set", "target.root=out", "--set", "select.background=all"]
    run("build", "conf/open-images.yaml", *words)
    cars = Path("out/labels/val/0000c64e1253d68f.txt").read_text(encoding="utf-8").split()
    assert cars[::5] == ["1"] * 3  # the group of vehicles is in no row
    found = {path.stem: path.read_text(encoding="utf-8") for path in Path("out/labels/val").iterdir()}
    assert [stem for stem, text in found.items() if not text] == ["000062a39995e348"]
    made = json.loads(run("plan", "conf/open-images.yaml", *words, "--json").out)
    assert made["images"]["unlabelled_class"] == 1
    assert made["unlabelled"] == {"Person": 1, "Vehicle": 2}
