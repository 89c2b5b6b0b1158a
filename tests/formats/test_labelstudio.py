"""Label Studio's JSON export as a source: real tasks, every shape, what is no object, masks of its own run lengths."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from pipeline.base.terms import Task
from pipeline.formats import FileOutline, Malformed, Parsed, Part, labelstudio
from pipeline.formats._image_names import ImageNames
from pipeline.formats.labelstudio.brush import NoMaskError, read_mask
from pipeline.images.header import Picture
from pipeline.tables.schema import LabelState
from tests.conftest import Run
from tests.support.helpers import PROJECT, write_file

REAL = PROJECT / "tests/formats/real/labelstudio/tasks.json"
SIZE = {"original_width": 100, "original_height": 50, "image_rotation": 0}


def region(
    kind: str = "rectanglelabels", label: str | None = "cat", number: str = "r1", **value: Any
) -> dict[str, Any]:
    labels = {kind: [label]} if label is not None else {}
    return {"id": number, "type": kind, "value": {**value, **labels}, "from_name": "label", "to_name": "image", **SIZE}


BOX = region(x=10, y=20, width=30, height=40, rotation=0)


def task(*results: Any, image: str = "/data/upload/1/0f1e2d3c-a.jpg", number: int = 1, **more: Any) -> dict[str, Any]:
    annotation = {"id": 7, "completed_by": 1, "was_cancelled": False, "ground_truth": False, "result": [*results]}
    return {"id": number, "annotations": [annotation], "predictions": [], "data": {"image": image}} | more


def outline(tasks: Any, names: Sequence[str] | None = None) -> tuple[FileOutline, bytes]:
    text = tasks if isinstance(tasks, bytes) else json.dumps(tasks).encode()
    return labelstudio.outline([text], Task.DETECT, ImageNames(names) if names is not None else None), text


def parse(
    tasks: Any, of: Task = Task.SEGMENT, picture: Picture | None = None, **options: Any
) -> tuple[Parsed, FileOutline]:
    found, text = outline(tasks)
    images = [text[a:b] for a, b in found.images.tolist()]
    part = Part(images, [], found.image_of, found.labels, None, lambda some: [picture] * len(some), picture is not None)
    return labelstudio.parse(part, of, None, options), found


def numbers(row: dict[str, Any]) -> list[float]:
    return [*map(float, row["tail"].split())]


def test_real_tasks() -> None:
    parsed, found = parse(json.loads(REAL.read_text()))
    assert (parsed.problems, found.problems) == ([], [])
    assert found.names["names"] == ["Airplane", "Butterfly"]
    assert found.notes == ["1 result is no objects, and left out (choices 1)"]
    rows = parsed.rows.to_pylist()
    assert [(row["file"], row["label"], row["n_tokens"]) for row in rows] == [
        (0, "Butterfly", 9), (0, "Butterfly", 9), (1, "Airplane", 17),
    ]  # fmt: skip
    # Label Studio's own converter to YOLO OBB gives these corners (`tests/test_export_yolo.py` there), to six decimals.
    first = np.array(numbers(rows[0])).reshape(4, 2) * (597, 768)
    assert np.allclose(first[0], [0.10537066764905694 * 597, 0.7955767690059092 * 768], atol=1e-3)
    assert np.allclose(np.hypot(*(first[1] - first[0])), 0.19045470024656689 * 597, atol=1e-3)
    assert np.allclose(np.hypot(*(first[3] - first[0])), 0.08132522043893883 * 768, atol=1e-3)
    assert np.degrees(np.arctan2(*(first[1] - first[0])[::-1])) % 360 == pytest.approx(328.33240366032836, abs=1e-3)
    assert numbers(rows[2])[:2] == [0.6, 0.195592]


SQUARE = [0.1, 0.2, 0.4, 0.2, 0.4, 0.6, 0.1, 0.6]


@pytest.mark.parametrize(
    ("results", "detect", "segment"),
    [
        ([BOX], [0.25, 0.4, 0.3, 0.4], SQUARE),
        ([region(x=40, y=20, width=20, height=60, rotation=90)], [0.25, 0.4, 0.3, 0.4],
         [0.4, 0.2, 0.4, 0.6, 0.1, 0.6, 0.1, 0.2]),
        ([region("polygonlabels", points=[[10, 20], [40, 20], [40, 60]])], [0.25, 0.4, 0.3, 0.4],
         [0.1, 0.2, 0.4, 0.2, 0.4, 0.6]),
        ([region("rectangle", None, x=10, y=20, width=30, height=40),
          region("labels", "cat", x=10, y=20, width=30, height=40)], [0.25, 0.4, 0.3, 0.4], SQUARE),
        ([region("labels", "cat", x=10, y=20, width=30, height=40)], [0.25, 0.4, 0.3, 0.4], SQUARE),
        ([region(x="10", y="20", width="30", height=40)], [0.25, 0.4, 0.3, 0.4], SQUARE),
    ],
)  # fmt: skip
def test_shapes(results: list[Any], detect: list[float], segment: list[float]) -> None:
    for of, wanted in ((Task.DETECT, detect), (Task.SEGMENT, segment)):
        parsed, found = parse([task(*results)], of)
        (row,) = parsed.rows.to_pylist()
        assert (row["label"], row["loss"], parsed.problems, found.notes) == ("cat", None, [], [])
        assert numbers(row) == wanted
        assert json.loads(row["raw"])["bbox"] == pytest.approx([10, 10, 30, 20])


def test_a_text_of_a_region_is_counted_where_rows_cannot_say_it() -> None:
    parsed, _ = parse(
        [task(BOX | {"meta": {"text": ["by the door", "old"]}}, BOX | {"meta": {"text": []}})], Task.DETECT
    )
    noted, plain = parsed.rows.to_pylist()
    assert (noted["loss"], json.loads(noted["raw"])["description"]) == ("attributes", "by the door\nold")
    assert (plain["loss"], "description" in json.loads(plain["raw"])) == (None, False)


def test_an_ellipse_is_a_polygon_on_it() -> None:
    parsed, _ = parse([task(region("ellipselabels", x=50, y=50, radiusX=20, radiusY=10, rotation=90))])
    points = np.array(numbers(parsed.rows.to_pylist()[0])).reshape(-1, 2) * (100, 50) - (50, 25)
    # 20 % of 100 pixels are now along y, 10 % of 50 along x.
    assert np.allclose((points[:, 0] / 5) ** 2 + (points[:, 1] / 20) ** 2, 1, atol=1e-3)


def pack(values: Sequence[int], lengths: Sequence[int] = (3, 4, 8, 16)) -> list[int]:
    """Runs of values in Label Studio's form."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{n - 1:04b}" for n in lengths)
    at = 0
    while at < len(values):
        stop = at + 1
        while stop < len(values) and values[stop] == values[at] and stop - at < 1 << 16:
            stop += 1
        which = next(i for i, n in enumerate(lengths) if stop - at <= 1 << n)
        same = stop - at > 1
        bits += f"{int(same)}{which:02b}{stop - at - 1:0{lengths[which]}b}{values[at]:08b}"
        at = stop
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def pack_mask(mask: Any) -> list[int]:
    return pack(np.repeat(np.asarray(mask, int).ravel() * 255, 4).tolist())


