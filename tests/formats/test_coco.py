"""COCO JSON as a source: what its odd files become, and that real ones give the rows that Ultralytics gives out."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.terms import Task
from pipeline.formats import Part, coco
from pipeline.formats._large_json import Chunk
from pipeline.formats.coco import scan
from pipeline.tables.schema import LabelState
from tests.conftest import MakeSubset, Run, Subset
from tests.support.helpers import PROJECT, contents, picture, write_file

CATEGORIES = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]


def image(number: Any = 1, name: str = "a.jpg", **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": 100, "height": 50, **more}


def annotation(number: Any = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": 1,
        "category_id": 3,
        "bbox": [10, 10, 20, 20],
        "area": 400,
        "iscrowd": 0,
        "segmentation": [SQUARE],
        **more,
    }


def document(*annotations: Any, images: Sequence[Any] = (image(),), **more: Any) -> dict[str, Any]:
    return {"images": list(images), "annotations": list(annotations), "categories": CATEGORIES, **more}


def parse(data: Mapping[str, Any] | bytes, task: Task = Task.DETECT) -> tuple[list[dict[str, Any]], list[Any], Any]:
    """Rows, problems and states of a whole document."""
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    found = coco.outline([text], task)
    images, annotations = ([text[a:b] for a, b in spans.tolist()] for spans in (found.images, found.annotations))
    part = Part(images, annotations, found.image_of, found.labels)
    parsed = coco.parse(part, task, (2, 3) if task is Task.POSE else None)
    told = [(reason, detail) for _, reason, detail, _ in found.problems]
    return parsed.rows.to_pylist(), told + [(p.reason, p.detail) for p in parsed.problems], parsed.states


def test_a_row() -> None:
    (row,), problems, states = parse(document(annotation()))
    assert (row["tail"], row["label"], row["class_id"], row["loss"]) == (
        b" 0.200000 0.400000 0.200000 0.400000",
        "car",
        3,
        None,
    )
    assert (row["cx"], row["cy"], row["w"], row["h"], row["n_tokens"]) == (0.2, 0.4, 0.2, 0.4, 5)
    assert json.loads(row["raw"]) == annotation()
    assert (problems, states) == ([], [LabelState.FOUND])


@pytest.mark.parametrize("task", [Task.DETECT, Task.SEGMENT])
def test_whole_numbers_may_be_written_as_tables_write_them(task: Task) -> None:
    (row,), problems, _ = parse(document(annotation(1.0, image_id=1.0, category_id=3.0, iscrowd=0.0)), task)
    assert (row["label"], row["class_id"], row["loss"], problems) == ("car", 3, None, [])


LOST: dict[str, tuple[Task, dict[str, Any]]] = {
    "crowd": (Task.DETECT, {"iscrowd": 1}),
    "no_box": (Task.DETECT, {"bbox": None, "segmentation": []}),
    "zero_area": (Task.DETECT, {"bbox": [1, 1, 0, 5], "segmentation": [[1, 1, 1, 6]]}),
    "outside": (Task.DETECT, {"bbox": [105, 10, 20, 20]}),
    "no_polygon": (Task.SEGMENT, {"segmentation": []}),
    "no_keypoints": (Task.POSE, {"keypoints": [0] * 6, "num_keypoints": 0}),
    "other_keypoints": (Task.POSE, {"keypoints": [1, 1, 2], "num_keypoints": 1}),
}


@pytest.mark.parametrize("reason", LOST)
def test_what_is_in_no_row_is_counted_and_kept(reason: str) -> None:
    task, more = LOST[reason]
    (row,), problems, states = parse(document(annotation(**more)), task)
    assert (row["loss"], row["tail"], problems, states) == (reason, None, [], [LabelState.FOUND])
    assert json.loads(row["raw"] or b"null") == (annotation(**more) if reason != "no_box" else None)


@pytest.mark.parametrize("task", [Task.DETECT, Task.SEGMENT])
@pytest.mark.parametrize("box", [None, [], [1, 2], [float("nan")] * 4])
@pytest.mark.parametrize("outline", [None, [], [[1, 1, 2, 2]], [[float("nan")] * 6]])
def test_an_object_without_box_and_outline_is_for_no_reader(task: Task, box: Any, outline: Any) -> None:
    """X-AnyLabeling writes such for shapes of other kinds than the one that it exports; mmdetection unpacks a box."""
    (row,), problems, _ = parse(document(annotation(bbox=box, segmentation=outline)), task)
    assert (row["tail"], row["raw"], row["loss"], problems) == (
        None,
        None,
        "no_polygon" if task is Task.SEGMENT else "no_box",
        [],
    )


@pytest.mark.parametrize(
    "segmentation",
    [[[1, 1, 2, 2]], [[]], [[1, 1, 2, 2, 3]], None, {}],
)
def test_a_segmentation_without_a_polygon(segmentation: Any) -> None:
    (row,), problems, _ = parse(document(annotation(segmentation=segmentation)), Task.SEGMENT)
    assert (row["loss"], problems) == ("no_polygon", [])


@pytest.mark.parametrize(
    "written",
    [
        "[[10,10,30,10,30,30,10,30]]",
        "[[10, 10.0, 30, 1e1, 30, 3E+1, 10, 30.00]]",
        "[ [10 ,10,30,10,\n 30,30,10,30 ] ]",
        "[[10,10,30,10,30,30,10,30],[1,2]]",
    ],
)
def test_a_polygon_however_it_is_written(written: str) -> None:
    text = json.dumps(document(annotation(segmentation="HERE"), annotation(2, segmentation="OTHER")))
    text = text.replace('"HERE"', written).replace('"OTHER"', "[[0.1,1.25,99.3000000000000001,2,50,50]]")
    (row, other), problems, _ = parse(text.encode(), Task.SEGMENT)
    assert row["tail"] == b" 0.100000 0.200000 0.300000 0.200000 0.300000 0.600000 0.100000 0.600000"
    assert other["tail"] == b" 0.001000 0.025000 0.993000 0.040000 0.500000 1.000000"
    assert problems == []


@pytest.mark.parametrize(
    "segmentation",
    [
        [["10", 10, "30", "10.0", 30, 30, 10, 30]],
        [10, 10, 30, 10, 30, 30, 10, 30],
        [[[10, 10], [30, 10], [30, 30], [10, 30]]],
        [[10, 10], [30, 10], [30, 30], [10, 30]],
        "[[10, 10, 30, 10, 30, 30, 10, 30]]",
    ],
)
def test_a_polygon_as_tools_write_it(segmentation: Any) -> None:
    (row,), problems, _ = parse(document(annotation(segmentation=segmentation, bbox=None)), Task.SEGMENT)
    assert row["tail"] == b" 0.100000 0.200000 0.300000 0.200000 0.300000 0.600000 0.100000 0.600000"
    assert (row["cx"], row["cy"], row["w"], row["h"]) == pytest.approx((0.2, 0.4, 0.2, 0.4))
    assert problems == []


@pytest.mark.parametrize("segmentation", [[["x", 2, 3, 4, 5, 6]], "x", 7, [{"a": 1}], [1, [2, 3]]])
def test_a_segmentation_of_another_kind_is_bad_and_spoils_no_other(segmentation: Any) -> None:
    data = document(
        annotation(segmentation=segmentation),
        annotation(2, image_id=2),
        annotation(3, category_id=8),
        annotation(4, bbox=[0, 0, 5, 5]),
        images=[image(), image(2, "b.jpg")],
    )
    rows, problems, _ = parse(data, Task.SEGMENT)
    assert [json.loads(row["raw"])["id"] for row in rows] == [4, 2]
    assert [row["tail"] for row in rows] == [rows[0]["tail"]] * 2
    assert [reason for reason, _ in problems] == ["bad_annotation", "no_such_category"]
    assert problems[0][1].startswith("annotation 1 has the segmentation")


@pytest.mark.parametrize(
    "beyond", [{"bbox": [1e308] * 4}, {"bbox": [], "segmentation": [[1e308, 1e308, -1e308, 1e308, 1e308, -1e308]]}]
)
@pytest.mark.parametrize("task", [Task.DETECT, Task.SEGMENT])
def test_numbers_beyond_all_bounds_are_outside_without_a_warning(beyond: dict[str, Any], task: Task) -> None:
    with np.errstate(all="raise"):
        rows, problems, _ = parse(document(annotation(**beyond)), task)
    assert (len(rows), problems) == (1, [])


def test_parts_of_an_object() -> None:
    far = [60, 10, 80, 10, 80, 30]
    (row,), _, _ = parse(document(annotation(segmentation=[SQUARE, far, [1, 1]])), Task.SEGMENT)
    assert row["loss"] == "short_part"
    assert row["n_tokens"] == 1 + 2 * (5 + 4)


@pytest.mark.parametrize("counts", [[0, 5000], "0Xl4"])
def test_a_mask_becomes_its_outline(counts: Any) -> None:
    (row,), _, _ = parse(document(annotation(segmentation={"size": [50, 100], "counts": counts})), Task.SEGMENT)
    assert sorted(np.array(row["tail"].split(), float).reshape(-1, 2).tolist()) == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert row["loss"] is None


def test_a_hole_is_filled_and_counted() -> None:
    mask = np.zeros((50, 100), bool)
    mask[10:40, 10:40] = True
    mask[20:30, 20:30] = False
    flat = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=False, append=False))
    counts = np.diff(flat, prepend=0, append=5000).tolist()
    (row,), _, _ = parse(document(annotation(segmentation={"size": [50, 100], "counts": counts})), Task.SEGMENT)
    assert (row["loss"], row["n_tokens"]) == ("holes", 9)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no such image": (document(annotation(image_id=7)), "no_such_image"),
    "no image id": (document(annotation(image_id=None)), "no_such_image"),
    "no such category": (document(annotation(category_id=4)), "no_such_category"),
    "a box of words": (document(annotation(bbox=["x", 2, 3, 4])), "bad_annotation"),
    "a category of words among good ones": (document(annotation(category_id=[3])), "bad_annotation"),
    "no object": (document(17), "bad_annotation"),
    "image id twice": (document(images=[image(), image(1, "b.jpg")]), "image_twice"),
    "no id": (document(images=[image(None)]), "bad_image"),
    "above": (document(images=[image(1, "..")]), "bad_image"),
    "no name": (document(images=[image(1, "")]), "bad_image"),
    "no size": (document(images=[image(width=None)]), "no_size"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_bad_is_a_problem(case: str) -> None:
    data, reason = BAD[case]
    rows, problems, _ = parse(data)
    assert (rows, [r for r, _ in problems]) == ([], [reason])
    assert "\n" not in problems[0][1]


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        (b"", "is empty; get it again, or delete it"),
        (b"{", "is not JSON"),
        (b"[]", "no COCO dataset"),
        (b'{"images": 3}', "no COCO dataset"),
        (b'{"annotations": [{"image_id": 1}]}', "no categories"),
        (b'{"categories": [{"id": 1}]}', "without a proper name"),
        (b'{"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "twice"),
    ],
)
def test_what_is_no_coco_json(text: bytes, clause: str) -> None:
    with pytest.raises(ValueError, match=clause):
        coco.outline([text], Task.DETECT)


@pytest.mark.parametrize(("of_image", "of_annotation"), [(2**53, 2**53), ("7", 7), (7, "7"), ("x-1", "x-1")])
def test_ids(of_image: Any, of_annotation: Any) -> None:
    rows, problems, _ = parse(document(annotation(2**53, image_id=of_annotation), images=[image(of_image)]))
    assert (len(rows), problems) == (1, [])


@given(
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n\t", ":")]),
    st.booleans(),
    st.permutations(["i", "a", "c"]),
    st.lists(st.integers(1, 3), max_size=8),
    st.integers(0, 2),
)
def test_everything_is_found_however_it_is_written(
    separators: tuple[str, str], mark: bool, order: list[str], owners: list[int], extra: int
) -> None:
    images = [image(n, f"{n}.jpg") for n in (1, 2, 3)]
    annotations = [annotation(n, image_id=owner, note="x" * n * extra) for n, owner in enumerate(owners)]
    keys = {"i": ("images", images), "a": ("annotations", annotations), "c": ("categories", CATEGORIES)}
    data: dict[str, Any] = {"info": {"images": []}} | dict(keys[o] for o in order) | {"version": 1.50}
    text = (b"\xef\xbb\xbf" if mark else b"") + json.dumps(data, separators=separators).encode()
    found = coco.outline([text], Task.DETECT)
    assert [json.loads(text[a:b]) for a, b in found.images.tolist()] == images
    assert [json.loads(text[a:b]) for a, b in found.annotations.tolist()] == annotations
    assert [found.stems[i] for i in found.image_of] == [str(owner) for owner in owners]
    assert {k: v for k, v in json.loads(found.rest).items() if v != []} == {
        "info": {"images": []},
        "categories": CATEGORIES,
        "version": 1.5,
    }


#: Ids that are 4 and 8 bytes wide, wider, and no whole numbers.
IDS = [1, 2, 2**31, -(2**40), 2**63, "a", "7"]


@given(st.lists(st.sampled_from(IDS), max_size=30), st.integers(1, 200))
def test_owners_are_found_whatever_their_ids_are_and_where_the_file_is_cut(owners: list[int | str], size: int) -> None:
    images = [image(key, f"{n}.jpg") for n, key in enumerate(IDS)]
    text = json.dumps(document(*[annotation(n, image_id=key) for n, key in enumerate(owners)], images=images)).encode()
    found = coco.outline([text[at : at + size] for at in range(0, len(text), size)], Task.DETECT)
    assert [IDS[i] for i in found.image_of.tolist()] == owners
    assert [json.loads(text[a:b])["image_id"] for a, b in found.annotations.tolist()] == owners


@given(st.lists(st.integers(0, 2**33), min_size=1, max_size=5, unique=True).map(sorted))
def test_spans_are_as_wide_as_the_file_needs(bases: list[int]) -> None:
    reader = scan.SpansAndOwners(Task.DETECT)
    for number, base in enumerate(bases):
        reader.take(Chunk("annotations", number, b"[{}]", base, np.array([[base + 1, base + 3]], np.int64), 1))
    assert reader.array("annotations").tolist() == [[base + 1, base + 3] for base in bases]


# --- real files -------------------------------------------------------------------------------------------------------

REAL = [
    ("detect", "instances", "", "%.6f"),
    ("segment", "instances", "-segments", "%g"),
    ("segment", "instances", "-segments", "%.6f"),
    ("pose", "person_keypoints", "-keypoints", "%.6f"),
]


@pytest.mark.parametrize(("task", "kind", "archive", "numbers"), REAL)
def test_real_annotations_give_the_rows_that_are_given_out(
    task: str, kind: str, archive: str, numbers: str, shared: Path, make_subset: MakeSubset
) -> None:
    data = shared / "data/coco"
    files = {s: f"annotations/{kind}_{s}2017.json" for s in ("train", "val")}
    source = {
        "format": "coco",
        "task": task,
        "root": str(data),
        "options": {"numbers": numbers},
        "splits": {s: {"annotations": f} for s, f in files.items()},
    }
    names = str(PROJECT / "conf/coco.yaml") if task != "pose" else None
    subset = make_subset(data, source=source, classes=names, target={"root": "x", "images": "none"})
    subset.build("--set", f"target.root={subset.target}")
    made = {p.removeprefix("labels/").removesuffix(".txt"): c for p, c in contents(subset.target).items()}
    there = {
        f"{s}/{Path(i['file_name']).stem}"
        for s, f in files.items()
        for i in json.loads((data / f).read_text())["images"]
    }
    compared = 0
    with zipfile.ZipFile(data / f"coco2017labels{archive}.zip") as opened:
        for member in opened.namelist():
            stem = "/".join(member.removesuffix(".txt").split("/")[-2:]).replace("2017/", "/")
            if stem not in there:
                continue
            rows, own = opened.read(member).split(b"\n"), made.pop(stem).split(b"\n")
            assert len(rows) == len(own)
            for theirs, ours in zip(rows, own, strict=True):
                a, b = theirs.split(), ours.split()
                assert (a[:1], len(a)) == (b[:1], len(b)), member
                assert np.allclose(np.array(a, float), np.array(b, float), rtol=0, atol=5.1e-7), member
                compared += 1
    assert set(made) == {"data.yaml"}
    assert compared > (1000 if task != "pose" else 70)


# --- a source of its own ----------------------------------------------------------------------------------------------


@pytest.fixture
def zoo(tmp_path: Path, run: Run) -> Subset:
    """A COCO source with images, captions and a folder, and a config for cars and persons as YOLO rows."""
    root = tmp_path / "zoo"
    for name in ("a.jpg", "sub/b.jpg", "sub/b.png", "c.jpg", "lone.jpg"):
        write_file(root / "train" / name, picture(name))
    images = [image(1, "a.jpg"), image(2, "sub\\b.png"), image(3, "c.jpg")]
    rows = [
        annotation(9, image_id=2),
        annotation(4, category_id=1, bbox=[0, 0, 10, 10]),
        annotation(5, iscrowd=1),
        annotation(6, image_id=3, category_id=90),
    ]
    write_file(root / "annotations/instances_train.json", json.dumps(document(*rows, images=images)))
    data = {
        "source": {"format": "coco", "root": str(root), "splits": {"train": "train"}},
        "classes": ["car", "person"],
        "target": {"root": str(tmp_path / "out")},
        "workdir": str(tmp_path / "work"),
    }
    config = write_file(tmp_path / "c.yaml", yaml.safe_dump(data))
    return Subset(run, root, config, tmp_path / "out", tmp_path / "work")


def test_a_subset_of_coco_json(zoo: Subset) -> None:
    told = zoo.build()
    made = contents(zoo.target)
    made.pop("data.yaml")
    assert made == {
        "labels/train/a.txt": b"1 0.050000 0.100000 0.100000 0.200000\n",
        "labels/train/sub/b.txt": b"0 0.200000 0.400000 0.200000 0.400000\n",
        "images/train/a.jpg": picture("a.jpg"),
        "images/train/sub/b.png": picture("sub/b.png"),
    }
    assert told["loss"] == {"crowd": 1}
    assert {k: n for k, n in told["rows"].items() if n} == {"source": 4, "kept": 2, "other_classes": 1, "lost": 1}
    assert zoo.command("stats", "--json").json["classes"] == ["person", "car", "toothbrush"]


@pytest.mark.parametrize("buckets", [3, 8])
def test_buckets_change_nothing(zoo: Subset, buckets: int, tmp_path: Path) -> None:
    zoo.build()
    zoo.build(
        "--set", f"index.buckets={buckets}", "--set", f"workdir={tmp_path}/w", "--set", f"target.root={tmp_path}/o"
    )
    assert contents(tmp_path / "o") == contents(zoo.target)


def test_a_change_of_the_file_is_seen(zoo: Subset) -> None:
    zoo.build()
    path = zoo.source / "annotations/instances_train.json"
    data = json.loads(path.read_text())
    data["annotations"][0]["category_id"] = 1
    path.write_text(json.dumps(data))
    zoo.build()
    assert contents(zoo.target)["labels/train/sub/b.txt"].startswith(b"1 ")


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"image_id": 77}, "annotations[0] belongs to no image (image_id 77)"),
        ({"category_id": 77}, "annotation 9 has the category_id 77"),
    ],
)
def test_bad_annotations(zoo: Subset, change: dict[str, Any], clause: str) -> None:
    path = zoo.source / "annotations/instances_train.json"
    data = json.loads(path.read_text())
    data["annotations"][0] |= change
    path.write_text(json.dumps(data))
    told = zoo.command("build", code=1).err
    assert told.startswith(f"coco-diy: {path}: {clause}")
    assert zoo.build("--set", "on_error=skip", code=3)["rows"]["kept"] == 1


def test_a_broken_file(zoo: Subset) -> None:
    path = write_file(zoo.source / "annotations/instances_train.json", '{"images": [}')
    told = zoo.command("build", code=1).err
    assert told.startswith(f"coco-diy: {path}: is not JSON")


@pytest.mark.parametrize(
    ("override", "clause"),
    [
        ("classes=[cra]", "unknown class 'cra'; did you mean 'car'"),
        ("source.options={number: x}", "source.options.number: unknown"),
        ("source.options={sizes: x}", "source.options.sizes: must be 'auto', 'image' or 'file' (it is 'x')"),
        ("source.splits.train={labels: x}", "format coco has `annotations` and `images`"),
        ("source.splits.train={annotations: [x, y]}", "format coco has one file of annotations for a split; name one"),
        ("source.splits.train=val", "does not exist"),
    ],
)
def test_usage_errors(zoo: Subset, override: str, clause: str) -> None:
    assert clause in zoo.command("build", "--set", override, code=2).err


@pytest.mark.parametrize("member", ["info", "licenses", "categories", "x"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e999])
def test_what_is_no_number_beside_the_objects_is_null(member: str, value: float) -> None:
    more: dict[str, Any] = {member: [CATEGORIES[0] | {"x": value}] if member == "categories" else [{"x": value}]}
    found = coco.outline([json.dumps(document() | more).encode()], Task.DETECT)
    assert json.loads(found.rest, parse_constant=pytest.fail)[member][0]["x"] is None


def test_a_category_may_be_written_as_a_table_writes_it() -> None:
    (row,), problems, _ = parse(document(annotation(category_id="3.0")))
    assert (row["label"], problems) == ("car", [])
