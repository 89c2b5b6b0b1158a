"""DOTA's label files: the grammar, what is beyond an image, and real ones against their own reader's rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.base.terms import Task
from pipeline.formats import Parsed, dota
from pipeline.images.header import Picture
from pipeline.job.conversion import dataset
from pipeline.tables.schema import LabelState
from tests.conftest import Run
from tests.support.contracts import FormatContract
from tests.support.helpers import write_file

OBB, DETECT = Task.OBB, Task.DETECT
REAL = sorted((Path(__file__).parent / "real/dota").glob("*.txt"))
WIDTH, HEIGHT = 1200, 1190
SHIP = b"60 20 140 60 120 100 40 60 ship 0"
HEADER = b"imagesource:GoogleEarth\ngsd:0.25\n"


class TestDotaFormat(FormatContract):
    name = "dota"
    nothing = HEADER
    picture = Picture(WIDTH, HEIGHT)
    samples: ClassVar = {
        task: [SHIP, HEADER + SHIP + b"\r\n", *(path.read_bytes() for path in REAL)] for task in dota.TASKS
    }


def parse(content: bytes, task: Task = OBB, size: tuple[int, int] | None = (200, 100), **options: Any) -> Parsed:
    return dota.parse([content], task, None, options, lambda _number, _path: Picture(*size) if size else None)


def one(content: bytes, task: Task = OBB, **options: Any) -> dict[str, Any]:
    (row,) = parse(content, task, **options).rows.to_pylist()
    found: dict[str, Any] = row
    return found


@pytest.mark.parametrize(
    ("task", "tail", "tokens", "loss"),
    [
        (OBB, b" 0.300000 0.200000 0.700000 0.600000 0.600000 1.000000 0.200000 0.600000", 9, None),
        (DETECT, b" 0.450000 0.600000 0.500000 0.800000", 5, "oriented"),
    ],
)
def test_a_row(task: Task, tail: bytes, tokens: int, loss: str | None) -> None:
    row = one(HEADER + SHIP, task)
    assert (row["line"], row["label"], row["tail"], row["n_tokens"], row["loss"]) == (3, "ship", tail, tokens, loss)
    assert np.allclose([row[name] for name in ("cx", "cy", "w", "h")], [0.45, 0.6, 0.5, 0.8])
    assert json.loads(row["raw"]) == {
        "segmentation": [[60, 20, 140, 60, 120, 100, 40, 60]],
        "area": 4000.0,
        "bbox": [40, 20, 100, 80],
        "iscrowd": 0,
        "difficult": 0,
    }


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_real_files_give_what_their_reader_gives(path: Path) -> None:
    """DOTA_devkit's `parse_dota_poly2`: lines of nine words and more, split by blanks; in pixels."""
    words = [line.split(" ") for line in path.read_text().splitlines()]
    wanted = [(w[8], [float(n) for n in w[:8]], int(w[9])) for w in words if len(w) >= 9]
    parsed = parse(path.read_bytes(), size=(WIDTH, HEIGHT))
    assert parsed.problems == []
    found = [
        (row["label"], json.loads(row["raw"])["segmentation"][0], json.loads(row["raw"])["difficult"])
        for row in parsed.rows.to_pylist()
    ]
    assert found == wanted
    made = np.array([row["tail"].split() for row in parsed.rows.to_pylist()], float).reshape(-1, 4, 2)
    corners = np.array([numbers for _, numbers, _ in wanted]).reshape(-1, 4, 2)
    assert np.allclose(made * (WIDTH, HEIGHT), corners, rtol=0, atol=0.0007)


def test_what_is_said_of_the_image_goes_along() -> None:
    header = b"acquisition dates:2016-05-04\nimagesource:GF2\ngsd:None\n\n"
    (image,) = parse(header + SHIP).images.to_pylist()  # type: ignore[union-attr]
    assert (image["width"], image["height"]) == (200, 100)
    assert json.loads(image["raw"]) == {"acquisition dates": "2016-05-04", "imagesource": "GF2"}


@pytest.mark.parametrize(("difficult", "lost"), [(b"0", False), (b"1", True), (b"2", True), (b"", False)])
def test_difficult_objects_are_dropped_where_that_is_wished(difficult: bytes, lost: bool) -> None:
    content = SHIP[:-1].rstrip() + b" " + difficult
    kept, dropped = one(content), one(content, difficult="drop")
    assert (kept["loss"], dropped["loss"]) == (("marked_difficult", "difficult") if lost else (None, None))
    assert kept["tail"] is not None
    assert (dropped["tail"] is None, dropped["raw"] is None) == (lost, lost)


