"""Layouts of a target: where its files are, that it is kept up there, and that what is written is read again."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import exporters
from pipeline.base.errors import ConfigError
from pipeline.base.terms import SPLITS, Task
from pipeline.exporters import flat_stems
from pipeline.job.recipe import decisive
from pipeline.stages.plan.images import refuse_same_names
from pipeline.target.claims import LAYOUT_FOLDERS
from tests.conftest import Run
from tests.support.helpers import PROJECT, contents, settle, without_digest, write_file

SAMPLE = PROJECT / "tests/sample/detect"
TASKS = tuple(Task)
#: Those that have a choice; a file for all, as of NDJSON, has none.
EXPORTERS = [name for name in exporters.available() if len(exporters.load(name).LAYOUTS) > 1]
EACH = [(name, layout) for name in EXPORTERS for layout in exporters.load(name).LAYOUTS]

#: A label, an image and what names them, by exporter and layout; of val, as Roboflow calls that by another name.
EXPECTED = {
    ("yolo", "default"): ("labels/val", "images/val", "data.yaml"),
    ("yolo", "roboflow"): ("valid/labels", "valid/images", "data.yaml"),
    ("yolo", "coco2017"): ("labels/val2017", "images/val2017", "data.yaml"),
    ("coco", "default"): (None, "images/val", "annotations/instances_val.json"),
    ("coco", "roboflow"): (None, "valid", "valid/_annotations.coco.json"),
    ("coco", "coco2017"): (None, "val2017", "annotations/instances_val2017.json"),
}

Build = Callable[..., Path]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample on the disk of the targets, as hard links need it."""
    copy = shutil.copytree(SAMPLE, tmp_path_factory.mktemp("sample") / "detect")
    settle()
    return copy


@pytest.fixture
def build(tmp_path: Path, run: Run, sample: Path) -> Build:
    """Build the sample as a target of a format and layout; further `words` go to the command."""

    def made(exporter: str, layout: str, *words: str, code: int = 0, source: Path = sample) -> Path:
        settings = {
            "source": {
                "names": str(PROJECT / "conf/coco.yaml"),
                "root": str(source),
                "splits": {"train": "train2017", "val": "val2017"},
            },
            "classes": ["person", "bicycle", "car"],
            "target": {"root": str(tmp_path / "out"), "format": exporter, "layout": layout},
            "workdir": str(tmp_path / "work"),
        }
        config = write_file(tmp_path / "config.yaml", json.dumps(settings))
        run("build", config, *words, code=code)
        return tmp_path / "out"

    return made


def by_name(root: Path) -> tuple[Counter[bytes], Counter[tuple[str, bytes]]]:
    """What is in a dataset wherever its folders are: contents of label files, names and contents of images."""
    found = contents(root)
    labels = Counter(data for path, data in found.items() if path.endswith(".txt"))
    images = Counter(
        (path.rpartition("/")[2], data) for path, data in found.items() if path.lower().endswith((".png", ".jpg"))
    )
    return labels, images


@pytest.mark.parametrize(("exporter", "layout"), EACH)
def test_folders_of_a_layout_are_those_that_a_manifest_may_name(exporter: str, layout: str) -> None:
    found = exporters.layout(exporter, layout)
    assert tuple(found.folders) == exporters.load(exporter).FOLDERS
    folders = found.split_folders(SPLITS)
    assert len(set(folders)) == len(folders)
    assert {folder.split("/")[0] for folder in folders} <= {*LAYOUT_FOLDERS}
    assert {folder.count("/") + 1 for folder in folders} == {found.depth}
    assert all(any(f"{folder}/".startswith(f"{root}/") for root in found.roots()) for folder in folders)
    files = [found.file(task, split) for task in TASKS for split in SPLITS] if found.files else []
    assert all(len({found.file(task, split) for split in SPLITS}) == 3 for task in found.files), files


