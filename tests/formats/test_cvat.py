"""CVAT for images 1.1 as a source: real documents, every shape, splits by subset, what is no such document."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from pipeline.base.terms import Task
from pipeline.formats import FileOutline, Malformed, Parsed, Part, coco, cvat, voc
from pipeline.formats._image_names import ImageNames
from pipeline.formats.cvat import rows
from pipeline.geometry import masks
from pipeline.images.header import Picture
from pipeline.job.conversion import dataset
from pipeline.job.layouts import find_splits
from pipeline.tables.schema import LabelState
from tests.conftest import Run
from tests.support.helpers import PROJECT, write_file

REAL = PROJECT / "tests/formats/real/cvat"
BOX = (
    '<box label="cat" source="manual" occluded="0" xtl="10.00" ytl="10.00" xbr="40.00" ybr="30.00" z_order="0">\n</box>'
)
CUBOID = "<cuboid label='cat' %s/>" % " ".join(  # noqa: UP031
    f'{axis}{corner}{face}="{face}"' for face in "12" for corner in ("tl", "bl", "tr", "br") for axis in "xy"
)
SQUARE = [0.1, 0.2, 0.4, 0.2, 0.4, 0.6, 0.1, 0.6]


def image(*shapes: str, name: str = "a.jpg", number: int = 0, size: Any = (100, 50), more: str = "") -> str:
    sides = f' width="{size[0]}" height="{size[1]}"' if size else ""
    return f'<image id="{number}" name={quoteattr(name)}{more}{sides}>\n{"".join(shapes)}\n</image>\n'


def document(*images: str, labels: str = "<label><name>dog</name></label><label><name>cat</name></label>") -> bytes:
    meta = f"<meta><task><name>pets</name><labels>{labels}</labels></task></meta>"
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
    return f"{head}{meta}\n{''.join(images)}</annotations>\n".encode()


def outline(
    text: bytes, names: Sequence[str] | None = None, task: Task = Task.DETECT, split: str | None = None
) -> FileOutline:
    return cvat.outline([text], task, ImageNames(names) if names is not None else None, split)


def parse(text: bytes, task: Task = Task.SEGMENT, picture: Picture | None = None) -> Parsed:
    found = outline(text, task=task)
    assert found.problems == []
    images = [text[a:b] for a, b in found.images.tolist()]
    part = Part(images, [], found.image_of, found.labels, None, lambda some: [picture] * len(some), picture is not None)
    return cvat.parse(part, task, found.names.get("kpt_shape"))


def rows_of(*shapes: str, task: Task = Task.SEGMENT, labels: str = "") -> list[dict[str, Any]]:
    parsed = parse(document(image(*shapes), labels=labels), task)
    assert parsed.problems == []
    found: list[dict[str, Any]] = parsed.rows.to_pylist()
    return found


def numbers(row: dict[str, Any]) -> list[float]:
    return [*map(float, row["tail"].split())]


def test_a_real_task() -> None:
    """The example of CVAT's manual; Datumaro 1.13 reads the same boxes, points and pixels of it."""
    text = (REAL / "annotations.xml").read_bytes()
    found = outline(text)
    assert found.names["names"] == ["car", "traffic_line", "wheel", "plate", "s1"]
    assert found.notes == ["1 tag of whole images is no object, and left out (good_frame 1)"]
    assert json.loads(found.rest) == {"info": {"description": "segmentation"}}
    parsed = parse(text, Task.DETECT)
    assert parsed.problems == []
    found_rows = parsed.rows.to_pylist()
    assert [(row["line"], row["label"], row["loss"]) for row in found_rows] == [
        (1, "plate", "attributes"), (2, "car", "attributes"), (3, "traffic_line", "no_area"),
        (4, "traffic_line", "no_area"), (5, "wheel", "no_area"), (6, "s1", None), (7, "car", None),
    ]  # fmt: skip
    boxes = {row["line"]: json.loads(row["raw"])["bbox"] for row in found_rows if row["raw"]}
    assert boxes == {
        1: pytest.approx([797.33, 870.92, 168.19, 58.02]),
        2: pytest.approx([554.72, 274.78, 638.16, 655.71]),
        6: pytest.approx([54.47, 62.85, 71.4, 99.49]),
        7: [707, 888, 13, 15],
    }
    (pose,) = (row for row in parse(text, Task.POSE).rows.to_pylist() if row["tail"])
    assert np.reshape(numbers(pose)[4:], (3, 3)) * (1600, 1200, 1) == pytest.approx(
        np.array([[54.47, 94.81, 2], [68.02, 162.34, 2], [125.87, 62.85, 2]]), abs=1e-3
    )
    mask = json.loads(found_rows[6]["raw"])
    runs = masks.decompress(mask["segmentation"]["counts"])
    assert (masks.area(runs), mask["area"], masks.box(runs, 1200)) == (149, 149, (707, 888, 13, 15))


