"""What is lost is heard under `--quiet`, and an empty subset never says that the source has none of its classes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run
from tests.formats.test_labelme import file, jpeg, shape
from tests.job.test_layouts import BOX, DATA, PICTURE, _fill, _pairs

CUT = file(shape("cat"))[:-9]


def _coco(**fields: Any) -> str:
    thing = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0} | fields
    image = {"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}
    return json.dumps({"images": [image], "annotations": [thing], "categories": [{"id": 1, "name": "cat"}]})


YOLO: dict[str, str | bytes] = {"data.yaml": DATA, **_pairs("labels/train", "images/train", "a", "b")}

#: Format, files, exit code, and what is said under --quiet.
LOSSES: dict[str, tuple[str, dict[str, str | bytes], int, str]] = {
    "every label file of labelme is cut short": ("labelme", {"a.json": CUT, "a.jpg": jpeg(100, 50)}, 1, "label file"),
    "every row of YOLO is bad": (
        "yolo", {**YOLO, "labels/train/a.txt": "1 2\n", "labels/train/b.txt": "x\n"}, 1, "in bad rows or files alone"),
    "every row of one file of two is bad": (
        "yolo", {**YOLO, "labels/train/a.txt": "1 2\n"}, 3, "1 bad row or file left out"),
    "every row of a class that has no name": (
        "yolo", {**YOLO, "labels/train/a.txt": BOX + "7" + BOX[1:]}, 3, "1 row left out, of a class that is not in"),
    "every object of COCO JSON is bad": (
        "coco", {"train.json": _coco(bbox={"x": 1}), "a.jpg": PICTURE}, 1, "in bad rows or files alone"),
    "every object of COCO JSON is outside": (
        "coco", {"train.json": _coco(bbox=[900, 1, 5, 5]), "a.jpg": PICTURE}, 1, "none can be used: 1 outside"),
    "a split of two is bad": (
        "yolo", {**YOLO, "labels/val/v.txt": "1 2\n", "images/val/v.jpg": PICTURE}, 3, "no val images"),
    "the list of a split names nothing that is there": (
        "yolo", {"data.yaml": "train: t.txt\nval: v.txt\n" + DATA, **_pairs("labels", "images", "a"),
                 "t.txt": "images/a.jpg\n", "v.txt": "images/b.jpg\n"}, 0, "v.txt: 1 of the 1 image that it"),
}  # fmt: skip


@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, case: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    format_, files, code, said = LOSSES[case]
    root = _fill(tmp_path / "in", files)
    words = ["convert", root, tmp_path / "out", "--from", format_, "--to", "yolo", "--set", "on_error=skip", "--quiet"]
    told = run(*words, code=code).err
    assert said in told
    assert "has no object" not in told
    assert not re.search(r"(?<!--set )\b(?:source|target|select|split)\.\w|`\w", told), (
        "a key of a config that nobody wrote"
    )


def test_label_files_that_are_links_to_nothing_are_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = _fill(tmp_path / "in", YOLO)
    for name in ("a", "b"):
        path = root / f"labels/train/{name}.txt"
        path.unlink()
        path.symlink_to("nowhere")
    words = ["convert", root, tmp_path / "out", "--from", "yolo", "--to", "yolo", "--set", "on_error=skip", "--quiet"]
    assert "in bad rows or files alone, which are left out" in run(*words, code=1).err
