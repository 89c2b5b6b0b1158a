"""COCO JSON as other tools write it: names of images, values, mistakes, a file that changes while it is read."""

from __future__ import annotations

import json
import math
import os
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.base.errors import DataError, StorageError
from pipeline.base.terms import Task
from pipeline.formats import FileOutline, Malformed, Part, coco
from pipeline.formats._image_names import ImageNames, clean
from pipeline.formats._large_json import LargeObject
from pipeline.formats._values import with_numbers
from pipeline.formats.coco.placing import completed
from pipeline.geometry import masks
from pipeline.stages.index.annotations_file import AnnotationsFile
from tests.conftest import Run
from tests.formats.test_coco import SQUARE, annotation, document, image, parse
from tests.support.helpers import PROJECT, repeated, write_file

# --- which file an image is -------------------------------------------------------------------------------------------

LISTED = (
    "a.jpg",
    "sub/b.png",
    "cafe\u0301.jpg",
    "000000266409.jpg",
    "x/one.jpg",
    "y/one.jpg",
    "two.JPG",
    "train/c d.jpg",
    "COCO_val2014_000000000042.jpg",
    "images/val/0001/000.jpg",
)

#: What a label file says, and the listed file; None: there is none, or several.
SAID: list[tuple[str, str | None]] = [
    ("a.jpg", "a.jpg"),
    ("./a.jpg", "a.jpg"),
    ("images/a.jpg", "a.jpg"),
    ("../images/a.jpg", "a.jpg"),
    ("C:\\data\\x\\a.jpg", "a.jpg"),
    ("/home/me/set/a.jpg", "a.jpg"),
    ("images\\a.jpg", "a.jpg"),
    ("sub\\b.png", "sub/b.png"),
    ("b.png", "sub/b.png"),
    ("/srv/sub/b.png", "sub/b.png"),
    ("b.jpg", "sub/b.png"),
    ("caf\u00e9.jpg", "cafe\u0301.jpg"),
    ("x/one.jpg", "x/one.jpg"),
    ("one.jpg", None),
    ("z/one.jpg", None),
    ("COCO_val2014_000000266409.jpg", "000000266409.jpg"),
    ("000000000042.jpg", "COCO_val2014_000000000042.jpg"),
    ("http://images.example.org/val2017/000000266409.jpg", "000000266409.jpg"),
    ("two.jpg", "two.JPG"),
    ("upload/3/1234abcd-a.jpg", "a.jpg"),
    ("/data/upload/1/0a1b2c3d-a.jpg", "a.jpg"),
    ("c%20d.jpg", "train/c d.jpg"),
    ("/data/local-files/?d=train%2Fc%20d.jpg", "train/c d.jpg"),
    ("0001/000.jpg", "images/val/0001/000.jpg"),
    ("0002/000.jpg", None),
    ("A.JPG", "a.jpg"),
    ("none.jpg", None),
]


@pytest.mark.parametrize(("said", "path"), SAID)
def test_an_image_is_found_by_what_it_is_called(said: str, path: str | None) -> None:
    found = ImageNames(LISTED).find(said)
    assert found.path == path
    assert found.several == (("x/one.jpg", "y/one.jpg") if said == "one.jpg" else ())


@given(st.text(max_size=30))
def test_a_cleaned_path_stays_below_its_folder(said: str) -> None:
    path = clean(said)
    assert not path.startswith("/")
    assert not {"", ".", ".."} & set(path.split("/")) or not path
    assert "\0" not in path


def outline(images: list[Any], annotations: list[Any], listed: tuple[str, ...]) -> FileOutline:
    return coco.outline([json.dumps(document(*annotations, images=images)).encode()], Task.DETECT, ImageNames(listed))


def test_two_suffixes_are_two_images() -> None:
    found = outline(
        [image(1, "a.jpg"), image(2, "a.png")], [annotation(), annotation(2, image_id=2)], ("a.jpg", "a.png")
    )
    assert (found.stems, found.paths) == (["a", "a.png"], ["a.jpg", "a.png"])
    assert found.image_of.tolist() == [0, 1]
    assert found.problems == []


def test_several_ids_of_one_image_are_one_image() -> None:
    found = outline([image(1, "a.jpg"), image(2, "a.jpg")], [annotation(), annotation(2, image_id=2)], ("a.jpg",))
    assert (found.stems, found.image_of.tolist(), found.problems) == (["a"], [0, 0], [])
    assert len(found.notes) == 1