def test_a_file_of_datumaro() -> None:
    text = (REAL / "datumaro.xml").read_bytes()
    found = outline(text, task=Task.POSE)
    assert found.names == {
        "names": ["label1", "label2", "skeleton"], "kpt_shape": (4, 3), "kpt_names": {"2": ["1", "2", "3", "4"]}
    }  # fmt: skip
    parsed = parse(text, Task.DETECT)
    assert [p.detail.partition(";")[0] for p in parsed.problems] == [
        'image "img0.jpg": shape 2 (polyline) has no label', 'image "img1.jpg": shape 1 (polygon) has no label',
    ]  # fmt: skip
    box, skeleton, *_ = parsed.rows.to_pylist()
    assert (numbers(box), box["loss"]) == ([0.25, 0.375, 0.5, 0.25], "occluded")
    assert json.loads(box["raw"]) == {
        "segmentation": [[0, 2, 4, 2, 4, 4, 0, 4]], "area": 8, "bbox": [0, 2, 4, 2], "iscrowd": 0,
        "attributes": {"a1": True, "a2": "v3", "a3": "0003", "a4": "2.4", "occluded": True}, "z_order": 1,
    }  # fmt: skip
    assert json.loads(skeleton["raw"])["keypoints"] == [0, 0, 0, 2, 2, 2, 3, 3, 2, 4, 4, 2]


@pytest.mark.parametrize(
    ("shape", "detect", "segment", "obb"),
    [
        (BOX, [0.25, 0.4, 0.3, 0.4], SQUARE, SQUARE),
        ('<box label="cat" xbr="10" ybr="10" xtl="40" ytl="30"/>', [0.25, 0.4, 0.3, 0.4],
         [0.4, 0.6, 0.1, 0.6, 0.1, 0.2, 0.4, 0.2], [0.4, 0.6, 0.1, 0.6, 0.1, 0.2, 0.4, 0.2]),
        ('<box label="cat" xtl="15" ytl="5" xbr="35" ybr="35" rotation="90.00"/>', [0.25, 0.4, 0.3, 0.4],
         [0.4, 0.2, 0.4, 0.6, 0.1, 0.6, 0.1, 0.2], [0.4, 0.2, 0.4, 0.6, 0.1, 0.6, 0.1, 0.2]),
        ('<polygon label="cat" points="10,10;40,10;40,30"/>', [0.25, 0.4, 0.3, 0.4], [0.1, 0.2, 0.4, 0.2, 0.4, 0.6],
         None),
        ("<polygon label='cat' points='1e1, 10; 40,10;40,30;10,30;'/>", [0.25, 0.4, 0.3, 0.4], SQUARE, SQUARE),
        ('<mask label="cat" rle="0, 600" left="10" top="10" width="30" height="20"/>', [0.25, 0.4, 0.3, 0.4],
         SQUARE, None),
    ],
)  # fmt: skip
def test_shapes(shape: str, detect: list[float], segment: list[float], obb: list[float] | None) -> None:
    for task, wanted in ((Task.DETECT, detect), (Task.SEGMENT, segment), (Task.OBB, obb)):
        (row,) = rows_of(shape, task=task)
        assert row["label"] == "cat"
        assert row["loss"] == (None if wanted else "no_four_corners")
        assert json.loads(row["raw"])["bbox"] == pytest.approx([10, 10, 30, 20])
        if wanted:
            assert numbers(row) == wanted


def test_an_ellipse_is_a_polygon_on_it() -> None:
    (row,) = rows_of('<ellipse label="cat" cx="50" cy="25" rx="20" ry="10" rotation="30.00"/>')
    x, y = (np.array(numbers(row)).reshape(-1, 2) * (100, 50) - (50, 25)).T
    turn = math.radians(30)
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    assert np.allclose((along / 20) ** 2 + (across / 10) ** 2, 1, atol=1e-4)
    assert json.loads(row["raw"])["attributes"] == {"rotation": 30.0}


@pytest.mark.parametrize(
    ("shape", "word"),
    [
        ('<box label="cat" xtl="40" ytl="15" xbr="60" ybr="25" rotation="30.00"/>', "oriented"),
        ('<box label="cat" xtl="40" ytl="15" xbr="60" ybr="25" rotation="30.00" occluded="1"/>', "oriented"),
        ('<box label="cat" xtl="0" ytl="15" xbr="60" ybr="25" rotation="1.00"/>', "oriented"),
        ('<box label="cat" xtl="-40" ytl="15" xbr="60" ybr="25" rotation="30.00"/>', "clipped"),
        ('<box label="cat" xtl="40" ytl="15" xbr="60" ybr="25" rotation="180.00"/>', None),
        ('<ellipse label="cat" cx="50" cy="25" rx="20" ry="10" rotation="30.00"/>', "attributes"),
        ('<ellipse label="cat" cx="50" cy="25" rx="20" ry="10"/>', None),
    ],
)
def test_an_angle_is_lost_to_task_detect_alone(shape: str, word: str | None) -> None:
    (row,) = rows_of(shape, task=Task.DETECT)
    assert (row["loss"], row["tail"] is None) == (word, False)
    (row,) = rows_of(shape, task=Task.SEGMENT)
    assert row["loss"] in ("clipped", "occluded" if "occluded" in shape else None)


