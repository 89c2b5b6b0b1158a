"""labelme's JSON: every version, every shape, and whatever can be wrong with a file."""

from __future__ import annotations

import base64
import functools
import io
import json
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.base.terms import Task
from pipeline.formats import Parsed, labelme
from pipeline.geometry import masks
from pipeline.images.header import Picture
from pipeline.tables.schema import LabelState
from tests.support.contracts import FormatContract

DETECT, SEGMENT = Task.DETECT, Task.SEGMENT
TRIANGLE = [[10, 10], [50, 10], [10, 30]]
WIDTH, HEIGHT = 100, 50


def shape(label: str = "cat", points: Any = TRIANGLE, kind: str | None = "polygon", **more: Any) -> dict[str, Any]:
    """A shape as 5.x writes it."""
    plain: dict[str, Any] = {"group_id": None, "description": "", "shape_type": kind, "flags": {}}
    return {"label": label, "points": points, **plain, **more}


def file(*shapes: Any, **more: Any) -> bytes:
    """A label file as 5.x writes it, of an image of 100 x 50 pixels."""
    data = {
        "version": "5.4.1",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": "a.jpg",
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
        **more,
    }
    return json.dumps(data, indent=2).encode()


def png(mask: Any) -> str:
    """A mask as labelme embeds it."""
    made = io.BytesIO()
    Image.fromarray(np.asarray(mask, np.uint8)).save(made, "PNG")
    return base64.b64encode(made.getvalue()).decode()


@functools.cache
def jpeg(width: int, height: int, orientation: int = 1) -> bytes:
    made, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (width, height)).save(made, "JPEG", exif=exif)
    return made.getvalue()


def old(year: int) -> bytes:
    """One triangle as labelme wrote it in a year."""
    plain: dict[str, Any] = {"label": "cat", "line_color": None, "fill_color": None, "points": TRIANGLE}
    data: dict[str, Any] = {
        "shapes": [plain],
        "lineColor": [0, 255, 0, 128],
        "fillColor": [255, 0, 0, 128],
        "imagePath": "a.jpg",
        "imageData": base64.b64encode(jpeg(WIDTH, HEIGHT)).decode(),
    }
    if year >= 2018:
        data |= {"version": "2.9.1", "flags": {}}
    if year >= 2019:
        plain |= {"shape_type": "polygon", "flags": {}}
        data |= {"version": "3.16.2", "imageHeight": HEIGHT, "imageWidth": WIDTH}
    return json.dumps(data).encode()


NEWEST = file(
    {
        "label": "cat",
        "points": TRIANGLE,
        "group_id": 3,
        "description": None,
        "shape_type": "polygon",
        "flags": None,
        "mask": None,
        "difficult": True,
    },
    version="7.0.0",
    comment="kept by labelme",
)


class TestLabelmeFormat(FormatContract):
    name = "labelme"
    nothing = file()
    samples: ClassVar = {
        task: [old(2016), old(2018), old(2019), file(shape()), NEWEST, b"\xef\xbb\xbf" + file(shape(), shape("dog"))]
        for task in Task
    }


def parse(content: bytes, task: Task = SEGMENT, **more: Any) -> Parsed:
    return labelme.parse([content], task, None, **more)


def rows(content: bytes, task: Task = SEGMENT, **more: Any) -> list[dict[str, Any]]:
    parsed = parse(content, task, **more)
    assert parsed.problems == []
    found: list[dict[str, Any]] = parsed.rows.to_pylist()
    return found


def only(content: bytes, task: Task = SEGMENT, **more: Any) -> dict[str, Any]:
    (row,) = rows(content, task, **more)
    return row


def numbers(row: dict[str, Any]) -> list[float]:
    """The numbers of a row, in pixels."""
    values = [float(t) for t in row["tail"].split()]
    assert row["n_tokens"] == len(values) + 1
    return [round(v * (HEIGHT if i % 2 else WIDTH), 3) for i, v in enumerate(values)]


