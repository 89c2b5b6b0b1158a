"""One photograph in two splits is reported, whatever lies beside it."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import pipeline
from tests.conftest import Run
from tests.support import images as picture
from tests.support.helpers import repeated, settle, write_file

SPLITS = ("train", "val")
LEAK = "in two splits, byte for byte"


def photograph(colour: str) -> bytes:
    """A picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "png")
    return file.getvalue()


def make_config(root: Path, files_of: dict[str, dict[str, str]], **target: str) -> Path:
    """A config of a YOLO folder with `files_of` each split, by path, each with one object."""
    for split, files in files_of.items():
        (root / "labels" / split).mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            write_file(root / f"images/{split}/{path}.png", photograph(content))
            write_file(root / f"labels/{split}/{path}.txt", "0 0.5 0.5 0.2 0.2\n")
    source = {
        "root": str(root),
        "names": str(write_file(root / "names.yaml", "names: [cat]\n")),
        "splits": {split: {"labels": f"labels/{split}", "images": f"images/{split}"} for split in files_of},
    }
    data = {"source": source, "target": {"root": str(root.parent / "out"), **target}, "workdir": str(root.parent / "w")}
    return write_file(root.parent / "config.yaml", yaml.safe_dump(data))


FILES = st.dictionaries(st.sampled_from(["a", "b", "c/a", "d"]), st.sampled_from(["red", "lime", "white"]), min_size=1)


@given(train=FILES, val=FILES)
@settings(max_examples=repeated(15))
def test_the_same_name_and_content(train: dict[str, str], val: dict[str, str]) -> None:
    alike = {
        content
        for path, content in train.items()
        for other, same in val.items()
        if content == same and path.rpartition("/")[2] == other.rpartition("/")[2]
    }
    with tempfile.TemporaryDirectory() as folder:
        config = make_config(Path(folder) / "in", {"train": train, "val": val})
        leaks = [text for text in pipeline.plan(str(config)).warnings if LEAK in text]
    assert len(leaks) == bool(alike)
    assert not alike or leaks[0].startswith(f"{len(alike)} image")


@pytest.mark.parametrize("target", [{}, {"archive": "zip"}, {"format": "coco"}], ids=["folder", "zip", "coco"])
def test_of_any_target(tmp_path: Path, run: Run, target: dict[str, str]) -> None:
    config = make_config(
        tmp_path / "in", {"train": {"a": "red", "b": "lime"}, "val": {"a": "red", "b": "blue"}}, **target
    )
    told = run("build", config).err
    assert f"warning: 1 image is {LEAK} ({tmp_path}/in/images/train/a.png and {tmp_path}/in/images/val/a.png)" in told
    assert LEAK in run("build", config).err  # with nothing to do, too


def test_of_an_archive(tmp_path: Path, run: Run) -> None:
    config = make_config(tmp_path / "in", {"train": {"a": "red"}, "val": {"a": "red"}})
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in sorted((tmp_path / "in").rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path / "in"))
    splits = {
        split: {what: f"zip://{what}/{split}::{tmp_path}/all.zip" for what in ("labels", "images")} for split in SPLITS
    }
    assert LEAK in run("plan", config, "--set", f"source.splits={yaml.safe_dump(splits, default_flow_style=True)}").err


def test_without_images_nothing_is_read(tmp_path: Path, run: Run) -> None:
    config = make_config(tmp_path / "in", {"train": {"a": "red"}, "val": {"a": "red"}}, images="none")
    assert LEAK not in run("plan", config).err


def config_of_two(folder: Path, files_of: dict[str, dict[str, bytes]], **keys: object) -> Path:
    """A config of sources with the files `files_of` each, by path below its images, each with one object."""
    sources = []
    for name, files in files_of.items():
        root = folder / name
        for path, content in files.items():
            write_file(root / "images" / path, content)
            write_file((root / "labels" / path).with_suffix(".txt"), "0 0.5 0.5 0.2 0.2\n")
        names = str(write_file(root / "names.yaml", "names: [cat]\n"))
        sources.append({"name": name, "root": str(root), "names": names, "splits": {"train": "train"}})
    data = {"source": sources, "target": {"root": str(folder / "out")}, "workdir": str(folder / "w"), **keys}
    return write_file(folder / "config.yaml", yaml.safe_dump(data))


NAMES, EQUAL = "in two sources (", "by two sources, byte for byte ("


@pytest.mark.slow
def test_names_that_two_sources_have(tmp_path: Path, run: Run) -> None:
    """By name at once; once hashes are cached they decide which pictures may be the same, and which are equal."""
    ours, theirs, other, more = (picture.encoded(picture.photograph(seed)) for seed in range(4))
    smaller = picture.encoded(picture.photograph(0).resize((160, 120)))
    files = {
        "coco": {"train/a.jpg": ours, "train/b.jpg": theirs, "train/c.jpg": other, "train/d.jpg": more},
        "voc": {"train/x/a.jpg": smaller, "train/b.jpg": other, "train/e.jpg": more},
    }
    config = config_of_two(tmp_path, files)
    settle()
    said = run("plan", config).err
    assert f"warning: 2 image names are {NAMES}coco/train/a and voc/train/x/a; …): they may be the same" in said
    assert EQUAL not in said
    run("verify", config, "--leaks", code=1)
    said = run("plan", config).err
    assert f"warning: 1 image name is {NAMES}coco/train/a and voc/train/x/a): they may be the same" in said
    assert f"warning: 2 images come {EQUAL}coco/train/c and voc/train/b; …): their objects count twice" in said
    assert EQUAL in run("build", config).err


@pytest.mark.parametrize("target", [{"images": "none"}, {"archive": "zip"}, {"format": "coco"}], ids=str)
def test_names_for_any_target(tmp_path: Path, run: Run, target: dict[str, str]) -> None:
    files = {name: {"train/a.jpg": picture.encoded(picture.photograph(0))} for name in ("coco", "voc")}
    config = config_of_two(tmp_path, files, target={"root": str(tmp_path / "out"), **target})
    assert f"1 image name is {NAMES}coco/train/a and voc/train/a)" in run("plan", config).err


def test_names_of_one_source_or_of_other_images_are_not_reported(tmp_path: Path, run: Run) -> None:
    data = picture.encoded(picture.photograph(0))
    files = {"coco": {"train/a.jpg": data, "train/x/a.jpg": data}, "voc": {"train/b.jpg": data, "train/ab.jpg": data}}
    assert NAMES not in run("plan", config_of_two(tmp_path, files)).err
