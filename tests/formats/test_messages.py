"""What is said of broken files: the cause, in words of ours, with the line where a text has one."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pipeline.base.terms import Task
from pipeline.formats import Malformed, Part, coco, labelme, yolo

SQUARE = [[10, 10], [50, 10], [50, 40], [10, 40]]
IMAGE = {"id": 1, "file_name": "船.jpg", "width": 100, "height": 50}
CATEGORY = {"id": 1, "name": "船"}


def _shapes(*shapes: Any, **more: Any) -> bytes:
    return json.dumps({"version": "5.4.1", "shapes": shapes, "imageWidth": 100, "imageHeight": 50, **more}).encode()


def _shape(**more: Any) -> bytes:
    return _shapes({"label": "船", "points": SQUARE, "shape_type": "polygon", **more})


def _json(*annotations: Any, images: Any = (IMAGE,), categories: Any = (CATEGORY,), **more: Any) -> bytes:
    return json.dumps({"images": images, "annotations": annotations, "categories": categories, **more}).encode()


def _object(**more: Any) -> bytes:
    return _json({"id": 7, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0, **more})


LABELME: list[tuple[bytes, str]] = [
    (b"", ": is empty; get it again, or delete it"),
    (b"{", "1: ends before its JSON does: it was cut short; get it again"),
    (b'{"shapes": [\n{"label": }]}', "2: is not JSON from this line on; correct it, or get it again"),
    (b'{"shapes": [],\n}', "2: is not JSON from this line on; correct it, or get it again"),
    (b'{"shapes": ["a" "b"]}', "1: is not JSON from this line on; correct it, or get it again"),
    (b'{"shapes": ["a\n"]}', "1: is not JSON from this line on; correct it, or get it again"),
    (b"<html><body>Log in", ": is a web page or XML; get the file again"),
    (
        b'{\n<<<<<<< HEAD\n"shapes": []}',
        "2: holds the marks of a merge (<<<<<<<, =======, >>>>>>>); resolve it, or check the file out again",
    ),
    (b"\xff\xfe{\0}\0", ": is UTF-16 text; save it as UTF-8"),
    (
        '{"shapes": ["船"]}'.encode("gbk"),
        "1: is not UTF-8 text (old tools wrote the encoding of their Windows); save it as UTF-8",
    ),
    (b"\x1f\x8b\x08\0\0", ": is compressed (gzip); unpack it"),
    (b"PK\x03\x04\x14\0", ": is a zip archive; unpack it"),
    (b"\xff\xd8\xff\xe0", ": is an image (JPEG) of another suffix; move it elsewhere"),
    (b"\x89PNG\r\n", ": is an image (PNG) of another suffix; move it elsewhere"),
    (b"[]", ": is JSON, but no label file of labelme; move it elsewhere"),
    (b"{}", ": is JSON, but has no list `shapes`: no label file of labelme; move it elsewhere"),
    (b'{"shapes": 5}', ": is JSON, but has no list `shapes`: no label file of labelme; move it elsewhere"),
    (_shapes(5), ": shape 1: is 5, not an object with label and points"),
    (_shapes({"points": SQUARE}), ": shape 1: has no label"),
    (_shape(label=None), ": shape 1: its label is null, not a text"),
    (_shape(label="a\nb"), ': shape 1: its label "a\\nb" holds a control character; write it anew'),
    (_shape(points=5), ': shape 1 ("船"): its points are not a list of [x, y] with finite numbers; draw it anew'),
    (_shape(points=[[1, 1]]), ': shape 1 ("船"): a polygon of 1 point; it needs 3 or more'),
    (
        _shape(points=[["a", 1]] * 3),
        ': shape 1 ("船"): its points are not a list of [x, y] with finite numbers; draw it anew',
    ),
    (
        _shape(shape_type="船"),
        ": shape 1 (\"船\"): shape_type '船' is unknown; labelme and its relatives have polygon, rectangle, "
        "oriented_rectangle, circle, mask, line, linestrip, point, points, rotation, quadrilateral",
    ),
    (
        _shape(shape_type="cuboid"),
        ": shape 1 (\"船\"): shape_type 'cuboid' is X-AnyLabeling's box in space, which has no outline in the "
        "image; draw a polygon instead",
    ),
    (
        _shape(shape_type="mask", points=[[1, 1], [2, 2]], mask="!"),
        ': shape 1 ("船"): its mask is no PNG image in base64, or a damaged one; draw it anew',
    ),
    (_shape(group_id=[1]), ": shape 1: its group_id is [1], not a whole number"),
    (
        _shapes(imageWidth="wide"),
        ': imageWidth "wide" and imageHeight 50 are no size in pixels; correct them, or set both to null',
    ),
    (
        _shapes(imageWidth=None),
        ": does not say the size of its image (imageWidth, imageHeight), and there is no image that would; "
        "put the image beside it",
    ),
    (
        _shapes(imageWidth=10**6, imageHeight=10**6),
        ": its image of 1000000 x 1000000 pixels is larger than trainers read (1,073,741,824); correct "
        "imageWidth and imageHeight",
    ),
]

COCO: list[tuple[bytes, str]] = [
    (b"", ": is empty; get it again, or delete it"),
    (
        b'{"dm_format_version": "1.0", "categories": {}, "items": []}',
        ": is JSON, but no COCO dataset: a project of Datumaro; export it as COCO",
    ),
    (b'{"version": "2.2.0", "assets": {}}', ": is JSON, but no COCO dataset: a project of VoTT; export it anew"),
    (
        b"[]",
        ": is JSON, but no COCO dataset: it is a list, as detectors, Label Studio and CreateML write; "
        "export it as COCO",
    ),
    (b'{"images": [', ": is not JSON (cut short: its last bracket is missing)"),
    (b'{"images": [\n{"id": 1,}]}', "images[0] is not JSON (line 2, character 10: a key in double quotes is missing)"),
    (b'{"images": {}}', ": is JSON, but no COCO dataset: `images` is no list"),
    (b"<!DOCTYPE html><title>Log in", ": is a web page or XML; get the file again"),
    (
        b'{\n=======\n"images": []}',
        "2: holds the marks of a merge (<<<<<<<, =======, >>>>>>>); resolve it, or check the file out again",
    ),
    (b"\xff\xfe{\0}\0", ": is UTF-16 text; save it as UTF-8"),
    (b'{"images": [],\n"info": "\xff"}', "2: is not UTF-8 text; save it as UTF-8"),
    (b'{"a": 1}', ": is JSON, but no COCO dataset: it has no `images`"),
    (b'{"_via_img_metadata": {}}', ": is JSON, but no COCO dataset: a project of VIA; export it as COCO"),
    (_json({"id": 1}, categories=()), ": has annotations but no categories: their classes have no names"),
    (_json(categories=[5]), ": has a category that is no object (number 1)"),
    (_json(categories=[{"name": "船"}]), ': has a category without an id ("船")'),
    (_json(categories=[{"id": 1}]), ": has a category without a proper name (number 1, id 1)"),
    (
        _json(categories=[CATEGORY, {"id": 1, "name": "cat"}]),
        ": has the category id 1 twice, as '船' and 'cat'; give each an id of its own",
    ),
    (_json(images=[5]), "images[0] is 5, no object (line 1)"),
    (_json(images=[{"id": 1}]), "images[0] (id 1) has neither a file_name nor a coco_url that names a file"),
    (
        _json(images=[IMAGE, IMAGE | {"file_name": "b.jpg"}]),
        'images[1] ("b.jpg", id 1) has the id of another image: whose the objects are is not known',
    ),
    (_json(5), "annotations[0] is 5, no object (line 1)"),
    (_object(image_id=9), "annotations[0] belongs to no image (image_id 9)"),
    (_object(category_id=9), "annotation 7 has the category_id 9, which is no category"),
    (_object(image_id=None), "annotations[0] has no image_id"),
    (_object(segmentation="船"), 'annotation 7 has the segmentation "船", which is neither polygons nor run lengths'),
    (
        _json(images=[IMAGE | {"width": "船"}]),
        'image "船.jpg" (id 1) has no width and height in pixels, and there is no image file to read them from',
    ),
    (
        _json(images=[IMAGE | {"width": -5}]),
        'image "船.jpg" (id 1) has no width and height in pixels, and there is no image file to read them from',
    ),
]

YOLO: list[tuple[bytes, str]] = [
    (
        b"0 0.5 0.5 0.2",
        "1: 4 tokens '0 0.5 0.5 0.2' look like a row cut short; task detect takes a box (5 tokens) or a "
        "polygon (odd, 7 or more)",
    ),
    (b"\n0 0.5 0.5 0.2 x", "2: 'x' is not a number"),
    (b"\xe8\x88\xb9 0.5 0.5 0.2 0.2", "1: '船' is not a number"),
    (
        b"0 1.5 0.5 0.2 0.2",
        "1: '1.5' is not within 0 and 1 (0.01 more is accepted): pixels instead of normalised coordinates?",
    ),
    (b"0 0.5 0.5 -0.2 0.2", "1: negative width or height in '0 0.5 0.5 -0.2 0.2'"),
    (b"0 nan 0.5 0.2 0.2", "1: 'nan' is not a finite number"),
    (b"-1 0.5 0.5 0.2 0.2", "1: class '-1' is negative"),
    (b"0.5 0.5 0.5 0.2 0.2", "1: class '0.5' is not a whole number below 1,000,000"),
    (
        b"0 0.5 0.5 0.2 0.2 0.9",
        "1: 6 tokens '0 0.5 0.5 0.2 0.2 0.9' look like a box with a confidence or a track's number, as "
        "predictions have; remove the last; task detect takes a box (5 tokens) or a polygon (odd, 7 or more)",
    ),
    (b"\xff\xfe0\0 \0", "1: is UTF-16 text; save it as UTF-8"),
    (b"<html>\n", "1: is a web page or XML; get the file again"),
    (
        b"0 0.5 0.5 0.1 0.1\n<<<<<<< HEAD\n",
        "2: holds the marks of a merge (<<<<<<<, =======, >>>>>>>); resolve it, or check the file out again",
    ),
    (b"0,0.5,0.5,0.2,0.2", "1: '0,0.5,0.5,0.2,0.2' is not a number; put blanks between numbers"),
    (b'\n{"shapes": []}', "2: is JSON, and no rows of numbers; name the format that it is of"),
    (b"99999999999 0.5 0.5 0.2 0.2", "1: class '99999999999' is not a whole number below 1,000,000"),
]


def said_of_coco(content: bytes) -> list[str]:
    """Everything that is said of a COCO JSON."""
    try:
        found = coco.outline([content], Task.DETECT)
    except Malformed as error:
        return [f"{error.line or ''}: {error}"]
    images, annotations = ([content[a:b] for a, b in spans.tolist()] for spans in (found.images, found.annotations))
    part = Part(images, annotations, found.image_of, found.labels, None, lambda some: [None] * len(some))
    parsed = coco.parse(part, Task.SEGMENT)
    return [detail for _, _, detail, _ in found.problems] + [problem.detail for problem in parsed.problems]


def said_of_file(parse: Any, content: bytes) -> list[str]:
    """Everything that is said of a label file."""
    problems = parse([content], Task.DETECT).problems
    return [f"{problem.line or ''}: {problem.detail}" for problem in problems]


@pytest.mark.parametrize(("content", "sentence"), LABELME)
def test_of_labelme_files(content: bytes, sentence: str) -> None:
    (said,) = said_of_file(labelme.parse, content)
    assert said == sentence


@pytest.mark.parametrize(("content", "sentence"), YOLO)
def test_of_label_rows(content: bytes, sentence: str) -> None:
    (said,) = said_of_file(yolo.parse, content)
    assert said == sentence


@pytest.mark.parametrize(("content", "sentence"), COCO)
def test_of_coco_json(content: bytes, sentence: str) -> None:
    (said,) = said_of_coco(content)
    assert said == sentence


def test_no_sentence_is_a_librarys() -> None:
    sentences = "\n".join(sentence for _, sentence in LABELME + YOLO + COCO)
    library = r"Expect|Error|Invalid|Untermin|msgspec|\bgot\b|\bchar \d|\bcolumn \d|\bbyte \d|\\u[0-9a-f]{4}|`?\$\["
    assert re.findall(library, sentences) == []
