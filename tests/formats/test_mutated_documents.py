"""Thousands of damaged real documents: each gives finite rows or a counted reason, never an exception."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any
from xml.etree import ElementTree

import pytest

from pipeline.base.terms import Task
from pipeline.formats import (
    Malformed,
    Parsed,
    Part,
    coco,
    cvat,
    dota,
    isat,
    labelme,
    labelstudio,
    ndjson,
    odgt,
    openimages,
    voc,
    yolo,
)
from pipeline.formats._values import with_numbers
from pipeline.formats.coco.placing import completed
from pipeline.formats.cvat.shapes import SHAPES
from pipeline.images.header import Picture
from pipeline.tables.schema import LabelState
from tests.formats.test_labelme import file, png, shape
from tests.support.helpers import PROJECT, repeated, slow

pytestmark = pytest.mark.repeated

DOCUMENTS = repeated(4000)
_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 0.5, -0.0, 1e-320, 1e308, 10**30, 2**63, "", " ", "cat", "-1", "1e3", "NaN", "ü\u200b",
    "\ud800", "\0", [], {}, [[]], [None], [1, 2], [[1, 2]], {"label": 1}, float("nan"), float("inf"),
    "iVBORw0KGgo=", "/9j/4AAQ",
    "polygon", "Mask", "rotation", "circle", "point", "../a.jpg", "C:\\a.jpg", "person-1", 2**31, "1" * 400,
]  # fmt: skip
_BYTES = [b"", b"0", b"-", b"e400", b"\0", b"\xff", b"\xef\xbb\xbf", b"{", b"]", b'"', b",", b" ", b"\n", b"\r",
          b"NaN", b"nan", b"1e309", b"<<<<<<< HEAD\n", b"0.5", b"2", b".", b"\xc2\xa0", b"\x0c", b"9" * 30,
          b"\\u", b"\\ud800"]  # fmt: skip


def _damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` with some bytes cut, doubled, changed or put in."""
    for _ in range(rng.randint(1, 4)):
        a = rng.randrange(len(data) + 1)
        b = min(len(data), a + int(rng.expovariate(0.1)))
        middle = rng.choice([b"", data[a:b] * 2, rng.choice(_BYTES), bytes([rng.randrange(256)])])
        data = data[:a] + middle + data[b:]
    return data if rng.random() > 0.05 else data[: rng.randrange(len(data) + 1)]


def _altered(value: Any, rng: random.Random, depth: int = 0) -> Any:
    """A JSON value with something in it replaced, left out or doubled."""
    if depth and (rng.random() < 0.15 or not isinstance(value, list | dict) or not value):
        return rng.choice(_VALUES)
    value = value.copy()
    key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
    if rng.random() < 0.1:
        del value[key]
    elif rng.random() < 0.1 and isinstance(value, list):
        value.append(value[key])
    else:
        value[key] = _altered(value[key], rng, depth + 1)
    return value


def _labelme_documents() -> list[bytes]:
    """The label files of the sample, of the shared data if they are there, and one of every shape."""
    paths = sorted((PROJECT / "tests/sample/labelme").glob("*.json"))
    paths += sorted((PROJECT.parent / "shared/data/labelme").rglob("*.json"))
    found = []
    for path in paths:
        data = json.loads(path.read_bytes())
        if isinstance(data.get("shapes"), list):
            held = data.get("imageData")
            found.append(json.dumps(data | {"imageData": held and held[:2000]}).encode())
    square = [[10, 10], [50, 10], [50, 40], [10, 40]]
    found.append(file(
        shape(kind="circle", points=[[20, 20], [30, 20]]), shape(kind="rotation", points=square),
        shape(kind="Rectangle", points=[[90, 40], [10, 5]]),
        shape(kind="mask", points=[[3, 4], [5, 6]], mask=png([[1, 0, 1]] * 3)),
        shape(group_id=1), shape(group_id=1, points=square), shape(kind="point", points=[[1, 1]])))  # fmt: skip
    return found