@pytest.mark.parametrize("content", [old(2016), old(2018), old(2019), file(shape()), NEWEST])
def test_every_version_says_the_same(content: bytes) -> None:
    row = only(content)
    loss = "marked_difficult" if content == NEWEST else None
    assert (row["line"], row["label"], row["class_id"], row["loss"]) == (1, "cat", -1, loss)
    assert row["tail"] == b" 0.100000 0.200000 0.500000 0.200000 0.100000 0.600000"
    assert (row["cx"], row["cy"], row["w"], row["h"]) == pytest.approx((0.3, 0.4, 0.4, 0.4))
    assert only(content, DETECT)["tail"] == b" 0.300000 0.400000 0.400000 0.400000"
    images = parse(content).images
    assert images is not None
    assert images.select(["width", "height", "image_said"]).to_pylist() == [
        {"width": 100, "height": 50, "image_said": "a.jpg"}
    ]


def test_numbers_can_be_short() -> None:
    assert only(file(shape()), options={"numbers": "%g"})["tail"] == b" 0.1 0.2 0.5 0.2 0.1 0.6"


SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 20.0, 10.0, 20.0]


@pytest.mark.parametrize(
    ("points", "kind", "polygon"),
    [
        (TRIANGLE, None, [10, 10, 50, 10, 10, 30]),
        ([[10, 10], [30, 20]], "rectangle", SQUARE),
        ([[30, 20], [10, 10]], "rectangle", SQUARE),
        ([[30, 10], [10, 20]], "rectangle", SQUARE),
        ([[30, 10], [10, 10], [10, 20], [30, 20]], "rectangle", SQUARE),  # as other tools write it
        ([[20, 5], [35, 20], [20, 35], [5, 20]], "oriented_rectangle", [20, 5, 35, 20, 20, 35, 5, 20]),
        ([[-10, 10], [30, -20], [30, 20], [-10, 20]], "polygon", [0, 2.5, 3.333, 0, 30, 0, 30, 20, 0, 20]),
    ],
)
def test_a_shape_is_a_polygon(points: Any, kind: str, polygon: list[float]) -> None:
    row = only(file(shape(points=points, kind=kind)))
    assert numbers(row) == pytest.approx(polygon, abs=1e-3)
    xs, ys = polygon[::2], polygon[1::2]
    raw = json.loads(row["raw"])
    assert raw["bbox"] == pytest.approx([min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)], abs=1e-3)
    assert [round(v, 3) for v in raw["segmentation"][0]] == pytest.approx(polygon, abs=1e-3)
    flat = np.array(raw["segmentation"][0]).reshape(-1, 2)
    assert raw["area"] == masks.area(masks.of_polygon(flat, HEIGHT, WIDTH)) > 0
    assert raw["iscrowd"] == 0


def test_a_circle_is_round() -> None:
    row = only(file(shape(points=[[40, 25], [40, 35]], kind="circle")))
    points = np.array(numbers(row)).reshape(-1, 2)
    assert np.hypot(*(points - [40, 25]).T) == pytest.approx(10, abs=0.01)
    assert (row["cx"], row["cy"], row["w"], row["h"]) == pytest.approx((0.4, 0.5, 0.2, 0.4))
    assert json.loads(row["raw"])["area"] == pytest.approx(math.pi * 100, rel=0.02)
    cut = only(file(shape(points=[[0, 0], [0, 10]], kind="circle")), DETECT)
    assert numbers(cut) == pytest.approx([5, 5, 10, 10])


def _ring() -> Any:
    mask = np.zeros((6, 10), bool)
    mask[1:6, 2:9] = True
    mask[3, 4:6] = False
    return mask


