"""Ready configs of datasets that one downloads oneself: each builds from a sample laid out as its dataset is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from tests.support.helpers import PROJECT, picture, write_file

REAL = PROJECT / "tests/formats/real"

COW = json.loads((REAL / "lvis.json").read_text(encoding="utf-8"))

#: Label rows by the stem of their file: class, then the box in shares of the image.
Rows = dict[str, list[tuple[float, ...]]]


def shares(number: int, corners: tuple[float, float, float, float], width: int, height: int) -> tuple[float, ...]:
    """The row of a class and of a box in pixels."""
    x0, y0, x1, y1 = corners
    return (number, (x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)


def grey(path: Path, width: int, height: int) -> None:
    """An image as large as the real one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path)


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
    """One of the two real images in each split; train has one more that is in no archive, says mmdetection."""
    real = json.loads((REAL / "objects365.json").read_text(encoding="utf-8"))
    for split, image in zip(("val", "train"), real["images"], strict=True):
        objects = [one for one in real["annotations"] if one["image_id"] == image["id"]]
        data = {**real, "images": [image], "annotations": objects}
        if split == "train":
            lost = {**image, "id": 320532, "file_name": "images/v1/patch6/objects365_v1_00320532.jpg"}
            data["images"].append(lost)
            data["annotations"] += [{**objects[0], "id": 1, "image_id": lost["id"]}]
        write_file(root / f"objects365/annotations/zhiyuan_objv2_{split}.json", json.dumps(data))
        folder, name = image["file_name"].split("/")[-2:]
        grey(root / "objects365" / split / folder / name, image["width"], image["height"])


def rows_of_objects365() -> Rows:
    """As Ultralytics' Objects365.yaml converts; it also cuts off the quarter of a pixel that a person has beyond."""
    real = json.loads((REAL / "objects365.json").read_text(encoding="utf-8"))
    images = {image["id"]: image for image in real["images"]}
    numbers = {84: 0, 6: 1, 1: 2}
    found: Rows = {}
    for one in real["annotations"]:
        if one["category_id"] in numbers:
            (x, y, w, h), image = one["bbox"], images[one["image_id"]]
            row = shares(numbers[one["category_id"]], (x, y, x + w, y + h), image["width"], image["height"])
            found.setdefault(Path(image["file_name"]).stem, []).append(row)
    return found


#: The images of the sample with their sizes, and where VisDrone and Ultralytics have them.
VISDRONE = {
    "0000002_00448_d_0000015": ("train", (960, 540)),
    "0000001_02999_d_0000005": ("val", (1920, 1080)),
    "0000006_00159_d_0000001": ("test", (1360, 765)),
}


def visdrone(root: Path) -> None:
    """As ultralytics 8.4 (cfg/datasets/VisDrone.yaml) leaves it: VisDrone's own folders are deleted."""
    for stem, (split, size) in VISDRONE.items():
        grey(root / f"VisDrone/images/{split}/{stem}.jpg", *size)
        write_file(root / f"VisDrone/labels/{split}/{stem}.txt", (REAL / f"visdrone/labels/{stem}.txt").read_bytes())


def visdrone_of_yolov5(root: Path) -> None:
    """As YOLOv5, and ultralytics until 8.3, leave it: labels in VisDrone's own folders."""
    for stem, (split, size) in VISDRONE.items():
        folder = root / f"VisDrone/VisDrone2019-DET-{split}{'-dev' if split == 'test' else ''}"
        grey(folder / f"images/{stem}.jpg", *size)
        write_file(folder / f"annotations/{stem}.txt", (REAL / f"visdrone/{stem}.txt").read_bytes())
        write_file(folder / f"labels/{stem}.txt", (REAL / f"visdrone/labels/{stem}.txt").read_bytes())


def rows_of_visdrone() -> Rows:
    """Of VisDrone's own rows (left, top, width, height, score, category, …) cars (4) and vans (5) that are scored."""
    found: Rows = {}
    for stem, (_, size) in VISDRONE.items():
        for line in (REAL / f"visdrone/{stem}.txt").read_text(encoding="utf-8").splitlines():
            x, y, w, h, score, category, *_ = map(int, line.split(","))
            if score and category in (4, 5):
                found.setdefault(stem, []).append(shares(category - 4, (x, y, x + w, y + h), *size))
    return found


#: Images of VOC 2012: 2007_000027 is in no list of Main.
VOC = {"train": ["2008_000008", "2008_000041"], "val": ["2008_000003", "2009_003722"], None: ["2007_000027"]}


