"""The comparison behind `make bench-peers` sees each kind of difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.bench.answer import Row, Rows, Subset, compare, read_target, wanted_of

A, B, C = "000000000001", "000000000002", "000000000003"
NAMES = ["person", "bicycle", "car"]
ROW: Row = ("car", 0.5, 0.5, 0.2, 0.1)
COUNTED = ["missing", "extra", "changed", "crowds", "backgrounds", "wrong_split"]
COUNTED += ["images_missing", "images_extra", "images_damaged"]
OTHER: Row = ("person", 0.25, 0.5, 0.2, 0.1)


def subset(rows: Rows, **further: Any) -> Subset:
    made = Subset(rows=rows, splits=dict.fromkeys(rows, "train"), images=set(rows))
    for name, value in further.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("found", "differences"),
    [
        ({A: [OTHER, ROW], B: [ROW]}, {}),
        ({A: [OTHER, ("car", 0.500001, 0.5, 0.2, 0.1)], B: [ROW]}, {}),
        ({A: [OTHER], B: [ROW]}, {"missing": 1}),
        ({A: [ROW, OTHER, OTHER], B: [ROW]}, {"extra": 1}),
        ({A: [ROW, OTHER], B: [("car", 0.5, 0.5, 0.2, 0.10001)]}, {"changed": 1}),
        ({A: [ROW, OTHER], B: [("car", 0.5, 0.5, 0.3, 0.1)]}, {"missing": 1, "extra": 1}),
        ({A: [ROW, OTHER], B: [("bicycle", *ROW[1:])]}, {"missing": 1, "extra": 1}),
        ({A: [ROW, OTHER], B: [ROW], C: []}, {"images_extra": 1, "backgrounds": 1}),
        ({A: [ROW, OTHER]}, {"missing": 1, "images_missing": 1}),
    ],
    ids=str,
)
def test_each_difference_is_counted(found: Rows, differences: dict[str, int]) -> None:
    verdict = compare(subset({A: [ROW, OTHER], B: [ROW]}), subset(found))
    assert {name: n for name in COUNTED if (n := getattr(verdict, name))} == differences
    assert (verdict.rows, verdict.images) == (3, 2)
    assert verdict.exact == (not differences)


def test_a_crowd_is_no_extra_row() -> None:
    crowd: Row = ("person", 0.7, 0.5, 0.2, 0.1)
    verdict = compare(subset({A: [ROW]}), subset({A: [crowd, ROW]}), {A: [crowd]})
    assert (verdict.crowds, verdict.extra, verdict.missing) == (1, 0, 0)
    assert not verdict.exact


def test_a_split_that_changed_is_seen() -> None:
    assert compare(subset({A: [ROW]}), subset({A: [ROW]}, splits={A: "val"})).wrong_split == 1


def test_a_target_is_read_by_names(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for path, text in {
        source / f"labels/train2017/{A}.txt": "2 0.5 0.5 0.2 0.1\n7 0.5 0.5 0.2 0.1\n",
        source / f"labels/val2017/{B}.txt": "7 0.5 0.5 0.2 0.1\n",
        target / "data.yaml": "names: {0: car}\n",
        target / "labels/train.txt": f"images/train/{A}.jpg\n",
        target / f"labels/train/{A}.txt": "0 0.5 0.5 0.2 0.1\n",
        target / f"images/train/{A}.jpg": "picture",
        target / f"images/train/{B}.jpg": "another",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    wanted = wanted_of(source, {"train2017": "train", "val2017": "val"}, NAMES, ["car"])
    assert wanted.rows == {A: [ROW]}
    verdict = compare(wanted, read_target(target, NAMES, b"picture"))
    assert (verdict.missing, verdict.extra, verdict.changed, verdict.wrong_split) == (0, 0, 0, 0)
    assert (verdict.images_missing, verdict.images_extra, verdict.images_damaged, verdict.backgrounds) == (0, 1, 1, 1)
    assert verdict.classes == 1