def test_a_mask_is_its_pixels() -> None:
    mask = _ring()
    content = file(shape(points=[[20, 30], [29, 35]], kind="mask", mask=png(mask)))
    whole = np.zeros((HEIGHT, WIDTH), bool)
    whole[30:36, 20:30] = mask
    row = only(content)
    raw = json.loads(row["raw"])
    assert raw["segmentation"]["size"] == [HEIGHT, WIDTH]
    assert (masks.to_mask(masks.decompress(raw["segmentation"]["counts"]), HEIGHT, WIDTH) == whole).all()
    assert (raw["area"], raw["bbox"]) == (mask.sum(), [22, 31, 7, 5])
    assert numbers(row) == [22, 31, 29, 31, 29, 36, 22, 36]
    assert row["loss"] == "holes"
    assert only(content, DETECT)["loss"] is None
    grey = file(shape(points=[[20, 30], [29, 35]], kind="mask", mask=png(mask * 255)))
    assert only(grey)["raw"] == row["raw"]


def test_a_mask_of_more_parts_than_a_drawing_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [[0, 0], [11, 1]]
    dots = shape(points=points, kind="mask", mask=png([[1, 0] * 6, [0] * 12]))
    assert len(only(file(dots))["tail"]) > 0
    monkeypatch.setattr(masks, "MOST_PARTS", 5)
    parsed = parse(file(dots, shape("dog")))
    assert [(p.reason, p.rows) for p in parsed.problems] == [("too_long", 1)]
    assert "its mask has more than 5 parts" in parsed.problems[0].detail
    assert parsed.rows["label"].to_pylist() == ["dog"]


def test_a_mask_beyond_the_image_is_cut_off() -> None:
    row = only(file(shape(points=[[95, -2], [104, 3]], kind="mask", mask=png(_ring()))), DETECT)
    assert numbers(row) == [98.5, 2, 3, 4]
    assert json.loads(row["raw"])["area"] == _ring()[2:, :5].sum()
    assert only(file(shape(points=[[200, 2], [209, 7]], kind="mask", mask=png(_ring()))))["loss"] == "outside"


@pytest.mark.parametrize(
    ("points", "kind"),
    [
        ([[1, 2], [30, 40]], "line"),
        ([[1, 2], [30, 40], [2, 40]], "linestrip"),
        ([[1, 2]], "point"),
        ([[1, 2], [3, 4]], "points"),
    ],
)
def test_lines_and_points_are_counted_and_no_objects(points: Any, kind: str) -> None:
    row = only(file(shape(points=points, kind=kind)))
    assert (row["loss"], row["tail"], row["raw"], row["label"]) == ("no_area", None, None, "cat")


@pytest.mark.parametrize("group", [1, "1", 1.0, " 1 "])
def test_a_group_is_a_number_however_it_is_written(group: Any) -> None:
    assert len(rows(file(shape(group_id=1), shape(group_id=group)))) == 1


@pytest.mark.parametrize("group", [None, "", " ", float("nan")])
def test_no_group_joins_nothing(group: Any) -> None:
    assert len(rows(file(shape(group_id=group), shape(group_id=group)))) == 2


def test_a_bad_point_takes_no_polygon_of_its_group_along() -> None:
    parsed = parse(file(shape(group_id=1), shape(group_id=1, kind="point", points=[[float("inf"), 1]])))
    assert (parsed.rows.num_rows, [p.rows for p in parsed.problems]) == (1, [1])


def test_an_object_of_several_bad_shapes_is_lost_once() -> None:
    parsed = parse(file(*(shape(group_id=1, kind="cuboid") for _ in range(3)), shape(group_id=1)))
    assert (parsed.rows.num_rows, [p.rows for p in parsed.problems]) == (0, [1, 0, 0])


def test_a_number_too_large_is_told_of_its_shape() -> None:
    content = file(shape(points=[[1, 1], [7, 7], [123, 1]])).replace(b"123", b"1e999")
    assert [p.reason for p in parse(content).problems] == ["points"]


