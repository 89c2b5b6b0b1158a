"""labelme's relatives and ages: what each writes is read as it is meant, and what is put right or lost is told."""

from __future__ import annotations

import base64
import json
import os
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image, ImageOps

from pipeline.base.terms import Task
from pipeline.formats import labelme
from pipeline.formats._flaws import flaw_of, merge_mark
from pipeline.formats._framing import OtherImage, frame_of
from pipeline.formats._shapes.outlines import reach_of
from pipeline.geometry.masks import decompress, to_mask
from pipeline.images.header import Picture, unpacked
from tests.builds.test_labelme import Photos
from tests.conftest import Run
from tests.formats.test_labelme import TRIANGLE, file, jpeg, only, parse, png, rows, shape
from tests.support.helpers import contents, snapshot, write_file

SQUARE = [[10, 10], [50, 10], [50, 40], [10, 40]]
SKIP = ("--set", "on_error=skip")


@pytest.fixture
def photos(tmp_path: Path, run: Run) -> Photos:
    return Photos(tmp_path, run)


def _box(row: dict[str, Any]) -> list[float]:
    box: list[float] = json.loads(row["raw"])["bbox"]
    return box


# Shapes


@pytest.mark.parametrize(
    "kind",
    [
        "rotation",
        "quadrilateral",
        "Polygon",
        "oriented_rectangle",
        " POLYGON ",
        "Rotation",
    ],
)
def test_four_corners_are_four_corners_in_every_dialect(kind: str) -> None:
    assert json.loads(only(file(shape(points=SQUARE, kind=kind)))["raw"])["segmentation"] == [
        [n for point in SQUARE for n in point]
    ]


@pytest.mark.parametrize(("kind", "points"), [("Rectangle", [[50, 40], [10, 10]]), ("CIRCLE", [[30, 25], [30, 35]])])
def test_capitals_are_the_same_shape(kind: str, points: Any) -> None:
    made, plain = (only(file(shape(points=points, kind=k))) for k in (kind, kind.lower()))
    assert made["tail"] == plain["tail"]


@pytest.mark.parametrize("beyond", [0, 1])
def test_the_second_corner_of_a_mask_may_be_one_too_far(beyond: int) -> None:
    made = only(file(shape(points=[[3, 4], [5 + beyond, 5 + beyond]], kind="mask", mask=png(np.ones((2, 3))))))
    assert _box(made) == [3, 4, 3, 2]


def test_a_patch_of_a_huge_image_takes_no_memory_of_its_size() -> None:
    made = only(
        file(
            shape(points=[[3, 4], [5, 5]], kind="mask", mask=png(np.ones((2, 3)))), imageWidth=32768, imageHeight=32768
        )
    )
    assert json.loads(made["raw"])["area"] == 6


def test_an_outline_as_no_drawing_has_it_is_told() -> None:
    zigzag = [[0 if i % 2 else 30000, i * 10] for i in range(400)]
    (problem,) = parse(file(shape(points=zigzag), imageWidth=30000, imageHeight=30000)).problems
    assert problem.reason == "too_long"


# Labels


@pytest.mark.parametrize("label", ["cat ", " cat", "cat\t", "\u00a0cat", "cat\u200b", "\ufeffcat"])
def test_blanks_make_no_other_label(label: str) -> None:
    assert only(file(shape(label)))["label"] == "cat"


def test_composed_letters_make_no_other_label() -> None:
    assert {r["label"] for r in rows(file(shape("Mu\u0308ll"), shape("M\u00fcll"), shape("M\u00fcll  Eimer")))} == {
        "M\u00fcll",
        "M\u00fcll Eimer",
    }


def _old(*labels: str, version: str | None = "3.16.7") -> bytes:
    shapes = [{"label": label, "points": TRIANGLE, "shape_type": "polygon", "flags": {}} for label in labels]
    return file(*shapes, version=version)


def test_instances_of_old_files_are_of_one_class() -> None:
    found = rows(_old("person-1", "person-2", "person-1", "x-ray", "covid-19-2", "-3"))
    assert [(r["label"], r["loss"]) for r in found] == [
        ("person", "instance"),
        ("person", "instance"),
        ("x-ray", None),
        ("covid-19", "instance"),
        ("-3", None),
    ]
    assert rows(_old("person-1", version=None))[0]["label"] == "person"
    kept = labelme.parse([_old("person-1")], Task.SEGMENT, None, {"instances": "keep"}).rows
    assert kept["label"].to_pylist() == ["person-1"]


