"""A format and a layout of strangers: each is one file in its folder, and nothing else knows them."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

from pipeline import exporters, formats
from tests.conftest import Run
from tests.support.helpers import contents, picture, settle, write_file

PLUGINS = Path(__file__).parents[1] / "sample/plugins"

LINES = """\
train a.jpg 100x50 cat,10,20,30,10 dog,0,0,50,25
train sub/b.jpg 10x10
val c.jpg 100x100 dog,25,25,50,50
train gone.jpg 40x40 cat,0,0,20,20
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config that names the strangers, whose folder is as good as that of the package."""
    for package in (formats, exporters):
        folder = str(PLUGINS / package.__name__.rpartition(".")[2])
        monkeypatch.setattr(package, "__path__", [*package.__path__, folder])
    write_file(tmp_path / "src/all.tiny", LINES)
    for name in ("train/a.jpg", "train/sub/b.jpg", "val/c.jpg"):
        write_file(tmp_path / "src" / name, picture(name))
    settle()
    source = {"format": "tinylines", "root": str(tmp_path / "src"), "splits": {"train": "train", "val": "val"}}
    data = {
        "source": source,
        "classes": ["dog"],
        "target": {"root": str(tmp_path / "out"), "format": "tinylist"},
        "workdir": str(tmp_path / "work"),
    }
    return write_file(tmp_path / "config.yaml", json.dumps(data))


def offers(module: object, protocol: type) -> bool:
    """Whether a module has every name of a protocol."""
    kinds = [kind for kind in protocol.__mro__ if kind.__module__ == protocol.__module__]
    names = {
        name for kind in kinds for name in (*vars(kind), *inspect.get_annotations(kind)) if not name.startswith("_")
    }
    return names <= set(vars(module))


@pytest.mark.usefixtures("config")
def test_each_is_of_the_protocol_that_it_declares() -> None:
    assert "tinylines" in formats.available()
    assert "tinylist" in exporters.available()
    for name in formats.available():
        whole = formats.load(name).WHOLE
        assert offers(formats.load(name), formats.SingleFileFormat if whole else formats.LabelFileFormat), name
        several = whole and formats.load_single_file(name).HOLDS_SPLITS
        assert not several or offers(formats.load(name), formats.SplitFileFormat), name
    for name in exporters.available():
        gathers = exporters.load(name).GATHERS
        assert offers(exporters.load(name), exporters.GatheringExporter if gathers else exporters.Exporter), name


def test_a_format_and_a_layout_of_strangers(config: Path, run: Run) -> None:
    told = run("build", config, "--json").json
    made = contents(config.parent / "out")
    assert {path: data for path, data in made.items() if not path.startswith("images/")} == {
        "classes.list": b"dog\n",
        "labels/train/a.list": b"0\n",
        "labels/val/c.list": b"0\n",
    }
    assert {path for path in made if path.startswith("images/")} == {"images/train/a.jpg", "images/val/c.jpg"}
    words = ["--to", "tinylist", "--workdir", config.parent / "work", "--set", "on_error=skip"]
    run("convert", config.parent / "src", config.parent / "all", *words, code=3)  # an image is missing
    found = {path for path in contents(config.parent / "all") if path.startswith("labels/")}
    assert found == {"labels/train/a.list", "labels/train/sub/b.list", "labels/val/c.list"}  # without an object, too
    assert told["source"]["train"]["objects"] == {"cat": 2, "dog": 1}
    assert run("build", config, "--json").json["changes"] == 0


@pytest.mark.parametrize("buckets", [1, 7])
def test_a_strange_format_becomes_label_rows(config: Path, run: Run, buckets: int) -> None:
    out = config.parent / "rows"
    words = ("--set", "target.format=yolo", "--set", f"target.root={out}", "--set", f"index.buckets={buckets}")
    run("build", config, *words)
    assert (out / "labels/train/a.txt").read_bytes() == b"0 0.250000 0.250000 0.500000 0.500000\n"
    assert (out / "labels/val/c.txt").read_bytes() == b"0 0.500000 0.500000 0.500000 0.500000\n"


def test_what_is_wrong_with_a_strange_file_names_it(config: Path, run: Run) -> None:
    file = config.parent / "src/all.tiny"
    write_file(file, LINES.replace("dog,0,0,50,25", "dog,0,0"))
    assert f"{file}: dog,0,0 is no box" in run("build", config, code=1).err
    write_file(file, LINES + "\ntrain\n")
    assert f"{file}:6: has a line without a split, a name and a size" in run("build", config, code=1).err