def voc2012(root: Path) -> None:
    folder = root / "VOCdevkit/VOC2012"
    for split, stems in VOC.items():
        if split is not None:
            write_file(folder / f"ImageSets/Main/{split}.txt", "".join(f"{stem}\n" for stem in stems))
        for stem in stems:
            text = (REAL / f"voc2012/{stem}.xml").read_bytes()
            write_file(folder / f"Annotations/{stem}.xml", text)
            size = ElementTree.fromstring(text).find("size")
            assert size is not None
            grey(folder / f"JPEGImages/{stem}.jpg", *(int(size.findtext(side) or 0) for side in ("width", "height")))


def rows_of_voc2012() -> Rows:
    """From the left edge of the first pixel, which is 1, to the right edge of the last."""
    found: Rows = {}
    for stem in (*VOC["train"], *VOC["val"]):
        root = ElementTree.parse(REAL / f"voc2012/{stem}.xml").getroot()
        width, height = (int(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
        for one in root.iter("object"):
            if (label := one.findtext("name")) in ("car", "person") and one.findtext("difficult") == "0":
                x0, y0, x1, y1 = (int(one.findtext(f"bndbox/{c}") or 0) for c in ("xmin", "ymin", "xmax", "ymax"))
                row = shares(["car", "person"].index(label), (x0 - 1, y0 - 1, x1, y1), width, height)
                found.setdefault(stem, []).append(row)
    return found


OPEN_IMAGES = REAL / "openimages"

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
    text = (REAL / "crowdhuman.odgt").read_text(encoding="utf-8")
    for split, line, size in zip(("train", "val"), text.splitlines(), ((800, 1067), (1600, 1200)), strict=True):
        write_file(root / f"CrowdHuman/annotation_{split}.odgt", line + "\n")
        grey(root / f"CrowdHuman/Images/{json.loads(line)['ID']}.jpg", *size)


#: The splits that conf/visdrone.yaml has in its comment.
YOLOV5 = json.dumps(
    {
        split: {kind: f"VisDrone2019-DET-{folder}/{kind}" for kind in ("labels", "images")}
        for split, folder in (("train", "train"), ("val", "val"), ("test", "test-dev"))
    }
)


@pytest.mark.parametrize(
    ("name", "make", "changes", "files", "rows"),
    [
        ("lvis", lvis, ["classes=[cow]"], {"train": 1, "val": 2}, "0 0.3"),
        ("objects365", objects365, ["classes=[Air Conditioner, Car, Person]"], {"train": 1, "val": 1},
         rows_of_objects365),
        ("open-images", open_images, [], {"train": 1, "val": 1}, " 0."),
        ("crowdhuman", crowdhuman, [], {"train": 1, "val": 1}, "0 0."),
        ("visdrone", visdrone, [], {"train": 1, "val": 1, "test": 1}, rows_of_visdrone),
        ("visdrone", visdrone_of_yolov5, [f"source.splits={YOLOV5}"], {"train": 1, "val": 1, "test": 1},
         rows_of_visdrone),
        ("voc2012", voc2012, [], {"train": 2, "val": 2}, rows_of_voc2012),
    ],
)  # fmt: skip
def test_a_ready_config_builds_from_the_layout_of_its_dataset(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, make: Any, changes: list[str],
    files: dict[str, int], rows: str | Callable[[], Rows],
) -> None:  # fmt: skip
    """`rows` is a part that each label file has, or another computation of all rows. Objects365 lacks an image."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "datasets")
    run("init", name)
    words = [word for change in (*changes, "target.root=out") for word in ("--set", change)]
    run("build", f"conf/{name}.yaml", *words, code=3 if name == "objects365" else 0)
    for folder in ("images", "labels"):
        found = {split: sum(p.is_file() for p in Path("out", folder, split).rglob("*")) for split in files}
        assert found == files
    texts = {p.stem: p.read_text(encoding="utf-8") for p in Path("out/labels").rglob("*.txt")}
    if isinstance(rows, str):
        assert all(rows in text for text in texts.values())
        return
    made = {stem: [tuple(map(float, line.split())) for line in text.splitlines()] for stem, text in texts.items()}
    expected = rows()
    assert made.keys() == expected.keys()
    for stem, lines in made.items():
        assert np.array(lines) == pytest.approx(np.array(expected[stem]), abs=1e-6), stem


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
