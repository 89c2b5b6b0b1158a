"""`convert` on folders as tools export them: splits, names and task are found, and what is ambiguous is told."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import formats
from pipeline.base.errors import ConfigError
from pipeline.base.terms import Task
from pipeline.config.class_names import read_names
from pipeline.job.conversion import fitting_format
from pipeline.job.layouts import find_splits
from pipeline.storage.local.walk import list_linked
from tests.conftest import Run
from tests.formats.test_labelme import file, jpeg, shape
from tests.support.helpers import contents, write_file

BOX = "1 0.5 0.5 0.2 0.2\n"
PICTURE = jpeg(64, 48)
NAMES = "cat\ndog\n"
DATA = "nc: 2\nnames: [cat, dog]\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def _fill(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        write_file(root / name, content)
    return root


def _pairs(labels: str, images: str, *stems: str) -> dict[str, str | bytes]:
    return {f"{labels}/{s}.txt": BOX for s in stems} | {f"{images}/{s}.jpg": PICTURE for s in stems}


ROBOFLOW = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n" + DATA
LAYOUTS: dict[str, tuple[dict[str, str | bytes], dict[str, int]]] = {
    "roboflow": ({"data.yaml": ROBOFLOW, **_pairs("train/labels", "train/images", "a", "b"),
                  **_pairs("valid/labels", "valid/images", "c"), **_pairs("test/labels", "test/images", "d")},
                 {"train": 2, "val": 1, "test": 1}),
    "roboflow, no yaml paths": ({"data.yaml": DATA, **_pairs("train/labels", "train/images", "a"),
                                 **_pairs("valid/labels", "valid/images", "c")}, {"train": 1, "val": 1}),
    "roboflow darknet": ({"train/_darknet.labels": NAMES, **_pairs("train", "train", "a"),
                          **_pairs("valid", "valid", "b")},
                         {"train": 1, "val": 1}),
    "ultralytics": ({"data.yaml": "path: /somebody/else\ntrain: images/train\nval: images/val\n" + DATA,
                     **_pairs("labels/train", "images/train", "a"), **_pairs("labels/val", "images/val", "b")},
                    {"train": 1, "val": 1}),
    "its own names of folders": ({"data.yaml": "path: .\ntrain: images/mine\nval: images/yours/\n" + DATA,
                                  **_pairs("labels/mine", "images/mine", "a"),
                                  **_pairs("labels/yours", "images/yours", "b")},
                                 {"train": 1, "val": 1}),
    "train is val": ({"data.yaml": "train: images\nval: images\n" + DATA, **_pairs("labels", "images", "a")},
                     {"train": 1}),
    "capitals": ({"classes.txt": NAMES, **_pairs("Train/labels", "Train/images", "a"), **_pairs("Valid/labels",
                 "Valid/images", "b")}, {"train": 1, "val": 1}),
    "capitals, splits below": ({"classes.txt": NAMES, **_pairs("Labels/Train", "Images/Train", "a"),
                                **_pairs("Labels/Val", "Images/Val", "b")}, {"train": 1, "val": 1}),
    "capitals, without splits": ({"classes.txt": NAMES, **_pairs("Labels", "Images", "a", "b")}, {"train": 2}),
    "capitals, in each split": ({"classes.txt": NAMES, **_pairs("train/Labels", "train/Images", "a"),
                                 **_pairs("val/Labels", "val/Images", "b")}, {"train": 1, "val": 1}),
    "cvat 1.1": ({"obj.names": NAMES, "obj.data": "classes = 2\n", "train.txt": "data/obj_train_data/a.jpg\n",
                  **_pairs("obj_train_data", "obj_train_data", "a", "sub/b"),
                  **_pairs("obj_valid_data", "obj_valid_data", "c")}, {"train": 2, "val": 1}),
    "label studio": ({"classes.txt": NAMES, "notes.json": "{}", **_pairs("labels", "images", "a", "b")}, {"train": 2}),
    "cvat 1.1, its own subsets": ({"obj.names": NAMES, **_pairs("obj_Train_data", "obj_Train_data", "a"),
                                   **_pairs("obj_Validation_data", "obj_Validation_data", "b")},
                                  {"train": 1, "val": 1}),
    "ultralytics of cvat, its own subsets": ({
        "data.yaml": "names:\n  0: cat\n  1: dog\npath: .\nTrain: Train.txt\nValidation: Validation.txt\n",
        "Train.txt": "data/images/Train/a.jpg\n", "Validation.txt": "data/images/Validation/b.jpg\n",
        **_pairs("labels/Train", "images/Train", "a"), **_pairs("labels/Validation", "images/Validation", "b")},
        {"train": 1, "val": 1}),
    "annotations and imgs": ({"class_with_id.txt": "0 cat\n1 dog\n", **_pairs("Annotations", "imgs", "a")},
                             {"train": 1}),
    "labelimg": ({"classes.txt": NAMES, **_pairs(".", ".", "a", "b")}, {"train": 2}),
}  # fmt: skip


FROM_YOLO = ("--from", "yolo", "--to", "yolo")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_of_rows_is_found_with_its_names(folder: Path, run: Run, layout: str) -> None:
    files, expected = LAYOUTS[layout]
    told = run("convert", _fill(folder / "in", files), folder / "out", "--from", "yolo", "--to", "yolo", "--json").json
    assert told["classes"] == ["cat", "dog"]
    assert {s: c["objects"]["dog"] for s, c in told["subset"].items()} == expected
    made = contents(folder / "out")
    assert len([p for p in made if p.startswith("images/")]) == sum(expected.values())


def _linked(root: Path, files: Mapping[str, str | bytes], depth: int) -> Path:
    """`root` with `files`, of which each folder that is `depth` steps down is a link to one elsewhere."""
    _fill(root.with_name("elsewhere"), files)
    for name in files:
        folder = "/".join(name.split("/")[:-1][:depth])
        path, home = root / (folder or name), root.with_name("elsewhere") / (folder or name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(path):
            path.symlink_to(home)
    return root


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "labelimg"])
def test_folders_may_be_links(folder: Path, run: Run, layout: str, depth: int) -> None:
    """A layout is recognised as its files are read: through links to folders on another disk."""
    files, expected = LAYOUTS[layout]
    root = _linked(folder / "in", files, depth)
    told = run("convert", root, folder / "out", "--to", "yolo", "--json").json
    assert {s: c["objects"]["dog"] for s, c in told["subset"].items()} == expected
    assert sorted(run("stats", root, "--json").json["subset"]) == sorted(expected)


def test_folders_of_label_files_beside_images_may_be_links(folder: Path, run: Run) -> None:
    """Two splits that are links to one folder, a link to all of it, and one that leads into itself, hide nothing."""
    _fill(folder / "elsewhere", {"a.json": file(shape("cat")), "a.jpg": jpeg(100, 50)})
    root = folder / "in"
    root.mkdir()
    for name, home in {"train": "../elsewhere", "copy": "../elsewhere", "above": "..", "self": "self"}.items():
        (root / name).symlink_to(home)
    assert fitting_format(str(root), str(folder / "work")) == "labelme"
    for more in ([], ["--from", "labelme"]):
        told = run("convert", root, folder / f"out{len(more)}", "--to", "yolo", *more, "--json").json
        assert {s: c["objects"]["cat"] for s, c in told["subset"].items()} == {"train": 1}


def test_the_lists_of_a_linked_voc_devkit_are_found(folder: Path, run: Run) -> None:
    """And the link is the only folder that there is."""
    box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    label = (
        "<annotation><size><width>64</width><height>48</height></size>"
        f"<object><name>cat</name>{box}</object></annotation>"
    )
    files: dict[str, str | bytes] = {f"Annotations/{stem}.xml": label for stem in "ab"}
    files |= {f"JPEGImages/{stem}.jpg": PICTURE for stem in "ab"}
    files |= {"ImageSets/Main/train.txt": "a\n", "ImageSets/Main/val.txt": "b\n"}
    _fill(folder / "elsewhere", files)
    (folder / "in").mkdir()
    (folder / "in/VOC2012").symlink_to("../elsewhere")
    told = run("convert", folder / "in", folder / "out", "--to", "yolo", "--json").json
    assert {s: c["objects"]["cat"] for s, c in told["subset"].items()} == {"train": 1, "val": 1}


CAT = file(shape("cat"))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({f"data/{s}/a{end}": c for s in ("train", "val") for end, c in ((".json", CAT), (".jpg", jpg))}, (1, 1))
        for jpg in [jpeg(100, 50)]
    ]
    + [
        ({f"{f}/{s}/a{end}": c for s in ("train", "val") for f, end, c in pairs}, (1, 1))
        for pairs in (
            [("labels", ".json", CAT), ("images", ".jpg", jpeg(100, 50))],
            [("x/one", ".json", CAT), ("x/one", ".jpg", jpeg(100, 50)), ("two", ".json", CAT),
             ("two", ".jpg", jpeg(100, 50))],
        )
    ]
    + [({"data/train/a.json": CAT, "data/train/a.jpg": jpeg(100, 50), "b/b.json": CAT, "b/b.jpg": jpeg(100, 50)},
        (2, 0))],
)  # fmt: skip
def test_splits_deeper_than_the_folder_are_splits(
    folder: Path, run: Run, files: Mapping[str, str | bytes], expected: tuple[int, int]
) -> None:
    """All was train, without a word; where a label file is in none of their folders it still is."""
    told = run("convert", _fill(folder / "in", files), folder / "out", "--to", "coco", "--json").json
    found = {split: counts["objects"]["cat"] for split, counts in told["subset"].items()}
    times = 2 if any(name.startswith("two/") for name in files) else 1
    assert found == {s: n * times for s, n in zip(("train", "val"), expected, strict=True) if n}


def test_lists_of_voc_may_name_images_in_folders(folder: Path, run: Run) -> None:
    """As Datumaro 1.13.12 writes its `voc`: names below the folder of images, which may have points in them."""
    box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    stems = ("a", "deep/x.y", "deep/er/z")
    files: dict[str, str | bytes] = {
        f"Annotations/{stem}.xml": f"<annotation><folder/><filename>{stem}.jpg</filename><size><width>64</width>"
        f"<height>48</height><depth/></size><object><name>cat</name>{box}</object></annotation>"
        for stem in stems
    }
    files |= {f"JPEGImages/{stem}.jpg": PICTURE for stem in stems}
    files |= {"ImageSets/Main/train.txt": "a\n", "ImageSets/Main/val.txt": "deep/x.y\ndeep/er/z\nother/b\n"}
    told = run("convert", _fill(folder / "in", files), folder / "out", "--to", "yolo", "--json")
    assert {s: c["objects"]["cat"] for s, c in told.json["subset"].items()} == {"train": 1, "val": 2}
    assert "1 line left out, of images that are not below" in told.err
    assert "in no list" not in told.err


def test_the_segment_export_of_cvat_is_read(folder: Path, run: Run) -> None:
    """Its data.yaml does not say the task; each polygon is the same, byte for byte, as task segment."""
    rows = (
        "1 0.100000 0.100000 0.400000 0.100000 0.400000 0.500000\n"
        "0 0.200000 0.150000 0.400000 0.150000 0.400000 0.750000 0.300000 0.750000 0.250000 0.300000\n"
    )  # of cvat-ai/datumaro (MIT), tests/assets/yolo_dataset/yolov8_segmentation, with other classes
    files: dict[str, str | bytes] = {
        "data.yaml": "names:\n  0: cat\n  1: dog\npath: .\ntrain: train.txt\nval: val.txt\n",
        "train.txt": "data/images/train/a.jpg\n", "val.txt": "data/images/val/b.jpg\n",
        "labels/train/a.txt": rows, "images/train/a.jpg": PICTURE,
        "labels/val/b.txt": rows, "images/val/b.jpg": PICTURE,
    }  # fmt: skip
    source = _fill(folder / "in", files)
    run("convert", source, folder / "out", *FROM_YOLO, "--task", "segment")
    made = contents(folder / "out")
    assert {made[f"labels/{name}.txt"] for name in ("train/a", "val/b")} == {rows.encode()}
    told = run("convert", source, folder / "coco", "--from", "yolo", "--to", "coco", "--task", "segment").err
    assert "box" not in told
    data = json.loads((folder / "coco/annotations/instances_val.json").read_bytes())
    assert [len(one["segmentation"][0]) for one in data["annotations"]] == [6, 10]


@pytest.mark.parametrize("layout", ["roboflow", "ultralytics", "annotations and imgs"])
def test_a_dataset_may_lie_one_folder_deeper(folder: Path, run: Run, layout: str) -> None:
    files, expected = LAYOUTS[layout]
    _fill(folder / "in/my dataset", files)
    _fill(folder / "in", {"README.txt": "hello", "__MACOSX/._a": "x", ".git/config": "x"})
    told = run("convert", folder / "in", folder / "out", *FROM_YOLO, "--json").json
    assert {s: c["objects"]["dog"] for s, c in told["subset"].items()} == expected
    _fill(folder / "in/second", files)
    assert "has none of the splits" in run("convert", folder / "in", folder / "o", *FROM_YOLO, code=2).err


def _coco(name: str) -> str:
    image = {"id": 1, "file_name": name, "width": 64, "height": 48}
    thing = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}
    return json.dumps({"images": [image], "annotations": [thing], "categories": [{"id": 1, "name": "cat"}]})


WHOLE: dict[str, tuple[dict[str, str | bytes], list[str]]] = {
    "roboflow": (
        {
            f"{s}/{n}": c
            for s in ("train", "valid", "test")
            for n, c in (("_annotations.coco.json", _coco("a.jpg")), ("a.jpg", PICTURE))
        },
        ["train", "val", "test"],
    ),
    "roboflow, no splits": ({"_annotations.coco.json": _coco("a.jpg"), "a.jpg": PICTURE}, ["train"]),
    "cvat": ({"annotations/instances_default.json": _coco("a.jpg"), "images/default/a.jpg": PICTURE}, ["train"]),
    "label studio": ({"result.json": _coco("a.jpg"), "images/a.jpg": PICTURE}, ["train"]),
    "cvat, its own subsets": (
        {
            name: content
            for s in ("Train", "Validation")
            for name, content in (
                (f"annotations/instances_{s}.json", _coco("a.jpg")),
                (f"images/{s}/a.jpg", PICTURE),
            )
        },
        ["train", "val"],
    ),
    "one folder of images for all files": (
        {
            "annotations/instances_train.json": _coco("a.jpg"),
            "annotations/instances_val.json": _coco("b.jpg"),
            "annotations/captions_val.json": "{}",
            "images/a.jpg": PICTURE,
            "images/b.jpg": PICTURE,
        },
        ["train", "val"],
    ),
    "files called as splits": (
        {
            "train.json": _coco("a.jpg"),
            "val.json": _coco("b.jpg"),
            "images/a.jpg": PICTURE,
            "images/b.jpg": PICTURE,
        },
        ["train", "val"],
    ),
    "files called as splits, in annotations": (
        {
            "annotations/train.json": _coco("a.jpg"),
            "annotations/test.json": _coco("b.jpg"),
            "train/a.jpg": PICTURE,
            "test/b.jpg": PICTURE,
        },
        ["train", "test"],
    ),
    "labelme2coco": ({"annotations.json": _coco("JPEGImages/a.jpg"), "JPEGImages/a.jpg": PICTURE}, ["train"]),
    "makesense": ({"labels_my-project-name_2026-01-01.json": _coco("a.jpg"), "a.jpg": PICTURE}, ["train"]),
    "in the folder of each split": (
        {"train/annotations.json": _coco("a.jpg"), "train/a.jpg": PICTURE,
         "val/labels.json": _coco("b.jpg"), "val/data/b.jpg": PICTURE},
        ["train", "val"],
    ),
    "in a folder of each split, apart from images": (
        {"train/annotations/all.json": _coco("a.jpg"), "train/images/a.jpg": PICTURE,
         "annotations/val/instances.json": _coco("b.jpg"), "images/val/b.jpg": PICTURE,
         "labels/test/test.json": _coco("c.jpg"), "images/test/c.jpg": PICTURE},
        ["train", "val", "test"],
    ),
    "in the folders of images": (
        {"images/train/x.json": _coco("a.jpg"), "images/train/a.jpg": PICTURE,
         "images/val/x.json": _coco("b.jpg"), "images/val/b.jpg": PICTURE},
        ["train", "val"],
    ),
    "folders of splits for files alone": (
        {"train/annotations.json": _coco("a.jpg"), "val/annotations.json": _coco("b.jpg"),
         "images/a.jpg": PICTURE, "images/b.jpg": PICTURE},
        ["train", "val"],
    ),
    "one file in annotations, capitals": ({"annotations/ANNOTATIONS.JSON": _coco("a.jpg"), "images/a.JPG": PICTURE},
                                          ["train"]),
    "one file of any name, images in a folder of any name": (
        {"via_export.json": _coco("a.jpg"), "image1/a.jpg": PICTURE}, ["train"]),
    "fiftyone": ({"labels.json": _coco("a.jpg"), "data/a.jpg": PICTURE}, ["train"]),
    "COCO 2014": (
        {"annotations/instances_train2014.json": _coco("COCO_train2014_1.jpg"),
         "train2014/COCO_train2014_1.jpg": PICTURE,
         "annotations/instances_val2014.json": _coco("COCO_val2014_2.jpg"), "val2014/COCO_val2014_2.jpg": PICTURE},
        ["train", "val"],
    ),
    "train and val in one file": (
        {"annotations/trainval.json": _coco("a.jpg"), "annotations/test.json": _coco("b.jpg"),
         "images/a.jpg": PICTURE, "images/b.jpg": PICTURE},
        ["train", "test"],
    ),
    "train and val in one file, and in files of their own": (
        {"trainval.json": _coco("a.jpg"), "train.json": _coco("a.jpg"), "val.json": _coco("b.jpg"),
         "a.jpg": PICTURE, "b.jpg": PICTURE},
        ["train", "val"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", WHOLE)
def test_a_layout_of_coco_json_is_found(folder: Path, run: Run, layout: str) -> None:
    files, splits = WHOLE[layout]
    told = run("convert", _fill(folder / "in", files), folder / "out", "--from", "coco", "--to", "yolo", "--json").json
    assert {s: c["objects"]["cat"] for s, c in told["subset"].items()} == dict.fromkeys(splits, 1)
    guessed = run("stats", folder / "in", "--json").json
    assert sorted(guessed["subset"]) == sorted(splits)


@pytest.mark.parametrize(
    ("files", "split"),
    [
        ({"street.json": "COCO", "images/street.jpg": PICTURE}, "train"),
        ({"street.json": "COCO", "street.jpg": PICTURE}, "train"),
        ({"annotations/street.json": "COCO", "images/street.jpg": PICTURE}, "train"),
        ({"val/street.json": "COCO", "val/street.jpg": PICTURE}, "val"),
        ({"street.json": "LABELME", "all.json": "COCO", "images/street.jpg": PICTURE}, "train"),
        ({"street.json": "COCO", "all.json": "COCO", "images/street.jpg": PICTURE}, "train"),
    ],
)
def test_coco_json_may_be_called_as_its_image(
    folder: Path, run: Run, files: dict[str, str | bytes], split: str
) -> None:
    """A label file of one image is told apart by what is in it; a file that is called as no image comes first."""
    texts: dict[str | bytes, str | bytes] = {"COCO": _coco("street.jpg"), "LABELME": file(shape("cat"))}
    root = _fill(folder / "in", {name: texts.get(content, content) for name, content in files.items()})
    for more in ([], ["--from", "coco"]):
        told = run("convert", root, folder / f"out{len(more)}", "--to", "yolo", *more, "--json").json
        assert {s: c["objects"]["cat"] for s, c in told["subset"].items()} == {split: 1}


@pytest.mark.parametrize("text", ["", "{}", file(shape("cat"))])
def test_what_is_called_as_its_image_and_is_no_coco_json_is_not_taken_for_it(folder: Path, text: str) -> None:
    _fill(folder / "in", {"street.json": text, "street.jpg": PICTURE})
    with pytest.raises(ConfigError, match="no file is called as one of the splits"):
        find_splits(str(folder / "in"), "coco", formats.load("coco"), Task.DETECT)


def test_a_folder_of_other_files_is_not_said_to_be_of_labelme(folder: Path, run: Run) -> None:
    root = _fill(folder / "in", {"deep/down/x.json": _coco("a.jpg"), "deep/down/y.json": "{}", "deep/a.jpg": PICTURE})
    assert "labelme" not in run("convert", root, folder / "out", "--from", "coco", "--to", "yolo", code=2).err
    assert "is no dataset folder that is known" in run("stats", root, code=2).err


def test_label_files_of_labelme_in_folders_of_splits_are_no_coco_json(folder: Path, run: Run) -> None:
    root = _fill(folder / "in", {f"{s}/{n}": c for s in ("train", "val")
                                 for n, c in (("a.json", file(shape("cat"))), ("a.jpg", jpeg(100, 50)))})  # fmt: skip
    assert (
        "but of format labelme; write"
        in run("convert", root, folder / "out", "--from", "coco", "--to", "yolo", code=2).err
    )
    assert sorted(run("stats", root, "--json").json["subset"]) == ["train", "val"]


def test_suffixes_are_read_in_any_case(folder: Path, run: Run) -> None:
    files = {"classes.txt": NAMES, "labels/CLASSES.TXT": NAMES, **_pairs("labels", "images", "a")}
    files |= {"labels/b.TXT": BOX, "images/b.JPG": PICTURE, "labels/c.Txt": BOX, "images/c.PnG": PICTURE}
    run("convert", _fill(folder / "in", files), folder / "out", *FROM_YOLO)
    assert contents(folder / "out/labels").keys() == {f"train/{s}.txt" for s in "abc"}
    drawn = {"a.JSON": file(shape("cat")), "a.JPG": jpeg(100, 50)}
    run("convert", _fill(folder / "drawn", drawn), folder / "made", "--from", "labelme", "--to", "yolo")
    assert contents(folder / "made/labels").keys() == {"train/a.txt"}


def test_label_files_that_differ_in_the_case_of_their_suffix_are_reported(folder: Path, run: Run) -> None:
    files = {"classes.txt": NAMES, "labels/a.TXT": BOX, **_pairs("labels", "images", "a")}
    root = _fill(folder / "in", files)
    told = run("convert", root, folder / "out", *FROM_YOLO, code=1).err
    assert f"{root}/labels/a.TXT: is a duplicate of a label file that differs in the case of its suffix alone" in told
    run("convert", root, folder / "out", *FROM_YOLO, "--set", "on_error=skip", code=3)
    assert contents(folder / "out/labels") == {"train/a.txt": BOX.encode()}


@pytest.mark.parametrize(("labels", "images"), [("labels", "images"), ("train/Annotations", "train/JPEGImages")])
def test_label_files_of_labelme_apart_from_their_images(folder: Path, run: Run, labels: str, images: str) -> None:
    files = {f"{labels}/a.json": file(shape("cat")), f"{images}/a.jpg": jpeg(100, 50)}
    run("convert", _fill(folder / "in", files), folder / "out", "--from", "labelme", "--to", "yolo")
    assert contents(folder / "out/labels").keys() == {"train/a.txt"}


def test_keypoints_made_here_are_read_again_as_keypoints(folder: Path, run: Run) -> None:
    row = "0 0.5 0.5 0.2 0.2 0.5 0.5 2 0.4 0.4 1\n"
    data = "train: images/train\nnames: [cat]\nkpt_shape: [2, 3]\n"
    files: dict[str, str | bytes] = {"data.yaml": data, "labels/train/a.txt": row, "images/train/a.jpg": PICTURE}
    run("convert", _fill(folder / "in", files), folder / "json", "--from", "yolo", "--to", "coco")
    run("convert", folder / "json", folder / "out", "--from", "coco", "--to", "yolo")
    assert len((folder / "out/labels/train/a.txt").read_text().split()) == 11
    run("convert", folder / "json", folder / "boxes", "--from", "coco", "--to", "yolo", "--task", "detect")
    assert len((folder / "boxes/labels/train/a.txt").read_text().split()) == 5


def test_two_files_of_one_split_are_told(folder: Path, run: Run) -> None:
    files: dict[str, str | bytes] = {"train_a.json": _coco("a.jpg"), "train_b.json": _coco("a.jpg"), "a.jpg": PICTURE}
    told = run("convert", _fill(folder / "in", files), folder / "out", "--from", "coco", "--to", "yolo", code=2).err
    assert "train_a.json and train_b.json are both train" in told


def test_two_folders_of_one_split_are_told(folder: Path, run: Run) -> None:
    files = {
        "classes.txt": NAMES,
        **_pairs("labels/val", "images/val", "a"),
        **_pairs("labels/valid", "images/valid", "b"),
    }
    told = run("convert", _fill(folder / "in", files), folder / "out", "--from", "yolo", "--to", "yolo", code=2).err
    assert "val and valid are both val; rename one, or write a config" in told


def test_a_yaml_that_leads_out_of_the_folder_is_not_followed(folder: Path, run: Run) -> None:
    _fill(folder / "other", _pairs("labels", "images", "secret"))
    files = {
        "data.yaml": f"train: {folder}/other/images\nval: ../other/images\n" + DATA,
        **_pairs("labels/train", "images/train", "a"),
    }
    run("convert", _fill(folder / "in", files), folder / "out", "--from", "yolo", "--to", "yolo")
    assert not [p for p in contents(folder / "out") if "secret" in p]


def test_a_yaml_leads_out_by_no_link_either(folder: Path, run: Run) -> None:
    """A link in the folder is followed, as it is called; what is beside the folder that it leads to is not."""
    _fill(folder / "other/far", _pairs("labels", "images", "mine"))
    _fill(folder / "other/far", _pairs("secret", "secret", "secret"))
    write_file(folder / "other/far/list.txt", "images/mine.jpg\n")
    (folder / "in").mkdir()
    (folder / "in/images").symlink_to("../other/far/images")
    (folder / "in/labels").symlink_to("../other/far/labels")
    for value in ("images/../secret", "images/../list.txt", "labels/../../far/secret/"):
        write_file(folder / "in/data.yaml", f"train: images\nval: {value}\n" + DATA)
        told = run("convert", folder / "in", folder / "out", *FROM_YOLO, "--json").json
        assert {s: c["objects"]["dog"] for s, c in told["subset"].items()} == {"train": 1}
        assert not [p for p in contents(folder / "out") if "secret" in p]


POSE = "0 0.5 0.5 0.2 0.2 0.45 0.45 0.55 0.55 0.5 0.5\n"


@pytest.mark.parametrize(
    ("more", "args", "task"),
    [
        ("kpt_shape: [3, 2]\n", [], "pose"),
        ("task: segment\n", [], "segment"),
        ("", [], "detect"),
        ("kpt_shape: [3, 2]\n", ["--task", "detect"], "detect"),
    ],
)
def test_the_names_tell_the_task(folder: Path, run: Run, more: str, args: list[str], task: str) -> None:
    row = POSE if "kpt" in more else "0 0.1 0.1 0.5 0.1 0.5 0.5\n"
    files: dict[str, Any] = {"data.yaml": DATA + more, **_pairs("labels/train", "images/train", "a")}
    root = _fill(folder / "in", files | {"labels/train/a.txt": row})
    told = run("convert", root, folder / "out", "--from", "yolo", "--to", "yolo", "--json", *args).json
    assert told["task"] == task
    made = contents(folder / "out")["labels/train/a.txt"].decode()
    assert made == (row if task != "detect" or "kpt" not in more else "0 0.5 0.5 0.2 0.2\n")
    assert ("kpt_shape" in yaml.safe_load((folder / "out/data.yaml").read_text())) == (task == "pose")


def test_boxes_and_polygons_are_the_targets_question(folder: Path, run: Run) -> None:
    both, boxes = BOX + "0 0.1 0.1 0.5 0.1 0.5 0.5\n", BOX
    files: dict[str, Any] = {"data.yaml": DATA, **_pairs("labels/train", "images/train", "a", "b")}
    root = _fill(folder / "in", files | {"labels/train/a.txt": both, "labels/train/b.txt": boxes})
    words = ["--from", "yolo", "--to"]
    run("convert", root, folder / "json", *words, "coco")
    made = json.loads((folder / "json/annotations/instances_train.json").read_text())["annotations"]
    assert sorted(len(a["segmentation"]) for a in made) == [0, 0, 1]
    told = run("convert", root, folder / "out", *words, "yolo", code=1).err
    assert f"{root}/labels/train/a.txt: a box (line 1) and a polygon (line 2) in one file, which trainers" in told
    assert "source.options.polygons=boxes" in told
    assert not (folder / "out/labels").exists()
    run(
        "convert",
        root,
        folder / "skip",
        *words,
        "yolo",
        "--set",
        "on_error=skip",
        "--set",
        "select.backgrounds=all",
        code=3,
    )
    assert sorted(contents(folder / "skip")) == ["data.yaml", "images/train/b.jpg", "labels/train/b.txt"]
    run("convert", root, folder / "dogs", *words, "yolo", "--set", "classes=[dog]")
    assert contents(folder / "dogs")["labels/train/a.txt"] == b"0" + BOX[1:].encode()
    run("convert", root, folder / "boxes", *words, "yolo", "--set", "source.options.polygons=boxes")
    assert contents(folder / "boxes")["labels/train/a.txt"].decode() == BOX + "0 0.300000 0.300000 0.400000 0.400000\n"


def test_a_folder_of_nothing_says_what_is_looked_for(folder: Path, run: Run) -> None:
    (folder / "in").mkdir()
    told = run("convert", folder / "in", folder / "out", "--from", "yolo", "--to", "yolo", code=2).err
    assert "has none of the splits train, val and test" in told
    assert "Roboflow, CVAT and Label Studio" in told


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("obj.names", NAMES),
        ("classes.txt", "\ufeffcat\r\ndog\r\n"),
        ("classes.txt", "cat\rdog"),
        ("my.labels", "cat \n\n dog\n"),
        ("class_with_id.txt", "1 cat\n2 dog\n"),
        ("class_with_id.txt", "0: cat\n1: dog\n"),
        ("class_with_id.txt", f"{'0' * 17}0 cat\n1 dog\n"),
        ("ids.txt", "0,cat\n1,dog"),
        ("names", NAMES),
        ("list.lst", NAMES),
        ("names.yaml", DATA),
        ("names.yml", "\ufeff" + DATA),
    ],
)
def test_lists_of_names_of_every_tool(name: str, text: str) -> None:
    assert read_names(text, name).names == ("cat", "dog")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1 euro\n2 euro\n", ("1 euro", "2 euro")),
        ("2 cat\n1 dog\n", ("2 cat", "1 dog")),
        ("7\n8\n", ("7", "8")),
        ("1 cat\ndog\n", ("1 cat", "dog")),
        ("traffic light\n", ("traffic light",)),
        ("M\u00fcll\n", ("M\u00fcll",)),
        ("Mu\u0308ll\n", ("M\u00fcll",)),
    ],
)
def test_what_is_no_number_before_a_name_is_part_of_it(text: str, names: tuple[str, ...]) -> None:
    assert read_names(text, "names.txt").names == names


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("cat\ncat\n", "names.txt:2: the name 'cat' is a duplicate of line 1"),
        ("\n\n", "holds no name"),
        ("a\x07b\n", "holds a control character"),
    ],
)
def test_a_bad_list_is_told_with_its_line(text: str, clause: str) -> None:
    with pytest.raises(ConfigError, match=clause.replace("(", "\\(")):
        read_names(text, "names.txt")


def test_a_yaml_that_is_nested_without_end_says_nothing_of_splits(tmp_path: Path) -> None:
    write_file(tmp_path / "data.yaml", f"train: images/val\nx: {'[' * 5000}{']' * 5000}\n")
    write_file(tmp_path / "labels/train/a.txt", BOX)
    write_file(tmp_path / "images/train/a.jpg", PICTURE)
    assert list(find_splits(str(tmp_path), "yolo", formats.load("yolo"), Task.DETECT)) == ["train"]


def test_subsets_of_any_name_ask_for_a_config_that_names_them(tmp_path: Path) -> None:
    """As CVAT exports them: which is train and which val only their maker knows."""
    for name in ("my_set", "other"):
        write_file(tmp_path / f"annotations/instances_{name}.json", "{}")
    told = "annotations/instances_my_set.json and annotations/instances_other.json); write a config that names "
    with pytest.raises(ConfigError, match=re.escape(told)):
        find_splits(str(tmp_path), "coco", formats.load("coco"), Task.DETECT)


@pytest.mark.parametrize(
    ("format_", "name", "label"),
    [
        ("isat", "a.json", '{"info": {"name": "a.jpg", "width": 64, "height": 48}, "objects": []}'),
        ("voc", "a.xml", "<annotation/>"),
    ],
)
def test_a_folder_is_listed_once_however_many_formats_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str, name: str, label: str
) -> None:
    """Also where it is in a folder of its own."""
    root = _fill(tmp_path / "in/unpacked", {name: label, "a.jpg": PICTURE})
    counts: Counter[str] = Counter()

    def counted(folder: str) -> set[str]:
        counts[folder] += 1
        return list_linked(folder)

    monkeypatch.setattr("pipeline.storage.list_linked", counted)
    for folder in (root, root.parent):
        counts.clear()
        assert fitting_format(str(folder), str(tmp_path / "work")) == format_
        assert counts == {str(folder): 1}