@given(arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_masks_come_back_from_their_run_lengths(mask: Any) -> None:
    assert (read_mask(pack_mask(mask), mask.shape[1], mask.shape[0]) == mask).all()


def test_literal_values_and_the_alpha_alone() -> None:
    # Two pixels, four values each, written one by one in one block of eight: 0 for no run, the size 3, eight less one.
    bits = (
        f"{8:032b}{7:05b}"
        + "0010001101111111"
        + "0"
        + "00"
        + "111"
        + "".join(f"{v:08b}" for v in (9, 9, 9, 0, 0, 0, 0, 1))
    )
    bits += "0" * (-len(bits) % 8)
    rle = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert read_mask(rle, 2, 1).tolist() == [[False, True]]
    for bad in (rle[:-4], rle[:3], [], [300], ["x"]):
        with pytest.raises(NoMaskError):
            read_mask(bad, 2, 1)
    with pytest.raises(NoMaskError, match="is a mask of 2 pixels, not of 3 x 1"):
        read_mask(rle, 3, 1)


def test_a_brush_and_a_bitmask_are_their_pixels() -> None:
    mask = np.zeros((50, 100), bool)
    mask[10:30, 20:60] = True
    mask[15:20, 30:40] = False
    png = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(png, "PNG")
    address = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
    results = [region("brushlabels", format="rle", rle=pack_mask(mask)), region("bitmasklabels", imageDataURL=address)]
    parsed, _ = parse([task(*results)])
    for row in parsed.rows.to_pylist():
        assert (numbers(row), row["loss"]) == ([0.2, 0.2, 0.6, 0.2, 0.6, 0.6, 0.2, 0.6], "holes")
        raw = json.loads(row["raw"])
        assert (raw["area"], raw["bbox"], raw["segmentation"]["size"]) == (750, [20, 10, 40, 20], [50, 100])


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (region(label=None, x=1, y=1, width=1, height=1), "label"),
        (region(x=1, y=1, width=None, height=1), "numbers"),
        (region(x=1, y=1, width=1e300, height=1), "numbers"),
        (region(x=1, y=1, width=1, height=1, rotation="left"), "numbers"),
        (region("polygonlabels", points=[[1, 1], [2, 2]]), "points"),
        (region("polygonlabels", points="x"), "points"),
        (region("brushlabels", rle=[1, 2, 3]), "mask"),
        (region("brushlabels"), "mask"),
        (region("bitmasklabels", imageDataURL="x"), "mask"),
        (BOX | {"image_rotation": 90}, "image_rotation"),
    ],
)
def test_a_bad_region_is_counted(result: Any, reason: str) -> None:
    parsed, _ = parse([task(result, BOX | {"id": "other"})])
    assert [(p.reason, p.rows) for p in parsed.problems] == [(reason, 1)]
    where = 'task 1, image "/data/upload/1/0f1e2d3c-a.jpg": result 1 ('
    assert parsed.problems[0].detail.startswith(where)
    assert parsed.rows.num_rows == 1


