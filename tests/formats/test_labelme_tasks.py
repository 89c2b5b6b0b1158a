"""labelme's shapes to task obb, and its points as keypoints by group to task pose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.base.terms import Task
from pipeline.formats import labelme
from tests.conftest import Run
from tests.formats.test_labelme import HEIGHT, WIDTH, file, png, shape
from tests.support.helpers import write_file

POINTS = ("nose", "left_eye", "tail")
SQUARE = [[10, 10], [50, 10], [50, 40], [10, 40]]
DIAMOND = [[50, 5], [90, 25], [50, 45], [10, 25]]
REAL = Path(__file__).parent / "real/labelme/human-pose.json"


def rows(content: bytes, task: Task, **options: Any) -> list[dict[str, Any]]:
    parsed = labelme.parse([content], task, None, options)
    assert parsed.problems == []
    found: list[dict[str, Any]] = parsed.rows.to_pylist()
    return found


def numbers(row: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(row["tail"].split(), float)


# --- obb --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "corners"),
    [
        (shape(kind="rotation", points=DIAMOND, direction=0.4636), DIAMOND),
        (shape(kind="oriented_rectangle", points=DIAMOND), DIAMOND),
        (shape(kind="quadrilateral", points=DIAMOND), DIAMOND),
        (shape(kind="polygon", points=DIAMOND), DIAMOND),
        (shape(kind="polygon", points=[*DIAMOND, DIAMOND[0]]), DIAMOND),
        (shape(kind="rectangle", points=[[50, 40], [10, 10]]), SQUARE),
        (shape(kind="rectangle", points=SQUARE), SQUARE),
    ],
)
def test_four_corners_are_an_oriented_box(one: dict[str, Any], corners: list[list[float]]) -> None:
    (row,) = rows(file(one), Task.OBB)
    assert (row["loss"], row["n_tokens"]) == (None, 9)
    assert np.allclose(numbers(row).reshape(4, 2) * (WIDTH, HEIGHT), corners, rtol=0, atol=1e-4)
    low, high = np.min(corners, axis=0) / (WIDTH, HEIGHT), np.max(corners, axis=0) / (WIDTH, HEIGHT)
    assert np.allclose([row[n] for n in ("cx", "cy", "w", "h")], [*((low + high) / 2), *(high - low)])


@pytest.mark.parametrize(
    ("one", "loss"),
    [
        (shape(kind="rotation", points=DIAMOND), "oriented"),
        (shape(kind="oriented_rectangle", points=DIAMOND), "oriented"),
        (shape(kind="oriented_rectangle", points=[[50, 5], [150, 25], [50, 45], [10, 25]]), "clipped"),
        (shape(kind="oriented_rectangle", points=SQUARE), None),
        (shape(kind="polygon", points=DIAMOND), None),
    ],
)
def test_an_angle_is_lost_to_task_detect_alone(one: dict[str, Any], loss: str | None) -> None:
    assert [row["loss"] for row in rows(file(one), Task.DETECT)] == [loss]
    assert [row["loss"] for row in rows(file(one), Task.SEGMENT)] == [loss if loss == "clipped" else None]


@pytest.mark.parametrize(
    "shapes",
    [
        [shape()],
        [shape(kind="quadrilateral", points=[*DIAMOND, [20, 20]])],
        [shape(kind="circle", points=[[20, 20], [30, 20]])],
        [shape(kind="mask", points=[[3, 4], [5, 6]], mask=png([[1, 0, 1]] * 3))],
        [shape(points=SQUARE, group_id=1), shape(points=DIAMOND, group_id=1)],
    ],
)
def test_what_has_not_four_corners_is_counted_and_stays_in_coco_json(shapes: list[dict[str, Any]]) -> None:
    (row,) = rows(file(*shapes), Task.OBB)
    assert (row["loss"], row["tail"]) == ("no_four_corners", None)
    assert json.loads(row["raw"])["segmentation"]


def test_an_oriented_box_keeps_four_corners_at_the_edge() -> None:
    (row,) = rows(file(shape(kind="rotation", points=[[50, 5], [150, 25], [50, 45], [10, 25]])), Task.OBB)
    assert row["loss"] == "clipped"
    wanted = [[50, 5], [100, 25], [50, 45], [10, 25]]
    assert np.allclose(numbers(row).reshape(4, 2) * (WIDTH, HEIGHT), wanted, rtol=0, atol=1e-4)
    (row,) = rows(file(shape(kind="rotation", points=[[150, 5], [160, 25], [150, 45], [140, 25]])), Task.OBB)
    assert (row["loss"], row["tail"]) == ("outside", None)


# --- keypoints --------------------------------------------------------------------------------------------------------


def point(label: str, x: float, y: float, group: int | None = 0, **more: Any) -> dict[str, Any]:
    return shape(label, [[x, y]], "point", group_id=group, **more)


def test_points_of_the_group_are_the_keypoints_in_their_order() -> None:
    content = file(
        point("tail", 30, 20),
        shape("cat", SQUARE, "polygon", group_id=0),
        point("nose", 12, 12),
        point("left_eye", 14, 11, difficult=True),
    )
    (row,) = rows(content, Task.POSE, keypoints=list(POINTS))
    assert (row["loss"], row["label"], row["n_tokens"]) == (None, "cat", 14)
    wanted = [0.3, 0.5, 0.4, 0.6, 0.12, 0.24, 2, 0.14, 0.22, 1, 0.3, 0.4, 2]
    assert np.allclose(numbers(row), wanted, rtol=0, atol=1e-6)
    made = json.loads(row["raw"])
    assert (made["keypoints"], made["num_keypoints"]) == ([12, 12, 2, 14, 11, 1, 30, 20, 2], 3)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([point("nose", 1, 1, None)], ["keypoint_alone"]),
        ([point("nose", 1, 1, 7)], ["keypoint_alone"]),
        ([point("whisker", 1, 1)], ["no_area"]),
        ([shape("cat", SQUARE, group_id=0)], ["no_keypoints"]),
        ([shape("cat", SQUARE)], ["no_keypoints"]),
        ([shape("cat", SQUARE, group_id=0), point("nose", 300, 1)], ["no_keypoints"]),
        ([shape("cat", SQUARE, group_id=0), point("nose", 300, 1), point("tail", 1, 1)], ["keypoint_outside"]),
        ([shape("cat", SQUARE, group_id=0), point("nose", 9, 1), point("nose", 1, 1)], [None, "keypoint_alone"]),
        (
            [shape("cat", SQUARE, group_id=0), shape("dog", SQUARE, group_id=0), point("nose", 9, 1)],
            ["no_keypoints", "no_keypoints", "keypoint_alone"],
        ),
    ],
)
def test_points_of_no_object_are_counted(shapes: list[dict[str, Any]], words: list[str | None]) -> None:
    found = rows(file(*shapes), Task.POSE, keypoints=list(POINTS))
    assert [row["loss"] for row in found] == words
    assert all((row["tail"] is None) == (row["loss"] not in (None, "keypoint_outside")) for row in found)


def test_points_are_no_keypoints_to_other_tasks() -> None:
    content = file(shape("cat", SQUARE, group_id=0), point("nose", 12, 12))
    for task in (Task.DETECT, Task.SEGMENT, Task.OBB):
        assert [row["loss"] for row in rows(content, task, keypoints=["nose"])] == [None, "no_area"]


def test_a_real_file_of_x_anylabeling() -> None:
    names = ["nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder"]
    (row,) = rows(REAL.read_bytes(), Task.POSE, keypoints=names)
    assert (row["label"], row["loss"]) == ("person", "attributes")
    points = numbers(row)[4:].reshape(-1, 3) * (500, 750, 1)
    wanted = {s["label"]: [*s["points"][0], 2] for s in json.loads(REAL.read_bytes())["shapes"][1:]}
    assert np.allclose(points, [wanted.get(name, [0, 0, 0]) for name in names], rtol=0, atol=4e-4)
    assert json.loads(row["raw"])["score"] == 0.9361733198165894


def test_fields_of_x_anylabeling_go_along_to_coco_json() -> None:
    first = shape(
        points=SQUARE, group_id=1, attributes={"colour": "red"}, score=0.5, difficult=True, kie_linking=[], text="old"
    )
    second = shape(points=DIAMOND, group_id=1, attributes={"colour": "blue", "age": "3"}, score=None, difficult=False)
    (row,) = rows(file(first, second), Task.SEGMENT)
    made = json.loads(row["raw"])
    assert {name: made[name] for name in ("attributes", "score", "difficult", "group_id", "description")} == {
        "attributes": {"colour": "red", "age": "3"},
        "score": 0.5,
        "difficult": True,
        "group_id": 1,
        "description": "old",
    }


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({}, None),
        ({"group_id": 0, "flags": {"a": False}, "attributes": {}, "score": None, "difficult": False, "text": ""}, None),
        ({"attributes": {"colour": "red"}}, "attributes"),
        ({"score": 0.5}, "attributes"),
        ({"kie_linking": [[1, 2]]}, "attributes"),
        ({"kie_linking": []}, None),
        ({"flags": {"small": True}}, "attributes"),
        ({"description": "left"}, "attributes"),
        ({"text": "left"}, "attributes"),
        ({"flags": {"occluded": True}, "score": 0.5}, "occluded"),
        ({"attributes": {"truncated": "yes", "occluded": True}}, "truncated"),
        ({"difficult": True, "score": 0.5, "flags": {"occluded": True}}, "marked_difficult"),
    ],
)
@pytest.mark.parametrize("task", [Task.DETECT, Task.SEGMENT, Task.OBB])
def test_what_rows_do_not_say_is_counted_once(task: Task, more: dict[str, Any], word: str | None) -> None:
    (row,) = rows(file(shape("cat", SQUARE, "polygon", **more)), task)
    assert (row["loss"], row["tail"] is None) == (word, False)
    (row,) = rows(file(shape("cat", [[-20, 10], *SQUARE[1:]], "polygon", **more)), Task.DETECT)
    assert row["loss"] == "clipped"


def test_a_group_of_several_objects_is_in_no_row() -> None:
    pair = [shape(label, SQUARE, "polygon", group_id=0) for label in ("cat", "collar")]
    alone = shape("cat", SQUARE, "polygon", group_id=1)
    assert [row["loss"] for row in rows(file(*pair, alone), Task.DETECT)] == ["attributes", "attributes", None]


def test_keypoints_are_in_the_names_of_a_target(run: Run, tmp_path: Path) -> None:
    content = file(shape("cat", SQUARE, "polygon", group_id=0), point("nose", 12, 12), point("tail", 30, 20))
    write_file(tmp_path / "in/a.json", content)
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "in/a.jpg")
    words = ["--from", "labelme", "--task", "pose", "--workdir", str(tmp_path / "work")]
    told = run("convert", tmp_path / "in", tmp_path / "out", "--to", "yolo", *words, code=2)
    assert "SRC: task pose of format labelme needs the labels of the points, in their order" in told.err
    words += ["--set", "source.options.keypoints=[nose, left_eye, tail]"]
    run("convert", tmp_path / "in", tmp_path / "out", "--to", "yolo", *words)
    made = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    assert (made["names"], made["kpt_shape"], made["kpt_names"]) == ({0: "cat"}, [3, 3], {0: list(POINTS)})
    assert (tmp_path / "out/labels/train/a.txt").read_text().split()[5:8] == ["0.120000", "0.240000", "2.000000"]
    names = write_file(tmp_path / "labels.txt", "dog\ncat\n")
    run("convert", tmp_path / "in", tmp_path / "json", "--to", "coco", "--labels", names, *words)
    found = json.loads((tmp_path / "json/annotations/person_keypoints_train.json").read_bytes())
    assert [c.get("keypoints") for c in found["categories"]] == [None, list(POINTS)]
    assert found["annotations"][0]["num_keypoints"] == 2


def test_a_keypoint_that_is_mistyped_is_asked_for(run: Run, tmp_path: Path) -> None:
    shapes = [shape("cat", SQUARE, "polygon", group_id=0), *(point(name, 12, 12) for name in ("nose", "left_eye"))]
    write_file(tmp_path / "in/a.json", file(*shapes, point("whisker", 9, 9)))
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "in/a.jpg")
    words = [
        "--task",
        "pose",
        "--set",
        "source.options.keypoints=[nose, left_eey]",
        "--workdir",
        str(tmp_path / "work"),
    ]
    said = run("convert", tmp_path / "in", tmp_path / "out", "--from", "labelme", "--to", "yolo", *words).err
    assert "'left_eye' (1), 'whisker' (1); is 'left_eye' the keypoint 'left_eey' of source.options?" in said