@pytest.mark.parametrize(
    ("corners", "loss", "tail"),
    [
        (b"-1 0 50 0 50 50 -1 50", None, b" -0.005000 0.000000 0.250000 0.000000 0.250000 0.500000 -0.005000 0.500000"),
        (
            b"-9 0 50 0 50 50 -9 50",
            "clipped",
            b" 0.000000 0.000000 0.250000 0.000000 0.250000 0.500000 0.000000 0.500000",
        ),
        (b"300 0 350 0 350 50 300 50", "outside", None),
        (b"1e9 0 350 0 350 50 300 50", "outside", None),
        (b"9 9 9 9 9 9 9 9", "zero_area", None),
        (b"1 1 2 2 3 3 4 4", "zero_area", None),
    ],
)
def test_what_is_beyond_the_image_and_without_area(corners: bytes, loss: str | None, tail: bytes | None) -> None:
    row = one(corners + b" ship 0")
    assert (row["loss"], row["tail"]) == (loss, tail)
    assert json.loads(row["raw"])["segmentation"] == [[float(n) for n in corners.split()]]


@pytest.mark.parametrize(
    ("line", "reason", "clause"),
    [
        (b"0 0.5 0.5 0.2 0.2", "tokens", "look like a box of YOLO; take format yolo"),
        (b"0 .1 .1 .2 .1 .2 .2 .1 .2", "tokens", "looks like a row of YOLO"),
        (b"P0001 0.9 1 2 3 4 5 6 7 8", "tokens", "a result of DOTA's Task 1 (image, score, corners), no label"),
        (b"1 2 3 4 5 6 7 8", "tokens", "a row cut short"),
        (b"1 2 3 4 5 6 7 8 tennis court 0", "tokens", "a category with blanks in it"),
        (b"1 2 3 4 5 6 7 x ship 0", "not_a_number", "'x' is not a number"),
        (b"1,2 3 4 5 6 7 8 9 ship 0", "not_a_number", "put blanks between numbers"),
        (b"1 2 3 4 5 6 7 nan ship 0", "not_finite", "'1 2 3 4 5 6 7 nan' has a number that is not finite"),
        (b"1 2 3 4 5 6 7 1e99 ship 0", "not_finite", "or in no image"),
        (b"1 2 3 4 5 6 7 8 ship 0.5", "difficult", "ends with '0.5', not with 0 or 1"),
        (b"1 2 3 4 5 6 7 8 \xff 0", "label", "is no text in UTF-8"),
    ],
)
def test_a_bad_row_has_its_line_reason_and_what_it_looks_like(line: bytes, reason: str, clause: str) -> None:
    parsed = parse(SHIP + b"\n" + line + b"\n" + SHIP)
    assert [(p.line, p.reason, p.rows) for p in parsed.problems] == [(2, reason, 1)]
    assert clause in parsed.problems[0].detail
    assert parsed.rows["line"].to_pylist() == [1, 3]


@pytest.mark.parametrize(
    ("content", "clause"),
    [
        (b'{"shapes": []}', "is JSON, and no rows of numbers"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"<!DOCTYPE html>\n<html>", "is a web page or XML"),
        (SHIP[:9] + b"\n<<<<<<< HEAD\n", "holds the marks of a merge"),
    ],
)
def test_another_file_is_one_problem(content: bytes, clause: str) -> None:
    parsed = parse(content)
    assert [(p.line, p.reason) for p in parsed.problems] == [(None, "not_dota")]
    assert clause in parsed.problems[0].detail


def test_without_its_image_a_file_has_no_rows() -> None:
    parsed = parse(SHIP + b"\n" + SHIP, size=None)
    assert [(p.line, p.reason, p.rows) for p in parsed.problems] == [(None, "no_size", 2)]
    assert (parsed.rows.num_rows, parsed.states) == (0, [LabelState.CORRUPT])
    assert parse(HEADER, size=None).states == [LabelState.EMPTY]