@pytest.mark.parametrize(
    "content",
    [
        _old("person-1", version="4.0.0"),
        _old("person-1", version="5.4.1"),
        file(shape("person-1"), version="2.4.0"),
    ],
    ids=["4.0", "5.4", "X-AnyLabeling 2.4"],
)
def test_a_number_at_the_end_of_a_newer_label_is_part_of_it(content: bytes) -> None:
    assert only(content)["label"] == "person-1"


def test_labels_of_points_alone_are_no_classes(photos: Photos) -> None:
    photos.add(
        "a",
        shape("person"),
        shape("nose", points=[[1, 1]], kind="point"),
        shape("limb", points=[[1, 1], [5, 5]], kind="line"),
        shape("gone", points=[[200, 200], [300, 200], [300, 300]]),
    )
    told = photos.command("build", "--quiet")
    assert told.out == ""
    assert (
        "labels of lines, points or objects outside of their image alone are no classes: 'gone' (1), 'limb' (1), "
        "'nose' (1)" in told.err
    )
    assert yaml.safe_load((photos.target / "data.yaml").read_text())["names"] == {0: "person"}


def test_labels_that_differ_in_case_are_told(photos: Photos) -> None:
    photos.add("a", shape("Cat"), shape("cat"), shape("dog"))
    assert (
        "classes 'Cat' and 'cat' differ in case alone; make one of them with `classes: [{name: cat, from: [Cat, "
        "cat]}]`" in photos.command("build").err
    )


def test_a_label_that_differs_in_case_from_one_that_went_is_told(photos: Photos) -> None:
    photos.add("a", shape("cat"), shape("dog"))
    assert "in case alone" not in photos.command("build").err
    photos.add("a", shape("Cat"), shape("dog"))
    told = photos.command("build").err
    assert "class 'cat' has no object in the source any more" in told
    assert "classes 'Cat' and 'cat' differ in case alone" in told


# Numbers


def test_numbers_stay_when_labels_come_and_go(photos: Photos) -> None:
    photos.add("a", shape("cat"))
    photos.add("b", shape("dog"))
    assert photos.build()["classes"] == ["cat", "dog"]
    before = contents(photos.target)["labels/train/b.txt"]
    photos.add("c", shape("ant"))
    assert photos.command("plan", "--json").json["classes"] == ["cat", "dog", "ant"]
    assert photos.build()["classes"] == ["cat", "dog", "ant"]
    assert contents(photos.target)["labels/train/b.txt"] == before
    os.remove(photos.photos / "a.json")
    told = photos.command("build", "--quiet", "--set", "target.images=none")
    assert "class 'cat' has no object in the source any more; it keeps its number 0" in told.err
    assert contents(photos.target)["labels/train/b.txt"] == before
    assert photos.build("--set", "target.images=none")["status"] == "nothing to do"
    assert photos.build("--set", f"target.root={photos.root}/fresh")["classes"] == ["ant", "dog"]


def test_numbers_that_are_asked_for_move_and_are_told(photos: Photos) -> None:
    photos.add("a", shape("cat"), shape("dog"))
    photos.build()
    told = photos.command("build", "--quiet", "--set", "classes=[dog, cat]")
    assert "class numbers change at the target: 'cat' was 0, is 1, 'dog' was 1, is 0" in told.err
    assert contents(photos.target)["labels/train/a.txt"][:2] == b"1 "


# Sizes


@pytest.mark.parametrize(
    ("said", "picture", "points", "placed", "note"),
    [
        ((100, 50), None, SQUARE, SQUARE, None),
        ((100, 50), Picture(100, 50), SQUARE, SQUARE, None),
        ((200, 100), Picture(100, 50), [[20, 40]], [[10, 20]], "resized"),
        ((100, 67), Picture(640, 427), [[50, 67]], [[320, 427]], "resized"),
        ((50, 100), Picture(50, 100, 6), [[0, 0]], [[100, 0]], "turned"),  # drawn on the stored image
        ((100, 50), Picture(50, 100, 6), [[0, 0]], [[0, 0]], None),  # drawn on the shown one
        ((100, 200), Picture(50, 100, 6), [[0, 0]], [[100, 0]], "resized"),
        ((50, 100), Picture(100, 50), [[90, 40]], [[90, 40]], "exchanged"),
    ],
)
def test_what_became_of_an_image_is_put_right_where_it_is_certain(
    said: tuple[int, int], picture: Picture | None, points: Any, placed: Any, note: str | None
) -> None:
    frame = frame_of(said, picture, lambda: reach_of([{"points": points}]))
    assert frame.note == note
    assert frame.transform(np.array(points, float)) == pytest.approx(np.array(placed, float))
    if picture is not None:
        assert (frame.width, frame.height) == (picture.width, picture.height)


