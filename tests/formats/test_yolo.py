"""YOLO label files: the grammar, and exactness for any bytes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.terms import Task
from pipeline.formats import Parsed, yolo
from pipeline.tables.schema import LabelState
from tests.support.contracts import RowFormatContract
from tests.support.yolo_reference import read, source_lines

DETECT, SEGMENT, POSE, OBB = Task.DETECT, Task.SEGMENT, Task.POSE, Task.OBB
BOX = b"3 0.5 0.5 0.25 0.125"
POLYGON = b"2 0.1 0.1 0.9 0.1 0.5 0.9"
KEYPOINTS = (2, 3)
ORIENTED = b"4 0.3 0.1 0.7 0.3 0.6 0.5 0.2 0.3"
POSE_ROW = b"0 0.5 0.5 0.2 0.2 0.4 0.4 2 0 0 0"


class TestYoloFormat(RowFormatContract):
    name = "yolo"
    keypoints = KEYPOINTS
    samples: ClassVar = {
        DETECT: [BOX + b"\n", BOX + b"\n12 0 0 1 1\n0  0.1\t0.1 0.1 1e-1 \n", POLYGON + b"\n", b" 7 .5 .5 .5 .5\n"],
        SEGMENT: [POLYGON + b"\n" + POLYGON + b" 0.4 8.33333e-05\n"],
        OBB: [ORIENTED + b"\n", ORIENTED + b"\n1 -0.01 0 1.00 0 1 1 0 1e0\n"],
        POSE: [POSE_ROW + b"\n\n".strip() + b"\n" + POSE_ROW + b"\n"],
    }


def parse(content: bytes, task: Task = DETECT, keypoints: tuple[int, int] | None = None) -> Parsed:
    return yolo.parse([content], task, keypoints or (KEYPOINTS if task is POSE else None))


def column(parsed: Parsed, name: str) -> list[object]:
    found: list[object] = parsed.rows[name].to_pylist()
    return found


@pytest.mark.parametrize(
    ("task", "row", "box"),
    [
        (DETECT, BOX, (0.5, 0.5, 0.25, 0.125)),
        (DETECT, POLYGON, (0.5, 0.5, 0.8, 0.8)),
        (SEGMENT, POLYGON, (0.5, 0.5, 0.8, 0.8)),
        (SEGMENT, b"1 0.1 0.2 0.1 0.2 0.1 0.2", (0.1, 0.2, 0.0, 0.0)),
        (POSE, POSE_ROW, (0.5, 0.5, 0.2, 0.2)),
        (OBB, ORIENTED, (0.45, 0.3, 0.5, 0.4)),
        (OBB, b"1 0.1 0.2 0.1 0.2 0.1 0.2 0.1 0.2", (0.1, 0.2, 0.0, 0.0)),
        (DETECT, ORIENTED, (0.45, 0.3, 0.5, 0.4)),
        (DETECT, b"0 -0.01 1.01 1.01 1e-3", (-0.01, 1.01, 1.01, 0.001)),
    ],
)
def test_a_row_and_its_box(task: Task, row: bytes, box: tuple[float, ...]) -> None:
    parsed = parse(row + b"\n", task)
    assert parsed.problems == []
    assert column(parsed, "class_id") == [int(row.split()[0])]
    assert column(parsed, "tail") == [row[1:]]
    assert column(parsed, "n_tokens") == [len(row.split())]
    made = [column(parsed, c)[0] for c in ("cx", "cy", "w", "h")]
    assert np.allclose(np.array(made, float), box, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", []),
        (b"\xef\xbb\xbf", []),
        (b" \t\r\n\n", []),
        (b"\r", []),
        (BOX, [1]),
        (BOX + b"\n", [1]),
        (BOX + b"\r\n", [1]),
        (BOX + b"\r", [1]),
        (b"\xef\xbb\xbf" + BOX + b"\n", [1]),
        (b"\n\n" + BOX, [3]),
        (b"\r\r" + BOX, [3]),
        (b"\r\n\r\n" + BOX, [3]),
        (b"\n\r" + BOX, [3]),
        (BOX + b"\n" + BOX, [1, 2]),
        (BOX + b"\r\n" + BOX, [1, 2]),
        (BOX + b"\r" + BOX + b"\r", [1, 2]),
        (BOX + b"\r\r\n" + BOX, [1, 3]),
        (BOX + b"\n  \n\t\n" + BOX + b"\n\n", [1, 4]),
    ],
)
def test_line_ends_and_blank_lines(content: bytes, lines: list[int]) -> None:
    parsed = parse(content)
    assert parsed.problems == []
    assert column(parsed, "line") == lines
    assert column(parsed, "tail") == [BOX[1:]] * len(lines)
    assert parsed.states == [LabelState.FOUND if lines else LabelState.EMPTY]


def test_files_of_a_batch_do_not_touch() -> None:
    files = [BOX + b"\r", b"\n" + BOX, b"", b"\xef\xbb\xbf", b"\n\n", BOX + b"\r\n", BOX]
    rows = yolo.parse(files, DETECT, None).rows
    places = list(zip(rows["file"].to_pylist(), rows["line"].to_pylist(), strict=True))
    assert places == [(0, 1), (1, 2), (5, 1), (6, 1)]
    assert set(rows["tail"].to_pylist()) == {BOX[1:]}


@pytest.mark.parametrize(
    ("row", "head", "class_id", "tail"),
    [
        (b"  3 0.5 0.5 0.5 0.5", b"  ", 3, b" 0.5 0.5 0.5 0.5"),
        (b"\t3\t0.5 \t0.5  0.5 0.5 \t", b"\t", 3, b"\t0.5 \t0.5  0.5 0.5 \t"),
        (b"1.0 0.5 0.5 0.5 0.5", None, 1, b" 0.5 0.5 0.5 0.5"),
        (b"+7 +.5 5.e-1 1E-2 00.5", None, 7, b" +.5 5.e-1 1E-2 00.5"),
        (b"007 0.500000 0.5 0.5 0.5", None, 7, b" 0.500000 0.5 0.5 0.5"),
        (b"1e1 0.5 0.5 0.5 0.5", None, 10, b" 0.5 0.5 0.5 0.5"),
    ],
)
def test_every_byte_but_the_class_is_kept(row: bytes, head: bytes | None, class_id: int, tail: bytes) -> None:
    parsed = parse(row + b"\r\n")
    assert (column(parsed, "head"), column(parsed, "class_id"), column(parsed, "tail")) == ([head], [class_id], [tail])
    made = yolo.render(
        parsed.rows["head"].combine_chunks(), pa.array([42], pa.int32()), parsed.rows["tail"].combine_chunks()
    )
    assert made.to_pylist() == [(head or b"") + b"42" + tail + b"\n"]


PROBLEMS: list[tuple[Task, bytes, str, str]] = [
    (DETECT, b"0 0.5 0.5 0.5 abc", "not_a_number", "'abc' is not a number"),
    (DETECT, b"person 0.5 0.5 0.5 0.5", "not_a_number", "'person' is not a number"),
    (DETECT, b"0 0,5 0,5 0,5 0,5", "not_a_number", "'0,5'"),
    (DETECT, b"0 1_0 0.5 0.5 0.5", "not_a_number", "'1_0'"),
    (DETECT, b"0 0x1 0.5 0.5 0.5", "not_a_number", "'0x1'"),
    (DETECT, b"0 0.5 0.5 0.5 0.5\0", "not_a_number", "is not a number"),
    (DETECT, b"0 0.5 0.5 0.5 \xb00.5", "not_a_number", "\\\\xb0"),
    (DETECT, b"0 0.5\x0b0.5 0.5 0.5", "not_a_number", "is not a number"),
    (DETECT, b"0 0.5 0.5 0.5 0.5\x0b", "not_a_number", "is not a number"),
    (DETECT, b"0 0.5 0.5 0.5 0.5\x0c", "not_a_number", "is not a number"),
    (DETECT, b"0\xc2\xa00.5 0.5 0.5 0.5 0.5", "not_a_number", "is not a number"),
    (DETECT, b"0 0.5 0.5 0.5 \x0c0.5", "not_a_number", "is not a number"),  # trainers break the line there
    (DETECT, b"0", "tokens", "1 token '0' looks like a row cut short; task detect takes a box"),
    (DETECT, b"0 0.5 0.5 0.5", "tokens", "4 tokens '0 0.5 0.5 0.5' look like a row cut short"),
    (DETECT, b"0 0.5 0.5 0.5 0.5 0.9", "tokens", "a box with a confidence"),
    (DETECT, b"0 .1 .1 .2 .2 .3 .3 .4", "tokens", "a polygon with an odd number of coordinates"),
    (SEGMENT, BOX, "tokens", "look like a box; task segment takes a polygon"),
    (SEGMENT, b"0 .1 .1 .2 .2 .3 .3 .4", "tokens", "a polygon with an odd number"),
    (POSE, BOX, "tokens", "look like a box; task pose takes 11 tokens (kpt_shape [2, 3])"),
    (POSE, POLYGON, "tokens", "look like a polygon or a pose row"),
    (DETECT, b"0 nan 0.5 0.5 0.5", "not_finite", "'nan' is not a finite number"),
    (DETECT, b"0 inf 0.5 0.5 0.5", "not_finite", "'inf' is not a finite number"),
    (DETECT, b"0 0.5 0.5 0.5 -Infinity", "not_finite", "is not a finite number"),
    (DETECT, b"0 1e999 0.5 0.5 0.5", "not_finite", "'1e999'"),
    (DETECT, b"nan 0.5 0.5 0.5 0.5", "not_finite", "'nan'"),
    (DETECT, b"-1 0.5 0.5 0.5 0.5", "negative_class", "class '-1' is negative"),
    (DETECT, b"1.5 0.5 0.5 0.5 0.5", "class_not_integer", "class '1.5' is not a whole number"),
    (DETECT, b"1e9 0.5 0.5 0.5 0.5", "class_not_integer", "class '1e9'"),
    (DETECT, b"0 320 240 64 48", "out_of_range", "'320' is not within 0 and 1"),
    (DETECT, b"0 0.5 0.5 0.5 1.0101", "out_of_range", "'1.0101'"),
    (DETECT, b"0 -0.0101 0.5 0.5 0.5", "out_of_range", "'-0.0101'"),
    (DETECT, b"0 .1 .1 .2 .2 .3 1.2", "out_of_range", "'1.2'"),
    (DETECT, b"0 .5 .5 .2 .2 .9", "tokens", "a box with a confidence or a track's number"),
    (SEGMENT, b"0 .1 .1 .2 .2 .3 -1", "out_of_range", "'-1'"),
    (POSE, b"0 .5 .5 .2 .2 4 .4 2 0 0 0", "out_of_range", "'4'"),
    (OBB, BOX, "tokens", "look like a box; task obb takes the four corners of an oriented box (9 tokens)"),
    (OBB, POLYGON, "tokens", "look like a polygon or a pose row; task obb takes"),
    (OBB, b"0 .5 .5 .2 .1 1.57", "tokens", "a box with an angle, whose corners are to be written"),
    (OBB, ORIENTED + b" .9", "tokens", "an oriented box with a confidence"),
    (OBB, ORIENTED + b" .9 1", "tokens", "with a confidence and a track's number, as predictions have; remove both"),
    (OBB, b"0 .1 .1 .2 .1 .2 .2 .1 1.02", "out_of_range", "'1.02'"),
    (OBB, b"0 .1 .1 .2 .1 .2 .2 .1 nan", "not_finite", "'nan'"),
    (POSE, b"0 .5 .5 .2 .2 .4 .4 -2 0 0 0", "out_of_range", "'-2'"),
    (DETECT, b"0 0.5 0.5 -0.1 0.5", "negative_size", "negative width or height"),
    (DETECT, b"0 0.5 0.5 0.1 -0.001", "negative_size", "negative width or height"),
    (POSE, b"0 .5 .5 -.005 .2 .4 .4 2 0 0 0", "negative_size", "negative width or height"),
]


@pytest.mark.parametrize(("task", "row", "reason", "clause"), PROBLEMS, ids=[f"{t}-{r!r}" for t, r, _, _ in PROBLEMS])
def test_problem_has_line_reason_and_what_it_looks_like(task: Task, row: bytes, reason: str, clause: str) -> None:
    good = {DETECT: BOX, SEGMENT: POLYGON, POSE: POSE_ROW, OBB: ORIENTED}[task]
    if task is DETECT and len(row.split()) > 5:
        good = POLYGON
    parsed = parse(good + b"\n\n" + row + b"\n" + good + b"\n", task)
    assert [(p.file, p.line, p.reason) for p in parsed.problems] == [(0, 3, reason)]
    assert clause in parsed.problems[0].detail
    assert column(parsed, "line") == [1, 4]
    assert parsed.states == [LabelState.FOUND]
    assert parse(row, task).states == [LabelState.CORRUPT]


def test_a_byte_order_mark_is_one_at_the_beginning_alone() -> None:
    parsed = parse(BOX + b"\n\xef\xbb\xbf" + BOX)
    assert [(p.line, p.reason) for p in parsed.problems] == [(2, "not_a_number")]


def test_a_long_row_is_shown_cut() -> None:
    detail = parse(b"0 " + b"0.123456 " * 5001).problems[0].detail
    assert "…" in detail
    assert len(detail) < 300


def test_boxes_and_polygons_in_one_file_are_marked() -> None:
    files = [BOX + b"\n", BOX + b"\n" + POLYGON + b"\n" + BOX + b"\n", POLYGON]
    parsed = yolo.parse(files, DETECT, None)
    assert parsed.problems == []
    assert column(parsed, "file") == [0, 1, 1, 1, 2]
    assert column(parsed, "loss") == [None, "mixed", "mixed", "mixed", None]
    boxes = yolo.parse(files, DETECT, None, {"polygons": "boxes"}).rows
    assert "loss" not in boxes.column_names
    assert set(boxes["n_tokens"].to_pylist()) == {5}
    (line,) = set(boxes["tail"].to_pylist()) - {BOX[1:]}
    assert [float(n) for n in line.split()] == pytest.approx([boxes[c][2].as_py() for c in ("cx", "cy", "w", "h")])


TRACKED = [b"0 0.5 0.5 0.2 0.2 0.9 %d" % n for n in range(1, 5)]
ONE_POINT = [b"0 0.%d 0.5 0.2 0.2 0.%d 0.51" % (n, n) for n in range(3, 8)]
TWO_POINTS = [b"0 0.%d 0.5 0.2 0.2 0.%d 0.45 0.%d 0.55" % (n, n, n) for n in range(3, 8)]
SEEN = [b"0 0.%d 0.5 0.2 0.2 0.%d 0.45 2 0.%d 0.55 1 0 0 0 0.%d 0.5 2" % (n, n, n, n) for n in range(3, 8)]
#: One row of pose alone: of a data set of knees (3 points), of a dog (2, with visibility), a plate, a face, a person.
ONE_OBJECT = [
    b"0 0.61796875 0.25 0.0890625 0.17777777777777778 0.625 0.2972222222222222 0.6015625 0.24722222222222223 "
    b"0.628125 0.2361111111111111",
    b"1 0.3 0.4 0.4 0.5 0.25 0.35 2 0.4 0.45 1",
    b"0 0.7 0.6 0.1 0.05 0.66 0.58 0.74 0.58 0.74 0.62 0.66 0.62",
    b"0 0.5 0.5 0.3 0.4 0.42 0.45 0.58 0.45 0.5 0.52 0.44 0.6 0.56 0.6",
    b"0 0.5 0.5 0.6 0.8 0.5 0.2 0.52 0.18 0.48 0.18 0.55 0.2 0.45 0.2 0.6 0.35 0.4 0.35 0 0 0.35 0.5",
]


@pytest.mark.parametrize(
    ("rows", "task", "reason"),
    [
        (TRACKED, DETECT, "tracks"),
        (TRACKED, SEGMENT, "tracks"),
        (TRACKED[:1], DETECT, "tracks"),
        ([*TRACKED, BOX], DETECT, "tracks"),
        ([POLYGON + b" 0.9 7"], SEGMENT, "tracks"),
        ([POLYGON + b" 0.9 7", POLYGON + b" 0.9 1"], SEGMENT, "tracks"),
        (ONE_POINT, DETECT, "pose"),
        (ONE_POINT, SEGMENT, "pose"),
        (TWO_POINTS, DETECT, "pose"),
        (TWO_POINTS, SEGMENT, "pose"),
        (SEEN, DETECT, "pose"),
        *(([row], task, "pose") for row in ONE_OBJECT for task in (DETECT, SEGMENT)),
    ],
)
def test_rows_of_another_kind_are_no_polygons(rows: list[bytes], task: Task, reason: str) -> None:
    parsed = yolo.parse([b"\n".join(rows)], task, None)
    strange = [row for row in rows if row != BOX]
    assert [(p.line, p.reason) for p in parsed.problems] == [(i + 1, reason) for i in range(len(strange))]
    assert parsed.rows.num_rows == len(rows) - len(strange)


def test_quadrilaterals_in_the_middle_are_no_pose_rows() -> None:
    square = b"0 0.4 0.4 0.45 0.4 0.45 0.45 0.4 0.45"
    on_its_corner = b"0 0.4 0.35 0.45 0.4 0.4 0.45 0.35 0.4"
    parsed = yolo.parse([b"\n".join([square, on_its_corner] * 3)], SEGMENT, None)
    assert (parsed.problems, parsed.rows.num_rows) == ([], 6)


@pytest.mark.parametrize(
    "rows",
    [
        [b"0 0.1 0.2 0.3 0.4 0.5 1"],
        [b"0 0.5 0.5 0.6 0.5 0.55 0.6"],
        [b"0 0.5 0.5 0.53 0.9 0.58 0.5"],
        [b"0 0.1 0.9 0.5 0.9 0.3 0"],
        [b"0 0 0 1 0 1 1 0 1"],
        [
            b"0 0.1 0.1 0.4 0.1 0.4 0.4 0.1 0.4",
            b"0 0.5 0.5 0.9 0.5 0.9 0.9 0.5 0.9",
            b"0 0.2 0.5 0.4 0.5 0.4 0.9 0.2 0.9",
        ],
    ],
    ids=str,
)
def test_polygons_that_begin_or_end_at_the_edge_are_polygons(rows: list[bytes]) -> None:
    for task in (DETECT, SEGMENT):
        assert yolo.parse([b"\n".join(rows)], task, None).problems == []


def test_a_pose_row_is_its_box_where_the_names_say_kpt_shape() -> None:
    rows = b"\n".join([b"7 .5 .5 .2 .2 .4 .4 2 0 0 0", BOX, b" 1 .5 .5 .3 .3 9 .4 2 nan x 0 "])
    parsed = yolo.parse([rows], DETECT, KEYPOINTS)
    assert parsed.problems == []
    assert column(parsed, "tail") == [b" .5 .5 .2 .2", BOX[1:], b" .5 .5 .3 .3"]
    assert column(parsed, "n_tokens") == [5, 5, 5]
    told = yolo.parse([rows], SEGMENT, KEYPOINTS).problems
    assert [p.reason for p in told] == ["pose", "tokens", "pose"]
    assert "kpt_shape [2, 3]" in told[0].detail


def test_every_bad_row_is_told_in_order() -> None:
    parsed = parse(b"x\n0 9 9 9 9\n" + BOX + b"\n-1 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.5 0.5\n")
    assert [(p.line, p.reason) for p in parsed.problems] == [
        (1, "not_a_number"),
        (2, "out_of_range"),
        (4, "negative_class"),
        (5, "tokens"),
    ]
    assert column(parsed, "line") == [3]


def test_keypoints_decide_the_tokens() -> None:
    plain = b"0 0.5 0.5 0.2 0.2 " + b" ".join([b"0.1 0.2"] * 3)
    assert parse(plain, POSE, (3, 2)).problems == []
    assert parse(plain, POSE, (2, 3)).problems == []  # 11 tokens either way: x y x y x y reads as x y v x y v
    assert parse(plain, POSE, (17, 3)).problems[0].reason == "tokens"


_blank = st.sampled_from([b" ", b"  ", b"\t", b" \t "])
_end = st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b" \n", b"\n \n"])
_number = st.one_of(
    st.floats(0, 1).map(lambda x: f"{x:.6f}".encode()),
    st.floats(0, 1).map(lambda x: f"{x:g}".encode()),
    st.sampled_from([b"0", b"1", b"1.0", b"-0.01", b"1.01", b".5", b"5e-1", b"8.33333e-05", b"+0.5", b"-0"]),
)
_odd = st.sampled_from(
    [
        b"nan",
        b"inf",
        b"-1",
        b"2",
        b"1.011",
        b"x",
        b"1_0",
        b"1e400",
        b"1e-400",
        b"0x1",
        b"\xff",
        b"\0",
        b"1e",
        b"\x0b",
        b"0.5\x0c",
        b"\x1c0.5",
        b"-",
        b".",
        b"1.5",
        b"1e6",
        b"1000001",
        b"99999999999",
        b"0.5\xa0",
        b"infinity",
        b"NaN",
        b"nan(1)",
        b"1f",
        b"0.5d",
        b"\xef\xbb\xbf",
    ]
)
_class = st.sampled_from([b"0", b"7", b"79", b"1.0", b"007", b"1e1", b"-0", b"+3", b"0.5", b"-1", b"a"])
_token = st.one_of(_number, _number, _number, _number, _odd)


@st.composite
def _rows(draw: st.DrawFn) -> bytes:
    count = draw(st.sampled_from([4, 4, 4, 6, 8, 10, 5, 3]))
    tokens = [draw(_class), *draw(st.lists(_token, min_size=count, max_size=count))]
    row = b"".join(part for t in tokens for part in (t, draw(_blank)))
    return draw(st.sampled_from([b"", b"", b"", b" ", b"\t"])) + (row if draw(st.booleans()) else row.rstrip(b" \t"))


@st.composite
def _label_files(draw: st.DrawFn) -> bytes:
    body = b"".join(part for _ in range(draw(st.integers(0, 5))) for part in (draw(_rows()), draw(_end)))
    return draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\n"])) + body + draw(st.one_of(st.just(b""), _rows()))


def _check_exact(files: list[bytes], task: Task) -> None:
    parsed = yolo.parse(files, task, KEYPOINTS if task is POSE else None)
    rows = parsed.rows.to_pylist()
    for number, content in enumerate(files):
        expected = read(content, task, KEYPOINTS if task is POSE else None)
        lines = source_lines(content)
        here = [r for r in rows if r["file"] == number]
        told = [p for p in parsed.problems if p.file == number]
        # By its form alone a row of another kind is one of these, too: those have tests of their own.
        strange = {p.line for p in told if p.reason in ("tracks", "pose")}
        assert [(r["line"], r["class_id"], r["head"] or b"", r["tail"], r["n_tokens"]) for r in here] == [
            (r.line, r.class_id, r.head, r.tail, r.count) for r in expected.rows if r.line not in strange
        ]
        assert {p.line for p in told} - strange == set(expected.bad) - strange
        for row in here:
            source, head, tail = lines[row["line"] - 1], row["head"] or b"", row["tail"]
            token = source[len(head) : len(source) - len(tail)]
            assert head + token + tail == source
            assert token == token.strip() == source.split()[0]
            assert float(token) == row["class_id"]


@given(st.lists(_label_files(), max_size=3), st.sampled_from(list(Task)))
def test_rows_agree_with_a_slow_reading(files: list[bytes], task: Task) -> None:
    _check_exact(files, task)


@given(st.lists(st.binary(max_size=60), max_size=3), st.sampled_from(list(Task)))
def test_any_bytes_are_a_problem_or_exact(files: list[bytes], task: Task) -> None:
    _check_exact(files, task)


@given(st.lists(st.text("0123456789.eE+- \t\r\n", max_size=40), max_size=3), st.sampled_from(list(Task)))
def test_any_digits_are_a_problem_or_exact(files: list[str], task: Task) -> None:
    _check_exact([f.encode() for f in files], task)


@given(
    st.lists(st.lists(_number, min_size=4, max_size=4).filter(lambda b: min(map(float, b[2:])) >= 0), max_size=8),
    st.lists(_blank, min_size=4, max_size=4),
    st.sampled_from([b"", b" ", b"\t"]),
)
def test_files_of_good_rows_survive_byte_for_byte(boxes: list[list[bytes]], blanks: list[bytes], head: bytes) -> None:
    rows = [
        head + str(i * 11).encode() + b"".join(map(b"".join, zip(blanks, box, strict=True)))
        for i, box in enumerate(boxes)
    ]
    content = b"".join(row + b"\n" for row in rows)
    parsed = parse(content)
    assert parsed.problems == []
    made = yolo.render(*(parsed.rows[c].combine_chunks() for c in ("head", "class_id", "tail")))
    assert b"".join(made.to_pylist()) == content