@pytest.mark.parametrize(
    ("result", "loss"),
    [
        (region("keypointlabels", x=10, y=10, width=1), "no_area"),
        (region(x=120, y=10, width=10, height=10), "outside"),
        (region(x=90, y=10, width=20, height=10), "clipped"),
        (region(x=50, y=10, width=20, height=10, rotation=30), "oriented"),
        (region(x=50, y=10, width=20, height=10, rotation=180), None),
        (region("brushlabels", rle=pack_mask(np.zeros((50, 100)))), "outside"),
    ],
)
def test_what_is_lost_has_a_word(result: Any, loss: str | None) -> None:
    parsed, _ = parse([task(result)], Task.DETECT)
    assert (parsed.rows["loss"].to_pylist(), parsed.problems) == ([loss], [])


def test_a_rotated_rectangle_is_an_oriented_box() -> None:
    """In degrees clockwise around its first corner, in pixels: percent of width and height are of two lengths."""
    results = [
        region(x=50, y=20, width=30, height=40, rotation=30),
        region("polygonlabels", points=[[10, 20], [40, 20], [40, 60], [10, 60]]),
        region("polygonlabels", points=[[10, 20], [40, 20], [40, 60]]),
        region("ellipselabels", x=50, y=50, radiusX=20, radiusY=10),
    ]
    parsed, _ = parse([task(*results)], Task.OBB)
    rows = parsed.rows.to_pylist()
    assert [(row["loss"], row["n_tokens"]) for row in rows] == [(None, 9), (None, 9), *[("no_four_corners", 0)] * 2]
    cos, sin = math.cos(math.radians(30)), 0.5
    along, across = np.array([30 * cos, 30 * sin]), np.array([-20 * sin, 20 * cos])
    corners = np.array([50, 10]) + np.array([[0, 0], along, along + across, across])
    assert np.allclose(np.array(numbers(rows[0])).reshape(4, 2) * (100, 50), corners, rtol=0, atol=1e-4)
    assert numbers(rows[1]) == SQUARE