def runs_of(mask: Any) -> str:
    """A mask as CVAT writes it: row by row, beginning with what is outside."""
    flat = np.concatenate([[False], np.asarray(mask, bool).ravel()])
    turns = np.flatnonzero(flat[1:] != flat[:-1])
    return ", ".join(map(str, np.diff(turns, prepend=0, append=flat.size - 1).tolist()))


@given(arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12)), st.integers(0, 20))
def test_a_mask_is_its_pixels(mask: Any, left: int) -> None:
    rows, columns = mask.shape
    place = f'left="{left}" top="3" width="{columns}" height="{rows}"'
    (row,) = rows_of(f'<mask label="cat" rle="{runs_of(mask)}" {place}/>')
    if not mask.any():
        assert (row["loss"], row["raw"]) == ("outside", None)
        return
    raw = json.loads(row["raw"])
    whole = masks.to_mask(masks.decompress(raw["segmentation"]["counts"]), 50, 100)
    assert (whole[3 : 3 + rows, left : left + columns] == mask).all()
    assert whole.sum() == mask.sum() == raw["area"]


SKELETON = "".join(
    f"<label><name>{name}</name>{inner}</label>"
    for name, inner in [
        ("cat", "<type>skeleton</type>"),
        *((name, "<type>points</type><parent>cat</parent>") for name in ("nose", "left_ear", "right_ear")),
        ("dog", "<type>skeleton</type>"), ("tail", "<parent>dog</parent>"),
    ]
)  # fmt: skip


def skeleton(*points: tuple[str, str, str], label: str = "cat") -> str:
    made = "".join(f'<points label="{name}" {state} points="{at}"/>' for name, at, state in points)
    return f'<skeleton label="{label}" z_order="0">{made}</skeleton>'


def test_a_skeleton_is_keypoints_in_the_order_of_the_labels() -> None:
    points = [
        ("right_ear", "30,20", 'outside="0" occluded="1"'),
        ("nose", "10,10", ""),
        ("left_ear", "99,49", 'outside="1" occluded="0"'),
        ("whiskers", "1,1", ""),
    ]
    text = document(image(skeleton(*points), skeleton(*points), BOX), labels=SKELETON)
    assert outline(text, task=Task.POSE).names == {
        "names": ["cat", "dog"], "kpt_shape": (4, 3), "kpt_names": {"0": ["nose", "left_ear", "right_ear", "whiskers"]},
        "flip_idx": [0, 2, 1, 3],
    }  # fmt: skip
    parsed = parse(text, Task.POSE)
    row, _, box = parsed.rows.to_pylist()
    assert np.reshape(numbers(row), (4, 4))[1:].ravel().tolist() == [
        0.1, 0.2, 2, 0, 0, 0, 0.3, 0.4, 1, 0.01, 0.02, 2,
    ]  # fmt: skip
    assert numbers(row)[:4] == [0.155, 0.21, 0.29, 0.38]
    assert (box["loss"], json.loads(row["raw"])["num_keypoints"]) == ("no_keypoints", 3)
    for task, loss in ((Task.DETECT, None), (Task.SEGMENT, "no_polygon"), (Task.OBB, "no_four_corners")):
        assert parse(text, task).rows["loss"].to_pylist()[0] == loss


def test_skeletons_of_several_kinds() -> None:
    nose, ear, tail = ("nose", "10,10", ""), ("left_ear", "30,20", ""), ("tail", "5,5", "")
    shapes = [
        skeleton(nose, ear),
        skeleton(nose, ear),
        skeleton(tail, label="dog"),
        skeleton(("nose", "", 'outside="1"')),
    ]
    text = document(image(*shapes, skeleton(("nose", "400,10", ""), ear)), labels=SKELETON)
    found = outline(text, task=Task.POSE)
    assert found.names["kpt_shape"] == (3, 3)
    assert found.notes == [
        "labels have several skeletons: 'cat' has 3 keypoints, 'dog' 1; rows are of 3, and objects with another number "
        "are left out"
    ]
    assert parse(text, Task.POSE).rows["loss"].to_pylist() == [
        None, None, "zero_area", "no_keypoints", "keypoint_outside",
    ]  # fmt: skip


def test_keypoints_that_no_label_names() -> None:
    text = document(image(skeleton(("b", "10,10", ""), ("a", "20,20", ""))), labels="")
    assert outline(text, task=Task.POSE).names == {
        "names": ["cat"],
        "kpt_shape": (2, 3),
        "kpt_names": {"0": ["b", "a"]},
    }
    (row,) = parse(text, Task.POSE).rows.to_pylist()
    assert numbers(row)[4:] == [0.1, 0.2, 2, 0.2, 0.4, 2]


