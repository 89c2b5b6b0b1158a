"""Separators within values: what splits numbers, lines or records decides about nothing where a value holds it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.base.terms import Task
from pipeline.formats import FileOutline, Parsed, cvat, odgt
from pipeline.formats._image_names import ImageNames
from pipeline.formats._records import ImageRecord, outline_of
from tests.formats import (
    test_coco,
    test_cvat,
    test_dota,
    test_isat,
    test_labelme,
    test_labelstudio,
    test_ndjson,
    test_odgt,
    test_openimages,
    test_voc,
    test_yolo,
)

#: A number as text, or what looks like it: digits with what separates numbers in one format or another.
DIGITS = st.sampled_from(["1", "5", "10", "0.25", ".25", "7.5", "", "x"])
BLANKS = " \t\n"


def texts(separators: str) -> st.SearchStrategy[str]:
    """One to three numbers with separators between and around them."""
    between = st.sampled_from([*separators, "", separators[:2]])
    return st.lists(st.tuples(between, DIGITS, between), min_size=1, max_size=3).map(
        lambda some: "".join("".join(one) for one in some)
    )


def as_float(text: str) -> float | None:
    """The slow reference: what Python takes a text for."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def boxes(kind: str) -> Callable[[str], Parsed]:
    """An image with two objects in a format; a number of the first is the given text."""

    def parse(text: str) -> Parsed:
        if kind == "voc":
            return test_voc.parse(
                test_voc.xml(test_voc.boxed(corners=(text, 11, 50, 30)), test_voc.boxed("dog", (1, 2, 9, 9)))
            )
        if kind == "dota":
            return test_dota.parse(f"{text} 1 20 1 20 9 2 9 cat 0\n1 1 20 1 20 9 1 9 dog 0\n".encode())
        if kind == "yolo":
            return test_yolo.parse(f"0 0.5 0.5 0.5 {text}\n1 0.5 0.5 0.25 0.25\n".encode())
        if kind == "isat":
            points = [[text, 10], *test_isat.SQUARE[1:]]
            return test_isat.parse(test_isat.document(test_isat.one(points=points), test_isat.one("dog", 2)))
        if kind == "labelme":
            shapes = [test_labelme.shape("cat", [[text, 1], [30, 1], [30, 20]])]
            return test_labelme.parse(test_labelme.file(*shapes, test_labelme.shape("dog", [[1, 1], [9, 1], [9, 9]])))
        if kind == "labelstudio":
            region = test_labelstudio.region(x=text, y=20, width=30, height=40, rotation=0)
            dog = test_labelstudio.region(label="dog", number="r2", x=10, y=20, width=30, height=40, rotation=0)
            return test_labelstudio.parse([test_labelstudio.task(region, dog)])[0]
        if kind == "ndjson":
            rows = [[0, 0.5, 0.5, 0.5, text], [1, 0.5, 0.5, 0.25, 0.25]]
            return test_ndjson.parse(test_ndjson.document(test_ndjson.image(annotations={"boxes": rows})))[0]
        if kind == "odgt":
            things: list[Any] = [
                {"tag": tag, "fbox": box, "extra": {}} for tag, box in (("cat", [text, 1, 9, 9]), ("dog", [1] * 4))
            ]
            line = json.dumps({"ID": "a", "width": 100, "height": 50, "gtboxes": things}).encode()
            assert odgt.outline([line], Task.DETECT).stems == ["a"]
            return test_odgt.parse(line + b"\n", sizes=[(100, 50)])[0]
        if kind == "openimages":
            lines = [
                test_openimages.HEAD,
                f"a,xclick,/m/1,1,{text},0.9,0.1,0.9,0,0,0,0,0",
                "a,xclick,/m/2,1,0,1,0,1,0,0,0,0,0",
            ]
            return test_openimages.parse("\n".join(lines).encode())[0]
        raise AssertionError(kind)

    return parse