def test_a_group_is_one_object() -> None:
    far = [[60, 10], [70, 10], [60, 20]]
    flags = {"occluded": True, "hard": False}
    content = file(
        shape(group_id=1, flags=flags, description="left"),
        shape("dog", group_id=1),
        shape(points=far, group_id=1, flags={"hard": True}, description="right"),
        shape(points=far),
        shape(points=far),
        shape(points=[[1, 1]], kind="point", group_id=1),
    )
    found = rows(content)
    assert [(r["line"], r["label"], r["loss"]) for r in found] == [
        (1, "cat", "joined"),
        (2, "dog", "attributes"),
        (4, "cat", None),
        (5, "cat", None),
        (6, "cat", "no_area"),
    ]
    raw = json.loads(found[0]["raw"])
    assert raw["segmentation"] == [[10, 10, 50, 10, 10, 30], [60, 10, 70, 10, 60, 20]]
    assert raw["bbox"] == [10, 10, 60, 20]
    assert (raw["group_id"], raw["flags"]) == (1, {"occluded": True, "hard": True})
    assert raw["description"] == "left\nright"
    assert len(numbers(found[0])) == 2 * (4 + 4)


def test_a_text_of_several_lines_is_said_once() -> None:
    texts = ["left\nof two", "left\nof two", "of", "left"]
    (row,) = rows(file(*(shape(group_id=1, description=text) for text in texts)))
    assert json.loads(row["raw"])["description"] == "left\nof two\nof"


def test_parts_that_overlap_are_counted_once() -> None:
    raw = json.loads(only(file(shape(group_id=0), shape(group_id=0)))["raw"])
    assert raw["area"] == json.loads(only(file(shape()))["raw"])["area"]


def test_a_group_of_a_mask_and_a_polygon_is_pixels() -> None:
    patch = shape(points=[[20, 30], [29, 35]], kind="mask", mask=png(_ring()), group_id=0)
    raw = json.loads(only(file(patch, shape(group_id=0)))["raw"])
    assert raw["area"] == _ring().sum() + json.loads(only(file(shape()))["raw"])["area"]
    assert isinstance(raw["segmentation"]["counts"], str)


@pytest.mark.parametrize("label", ["__ignore__", "_background_"])
def test_labels_of_no_class(label: str) -> None:
    row = only(file(shape(label)))
    assert (row["label"], row["loss"], row["tail"], row["raw"]) == (label, "no_class", None, None)


@pytest.mark.parametrize(
    ("points", "kind", "loss"),
    [
        ([[10, 10], [20, 20], [30, 30]], "polygon", None),
        ([[10, 10], [20, 10], [30, 10]], "polygon", "zero_area"),
        ([[10, 10], [10, 20]], "rectangle", "zero_area"),
        ([[10, 10], [10, 10]], "circle", "zero_area"),
        ([[110, 10], [120, 20]], "rectangle", "outside"),
        ([[-20, 10], [-1, 20]], "rectangle", "outside"),
    ],
)
def test_what_a_row_cannot_hold_is_counted(points: Any, kind: str, loss: str | None) -> None:
    row = only(file(shape(points=points, kind=kind)))
    assert row["loss"] == loss
    assert (row["tail"] is None) == (loss is not None)
    assert (row["raw"] is None) == (loss == "outside")


def _bad(shapes: Any) -> list[tuple[Any, bytes, str, str]]:
    return [(None, file(s, shape("dog")), reason, clause) for s, reason, clause in shapes]