@pytest.mark.parametrize(
    ("shape", "reason", "said"),
    [
        ('<box xtl="1" ytl="1" xbr="2" ybr="2"/>', "label", "shape 1 (box) has no label"),
        ('<box label=" " xtl="1" ytl="1" xbr="2" ybr="2"/>', "label", "has no label"),
        ('<box label="cat" ytl="1" xbr="2" ybr="2"/>', "numbers", 'shape 1 (box "cat") has no xtl'),
        ('<box label="cat" xtl="" ytl="1" xbr="2" ybr="2"/>', "numbers", 'has the xtl ""'),
        ('<box label="cat" xtl="nan" ytl="1" xbr="2" ybr="2"/>', "numbers", 'has the xtl "nan"'),
        ('<box label="cat" xtl="1" ytl="1e300" xbr="2" ybr="2"/>', "numbers", 'has the ytl "1e300"'),
        ('<box label="cat" xtl="1" ytl="1" xbr="2" ybr="2" rotation="left"/>', "numbers", 'has the rotation "left"'),
        ('<polygon label="cat"/>', "points", "has points that are no pairs of numbers"),
        ('<polygon label="cat" points=""/>', "points", "has points that are no pairs of numbers"),
        ('<polygon label="cat" points="1,1;2,x;3,3"/>', "points", 'has the point "2,x", which is no pair of numb'),
        ('<polygon label="cat" points="1,1;,2;3,3"/>', "points", 'has the point ",2"'),
        ('<polygon label="cat" points="1,1;2,2;3"/>', "points", 'has the point "3"'),
        ('<polygon label="cat" points="1,5,1,5;2,5,2,5;3,3"/>', "points",
         'has the point "1,5,1,5", which is no pair of numbers; write two numbers with decimal points'),
        ('<box label="cat" xtl="1,5" ytl="1,5" xbr="2" ybr="2"/>', "numbers",
         'has the xtl "1,5", which is no number of pixels; write it with a decimal point'),
        ('<polygon label="cat" points="1,1;2,2"/>', "points", "has 2 points; it needs 3 or more"),
        ('<mask label="cat" rle="1,2" left="1" top="1" width="1" height="1"/>', "mask", "more than its 1 x 1 pixels"),
        ('<mask label="cat" rle="-1,2" left="1" top="1" width="1" height="1"/>', "mask", "more than its 1 x 1 pixels"),
        ('<mask label="cat" rle="" left="1" top="1" width="1" height="1"/>', "mask", "no list of whole numbers"),
        ('<mask label="cat" rle="1" left="1" top="1" width="0" height="1"/>', "mask", "is a mask of 0 x 1 pixels"),
        ('<mask label="cat" rle="1" left="1" top="1" width="99999" height="9999"/>', "mask", "is a mask of 99999 x"),
        ('<mask label="cat" rle="1" left="x" top="1" width="1" height="1"/>', "numbers", 'has the left "x"'),
        (skeleton(("nose", "1;2", "")), "points", 'has the keypoint "nose" at "1;2"'),
    ],
)  # fmt: skip
def test_a_bad_shape_is_counted(shape: str, reason: str, said: str) -> None:
    parsed = parse(document(image(shape, BOX), image(BOX, name="b.jpg"), labels=SKELETON))
    assert [(p.file, p.reason, p.rows) for p in parsed.problems] == [(0, reason, 1)]
    assert parsed.problems[0].detail.startswith('image "a.jpg": shape 1 (')
    assert said in parsed.problems[0].detail
    assert "; " in parsed.problems[0].detail
    assert parsed.rows["line"].to_pylist() == [2, 1]


@pytest.mark.parametrize(
    ("shape", "loss"),
    [
        ('<points label="cat" points="1,1;2,2"/>', "no_area"),
        ('<polyline label="cat" points="1,1;2,2"/>', "no_area"),
        (CUBOID, "cuboid"),
        ('<box label="cat" xtl="200" ytl="1" xbr="300" ybr="2"/>', "outside"),
        ('<box label="cat" xtl="1" ytl="1" xbr="1" ybr="2"/>', "zero_area"),
        ('<box label="cat" xtl="90" ytl="1" xbr="120" ybr="2"/>', "clipped"),
        ('<box label="cat" xtl="90" ytl="1" xbr="100.5" ybr="2"/>', None),
        ('<box label="_background_" xtl="90" ytl="1" xbr="100" ybr="2"/>', "no_class"),
        ('<mask label="cat" rle="0,1,1,1" left="1" top="1" width="3" height="3"/>', "joined"),
        ('<mask label="cat" rle="0,4,1,4" left="1" top="1" width="3" height="3"/>', "holes"),
        ('<mask label="cat" rle="0,9" left="99" top="1" width="3" height="3"/>', "clipped"),
        ('<mask label="cat" rle="0,9" left="100" top="1" width="3" height="3"/>', "outside"),
        (BOX.replace('occluded="0"', 'occluded="1"'), "occluded"),
        (BOX.replace('z_order="0"', 'z_order="2"'), "attributes"),
        (BOX.replace('z_order="0"', 'group_id="7"'), "attributes"),
        (BOX.replace("</box>", '<attribute name="colour">red</attribute></box>'), "attributes"),
        (BOX.replace("manual", "semi-auto"), None),
    ],
)  # fmt: skip
def test_what_is_lost_has_a_word(shape: str, loss: str | None) -> None:
    (row,) = rows_of(shape)
    assert row["loss"] == loss