def tails(parsed: Parsed) -> list[bytes]:
    return [tail for tail in parsed.rows["tail"].to_pylist() if tail is not None]


@pytest.mark.parametrize(
    ("kind", "separators"),
    [
        *((kind, ",;" + BLANKS) for kind in ("voc", "isat", "labelme", "labelstudio", "ndjson", "odgt")),
        *(
            (kind, ",;") for kind in ("dota", "yolo", "openimages")
        ),  # in which blanks or lines separate by their grammar
    ],
)
def test_a_number_that_holds_a_separator_is_no_other_number(kind: str, separators: str) -> None:
    parse = boxes(kind)

    @given(texts(separators))
    @example("1,5")
    @example("1;5")
    @example("0 .25" if " " in separators else "1,,5")
    def check(text: str) -> None:
        value, found = as_float(text), parse(text)
        if value is not None:
            plain = parse(repr(value))
            assert found.rows["cx"].to_pylist() == plain.rows["cx"].to_pylist()
            assert len(found.problems) == len(plain.problems)
        else:
            assert len(tails(found)) == 1, text
            assert tails(found) == tails(parse("x"))

    check()
    assert len(tails(parse("0.25"))) == 2


@pytest.mark.parametrize(("task", "field"), [(Task.DETECT, "bbox"), (Task.SEGMENT, "segmentation")])
@given(text=texts(",;" + BLANKS))
@example(text="1,5")
@example(text="1 5")
def test_numbers_of_coco_json_as_text(task: Task, field: str, text: str) -> None:
    given_ = {"bbox": [text, 10, 20, 20], "segmentation": [[text, *test_coco.SQUARE[1:]]]}[field]
    rows, problems, _ = test_coco.parse(test_coco.document(test_coco.annotation(**{field: given_})), task)
    if (value := as_float(text)) is not None:
        plain = {"bbox": [value, 10, 20, 20], "segmentation": [[value, *test_coco.SQUARE[1:]]]}[field]
        again, _, _ = test_coco.parse(test_coco.document(test_coco.annotation(**{field: plain})), task)
        assert [row["tail"] for row in rows] == [row["tail"] for row in again]
    else:
        assert [row["tail"] for row in rows if row["tail"]] == []
        assert len(problems) == 1


ATTRIBUTES = {
    "box": ("xtl", "ytl", "xbr", "ybr"),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "mask": ("left", "top", "width", "height"),
}


@given(
    st.lists(
        st.tuples(st.sampled_from([*ATTRIBUTES]), st.lists(st.none() | texts(",; "), min_size=4, max_size=4)),
        min_size=1,
        max_size=3,
    )
)
@example([("box", ["1,5", "10,5", "30,5", "40,5"])])
@example([("box", ["1,5", "10", "30", None]), ("ellipse", ["1;5", "", "3", "4"])])
@example([("box", ["1 5", "10", "30", "40"])])
def test_attributes_of_cvat_are_numbers_each_by_itself(shapes: list[tuple[str, list[str | None]]]) -> None:
    written, wanted = [], []
    for number, (kind, given_) in enumerate(shapes, 1):
        said = " ".join(f"{n}={quoteattr(v)}" for n, v in zip(ATTRIBUTES[kind], given_, strict=True) if v is not None)
        written.append(f'<{kind} label="cat" rle="0,1" {said}/>')
        bad = [(n, v) for n, v in zip(ATTRIBUTES[kind], given_, strict=True) if v is None or as_float(v) is None]
        if bad:
            wanted.append((number, "numbers", f" no {bad[0][0]}," if bad[0][1] is None else f" the {bad[0][0]} "))
    parsed = test_cvat.parse(test_cvat.document(test_cvat.image(*written, test_cvat.BOX)))
    told = [p for p in parsed.problems if p.reason == "numbers"]
    for problem, (number, _, said) in zip(told, wanted, strict=True):
        assert f"shape {number} (" in problem.detail
        assert said in problem.detail
    good = set(range(1, len(shapes) + 1)) - {number for number, _, _ in wanted}
    lines = parsed.rows["line"].to_pylist()
    assert set(lines) - {len(shapes) + 1} <= good
    assert lines[-1] == len(shapes) + 1
    for number in set(lines) & good:
        kind, values = shapes[number - 1]
        if kind == "box":
            x1, y1, x2, y2 = (float(v or "") for v in values)
            row = parsed.rows.to_pylist()[lines.index(number)]
            raw = json.loads(row["raw"]) if row["raw"] else None
            if raw is not None:
                assert raw["segmentation"] == [[x1, y1, x2, y1, x2, y2, x1, y2]]


