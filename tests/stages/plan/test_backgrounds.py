"""Backgrounds: an image that anything labels, anywhere, is none; and one image labelled in two places is told."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.api import build
from pipeline.base.errors import DataError
from pipeline.config.load import validate
from tests.conftest import Run
from tests.support.helpers import repeated, write_file

GOOD, OTHER, BAD, BEYOND = "0 0.5 0.5 0.2 0.2\n", "1 0.5 0.5 0.2 0.2\n", "0 0.5 0.5 0.2\n", "7 0.5 0.5 0.2 0.2\n"
#: What a label file of one image may hold; None: there is none.
LABELS = st.sampled_from([None, None, "", GOOD, OTHER, OTHER + BAD, BEYOND, OTHER + BEYOND])
PLACES = ("train", "val")


def yolo_folder(root: Path, labels: dict[str, dict[str, str | None]]) -> dict[str, Any]:
    """A folder of images for both splits."""
    write_file(root / "names.yaml", "names: [cat, dog]\n")
    for place in PLACES:
        (root / place).mkdir(parents=True, exist_ok=True)
        for stem, text in labels.items():
            write_file(root / f"all/{stem}.jpg", stem)
            if (found := text[place]) is not None:
                write_file(root / place / f"{stem}.txt", found)
    return {
        "names": str(root / "names.yaml"),
        "root": str(root),
        "splits": {place: {"labels": place, "images": "all"} for place in PLACES},
    }


def backgrounds(root: Path) -> list[str]:
    labels = root / "labels"
    return sorted(str(p.relative_to(labels)) for p in labels.rglob("*.txt") if not p.stat().st_size)


@given(
    labels=st.dictionaries(
        st.sampled_from("abcdefgh"), st.fixed_dictionaries(dict.fromkeys(PLACES, LABELS)), min_size=1
    ),
    which=st.sampled_from(["unlabelled", "all"]),
    buckets=st.sampled_from([1, 4]),
)
@settings(max_examples=repeated(12))
def test_no_label_anywhere_and_once(labels: dict[str, dict[str, str | None]], which: str, buckets: int) -> None:
    """Whatever splits share a folder: a background has no wanted, bad or unknown row, and is in one split."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = {
            "source": yolo_folder(root / "src", labels),
            "classes": ["cat"],
            "select": {"backgrounds": which},
            "target": {"root": str(root / "out")},
            "workdir": str(root / "work"),
            "on_error": "skip",
            "index": {"buckets": buckets},
            "engine": {"scheduler": "sync"},
        }
        try:
            report = build(validate(data, "test"))
        except DataError as error:  # nothing is made of what has no object
            assume("would be empty" not in str(error))
            raise
        made = backgrounds(root / "out")
    stems = [Path(path).stem for path in made]
    for path in made:
        split, stem = path.split("/")[0], Path(path).stem
        own, other = (labels[stem][place] for place in (split, *(p for p in PLACES if p != split)))
        assert own in ((None, "") if which == "unlabelled" else (None, "", OTHER))
        assert own is not None or other is None
    nobodys = {stem for stem, text in labels.items() if set(text.values()) == {None}}
    assert {stem for stem in stems if stem in nobodys} == nobodys
    assert all(stems.count(stem) == 1 for stem in nobodys)
    assert report.data["images"]["source"] == 2 * len(labels)
    assert sum(n for key, n in report.data["images"].items() if key != "source") == 2 * len(labels)


def annotation(image: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": image,
        "image_id": image,
        "category_id": 1,
        "bbox": [10, 10, 20, 20],
        "area": 400,
        "iscrowd": 0,
        "segmentation": [[10, 10, 30, 10, 30, 30]],
        **fields,
    }


#: Objects that no row can hold, by what is wrong with them; and the task that cannot.
UNWRITABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "crowd": ("detect", {"iscrowd": 1}),
    "outside": ("detect", {"bbox": [0, 0, 900, 20]}),
    "no area": ("detect", {"bbox": [1, 1, 0, 0]}),
    "no polygon": ("segment", {"segmentation": []}),
    "no box": ("detect", {"bbox": None}),
    "bad values": ("detect", {"bbox": "?"}),
    "no such category": ("detect", {"category_id": 99}),
}


@pytest.mark.parametrize("what", UNWRITABLE)
def test_an_object_that_cannot_be_written(tmp_path: Path, run: Run, what: str) -> None:
    task, fields = UNWRITABLE[what]
    told = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in (1, 2, 3)],
        "annotations": [annotation(1, **fields), annotation(2)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    for number in (1, 2, 3):
        write_file(tmp_path / f"src/train/{number}.jpg", "image")
    write_file(tmp_path / "src/annotations/instances_train.json", json.dumps(told))
    config = {
        "source": {"format": "coco", "task": task, "root": str(tmp_path / "src"), "splits": {"train": "train"}},
        "classes": ["cat"],
        "select": {"backgrounds": "all"},
        "target": {"root": str(tmp_path / "out")},
        "workdir": str(tmp_path / "work"),
        "on_error": "skip",
    }
    run("build", write_file(tmp_path / "c.yaml", yaml.safe_dump(config)), code=None)
    assert backgrounds(tmp_path / "out") == ["train/3.txt"]


def two_sources(root: Path) -> dict[str, Any]:
    """Two teams label the same photographs."""
    write_file(root / "all/a.jpg", "a")
    for name in ("one", "two"):
        write_file(root / f"{name}/a.txt", GOOD)
    write_file(root / "names.yaml", "names: [cat, dog]\n")
    return {
        "source": [
            {
                "name": name,
                "names": str(root / "names.yaml"),
                "splits": {"train": {"labels": str(root / name), "images": str(root / "all")}},
            }
            for name in ("one", "two")
        ]
    }


def two_splits(root: Path) -> dict[str, Any]:
    return {"source": yolo_folder(root, {"a": {"train": GOOD, "val": OTHER}, "b": {"train": GOOD, "val": None}})}


def two_label_files(root: Path) -> dict[str, Any]:
    """labelme: both say that their image is a.jpg, which has no label file of its own."""
    shape = {"label": "cat", "points": [[1, 1], [20, 1], [20, 20]], "shape_type": "polygon", "flags": {}}
    for stem in "bc":
        write_file(
            root / f"{stem}.json",
            json.dumps(
                {
                    "version": "5.0.1",
                    "flags": {},
                    "shapes": [shape],
                    "imagePath": "a.jpg",
                    "imageData": None,
                    "imageHeight": 48,
                    "imageWidth": 64,
                }
            ),
        )
    write_file(root / "a.jpg", "a")
    return {"source": {"format": "labelme", "splits": {"train": {"labels": str(root), "images": str(root)}}}}


@pytest.mark.parametrize("source", [two_sources, two_splits, two_label_files])
def test_one_image_labelled_twice_is_told(tmp_path: Path, run: Run, source: Callable[[Path], dict[str, Any]]) -> None:
    config = source(tmp_path / "src") | {
        "select": {"backgrounds": "unlabelled"},
        "target": {"root": str(tmp_path / "out")},
        "workdir": str(tmp_path / "work"),
    }
    told = run("build", write_file(tmp_path / "c.yaml", yaml.safe_dump(config)))
    assert "1 image file is labelled by several label files" in told.err
    assert backgrounds(tmp_path / "out") == []
