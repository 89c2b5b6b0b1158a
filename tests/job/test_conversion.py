"""`coco-diy convert`: one folder to another format, without a config."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.builds.test_machine import mode, powerless
from tests.conftest import Run
from tests.job.test_layouts import LAYOUTS, PICTURE, WHOLE
from tests.support.helpers import PROJECT, contents, without_digest, write_file

SAMPLE = PROJECT / "tests/sample"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def _labels(root: Path) -> Counter[str]:
    """Objects by class name in the label files of a target, and the tokens of its rows."""
    names = yaml.safe_load((root / "data.yaml").read_text())["names"]
    rows = [line.split() for p in root.rglob("labels/**/*.txt") for line in p.read_text().splitlines()]
    return Counter(names[int(row[0])] for row in rows)


def test_labelme_to_yolo(folder: Path, run: Run) -> None:
    words = ["--from", "labelme", "--to", "yolo", "--seed", "1", "--split"]
    run("convert", SAMPLE / "labelme", folder / "out", *words, "0.7")
    drawn = [s["label"] for p in (SAMPLE / "labelme").glob("*.json") for s in json.loads(p.read_text())["shapes"]]
    assert _labels(folder / "out") == Counter(drawn)
    assert yaml.safe_load((folder / "out/data.yaml").read_text()) == {
        "train": "images/train",
        "val": "images/val",
        "names": {0: "dog", 1: "kite", 2: "person"},
    }
    made = contents(folder / "out")
    run("convert", SAMPLE / "labelme", folder / "again", *words, "0.7,0.3", "--workdir", folder / "work")
    assert contents(folder / "again") == made


def test_labels_give_the_order(folder: Path, run: Run) -> None:
    (folder / "labels.txt").write_text("__ignore__\n_background_\nperson\nkite\ndog\n")
    run(
        "convert",
        SAMPLE / "labelme",
        folder / "out",
        "--from",
        "labelme",
        "--to",
        "yolo",
        "--task",
        "segment",
        "--labels",
        folder / "labels.txt",
        code=0,
    )
    assert list(yaml.safe_load((folder / "out/data.yaml").read_text())["names"].values()) == ["person", "kite", "dog"]


def test_yolo_keeps_its_splits(folder: Path, run: Run) -> None:
    run(
        "convert",
        SAMPLE / "detect",
        folder / "out",
        "--from",
        "yolo",
        "--to",
        "yolo",
        "--labels",
        PROJECT / "conf/coco.yaml",
        "--set",
        "target.images=none",
    )
    made = contents(folder / "out")
    for path in (SAMPLE / "detect/labels").rglob("*.txt"):
        split = path.parent.name.removesuffix("2017")
        assert made[f"labels/{split}/{path.name}"] == path.read_bytes()


def _images_of(root: Path) -> set[str]:
    """Names of the images that a target has, with objects or without."""
    if (root / "data.yaml").is_file():
        return {p.stem for p in root.rglob("labels/**/*.txt")}
    if files := list(root.glob("annotations/instances_*.json")):
        return {Path(i["file_name"]).stem for file in files for i in json.loads(file.read_text())["images"]}
    lines = [json.loads(line) for file in root.glob("*.ndjson") for line in file.read_text().splitlines()]
    return {Path(line["file"]).stem for line in lines if line["type"] == "image"}


@pytest.mark.parametrize("target", ["yolo", "coco", "ndjson"])
def test_images_without_an_object_are_converted_too(folder: Path, run: Run, target: str) -> None:
    shutil.copytree(SAMPLE / "labelme", folder / "labelme")
    shutil.copytree(SAMPLE / "detect", folder / "rows")
    names = [path.stem for path in (folder / "labelme").glob("*.json")]
    shutil.copy(folder / "labelme/photo02.png", folder / "labelme/nobody.png")
    words = ["--from", "labelme", "--to", target, "--quiet"]
    said = run("convert", folder / "labelme", folder / "out", *words)
    assert _images_of(folder / "out") == {*names}
    assert "1 image without a label file left out; take them with --set 'select.background=unlabelled'" in said.err

    # To whom trains on label rows each image of the folder is part of the dataset.
    names = [path.stem for path in (folder / "rows/images").rglob("*") if path.is_file()]
    run("convert", folder / "rows", folder / "all", "--to", target, "--labels", PROJECT / "conf/coco.yaml")
    assert _images_of(folder / "all") == {*names}
    run("convert", folder / "all", folder / "back", "--from", target, "--to", "yolo")
    assert _images_of(folder / "back") == {*names}
    shutil.copytree(SAMPLE / "labelme", folder / "copy")
    data = json.loads((folder / "copy/photo04.json").read_text())
    data["shapes"] = [{"label": "kite", "shape_type": "line", "points": [[1, 1], [9, 9]]}]
    (folder / "copy/photo04.json").write_text(json.dumps(data))
    run("convert", folder / "copy", folder / "lines", *words)
    assert "photo04" not in _images_of(folder / "lines"), "there is an object, if one without an area"


@pytest.mark.parametrize("place", ["", "annotations/instances_val2017.json"])
def test_coco_json_to_coco_json_takes_its_captions_along(folder: Path, run: Run, place: str) -> None:
    image = {"id": 1, "file_name": "a.jpg", "width": 10, "height": 10}
    said = {"id": 5, "image_id": 1, "caption": "a kite"}
    thing = {"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}
    write_file(
        folder / "zoo/annotations/instances_val2017.json",
        json.dumps({"images": [image], "annotations": [thing], "categories": [{"id": 1, "name": "kite"}]}),
    )
    write_file(folder / "zoo/annotations/captions_val2017.json", json.dumps({"images": [image], "annotations": [said]}))
    words = ["--from", "coco", "--to", "coco", "--set", "target.images=none"]
    run("convert", folder / "zoo" / place, folder / "out", *words)
    (path,) = (folder / "out/annotations").glob("captions_*.json")
    assert json.loads(path.read_text())["annotations"] == [said]
    run("convert", folder / "out", folder / "again", *words)
    assert (folder / "again/annotations" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "1.5"], "--split 1.5: must be the share of train"),
        (["--split", "a"], "--split a: must be"),
        (["--split", "0.5,0.2"], "shares add up to 0.7"),
        (["--to", "voc"], "unknown target format 'voc'; available: coco, ndjson, yolo"),
        (["--from", "tfrecord"], "unknown format 'tfrecord'; available: "),
        (["--from", "yolo"], "labelme: has no labels of format yolo, but of format labelme; write --from labelme"),
        (["--labels", "missing.txt"], "missing.txt: no such class names file"),
        (["--task", "pose"], "task pose of format labelme needs the labels of the points"),
    ],
)
def test_what_cannot_be_meant_is_told(folder: Path, run: Run, options: list[str], message: str) -> None:
    words = ["--from", "labelme", "--to", "yolo", *options]
    assert message in run("convert", SAMPLE / "labelme", folder / "out", *words, code=2).err


def test_a_folder_that_is_not_there_is_told(folder: Path, run: Run) -> None:
    told = run("convert", folder / "none", folder / "out", "--from", "labelme", "--to", "yolo", code=2).err
    assert "none: does not exist; correct the path" in told


def test_coco_json_to_rows_and_back_from_a_folder_made_here(folder: Path, run: Run) -> None:
    words = ["--split", "0.7", "--seed", "1"]
    run("convert", SAMPLE / "labelme", folder / "json", "--from", "labelme", "--to", "coco", *words)
    run("convert", folder / "json", folder / "rows", "--from", "coco", "--to", "yolo", "--task", "segment")
    run(
        "convert",
        SAMPLE / "labelme",
        folder / "direct",
        "--from",
        "labelme",
        "--to",
        "yolo",
        "--task",
        "segment",
        *words,
    )
    made, direct = contents(folder / "rows"), contents(folder / "direct")
    assert set(made) == set(direct)
    assert {p: c for p, c in made.items() if p.endswith(".png")} == {
        p: c for p, c in direct.items() if p.endswith(".png")
    }
    assert _labels(folder / "rows") == _labels(folder / "direct")


VOC = """<annotation><size><width>64</width><height>48</height></size><object><name>dog</name>
<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"""
ZIPS: dict[str, Mapping[str, str | bytes]] = {
    "yolo": LAYOUTS["roboflow"][0],
    "coco": WHOLE["roboflow"][0],
    "coco, all in one folder": {"result.json": WHOLE["roboflow"][0]["train/_annotations.coco.json"], "a.jpg": PICTURE},
    "ndjson": {
        "dataset.ndjson": '{"type": "dataset", "task": "detect", "class_names": {"0": "dog"}}\n'
        '{"type": "image", "file": "a.jpg", "width": 64, "height": 48, "split": "train", "annotations": '
        '{"boxes": [[0, 0.5, 0.5, 0.2, 0.2]]}}\n',
        "images/train/a.jpg": PICTURE,
    },
    "voc, by its lists": {
        "VOC2012/ImageSets/Main/train.txt": "a\n",
        "VOC2012/ImageSets/Main/val.txt": "b\n",
        **{f"VOC2012/Annotations/{stem}.xml": VOC for stem in "abc"},
        **{f"VOC2012/JPEGImages/{stem}.jpg": PICTURE for stem in "abc"},
    },
}


@pytest.mark.parametrize("case", ZIPS)
def test_a_zip_is_read_as_the_folder_in_it(folder: Path, run: Run, case: str) -> None:
    for name, content in ZIPS[case].items():
        write_file(folder / "in" / name, content)
    shutil.make_archive(str(folder / "set"), "zip", folder / "in")
    of_folder, of_zip = (
        run("convert", source, folder / "made" / source.stem, "--to", "yolo", "--json")
        for source in (folder / "in", folder / "set.zip")
    )
    said = f"is read as format {case.partition(',')[0]};"
    assert said in of_folder.err
    assert said in of_zip.err
    assert of_zip.json["subset"] == of_folder.json["subset"]
    assert without_digest(contents(folder / "made/set")) == without_digest(contents(folder / "made/in"))


@pytest.mark.parametrize(("name", "content"), [
    ("tasks.json", [{"data": {"image": "/data/upload/1/0f1e2d3c-a.jpg"}, "annotations": [{"result": [
        {"type": "rectanglelabels", "original_width": 64, "original_height": 48,
         "value": {"x": 10, "y": 10, "width": 20, "height": 20, "rectanglelabels": ["cat"]}}]}]}]),
    ("labels.json", {"images": [{"id": 1, "file_name": "0f1e2d3c-a.jpg", "width": 64, "height": 48}],
                     "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}],
                     "categories": [{"id": 1, "name": "cat"}]}),
])  # fmt: skip
def test_an_image_that_one_file_names_and_is_not_there(folder: Path, run: Run, name: str, content: Any) -> None:
    write_file(folder / "in" / name, json.dumps(content))
    write_file(folder / "in/b.jpg", PICTURE)
    said = run("convert", folder / "in", folder / "out", "--to", "yolo", code=1).err
    assert re.search(r"in: has no image '[^']*0f1e2d3c-a\.jpg' \(tried with and without its folders", said), said


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("target.layout=robofow", "--set target.layout=robofow: unknown layout of format yolo 'robofow'; did you mean"),
        ("target.flatt=true", "--set target.flatt=true: unknown key 'target.flatt'; did you mean 'flat'?"),
        ("target.flat=maybe", "--set target.flat=maybe: target.flat: must be true or false"),
        ("source.options.first_pixl=0", "--set source.options.first_pixl=0: unknown; format voc knows first_pixel"),
        ("source.options.first_pixel=2", "--set source.options.first_pixel=2: must be 'auto', 0 or 1 (it is 2)"),
    ],
)
def test_an_override_that_is_mistyped_is_named(folder: Path, run: Run, override: str, said: str) -> None:
    write_file(folder / "in/a.xml", VOC)
    write_file(folder / "in/a.jpg", PICTURE)
    found = run("convert", folder / "in", folder / "out", "--to", "yolo", "--set", override, code=2).err
    assert f"coco-diy: {said}" in found


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.tar.gz", "only zip archives are read in place; unpack this one"),
        ("a.json.gz", "is compressed; unpack it, as by `gunzip`, and name what it was"),
        ("a.txt", "is no file of all labels ("),
        ("empty", "no layout of coco, "),
    ],
)
def test_what_fits_no_format_is_told(folder: Path, run: Run, name: str, said: str) -> None:
    (folder / "empty").mkdir()
    if name != "empty":
        write_file(folder / name, VOC)
    found = run("convert", folder / name, folder / "out", "--to", "yolo", code=2).err
    assert f"{name}: {said}" in found


def test_images_of_a_file_that_leads_out_of_its_folder_are_not_taken(folder: Path, run: Run) -> None:
    text = str(ZIPS["ndjson"]["dataset.ndjson"]).replace('"task"', '"path": "..", "task"')
    write_file(folder / "in/dataset.ndjson", text)
    write_file(folder / "images/train/a.jpg", PICTURE)
    assert "has no image 'a.jpg'" in run("convert", folder / "in", folder / "out", "--to", "yolo", code=1).err


def test_oriented_boxes_are_of_their_task_in_a_copy_of_a_target(folder: Path, run: Run) -> None:
    """No row says whether its four corners are an oriented box or a polygon: the YAML does."""
    write_file(folder / "in/labelTxt/a.txt", "2 2 9 2 9 9 2 9 plane 0\n")
    write_file(folder / "in/images/a.jpg", PICTURE)
    run("convert", folder / "in", folder / "made", "--to", "yolo", "--task", "obb")
    shutil.copytree(folder / "made", folder / "copy", ignore=shutil.ignore_patterns(".coco-diy"))
    said = run("convert", folder / "copy", folder / "again", "--to", "yolo").out
    assert "yolo obb train" in said
    assert without_digest(contents(folder / "again")) == without_digest(contents(folder / "made"))
    assert yaml.safe_load((folder / "made/data.yaml").read_text())["task"] == "obb"


@pytest.mark.parametrize(
    ("names", "flip"),
    [
        (None, [1, 0, 2]),
        ({0: ["wing a", "wing b", "beak"]}, [1, 0, 2]),
        ({0: ["left_eye", "right_eye", "nose"]}, [0, 1, 2]),
    ],
)
@pytest.mark.parametrize("by_way_of", ["coco", "ndjson", "yolo"])
def test_what_a_flip_does_to_keypoints_is_the_same_after_all_formats(
    folder: Path, run: Run, names: dict[int, list[str]] | None, flip: list[int], by_way_of: str
) -> None:
    said = {"names": {0: "bird"}, "kpt_shape": [3, 3], "flip_idx": flip} | ({"kpt_names": names} if names else {})
    write_file(folder / "birds/data.yaml", yaml.safe_dump({"train": "images/train", "val": "images/val", **said}))
    for split in ("train", "val"):
        write_file(folder / f"birds/images/{split}/a{split}.jpg", PICTURE)
        row = "0 0.5 0.5 0.5 0.5 0.4 0.5 2 0.6 0.5 1 0.5 0.6 2\n"
        write_file(folder / f"birds/labels/{split}/a{split}.txt", row)
    run("convert", folder / "birds", folder / "between", "--from", "yolo", "--to", by_way_of)
    run("convert", folder / "between", folder / "back", "--from", by_way_of, "--to", "yolo")
    data = yaml.safe_load((folder / "back/data.yaml").read_text())
    assert {key: data.get(key) for key in said} == said


def test_what_is_in_a_folder_that_may_not_be_read_is_not_gone(folder: Path, run: Run) -> None:
    for name, split in (("photo02", "train"), ("photo04", "val")):
        for suffix in (".json", ".png"):
            content = (SAMPLE / f"labelme/{name}{suffix}").read_bytes()
            write_file(folder / f"in/data/{split}/{name}{suffix}", content)
    write_file(folder / "in/lost+found/x", "")
    words = ["convert", str(folder / "in"), "--from", "labelme", "--to", "yolo"]
    run(*words, folder / "made")

    def refused(shut: Path, *command: str | Path) -> str:
        with mode(folder / "in/lost+found", 0), mode(shut, 0):
            line = [sys.executable, "-m", "pipeline", *map(str, command)]
            done = subprocess.run(line, check=False, capture_output=True, text=True, preexec_fn=powerless, cwd=PROJECT)
        assert done.returncode == 1
        return done.stderr

    shut, label = folder / "in/data/val", folder / "made/labels/train"
    cannot = "cannot be listed: no permission; allow it"
    assert f"{shut}: {cannot}" in refused(shut, *words, folder / "out")
    assert f"{shut}: {cannot}" in refused(shut, "stats", folder / "in")
    assert f"{label}: {cannot}" in refused(label, "verify", folder / "made")
    run(*words, folder / "out")
    assert _images_of(folder / "out") == {"photo02", "photo04"}