@pytest.mark.parametrize(("exporter", "layout"), EACH)
def test_a_target_is_kept_up_and_read_again(exporter: str, layout: str, build: Build, tmp_path: Path, run: Run) -> None:
    target = build(exporter, layout)
    labels, images, named = EXPECTED[exporter, layout]
    made = contents(target)
    assert named in made
    assert [path for path in made if path.startswith(f"{images}/") and path.endswith(".png")]
    assert labels is None or [path for path in made if path.startswith(f"{labels}/") and path.endswith(".txt")]
    assert run("build", tmp_path / "config.yaml", "--json").json["status"] == "nothing to do"

    # What differs is found and made anew, and what is somebody else's is named.
    victim = next(path for path in made if path.startswith(f"{images}/") and path.endswith(".png"))
    (target / victim).unlink()
    (target / named).write_bytes(b"{}")
    write_file(target / f"{images}/mine.png", b"mine")
    found = run("verify", target, "--deep", "--json", code=1).json["listed"]
    assert {(d["path"], d["reason"]) for d in found} == {
        (victim, "missing"),
        (named, "content"),
        (f"{images}/mine.png", "foreign"),
    }
    run("verify", target, "--deep", "--repair", code=None)
    (target / images / "mine.png").unlink()
    assert run("verify", target, "--deep", "--json").json["differences"] == {}
    assert without_digest(contents(target)) == without_digest(made)

    # The target itself, and a copy that no manifest explains, hold the same objects.
    counts = run("stats", target, "--json").json
    shutil.copytree(target, tmp_path / "copy", ignore=shutil.ignore_patterns(".coco-diy"))
    run(
        "convert",
        tmp_path / "copy",
        tmp_path / "again",
        "--from",
        exporter,
        "--to",
        exporter,
        "--workdir",
        tmp_path / "w2",
    )
    again = run("stats", tmp_path / "again", "--json").json
    assert again["subset"] == counts["subset"]
    assert by_name(tmp_path / "again") == by_name(target)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_another_layout_moves_the_files(exporter: str, build: Build, tmp_path: Path, run: Run) -> None:
    layouts = list(exporters.load(exporter).LAYOUTS)
    for before, after in zip(layouts, [*layouts[1:], layouts[0]], strict=True):
        target = build(exporter, before)
        there = set(contents(target))
        for folder in exporters.layout(exporter, before).split_folders(["train"], ["labels"]):
            write_file(target / f"{folder}.cache", b"of a trainer")
        target = build(exporter, after)
        assert not list(target.rglob("*.cache"))
        report = run("verify", target, "--deep", "--json").json
        assert report["differences"] == {}
        now = set(contents(target))
        moved = {p for p in there if not p.startswith(("data.yaml", "mmdetection", "detectron2"))}
        assert now.isdisjoint(moved), (before, after)
        build(exporter, after, "--max-delete", "0")


def test_a_layout_goes_into_a_zip(build: Build) -> None:
    target = build("yolo", "roboflow", "--set", "target.archive=zip")
    (path,) = target.glob("*.zip")
    names = zipfile.ZipFile(path).namelist()
    assert Counter(name.rpartition("/")[0] for name in names) == {
        "": 2, "train/labels": 12, "train/images": 12, "valid/labels": 4, "valid/images": 4,
    }  # fmt: skip


@pytest.mark.parametrize("images", ["hardlink", "symlink", "none"])
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_images_get_there_in_each_way(exporter: str, images: str, build: Build, run: Run) -> None:
    target = build(exporter, "roboflow", "--set", f"target.images={images}")
    there = [path for path in target.rglob("*.png") if path.is_file()]
    assert bool(there) == (images != "none")
    assert all(path.is_symlink() == (images == "symlink") for path in there)
    assert run("verify", target, "--json").json["differences"] == {}