BAD_SHAPES = _bad(
    [
        ("cat", "shape", 'shape 1: is "cat", not an object'),
        (None, "shape", "shape 1: is null"),
        ({"points": TRIANGLE}, "label", "shape 1: has no label"),
        (shape([3]), "label", "shape 1: its label is [3], not a text"),  # type: ignore[arg-type]
        (shape(" "), "label", "its label is"),
        (shape("a\nb"), "label", "control character"),
        (shape(kind="cuboid"), "shape_type", "shape 1 (\"cat\"): shape_type 'cuboid' is X-AnyLabeling's box in space"),
        (
            shape(kind="ellipse"),
            "shape_type",
            "shape_type 'ellipse' is unknown; labelme and its relatives have polygon,",
        ),
        (shape(kind=7), "shape_type", "'7'"),  # type: ignore[arg-type]
        (shape(points=[[1, 2], [3, 4]]), "points", "a polygon of 2 points; it needs 3 or more"),
        (shape(points=[[1, 2]], kind="rectangle"), "points", "a rectangle of 1 point; it needs 2 to 4"),
        (shape(points=TRIANGLE, kind="circle"), "points", "a circle of 3 points; it needs 2"),
        (shape(points=TRIANGLE, kind="oriented_rectangle"), "points", "it needs 4"),
        (shape(points=[]), "points", "not a list of [x, y]"),
        (shape(points=None), "points", "not a list of [x, y]"),
        (shape(points=[[1, 2, 3]] * 3), "points", "not a list of [x, y]"),
        (shape(points=[[1, "x"]] * 3), "points", "not a list of [x, y]"),
        (shape(points=[[1, math.nan]] * 3), "points", "with finite numbers"),
        (shape(points=[[1, math.inf]] * 3), "points", "with finite numbers"),
        (shape(points=[[1, 10**400]] * 3), "points", "with finite numbers"),
        (shape(points=[[1, True]] * 3), "points", "with finite numbers"),
        (shape(group_id=1.5), "group", "group_id is 1.5"),
        (shape(points=[[1, 1], [2, 2]], kind="mask"), "mask", "a mask without one"),
        (shape(points=[[1, 1], [2, 2]], kind="mask", mask="AAAA"), "mask", "no PNG image"),
        (shape(points=[[1, 1], [2, 2]], kind="mask", mask="é"), "mask", "no PNG image"),
        (shape(points=[[1, 1], [2, 2]], kind="mask", mask=png(_ring())[:60]), "mask", "no PNG image"),
        (
            shape(points=[[1, 1], [2, 2]], kind="mask", mask=png(_ring())),
            "mask",
            "10 x 6 pixels, but its points span 2 x",
        ),
    ]
)
BAD_FILES: list[tuple[int | None, bytes, str, str]] = [
    (None, b" \n", "not_json", "is empty"),
    (2, b'{"shapes": [],\n oops}', "not_json", "is not JSON"),
    (1, file(shape())[:-30].replace(b"\n", b" "), "not_json", "ends before its JSON does"),
    (2, b'{"shapes": [\n<<<<<<< HEAD\n=======\n>>>>>>> b\n]}', "merge_marks", "the marks of a merge (<<<<<<<"),
    (None, b"<!DOCTYPE html><html>sign in", "not_json", "is a web page"),
    (None, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "not_json", "a pointer of Git LFS"),
    (None, file(shape()).decode().encode("utf-16"), "not_utf8", "is UTF-16 text"),
    (None, b'{"shapes":' * 100_000, "not_json", "too deep"),
    (1, '{"shapes": [{"label": "狗"}]}'.encode("gbk"), "not_utf8", "is not UTF-8 text"),
    (None, b"[1, 2]", "not_labelme", "is JSON, but no label file of labelme"),
    (None, b'{"images": [], "annotations": [], "categories": []}', "not_labelme", "no list `shapes`"),
    (None, b'{"shapes": {}}', "not_labelme", "no list `shapes`"),
    (None, file(imageHeight="high"), "size", 'imageHeight "high" are no size'),
    (None, file(imageHeight=True), "size", "are no size in pixels"),
    (None, file(imageHeight=10**6, imageWidth=10**6), "size", "is larger than trainers read"),
    (None, file(imageHeight=0), "no_size", "does not say the size of its image"),
    (None, file(imageHeight=-1, imageWidth=-1), "no_size", "does not say the size of its image"),
    (None, file(imageWidth=1.5), "size", "are no size in pixels"),
    (None, file(imageWidth=None), "no_size", "does not say the size of its image"),
    (None, file(imageWidth=None, imageData="AAAA"), "no_size", "does not say the size of its image"),
]