def test_what_rows_do_not_say_goes_along_to_coco_json() -> None:
    attributes = '<attribute name="colour">dark &amp; red</attribute><attribute name="old">true</attribute>'
    said = 'source="auto" occluded="1" points="1,1;9,1;9,9" z_order="-2" group_id="3"'
    shape = f'<polygon label="cat" {said}>{attributes}</polygon>'
    (row,) = rows_of(shape)
    raw = json.loads(row["raw"])
    assert {key: raw[key] for key in ("attributes", "group_id", "z_order", "source")} == {
        "attributes": {"colour": "dark & red", "old": True, "occluded": True},
        "group_id": 3, "z_order": -2, "source": "auto",
    }  # fmt: skip


def test_labels_keep_their_order_and_those_of_shapes_come_after() -> None:
    shapes = ['<box label="zebra &amp; co" xtl="1" ytl="1" xbr="2" ybr="2"/>', "<box xtl='1' label='ape'/>", BOX]
    text = document(
        image(*shapes, '<tag label="good"/>', '<tag label="x"/>'), image('<points label="p" points="1,1"/>')
    )
    found = outline(text.replace(b'name="a.jpg"', b'name="b.jpg"', 1))
    assert found.names["names"] == ["dog", "cat", "ape", "p", "zebra & co"]
    assert found.notes == ["2 tags of whole images are no objects, and left out (good 1, x 1)"]


def test_images_without_shapes_and_their_names() -> None:
    names = ["day 1\\a.jpg", "C:\\cats\\b & c.jpg", "../up/d.jpg", "/abs/e.jpg", "fr\u00e4me_000006", "sub/f.jpg"]
    text = document(*(image(name=name, number=i) for i, name in enumerate(names)), '<image id="9" name="g.jpg"/>')
    there = ["day 1/a.jpg", "b & c.jpg", "d.jpg", "e.jpg", "fr\u00e4me_000006.PNG", "x/sub/f.jpg", "g.jpg", "else.jpg"]
    found = outline(text, there)
    assert (found.paths, found.problems) == (there[:-1], [])
    assert outline(text).stems == [
        "day 1/a", "cats/b & c", "up/d", "abs/e", "fr\u00e4me_000006", "sub/f", "g",
    ]  # fmt: skip
    parsed = parse(text)
    assert (parsed.states, parsed.problems, parsed.rows.num_rows) == ([LabelState.EMPTY] * 7, [], 0)


def test_two_images_of_one_name_and_one_without() -> None:
    found = outline(document(image(BOX, BOX), image(BOX), image(BOX, '<tag label="t"/>', name="")))
    assert [(problem[1], problem[3]) for problem in found.problems] == [("image_twice", 1), ("bad_image", 1)]
    assert found.problems[0][2] == 'line 10 ("a.jpg") is of the image of line 5; join them, or remove one'


SUBSETS = document(
    image(BOX, name="a.jpg", more=' subset="Train" task_id="1"'),
    image(BOX, name="b.jpg", more=' subset="Validation" task_id="2"'),
    image(BOX, name="a.jpg", more=' subset="night" task_id="3"'),
    image(BOX, name="c.jpg", more=' subset="default"'),
)


