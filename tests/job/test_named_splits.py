"""Splits that `data.yaml` names by lists of images or by several folders: each image is of the split that it says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Run
from tests.job.test_layouts import BOX, DATA, FROM_YOLO, _fill, _pairs
from tests.support.helpers import contents, settle

Files = dict[str, str | bytes]

FLAT = _pairs("labels", "images", "a", "b", "c", "d")
LISTS = "train: train.txt\nval: val.txt\n" + DATA
DEEP = _pairs("labels/one", "images/one", "a", "b") | _pairs("labels/two", "images/two", "c", "d")
BESIDE = _pairs("obj_train_data", "obj_train_data", "a", "b", "c", "d")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def _lists(train: list[str], val: list[str], end: str = "\n") -> Files:
    return {"train.txt": end.join(train) + end, "val.txt": end.join(val)}


#: Files, and what each split then has (by stem, below the folder of the split).
CASES: dict[str, tuple[Files, dict[str, set[str]]]] = {
    "below the list, with ./": (
        {"data.yaml": LISTS, **FLAT,
         **_lists(["./images/a.jpg", "./images/b.jpg", "./images/c.jpg"], ["./images/d.jpg"])},
        {"train": {"a", "b", "c"}, "val": {"d"}},
    ),
    "below the working folder": (
        {"data.yaml": LISTS, **FLAT, **_lists(["images/a.jpg", "images/c.jpg"], ["images/b.jpg", "images/d.jpg"])},
        {"train": {"a", "c"}, "val": {"b", "d"}},
    ),
    "absolute, of another machine": (
        {"data.yaml": "path: /home/u/set\n" + LISTS, **FLAT,
         **_lists(["/home/u/set/images/a.jpg"], ["/home/u/set/images/b.jpg", "/home/u/set/images/c.jpg"])},
        {"train": {"a"}, "val": {"b", "c"}},
    ),
    "Windows": (
        {"data.yaml": LISTS, **FLAT, **_lists(["\ufeffC:\\set\\images\\a.jpg", "C:\\set\\images\\b.jpg"],
                                              ["C:\\set\\images\\d.jpg"], "\r\n")},
        {"train": {"a", "b"}, "val": {"d"}},
    ),
    "folders below images, mixed": (
        {"data.yaml": LISTS, **DEEP, **_lists(["images/one/a.jpg", "images/two/c.jpg"], ["images/two/d.jpg"])},
        {"train": {"one/a", "two/c"}, "val": {"d"}},
    ),
    "folders called as splits, listed across": (
        {"data.yaml": LISTS, **_pairs("labels/train", "images/train", "a", "b"),
         **_pairs("labels/val", "images/val", "c"),
         **_lists(["./images/train/a.jpg"], ["./images/val/c.jpg", "./images/train/b.jpg"])},
        {"train": {"a"}, "val": {"val/c", "train/b"}},
    ),
    "darknet": (
        {"obj.names": "cat\ndog\n", "obj.data": "classes = 2\ntrain  = data/train.txt\nvalid  = data/val.txt\n",
         **BESIDE,
         **_lists(["data/obj_train_data/a.jpg", "data/obj_train_data/b.jpg"], ["data/obj_train_data/c.jpg"])},
        {"train": {"a", "b"}, "val": {"c"}},
    ),
    "labels beside images, in the folder itself": (
        {"data.yaml": LISTS, **_pairs(".", ".", "a", "b", "c"), **_lists(["/u/old/a.jpg", "./b.jpg"], ["c.jpg"])},
        {"train": {"a", "b"}, "val": {"c"}},
    ),
    "lists in a folder": (
        {"data.yaml": "train: lists/t.txt\nval: lists/v.txt\n" + DATA, **FLAT, "lists/t.txt": "../images/a.jpg\n",
         "lists/v.txt": "images/b.jpg\n"},
        {"train": {"a"}, "val": {"b"}},
    ),
    "several lists": (
        {"data.yaml": "train: [t1.txt, t2.txt]\nval: val.txt\n" + DATA, **FLAT, "t1.txt": "images/a.jpg",
         "t2.txt": "images/b.jpg\n", "val.txt": "images/c.jpg"},
        {"train": {"a", "b"}, "val": {"c"}},
    ),
    "a list and a folder": (
        {"data.yaml": "train: images/one\nval: val.txt\n" + DATA, **DEEP, "val.txt": "images/two/c.jpg"},
        {"train": {"a", "b"}, "val": {"c"}},
    ),
    "letters composed in two ways": (
        {"data.yaml": LISTS, **_pairs("labels", "images", "M\u00fcll", "b"),
         **_lists(["images/Mu\u0308ll.jpg"], ["images/b.jpg"])},
        {"train": {"M\u00fcll"}, "val": {"b"}},
    ),
    "several folders": (
        {"data.yaml": "train: [images/one, images/two]\nval: images/val\n" + DATA, **DEEP,
         **_pairs("labels/val", "images/val", "a")},
        {"train": {"part1/a", "part1/b", "part2/c", "part2/d"}, "val": {"part1/a"}},
    ),
    "several folders with the same stems, one below the other's name": (
        {"data.yaml": "path: .\ntrain:\n- x/images\n- y/images\n" + DATA, **_pairs("x/labels", "x/images", "a"),
         **_pairs("y/labels", "y/images", "a")},
        {"train": {"part1/a", "part2/a"}},
    ),
    "a list of one folder": (
        {"data.yaml": "train: [images/one]\nval: [images/two]\n" + DATA, **DEEP},
        {"train": {"a", "b"}, "val": {"c", "d"}},
    ),
    "val within train": (
        {"data.yaml": "train: images\nval: images/val\n" + DATA, **FLAT,
         **_pairs("labels/val", "images/val", "a", "e")},
        {"train": {"a", "b", "c", "d"}, "val": {"a", "e"}},
    ),
    "train within val, and both within test": (
        {"data.yaml": "val: x/images/v\ntrain: x/images/v/t\ntest: x/images\n" + DATA,
         **_pairs("x/labels", "x/images", "a"), **_pairs("x/labels/v", "x/images/v", "b", "c"),
         **_pairs("x/labels/v/t", "x/images/v/t", "d")},
        {"train": {"d"}, "val": {"b", "c"}, "test": {"a"}},
    ),
    "a folder, and a list of some of its images": (
        {"data.yaml": "train: images\nval: val.txt\n" + DATA, **FLAT, "val.txt": "images/c.jpg\n./images/d.jpg\n"},
        {"train": {"a", "b"}, "val": {"c", "d"}},
    ),
    "a folder, and a list of images of a folder in it": (
        {"data.yaml": "train: images\nval: val.txt\n" + DATA, **DEEP, "val.txt": "images/two/c.jpg\n"},
        {"train": {"one/a", "one/b", "two/d"}, "val": {"c"}},
    ),
    "several folders, one in another's": (
        {"data.yaml": "train: [images/one, images/x]\nval: [images/two, images/one/val]\n" + DATA, **DEEP,
         **_pairs("labels/x", "images/x", "a"), **_pairs("labels/one/val", "images/one/val", "e")},
        {"train": {"part1/a", "part1/b", "part2/a"}, "val": {"part1/c", "part1/d", "part2/e"}},
    ),
    "several folders, of which a list has some images": (
        {"data.yaml": "train: [images/one, images/two]\nval: [images/x, val.txt]\n" + DATA, **DEEP,
         **_pairs("labels/x", "images/x", "a"), "val.txt": "images/one/b.jpg\n"},
        {"train": {"part1/a", "part2/c", "part2/d"}, "val": {"part1/a", "part2/b"}},
    ),
    "a folder that is called otherwise than the yaml says": (
        {"data.yaml": "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n" + DATA,
         **_pairs("train/labels", "train/images", "a", "b"), **_pairs("val/labels", "val/images", "c")},
        {"train": {"a", "b"}, "val": {"c"}},
    ),
    "no yaml: val is a folder in that of all": (
        {"classes.txt": "cat\ndog\n", **FLAT, **_pairs("labels/val", "images/val", "a", "e")},
        {"train": {"a", "b", "c", "d"}, "val": {"a", "e"}},
    ),
    "no yaml, labels beside images: test is a folder in that of all": (
        {"classes.txt": "cat\ndog\n", **_pairs(".", ".", "a", "b"), **_pairs("test", "test", "e")},
        {"train": {"a", "b"}, "test": {"e"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_image_is_of_the_split_that_the_yaml_says(folder: Path, run: Run, case: str) -> None:
    files, expected = CASES[case]
    run("convert", _fill(folder / "in", files), folder / "out", *FROM_YOLO)
    made = contents(folder / "out")
    for split in ("train", "val", "test"):
        for kind in ("labels", "images"):
            stems = {
                p.removeprefix(f"{kind}/{split}/").rpartition(".")[0] for p in made if p.startswith(f"{kind}/{split}/")
            }
            assert stems == expected.get(split, set()), (kind, split)
    shown = run("stats", folder / "in", "--json").json
    assert json.dumps(shown)  # the same folder, by the command that only reads


def test_what_is_in_no_list_and_what_is_missing_is_reported(folder: Path, run: Run) -> None:
    lists = _lists(["images/a.jpg", "images/gone.jpg", "images/b.jpg"], ["images/b.jpg", "/other/disk/x.jpg"])
    told = run("convert", _fill(folder / "in", {"data.yaml": LISTS, **FLAT, **lists}), folder / "out", *FROM_YOLO).err
    assert f"2 images of {folder}/in/images left out, in no list of a split, such as c.jpg" in told
    assert f"train.txt: 1 of the 3 images that it lists is not in {folder}/in/images, such as gone.jpg" in told
    assert "val.txt: 1 line left out, of images that are not below" in told
    assert "1 image file is labelled by several label files" in told  # b.jpg, of both


def test_a_split_whose_list_has_nothing_is_heard(folder: Path, run: Run) -> None:
    lists = _lists(["images/a.jpg"], ["images/gone.jpg"])
    root = _fill(folder / "in", {"data.yaml": LISTS, **FLAT, **lists})
    told = run("convert", root, folder / "out", *FROM_YOLO, "--quiet").err
    assert "val.txt: 1 of the 1 image that it lists is not in" in told


def test_a_list_that_is_not_there_is_not_all_of_train(folder: Path, run: Run) -> None:
    root = _fill(folder / "in", {"data.yaml": "train: sets/train.txt\nval: sets/val.txt\n" + DATA, **FLAT})
    told = run("convert", root, folder / "out", *FROM_YOLO, code=2).err
    assert f"{root}/data.yaml: train is sets/train.txt, a list of images that is not in {root}; put it there" in told


def test_a_folder_of_several_that_is_not_there_is_refused(folder: Path, run: Run) -> None:
    root = _fill(folder / "in", {"data.yaml": "train: [images/one, images/gone]\n" + DATA, **DEEP})
    assert (
        "train names 2 folders, and images/gone is not in"
        in run("convert", root, folder / "out", *FROM_YOLO, code=2).err
    )


def test_images_of_a_split_within_another_are_told(folder: Path, run: Run) -> None:
    files = {"data.yaml": "train: images\nval: images/val\n" + DATA, **FLAT, **_pairs("labels/val", "images/val", "e")}
    root, home = _fill(folder / "in", files), folder / "in/images"
    settle()
    told = run("convert", root, folder / "out", *FROM_YOLO).err
    assert f"1 image of {home} belongs to split val alone ({home}/val), not to train" in told
    assert run("convert", root, folder / "out", *FROM_YOLO, "--json").json["changes"] == 0


def test_images_of_a_source_within_another_are_told(folder: Path, run: Run) -> None:
    root = _fill(folder / "in", {"data.yaml": DATA, **FLAT, **_pairs("labels/b", "images/b", "e", "f")})
    sources = [
        {"name": name, "root": str(root), "names": str(root / "data.yaml"), "splits": splits}
        for name, splits in (("all", {"train": {"labels": "labels", "images": "images"}}), ("some", {"val": "b"}))
    ]
    config = {"source": sources, "target": {"root": str(folder / "out")}, "workdir": str(folder / "work")}
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    settle()
    told = run("build", folder / "c.yaml").err
    home = folder / "in/images"
    assert f"2 images of {home} belong to split val of source some alone ({home}/b), not to train of source all" in told
    assert {p for p in contents(folder / "out") if p.endswith("e.txt")} == {"labels/val/some/e.txt"}
    assert run("build", folder / "c.yaml", "--json").json["changes"] == 0


#: What a YAML says of splits, the images of each split that come of it, and what is said of val.
SHARED: dict[str, tuple[str, dict[str, set[str]], str]] = {
    "val is train": ("train: images/one\nval: ./images/one/\n", {"train": {"a", "b"}}, "./images/one/"),
    "val is train, of another machine": (
        "path: ../d\ntrain: images/one\nval: ../images/one\n", {"train": {"a", "b"}}, "../images/one"
    ),
    "val is one list of train": ("train: [t.txt, u.txt]\nval: t.txt\n", {"train": {"part1/a", "part2/c"}}, "t.txt"),
    "val is one folder of train": (
        "train: [images/one, images/two]\nval: images/two\n",
        {"train": {"part1/a", "part1/b", "part2/c", "part2/d"}}, "images/two",
    ),
    "one folder of val is train": (
        "train: images/one\nval: [images/one, images/two]\n", {"train": {"a", "b"}, "val": {"c", "d"}}, "images/one"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SHARED)
def test_a_split_that_is_another_is_said_to_be(folder: Path, run: Run, case: str) -> None:
    text, expected, value = SHARED[case]
    lists = {"t.txt": "images/one/a.jpg\n", "u.txt": "images/two/c.jpg\n"}
    root = _fill(folder / "in", {"data.yaml": text + DATA, **DEEP, **lists})
    told = run("convert", root, folder / "out", *FROM_YOLO, "--quiet").err
    said = f"{root}/data.yaml names {value} for val as for train; an image is of one split, so these are of train"
    assert told.count("warning") == 1
    assert f"{said}; name others there, or assign images by --split 0.8\n" in told
    stems = {
        split: {
            p.removeprefix(f"labels/{split}/")[:-4]
            for p in contents(folder / "out")
            if p.startswith(f"labels/{split}/")
        }
        for split in expected
    }
    assert stems == expected
    run("report", root, "-o", folder / "r.html")
    page = (folder / "r.html").read_text()
    assert said in page
    assert "trainers need them" not in page
    assert run("convert", root, folder / "assigned", *FROM_YOLO, "--split", "0.5").err.count("for val") == 0


def test_a_config_without_val_hears_that_the_yaml_says_it_is_train(folder: Path, run: Run) -> None:
    """As Ultralytics ships coco128.yaml, which is not in the folder of the images."""
    root = _fill(folder / "in", DEEP)
    (folder / "coco128.yaml").write_text("path: coco128\ntrain: images/one\nval: images/one\n" + DATA)
    config: dict[str, Any] = {
        "source": {"root": str(root), "names": str(folder / "coco128.yaml"), "splits": {"train": "one"}},
        "target": {"root": str(folder / "out")},
        "workdir": str(folder / "work"),
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    told = run("build", folder / "c.yaml").err
    assert "coco128.yaml names images/one for val as for train" in told
    assert "or assign images by `split: {train: 0.8, val: 0.2}`" in told
    assert "has none" not in told
    config["source"]["splits"] = {"train": "one", "val": "two"}
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    assert "names images/one" not in run("build", folder / "c.yaml").err


def test_a_list_is_read_once(folder: Path, run: Run) -> None:
    lists = _lists(["images/a.jpg", "images/b.jpg"], ["images/c.jpg", "images/d.jpg"])
    root = _fill(folder / "in", {"data.yaml": LISTS, **FLAT, **lists})
    opened: list[str] = []
    recording = True

    def note(event: str, args: tuple[Any, ...]) -> None:
        if recording and event == "open" and args[1] is None and str(args[0]).endswith("train.txt"):
            opened.append(str(args[0]))

    sys.addaudithook(note)
    run("convert", root, folder / "out", *FROM_YOLO)
    recording = False
    assert len(opened) == 1
    assert {p for p in contents(folder / "out") if p.startswith("images/train")} == {
        "images/train/a.jpg",
        "images/train/b.jpg",
    }


def test_folders_of_a_split_and_of_all_that_both_have_train_are_refused(folder: Path, run: Run) -> None:
    files = {"classes.txt": "cat\n", **FLAT, **_pairs("labels/train", "images/train", "e")}
    told = run("convert", _fill(folder / "in", files), folder / "out", *FROM_YOLO, code=2).err
    assert "are both train; rename one, or write a config" in told


def test_a_split_of_images_without_labels_is_refused(folder: Path, run: Run) -> None:
    root = _fill(
        folder / "in",
        {"data.yaml": "train: images/one\nval: images/val\n" + DATA, **DEEP, "images/val/x.jpg": b"x"},
    )
    told = run("convert", root, folder / "out", *FROM_YOLO, code=2).err
    assert f"{root}/data.yaml: val is images/val, whose folder of labels, labels/val, is not in {root}; put it" in told


def test_a_list_whose_labels_have_no_folder_in_common_is_refused(folder: Path, run: Run) -> None:
    files = {**_pairs("x/labels", "x/images", "a"), **_pairs("y/labels", "y/images", "b")}
    root = _fill(
        folder / "in", {"data.yaml": "train: t.txt\n" + DATA, "t.txt": "x/images/a.jpg\ny/images/b.jpg\n", **files}
    )
    told = run("convert", root, folder / "out", *FROM_YOLO, code=2).err
    assert "t.txt: lists images of folders whose labels have no folder in common (x/images, y/images)" in told


@pytest.mark.parametrize("spelled", [False, True])
def test_a_config_takes_lists(folder: Path, run: Run, spelled: bool) -> None:
    root = _fill(
        folder / "in", {"data.yaml": DATA, **FLAT, **_lists(["images/a.jpg", "images/b.jpg"], ["images/c.jpg"])}
    )
    paths = {"labels": "labels", "images": "images"}
    splits = {s: {**paths, "image_list": f"{s}.txt"} if spelled else f"{s}.txt" for s in ("train", "val")}
    config = {
        "source": {"root": str(root), "names": str(root / "data.yaml"), "splits": splits},
        "target": {"root": str(folder / "out")},
        "workdir": str(folder / "work"),
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    run("build", folder / "c.yaml")
    expected = {"train/a.txt": BOX.encode(), "train/b.txt": BOX.encode(), "val/c.txt": BOX.encode()}
    assert contents(folder / "out/labels") == expected
    (root / "val.txt").write_text("images/c.jpg\nimages/d.jpg\n")  # a list that changes is a source that changes
    run("build", folder / "c.yaml")
    assert contents(folder / "out/labels") == {**expected, "val/d.txt": BOX.encode()}
    (root / "val.txt").rename(folder / "val.txt")
    assert (
        "val.txt: is missing or empty, and" in run("build", folder / "c.yaml", code=4).err
    )  # as of a disk not mounted
    (root / "val.txt").touch()
    lost = "lost all 2 label files of split val" if spelled else "val.txt: is missing or empty, and"
    assert lost in run("build", folder / "c.yaml", code=4).err
    (folder / "val.txt").rename(root / "val.txt")
    (folder / "out/labels/train/a.txt").unlink()
    run("verify", folder / "out", "--repair")  # the record of the target knows the lists, too
    assert contents(folder / "out/labels") == {**expected, "val/d.txt": BOX.encode()}


def test_label_files_of_pictures_elsewhere_are_taken_by_their_list(folder: Path, run: Run) -> None:
    root = _fill(folder / "in", {"data.yaml": DATA, **_pairs("labels", "images", "a", "b"), "t.txt": "images/b.jpg\n"})
    config = {
        "source": {"root": str(root), "names": str(root / "data.yaml"),
                   "splits": {"train": {"labels": "labels", "image_list": "t.txt"}}},
        "target": {"root": str(folder / "out"), "images": "none"},
        "workdir": str(folder / "work"),
    }  # fmt: skip
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    run("build", folder / "c.yaml")
    assert set(contents(folder / "out/labels")) == {"train/b.txt"}


def test_labels_alone_are_taken_by_a_list_of_absolute_paths(folder: Path, run: Run) -> None:
    """The folder of labels has an `images/labels` of its own, so that the last step of a path says too little."""
    root = _fill(folder / "in", {"data.yaml": DATA, "labels/a.txt": BOX, "labels/labels/a.txt": BOX})
    (root / "t.txt").write_text(f"{root}/images/labels/a.jpg\n")
    config = {
        "source": {"root": str(root), "names": str(root / "data.yaml"),
                   "splits": {"train": {"labels": "labels", "image_list": "t.txt"}}},
        "target": {"root": str(folder / "out"), "images": "none"},
        "workdir": str(folder / "work"),
    }  # fmt: skip
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    run("build", folder / "c.yaml")
    assert set(contents(folder / "out/labels")) == {"train/labels/a.txt"}


def test_an_image_in_no_list_is_heard_of_when_it_comes(folder: Path, run: Run) -> None:
    """It is in no listing that the index knows of, so its coming alone must be a change."""
    root = _fill(folder / "in", {"data.yaml": DATA, **_pairs("labels", "images", "a", "b"), "t.txt": "images/a.jpg\n"})
    config = {
        "source": {"root": str(root), "names": str(root / "data.yaml"), "splits": {"train": "t.txt"}},
        "target": {"root": str(folder / "out")},
        "workdir": str(folder / "work"),
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    settle()
    assert "1 image of" in run("build", folder / "c.yaml").err
    _fill(root, _pairs("labels", "images", "c"))
    settle()
    assert "2 images of" in run("build", folder / "c.yaml").err