@pytest.mark.parametrize(("line", "content", "reason", "clause"), BAD_SHAPES + BAD_FILES)
def test_what_is_bad_is_told(line: int | None, content: bytes, reason: str, clause: str) -> None:
    parsed = labelme.parse([file(shape()), content, file(shape("owl"))], SEGMENT)
    assert [(p.file, p.line, p.reason) for p in parsed.problems] == [(1, line, reason)]
    assert clause in parsed.problems[0].detail
    assert "\n" not in parsed.problems[0].detail
    labels = parsed.rows["label"].to_pylist()
    if (line, content, reason, clause) in BAD_SHAPES:
        assert (labels, parsed.states[1]) == (["cat", "dog", "owl"], LabelState.FOUND)
    else:
        assert (labels, parsed.states[1]) == (["cat", "owl"], LabelState.CORRUPT)


def test_an_object_with_a_bad_part_is_left_out_whole() -> None:
    parsed = parse(file(shape(group_id=1), shape(points=[], group_id=1), shape(), shape("dog", group_id=1)))
    assert [p.reason for p in parsed.problems] == ["points"]
    assert [(r["line"], r["label"]) for r in parsed.rows.to_pylist()] == [(3, "cat"), (4, "dog")]


@pytest.mark.parametrize(
    ("path", "image"),
    [
        ("a.jpg", "a.jpg"),
        ("..\\photos\\a b.jpg", "../photos/a b.jpg"),
        ("sub/a.jpg", "sub/a.jpg"),
        ("C:\\Users\\me\\a.jpg", "C:/Users/me/a.jpg"),
        ("/home/me/a.jpg", "/home/me/a.jpg"),
        ("", None),
        (None, None),
        (3, None),
        ("a\0b", None),
    ],
)
def test_the_image_is_where_the_file_says(path: Any, image: str | None) -> None:
    images = parse(file(shape(), imagePath=path)).images
    assert images is not None
    assert images["image_said"].to_pylist() == [image]


def test_flags_of_the_image_go_along() -> None:
    images = parse(file(shape(), flags={"night": True})).images
    assert images is not None
    assert [json.loads(r) for r in images["raw"].to_pylist()] == [{"flags": {"night": True}}]


@pytest.mark.parametrize("embedded", [True, False])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_file_without_a_size_was_drawn_on_the_image_as_it_is_stored(orientation: int, embedded: bool) -> None:
    """A pixel of the stored image that only the shape covers: it is where Pillow puts it."""
    from PIL import ImageOps

    stored = jpeg(80, 40, orientation)
    made = Image.new("L", (80, 40))
    made.paste(255, (16, 8, 32, 24))
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    made.save(buffer, "PNG", exif=exif)
    left, top, right, bottom = ImageOps.exif_transpose(Image.open(buffer)).getbbox() or (0, 0, 0, 0)
    square = {"label": "cat", "points": [[16, 8], [32, 8], [32, 24], [16, 24]]}
    data: dict[str, Any] = {"shapes": [square], "imagePath": "a.jpg", "imageData": None}
    if embedded:
        data["imageData"] = base64.b64encode(stored).decode()
    row = only(json.dumps(data).encode(), pictures=lambda _number, _path: Picture(80, 40, orientation))
    assert json.loads(row["raw"])["bbox"] == [left, top, right - left, bottom - top]
    new = json.dumps(data | {"version": "5.0.1"}).encode()  # it was drawn on the image as it is shown
    images = parse(new, pictures=lambda _number, _path: Picture(80, 40, orientation)).images
    assert images is not None
    assert images.select(["width", "height"]).to_pylist() == [
        {"width": 40, "height": 80} if orientation > 4 else {"width": 80, "height": 40}
    ]


_plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_keys = st.sampled_from(["label", "points", "shape_type", "group_id", "flags", "mask", "description"])
_anything = st.recursive(
    _plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=5), max_leaves=12
)