def test_real_rectangles_have_the_corners_that_label_studio_exports() -> None:
    """Those of its own converter to YOLO OBB, see `test_real_tasks`."""
    outlines = parse(json.loads(REAL.read_text()))[0].rows.to_pylist()
    found = parse(json.loads(REAL.read_text()), Task.OBB)[0].rows.to_pylist()
    assert [row["loss"] for row in found] == [None, None, "no_four_corners"]
    assert [numbers(row) for row in found[:2]] == [numbers(row) for row in outlines[:2]]


def point(label: str, x: float, y: float, parent: str | None = "r1", number: str = "p1") -> dict[str, Any]:
    return region("keypointlabels", label, number, x=x, y=y, width=0.5) | ({"parentID": parent} if parent else {})


def test_keypoints_are_those_below_a_region() -> None:
    results = [point("nose", 12, 24), BOX, point("tail", 30, 40, number="p2"), region(number="r2", **BOX["value"])]
    parsed, found = parse([task(*results)], Task.POSE, keypoints=["tail", "left_eye", "nose"])
    first, second = parsed.rows.to_pylist()
    assert (first["label"], first["loss"], second["loss"]) == ("cat", None, "no_keypoints")
    assert numbers(first) == [0.25, 0.4, 0.3, 0.4, 0.3, 0.4, 2, 0, 0, 0, 0.12, 0.24, 2]
    made = json.loads(first["raw"])
    assert (made["keypoints"], made["num_keypoints"]) == ([30, 20, 2, 0, 0, 0, 12, 12, 2], 2)
    assert "group_id" not in made
    assert found.names["names"] == ["cat"]
    assert found.notes == ["labels of keypoints alone are no classes: 'nose', 'tail'"]


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ([point("nose", 1, 1, None)], ["keypoint_alone"]),
        ([point("nose", 1, 1, "r7"), BOX], ["keypoint_alone", "no_keypoints"]),
        ([point("whisker", 1, 1), BOX], ["no_area", "no_keypoints"]),
        ([BOX, point("nose", 1, 1), point("nose", 2, 2, number="p2")], [None, "keypoint_alone"]),
        ([BOX, point("nose", 150, 1), point("tail", 1, 1, number="p2")], ["keypoint_outside"]),
    ],
)
def test_keypoints_of_no_region_are_counted(results: list[Any], words: list[str | None]) -> None:
    parsed, _ = parse([task(*results)], Task.POSE, keypoints=["nose", "tail"])
    assert parsed.rows["loss"].to_pylist() == words
    for of in (Task.DETECT, Task.SEGMENT, Task.OBB):
        losses = parse([task(*results)], of)[0].rows["loss"].to_pylist()
        assert losses == ["no_area" if one["type"] == "keypointlabels" else None for one in results]


