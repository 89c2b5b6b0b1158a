"""ISAT's JSON: groups, crowds, its background, and a real file against ISAT's own export to COCO JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from pipeline.base.terms import Task
from pipeline.formats import Parsed, isat, labelme
from pipeline.images.header import Picture
from tests.formats.test_labelme import file, shape
from tests.support.contracts import FormatContract

REAL = Path(__file__).parent / "real/isat/000000083540.json"
SQUARE = [[10, 10], [50, 10], [50, 40], [10, 40]]
TRIANGLE = [[60, 10], [90, 10], [60, 30]]


def one(category: Any = "cat", group: Any = 1, points: Any = SQUARE, **more: Any) -> dict[str, Any]:
    """An object as ISAT 1.x writes it."""
    plain: dict[str, Any] = {"area": 1.0, "layer": 0.0, "bbox": [0, 0, 1, 1], "iscrowd": False, "note": ""}
    return {"category": category, "group": group, "segmentation": points, **plain, **more}


def document(*objects: Any, **info: Any) -> bytes:
    said = {"description": "ISAT", "folder": "/x", "name": "a.jpg", "width": 100, "height": 50, "depth": 3, "note": ""}
    return json.dumps({"info": {**said, **info}, "objects": list(objects)}).encode()


class TestIsatFormat(FormatContract):
    name = "isat"
    nothing = document()
    samples: ClassVar = {
        task: [REAL.read_bytes(), document(one()), document(one(), one("dog", 2)), b"\xef\xbb\xbf" + document(one())]
        for task in isat.TASKS
    }


def parse(content: bytes, task: Task = Task.SEGMENT, **options: Any) -> Parsed:
    return isat.parse([content], task, None, options)


def rows(content: bytes, task: Task = Task.SEGMENT, **options: Any) -> list[dict[str, Any]]:
    parsed = parse(content, task, **options)
    assert parsed.problems == []
    found: list[dict[str, Any]] = parsed.rows.to_pylist()
    return found


def test_a_real_file_gives_what_isat_exports() -> None:
    """Its `COCO.save_to_coco`: objects of a category in a group are one annotation, with a box around all parts."""
    found = [(row["label"], row["loss"], json.loads(row["raw"])) for row in rows(REAL.read_bytes())]
    assert [(label, loss, len(made["segmentation"])) for label, loss, made in found] == [
        ("person", "attributes", 1),
        ("skis", "joined", 3),
        ("skis", "attributes", 1),
    ]
    objects = json.loads(REAL.read_bytes())["objects"]
    assert found[1][2]["segmentation"] == [np.ravel(o["segmentation"]).tolist() for o in objects[1:4]]
    assert found[1][2]["bbox"] == [291, 405, 460 - 291, 418 - 405]
    assert (found[0][2]["group_id"], found[0][2]["attributes"]) == (1, {"layer": 1.0})


@pytest.mark.parametrize(
    ("task", "numbers"),
    [
        (Task.DETECT, [0.3, 0.5, 0.4, 0.6]),
        (Task.SEGMENT, [0.1, 0.2, 0.5, 0.2, 0.5, 0.8, 0.1, 0.8]),
        (Task.OBB, [0.1, 0.2, 0.5, 0.2, 0.5, 0.8, 0.1, 0.8]),
    ],
)
def test_an_object_is_a_row_of_each_task(task: Task, numbers: list[float]) -> None:
    (row,) = rows(document(one(note="tame")), task)
    assert (row["label"], row["loss"]) == ("cat", "attributes")
    assert rows(document(one()), task)[0]["loss"] is None
    assert np.allclose(np.array(row["tail"].split(), float), numbers)
    assert json.loads(row["raw"])["description"] == "tame"


@pytest.mark.parametrize(
    ("objects", "labels"),
    [
        ([one(), one()], ["cat"]),
        ([one(), one(group=2)], ["cat", "cat"]),
        ([one(), one("dog")], ["cat", "dog"]),
        ([one(group=None), one(group=None)], ["cat", "cat"]),
        ([one(), one(iscrowd=True)], ["cat", "cat"]),
        ([one("person-1"), one("person-2")], ["person-1", "person-2"]),
    ],
)
def test_objects_of_a_category_in_a_group_are_one(objects: list[Any], labels: list[str]) -> None:
    assert [row["label"] for row in rows(document(*objects))] == labels


@pytest.mark.parametrize("flag", [True, 1, "true"])
def test_crowds_are_in_no_row(flag: Any) -> None:
    content = document(one(iscrowd=flag), one(iscrowd="false", points=TRIANGLE, group=2))
    found = rows(content)
    assert [(row["loss"], row["tail"] is None) for row in found] == [("crowd", True), (None, False)]
    assert [json.loads(row["raw"])["iscrowd"] for row in found] == [1, 0]
    assert [row["loss"] for row in rows(content, crowd="keep")] == [None, None]


def test_the_background_is_no_class() -> None:
    assert [row["loss"] for row in rows(document(one("__background__"), one()))] == ["no_class", None]


def test_the_image_is_the_one_that_is_named() -> None:
    asked: list[str | None] = []

    def pictures(_: int, said: str | None) -> Picture:
        asked.append(said)
        return Picture(200, 100)

    parsed = isat.parse([document(one(), width=None, height=None)], Task.DETECT, pictures=pictures)
    assert asked == ["a.jpg"]
    assert parsed.images is not None
    assert parsed.images.select(["width", "height", "image_said"]).to_pylist() == [
        {"width": 200, "height": 100, "image_said": "a.jpg"}
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (file(shape()), "not_isat"),
        (b"[]", "not_isat"),
        (b'{"info": {}, "objects": {}}', "not_isat"),
        (b'{"info": {}, "objects": [', "not_json"),
        (document(one(points=SQUARE[:2])), "points"),
        (document(one(points=[1, 2])), "points"),
        (document(one(3.5)), "label"),
        (document({"group": 1, "segmentation": SQUARE}), "label"),
        (document(7), "shape"),
        (document(one(), width="wide"), "size"),
    ],
)
def test_what_is_wrong_is_said(content: bytes, reason: str) -> None:
    assert [p.reason for p in parse(content).problems] == [reason]


def test_labelme_says_that_a_file_is_of_isat() -> None:
    (problem,) = labelme.parse([REAL.read_bytes()], Task.SEGMENT).problems
    assert "a label file of ISAT; take format isat" in problem.detail