def test_a_link_for_the_folder_of_a_split_is_the_users_and_a_deeper_one_is_not(build: Build, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/train").symlink_to(tmp_path / "disk")
    build("coco", "roboflow")
    assert (tmp_path / "disk/_annotations.coco.json").is_file()
    source = shutil.copytree(SAMPLE, tmp_path / "deep")
    for kind, end in (("labels", "txt"), ("images", "png")):
        for path in list((source / kind / "train2017").glob(f"*.{end}")):
            (path.parent / "sub").mkdir(exist_ok=True)
            path.rename(path.parent / "sub" / path.name)
    settle()
    (tmp_path / "elsewhere").mkdir()
    shutil.rmtree(tmp_path / "out")
    shutil.rmtree(tmp_path / "disk")
    (tmp_path / "out/train").mkdir(parents=True)
    (tmp_path / "out/train/sub").symlink_to(tmp_path / "elsewhere")
    build("coco", "roboflow", code=1, source=source)
    assert not os.listdir(tmp_path / "elsewhere")


def test_a_file_of_somebody_else_stays(build: Build, tmp_path: Path) -> None:
    write_file(tmp_path / "out/valid", "mine")
    build("yolo", "roboflow", code=1)
    assert contents(tmp_path / "out") == {"valid": b"mine"}


def test_an_unknown_layout_is_named_with_what_there_is(build: Build, tmp_path: Path, run: Run) -> None:
    build("yolo", "robofolw", code=2)
    said = run("plan", tmp_path / "config.yaml", code=2).err
    assert "unknown layout of format yolo 'robofolw'" in said
    assert "roboflow" in said


def test_the_usual_layout_is_no_part_of_a_recipe(build: Build) -> None:
    """Targets that an earlier version made, whose manifests have neither key, have nothing to do."""
    config = json.loads((build("yolo", "default") / ".coco-diy/manifest.json").read_text())["config"]
    assert {"layout", "flat"}.isdisjoint(decisive(config)["target"])
    other = {**config, "target": {**config["target"], "layout": "roboflow", "flat": True}}
    assert {"layout", "flat"} <= decisive(other)["target"].keys()


@pytest.mark.parametrize(("exporter", "layout"), EACH)
def test_images_of_several_sources_are_in_one_folder(
    exporter: str, layout: str, tmp_path: Path, sample: Path, run: Run
) -> None:
    config = write_file(tmp_path / "config.yaml", json.dumps(flat_config(tmp_path, sample)))
    words = ("--set", f"target.format={exporter}", "--set", f"target.layout={layout}", "--json")
    run("build", config, *words)
    assert run("build", config, *words).json["changes"] == 0
    found = exporters.layout(exporter, layout)
    folder = tmp_path / "out" / found.folder("images", "train")
    images = sorted(path.name for path in folder.iterdir() if path.suffix != ".json")
    assert Counter(name.partition("__")[0] for name in images) == {"one": 12, "two": 12}
    if found.files:
        data = json.loads((tmp_path / "out" / found.file(Task.DETECT, "train")).read_text())
        names = sorted(image["file_name"] for image in data["images"])
        assert names == images
    else:
        labels = (tmp_path / "out" / found.folder("labels", "train")).iterdir()
        assert sorted(path.stem for path in labels) == [name.rpartition(".")[0] for name in images]


def flat_config(folder: Path, sample: Path) -> dict[str, Any]:
    """Two sources, whose images have the same names, into one folder a split."""
    source = {"names": str(PROJECT / "conf/coco.yaml"), "splits": {"train": "train2017", "val": "val2017"}}
    return {
        "source": [{**source, "name": name, "root": str(sample)} for name in ("one", "two")],
        "classes": ["person", "bicycle", "car"],
        "target": {"root": str(folder / "out"), "flat": True},
        "workdir": str(folder / "work"),
    }


def test_images_that_would_have_one_name_are_refused(tmp_path: Path, own_town: Path, run: Run) -> None:
    write_file(own_town / "labels/train2017/sub__e.txt", "1 0.5 0.5 0.2 0.2\n")
    write_file(own_town / "images/train2017/sub__e.jpeg", "another")
    settings = {
        "source": {"names": str(own_town / "coco.yaml"), "root": str(own_town), "splits": {"train": "train2017"}},
        "target": {"root": str(tmp_path / "out"), "flat": True},
        "workdir": str(tmp_path / "work"),
    }
    config = write_file(tmp_path / "config.yaml", json.dumps(settings))
    said = run("build", config, code=2).err
    assert "source/train2017/sub/e and source/train2017/sub__e would both be sub__e in train" in said
    assert "leave target.flat out" in said
    assert not (tmp_path / "out/labels").exists()
    run("build", config, "--set", "target.flat=false")


stems = st.lists(st.sampled_from(["a", "b", "_", "__", "/"]), min_size=1, max_size=6).map("".join)
stems = stems.map(lambda stem: re.sub("/+", "/", f"x{stem}x"))
pictures = st.lists(st.tuples(st.sampled_from(SPLITS), stems), unique=True, min_size=1, max_size=12)


@given(pictures, st.integers(1, 4))
def test_no_two_images_of_a_split_ever_share_a_name(images: list[tuple[str, str]], buckets: int) -> None:
    flat = flat_stems(pa.array([stem for _, stem in images], pa.string())).to_pylist()
    assert not any("/" in name for name in flat)
    rows = [
        {"split": split, "stem": name, "key": f"{split}/{stem}"}
        for (split, stem), name in zip(images, flat, strict=True)
    ]
    columns = pa.schema([("split", pa.string()), ("stem", pa.string()), ("key", pa.string())])
    parts = [pa.Table.from_pylist(rows[number::buckets], columns) for number in range(buckets)]
    names = Counter((row["split"], row["stem"]) for row in rows)
    if max(names.values()) == 1:
        refuse_same_names(parts)
        return
    with pytest.raises(ConfigError) as caught:
        refuse_same_names(parts)
    shared = min(name for name, count in names.items() if count > 1)
    assert f"would both be {shared[1]} in {shared[0]}" in str(caught.value)