@pytest.mark.parametrize(
    ("said", "picture", "points"),
    [
        ((50, 100), Picture(100, 50), [[40, 90]]),  # turned by hand: one way or the other
        ((50, 100), Picture(100, 50), [[20, 20]]),
        ((80, 50), Picture(100, 50), [[20, 20]]),  # cropped
    ],
)
def test_what_nobody_can_know_is_refused(said: tuple[int, int], picture: Picture, points: Any) -> None:
    with pytest.raises(OtherImage, match=f"{said[0]} x {said[1]}, not 100 x 50"):
        frame_of(said, picture, lambda: reach_of([{"points": points}]))


@pytest.mark.parametrize("orientation", [1, 5, 6, 7, 8])  # of the others stored and shown are of one size
@pytest.mark.parametrize("by", [1, 2])
def test_a_mask_is_turned_as_pillow_turns_its_image(orientation: int, by: int) -> None:
    mask = np.zeros((20, 40), bool)
    mask[4:12, 8:30] = True
    mask[5, 8] = False
    patch = shape(points=[[8, 4], [29, 11]], kind="mask", mask=png(mask[4:12, 8:30]))
    content = file(patch, imageWidth=40, imageHeight=20)
    picture = Picture(40 * by, 20 * by, orientation)
    (row,) = labelme.parse([content], Task.SEGMENT, pictures=lambda *_: picture).rows.to_pylist()
    found = json.loads(row["raw"])["segmentation"]
    stored = Image.fromarray(np.kron(mask, np.ones((by, by))).astype(np.uint8))
    stored.getexif()[0x112] = orientation
    assert (to_mask(decompress(found["counts"]), *found["size"]) == np.asarray(ImageOps.exif_transpose(stored))).all()


@pytest.mark.parametrize(
    ("label", "points"),
    [("cat", [["10", "10"], ["50", 10], ["50.0", "4e1"]]), (7, TRIANGLE)],
)
def test_numbers_may_be_text_and_text_a_number(label: Any, points: Any) -> None:
    row = only(file(shape(label=label, points=points)))
    assert (row["label"], row["tail"] is not None) == (str(label), True)


def test_a_mask_is_resized_with_its_image() -> None:
    mask = np.zeros((20, 40), bool)
    mask[4:12, 8:30] = True
    patch = shape(points=[[8, 4], [29, 11]], kind="mask", mask=png(mask[4:12, 8:30]))
    content = file(patch, imageWidth=40, imageHeight=20)
    for by in (0.5, 2, 3):
        picture = Picture(int(40 * by), int(20 * by))
        (row,) = labelme.parse([content], Task.SEGMENT, pictures=lambda *_, p=picture: p).rows.to_pylist()
        found = json.loads(row["raw"])["segmentation"]
        made = to_mask(decompress(found["counts"]), *found["size"])
        size = (picture.width, picture.height)
        assert (made == np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))).all()


def test_an_image_that_changed_is_seen_though_its_label_file_did_not(photos: Photos) -> None:
    photos.config["target"]["format"] = "coco"
    photos.add("a", shape())
    _settle(photos)
    photos.build()
    write_file(photos.photos / "a.jpg", jpeg(200, 100))
    _settle(photos)
    told = photos.command("build")
    assert "1 object of an image that was resized after it was labelled" in told.out
    made = json.loads((photos.target / "annotations/instances_train.json").read_text())
    assert (made["images"][0]["width"], made["annotations"][0]["bbox"]) == (200, [20, 20, 80, 40])
    write_file(photos.photos / "a.jpg", jpeg(90, 50))
    assert "a.json: says that its image has 100 x 50 pixels, but it has 90 x 50" in photos.command("build", code=1).err
    photos.build("--set", "source.options.sizes=trust")
    write_file(photos.photos / "a.jpg", jpeg(100, 50))
    _settle(photos)
    photos.build()


