"""Counts by class, as CSV."""

from __future__ import annotations

import csv
from pathlib import Path

import yaml

from tests.conftest import Run
from tests.support.helpers import write_file


def test_a_class_is_no_formula(tmp_path: Path, run: Run) -> None:
    names = ['=HYPERLINK("http://x")', "+1", "-x", "@SUM(A1)", "a=b", "car"]
    write_file(tmp_path / "src/data.yaml", yaml.safe_dump({"names": names, "train": "images/train"}))
    write_file(tmp_path / "src/labels/train/a.txt", "".join(f"{i} 0.5 0.5 0.2 0.2\n" for i in range(len(names))))
    told = run("stats", tmp_path / "src", "--csv", "--workdir", tmp_path / "w").out
    assert {row["class"] for row in csv.DictReader(told.splitlines())} == {f"'{n}" for n in names[:4]} | {*names[4:]}