def test_keypoints_are_in_the_names_of_a_target(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in/images").mkdir(parents=True)
    Image.new("L", (100, 50)).save(tmp_path / "in/images/a.jpg")
    write_file(tmp_path / "in/result.json", json.dumps([task(BOX, point("nose", 12, 24))]))
    words = ["--from", "labelstudio", "--to", "yolo", "--task", "pose", "--workdir", tmp_path / "w"]
    told = run("convert", tmp_path / "in", tmp_path / "out", *words, code=2)
    assert "task pose of format labelstudio needs the labels of the points, in their order" in told.err
    run("convert", tmp_path / "in", tmp_path / "out", *words, "--set", "source.options.keypoints=[nose, tail]")
    made = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    assert (made["names"], made["kpt_shape"], made["kpt_names"]) == ({0: "cat"}, [2, 3], {0: ["nose", "tail"]})
    row = (tmp_path / "out/labels/train/a.txt").read_text().split()
    assert [float(number) for number in row] == [0, 0.25, 0.4, 0.3, 0.4, 0.12, 0.24, 2, 0, 0, 0]


def test_which_annotation_counts() -> None:
    one, two, three = ({"result": [region(label=name, x=1, y=1, width=1, height=1)]} for name in ("a", "b", "c"))
    tasks = [
        task(number=1, image="1.jpg", annotations=[one, two]),
        task(number=2, image="2.jpg", annotations=[one | {"was_cancelled": True}, two, three | {"ground_truth": True}]),
        task(number=3, image="3.jpg", annotations=[one | {"was_cancelled": True}], predictions=[two]),
        task(number=4, image="4.jpg", annotations=[]),
        task(number=5, image="5.jpg"),
    ]
    parsed, found = parse(tasks)
    assert found.stems == ["1", "2", "5"]
    assert parsed.rows["label"].to_pylist() == ["a", "c"]
    assert parsed.states == [LabelState.FOUND, LabelState.FOUND, LabelState.EMPTY]
    assert found.notes == [
        "2 tasks without an annotation, or cancelled, are left out: nobody labelled the image",
        "2 tasks have several annotations: the first that is ground truth is taken, else the first",
        "1 task has predictions, which are left out",
    ]


def test_json_min() -> None:
    """The shorter export: the results of a control are under its name."""
    box = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["cat"], **SIZE}
    item = {
        "image": "/data/upload/1/a.jpg",
        "id": 1,
        "label": [box],
        "choice": "yes",
        "annotator": 1,
        "annotation_id": 2,
    }
    parsed, found = parse([item, {"image": "b.jpg", "id": 2, "annotation_id": 3}, {"image": "c.jpg", "id": 3}])
    assert found.stems == ["data/upload/1/a", "b"]
    assert [numbers(row) for row in parsed.rows.to_pylist()] == [SQUARE]


def test_which_image_a_task_is_of() -> None:
    images = ["/data/upload/3/0f1e2d3c-a.jpg", "/data/local-files/?d=photos/b.jpg", "s3://bucket/x/c.jpg", "/image4"]
    tasks = [task(image=image, number=i) for i, image in enumerate(images)]
    tasks[3]["file_upload"] = "0f1e2d3c-d.jpg"
    found, _ = outline(tasks, ["a.jpg", "photos/b.jpg", "c.jpg", "d.jpg"])
    assert found.paths == ["a.jpg", "photos/b.jpg", "c.jpg", "d.jpg"]
    twice, _ = outline(
        [task(BOX), task(BOX, number=2), {"id": 3, "annotations": [{"result": [BOX]}], "data": {"text": "x"}}]
    )
    assert [(reason, lost) for _, reason, _, lost in twice.problems] == [("image_twice", 1), ("bad_image", 1)]
    assert [detail for _, _, detail, _ in twice.problems] == [
        'task 2 (id 2) ("/data/upload/1/0f1e2d3c-a.jpg") is of the image of task 1 (id 1); join them, or remove one',
        "task 3 (id 3) names no image",
    ]


@pytest.mark.parametrize(
    ("picture", "size", "note"),
    [
        (Picture(100, 50), (100, 50), None),
        (Picture(200, 100), (200, 100), "resized"),
        (Picture(100, 50, 6), (50, 100), "turned"),
        (Picture(300, 100), None, None),
    ],
)
def test_an_image_that_changed_since(picture: Picture, size: tuple[int, int] | None, note: str | None) -> None:
    parsed, _ = parse([task(BOX)], picture=picture)
    assert parsed.images is not None
    if size is None:
        assert [(p.reason, p.rows) for p in parsed.problems] == [("size_differs", 1)]
        return
    assert parsed.images.to_pylist() == [{"width": size[0], "height": size[1]}]
    (row,) = parsed.rows.to_pylist()
    assert row["loss"] == note
    assert sorted(numbers(row)) == sorted(SQUARE if note != "turned" else [0.8, 0.1, 0.8, 0.4, 0.4, 0.4, 0.4, 0.1])