def test_one_id_of_several_images_gives_objects_to_none() -> None:
    found = outline(
        [image(1, "a.jpg"), image(1, "b.jpg"), image(2, "c.jpg")],
        [annotation(), annotation(2), annotation(3, image_id=2)],
        ("a.jpg", "b.jpg", "c.jpg"),
    )
    assert found.image_of.tolist() == [2]
    assert [(reason, rows) for _, reason, _, rows in found.problems] == [("image_twice", 2)]
    assert sorted(found.doubtful) == [0, 1]


def test_a_file_that_is_only_like_two_names_is_neither() -> None:
    found = outline([image(1, "x/a.jpg"), image(2, "y/a.jpg"), image(3, "b.jpg")], [annotation()], ("a.jpg", "b.jpg"))
    assert found.stems == ["b"]
    assert [(reason, rows) for _, reason, _, rows in found.problems] == [("ambiguous_image", 1), ("ambiguous_image", 0)]


# --- values -----------------------------------------------------------------------------------------------------------

TAKEN: list[dict[str, Any]] = [
    {"bbox": ["10", 10, "20.0", "2e1"]},
    {"bbox": "[10, 10, 20, 20]"},
    {"category_id": "3"},
    {"category_id": 3.0},
    {"iscrowd": "false"},
    {"iscrowd": "0"},
    {"iscrowd": 0.0},
    {"iscrowd": None},
    {"iscrowd": False},
    {"area": float("nan")},
    {"area": "400"},
    {"image_id": "1"},
    {"score": float("inf")},
    {"segmentation": None},
]


@pytest.mark.parametrize("more", TAKEN)
def test_values_mean_what_they_say(more: dict[str, Any]) -> None:
    (row,), problems, _ = parse(document(annotation(**more)))
    assert (row["tail"], row["label"], row["loss"]) == (b" 0.200000 0.400000 0.200000 0.400000", "car", None)
    assert problems == []
    made = json.loads(with_numbers(row["raw"]), parse_constant=pytest.fail)
    assert all(isinstance(v, int | float) for v in made["bbox"])
    assert isinstance(made["area"], int | float)


@pytest.mark.parametrize(
    ("more", "loss"),
    [
        ({"bbox": [float("nan")] * 4, "segmentation": []}, "no_box"),
        ({"bbox": [None, 1, 2, 3], "segmentation": None}, "no_box"),
        ({"bbox": [5, 5, 0, 9], "segmentation": [[1, 1, 2, 2]]}, "zero_area"),
        ({"iscrowd": "true"}, "crowd"),
        ({"iscrowd": "1"}, "crowd"),
        ({"bbox": [90, 10, 20, 20]}, "clipped"),
        ({"bbox": [-300, 0, 9, 9]}, "outside"),
    ],
)
def test_what_is_lost_is_counted(more: dict[str, Any], loss: str) -> None:
    (row,), problems, _ = parse(document(annotation(**more)))
    assert (row["loss"], problems) == (loss, [])


@pytest.mark.parametrize("box", [None, [], [0, 0, 0, 0], [10, 10, 0, 20], [10, 10], "", [float("nan")] * 4])
@pytest.mark.parametrize("task", [Task.DETECT, Task.SEGMENT])
def test_a_polygon_has_a_box(box: Any, task: Task) -> None:
    mask = np.zeros((50, 100), bool)
    mask[10:30, 10:30] = True
    rle = {"size": [50, 100], "counts": masks.of_mask(mask).tolist()}
    for segmentation in ([SQUARE], rle, [[], SQUARE, [1, 1]]):
        (row,), problems, _ = parse(document(annotation(bbox=box, segmentation=segmentation)), task)
        assert (row["tail"] is not None, problems) == (True, [])
        assert [row[name] for name in ("cx", "cy", "w", "h")] == pytest.approx([0.2, 0.4, 0.2, 0.4])
        made = json.loads(completed(with_numbers(row["raw"]), 100, 50))
        assert made["bbox"] == [10, 10, 20, 20]
        if isinstance(segmentation, list):
            assert all(made["segmentation"])