def _settle(photos: Photos) -> None:
    """As if all of it had been there for a while: what is younger is read again anyway."""
    for path in photos.photos.rglob("*"):
        now = time.time_ns() - 10_000_000_000 - path.stat().st_size
        os.utime(path, ns=(now, now))


# Images


@pytest.mark.parametrize("kind", ["copy", "hardlink"])
@pytest.mark.parametrize("layout", ["yolo", "coco"])
def test_an_image_in_the_label_file_is_taken_out(photos: Photos, kind: str, layout: str) -> None:
    held = jpeg(100, 50)
    photos.add("sub/f", shape(), image=None, imageData=base64.b64encode(held).decode())
    photos.add("g", shape())
    photos.config["target"] |= {"format": layout, "images": kind}
    _settle(photos)
    before = snapshot(photos.photos)
    photos.build("--set", "select.check_images=full")
    made = contents(photos.target)
    assert made["images/train/sub/f.jpg"] == held
    assert photos.build("--set", "select.check_images=full")["status"] == "nothing to do"
    photos.run("verify", photos.target, "--deep")
    assert kind == "hardlink" or snapshot(photos.photos) == before  # a link is seen in the source's times
    other = jpeg(100, 50, 3)
    photos.add("sub/f", shape("dog"), image=None, imageData=base64.b64encode(other).decode())
    photos.build()
    assert contents(photos.target)["images/train/sub/f.jpg"] == other
    write_file(photos.photos / "sub/f.jpg", jpeg(100, 50, 4))
    photos.build()
    assert contents(photos.target)["images/train/sub/f.jpg"] == jpeg(100, 50, 4)