def test_subsets_are_splits() -> None:
    there = ["Train/a.jpg", "Validation/b.jpg", "night/a.jpg", "default/c.jpg"]
    assert outline(SUBSETS, there, split="val").paths == ["Validation/b.jpg"]
    tagged = SUBSETS.replace(b'task_id="2"', b'task_id="2"><tag label="fine"/></image><image subset="val"')
    assert "1 tag of whole images" in outline(tagged, split="val").notes[0]
    assert "tag" not in "".join(outline(tagged, split="train").notes)
    train = outline(SUBSETS, there, split="train")
    assert train.paths == ["Train/a.jpg", "night/a.jpg", "default/c.jpg"]
    assert train.notes == [
        "2 images are of a subset that is no split, and taken for train (default 1, night 1)",
    ]
    with pytest.raises(Malformed, match='has no image of the split test, for its subsets are "Train", "Validation"'):
        outline(SUBSETS, there, split="test")
    plain = document(image(BOX, more=' subset="night"'), image(BOX, name="b.jpg"))
    assert outline(plain, split="val").stems == ["a", "b"]
    found = cvat.contents([SUBSETS])
    assert (found.splits, found.folders) == (
        ["train", "val"], {"train": ["images"], "val": ["images/Validation", "images"]},
    )  # fmt: skip
    evil = cvat.contents([document(image(more=' subset="../../etc"'))])
    assert evil.folders == {"train": ["images/etc", "images"]}


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
    mask = '<mask label="cat" rle="0, 600" left="10" top="10" width="30" height="20"/>'
    parsed = parse(
        document(image(BOX, mask, skeleton(("nose", "10,10", ""), ("left_ear", "40,30", "")))), picture=picture
    )
    assert parsed.images is not None
    if size is None:
        assert [(p.reason, p.rows) for p in parsed.problems] == [("size_differs", 3)]
        assert "has 300 x 100 pixels, but the file says 100 x 50" in parsed.problems[0].detail
        return
    assert parsed.images.to_pylist() == [{"width": size[0], "height": size[1]}]
    box, mask_row, points = parsed.rows.to_pylist()
    wanted = SQUARE if note != "turned" else [0.8, 0.1, 0.8, 0.4, 0.4, 0.4, 0.4, 0.1]
    assert (box["loss"], mask_row["loss"]) == (note, note)
    assert sorted(numbers(box)) == sorted(numbers(mask_row)) == sorted(wanted)
    for row in (mask_row, points):
        assert [row[name] for name in ("cx", "cy", "w", "h")] == pytest.approx([box[n] for n in ("cx", "cy", "w", "h")])


def test_a_size_that_nobody_says() -> None:
    for size in (None, (0, 0), ("", "x")):
        text = document(image(BOX, size=size), image(name="b.jpg", size=size))
        assert [(p.file, p.reason, p.rows) for p in parse(text).problems] == [(0, "no_size", 1)]
        assert [numbers(row) for row in parse(text, picture=Picture(100, 50)).rows.to_pylist()] == [SQUARE]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (b"", None, "is empty"),
        (b"{}", None, "is JSON, not XML"),
        (b"version https://git-lfs.github.com/spec/v1\n", None, "is a pointer of Git LFS"),
        (b"<annotation><object/></annotation>", 1, "is XML, but Pascal VOC's, one file an image; name the folder"),
        (b"<svg/>", 1, "with <'svg'> as its first element, not CVAT's (<annotations>)"),
        (b"\xff\xfe<\0a\0", None, "is UTF-16 text; save it as UTF-8"),
        (b'<?xml version="1.0" encoding="latin-1"?><annotations/>', None, "declares the encoding 'latin-1'; save it"),
        (b"<!DOCTYPE a [<!ENTITY x 'y'>]><annotations/>", 1, "has a DOCTYPE"),
        (b"<annotations><meta/></annotations>", None, "holds no <image>; export the task as 'CVAT for images 1.1'"),
        (document(image(BOX))[:-40], None, "ends before its XML does"),
        (document(image(BOX))[:-14], 9, "ends before its XML does"),
        (document(image(BOX))[:230], None, "ends before its XML does"),
        (document(image(BOX).replace("</image>", ""), image()), 5, "<image> that does not end before the next one"),
        (document(image(BOX).replace('id="0"', 'id="0')), 5, "has an <image> whose attributes are no XML"),
        (document("<a>" * 100, image(BOX)), 5, "has elements more than 64 deep"),
        (document(image(BOX), "<track id='0' label='cat'></track>"), 9, "export the task again as 'CVAT for images 1."),
        (b"<image/>", 1, "has an <image> outside of <annotations>"),
        (document(image(BOX)) + image().encode(), 10, "has an <image> outside of <annotations>"),
        (document(image(BOX), "</meta>"), 9, "is not XML from this line on"),
    ],
)
def test_what_is_no_such_document(text: bytes, line: int | None, said: str) -> None:
    for read in (outline, lambda text: cvat.contents([text])):
        with pytest.raises(Malformed) as caught:
            read(text)
        assert said in str(caught.value)
        assert caught.value.line in (line, None) or line is None


def test_how_many_images_are_read_at_once_decides_about_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = '<polygon label="cat" points="1,1"/>'
    text = document(*(image(*[BOX] * (i % 3), *[bad] * (i % 2), name=f"{i}.jpg") for i in range(9)))
    whole = parse(text, picture=Picture(200, 100))
    monkeypatch.setattr(rows, "_IMAGES", 4)
    some = parse(text, picture=Picture(200, 100))
    assert some.rows.equals(whole.rows.combine_chunks())
    assert (some.problems, some.states, some.images) == (whole.problems, whole.states, whole.images)
    assert [p.file for p in some.problems] == [1, 3, 5, 7]