@given(_anything, st.sampled_from(["shapes", "imageWidth", "imageData", "flags", "imagePath", "version"]))
def test_anything_is_a_problem_or_rows(value: Any, key: str) -> None:
    parsed = parse(file(shape(), **{key: [value, shape("dog")] if key == "shapes" else value}))
    assert len(parsed.states) == 1
    told = parsed.rows["label"].to_pylist()
    assert "dog" in told or key != "shapes"
    assert told or parsed.problems


# --- against what others made of the same files -----------------------------------------------------------------------


def _read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        p.stem: [json.loads(r["raw"]) | {"label": r["label"]} for r in rows(p.read_bytes()) if r["raw"]]
        for p in sorted(folder.glob("*.json"))
    }


def test_the_tutorials_polygons_are_its_authors(shared: Path) -> None:
    """Its boxes come from a pixel mask, up to a pixel off; its area is that of the polygon, not of pixels."""
    theirs = json.loads((shared / "data/labelme/tony607-trainval.json").read_text())
    names = {c["id"]: c["name"] for c in theirs["categories"]}
    stems = {i["id"]: i["file_name"].removesuffix(".jpg") for i in theirs["images"]}
    ours = _read(shared / "data/labelme/tony607")
    assert sorted(ours) == sorted(stems.values())
    assert sum(map(len, ours.values())) == len(theirs["annotations"]) == 165
    for number, stem in stems.items():
        expected = [a for a in theirs["annotations"] if a["image_id"] == number]
        assert [a["label"] for a in ours[stem]] == [names[a["category_id"]] for a in expected]
        for mine, other in zip(ours[stem], expected, strict=True):
            assert mine["segmentation"] == other["segmentation"]
            x, y, w, h = mine["bbox"]
            a, b, c, d = other["bbox"]
            assert np.abs(np.array([x, y, x + w, y + h]) - [a, b, a + c, b + d]).max() <= 2
            assert mine["area"] == pytest.approx(other["area"], rel=0.01)


def test_instances_are_those_of_labelmes_own_converter(shared: Path) -> None:
    """Its masks are Pillow's, which draws the border too: boxes up to 2 pixels, areas by about half the border."""
    folder = shared / "data/labelme/wkentaro/instance_segmentation"
    theirs = json.loads((folder / "data_dataset_coco/annotations.json").read_text())
    names = {c["id"]: c["name"] for c in theirs["categories"]}
    ours = _read(folder / "data_annotated")
    for image in theirs["images"]:
        expected = [a for a in theirs["annotations"] if a["image_id"] == image["id"]]
        mine = ours[Path(image["file_name"]).stem]
        assert [a["label"] for a in mine] == [names[a["category_id"]] for a in expected]
        for one, other in zip(mine, expected, strict=True):
            size = [image["width"], image["height"]]
            inside = all((np.array(s).reshape(-1, 2) <= size).all() for s in other["segmentation"])
            assert (one["segmentation"] == other["segmentation"]) == inside  # we cut off what is beyond the image
            x, y, w, h = one["bbox"]
            a, b, c, d = other["bbox"]
            assert np.abs(np.array([x, y, x + w, y + h]) - [a, b, a + c, b + d]).max() <= 2
            border = sum(
                np.abs(np.diff(np.array(s).reshape(-1, 2), axis=0, append=[s[:2]])).max(axis=1).sum()
                for s in one["segmentation"]
            )
            assert 0 <= other["area"] - one["area"] <= border


def test_every_primitive_of_labelme_is_read(shared: Path) -> None:
    found = rows((shared / "data/labelme/wkentaro/primitives/primitives.json").read_bytes())
    assert {r["label"]: r["loss"] for r in found} == {
        "rectangle": None,
        "circle": None,
        "polygon": None,
        "octagon": None,
        "line": "no_area",
        "point": "no_area",
        "line_strip": "no_area",
    }
    assert len(rows((shared / "data/labelme/wkentaro/tutorial/apc2016_obj3.json").read_bytes())) == 4
