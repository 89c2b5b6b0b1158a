"""Commands that take the folder of a dataset, whoever made it: its own files say what it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run
from tests.formats.test_labelme import jpeg
from tests.support.helpers import PROJECT, contents, snapshot, write_file

SAMPLE = PROJECT / "tests/sample"
PICTURE = jpeg(64, 48)
NAMES = "nc: 2\nnames: [cat, dog]\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _ultralytics(root: Path) -> Path:
    write_file(root / "data.yaml", f"path: /somebody/else\ntrain: images/train\nval: images/val\n{NAMES}")
    for name, row in (("train/a", "1 .5 .5 .2 .2\n"), ("train/b", "0 .5 .5 .2 .2\n"), ("val/c", "1 .5 .5 .2 .2\n")):
        write_file(root / f"labels/{name}.txt", row)
        write_file(root / f"images/{name}.jpg", PICTURE)
    return root


def _roboflow(root: Path) -> Path:
    write_file(root / "data.yaml", f"train: ../train/images\nval: ../valid/images\n{NAMES}")
    for name, row in (("train/{}/a", "1 .5 .5 .2 .2\n0 .5 .5 .2 .2\n"), ("valid/{}/c", "1 .5 .5 .2 .2\n")):
        write_file(root / f"{name.format('labels')}.txt", row)
        write_file(root / f"{name.format('images')}.jpg", PICTURE)
    return root


def _coco(root: Path) -> Path:
    boxes = [{"id": i, "image_id": 1, "category_id": c, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0} for i, c in
             enumerate((1, 2, 2), 1)]  # fmt: skip
    document: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
        "annotations": boxes,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    write_file(root / "train/_annotations.coco.json", json.dumps(document))
    write_file(root / "train/a.jpg", PICTURE)
    return root


MADE_BY = {"ultralytics": _ultralytics, "roboflow": _roboflow, "coco": _coco}


@pytest.mark.parametrize("tool", MADE_BY)
def test_counts_and_faults_of_a_folder(folder: Path, run: Run, tool: str) -> None:
    root = MADE_BY[tool](folder / "in")
    before = snapshot(root, links=True)
    told = run("stats", root, "--json").json
    assert told["classes"] == ["cat", "dog"]
    assert {n: sum(s["objects"][n] for s in told["subset"].values()) for n in ("cat", "dog")} == {"cat": 1, "dog": 2}
    for words in ((), ("--deep",)):
        assert run("verify", root, "--json", *words).json["listed"] == []
    assert "No problem: " in run("verify", root).out
    assert snapshot(root, links=True) == before


@pytest.mark.slow
def test_each_fault_of_a_folder_is_listed(folder: Path, run: Run) -> None:
    root = _ultralytics(folder / "in")
    write_file(root / "labels/train/a.txt", "1 .5 .5 .2 .2\n1 .5 .5 .2\n")  # too short
    write_file(root / "labels/train/b.txt", "7 .5 .5 .2 .2\n")  # no such class
    (root / "images/val/c.jpg").unlink()
    write_file(root / "images/train/cut.jpg", PICTURE[:-20])
    told = run("verify", root, "--json", code=1).json
    found = {(Path(d["path"]).name, d["line"]): d["reason"] for d in told["listed"]}
    assert found.keys() == {("a.txt", 2), ("b.txt", 1), ("c.*", None), ("cut.jpg", None)}, found
    assert found["cut.jpg", None] == "image_cut_short"
    page = run("verify", root, code=1)
    assert "a.txt:2: " in page.out
    assert "4 problems" in page.out
    assert run("verify", root, "-q", code=1).err.count("\n") == 4


def test_an_image_that_cannot_be_decoded_is_found_by_looking_deep(folder: Path, run: Run) -> None:
    root = _ultralytics(folder / "in")
    garbled = bytearray(PICTURE)
    garbled[2:20] = bytes(18)
    write_file(root / "images/train/a.jpg", bytes(garbled))
    assert [Path(d["path"]).name for d in run("verify", root, "--deep", "--json", code=1).json["listed"]] == ["a.jpg"]


def test_labels_without_a_folder_of_images_are_verified(folder: Path, run: Run) -> None:
    write_file(folder / "in/data.yaml", NAMES)
    write_file(folder / "in/labels/train/a.txt", "1 .5 .5 .2 .2\n")
    told = run("verify", folder / "in")
    assert "has no folder of images beside it" in told.err
    assert "No problem: " in told.out


def _zipped(folder: Path, run: Run) -> Path:
    """The zip file that is a target, by its path."""
    words = ("convert", _ultralytics(folder / "in"), folder / "zipped", "--from", "yolo", "--to", "yolo")
    done = run(*words, "--set", "target.archive=zip", "--json").json
    return folder / "zipped" / str(done["archive"])


def test_a_zip_file_that_is_a_target_is_that_target(folder: Path, run: Run) -> None:
    """Named by itself, by its folder or by its manifest it says the same; whether by a path or relative."""
    archive = _zipped(folder, run)
    for words in (("stats",), ("verify", "--deep"), ("status",)):
        told = [
            run(words[0], what, *words[1:], "--json").json
            for what in (
                archive.parent,
                archive,
                archive.relative_to(folder),
                archive.parent / ".coco-diy/manifest.json",
            )
        ]
        apart = ("run", "target", "last_success")  # times, and a path that may be relative
        assert all(one == told[0] | {name: one.get(name) for name in apart if name in one} for one in told), words
    assert told[0]["runs"] == 1
    found = run("diff", archive, archive.parent, "--json").json
    assert found["from"] == found["to"]
    name = told[0]["last"]["run"]["id"]
    assert run("diff", f"{archive}@{name}", archive, "--json").json["classes"]["renumbered"] == []
    archive.write_bytes(archive.read_bytes()[:-9])
    assert run("verify", archive, "--json", code=1).json["differences"] == {"content": 1}


def test_a_dataset_in_one_file_is_checked_and_has_no_runs(folder: Path, run: Run) -> None:
    """COCO JSON, and a zip that nobody built: never taken for a config."""
    document = _coco(folder / "in") / "train/_annotations.coco.json"
    archive = Path(shutil.make_archive(str(folder / "set"), "zip", _ultralytics(folder / "yolo")))
    for what in (document, archive):
        assert run("verify", what, "--json").json["listed"] == []
        for words in (("status", what), ("diff", what, what), ("verify", what, "--repair")):
            told = run(*words, code=2).err
            assert "YAML" not in told
            assert "built by coco-diy" in told or told == (
                f"coco-diy: {what}: is a file that is no subset of coco-diy's; name a config, the folder of a subset, "
                "or its zip file\n"
            )


@pytest.mark.parametrize("command", ["show", "report"])
@pytest.mark.parametrize("here", ["", "in", "in/train"])
def test_what_nobody_named_is_in_no_folder_of_a_dataset(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, command: str, here: str
) -> None:
    """It is in the working folder or, where that is the dataset's, where caches are; and there it is made anew."""
    what = _coco(folder / "in")
    what = what / "train/_annotations.coco.json" if here == "in/train" else what  # the file alone, or all of the folder
    before = contents(folder / here) if here else {}
    monkeypatch.chdir(folder / here)
    usual = "sheet.jpg" if command == "show" else "report.html"
    made = folder / usual if not here else folder / f"cache/coco-diy/{what.stem}-{usual}"
    for _ in range(2):
        assert run(command, what).out.strip() == (str(made) if here else usual)
        assert made.stat().st_size > 1000
    if here:
        assert contents(folder / here) == before
    made.write_text("<p>somebody's own</p>")
    assert "was not written by coco-diy" in run(command, what, code=2).err


