"""Names and files that trip other tools: each comes through exactly, or is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.builds.test_demo import SAMPLE
from tests.conftest import MakeSubset, Subset
from tests.support.helpers import contents, make_tree, settle, write_file

#: What is no image is refused where a link leads out of the source.
REAL = next(SAMPLE.rglob("*.png")).read_bytes()

ROW = "1 0.5 0.5 0.2 0.2\n"
SKIP = ("--set", "on_error=skip")
NAMES = (
    " with  blanks ",
    "stra\N{LATIN SMALL LETTER SHARP S}e",
    "e\N{COMBINING ACUTE ACCENT}",
    "\N{BICYCLE}\N{VARIATION SELECTOR-16}",
    "a#b",
    "50%25",
    "%",
    "two\nlines",
    "-rf",
    "..",
    "a..b",
    "..a",
    ".hidden",
    "a.b.c",
    "a.txt",
    "a.jpg",
    "n" * 251,
    "\N{BICYCLE}" * 62,
    "a\tb",
    "'\"`",
    "a\\b",
    "*?[a]",
    "$HOME;&|",
    "s3:__x",
    "a+b&c=d",
    "CASE",
    "case",
    "a\x01\x7f",
)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = {folder: dict.fromkeys(NAMES, ROW) for folder in ("train2017", "val2017")}
    labels["train2017"]["stays"] = "0 0.5 0.5 0.2 0.2\n"
    images = {folder: tuple(f"{stem}.jpg" for stem in files) for folder, files in labels.items()}
    root = make_tree(tmp_path_factory.mktemp("odd") / "source", labels, images)
    settle()
    return root


def wanted(root: Path) -> dict[str, bytes]:
    found = {}
    for split in ("train", "val"):
        for name in NAMES:
            found[f"labels/{split}/{name}.txt"] = b"0" + ROW[1:].encode()
            image = root / "images" / f"{split}2017" / f"{name}.jpg"
            found[f"images/{split}/{name}.jpg"] = image.read_bytes()
    return found


@pytest.mark.parametrize("how", ["copy", "symlink"])
def test_odd_names_come_through(odd: Path, make_subset: MakeSubset, how: str) -> None:
    target = odd.parent / f"out {how} #1"
    subset = make_subset(odd, target={"root": str(target), "images": how})
    told = subset.build()
    assert told["problems"] == {}
    found = contents(target)
    del found["data.yaml"]
    assert found == wanted(odd)
    assert subset.build()["status"] == "nothing to do"
    assert subset.run("verify", target, "--deep", "--json").json["differences"] == {}
    swapped = subset.build("--set", "classes=[person, bicycle]")
    assert swapped["plan"]["write"]["label"]["files"] == 2 * len(NAMES) + 1
    assert (target / "labels/train/-rf.txt").read_text() == ROW
    gone = subset.build("--set", "classes=[person]")
    assert gone["plan"]["delete"]["image"]["files"] == 2 * len(NAMES)
    assert set(contents(target)) == {"data.yaml", "labels/train/stays.txt", "images/train/stays.jpg"}


def test_names_that_differ_in_case_alone_are_two(own_subset: Subset) -> None:
    for stem in ("Twin", "twin"):
        write_file(own_subset.source / f"labels/train2017/{stem}.txt", ROW)
        write_file(own_subset.source / f"images/train2017/{stem}.JPG", stem)
    told = own_subset.build()
    assert told["problems"] == {}
    for stem in ("Twin", "twin"):
        assert (own_subset.target / f"images/train/{stem}.JPG").read_text() == stem


def test_a_name_of_a_suffix_alone(own_subset: Subset) -> None:
    """`.txt` is a label file without a stem to most tools, and none to Ultralytics, whose images have a stem."""
    write_file(own_subset.source / "labels/train2017/.txt", ROW)
    told = own_subset.build(*SKIP, code=3)
    assert sum(told["problems"].values()) == 1


@pytest.mark.parametrize("kind", ["loop", "dangling", "folder", "fifo"])
def test_files_that_are_no_files(own_subset: Subset, kind: str) -> None:
    path = own_subset.source / "labels/train2017/odd.txt"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path.name if kind == "loop" else "nowhere")
    told = own_subset.command("build", code=1).err
    assert f"{path}: " in told
    assert "--set on_error=skip" in told
    counts = own_subset.build(*SKIP, code=3)["left_out"]["counts"]
    assert counts == {{"loop": "link_loop", "dangling": "dangling"}.get(kind, "not_a_file"): 1}


def test_what_is_no_file_comes_and_goes(own_subset: Subset) -> None:
    """Where all else is as it was, too."""
    own_subset.build()
    path = own_subset.source / "labels/train2017/odd.txt"
    path.symlink_to("nowhere")
    assert f"{path}: is a link to a file that is not there" in own_subset.command("build", code=1).err
    assert own_subset.build(*SKIP, code=3)["left_out"]["counts"] == {"dangling": 1}
    assert own_subset.build(*SKIP, code=3)["status"] == "nothing to do"
    path.unlink()
    assert own_subset.build()["ok"] is True
    assert "left_out" not in own_subset.command("index", "--json").json


def test_a_link_out_of_the_root_is_read_and_not_written_to(own_subset: Subset, tmp_path: Path) -> None:
    label, image = write_file(tmp_path / "away/l", ROW), write_file(tmp_path / "away/i", REAL)
    (own_subset.source / "labels/train2017/out.txt").symlink_to(label)
    (own_subset.source / "images/train2017/out.jpg").symlink_to(image)
    own_subset.build()
    assert (own_subset.target / "labels/train/out.txt").read_text() == "0" + ROW[1:]
    copied = own_subset.target / "images/train/out.jpg"
    assert copied.read_bytes() == REAL
    assert not copied.is_symlink()
    assert (label.read_text(), image.read_bytes()) == (ROW, REAL)


def test_a_label_file_of_hundreds_of_megabytes(own_subset: Subset) -> None:
    path = own_subset.source / "labels/train2017/huge.txt"
    with path.open("wb") as file:
        file.truncate(200 << 20)
    told = own_subset.command("build", code=1).err
    assert f"{path}: is larger than 64 MiB: no label file" in told
    assert own_subset.build(*SKIP, code=3)["left_out"]["counts"]["too_large"] == 1


def test_a_folder_that_is_no_split(own_subset: Subset) -> None:
    """Labels of a folder that no split names are no part of the source, and nothing is said of them."""
    write_file(own_subset.source / "labels/test2017/t.txt", "nonsense")
    told = own_subset.build()
    assert (told["ok"], sum(c["images"] for c in told["subset"].values())) == (True, 7)