@pytest.mark.parametrize(
    "box", [{"x": 1, "y": 2, "width": 3, "height": 4}, {"left": 1}, {}, '{"x": 1}', True, 7, [[1, 2], [3, 4]]]
)
def test_a_box_that_is_no_list_is_a_bad_object(box: Any) -> None:
    """`pycocotools` takes four numbers from a list; the other objects of the file are taken."""
    found, problems, _ = parse(document(annotation(bbox=box), annotation(2, bbox=[1, 2, 3, 4])), Task.DETECT)
    assert [(reason, "which is not four numbers" in detail) for reason, detail in problems] == [
        ("bad_annotation", True)
    ]
    assert len(found) == 1
    (row,), problems, _ = parse(document(annotation(bbox=box, segmentation=[SQUARE])), Task.SEGMENT)
    assert (row["tail"] is not None, problems) == (True, [])
    assert json.loads(completed(with_numbers(row["raw"]), 100, 50))["bbox"] == [10, 10, 20, 20]


def test_run_lengths_may_be_text() -> None:
    for rle in ({"size": ["50", "100"], "counts": [0, 5000]}, {"size": [50, 100], "counts": ["0", "5000"]}):
        (row,), _, _ = parse(document(annotation(segmentation=rle)), Task.SEGMENT)
        assert row["tail"] is not None


