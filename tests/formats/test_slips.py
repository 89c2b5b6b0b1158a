"""A mistake in one element of a large JSON is said where it is, whatever follows from it."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from pipeline.base.terms import Task
from pipeline.formats import Malformed, coco, labelstudio, ndjson, odgt

_PLACE = re.compile(r"line (\d+), (?:is not JSON: .* \()?character (\d+)")

OBJECTS = [{"id": i, "image_id": 1, "category_id": 1, "bbox": [10, 1.5, 20, 20], "note": 'é, "\\'} for i in (1, 2, 3)]

DATASET: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "ü.jpg", "width": 100, "height": 80}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": OBJECTS,
}


def told_of(text: bytes, step: int) -> list[str]:
    """All that is said of a COCO JSON."""
    try:
        found = coco.outline((text[i : i + step] for i in range(0, len(text), step)), Task.DETECT)
    except Malformed as error:
        return [f"line {error.line or 1}, {error}"]
    return [detail for _, _, detail, _ in found.problems]


def place_of(text: str) -> tuple[int, int] | None:
    """Line and character of the first mistake as Python's reader has it."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.lineno, error.colno
    return None


SLIPS = ["\t", "0", "+", ",", "'", "}", "]", "x", "\n", "\\", '"', "", ":"]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("step", [5, 64, 1 << 20])
def test_a_slip_is_where_pythons_reader_finds_it(indent: int | None, step: int) -> None:
    whole = json.dumps(DATASET, indent=indent, ensure_ascii=indent is None)
    begin, stop = whole.index('"bbox"'), whole.rindex("note")
    rng = random.Random(step)
    placed = 0
    for _ in range(400):
        at = rng.randrange(begin, stop)
        text = whole[:at] + rng.choice(SLIPS) + whole[at + rng.randrange(2) :]
        wanted = place_of(text)
        if wanted is not None:
            said = told_of(text.encode(), step)
            assert said
            assert "no image_id" not in said[0]
            place = _PLACE.search(said[0])
            assert place is None or (int(place[1]), int(place[2])) == wanted, (text, said)
            placed += place is not None
    assert placed > 150


@pytest.mark.parametrize(
    ("element", "clause"),
    [
        ('{"image_id": 1, "note": "a\tb"}', "a tab or a line break in a text"),
        ('{"image_id": 1, "bbox": [010]}', "a comma or a bracket is missing"),
        ('{"image_id": 1, "bbox": [+20]}', "a value is missing"),
        ('{"image_id": 1 "bbox": []}', "a comma or a bracket is missing"),
        ('{"image_id": 1,}', "a key in double quotes is missing"),
        ('{"image_id": "\\x"}', "a backslash that stands for nothing"),
        ("null", "is null, no object"),
        ("7", "is 7, no object"),
        ('"a"', 'is "a", no object'),
        ("[1]", "is [1], no object"),
    ],
)
@pytest.mark.parametrize("member", ["images", "annotations"])
def test_what_is_wrong_with_an_element_is_said(element: str, clause: str, member: str) -> None:
    good = json.dumps(DATASET[member][0])
    others = {name: value for name, value in DATASET.items() if name != member}
    text = f'{json.dumps(others)[:-1]},\n"{member}": [\n{good},\n{element}]}}'
    said = [one for one in told_of(text.encode(), 1 << 20) if one.startswith(f"{member}[1] ")]
    assert len(said) == 1
    assert clause in said[0]
    assert "line 4" in said[0]


def test_a_mistake_that_hides_the_end_is_said() -> None:
    """A brace too few goes on to the end of the file; what is told is where it lacks."""
    text = json.dumps(DATASET).replace('20], "note": ', '20, "note": ', 1)
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(text)
    (said,) = told_of(text.encode(), 64)
    assert f"character {caught.value.colno}: " in said


def _tasks(bad: str) -> list[str]:
    good = '{"id": 1, "data": {"image": "a.jpg"}, "annotations": [{"result": []}]}'
    found = labelstudio.outline([f"[{good}, {bad}]".encode()], Task.DETECT, None, None)
    return [detail for _, _, detail, _ in found.problems]


def _ndjson(bad: str) -> list[str]:
    head = '{"type": "dataset", "task": "detect", "class_names": {"0": "cat"}}'
    found = ndjson.outline([f"{head}\n{bad}\n".encode()], Task.DETECT, None, None)
    return [detail for _, _, detail, _ in found.problems]


def _odgt(bad: str) -> list[str]:
    good = '{"ID": "a", "gtboxes": []}'
    found = odgt.outline([f"{good}\n{bad}\n".encode()], Task.DETECT, None, None)
    return [detail for _, _, detail, _ in found.problems]


@pytest.mark.parametrize("read", [_tasks, _ndjson, _odgt])
@pytest.mark.parametrize(
    ("bad", "clause"),
    [
        ("null", "is null, no object"),
        ("[7]", "is [7], no object"),
        ('{"id": 1 "file": 2}', "a comma or a bracket is missing"),
        ('{"id": 010}', "a comma or a bracket is missing"),
    ],
)
def test_other_readers_say_the_same(read: Any, bad: str, clause: str) -> None:
    (said,) = read(bad)
    assert clause in said
    if "character" in said:
        with pytest.raises(json.JSONDecodeError) as caught:
            json.loads(bad)
        before = 0 if read is not _tasks else said.index("task") + 73
        assert f"character {before + caught.value.colno}:" in said