def _dota_documents() -> list[bytes]:
    return [path.read_bytes() for path in sorted((PROJECT / "tests/formats/real/dota").glob("*.txt"))]


def _oriented(document: bytes) -> list[list[float]]:
    """The corners of all objects of a label file of DOTA, in pixels."""
    rows = [line.split()[:8] for line in document.splitlines()]
    return [[float(number) for number in row] for row in rows if len(row) == 8]


def _yolo_documents(task: Task) -> list[bytes]:
    if task is Task.OBB:
        return [
            b"".join(b"0 %s\n" % b" ".join(b"%.6f" % (n / 1200) for n in corners) for corners in _oriented(document))
            for document in _dota_documents()
        ]
    return [
        path.read_bytes()
        for task in ("detect", "segment", "pose")
        for path in sorted((PROJECT / "tests/sample" / task / "labels").rglob("*.txt"))
    ]


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def _check(parsed: Parsed, files: list[bytes]) -> None:
    assert len(parsed.states) == len(files)
    for row in parsed.rows.to_pylist():
        assert all(math.isfinite(row[name]) for name in ("cx", "cy", "w", "h")), row
        assert -0.02 <= min(row["cx"], row["cy"]) <= max(row["cx"], row["cy"]) <= 1.02, row
        if row["tail"] is not None:
            tokens = row["tail"].split()
            assert len(tokens) + 1 == row["n_tokens"]
            assert all(math.isfinite(float(token)) for token in tokens)
        if row.get("raw") is not None:
            data = json.loads(row["raw"], parse_constant=pytest.fail)
            known = [data.get(name) for name in ("bbox", "area", "segmentation")]  # one of shares has neither
            assert all(map(math.isfinite, _numbers(known)))
    has_raw = parsed.images is not None and "raw" in parsed.images.column_names
    for raw in parsed.images["raw"].to_pylist() if parsed.images is not None and has_raw else ():
        json.loads(raw or b"{}", parse_constant=pytest.fail)
    told = {problem.file for problem in parsed.problems}
    assert {i for i, state in enumerate(parsed.states) if state is LabelState.CORRUPT} <= told
    for problem in parsed.problems:
        assert problem.reason.replace("_", "").isalnum()
        # In words of ours, and letters as letters.
        assert not re.search(r"Expect|Error|Invalid|Untermin|(?<!\\)\\u[3-9][0-9a-f]{3}", problem.detail), problem