@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
def test_a_subset_made_here_is_a_source_of_its_task(folder: Path, run: Run, task: str) -> None:
    names = PROJECT / f"conf/coco{'-pose' if task == 'pose' else ''}.yaml"
    words = ("--src-yaml", names, "--dst-yaml", names, "--task", task)
    run("remake", SAMPLE / task, folder / "first", *words)
    run("convert", folder / "first", folder / "again", "--from", "yolo", "--to", "yolo")
    run("remake", folder / "first", folder / "third", "--dst-yaml", folder / "first/data.yaml")
    assert contents(folder / "first") == contents(folder / "again") == contents(folder / "third")


def test_a_build_says_where_it_is_and_what_trains_on_it(folder: Path, run: Run) -> None:
    root = _ultralytics(folder / "in")
    words = ("convert", root, folder / "my set", "--from", "yolo")
    told = run(*words, "--to", "yolo").out.splitlines()[-2:]
    assert told == [
        f"Built {folder}/my set.",
        f"To train on it: yolo detect train data='{folder}/my set/data.yaml' model=yolo11n.pt",
    ]
    words = (*words[:2], folder / "zipped", *words[3:])
    done = run(*words, "--to", "yolo", "--set", "target.archive=zip", "--json").json
    assert (folder / "zipped" / done["archive"]).is_file()
    assert done["training"] == f"yolo detect train data={folder}/zipped/{done['archive']} model=yolo11n.pt"
    assert "Built" in run(*words[:2], folder / "json", *words[3:], "--to", "coco").out


def test_a_config_in_json_is_one_for_every_command(folder: Path, run: Run) -> None:
    config = write_file(
        folder / "pets.json",
        json.dumps(
            {
                "source": {
                    "root": str(_ultralytics(folder / "set")),
                    "names": "set/data.yaml",
                    "splits": {"train": "train", "val": "val"},
                },
                "target": {"root": "out"},
            }
        ),
    )
    run("build", config)
    assert "Before: the source" in run("stats", config).out
    for command in (["verify", "--deep"], ["status"], ["show", "-o", "sheet.jpg"], ["report", "-o", "page.html"]):
        assert run(*command, config).code == 0, command
    (folder / "out/labels/train/a.txt").unlink()
    assert run("verify", config, code=1).out.count("a.txt") == 1
