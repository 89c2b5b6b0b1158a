"""What people get wrong in their first hour: each mistake is one sentence with the file, the line and the cure."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.support.helpers import PROJECT, write_file

CONFIG = (PROJECT / "conf/demo.yaml").read_text(encoding="utf-8")


def line_of(text: str) -> int:
    """The line of the config that has `text`, from 1."""
    return CONFIG[: CONFIG.index(text)].count("\n") + 1


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a newcomer has it: ready configs, the sample, an empty folder, a picture."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(PROJECT / "conf", folder / "conf")
    shutil.copytree(PROJECT / "tests/sample", folder / "tests/sample")
    (folder / "empty").mkdir()
    write_file(folder / "mine.yaml", "names: [bicycle]\n")
    write_file(folder / "no-labels/images/train/a.jpg", b"x")
    write_file(folder / "wrong-nc/data.yaml", "nc: 3\nnames: [a, b]\ntrain: images/train\n")
    write_file(folder / "wrong-nc/labels/train/a.txt", "0 .5 .5 .1 .1\n")
    return folder


#: What is written in the place of what in a config that is right, the line that is named, what is said, and the cure.
IN_THE_CONFIG = {
    "a tab": ("  root: tests", "\troot: tests", "  root: tests", "holds a tab; indent with blanks"),
    "too deep": ("  root: tests", "    root: tests", "  root: tests", "is indented deeper.*; line it up"),
    "no colon": ("classes:\n", "classes\n", None, "lacks a colon after a key.*write `key: value`"),
    "an open bracket": ("truck]}", "truck}", "  - {name: vehicle", r"leaves a \[ open.*; close it with \]"),
    "an open quote": ("  yaml: portable", "  yaml: 'portable", None, "leaves a quote open, here or above; close it"),
    "a list on its key's line": ("splits:\n", "splits: - train\n", "  splits:", "begins a list on the line of its key"),
    "a misspelled key": ("target:\n", "targets:\n", "target:", "unknown key 'targets'; did you mean 'target'"),
    "a key that YOLO has": ("  task:", "  nc: 80\n  task:", "  task:", "unknown key 'source.nc'; "),
    "a format of another name": (
        "format: yolo\n  task",
        "format: yolov8\n  task",
        "format: yolo",
        "did you mean 'yolo'",
    ),
    "a format in capitals": ("format: yolo\n  task", "format: YOLO\n  task", "format: yolo", "did you mean 'yolo'"),
    "a format that there is not": (
        "format: yolo\n  task",
        "format: tfrecord\n  task",
        "format: yolo",
        "available: coco",
    ),
    "a task of another name": (
        "task: detect",
        "task: detection",
        "task: detect",
        "must be 'detect', 'segment', 'pose' or 'obb'",
    ),
    "a split of another name": ("train: train", "training: train", "train: train", "must be 'train', 'val' or 'test'"),
    "a split that is not there": ("train: train2017", "train: t", "train: train", "labels/t does not exist; correct"),
    "a root that is not there": (
        "root: tests",
        "root: test",
        "train: train",
        "coco-diy fetch conf/coco2017.yaml --into",
    ),
    "a root too deep": ("sample/detect", "sample/detect/images", "train: train", "does not exist; correct source.root"),
    "a path of Windows": ("root: tests", "root: C:\\tests", None, r"is a path of Windows; in WSL it is /mnt/c/tests"),
    "a variable as root": (
        "root: tests",
        "root: $DATA/tests",
        None,
        r"\$DATA is not expanded here; write the path out",
    ),
    "a variable as target": ("build/demo", "${OUT}/demo", None, r"\$\{OUT\} is not expanded here; write the path out"),
    "a number that is text": (
        "target:\n",
        "select: {objects: {min_area_ratio: 1e-4}}\ntarget:\n",
        "target:",
        "YAML reads it as text; write .*1.0e-4",
    ),
    "a share without its key": (
        "target:\n",
        "select: {background: 0.1}\ntarget:\n",
        "target:",
        r"or must be keys with values \(ratio, max, prefer, seed\)",
    ),
    "a URL with one slash": ("root: tests", "root: s3:/tests", None, "is neither a path nor a URL; write s3://tests"),
    "a URL of a web page": ("root: tests", "root: https://x.invalid/tests", None, "lists no files; download it, or"),
    "a target with one slash": ("build/demo", "s3:/b/demo", None, "is neither a path nor a URL; write s3://b/demo"),
    "names that are a config": ("conf/coco.yaml", "conf/demo.yaml", None, "is a config, no YAML of class names; name"),
    "names in the config": ("conf/coco.yaml", "[person, car]", "names:", "must be one text"),
    "names elsewhere": ("conf/coco.yaml", "coco.yaml", None, "no such class names file; did you mean conf/coco.yaml"),
    "a class in capitals": ("- bicycle", "- Bicycle", "classes:", "unknown class 'Bicycle'; did you mean 'bicycle'"),
    "a class by its number": ("- bicycle", "- 1", "- bicycle", "YAML reads it as a number; put the name in quotes"),
    "a class twice": ("- bicycle", "- bicycle\n  - bicycle", "classes:", "'bicycle' is a duplicate"),
    "a class that YAML eats": ("- bicycle", "- no", "- bicycle", "YAML reads it as false; put the name in quotes"),
    "one class without a list": ("classes:\n", "classes: car\nold:\n", None, "unknown key 'old'"),
    "links of another name": ("images: copy", "images: link", "images: copy", "must be 'copy', 'hardlink', 'symlink'"),
    "the source as target": ("root: build/demo", "root: tests/sample/detect", "root: build", "is never written to"),
    "a step that is not there": ("target:\n", "filter: {}\ntarget:\n", "target:", "unknown key 'filter'"),
}


@pytest.mark.parametrize("mistake", IN_THE_CONFIG)
def test_a_mistake_in_a_config(desk: Path, run: Run, monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    monkeypatch.chdir(desk)
    right, wrong, line, said = IN_THE_CONFIG[mistake]
    assert CONFIG.count(right) == 1
    write_file(desk / "x.yaml", CONFIG.replace(right, wrong))
    told = run("plan", "x.yaml", code=2).err
    assert told.count("\n") == 1, told
    assert re.search(said, told), told
    if line is not None:
        assert told.startswith(f"coco-diy: x.yaml:{line_of(line)}: "), told


#: A command line, what is said, and the exit code.
ON_THE_COMMAND_LINE = {
    "a ready config by its name": ("plan bicycle", "bicycle: no such config file; `coco-diy init bicycle` makes it"),
    "a ready config without its ending": ("plan conf/demo", "no such config file; `coco-diy init demo` makes it"),
    "a config misspelled": ("build conf/dmeo.yaml", "no such config file; did you mean conf/demo.yaml?"),
    "a config that is not there": ("build nothing/x.yaml", "no such config file; `coco-diy init` lists some"),
    "a folder as config": ("build conf", "conf: is a folder, and a config is a file; name one"),
    "a URL as config": ("build https://x.invalid/x.yaml", "is a URL, and a config is a file of this machine; download"),
    "names as config": ("build conf/coco.yaml", "is a YAML of class names, no config; a config names it with"),
    "a picture as config": ("build tests/sample/picture.webp", "is not UTF-8 text; name a text file"),
    "a ready config that there is not": ("init coco", "unknown ready config 'coco'; did you mean 'coco2017'"),
    "an override without a value": ("plan conf/demo.yaml --set classes", "--set classes: must be key.path=value"),
    "an override of a text": ("plan conf/demo.yaml --set classes=car", "written in brackets: [car]"),
    "an override misspelled": ("plan conf/demo.yaml --set target.image=none", "did you mean 'images'?"),
    "a scheduler that there is not": ("plan conf/demo.yaml --scheduler dask", "unknown scheduler 'dask'; available"),
    "COCO that is not here": (
        "plan conf/bicycle.yaml",
        "get COCO 2017: `coco-diy init coco2017`, then `coco-diy fetch",
    ),
    "COCO that is not here, fetched": ("fetch conf/bicycle.yaml", "conf/coco2017.yaml --into datasets/coco`"),
    "outlines that are not here": ("fetch conf/segment.yaml", "--into datasets/coco --set source.task=segment`"),
    "JSON that is not here": (
        "plan conf/coco-json.yaml",
        "annotations_trainval2017.zip train2017.zip val2017.zip --into",
    ),
    "archives that are not here": ("plan conf/coco2017.yaml", "does not exist; `coco-diy fetch CONFIG` gets it"),
    "an archive misspelled": ("fetch conf/coco2017.yaml val2107.zip", "unknown archive 'val2107.zip'; did you mean"),
    "a source that is not there": ("convert nothing out --from yolo --to coco", "nothing: does not exist; correct the"),
    "source and target swapped": ("convert out tests/sample/labelme --from labelme --to yolo", "SRC comes first, then"),
    "an empty source": ("convert empty out --from yolo --to coco", "empty: has none of the splits train, val and test"),
    "a source without labels": ("convert no-labels out --from yolo --to coco", "has none of the splits"),
    "another format than it is": ("convert tests/sample/detect out --from labelme --to yolo", "write --from yolo"),
    "a format that there is not": ("convert empty out --from voc2 --to coco", "unknown format 'voc2'; "),
    "a picture as source": (
        "convert tests/sample/picture.webp out --from yolo --to coco",
        "is a file, and format yolo",
    ),
    "shares in percent": ("convert tests/sample/labelme out --from labelme --to yolo --split 80", "as in --split 0.8"),
    "a source on a store misspelled": ("convert s3:/x out --from yolo --to coco", "write s3://x"),
    "names swapped": ("remake tests/sample/detect out --src-yaml mine.yaml --dst-yaml conf/coco.yaml", "swapped?"),
    "no names": ("remake tests/sample/detect out --dst-yaml mine.yaml", "name such a file with --src-yaml"),
    "names that are not there": ("remake tests/sample/detect out --src-yaml a --dst-yaml mine.yaml", "no such class"),
    "counts of nothing": ("stats nothing", "nothing: no such config, target or folder; correct its path"),
    "counts of an empty folder": ("stats empty", "empty: is no dataset folder that is known: no layout of coco, "),
    "counts without names": ("stats tests/sample/detect", "but no data.yaml or classes.txt that names classes; add it"),
    "counts by wrong names": ("stats wrong-nc", "data.yaml:1: nc is 3, but `names` has 2; correct the one"),
    "counts by the YAML of a dataset": ("stats wrong-nc/data.yaml", "no config; name its folder to look at it; a"),
    "counts of a web page": ("stats https://x.invalid/", "is on a web server, which lists no files; download it"),
    "a repair of somebody's folder": ("verify tests/sample/labelme --repair", "was not built by coco-diy"),
    "runs of nothing": ("status nothing", "nothing: does not exist; name a config, or the folder of a subset"),
    "a comparison with nothing": ("diff nothing empty", "nothing: does not exist; name a config, or the folder"),
    "a comparison with any folder": ("diff empty empty", "is neither a config file nor a subset that coco-diy built"),
}


@pytest.mark.parametrize("mistake", ON_THE_COMMAND_LINE)
def test_a_mistake_on_the_command_line(desk: Path, run: Run, monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setenv("XDG_CACHE_HOME", str(desk / "cache"))
    words, said = ON_THE_COMMAND_LINE[mistake]
    told = run(*words.split(), code=2).err
    assert told.startswith("coco-diy: "), told
    assert told.count("\n") == 1, told
    assert said in told, told


def test_a_package_that_is_not_installed(desk: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setitem(sys.modules, "distributed", None)  # as where it is not installed
    told = run("plan", "conf/demo.yaml", "--scheduler", "tcp://127.0.0.1:9", code=2).err
    assert "needs the package distributed; install it with `pip install" in told
    assert told.count("\n") == 1


def test_nothing_is_left_by_a_mistake(desk: Path) -> None:
    """The last of this file: none of the commands above has made a file or a folder where it was run."""
    assert {p.name for p in desk.iterdir()} - {"x.yaml", "cache", "work", "build"} == {
        "conf", "tests", "empty", "mine.yaml", "no-labels", "wrong-nc",
    }  # fmt: skip
