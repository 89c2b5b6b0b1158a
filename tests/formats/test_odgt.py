"""CrowdHuman's .odgt: which box of a person becomes a row, and what is to be ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.base.terms import Task
from pipeline.formats import FileOutline, Malformed, Parsed, Part, odgt
from pipeline.formats._image_names import ImageNames
from pipeline.images.header import Picture
from pipeline.tables.schema import LabelState
from tests.conftest import Run
from tests.support.helpers import PROJECT, write_file

REAL = (PROJECT / "tests/formats/real/crowdhuman.odgt").read_bytes()
SIZES = [(800, 1067), (1600, 1200)]


def outline(text: bytes, names: Sequence[str] | None = None, size: int = 1000) -> FileOutline:
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    return odgt.outline(pieces, Task.DETECT, ImageNames(names) if names is not None else None)


def parse(
    text: bytes, options: Mapping[str, Any] | None = None, sizes: Sequence[tuple[int, int] | None] = SIZES
) -> tuple[Parsed, FileOutline]:
    found = outline(text)
    pictures = [Picture(*size) if size is not None else None for size in sizes]
    images = [text[a:b] for a, b in found.images.tolist()]
    part = Part(images, [], found.image_of, found.labels, pictures=lambda some: [pictures[i] for i in some])
    return odgt.parse(part, Task.DETECT, None, options), found


def line(*boxes: Any, **more: Any) -> bytes:
    return json.dumps({"ID": "a", "gtboxes": list(boxes), **more}).encode() + b"\n"


def person(*xywh: Any, **more: Any) -> dict[str, Any]:
    return {"tag": "person", "fbox": list(xywh), "vbox": list(xywh), "hbox": list(xywh), "extra": {}, **more}


@pytest.mark.parametrize(("box", "key"), [("full", "fbox"), ("visible", "vbox"), ("head", "hbox")])
def test_real_boxes_are_those_of_their_kind(box: str, key: str) -> None:
    parsed, found = parse(REAL, {"box": box})
    assert (found.stems, found.paths) == (
        ["273271,c9db000d5146c15", "273271,1f249000e0cb4b12"],
        ["273271,c9db000d5146c15.jpg", "273271,1f249000e0cb4b12.jpg"],
    )
    expected = []
    for data, (width, height) in zip(map(json.loads, REAL.splitlines()), SIZES, strict=True):
        for one in data["gtboxes"]:
            x, y, w, h = one[key]
            left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
            centre = (left + right) / 2 / width, (top + bottom) / 2 / height
            values = *centre, (right - left) / width, (bottom - top) / height
            expected.append(None if one["tag"] == "mask" else "".join(f" {v:.6f}" for v in values).encode())
    assert parsed.rows["tail"].to_pylist() == expected
    assert parsed.rows["loss"].to_pylist().count("crowd") == 1
    assert (found.names["names"], set(parsed.rows["label"].to_pylist())) == (["person"], {"person"})
    assert (parsed.problems, parsed.states) == ([], [LabelState.FOUND] * 2)


def test_all_of_a_person_goes_along_to_coco_json() -> None:
    parsed, _ = parse(REAL)
    first, *_, last = (json.loads(raw) for raw in parsed.rows["raw"].to_pylist())
    assert first["bbox"] == first["fbox"] == [72, 202, 163, 503]
    assert (first["hbox"], first["extra"], first["iscrowd"]) == ([171, 208, 62, 83], {"box_id": 0, "occ": 0}, 0)
    assert (last["iscrowd"], last["bbox"]) == (1, [697, 415, 78, 160])


@pytest.mark.parametrize(
    ("box", "options", "loss"),
    [
        (person(10, 10, 20, 20, extra={"occ": 1}), {}, "occluded"),
        (person(10, 10, 20, 20, extra={"ignore": 1}), {}, "crowd"),
        (person(10, 10, 20, 20, extra={"ignore": 1}), {"crowd": "keep"}, "attributes"),
        (person(10, 10, 20, 20, extra={"ignore": 1}), {"box": "head"}, "attributes"),
        (person(10, 10, 20, 20, head_attr={"ignore": 1}), {"box": "head"}, "crowd"),
        (person(10, 10, 20, 20, extra=None), {}, "attributes"),
        (person(10, 10, 20, 20, tag="mask"), {"crowd": "keep"}, "crowd"),
        (person(-50, 10, 70, 20), {}, "clipped"),
        (person(-50, 10, 40, 20), {}, "outside"),
        (person(10, 10, 0, 20), {}, "zero_area"),
        (person(10, 10, "20", 20.5), {}, "attributes"),
        ({"tag": "person", "fbox": [10, 10, 20, 20]}, {}, None),
    ],
)
def test_what_becomes_of_a_box(box: Any, options: Any, loss: str | None) -> None:
    parsed, _ = parse(line(box), options, [(100, 100)])
    (row,) = parsed.rows.to_pylist()
    assert (row["loss"], row["tail"] is None) == (loss, loss in ("crowd", "outside", "zero_area"))
    assert (row["raw"] is None) == (loss in ("outside", "zero_area"))


@pytest.mark.parametrize(
    "box", [7, {}, {"tag": "person"}, person(1, 2, 3), person(1, 2, 3, "x"), person(1, 2, 3, 4, tag=None)]
)
def test_a_bad_box_is_counted_and_the_others_are_read(box: Any) -> None:
    parsed, _ = parse(line(person(10, 10, 20, 20), box), None, [(100, 100)])
    (problem,) = parsed.problems
    assert (problem.reason, problem.rows, parsed.rows.num_rows) == ("bad_box", 1, 1)
    assert problem.detail.startswith("box 2 of the image has no ")


def test_the_size_is_that_of_the_image_or_of_the_line() -> None:
    parsed, _ = parse(line(person(10, 10, 20, 20), width=200, height=100), None, [None])
    assert parsed.rows["tail"].to_pylist() == [b" 0.100000 0.200000 0.100000 0.200000"]
    parsed, _ = parse(line(person(10, 10, 20, 20), width=200, height=100), None, [(100, 50)])  # made smaller since
    assert (parsed.rows["tail"].to_pylist(), parsed.rows["loss"].to_pylist()) == (
        [b" 0.100000 0.200000 0.100000 0.200000"], ["resized"])  # fmt: skip
    parsed, _ = parse(line(person(10, 10, 20, 20), width=200, height=100), None, [(70, 50)])
    assert [p.reason for p in parsed.problems] == ["size_differs"]
    parsed, _ = parse(line(person(10, 10, 20, 20)), None, [None])
    assert [(p.reason, p.rows) for p in parsed.problems] == [("no_size", 1)]
    assert parsed.states == [LabelState.CORRUPT]


def test_other_tags_are_classes_of_their_own() -> None:
    parsed, found = parse(line(person(1, 1, 9, 9, tag="rider")), None, [(100, 100)])
    assert (found.names["names"], parsed.rows["label"].to_pylist()) == (["person", "rider"], ["rider"])


def test_a_line_that_is_no_image_is_counted() -> None:
    found = outline(REAL + b"{\n" + b'{"ID": "b"}\n' + REAL.splitlines()[0] + b"\n")
    assert [(reason, lost) for _, reason, _, lost in found.problems] == [
        ("bad_line", 0), ("bad_line", 0), ("image_twice", 6)]  # fmt: skip
    assert len(found.stems) == 2


@pytest.mark.parametrize(
    ("text", "clause"),
    [(b"", "is empty"), (b"a,b\n", "is no .odgt file"), (b"\xff\xfe{", "UTF-16"), (b"[]", "no .odgt")],
)
def test_what_is_no_such_file(text: bytes, clause: str) -> None:
    with pytest.raises(Malformed, match=clause):
        outline(text)


def test_images_are_found_by_their_id() -> None:
    found = outline(REAL, names=["Images/273271,c9db000d5146c15.jpg", "273271,1f249000e0cb4b12.png"])
    assert found.paths == ["Images/273271,c9db000d5146c15.jpg", "273271,1f249000e0cb4b12.png"]


NUMBER = st.integers(-50, 150)


@given(st.lists(st.tuples(NUMBER, NUMBER, st.integers(0, 99), st.integers(0, 99)), max_size=8), st.integers(1, 99))
def test_rows_are_boxes_within_the_image(boxes: list[tuple[int, int, int, int]], size: int) -> None:
    text = line(*(person(*box) for box in boxes))
    assert outline(text, size=size).images.tolist() == [[0, len(text) - 1]]
    parsed, _ = parse(text, None, [(100, 80)])
    assert parsed.rows["line"].to_pylist() == [*range(1, len(boxes) + 1)]
    for (x, y, w, h), row in zip(boxes, parsed.rows.to_pylist(), strict=True):
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, 100), min(y + h, 80)
        assert (row["tail"] is not None) == (right > left and bottom > top)
        if row["tail"] is not None:
            cx, cy, wide, high = map(float, row["tail"].split())
            assert cx * 100 == pytest.approx((left + right) / 2, abs=1e-4)
            assert cy * 80 == pytest.approx((top + bottom) / 2, abs=1e-4)
            assert (wide * 100, high * 80) == pytest.approx((right - left, bottom - top), abs=1e-4)


def test_a_download_is_converted(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "CrowdHuman"
    for split, text, size in zip(("train", "val"), REAL.splitlines(), SIZES, strict=True):
        write_file(root / f"annotation_{split}.odgt", text + b"\n")
        (root / "Images").mkdir(exist_ok=True)
        Image.new("L", size).save(root / "Images" / f"{json.loads(text)['ID']}.jpg")
    run("convert", root, tmp_path / "out", "--from", "odgt", "--to", "coco")
    data = json.loads((tmp_path / "out/annotations/instances_val.json").read_text())
    assert [one["iscrowd"] for one in data["annotations"]] == [0, 0, 0, 0, 1]
    assert data["annotations"][3]["bbox"] == [-120, 158, 552, 1596]
    assert [(image["width"], image["height"]) for image in data["images"]] == [(1600, 1200)]
