"""Open Images' CSV files: boxes as the CSV says them, and what is known of an image beside them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.base.terms import Task
from pipeline.formats import FileOutline, Malformed, Parsed, Part, openimages
from pipeline.formats._image_names import ImageNames
from pipeline.tables.schema import LabelState
from tests.conftest import Run
from tests.support.helpers import PROJECT, write_file
from tests.support.web import serving

REAL = {path.name: path.read_bytes() for path in (PROJECT / "tests/formats/real/openimages").iterdir()}
TRAIN, TEST = REAL["oidv6-train-annotations-bbox.csv"], REAL["test-annotations-bbox.csv"]
NAMES, HIERARCHY = REAL["class-descriptions-boxable.csv"], REAL["bbox_labels_600_hierarchy.json"]
LABELS = REAL["train-annotations-human-imagelabels-boxable.csv"]
HEAD = TEST.partition(b"\n")[0].decode()
LABEL_HEAD = LABELS.partition(b"\n")[0].decode()


def pieces(text: bytes, size: int = 100) -> list[bytes]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def outline(*files: bytes, split: str | None = None, names: Sequence[str] | None = None) -> FileOutline:
    listed = ImageNames(names) if names is not None else None
    return openimages.outline_of_files([pieces(file) for file in files], Task.DETECT, listed, split)


def parse(
    *files: bytes, options: Mapping[str, Any] | None = None, split: str | None = None
) -> tuple[Parsed, FileOutline]:
    """All files of a split as the index reads them: an image after the other, of spans in all files as in one."""
    found, text = outline(*files, split=split), b"".join(files)
    images, rows = ([text[a:b] for a, b in spans.tolist()] for spans in (found.images, found.annotations))
    part = Part(images, rows, found.image_of, found.labels, ancestors=found.names.get("ancestors", {}))
    return openimages.parse(part, Task.DETECT, None, options), found


def everywhere(parsed: Parsed, found: FileOutline) -> dict[str, list[str]]:
    """By stem the classes that are labelled everywhere in the image."""
    assert parsed.images is not None
    texts = parsed.images["exhaustive"].to_pylist()
    return {stem: text.split("\n") if text else [] for stem, text in zip(found.stems, texts, strict=True)}


def boxes(*rows: str) -> bytes:
    return "".join(f"{row}\n" for row in (HEAD, *rows)).encode()


def image_labels(*rows: str) -> bytes:
    return "".join(f"{row}\n" for row in (LABEL_HEAD, *rows)).encode()


@pytest.mark.parametrize("more", [b"\rmore", b" more", b""], ids=["a carriage return", "a blank", "a comma"])
def test_what_the_first_line_has_costs_no_row(more: bytes) -> None:
    head, *rows = TEST.splitlines()
    file = b"\n".join([head + b"," + more, *(row + b",0" for row in rows)])
    parsed, found = parse(file, NAMES)
    assert (parsed.rows.num_rows, found.problems, parsed.problems) == (len(rows), [], [])
    damaged, found = parse(file + b"\nshort,row", NAMES)
    assert [detail.partition(" of ")[0] for *_, detail, _ in found.problems] == [f"line {len(rows) + 2}"]
    assert damaged.rows.num_rows == len(rows)


@pytest.mark.parametrize("file", [TRAIN, TEST], ids=["V6", "V4"])
def test_real_boxes_are_those_of_the_csv(file: bytes) -> None:
    parsed, found = parse(file, NAMES, options={"crowd": "keep", "numbers": "%.7f"})
    names = dict(csv.reader(NAMES.decode().splitlines()))
    expected = []
    for row in csv.DictReader(file.decode().splitlines()):
        left, right, top, bottom = (Decimal(row[side]) for side in ("XMin", "XMax", "YMin", "YMax"))
        numbers = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        expected.append((row["ImageID"], names[row["LabelName"]], [Decimal(f"{n:.7f}") for n in numbers]))
    made = [
        (found.stems[row["file"]], row["label"], [Decimal(text) for text in row["tail"].decode().split()])
        for row in parsed.rows.to_pylist()
    ]
    assert made == expected
    assert found.paths == [f"{stem}.jpg" for stem in found.stems]
    assert (parsed.problems, set(parsed.states)) == ([], {LabelState.FOUND})


SIDE = st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)).filter(lambda s: s[0] < s[1])
BOX = st.tuples(st.sampled_from(["a", "b0", "c" * 16]), st.sampled_from(["/m/0k4j", "/m/07j7r"]), SIDE, SIDE)


ENDS = st.tuples(st.sampled_from(["\n", "\r\n", "\n\n"]), st.sampled_from(["", "\n"]))


@given(st.lists(BOX, min_size=1, max_size=12), st.integers(1, 300), ENDS)
def test_rows_of_an_image_may_be_anywhere(rows: list[Any], size: int, ends: tuple[str, str]) -> None:
    lines = [
        f"{image},x,{label},1,{a / 10**6:.6f},{b / 10**6:.6f},{c / 10**6:.6f},{d / 10**6:.6f},0,0,0,0,0"
        for image, label, (a, b), (c, d) in rows
    ]
    text = (ends[0].join([HEAD, *lines]) + ends[1]).encode()
    found = openimages.outline(pieces(text, size), Task.DETECT)
    images, texts = ([text[a:b] for a, b in spans.tolist()] for spans in (found.images, found.annotations))
    assert [image.decode() for image in images] == found.stems == list(dict.fromkeys(row[0] for row in rows))
    parsed = openimages.parse(Part(images, texts, found.image_of, found.labels), Task.DETECT, None, {"numbers": "%.7f"})
    made = [(found.stems[r["file"]], r["line"], r["label"], r["tail"].decode()) for r in parsed.rows.to_pylist()]
    expected = []
    for stem in found.stems:
        own = [row for row in rows if row[0] == stem]
        for line, (_, label, (a, b), (c, d)) in enumerate(own, 1):
            numbers = [Decimal(n) / 10**7 for n in ((a + b) * 5, (c + d) * 5, (b - a) * 10, (d - c) * 10)]
            expected.append((stem, line, label, "".join(f" {n:.7f}" for n in numbers)))
    assert made == expected


def test_a_group_is_a_crowd() -> None:
    parsed, _ = parse(TEST)
    assert (
        parsed.rows["loss"].to_pylist() == ["crowd"] * 3 + [None, "truncated", "crowd", "truncated"] + ["occluded"] * 2
    )
    assert [tail is None for tail in parsed.rows["tail"].to_pylist()] == [True] * 3 + [False] * 2 + [True] + [False] * 3
    raws = [json.loads(raw) for raw in parsed.rows["raw"].to_pylist()]
    assert raws[0] == {
        "iscrowd": 1, "Source": "freeform", "IsOccluded": 0, "IsTruncated": 1, "IsGroupOf": 1, "IsDepiction": 0,
        "IsInside": 0,
    }  # fmt: skip
    kept, _ = parse(TEST, options={"crowd": "keep"})
    assert None not in kept.rows["tail"].to_pylist()
    assert json.loads(kept.rows["raw"][0].as_py())["iscrowd"] == 0


@pytest.mark.parametrize(
    ("flags", "drop", "loss"),
    [
        ("0,0,0,0,0", ["occluded", "truncated", "depiction", "inside"], None),
        ("1,1,0,1,1", [], "depiction"),
        ("1,1,0,0,1", [], "inside"),
        ("-1,-1,-1,-1,-1", ["inside"], None),
        ("1,0,0,1,0", ["depiction"], "flagged"),
        ("0,0,0,0,1", ["depiction", "inside"], "flagged"),
        ("1,0,0,0,0", ["depiction", "inside"], "occluded"),
    ],
)
def test_flags_are_counted_or_decide(flags: str, drop: list[str], loss: str | None) -> None:
    parsed, _ = parse(boxes(f"a,x,/m/0k4j,1,0.1,0.2,0.1,0.2,{flags}"), options={"drop": drop})
    (row,) = parsed.rows.to_pylist()
    assert row["loss"] == loss
    assert ((row["tail"] is None), (row["raw"] is None)) == (loss == "flagged", loss == "flagged")


@pytest.mark.parametrize(
    ("sides", "tail", "loss"),
    [
        ("0.3,0.1,0.4,0.2", " 0.200000 0.300000 0.200000 0.200000", None),
        ("-0.1,0.1,0.4,0.2", " 0.050000 0.300000 0.100000 0.200000", "clipped"),
        ("-0.001,0.1,0.4,0.2", " 0.050000 0.300000 0.100000 0.200000", None),
        ("0.1,0.1,0.4,0.2", None, "zero_area"),
        ("1.1,1.2,0.4,0.2", None, "outside"),
    ],
)
def test_boxes_that_are_reversed_or_beyond_the_image(sides: str, tail: str | None, loss: str | None) -> None:
    parsed, _ = parse(boxes(f"a,x,/m/0k4j,1,{sides},0,0,0,0,0"))
    (row,) = parsed.rows.to_pylist()
    assert (row["tail"] and row["tail"].decode(), row["loss"]) == (tail, loss)


def test_files_without_flags_are_read() -> None:
    parsed, _ = parse(b"ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\na,x,/m/0,1,0,1,0,0.5\n")
    (row,) = parsed.rows.to_pylist()
    assert (row["tail"], row["loss"]) == (b" 0.500000 0.250000 1.000000 0.500000", None)
    assert json.loads(row["raw"]) == {"iscrowd": 0, "Source": "x"}


def test_classes_are_called_by_their_descriptions() -> None:
    _, found = parse(TEST, NAMES)
    assert found.names["names"][:3] == ["Tortoise", "Apple", "Human eye"]
    _, bare = parse(TEST)
    assert bare.names["names"] == ["/m/015p6", "/m/05s2s", "/m/07j7r", "/m/07yv9", "/m/0k4j"]
    _, titled = parse(TEST, b"LabelName,DisplayName\n" + NAMES.replace(b"/m/07j7r,Tree\n", b""))
    assert titled.names["names"][-1] == "/m/07j7r"
    assert "1 class has boxes but no description" in titled.notes[0]
    _, quoted = parse(TEST, b'/m/0k4j,"Car, automobile"\n')
    assert quoted.names["names"][0] == "Car, automobile"


def test_kinds_of_a_class_are_those_of_the_hierarchy() -> None:
    _, found = parse(TEST, NAMES, HIERARCHY)
    assert found.names["ancestors"] == {
        "Bicycle": ["Land vehicle", "Vehicle"], "Car": ["Land vehicle", "Vehicle"], "Land vehicle": ["Vehicle"],
        "Taxi": ["Car", "Land vehicle", "Vehicle"], "Tree": ["Plant"],
    }  # fmt: skip
    assert found.names["supercategories"]["Taxi"] == "Car"  # parts, as an eye of a head, are no kinds


def test_a_class_may_be_a_kind_of_two() -> None:
    """As a knife is, in Open Images."""
    twice = {"LabelName": "/m/0", "Subcategory": [
        {"LabelName": "/m/1", "Subcategory": [{"LabelName": "/m/3"}]},
        {"LabelName": "/m/2", "Subcategory": [{"LabelName": "/m/3"}]}]}  # fmt: skip
    _, found = parse(TEST, json.dumps(twice).encode())
    assert found.names["ancestors"]["/m/3"] == ["/m/0", "/m/1", "/m/2"]


def test_only_verified_absence_makes_a_background() -> None:
    parsed, found = parse(TRAIN, LABELS, NAMES)
    assert everywhere(parsed, found) == {"000002b66c9c498e": ["Apple", "Beer", "Bird", "Person"]}
    more = image_labels("b,verification,/m/07yv9,0", "b,verification,/m/05s2s,1", "b,machine,/m/015p6,0.4")
    parsed, found = parse(TRAIN, more, NAMES, HIERARCHY)
    assert everywhere(parsed, found) == {
        "000002b66c9c498e": ["Person"],
        "b": ["Bicycle", "Car", "Land vehicle", "Taxi", "Vehicle"],  # no vehicle is no car
    }
    assert parsed.states == [LabelState.FOUND, LabelState.EMPTY]
    parsed, found = parse(TEST, NAMES)
    assert everywhere(parsed, found)["000062a39995e348"] == ["Bird", "Plant"]
    assert "of those without a box there nobody knows" in found.notes[-1]


def test_images_of_a_list_are_those_of_the_split() -> None:
    listed = REAL["train-images-boxable-with-rotation.csv"]
    parsed, found = parse(listed.replace(b"b37f763ae67d0888,train", b"b37f763ae67d0888,test"), TRAIN, split="train")
    assert found.stems == ["4fa8054781a4c382", "000002b66c9c498e"]
    assert parsed.states == [LabelState.EMPTY, LabelState.FOUND]
    assert everywhere(parsed, found)["4fa8054781a4c382"] == []


def test_images_are_found_by_their_id() -> None:
    found = outline(TEST, names=["0/000026e7ee790996.jpg", "000062a39995e348.png"])
    assert found.paths == ["0/000026e7ee790996.jpg", "000062a39995e348.png", ""]
    found = outline(TEST, names=["a/000026e7ee790996.jpg", "b/000026e7ee790996.jpg"])
    assert [(reason, lost) for _, reason, _, lost in found.problems] == [("ambiguous_image", 3)]
    assert found.stems == ["000062a39995e348", "0000c64e1253d68f"]
    assert {*found.image_of.tolist()} == {0, 1}


def test_a_bad_line_is_counted_and_the_others_are_read() -> None:
    good = "a,x,/m/0k4j,1,0.1,0.2,0.1,0.2,0,0,0,0,0"
    parsed, found = parse(
        boxes(good, "a,x,/m/0k4j,1,0.1", good.replace("0.1,", "x,", 1), ",x,/m/1,1,0,1,0,1,0,0,0,0,0", good)
    )
    assert parsed.rows["line"].to_pylist() == [1, 3]
    assert [(reason, detail, lost) for _, reason, detail, lost in found.problems] == [
        ("bad_row", "line 3 of the boxes has 5 fields, not 13, or no names; correct it", 1),
        ("bad_row", "line 5 of the boxes has 13 fields, not 13, or no names; correct it", 1),
    ]
    (problem,) = parsed.problems
    assert (problem.reason, problem.rows) == ("bad_row", 1)
    assert problem.detail.startswith("box 2 of the image has an XMin that is no number")


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        (b"", "is empty"),
        (b"<html></html>", "is a web page"),
        (b"a,b\n1,2\n", "is no file of Open Images"),
        (b"ImageID,XMin,XMax,YMin,YMax,LabelName\n", "in another order"),
        (b"ImageID,Source,LabelName,Confidence,XMin,YMin,XMax,YMax\n", "in another order"),
        (b"MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax\n", "segmentation masks"),
        (LABELS, "holds no boxes"),
        (b"{", "is not JSON"),
        (b'{"a": 1}', "no hierarchy"),
        (b"/m/0,a\n/m/1\n", "not a class and its name"),
        (b"/m/0,a\n/m/0,b\n", "twice"),
        (b"/m/0,\xff\n", "not UTF-8"),
    ],
)
def test_what_is_no_file_of_open_images(text: bytes, clause: str) -> None:
    with pytest.raises(Malformed, match=clause):
        outline(text)


def test_the_files_of_each_split() -> None:
    names = [
        "bbox_labels_600_hierarchy.json", "oidv7-class-descriptions-boxable.csv", "oidv6-train-annotations-bbox.csv",
        "oidv7-train-annotations-human-imagelabels-boxable.csv", "train-annotations-machine-imagelabels.csv",
        "train-images-boxable-with-rotation.csv", "validation-annotations-bbox.csv", "notes.csv",
    ]  # fmt: skip
    assert openimages.files_of_splits(names) == {
        "train": [names[2], names[3], names[1], names[0], names[5]], "val": [names[6], names[1], names[0]]
    }  # fmt: skip
    below = [f"annotations/{name}" for name in names]
    assert openimages.files_of_splits(below)["val"] == [below[6], below[1], below[0]]


#: As Datumaro 1.13.12 writes its ``open_images`` (a dataset of two images, made for this test): classes of any name,
#: `val` for the split, no suffix of images.
DATUMARO = {
    "val-annotations-bbox.csv": (
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
        "deep/x.y,,traffic light,1,0.18736110793219674,0.6157638761732314,0.4451456162536028,0.5851456355122686,"
        "0,-1,-1,-1,-1\n"
    ),
    "val-images-with-rotation.csv": (
        "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,"
        "Thumbnail300KURL,Rotation\ndeep/x.y,val,,,,,,,,,,\nempty,val,,,,,,,,,,\n"
    ),
    "class-descriptions.csv": "dog,dog\ntraffic light,traffic light\n",
}


def test_what_datumaro_writes_is_read() -> None:
    files = [f"annotations/{name}" for name in (*DATUMARO, "train-annotations-bbox.csv")]
    assert openimages.files_of_splits(sorted(files))["val"] == [files[0], files[2], files[1]]
    boxes, images, names = (text.encode() for text in DATUMARO.values())
    found = openimages.outline_of_files([[boxes], [names], [images]], Task.DETECT, None, "val")
    assert found.names["names"] == ["dog", "traffic light"]
    assert (len(found.images), len(found.annotations)) == (2, 1)
    with pytest.raises(Malformed, match="is no file of Open Images"):  # nobody knows yet what it names
        openimages.outline_of_files([[names], [boxes]], Task.DETECT)


def downloaded(root: Path) -> None:
    """The real files as they are called when they are downloaded, with images."""
    for name, text in REAL.items():
        write_file(root / "annotations" / name, text)
    for split, file in (("train", TRAIN), ("test", TEST)):
        for name in sorted({line.split(b",")[0].decode() for line in file.splitlines()[1:]}):
            (root / split).mkdir(exist_ok=True)
            Image.new("RGB", (40, 30)).save(root / split / f"{name}.jpg")


def test_a_download_is_converted(run: Run, tmp_path: Path) -> None:
    downloaded(tmp_path / "oi")
    told = run("convert", tmp_path / "oi", tmp_path / "out", "--from", "openimages", "--to", "yolo")
    assert "IsGroupOf" not in told.out
    rows = (tmp_path / "out/labels/train/000002b66c9c498e.txt").read_text().splitlines()
    assert [row.split()[1:3] for row in rows] == [
        ["0.103906", "0.367969"],
        ["0.150782", "0.831251"],
        ["0.231249", "0.394531"],
    ]
    names = [line.partition(",")[2] for line in NAMES.decode().splitlines()]
    assert {names[int(row.split()[0])] for row in rows} == {"Person"}


def test_what_fiftyone_downloads_is_converted(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "open-images-v7/validation"
    write_file(root / "labels/detections.csv", TEST)
    write_file(root / "labels/classifications.csv", LABELS)
    write_file(root / "labels/segmentations.csv", "MaskPath,ImageID,LabelName\n")
    write_file(root / "metadata/classes.csv", NAMES)
    write_file(root / "metadata/hierarchy.json", HIERARCHY)
    (root / "data").mkdir()
    Image.new("RGB", (40, 30)).save(root / "data/0000c64e1253d68f.jpg")  # of all images the file has boxes
    words = ["--from", "openimages", "--to", "yolo", "--set", "classes=[Car, Bird]", "--set", "on_error=skip"]
    run("convert", tmp_path / "open-images-v7", tmp_path / "out", *words, code=3)
    labels = {path.name: path.read_text() for path in (tmp_path / "out/labels/val").iterdir()}
    assert [(name, len(text.splitlines())) for name, text in labels.items()] == [("0000c64e1253d68f.txt", 3)]


def test_images_that_match_alone_are_fetched(run: Run, tmp_path: Path) -> None:
    """As from the public bucket, which has an address for each image and no list of them."""
    downloaded(tmp_path / "oi")
    with serving(partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "oi"))) as port:
        files = ["test-annotations-bbox.csv", "class-descriptions-boxable.csv"]
        split = {
            "annotations": [f"annotations/{name}" for name in files],
            "images": {"url": f"http://127.0.0.1:{port}/test", "suffix": ".jpg"},
        }
        data = {
            "source": {"format": "openimages", "root": str(tmp_path / "oi"), "splits": {"train": split}},
            "classes": ["Car"],
            "target": {"root": str(tmp_path / "out")},
            "workdir": str(tmp_path / "work"),
        }
        run("build", write_file(tmp_path / "c.yaml", json.dumps(data)))
    assert [path.name for path in (tmp_path / "out/images").rglob("*.jpg")] == ["0000c64e1253d68f.jpg"]


def test_groups_and_flags_are_kept_in_coco_json(run: Run, tmp_path: Path) -> None:
    downloaded(tmp_path / "oi")
    run("convert", tmp_path / "oi", tmp_path / "out", "--from", "openimages", "--to", "coco")
    data = json.loads((tmp_path / "out/annotations/instances_test.json").read_text())
    size = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    first = data["annotations"][0]
    width, height = size[first["image_id"]]
    assert first["bbox"] == [
        round(v, 3) for v in (0.071905 * width, 0.206591 * height, 0.073441 * width, 0.184715 * height)
    ]
    assert (first["iscrowd"], first["IsGroupOf"], first["IsTruncated"]) == (1, 1, 1)
    assert [one["iscrowd"] for one in data["annotations"]] == [1, 1, 1, 0, 0, 1, 0, 0, 0]