def test_a_mask_of_another_size_is_scaled() -> None:
    counts = masks.of_mask(np.ones((5, 10), bool)).tolist()
    (row,), _, _ = parse(document(annotation(segmentation={"size": [5, 10], "counts": counts})), Task.SEGMENT)
    assert sorted(np.array(row["tail"].split(), float).reshape(-1, 2).tolist()) == [[0, 0], [0, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize("task", [Task.DETECT, Task.SEGMENT])
def test_boxes_in_shares_of_their_image_are_made_pixels(task: Task) -> None:
    """As Azure Machine Learning exports COCO; a box of a pixel beside others is one."""
    shares = [
        annotation(1, bbox=[0.1, 0.2, 0.2, 0.4], segmentation=[[0.1, 0.2, 0.3, 0.2, 0.3, 0.6]], area=0.04),
        annotation(2, bbox=[0, 0, 1, 1], segmentation=[[0, 0, 1, 0, 1, 1]], area=1),
        annotation(3, image_id=2, bbox=[0.5, 0.5, 0.25, 0.25], segmentation=[[0.5, 0.5, 0.75, 0.5, 0.75, 0.75]]),
        annotation(4, image_id=2),
        annotation(5, image_id=3, bbox=[0, 0, 1, 1], segmentation=[[0, 0, 1, 0, 1, 1]]),
    ]
    found, problems, _ = parse(document(*shares, images=[image(n, f"{n}.jpg") for n in (1, 2, 3)]), task)
    assert problems == []
    boxes = [[round(row[name], 6) for name in ("cx", "cy", "w", "h")] for row in found]
    assert boxes[:3] == [[0.2, 0.4, 0.2, 0.4], [0.5, 0.5, 1, 1], [0.00625, 0.0125, 0.0025, 0.005]]
    assert boxes[4] == [0.005, 0.01, 0.01, 0.02]
    assert [row["loss"] for row in found] == ["shares", "shares", None, None, None]
    assert json.loads(found[0]["raw"])["bbox"] == pytest.approx([10, 10, 20, 20])
    if task is Task.SEGMENT:
        assert found[0]["tail"] == b" 0.100000 0.200000 0.300000 0.200000 0.300000 0.600000"


def test_crowds_can_be_objects() -> None:
    mask = {"size": [50, 100], "counts": [0, 5000]}
    text = json.dumps(document(annotation(iscrowd=1, segmentation=mask))).encode()
    found = coco.outline([text], Task.SEGMENT)
    part = Part(
        [json.dumps(image()).encode()], [text[a:b] for a, b in found.annotations.tolist()], found.image_of, found.labels
    )
    for crowd, loss, flag in (("drop", "crowd", 1), ("keep", None, 0)):
        (row,) = coco.parse(part, Task.SEGMENT, None, {"crowd": crowd}).rows.to_pylist()
        assert (row["loss"], json.loads(row["raw"])["iscrowd"]) == (loss, flag)


def test_keypoints_that_are_not_labelled_are_zeros() -> None:
    points = [5, 5, 2, -4, 900, 0, 500, 5, 1]
    text = json.dumps(document(annotation(keypoints=points, num_keypoints=2))).encode()
    found = coco.outline([text], Task.POSE)
    assert found.names["kpt_shape"] == (3, 3)
    part = Part(
        [json.dumps(image()).encode()], [text[a:b] for a, b in found.annotations.tolist()], found.image_of, found.labels
    )
    (row,) = coco.parse(part, Task.POSE, (3, 3)).rows.to_pylist()
    assert np.array(row["tail"].split(), float)[4:].tolist() == [0.05, 0.1, 2, 0, 0, 0, 0, 0, 0]
    assert row["loss"] == "keypoint_outside"


def test_several_skeletons_are_told() -> None:
    text = json.dumps(
        document(
            annotation(keypoints=[1, 1, 2] * 4),
            annotation(2, keypoints=[1, 1, 2] * 4),
            annotation(3, category_id=1, keypoints=[1, 1, 2] * 9),
        )
    )
    found = coco.outline([text.encode()], Task.POSE)
    assert found.names["kpt_shape"] == (4, 3)
    assert "'person' 9" in found.notes[0]


# --- files ------------------------------------------------------------------------------------------------------------

WRONG = [
    (b'{"images": [],\n<<<<<<< HEAD\n"annotations": []}', "marks of a merge", 2),
    (b'{"images": [{"id": 1}\n{"id": 2}]}', "neither a comma nor a bracket", 2),
    (b'{"images": [\n{"id": 1}', "cut short", 2),
    (b'{"images": []\n} {}', "more after the end", 2),
    (b'{"info": "\xe9",\n"images": []}', "not UTF-8", 1),
    ('{"images": []}'.encode("utf-16"), "UTF-16", None),
    (b"", "empty", None),
    (b'{"images": [],}', "followed by no key", None),
    (b'[{"image_id": 1}]', "no COCO dataset", None),
    (b'{"shapes": [], "imagePath": "a.jpg"}', "labelme", None),
    (b'{"images": [], "info": {nope}}', "`info`", None),
]


@pytest.mark.parametrize(("text", "clause", "line"), WRONG)
@pytest.mark.parametrize("step", [2, 7, 1 << 20])
def test_what_is_wrong_is_told_with_its_line(text: bytes, clause: str, line: int | None, step: int) -> None:
    with pytest.raises(Malformed, match=clause) as caught:
        coco.outline((text[i : i + step] for i in range(0, len(text), step)), Task.DETECT)
    assert caught.value.line == line
    assert "byte" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text('a"\\{}[],:é\n', max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('ab"{', max_size=2), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(
    st.lists(JSON, max_size=6),
    st.lists(JSON, max_size=6),
    JSON,
    st.integers(1, 40),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_elements_lie_where_they_lie(
    images: list[Any], annotations: list[Any], info: Any, step: int, indent: int | None, escaped: bool
) -> None:
    data = {"info": info, "images": images, "annotations": annotations, "last": {"images": [1]}}
    text = json.dumps(data, indent=indent, ensure_ascii=escaped).encode()
    file = LargeObject((text[i : i + step] for i in range(0, len(text), step)), {"images", "annotations"})
    found: dict[str, list[Any]] = {"images": [], "annotations": []}
    for chunk in file.chunks():
        assert chunk.first == len(found[chunk.member])
        for number, (begin, stop) in enumerate(chunk.spans.tolist()):
            assert text[begin:stop] == chunk.element(number)
            assert chunk.line_of(number) == text.count(b"\n", 0, begin) + 1
            found[chunk.member].append(json.loads(text[begin:stop]))
    rest = {name: json.loads(value) for name, value in file.rest.items()}
    assert json.dumps(found | rest, sort_keys=True) == json.dumps(data, sort_keys=True)


def test_a_file_that_is_written_anew_is_a_sentence(tmp_path: Path) -> None:
    images = [image(n, f"{n}.jpg") for n in range(300)]
    text = json.dumps(document(*[annotation(n, image_id=n % 300, note="x" * 2000) for n in range(3000)], images=images))
    path = write_file(tmp_path / "a.json", text)
    file = AnnotationsFile(str(path))
    found = file.read_through(lambda pieces: coco.outline(pieces, Task.DETECT))
    path.write_text(text[:100])
    with pytest.raises((DataError, StorageError), match=r"a\.json: (became shorter|is written anew)"):
        file.texts(found.annotations)


@pytest.mark.slow
def test_a_run_survives_a_file_that_is_cut_under_it(tmp_path: Path, run: Run) -> None:
    images = [image(n, f"{n}.jpg") for n in range(3000)]
    rows = [annotation(n, image_id=n % 3000, note="x" * 700) for n in range(60_000)]
    text = json.dumps(document(*rows, images=images))
    path = write_file(tmp_path / "a.json", text)
    config = write_file(
        tmp_path / "c.yaml",
        json.dumps(
            {
                "source": {"format": "coco", "splits": {"train": {"annotations": str(path)}}},
                "target": {"root": str(tmp_path / "out"), "images": "none"},
                "workdir": str(tmp_path / "work"),
            }
        ),
    )
    done = threading.Event()

    def cut() -> None:
        wait = random.Random(4)
        while not done.is_set():
            path.write_text(text[: wait.randrange(len(text))])
            time.sleep(wait.random() / 20)
            path.write_text(text)
            time.sleep(wait.random() / 20)

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        told = [run("index", config, code=None) for _ in range(2)]
    finally:
        done.set()
        thread.join()
    for result in told:
        assert result.code in (0, 1), result.err
        assert "Traceback" not in result.err
        assert result.code == 0 or str(path) in result.err


# --- builds -----------------------------------------------------------------------------------------------------------


def picture_file(path: Path, size: tuple[int, int], orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Image.new("RGB", size)
    exif = made.getexif()
    if orientation != 1:
        exif[0x112] = orientation
    made.save(path, exif=exif)


@dataclass
class Source:
    """A COCO JSON with images beside it, built into `root`/out."""

    run: Run
    root: Path

    def build(self, data: dict[str, Any], *args: str, code: int = 0) -> Any:
        write_file(self.root / "a.json", json.dumps(data))
        config = write_file(
            self.root / "c.yaml",
            json.dumps(
                {
                    "source": {
                        "format": "coco",
                        "splits": {"train": {"annotations": str(self.root / "a.json"), "images": str(self.root / "i")}},
                    },
                    "target": {"root": str(self.root / "out")},
                    "workdir": str(self.root / "work"),
                }
            ),
        )
        return self.run("build", config, *args, code=code)


@pytest.fixture
def source(tmp_path: Path, run: Run) -> Source:
    """See `Source`."""
    (tmp_path / "i").mkdir()
    return Source(run, tmp_path)


@pytest.mark.parametrize("size", [(50, 100), (90, 90)])
def test_an_image_of_another_size_is_refused(source: Source, size: tuple[int, int]) -> None:
    picture_file(source.root / "i/a.jpg", size)
    told = source.build(document(annotation()), "--set", "target.format=coco", code=1).err
    assert f'image "a.jpg" (id 1) has {size[0]} x {size[1]} pixels, but the file says 100 x 50' in told
    assert not (source.root / "out/images").exists()


#: What images became since they were labelled: their size and EXIF orientation, the size that the file says, the box
#: there, and the box in the image as it is shown.
BECAME: list[tuple[tuple[int, int], int, tuple[int, int], list[float], list[float]]] = [
    ((200, 100), 1, (100, 50), [10, 10, 20, 20], [20, 20, 40, 40]),
    ((50, 25), 1, (100, 50), [10, 10, 20, 20], [5, 5, 10, 10]),
    ((100, 50), 1, (50, 100), [60, 10, 20, 20], [60, 10, 20, 20]),
    ((100, 50), 6, (100, 50), [60, 10, 20, 30], [10, 60, 30, 20]),
    ((100, 50), 8, (100, 50), [60, 10, 20, 30], [10, 20, 30, 20]),
    ((100, 50), 6, (200, 100), [120, 20, 40, 60], [10, 60, 30, 20]),
    ((100, 50), 6, (100, 50), [10, 60, 30, 20], [10, 60, 30, 20]),
]


@pytest.mark.parametrize(("size", "orientation", "said", "box", "placed"), BECAME)
def test_what_became_of_an_image_is_put_right(
    source: Source,
    size: tuple[int, int],
    orientation: int,
    said: tuple[int, int],
    box: list[float],
    placed: list[float],
) -> None:
    picture_file(source.root / "i/a.jpg", size, orientation)
    x, y, w, h = box
    mask = np.zeros(said[::-1], bool)
    mask[int(y) : int(y + h), int(x) : int(x + w)] = True
    corners = [x, y, x + w, y, x + w, y + h, x, y + h]
    thing = annotation(bbox=box, segmentation=[corners], keypoints=[x, y, 2, 0, 0, 0])
    masked = annotation(2, bbox=box, segmentation={"size": list(mask.shape), "counts": masks.of_mask(mask).tolist()})
    source.build(document(thing, *([masked] if x + w <= said[0] and y + h <= said[1] else []), images=[
        image(width=said[0], height=said[1])]), "--set", "target.format=coco")  # fmt: skip
    made = json.loads((source.root / "out/annotations/instances_train.json").read_text())
    shown = size[::-1] if orientation > 4 else size
    assert (made["images"][0]["width"], made["images"][0]["height"]) == shown
    for found in made["annotations"]:
        assert found["bbox"] == placed
    first, *others = made["annotations"]
    xy = np.array(first["segmentation"]).reshape(-1, 2)
    assert [*xy.min(axis=0), *np.ptp(xy, axis=0)] == placed
    assert first["keypoints"][3:] == [0, 0, 0]
    for found in others:
        runs = masks.decompress(found["segmentation"]["counts"]) if isinstance(
            found["segmentation"]["counts"], str) else np.array(found["segmentation"]["counts"])  # fmt: skip
        assert tuple(found["segmentation"]["size"]) == shown[::-1]
        assert list(masks.box(runs, shown[1])) == placed


def test_a_size_that_was_exchanged_for_certain_or_by_the_users_word(source: Source) -> None:
    picture_file(source.root / "i/a.jpg", (50, 100))
    source.build(document(annotation()), "--set", "source.options.sizes=image")
    assert (source.root / "out/labels/train/a.txt").read_text() == "1 0.400000 0.200000 0.400000 0.200000\n"


def test_images_that_nobody_compares_are_compared_as_they_are_copied(source: Source) -> None:
    picture_file(source.root / "i/a.jpg", (90, 90))
    told = source.build(document(annotation()), "--set", "source.options.sizes=file", code=1).err
    assert "a.jpg: has 90 x 90 pixels, its label file says 100 x 50 (of another shape)" in told


def test_an_image_that_is_turned_by_exif_is_told_under_quiet(source: Source) -> None:
    picture_file(source.root / "i/a.jpg", (100, 50), 6)
    told = source.build(document(annotation()), "--quiet", "--set", "source.options.sizes=file").err
    assert "a.jpg the first, shown turned by EXIF data" in told


def test_a_class_of_crowds_alone_is_told_under_quiet(source: Source) -> None:
    picture_file(source.root / "i/a.jpg", (100, 50))
    told = source.build(document(annotation(iscrowd=1)), "--quiet", "--set", "classes=[car]", code=1).err
    assert "the subset would be empty" in told
    assert "none can be used: 1 crowd;" in told
    assert "crowd=keep" in told
    source.build(document(annotation(iscrowd=1)), "--set", "classes=[car]", "--set", "source.options.crowd=keep")
    assert (source.root / "out/labels/train/a.txt").read_text().count("\n") == 1


def test_an_image_that_is_nowhere_is_told_with_what_was_tried(source: Source) -> None:
    told = source.build(document(annotation(), images=[image(name="C:\\x\\a.jpg")]), code=1).err
    assert f"{source.root}/i: has no image 'C:\\\\x\\\\a.jpg' (tried with and without its folders" in told


@pytest.mark.parametrize(
    "name", ["images/a.jpg", "images/images/a.jpg", "x/images/a.jpg", "images/x/images/images/a.jpg"]
)
def test_trainers_find_the_label_of_an_image_below_images(source: Source, name: str) -> None:
    picture_file(source.root / "i" / name, (100, 50))
    source.build(document(annotation(), images=[image(name=name)]))
    (made,) = (p for p in (source.root / "out/images").rglob("*") if p.is_file())
    assert Path("/labels/".join(str(made).rsplit("/images/", 1))).with_suffix(".txt").read_text()


def test_two_suffixes_come_to_both_layouts(source: Source) -> None:
    for name in ("a.jpg", "a.png"):
        picture_file(source.root / "i" / name, (100, 50))
    data = document(annotation(), annotation(2, image_id=2), images=[image(), image(2, "a.png")])
    source.build(data)
    assert {p.name for p in (source.root / "out/labels/train").iterdir()} == {"a.txt", "a.png.txt"}
    source.build(data, "--set", "target.format=coco", "--set", f"target.root={source.root}/json")
    made = json.loads((source.root / "json/annotations/instances_train.json").read_text())
    assert (
        {i["file_name"] for i in made["images"]}
        == {"a.jpg", "a.png"}
        == {p.name for p in (source.root / "json/images/train").iterdir()}
    )


def test_coco_json_has_numbers_and_ids_of_its_own_level(source: Source) -> None:
    picture_file(source.root / "i/a.jpg", (100, 50))
    odd = annotation("x", bbox=["10", 10, "20.0", 20], area=float("nan"), attributes={"id": 99, "category_id": 1})
    del odd["id"]
    source.build(document(odd, annotation(99), images=[image(width="100", height=None)]), "--set", "target.format=coco")
    text = (source.root / "out/annotations/instances_train.json").read_text()
    made = json.loads(text, parse_constant=pytest.fail)
    assert [a["id"] for a in made["annotations"]] == [1, 99]
    assert made["annotations"][0] | {"id": 99} == annotation(99) | {
        "attributes": {"id": 99, "category_id": 1},
        "category_id": 2,
    }
    assert (made["images"][0]["width"], made["images"][0]["height"]) == (100, 50)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"segmentation": {"size": [50, 100], "counts": [0, 5000]}}, True),
        ({}, False),
        ({"segmentation": {"size": [50, 100], "counts": [0, 5000]}, "iscrowd": 1}, False),
    ],
)
def test_detectron2_is_told_of_masks(source: Source, more: dict[str, Any], told: bool) -> None:
    picture_file(source.root / "i/a.jpg", (100, 50))
    source.build(document(annotation(**more)), "--set", "target.format=coco")
    assert ("MASK_FORMAT" in (source.root / "out/detectron2_datasets.py").read_text()) == told
    assert "no val split" in (source.root / "out/mmdetection.py").read_text()


def test_a_lost_part_of_an_index_is_made_anew(source: Source) -> None:
    picture_file(source.root / "i/a.jpg", (100, 50))
    data = document(annotation())
    write_file(source.root / "a.json", json.dumps(data))
    for path in (source.root / "a.json", source.root / "i/a.jpg"):
        os.utime(path, (1e9, 1e9))
    source.build(data)
    os.utime(source.root / "a.json", (1e9, 1e9))
    source.build(data, "--set", "index.buckets=2")
    for part in (source.root / "work/index").rglob("annotations/*"):
        part.unlink()
    source.build(data, "--set", "index.buckets=2", "--set", f"target.root={source.root}/again")
    assert (source.root / "again/labels/train/a.txt").read_text()


# --- what rows do not say ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({}, None),
        ({"attributes": {}, "flags": {}, "keypoints": [], "num_keypoints": 0, "width": 100, "height": 50}, None),
        ({"attributes": {"occluded": False}, "ignore": 0, "pose": "Unspecified", "scores": [], "text": None}, None),
        ({"segmented": "0", "legacy": float("nan")}, None),
        ({"attributes": {"occluded": True, "rotation": 0.0}}, "occluded"),
        ({"occluded": "1", "truncated": "0", "score": 0.5}, "occluded"),
        ({"truncated": 1}, "truncated"),
        ({"difficult": True, "occluded": True}, "marked_difficult"),
        ({"attributes": {"colour": "red"}}, "attributes"),
        ({"flags": {"small": True}}, "attributes"),
        ({"score": 0.5, "legacy": float("nan")}, "attributes"),
        ({"caption": "a car"}, "attributes"),
        ({"track_id": 0}, "attributes"),
        ({"bbox_head": [1, 2, 3, 4]}, "attributes"),
    ],
)
@pytest.mark.parametrize("task", [Task.DETECT, Task.SEGMENT, Task.OBB])
def test_further_fields_are_counted_where_they_say_something(
    task: Task, more: dict[str, Any], word: str | None
) -> None:
    outline = [[10, 10, 30, 10, 30, 30, 10, 30]]
    objects = [annotation(1, segmentation=outline), annotation(2, segmentation=outline, **more)]
    rows, problems, _ = parse(document(*objects), task)
    assert ([row["loss"] for row in rows], problems) == ([None, word], [])
    crowd = annotation(3, iscrowd=1, segmentation=outline, **more)
    assert [row["loss"] for row in parse(document(crowd), task)[0]] == ["crowd"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("roboflow", [None, None]),
        ("cvat_masks", ["crowd"] * 3),
        ("posetrack", ["attributes", "attributes"]),
        ("label_studio", [None, None]),
        ("lvis", [None] * 4),
        ("cvat", ["clipped"]),
        ("pylabel", [None]),
    ],
)
def test_further_fields_of_real_files(name: str, words: list[str | None]) -> None:
    rows, _, _ = parse((PROJECT / f"tests/formats/real/{name}.json").read_bytes())
    assert [row["loss"] for row in rows] == words


