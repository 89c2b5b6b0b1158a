"""labelme folders as a source: found images, what is bad, what is built of them."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Run
from tests.formats.test_labelme import TRIANGLE, _ring, file, jpeg, png, shape
from tests.support.helpers import Result, contents, snapshot, write_file


class Photos:
    """A folder of photographs with label files, and a config over it."""

    def __init__(self, root: Path, run: Run) -> None:
        self.root, self.run = root, run
        self.photos, self.target = root / "photos", root / "out"
        self.config: dict[str, Any] = {
            "source": {"format": "labelme", "task": "segment", "root": str(root), "splits": {"train": "photos"}},
            "target": {"root": str(self.target)},
            "workdir": str(root / "work"),
        }

    def add(self, name: str, *shapes: Any, image: str | None = ".jpg", **more: Any) -> None:
        """A label file, and its image with the suffix `image`."""
        write_file(self.photos / f"{name}.json", file(*shapes, **{"imagePath": f"{name}{image}", **more}))
        if image:
            write_file(self.photos / f"{name}{image}", jpeg(100, 50))

    def command(self, name: str, *args: str, code: int | None = 0) -> Result:
        path = write_file(self.root / "c.yaml", yaml.safe_dump(self.config))
        return self.run(name, path, *args, code=code)

    def build(self, *args: str, code: int | None = 0) -> dict[str, Any]:
        return self.command("build", "--json", *args, code=code).json


@pytest.fixture
def photos(tmp_path: Path, run: Run) -> Photos:
    return Photos(tmp_path, run)


def test_a_folder_becomes_yolo(photos: Photos) -> None:
    photos.add("a", shape("dog"), shape("cat"), shape("__ignore__"), shape("cat", points=[[1, 1]], kind="point"))
    photos.add("sub/b", shape("cat", points=[[0, 0], [100, 50]], kind="rectangle"), image=".JPEG")
    photos.add("empty")
    before = snapshot(photos.photos)
    told = photos.build()
    assert told["classes"] == ["cat", "dog"]
    assert told["loss"] == {"no_area": 1}
    assert +Counter(told["rows"]) == {"source": 5, "kept": 3, "lost": 1, "other_classes": 1}
    made = contents(photos.target)
    assert sorted(made) == [
        "data.yaml",
        "images/train/a.jpg",
        "images/train/sub/b.JPEG",
        "labels/train/a.txt",
        "labels/train/sub/b.txt",
    ]
    assert made["labels/train/a.txt"] == (
        b"1 0.100000 0.200000 0.500000 0.200000 0.100000 0.600000\n"
        b"0 0.100000 0.200000 0.500000 0.200000 0.100000 0.600000\n"
    )
    assert yaml.safe_load(made["data.yaml"])["names"] == {0: "cat", 1: "dog"}
    assert snapshot(photos.photos) == before


def test_labels_that_are_read_as_instances_are_named(photos: Photos) -> None:
    write_file(photos.photos / "a.jpg", jpeg(100, 50))
    for name, label in (("a", "covid-19"), ("b", "covid-19"), ("c", "person-1"), ("d", "x-ray")):
        old = {"shape_type": "polygon", "flags": {}, "points": TRIANGLE, "label": label}
        write_file(photos.photos / f"{name}.json", file(old, version="3.16.7", imagePath="a.jpg"))
        write_file(photos.photos / f"{name}.jpg", jpeg(100, 50))
    sentence = "labels like 'covid-1', 'person-1' are read as instances of 'covid' (2), 'person' (1)"
    (warning,) = (w for w in photos.command("plan", "--json").json["warnings"] if w.startswith("labels like"))
    assert warning.startswith(sentence)
    photos.config["source"]["options"] = {"instances": "keep"}
    told = photos.command("plan", "--json").json
    assert told["classes"] == ["covid-19", "person-1", "x-ray"]
    assert not any(w.startswith("labels like") for w in told["warnings"])


def test_one_bad_file_or_shape_never_stops_a_run_that_skips(photos: Photos) -> None:
    photos.add("a", shape())
    photos.add("b", shape(), shape(points=[]), shape("dog", kind="cube"))
    write_file(photos.photos / "coco.json", '{"images": [], "annotations": []}')
    write_file(photos.photos / "cut.json", file(shape())[:100])
    write_file(photos.photos / "void.json", b"")
    told = photos.command("build", code=1)
    assert 'photos/b.json: shape 2 ("cat"): its points are not a list' in told.err
    assert "4 more bad rows or files" in told.err
    assert contents(photos.target) == {}
    done = photos.build("--set", "on_error=skip", code=3)
    assert done["subset"]["train"]["objects"] == {"cat": 2}
    assert done["source"]["train"]["problems"] == {"not_json": 2, "not_labelme": 1, "points": 1, "shape_type": 1}


@pytest.mark.parametrize("said", ["IMG_1.jpg", "..\\photos\\IMG_1.jpg", "C:\\camera\\IMG_1.jpg", "old/place/IMG_1.jpg"])
def test_an_image_of_another_name_is_where_the_file_says(photos: Photos, said: str) -> None:
    photos.add("a", shape(), image=None, imagePath=said)
    assert f"{photos.photos}/a.*: the label a.json has no image" in photos.command("build", code=1).err
    write_file(photos.photos / "IMG_1.jpg", jpeg(100, 50))
    photos.build()
    assert sorted(contents(photos.target)) == ["data.yaml", "images/train/a.jpg", "labels/train/a.txt"]
    os.remove(photos.photos / "IMG_1.jpg")
    assert "lost all 1 image of split train" in photos.command("build", code=4).err
    assert "a.json has no image" in photos.command("build", "--max-delete", "none", code=1).err


def test_an_image_with_a_label_of_its_own_is_nobody_elses(photos: Photos) -> None:
    photos.add("a", shape())
    photos.add("b", shape(), image=None, imagePath="a.jpg")
    photos.command("build", code=1)
    write_file(photos.root / "secret.jpg", jpeg(10, 10))
    photos.add("b", shape(), image=None, imagePath="../secret.jpg")
    assert "b.json has no image" in photos.command("build", code=1).err


def test_suffixes_in_one_folder(photos: Photos) -> None:
    photos.add("a", shape(), image=".png")
    photos.add("b", shape(), image=".JPG")
    write_file(photos.photos / "b.png", jpeg(5, 5))
    assert "second image of the same stem (b.png)" in photos.command("build", code=1).err


def test_an_old_file_asks_its_image_for_the_size(photos: Photos) -> None:
    data = {"shapes": [{"label": "cat", "points": TRIANGLE}], "imagePath": "a.jpg", "imageData": None}
    write_file(photos.photos / "a.json", json.dumps(data))
    assert "a.json: does not say the size of its image" in photos.command("build", code=1).err
    write_file(photos.photos / "a.jpg", jpeg(50, 100, 6))  # stored lying, shown standing
    photos.build()
    label = contents(photos.target)["labels/train/a.txt"]
    assert [float(n) for n in label.split()] == pytest.approx([0, 0.9, 0.2, 0.9, 1, 0.7, 0.2])


def test_a_changed_label_file_is_read_again_alone(photos: Photos) -> None:
    for name in "abc":
        photos.add(name, shape())
    photos.build()
    photos.add("b", shape("dog"))
    told = photos.build()
    assert (told["plan"]["write"]["label"]["files"], told["plan"]["keep"]["label"]["files"]) == (1, 2)
    assert told["classes"] == ["cat", "dog"]


def test_a_folder_without_objects_is_told(photos: Photos) -> None:
    photos.add("a", shape("__ignore__"))
    assert "no label file there has an object of a class" in photos.command("build", code=1).err


def test_names_give_the_order(photos: Photos) -> None:
    photos.add("a", shape("dog"), shape("cat"), shape("owl"))
    write_file(photos.root / "labels.txt", "__ignore__\n_background_\nowl\ndog\ncat\n")
    photos.config["source"]["names"] = str(photos.root / "labels.txt")
    assert photos.build()["classes"] == ["owl", "dog", "cat"]
    write_file(photos.root / "labels.txt", "owl\ndog\n")
    told = photos.command("build")
    assert "labels.txt leaves out classes of the source source: 'cat' (1)" in told.err


def test_options_are_checked(photos: Photos) -> None:
    photos.add("a", shape())
    photos.config["source"]["options"] = {"numbers": "%g"}
    photos.build()
    assert contents(photos.target)["labels/train/a.txt"] == b"0 0.1 0.2 0.5 0.2 0.1 0.6\n"
    photos.config["source"]["options"] = {"number": "%g"}
    assert "source.options.number: unknown; format labelme knows numbers" in photos.command("build", code=2).err
    photos.config["source"] |= {"options": {}, "task": "pose"}
    assert "task pose of format labelme needs the labels of the points" in photos.command("build", code=2).err
    photos.config["source"]["format"] = "isat"
    assert "source.task: format isat holds no task pose" in photos.command("build", code=2).err


def test_a_folder_joins_a_subset_of_another_collection(photos: Photos, town: Path) -> None:
    """Classes are aligned by name, stems do not collide, and what one source does not label is told."""
    photos.add("a", shape("cat"), shape("bicycle"))
    photos.add("b", shape("person"))
    ours = photos.config["source"] | {"name": "mine", "task": "detect"}
    theirs = {
        "name": "town",
        "root": str(town),
        "names": str(town / "coco.yaml"),
        "splits": {"train": "train2017", "val": "val2017"},
    }
    photos.config |= {"source": [theirs, ours], "classes": ["cat", "bicycle"]}
    told = photos.build()
    made = contents(photos.target)
    assert made["labels/train/mine/a.txt"] == (
        b"0 0.300000 0.400000 0.400000 0.400000\n1 0.300000 0.400000 0.400000 0.400000\n"
    )
    assert made["labels/train/town/a.txt"] == b"1 0.25 0.25 0.1 0.1\n"
    assert made["images/train/mine/a.jpg"] == jpeg(100, 50)
    assert "labels/train/mine/b.txt" not in made
    assert told["subset"]["train"]["objects"]["cat"] == 1
    assert [w for w in told["warnings"] if "cat" in w] == [
        "source town has no class for 'cat': such objects in its images are not labelled, and a trainer takes them for "
        "background",
        "5 images may hold unlabelled 'cat', which a trainer takes for background; label those, or leave such images "
        "out with `select.on_unlabelled: drop`",
    ]
    assert [w for w in told["warnings"] if "mine" in w] == [
        "1 image name is in two sources (mine/photos/a and town/train2017/a): they may be the same photographs; "
        "`coco-diy verify CONFIG --leaks` compares them"
    ]
    photos.config["split"] = {"train": 0.5, "val": 0.5, "stratify": True}
    photos.build()
    again = contents(photos.target)
    assert sorted(p.split("/", 2)[2] for p in again if "/" in p) == sorted(p.split("/", 2)[2] for p in made if "/" in p)
    photos.config["classes"] = ["cat", "unicorn"]
    assert "unknown class 'unicorn'" in photos.command("build", code=2).err


def test_a_mask_with_holes_is_kept_and_told(photos: Photos) -> None:
    photos.add("a", shape(points=[[20, 30], [29, 35]], kind="mask", mask=png(_ring())), shape("dog"))
    told = photos.build()
    assert (told["loss"], told["rows"]["kept"], told["rows"]["lost"]) == ({"holes": 1}, 2, 0)
    assert "1 object with holes, which are filled" in photos.command("plan").out
