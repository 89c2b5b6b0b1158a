"""Counts by class, for a terminal and as CSV."""

from __future__ import annotations

import csv
from pathlib import Path

import yaml
from PIL import Image

from tests.conftest import Run
from tests.support.helpers import write_file


def test_a_class_is_no_formula(tmp_path: Path, run: Run) -> None:
    names = ['=HYPERLINK("http://x")', "+1", "-x", "@SUM(A1)", "a=b", "car"]
    write_file(tmp_path / "src/data.yaml", yaml.safe_dump({"names": names, "train": "images/train"}))
    write_file(tmp_path / "src/labels/train/a.txt", "".join(f"{i} 0.5 0.5 0.2 0.2\n" for i in range(len(names))))
    told = run("stats", tmp_path / "src", "--csv", "--workdir", tmp_path / "w").out
    assert {row["class"] for row in csv.DictReader(told.splitlines())} == {f"'{n}" for n in names[:4]} | {*names[4:]}


def test_columns_are_aligned_in_a_terminal(tmp_path: Path, run: Run) -> None:
    names = {"car": 3, "自行车": 6, "トラック": 8, "자동차": 6, "שלום": 4, "cafe\u0301": 4, "น้ำ": 2, "🚲 bike": 7}
    write_file(tmp_path / "src/data.yaml", yaml.safe_dump({"names": [*names], "train": "images/train"}))
    write_file(tmp_path / "src/labels/train/a.txt", "".join(f"{i} 0.5 0.5 0.2 0.2\n" for i in range(len(names))))
    header, rule, *rows = run("stats", tmp_path / "src", "--workdir", tmp_path / "w").out.splitlines()
    assert len(header) == len(rule)
    for row, (number, (name, columns)) in zip(rows, enumerate(names.items()), strict=False):
        assert row.startswith(f"{number} {name} ")
        assert len(row) - len(name) + columns == len(header)


def test_what_is_not_counted_by_size_is_said(tmp_path: Path, run: Run) -> None:
    """A label without its image, one whose image is cut short, and one that is whole."""
    write_file(tmp_path / "src/data.yaml", yaml.safe_dump({"names": ["car"], "train": "images/train"}))
    for stem in ("gone", "cut", "whole"):
        write_file(tmp_path / f"src/labels/train/{stem}.txt", "0 0.5 0.5 0.2 0.2\n")
    write_file(tmp_path / "src/images/train/cut.jpg", b"\xff\xd8\xff\xe0")
    Image.new("RGB", (200, 200)).save(tmp_path / "src/images/train/whole.png")
    told = run("stats", tmp_path / "src", "--workdir", tmp_path / "w")
    assert told.err == "warning: 1 label without an image, counted as an image here\n"
    assert told.out.splitlines()[-1] == "2 of 3 objects are in images of unknown size in pixels."
    assert told.out.splitlines()[2].split() == ["0", "car", "3", "3", "100.0%", "0", "1", "0"]
    run("report", tmp_path / "src", "--workdir", tmp_path / "w", "-o", tmp_path / "page.html")
    assert "1 label without an image" in (tmp_path / "page.html").read_text()


def test_an_empty_subset_is_said(tmp_path: Path, run: Run) -> None:
    """Of a config stats has the warnings of its plan, as the page has."""
    write_file(tmp_path / "names.yaml", "names: [car, kite]\n")
    write_file(tmp_path / "src/labels/train/a.txt", "0 0.5 0.5 0.2 0.2\n")
    write_file(tmp_path / "src/images/train/a.jpg", b"x")
    config = {
        "source": {"root": str(tmp_path / "src"), "names": str(tmp_path / "names.yaml"), "splits": {"train": "train"}},
        "classes": ["kite"],
        "target": {"root": str(tmp_path / "out")},
        "workdir": str(tmp_path / "work"),
    }
    told = run("stats", write_file(tmp_path / "c.yaml", yaml.safe_dump(config)))
    assert "the subset would be empty: the source has no object of these classes" in told.err