def test_a_damaged_image_is_a_problem_of_its_own() -> None:
    text = document(image(BOX), image("<box label='cat'", name="b.jpg"), image(BOX, name="c.jpg"))
    parsed = parse(text)
    assert [(p.file, p.reason) for p in parsed.problems] == [(1, "not_xml")]
    assert parsed.problems[0].detail.startswith('image "b.jpg" is not XML')
    assert parsed.states == [LabelState.FOUND, LabelState.CORRUPT, LabelState.FOUND]


def test_what_is_in_comments_is_no_image() -> None:
    comment = f"<!-- {image(BOX, name='no.jpg')} -->"
    inner = image(BOX, "<!-- </image> <image id='5'> -->", BOX)
    text = document(comment, inner, f"<x><![CDATA[{image()}]]></x>", image(name="b.jpg"))
    found = outline(text)
    assert found.stems == ["a", "b"]
    assert parse(text).rows["line"].to_pylist() == [1, 2]


@given(st.data())
def test_pieces_decide_about_nothing(data: st.DataObject) -> None:
    begin = data.draw(st.sampled_from(["", "\ufeff", "<!-- <image> -->"])).encode()
    images = [image(BOX, "<!-- </image> -->"), image(name="b.jpg"), "<!-- <image -->", '<image name="c.jpg"/>']
    text = document(*images)
    text = begin + (text if not begin.startswith(b"<!") else text[text.index(b"<anno") :])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    found = cvat.outline(pieces, Task.DETECT)
    assert [text[a:b].decode() for a, b in found.images.tolist()] == [images[0][:-1], images[1][:-1], images[3]]
    assert found.names["names"] == ["dog", "cat"]
    every = cvat.outline([text[i : i + 1] for i in range(len(text))], Task.DETECT)
    assert every.images.tolist() == found.images.tolist()


COORDINATE = st.integers(0, 5000).map(lambda n: n / 100)


@given(
    st.lists(st.tuples(COORDINATE, COORDINATE), min_size=3, max_size=8),
    st.sampled_from([Task.DETECT, Task.SEGMENT, Task.OBB]),
)
def test_the_rows_are_those_of_the_coco_json_that_is_made_of_it(points: list[tuple[float, float]], task: Task) -> None:
    text = ";".join(f"{x:.2f},{y:.2f}" for x, y in points)
    (row,) = rows_of(f'<polygon label="cat" points="{text}"/>', task=task)
    if row["raw"] is None:
        return
    thing = json.loads(row["raw"]) | {"id": 1, "image_id": 1, "category_id": 1}
    whole = {"images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}], "annotations": [thing],
             "categories": [{"id": 1, "name": "cat"}]}  # fmt: skip
    data = json.dumps(whole).encode()
    found = coco.outline([data], task)
    images, annotations = ([data[a:b] for a, b in spans.tolist()] for spans in (found.images, found.annotations))
    (other,) = coco.parse(Part(images, annotations, found.image_of, found.labels), task).rows.to_pylist()
    if row["loss"] != "zero_area":
        assert (other["tail"], other["loss"]) == (row["tail"], row["loss"])


def test_neither_takes_the_others_files() -> None:
    annotation = (PROJECT / "tests/formats/real/voc2012.xml").read_bytes()
    whole = (REAL / "annotations.xml").read_bytes()
    assert cvat.recognises(whole)
    assert cvat.recognises(b"\xef\xbb\xbf<!-- a --> <annotations/>")
    assert not any(map(cvat.recognises, (annotation, b"", b"<annotation>", b"<annotationsx>", b"{}", b"<!-- " * 9999)))
    assert [p.reason for p in voc.parse([whole], Task.DETECT).problems] == ["not_voc"]


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (100, 50)).save(path)


def test_an_export_becomes_a_training_set(run: Run, tmp_path: Path) -> None:
    """A project with subsets, whose images are in folders called as those."""
    for name in ("Train/a", "Validation/b", "night/a", "default/c"):
        picture(tmp_path / f"in/images/{name}.jpg")
    write_file(tmp_path / "in/annotations.xml", SUBSETS)
    told = run("convert", tmp_path / "in", tmp_path / "out", "--to", "yolo", "--workdir", tmp_path / "w")
    assert told.code == 0, told.err
    assert "is read as format cvat; if it is another, name that with --from" in told.err
    assert "2 images are of a subset that is no split, and taken for train (default 1, night 1)" in told.err
    made = {path.relative_to(tmp_path / "out/labels").as_posix() for path in (tmp_path / "out/labels").rglob("*.txt")}
    assert made == {"train/Train/a.txt", "train/night/a.txt", "train/default/c.txt", "val/b.txt"}
    assert (tmp_path / "out/labels/val/b.txt").read_text() == "1 0.250000 0.400000 0.300000 0.400000\n"
    assert run("stats", tmp_path / "in/annotations.xml", "--json").json["subset"]["val"]["images"] == 1
    zipped = shutil.make_archive(str(tmp_path / "project"), "zip", tmp_path / "in")
    run("convert", zipped, tmp_path / "again", "--to", "yolo", "--workdir", tmp_path / "w")
    again = {path.relative_to(tmp_path / "again/labels").as_posix() for path in (tmp_path / "again").rglob("*.txt")}
    assert again == made