def test_further_fields_are_in_the_report_of_rows_alone(source: Source) -> None:
    picture_file(source.root / "i/a.jpg", (100, 50))
    data = document(annotation(1, score=0.5), annotation(2))
    told = source.build(data, "--json")
    assert json.loads(told.out)["loss"] == {"attributes": 1}
    told = source.build(data, "--json", "--set", "target.format=coco", "--set", f"target.root={source.root}/json")
    assert json.loads(told.out)["loss"] == {}
    made = json.loads((source.root / "json/annotations/instances_train.json").read_text())
    assert [one.get("score") for one in made["annotations"]] == [0.5, None]


# --- whatever else ----------------------------------------------------------------------------------------------------

BASE = json.dumps(
    document(
        annotation(),
        annotation(2, segmentation={"size": [50, 100], "counts": [0, 100, 4900]}, iscrowd=1),
        annotation(3, segmentation=[SQUARE, [1, 2]], category_id=90, attributes={"id": 7, "list": [{"image_id": 1}]}),
        annotation(4, keypoints=[5, 5, 2, 6, 6, 1], num_keypoints=2),
        annotation(
            5, segmentation={"size": [50, 100], "counts": masks.compress(masks.of_mask(np.eye(50, 100, dtype=bool)))}
        ),
        images=[image(), image(2, "sub/b.png"), image(3, "c.jpg")],
        info={"year": 2017},
    )
)
VALUES = (
    "NaN",
    "null",
    "-1",
    "1e999",
    '"x"',
    "[]",
    "{}",
    "[[",
    "1e308",
    '""',
    "true",
    '"\\ud800"',
    "\\",
    '"',
    "]",
    "}",
    ",",
    "3",
    "99999999999999999999",
    "\x00",
    "<<<<<<< a\n",
    "[" * 2000,
    "é",
)