@pytest.mark.parametrize(
    ("rows", "labels", "format_"),
    [
        (HEADER + SHIP, "train/labelTxt", "dota"),
        (HEADER + SHIP, "train/labels", "dota"),
        (b"0 0.5 0.5 0.2 0.2\n", "train/labels", "yolo"),
        (b"0 .1 .1 .2 .1 .2 .2 .1 .2\n", "train/labels", "yolo"),
        (b"", "train/labels", "yolo"),
        (b"0 0.5 0.5 0.2 abc\n", "train/labels", "yolo"),
    ],
)
def test_the_format_of_a_folder_is_the_one_that_reads_its_label_files(
    rows: bytes, labels: str, format_: str, tmp_path: Path
) -> None:
    Image.new("L", (200, 100)).save(write_file(tmp_path / "train/images/a.png", b""))
    write_file(tmp_path / labels / "a.txt", rows)
    write_file(tmp_path / "classes.txt", "ship\n")
    assert dataset(str(tmp_path), str(tmp_path / "work"))["source"]["format"] == format_


@pytest.mark.parametrize(
    ("labels", "images"),
    [
        ("{}/labelTxt", "{}/images"),
        ("labelTxt/{}", "images/{}"),
        ("annfiles/{}", "images/{}"),
        ("labelTxt/{}", "JPEGImages/{}"),
        ("labels/{}", "images/{}"),
    ],
)
def test_splits_are_found_on_either_side_of_the_folder_of_label_files(
    labels: str, images: str, run: Run, tmp_path: Path
) -> None:
    for split, stem in (("train", "a"), ("train", "b"), ("val", "c")):
        Image.new("L", (200, 100)).save(write_file(tmp_path / "in" / images.format(split) / f"{stem}.png", b""))
        write_file(tmp_path / "in" / labels.format(split) / f"{stem}.txt", HEADER + SHIP)
    words = ["--to", "yolo", "--task", "obb", "--workdir", tmp_path / "w", "--json"]
    made = run("convert", tmp_path / "in", tmp_path / "out", *words).json
    assert {split: counts["objects"] for split, counts in made["subset"].items()} == {
        "train": {"ship": 2},
        "val": {"ship": 1},
    }


def test_the_task_that_keeps_angles_is_named(run: Run, tmp_path: Path) -> None:
    """An upright box loses nothing, and COCO JSON has the corners."""
    Image.new("L", (200, 100)).save(write_file(tmp_path / "in/train/images/a.png", b""))
    write_file(tmp_path / "in/train/labelTxt/a.txt", SHIP + b"\n1 2 11 2 11 9 1 9 ship 0\n")
    said = "1 oriented box, of which the upright box around it is taken; task obb keeps its angle."
    for to, words, heard in (("yolo", [], True), ("yolo", ["--task", "obb"], False), ("coco", [], False)):
        target = tmp_path / f"out-{to}{len(words)}"
        told = run("convert", tmp_path / "in", target, "--to", to, *words, "--workdir", tmp_path / "w")
        assert (said in told.out, "upright" in told.out) == (heard, heard)


_number = st.one_of(
    st.integers(-50, 300).map(str), st.floats(-50, 300).map(repr), st.sampled_from(["x", "nan", "1e400"])
)


@given(
    st.lists(st.tuples(st.lists(_number, min_size=8, max_size=8), st.sampled_from(["ship", "a-b", "é"])), max_size=6)
)
def test_rows_are_those_of_a_slow_reading(rows: list[tuple[list[str], str]]) -> None:
    parsed = parse("\n".join(f"{' '.join(numbers)} {label} 1" for numbers, label in rows).encode())
    bad = [n for n, (numbers, _) in enumerate(rows, 1) if not all(map(_is_coordinate, numbers))]
    assert [p.line for p in parsed.problems] == bad
    found = {row["line"]: row for row in parsed.rows.to_pylist()}
    assert set(found) == set(range(1, len(rows) + 1)) - set(bad)
    for number, row in found.items():
        numbers, label = rows[number - 1]
        assert row["label"] == label
        assert json.loads(row["raw"])["segmentation"] == [list(map(float, numbers))]
        if row["loss"] is None:
            corners = np.array(numbers, float).reshape(4, 2) / (200, 100)
            assert np.allclose(np.array(row["tail"].split(), float).reshape(4, 2), corners, rtol=0, atol=6e-7)


def _is_coordinate(text: str) -> bool:
    try:
        return abs(float(text)) <= 1e9
    except ValueError:
        return False