def _batches(made: Callable[[random.Random], bytes]) -> Iterator[list[bytes]]:
    rng = random.Random(7)
    for _ in range(DOCUMENTS // 50):
        yield [made(rng) for _ in range(50)]


def _is_group(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip() != ""


def _labelme_objects(content: bytes, *, broken: bool) -> int:
    """How many objects a label file has: shapes of one label and group are one, unless they are lines or points."""
    try:
        data = json.loads(content.decode("utf-8-sig"))
        shapes = data["shapes"]
        assert isinstance(shapes, list)
    except (ValueError, TypeError, KeyError, AssertionError, RecursionError):
        return 1  # the file, whose objects nobody can count
    keys: set[Any] = set()
    for position, one in enumerate(shapes):
        key: Any = position
        if isinstance(one, dict) and isinstance(one.get("label"), str | int) and _is_group(one.get("group_id")):
            kind = str(one.get("shape_type") or "polygon").strip().lower()
            if kind not in ("line", "linestrip", "point", "points"):
                key = (str(one["label"]).strip(), one["group_id"])
        keys.add(key)
    return len(keys) or int(broken)


@pytest.mark.parametrize("task", [Task.SEGMENT, *slow(Task.DETECT, Task.OBB)])
def test_labelme(task: Task) -> None:
    documents, drawn = _labelme_documents(), list[bytes]()

    def made(rng: random.Random) -> bytes:
        drawn.append(document := rng.choice(documents))
        if rng.random() < 0.4:
            return _damaged(document, rng)
        return json.dumps(_altered(json.loads(document), rng)).encode()

    def asked(number: int, said: str | None) -> Picture | None:
        del said
        return (None, Picture(100, 50), Picture(640, 480), Picture(50, 100, 6))[number % 4]

    def whole(parsed: Parsed) -> int:
        return int(parsed.rows.num_rows - parsed.rows["tail"].null_count)

    good = undamaged = 0
    for files in _batches(made):
        parsed = labelme.parse(files, task, pictures=asked)
        _check(parsed, files)
        undamaged += whole(labelme.parse(drawn[-len(files) :], task, pictures=asked))
        found = Counter(parsed.rows["file"].to_pylist())
        found.update({n: sum(p.rows for p in some) for n, some in groupby(parsed.problems, lambda p: p.file)})
        for number, content in enumerate(files):
            broken = parsed.states[number] is LabelState.CORRUPT
            # What is of no use is passed over, such as an image in the file, whatever its bytes are.
            bare = re.sub(rb'"imageData": "[^"]*"', b'"imageData": ""', content).decode(errors="replace").encode()
            wanted = {_labelme_objects(some, broken=broken) for some in (content, bare)}
            assert found[number] in wanted, content
        good += whole(parsed)
    assert good > 0.4 * undamaged > 0 or (
        task is Task.OBB and good > DOCUMENTS / 20
    )  # about half of the objects outlive the wounds of their files


@pytest.mark.parametrize("task", [Task.SEGMENT, *slow(*sorted(isat.TASKS - {Task.SEGMENT}))])
def test_isat(task: Task) -> None:
    paths = sorted((PROJECT / "tests/formats/real/isat").glob("*.json"))
    square = [[10, 10], [50, 10], [50, 40], [10, 40]]
    objects = [
        {"category": "cat", "group": group, "segmentation": square, "iscrowd": group == 3} for group in (1, 2, 3)
    ]
    drawn = {"info": {"name": "a.jpg", "width": 640, "height": 480}, "objects": objects}
    documents = [json.loads(path.read_bytes()) for path in paths] + [drawn]

    def made(rng: random.Random) -> bytes:
        document = rng.choice(documents)
        if rng.random() < 0.4:
            return _damaged(json.dumps(document).encode(), rng)
        return json.dumps(_altered(document, rng)).encode()

    good = 0
    for files in _batches(made):
        parsed = isat.parse(
            files, task, pictures=lambda number, _: (None, Picture(640, 443), Picture(100, 50))[number % 3]
        )
        _check(parsed, files)
        good += int(parsed.rows.num_rows - parsed.rows["tail"].null_count)
    assert good > DOCUMENTS / 20


def _yolo_lines(files: list[bytes]) -> list[tuple[int, int]]:
    """Number of the file and of the line of all lines that are not blank."""
    return [
        (number, line)
        for number, content in enumerate(files)
        for line, text in enumerate(re.split(rb"\r\n|\r|\n", content.removeprefix(b"\xef\xbb\xbf")), 1)
        if text.strip(b" \t")
    ]


@pytest.mark.parametrize("task", [Task.POSE, *slow(*sorted(set(Task) - {Task.POSE}))])
def test_yolo(task: Task) -> None:
    documents = _yolo_documents(task)
    good = 0
    for files in _batches(lambda rng: _damaged(rng.choice(documents), rng)):
        parsed = yolo.parse(files, task, (17, 3) if task is Task.POSE else None)
        _check(parsed, files)
        lines = list(zip(parsed.rows["file"].to_pylist(), parsed.rows["line"].to_pylist(), strict=True))
        lines += [(p.file, p.line) for p in parsed.problems]
        assert sorted(lines) == _yolo_lines(files)  # each is a row, or has one reason
        assert all(p.rows == 1 for p in parsed.problems)
        good += parsed.rows.num_rows
    assert good > DOCUMENTS / 10  # few rows of pose are in the sample


@pytest.mark.parametrize("task", [Task.OBB, *slow(*sorted(dota.TASKS - {Task.OBB}))])
def test_dota(task: Task) -> None:
    documents = _dota_documents()
    good = 0
    for files in _batches(lambda rng: _damaged(rng.choice(documents), rng)):
        parsed = dota.parse(files, task, pictures=lambda number, _: (None, *[Picture(1200, 1000)] * 9)[number % 10])
        _check(parsed, files)
        found = Counter(parsed.rows["file"].to_pylist())
        found.update({n: sum(p.rows for p in some) for n, some in groupby(parsed.problems, lambda p: p.file)})
        # Each line is a row, or has one reason, but for what is said of the image before them.
        for number, content in enumerate(files):
            lines = [text for text in content.removeprefix(b"\xef\xbb\xbf").splitlines() if text.split()]
            assert found[number] == sum(not re.match(rb"\s*(imagesource|gsd)\s*:", text, re.I) for text in lines), (
                content
            )
        good += int(parsed.rows.num_rows - parsed.rows["tail"].null_count)
    assert good > DOCUMENTS


XML_BYTES = [b"<", b">", b"</", b"/>", b"&", b"&lt;", b"&x;", b"<!DOCTYPE a [", b"<![CDATA[", b"]]>", b"<!--", b"<?",
             b"<object>", b"</object>", b"<bndbox>", b"\xe9", b"\xff\xfe", b"encoding='gbk'"]  # fmt: skip


def _voc_documents() -> list[bytes]:
    return [path.read_bytes() for path in sorted((PROJECT / "tests/formats/real").glob("voc*.xml"))]


def _wounded_xml(text: bytes, rng: random.Random) -> bytes:
    """An XML document that is another inside of an element, or damaged anywhere, which is mostly its end."""
    if rng.random() < 0.2:
        text = _damaged(text, rng)
        at = rng.randrange(len(text) + 1)
        return text[:at] + rng.choice([b"", *XML_BYTES]) + text[at:]
    for found in rng.sample(list(re.finditer(rb"(<\w+>)[^<]*(</\w+>)", text)), rng.randint(1, 3))[:1]:
        value = rng.choice([v for v in _VALUES if isinstance(v, str | int | float)])
        inner = re.sub(r"[<&\0\ud800-\udfff]", "", str(value)).encode()
        kept = found[1] + inner + found[2] if rng.random() < 0.7 else rng.choice([b"", found[0] * 2, b"<part/>"])
        text = text[: found.start()] + kept + text[found.end() :]
    return text


def test_voc() -> None:
    documents = _voc_documents()
    good = 0

    for files in _batches(lambda rng: _wounded_xml(rng.choice(documents), rng)):
        parsed = voc.parse(files, Task.DETECT, None, {}, lambda _number, _said: None)
        _check(parsed, files)
        for number, content in enumerate(files):
            lost = sum(p.rows for p in parsed.problems if p.file == number)
            found = parsed.rows["file"].to_pylist().count(number)
            with contextlib.suppress(ElementTree.ParseError, ValueError, LookupError):
                objects = len(ElementTree.XML(content).findall("object"))
                assert found + lost == max(objects, lost), content
        good += sum(tail is not None for tail in parsed.rows["tail"].to_pylist())
    assert good > DOCUMENTS / 2


def _coco(text: bytes, task: Task, picture: Picture | None) -> tuple[Parsed, int]:
    """The rows of a whole document, and how many of its objects they or the counted reasons account for."""
    found = coco.outline([text], task)
    images, annotations = ([text[a:b] for a, b in spans.tolist()] for spans in (found.images, found.annotations))
    part = Part(images, annotations, found.image_of, found.labels, None, lambda some: [picture] * len(some), True)
    parsed = coco.parse(part, task, found.names.get("kpt_shape") or ((1, 3) if task is Task.POSE else None))
    lost = sum(rows for *_, rows in found.problems) + sum(problem.rows for problem in parsed.problems)
    return parsed, parsed.rows.num_rows + lost


def _coco_objects(text: bytes) -> int | None:
    """How many objects a document has; None where that is not to be said."""
    try:
        members = json.loads(text.decode("utf-8-sig"), object_pairs_hook=_pairs)
    except (ValueError, RecursionError):
        return None  # one of its objects is no JSON
    lists = [value for name, value in members if name == "annotations"] if isinstance(members, tuple) else []
    return len(lists[0]) if len(lists) == 1 and isinstance(lists[0], list) else None


def _pairs(pairs: list[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    return tuple(pairs)


def _coco_of_dota() -> list[bytes]:
    """Label files of DOTA as its devkit makes COCO JSON of them."""
    made = []
    for document in _dota_documents():
        corners = _oriented(document)
        boxes = [
            [min(c[0::2]), min(c[1::2]), max(c[0::2]) - min(c[0::2]), max(c[1::2]) - min(c[1::2])] for c in corners
        ]
        objects = [
            {"id": i, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 400.0, "segmentation": [c], "bbox": b}
            for i, (c, b) in enumerate(zip(corners, boxes, strict=True), 1)
        ]
        images = [{"id": 1, "file_name": "a.png", "width": 1200, "height": 1200}]
        whole = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "ship"}]}
        made.append(json.dumps(whole).encode())
    return made


COCO_DOCUMENTS = sorted((PROJECT / "tests/formats/real").glob("*.json"))


@pytest.mark.parametrize("task", [Task.SEGMENT, *slow(*sorted(set(Task) - {Task.SEGMENT}))])
def test_coco_json(task: Task) -> None:
    """Of each document every object is a row, or lost for a reason that is counted; what is no row has a word."""
    documents = _coco_of_dota() if task is Task.OBB else [path.read_bytes() for path in COCO_DOCUMENTS]
    rng = random.Random(11)
    good = refused = 0
    told: set[str] = set()
    for number in range(DOCUMENTS // 3 + 1):  # of each task
        document = rng.choice(documents)
        text = _damaged(document, rng) if number % 3 == 0 else json.dumps(_altered(json.loads(document), rng)).encode()
        picture = (None, None, None, Picture(1280, 720), Picture(640, 480, 6), Picture(100, 50))[number % 6]
        try:
            parsed, accounted = _coco(text, task, picture)
        except Malformed as error:
            refused += number % 3 != 0
            told.add(str(error))
            continue
        wanted = _coco_objects(text)
        if wanted is not None:
            assert accounted == wanted, text
        for row in parsed.rows.to_pylist():
            assert row["tail"] is not None or row["loss"] is not None, text
            numbers = [row[name] for name in ("cx", "cy", "w", "h")] + [*map(float, (row["tail"] or b"").split())]
            assert all(map(math.isfinite, numbers)), text
            good += row["tail"] is not None
            if row["raw"] is not None:
                made = json.loads(completed(with_numbers(row["raw"]), 100, 50), parse_constant=pytest.fail)
                assert made.get("bbox") or made.get("segmentation") or made.get("keypoints"), text
    assert good > DOCUMENTS / 40  # most of a document outlives one wound
    assert refused < DOCUMENTS / 3 / 4  # members of small documents are hit often
    assert not re.search(r"Expect|Error|Invalid|msgspec", "\n".join(told))


def _ndjson_documents() -> list[bytes]:
    """The label files of the sample as the lines of one task each."""
    head = {"type": "dataset", "task": "detect", "class_names": {"0": "person", "1": "kite"}}
    found = []
    for task, name in (("detect", "boxes"), ("segment", "segments"), ("pose", "pose")):
        lines: list[Any] = [head | {"task": task}]
        for path in sorted((PROJECT / "tests/sample" / task / "labels").rglob("*.txt"))[:6]:
            rows = [[*map(float, row.split())] for row in path.read_text().splitlines()]
            image = {"file": f"{path.stem}.jpg", "url": f"http://h/{path.stem}.jpg", "width": 120, "height": 90}
            lists = {name: [[int(row[0]), *row[1:]] for row in rows]}
            lines.append(image | {"split": "train", "annotations": lists})
        found.append("".join(json.dumps(line) + "\n" for line in lines).encode())
    return found


def _labelstudio_documents() -> list[bytes]:
    real = (PROJECT / "tests/formats/real/labelstudio/tasks.json").read_bytes()
    size = {"original_width": 100, "original_height": 50}
    rest = [
        {"type": "ellipselabels", "value": {"x": 50, "y": 50, "radiusX": 9, "radiusY": 5, "ellipselabels": ["a"]}},
        {"type": "keypointlabels", "value": {"x": 50, "y": 50, "keypointlabels": ["a"]}},
        {"type": "brushlabels", "value": {"rle": [0, 0, 78, 32, 57, 27, 250, 254, 0, 16], "brushlabels": ["a"]}},
        {"type": "choices", "value": {"choices": ["a"]}},
    ]
    task = {"annotations": [{"result": [one | size for one in rest]}], "data": {"image": "/data/upload/1/a.jpg"}}
    return [real, json.dumps([task]).encode()]


@pytest.mark.parametrize("task", [Task.SEGMENT, *slow(*sorted(set(Task) - {Task.SEGMENT}))])
def test_cvat(task: Task) -> None:
    """Each shape of a document that can be read is a row, or lost for a reason that is counted."""
    documents = [path.read_bytes() for path in sorted((PROJECT / "tests/formats/real/cvat").glob("*.xml"))]
    rng = random.Random(17)
    good = refused = 0
    told: set[str] = set()
    for number in range(DOCUMENTS // 4 + 1):
        document = rng.choice(documents)
        text = (_damaged, _other_value, _wounded_xml)[number % 3](document, rng)
        try:
            found = cvat.outline([text], task)
        except Malformed as error:
            refused += number % 3 == 1
            told.add(str(error))
            continue
        images = [text[a:b] for a, b in found.images.tolist()]
        picture = (None, Picture(1280, 720), Picture(640, 480, 6), Picture(100, 50))[number % 4]
        asked = functools.partial(_same, picture)
        part = Part(images, [], found.image_of, found.labels, None, asked, picture is not None)
        parsed = cvat.parse(part, task, found.names.get("kpt_shape"))
        _check(parsed, images)
        assert {*parsed.rows["label"].to_pylist()} <= {*found.names["names"]}, text
        for i, content in enumerate(images):
            lost = sum(p.rows for p in parsed.problems if p.file == i)
            with contextlib.suppress(ElementTree.ParseError, ValueError):
                shapes = [one for one in ElementTree.XML(content) if one.tag in SHAPES]
                if lost or shapes:
                    assert parsed.rows["file"].to_pylist().count(i) + lost == max(len(shapes), lost), content
        good += parsed.rows.num_rows - parsed.rows["tail"].null_count
    assert good > DOCUMENTS / 40
    assert refused < DOCUMENTS / 40
    assert not re.search(r"Expect|Error|Invalid|expat", "\n".join(told))


def _other_value(document: bytes, rng: random.Random) -> bytes:
    """A document of CVAT of which some attributes have another value."""
    for found in rng.sample(list(re.finditer(rb'="([^"]*)"', document)), 2)[:1]:
        value = rng.choice([v for v in _VALUES if isinstance(v, str | int | float)])
        inner = re.sub(r"[<&\"\0\ud800-\udfff]", "", str(value)).encode()
        document = document[: found.start(1)] + inner + document[found.end(1) :]
    return document


def _same(picture: Picture | None, indexes: Sequence[int]) -> list[Picture | None]:
    return [picture] * len(indexes)


def _odgt_documents() -> list[bytes]:
    return [(PROJECT / "tests/formats/real/crowdhuman.odgt").read_bytes()]


RECORDS: dict[str, tuple[Any, Callable[[], list[bytes]]]] = {
    "ndjson": (ndjson, _ndjson_documents),
    "labelstudio": (labelstudio, _labelstudio_documents),
    "odgt": (odgt, _odgt_documents),
}


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("ndjson", Task.SEGMENT), ("labelstudio", Task.SEGMENT), ("odgt", Task.DETECT),
        *(pytest.param(name, Task.DETECT, marks=pytest.mark.slow) for name in ("ndjson", "labelstudio")),
    ],
)  # fmt: skip
def test_records_of_images(name: str, task: Task) -> None:
    """Files whose records have the objects of their image: each outcome is rows, a counted reason, or a clause."""
    format_, made = RECORDS[name]
    documents = made()
    rng = random.Random(13)
    good = refused = 0
    told: set[str] = set()
    for number in range(DOCUMENTS // 4 + 1):
        document = rng.choice(documents)
        if number % 3 == 0:
            text = _damaged(document, rng)
        elif format_ is not labelstudio:
            lines = document.splitlines()
            which = rng.randrange(len(lines))
            lines[which] = json.dumps(_altered(json.loads(lines[which]), rng)).encode()
            text = b"\n".join(lines)
        else:
            text = json.dumps(_altered(json.loads(document), rng)).encode()
        try:
            found = format_.outline([text], task)
        except Malformed as error:
            refused += number % 3 != 0
            told.add(str(error))
            continue
        images = [text[a:b] for a, b in found.images.tolist()]
        picture = (None, Picture(1280, 720), Picture(640, 480, 6), Picture(100, 50))[number % 4]
        asked = functools.partial(_same, picture)
        part = Part(images, [], found.image_of, found.labels, None, asked, picture is not None)
        parsed = format_.parse(part, task, found.names.get("kpt_shape"))
        _check(parsed, images)
        good += parsed.rows.num_rows - parsed.rows["tail"].null_count
    assert good > DOCUMENTS / 40
    assert refused < DOCUMENTS / 4 / 3
    assert not re.search(r"Expect|Error|Invalid|msgspec", "\n".join(told))


def test_openimages() -> None:
    """Files of a split of which one is damaged: each line of boxes is a row or has a reason, or a clause says it."""
    real = {path.name: path.read_bytes() for path in sorted((PROJECT / "tests/formats/real/openimages").iterdir())}
    rng = random.Random(17)
    good = refused = 0
    told: set[str] = set()
    for _ in range(DOCUMENTS // 4 + 1):
        files = [*real.values()]
        which = rng.randrange(len(files))
        files[which] = _damaged(files[which], rng)
        try:
            found = openimages.outline_of_files([[file[:99], file[99:]] for file in files], Task.DETECT)
        except Malformed as error:
            refused += 1
            told.add(str(error))
            continue
        text = b"".join(files)
        images, rows = ([text[a:b] for a, b in spans.tolist()] for spans in (found.images, found.annotations))
        part = Part(images, rows, found.image_of, found.labels, ancestors=found.names.get("ancestors", {}))
        parsed = openimages.parse(part, Task.DETECT)
        _check(parsed, images)
        # What is bad in a file of image labels or of images is no row of boxes.
        unread = sum(rows for *_, rows in found.problems) if b"XMin" in [*real.values()][which] else 0
        lost = unread + sum(p.rows for p in parsed.problems)
        lines = [
            line
            for file in files
            if b"XMin" in file.partition(b"\n")[0]
            for line in file.replace(b"\r\n", b"\n").split(b"\n")[1:]
            if line
        ]
        assert parsed.rows.num_rows + lost == len(lines)
        good += parsed.rows.num_rows - parsed.rows["tail"].null_count
    assert good > DOCUMENTS
    assert refused < DOCUMENTS / 4 / 2  # of small files that are none any more
    assert not re.search(r"Expect|Error|Invalid|Arrow", "\n".join(told))


def test_a_mask_of_any_bytes_is_told_or_taken() -> None:
    rng = random.Random(3)
    whole = base64.b64decode(png([[1, 0, 1]] * 3))
    for _ in range(300):
        text = base64.b64encode(_damaged(whole, rng)).decode()
        files = [file(shape(kind="mask", points=[[3, 4], [5, 6]], mask=text))]
        _check(labelme.parse(files, Task.SEGMENT), files)