def mutated(rng: random.Random) -> bytes:
    """A document with some values or pieces changed."""
    text = BASE
    for _ in range(rng.randint(1, 4)):
        place, length = rng.randrange(len(text)), rng.choice((0, 1, 1, 3, 9, 60))
        kind = rng.randrange(3)
        if kind == 0:  # a value in the place of another
            stops = [i for i, c in enumerate(text) if c in ":,["]
            place = rng.choice(stops) + 1 if stops else place
            rest = text[place:]
            length = next((i for i, c in enumerate(rest) if c in ",]}"), 1)
        text = text[:place] + (rng.choice(VALUES) if kind < 2 else "") + text[place + length :]
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    if rng.random() < 0.1:
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    return bytes(raw)


@pytest.mark.repeated
@pytest.mark.parametrize("seed", range(repeated(20)))
def test_mutated_documents_give_rows_or_reasons(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        text = mutated(rng)
        for task in (Task.DETECT, Task.SEGMENT, Task.POSE):
            try:
                rows, problems, _ = parse(text, task)
            except Malformed as error:
                rows, problems = [], [("malformed", str(error))]
            for row in rows:
                assert row["tail"] is not None or row["loss"] is not None
                numbers = [row["cx"], row["cy"], row["w"], row["h"], *map(float, (row["tail"] or b"").split())]
                assert all(map(math.isfinite, numbers)), (text, row)
            for reason, clause in problems:
                assert reason.isidentifier()
                assert "\n" not in clause
                assert not any(word in clause for word in ("Expected `", "msgspec", "byte ", "$."))


@pytest.mark.parametrize(
    ("said", "area"),
    [
        ({"bbox": [1, 1, 5, 4]}, 20),
        ({"bbox": [10, 10, 20, 20], "segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]]}, 400),
        ({"bbox": [5, 10, 1, 10], "segmentation": {"counts": [505, 10, 40, 10, 4435], "size": [50, 100]}}, 20),
    ],
)
def test_what_an_object_does_not_say_and_evaluators_read_is_added(said: dict[str, Any], area: float) -> None:
    made = json.loads(completed(json.dumps({"id": 1, **said}).encode(), 100, 50))
    assert (made["area"], made["iscrowd"]) == (area, 0)


def test_names_of_categories_that_look_alike_are_one_class() -> None:
    names = ("café", "cafe\u0301", " café ")
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    found = coco.outline(
        [json.dumps({"images": [], "annotations": [], "categories": categories}).encode()], Task.DETECT
    )
    assert found.names["names"] == ["café"]


@pytest.mark.parametrize(
    "owner", ["--5", "-", "1" * 5000, "-" + "9" * 5000, "\u0663x"], ids=["dashes", "dash", "long", "negative", "mixed"]
)
def test_an_id_that_is_no_number_is_that_of_no_image(owner: str) -> None:
    rows, problems, _ = parse(document(annotation(), annotation(id=2, image_id=owner)))
    assert len(rows) == len(problems) == 1