def test_a_size_that_nobody_says() -> None:
    bare = {key: value for key, value in BOX.items() if not key.startswith("original")}
    parsed, _ = parse([task(bare)])
    assert [p.reason for p in parsed.problems] == ["no_size"]
    parsed, _ = parse([task(bare)], picture=Picture(100, 50))
    assert [numbers(row) for row in parsed.rows.to_pylist()] == [SQUARE]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty"),
        (b" ", "is empty"),
        (b'{"images": []}', "is JSON, but no export of Label Studio"),
        (b'{"from_name": 1, "x": [}', "is not JSON"),
        (b"<html>", "is a web page"),
        (b"hello", "is not JSON"),
        (b'[{"id": 1}', "is not JSON"),
        (b'[{"id": 1},]', "is not JSON"),
    ],
)
def test_what_is_no_export(text: bytes, said: str) -> None:
    with pytest.raises(Malformed) as caught:
        outline(text)
    assert said in str(caught.value)


def test_a_task_that_is_none_is_counted() -> None:
    found, _ = outline([task(BOX), 7, None])
    assert [problem[1:3] for problem in found.problems] == [
        ("bad_task", "task 2 is 7, no object (line 1); correct it"),
        ("bad_task", "task 3 is null, no object (line 1); correct it"),
    ]  # fmt: skip


@given(st.data())
def test_pieces_decide_about_nothing(data: st.DataObject) -> None:
    tasks = [task(BOX, image=f"{i}.jpg", number=i) for i in range(3)]
    tasks = tasks[: 1 if (alone := data.draw(st.booleans())) else 3]
    begin, indent = data.draw(st.sampled_from([(b"", None), (b"\xef\xbb\xbf", 1), (b"\n ", None)]))
    text = begin + json.dumps(tasks[0] if alone else tasks, indent=indent).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    found = labelstudio.outline([text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)], Task.DETECT)
    assert [json.loads(text[a:b]) for a, b in found.images.tolist()] == tasks


def test_one_real_task_is_a_list_of_one() -> None:
    tasks = json.loads(REAL.read_text())
    for one in tasks:
        (parsed, found), (wanted, _) = parse(one), parse([one])
        assert (parsed.rows, parsed.problems, len(found.images)) == (wanted.rows, [], 1)


def test_one_task_is_known_without_its_format(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("L", (100, 50)).save(tmp_path / "in/a.jpg")
    write_file(tmp_path / "in/task.json", json.dumps(task(BOX)))
    told = run("convert", tmp_path / "in", tmp_path / "out", "--to", "yolo", "--workdir", tmp_path / "w")
    assert (told.code, "is read as format labelstudio" in told.err) == (0, True), told.err
    assert (tmp_path / "out/labels/train/a.txt").read_text() == "0 0.250000 0.400000 0.300000 0.400000\n"


def test_an_export_becomes_a_training_set(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "in/images").mkdir(parents=True, exist_ok=True)
        Image.new("L", (100, 50)).save(tmp_path / f"in/images/{name}.jpg")
    write_file(tmp_path / "in/project-1-at-2026.json", json.dumps([task(BOX), task(image="/x/b.jpg", number=2)]))
    for source in ("in", "in/project-1-at-2026.json"):
        target = tmp_path / f"out{len(source)}"
        told = run("convert", tmp_path / source, target, "--to", "yolo", "--workdir", tmp_path / "w")
        assert told.code == 0, told.err
        assert "is read as format labelstudio; if it is another, name that with --from" in told.err
        assert (target / "labels/train/a.txt").read_text() == "0 0.250000 0.400000 0.300000 0.400000\n"
    found = run("stats", tmp_path / "in")
    assert (found.code, "cat" in found.out) == (0, True), found.err