FORMS: dict[str, Callable[[bytes], str]] = {
    "a data URL": lambda held: f"data:image/jpeg;base64,{base64.b64encode(held).decode()}",
    "lines of MIME": lambda held: base64.encodebytes(held).decode().replace("\n", "\r\n"),
    "the alphabet of URLs, no padding": lambda held: base64.urlsafe_b64encode(held).decode().rstrip("="),
    "Python's str of bytes": lambda held: str(base64.b64encode(held)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sized", [True, False])
def test_an_embedded_image_is_taken_in_each_form_of_base64(photos: Photos, form: str, sized: bool) -> None:
    held = jpeg(100, 50)
    held += b"\0" * ((1 - len(held)) % 3)  # so that it ends amid the last digits
    none = {} if sized else {"imageWidth": None, "imageHeight": None}
    photos.add("f", shape(), image=None, imageData=FORMS[form](held), **none)
    photos.build()
    assert contents(photos.target)["images/train/f.jpg"] == held


def test_an_embedded_image_goes_into_a_zip(photos: Photos) -> None:
    photos.add("f", shape(), image=None, imageData=base64.b64encode(jpeg(100, 50)).decode())
    photos.build("--set", "target.archive=zip")


def test_an_embedded_image_of_labels_elsewhere_is_told(photos: Photos) -> None:
    photos.add("f", shape(), image=None, imageData=base64.b64encode(jpeg(100, 50)).decode())
    (photos.root / "pictures").mkdir()
    photos.config["source"]["splits"] = {"train": {"labels": "photos", "images": "pictures"}}
    assert "the one in it is taken where labels and images are one folder" in photos.command("build", code=1).err


@pytest.mark.parametrize(
    ("text", "held"),
    [
        (b'"AAEC"', b"\0\1\2"),
        (b'"AA\\/C"', b"\0\x0f\xc2"),
        (b'"AA\\nEC"', b"\0\1\2"),
        (b"null", None),
        (b'""', None),
        (b'"\xff\xff\xff\xff"', None),
        (b'"AAE"', b"\0\1"),
        (b'"AAE=="', b"\0\1"),
        (b'"AAECA"', None),
        (b'"-_-_"', b"\xfb\xff\xbf"),
        (b'"\\u002B/\\u002b/"', b"\xfb\xff\xbf"),
        (b'"\\u00"', None),
        (b'"data:image/jpeg;base64,AAEC"', b"\0\1\2"),
        (b'"DATA:image/png;charset=utf-8;base64,AA\\r\\nEC"', b"\0\1\2"),
        (b"\"b'AAEC'\"", b"\0\1\2"),
    ],
)
def test_base64_as_json_has_it(text: bytes, held: bytes | None) -> None:
    assert unpacked(text) == held
    assert held is None or unpacked(text, 3) == held


def _names(name: str) -> list[str]:
    return [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]


@pytest.mark.parametrize("turned", [False, True])
def test_names_composed_in_two_ways_belong_together(photos: Photos, turned: bool) -> None:
    label, image = reversed(_names("Küche")) if turned else _names("Küche")
    photos.add("a", shape())
    write_file(photos.photos / f"{label}.json", file(shape("dog"), imagePath="elsewhere.jpg"))
    write_file(photos.photos / f"{image}.jpg", jpeg(100, 50))
    told = photos.build("--set", "index.buckets=7", "--set", "select.backgrounds=all")
    assert told["subset"]["train"]["images"] == 2
    assert told["subset"]["train"]["backgrounds"] == 0


def test_two_names_of_one_look_keep_their_own(photos: Photos) -> None:
    for number, name in enumerate(_names("Küche")):
        photos.add(name, shape(f"class{number}"))
    photos.build("--set", "target.images=none", *SKIP)
    assert len([p for p in contents(photos.target) if p.startswith("labels/")]) == 2


@pytest.mark.parametrize(
    "said",
    [
        "../images/b%20c.jpg",
        "file:///C:/x/images/b%20c.jpg",
        "/home/me/project/images/b c.jpg",
        "D:\\p\\images\\b c.jpg",
        "images/b c.jpg",
        "b c.jpg",
        "\\\\nas\\share\\images\\b c.jpg",
    ],
)
def test_the_image_is_found_by_the_end_of_what_the_file_says(photos: Photos, said: str) -> None:
    photos.add("labels/a", shape(), image=None, imagePath=said)
    where = "labels" if "images" not in said else "images"
    write_file(photos.photos / where / "b c.jpg", jpeg(100, 50))
    photos.build()
    assert "images/train/labels/a.jpg" in contents(photos.target)


def test_what_annotators_threw_away_is_left_out_and_told(photos: Photos) -> None:
    photos.add("a", shape())
    photos.add("_delete_/b", shape("dog"))
    photos.add("deep/_delete_/c", shape("dog"))
    photos.add(".ipynb_checkpoints/a-checkpoint", shape("dog"))
    photos.add("my_delete_/d", shape("cat"))
    write_file(photos.photos / "x-anylabeling-exif-backup/a.jpg", jpeg(100, 50))
    told = photos.command("build", "--set", "select.backgrounds=all")
    assert "4 files in folders called _delete_ left out" in told.err
    assert "2 files in folders called .ipynb_checkpoints left out: copies of Jupyter" in told.err
    assert "1 file in folders called x-anylabeling-exif-backup left out" in told.err
    assert sorted(p for p in contents(photos.target) if p.startswith("images/")) == [
        "images/train/a.jpg",
        "images/train/my_delete_/d.jpg",
    ]


# Names files and messages


def test_a_list_of_other_names_is_refused(photos: Photos) -> None:
    photos.add("a", shape("cat"))
    names = write_file(photos.root / "names.txt", "owl\nhen\n")
    told = photos.command("build", "--set", f"source.names={names}", code=2).err
    assert "names.txt: none of its names is a class of the source source: 'owl', 'hen' against 'cat'" in told


def test_letters_are_shown_as_letters(photos: Photos) -> None:
    photos.add("a", shape("船", kind="cuboid"))
    assert "shape 1 (\"船\"): shape_type 'cuboid'" in photos.command("build", code=1).err


def test_the_marks_of_a_merge_are_told_with_their_line(photos: Photos) -> None:
    text = b'{"version": "5.0.1",\n<<<<<<< HEAD\n"shapes": [],\n=======\n"shapes": [1],\n>>>>>>> other\n}'
    write_file(photos.photos / "a.json", text)
    assert "a.json:2: holds the marks of a merge (<<<<<<<" in photos.command("build", code=1).err
    assert merge_mark(text.replace(b"\n", b"\r\n")) == 2
    assert merge_mark(b'{"description": "<<<<<<< not at the beginning"}') is None
    assert flaw_of(b'{"a": NaN}') is None


def test_a_class_that_is_lost_as_a_whole_is_heard(photos: Photos) -> None:
    photos.add("a", shape("cat"))
    photos.add("b", shape("dog"), image=None)
    told = photos.command("build", "--quiet", *SKIP, code=3).err
    assert "the one object of class 'dog' is left out" in told