@given(st.lists(st.lists(texts(",;"), min_size=1, max_size=3).map(",".join), min_size=3, max_size=5))
@example(["10,5,12,5", "30,5,12,5", "30,5,40,5", "10,5,40,5"])
@example(["1,2,3", "4", "5,6"])
@example(["1,2", "3 4", "5,6"])
def test_points_of_cvat_are_two_numbers_each(points: list[str]) -> None:
    text = ";".join(points)
    parsed = test_cvat.parse(test_cvat.document(test_cvat.image(f"<polygon label='cat' points={quoteattr(text)}/>")))
    pairs = [[as_float(one) for one in pair.split(",")] for pair in text.strip().strip(";").split(";")]
    good = all(len(pair) == 2 and None not in pair for pair in pairs)
    assert [p.reason for p in parsed.problems] == ([] if good and len(pairs) > 2 else ["points"])
    raws = [json.loads(raw)["segmentation"] for raw in parsed.rows["raw"].to_pylist() if raw]
    inside = good and all(0 <= x <= 100 and 0 <= y <= 50 for x, y in pairs)  # type: ignore[operator]
    if inside and raws:
        assert raws == [[[v for pair in pairs for v in pair]]]


NAMES = ["a.jpg", "b.jpg", "x/a.jpg", "", "c.png"]


def told(found: FileOutline) -> Any:
    problems = [(said, reason, count) for said, reason, _, count in found.problems]
    return found.images.tolist(), found.paths, found.stems, problems


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["line 1", "line 2"])), max_size=8),
    st.booleans(),
)
@example([("a.jpg", "line 1"), ("a.jpg", "line 1")], False)
def test_where_a_record_is_said_to_be_decides_about_nothing(given_: Sequence[tuple[str, str]], listed: bool) -> None:
    names = ImageNames(["a.jpg", "x/a.jpg", "y/b.jpg"]) if listed else None
    records = [(ImageRecord(i, i + 1, where, name), b"x") for i, (name, where) in enumerate(given_)]
    unique = [(ImageRecord(i, i + 1, f"record {i}", name), b"x") for i, (name, _) in enumerate(given_)]
    found = outline_of(records, names, len)
    assert told(found) == told(outline_of(unique, names, len))
    assert len({*found.paths} - {""}) == len([path for path in found.paths if path])
    for _, reason, clause, _ in found.problems:
        assert reason != "image_twice" or "is of the image of" in clause


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["", " ", "\n", "\r\n\t"])), min_size=1, max_size=6))
@example([("a.jpg", ""), ("a.jpg", "")])
def test_white_space_between_images_of_cvat_decides_about_nothing(given_: list[tuple[str, str]]) -> None:
    images = [test_cvat.image(test_cvat.BOX, name=name).replace("\n", "") for name, _ in given_]
    head = "<annotations><meta><task><labels><label><name>cat</name></label></labels></task></meta>"
    text = head + "".join(one + blank for one, (_, blank) in zip(images, given_, strict=True)) + "</annotations>"
    lines = head + "\n".join(images) + "</annotations>"
    found, other = (cvat.outline([document.encode()], Task.DETECT) for document in (text, lines))
    assert told(found)[1:] == told(other)[1:]