def test_the_report_says_what_rows_do_not(run: Run, tmp_path: Path) -> None:
    shapes = [BOX.replace('occluded="0"', 'occluded="1"'), BOX.replace('z_order="0"', 'z_order="1"'), CUBOID]
    picture(tmp_path / "in/images/a.jpg")
    write_file(tmp_path / "in/annotations.xml", document(image(BOX, *shapes)))
    words = ["convert", tmp_path / "in", tmp_path / "rows", "--workdir", tmp_path / "w", "--to"]
    told = run(*words, "yolo").out
    for said in (
        "1 object marked as occluded, which label rows do not say.",
        "1 object with further fields (as attributes, a score or a group), which label rows do not say.",
        "1 left out: box in space, which has no outline in the image.",
    ):
        assert said in told
    words[2] = tmp_path / "json"
    told = run(*words, "coco").out
    assert "do not say" not in told
    made = json.loads((tmp_path / "json/annotations/instances_train.json").read_text())
    assert [one.get("attributes") for one in made["annotations"]] == [None, {"occluded": True}, None]
    assert made["info"]["description"] == "pets"
    back = run("convert", tmp_path / "json", tmp_path / "again", "--from", "coco", "--to", "yolo", "--quiet")
    assert back.code == 0
    assert (tmp_path / "again/labels/train/a.txt").read_text() == (tmp_path / "rows/labels/train/a.txt").read_text()


def test_layouts(tmp_path: Path) -> None:
    one = document(image(BOX, name="sub/a.jpg"))
    cases: dict[str, tuple[dict[str, bytes], dict[str, tuple[str, str]]]] = {
        "a task": ({"annotations.xml": one, "images/sub/a.jpg": b""}, {"train": ("annotations.xml", "images")}),
        "a task, default": (
            {"annotations.xml": one, "images/default/sub/a.jpg": b""},
            {"train": ("annotations.xml", "images/default")}),
        "one subset": (
            {"annotations.xml": document(image(more=' subset="Train"')), "images/Train/a.jpg": b""},
            {"train": ("annotations.xml", "images/Train")}),
        "Datumaro": (
            {"train.xml": one, "val.xml": one, "images/sub/a.jpg": b""},
            {"train": ("train.xml", "images"), "val": ("val.xml", "images")}),
        "a task a split": (
            {"train/annotations.xml": one, "train/images/sub/a.jpg": b"", "Test/annotations.xml": one,
             "Test/a.jpg": b""},
            {"train": ("train/annotations.xml", "train/images"), "test": ("Test/annotations.xml", "Test")}),
        "FiftyOne": ({"labels.xml": one, "data/a.jpg": b""}, {"train": ("labels.xml", "data")}),
    }  # fmt: skip
    for case, (files, wanted) in cases.items():
        root = tmp_path / case
        for path, data in files.items():
            write_file(root / path, data)
        found = find_splits(str(root), "cvat", cvat, Task.DETECT)  # type: ignore[arg-type]
        got: dict[str, tuple[str, str]] = {}
        for split, (paths,) in found.items():
            assert isinstance(paths, dict)
            where = [Path(root, paths[kind]).relative_to(root).as_posix() for kind in ("annotations", "images")]
            got[split] = where[0], where[1]
        assert got == wanted, case
        assert dataset(str(root), str(tmp_path / "w"))["source"]["format"] == "cvat", case


def test_a_folder_of_pascal_voc_is_none(tmp_path: Path, run: Run) -> None:
    text = (PROJECT / "tests/formats/real/voc2012.xml").read_bytes()
    for name in ("train", "annotations"):  # names that a document of CVAT may have as well
        root = tmp_path / name
        write_file(root / f"{name}.xml", text)
        picture(root / f"{name}.jpg")
        assert dataset(str(root), str(tmp_path / "w"))["source"]["format"] == "voc"
    told = run("convert", tmp_path / "train/train.xml", tmp_path / "out", "--to", "yolo", code=2)
    assert "train.xml:1: is XML, but Pascal VOC's, one file an image; name the folder of all of them" in told.err


def test_a_video_is_refused_with_the_way_out(run: Run, tmp_path: Path) -> None:
    write_file(tmp_path / "in/annotations.xml", document("<track id='0' label='cat'></track>"))
    told = run("convert", tmp_path / "in", tmp_path / "out", "--to", "yolo", code=2)
    assert "annotations.xml:5: holds tracks of a video (CVAT for video 1.1)" in told.err
    assert "export the task again as 'CVAT for images 1.1'" in told.err
