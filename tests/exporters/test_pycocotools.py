"""What is written as COCO JSON, read by pycocotools: masks, areas, boxes, scores; and beside what others made.

The rest of those who read such files are in `tests/interop`.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as pycocotools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.exporters.coco.label_rows import annotations_of_rows
from tests.conftest import Run
from tests.support.helpers import PROJECT, write_file

SAMPLE = PROJECT / "tests/sample"

#: Of pycocotools 2.0.11 with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

Source = dict[str, Any]


def load(path: Path) -> Any:
    """The file as pycocotools has it; it prints as it goes."""
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def precision(coco: Any, kind: str) -> float:
    """Average precision of the ground truth, handed in as if it were found, against itself."""
    found = [{**a, "score": 1.0} for a in coco.dataset["annotations"] if not a.get("iscrowd")]
    with contextlib.redirect_stdout(io.StringIO()):
        judged = COCOeval(coco, coco.loadRes(found), kind)
        judged.params.maxDets = [1000]
        judged.evaluate()
        judged.accumulate()
    scores = judged.eval["precision"][..., 0, -1]  # of objects of any size; -1: there is nothing to find
    return float(scores[scores > -1].mean())


def boxes_apart(box: list[float], other: Any) -> float:
    """How far the furthest edges of two xywh boxes are from one another, in pixels."""
    a, b = np.asarray(box, float), np.asarray(other, float)
    return float(np.abs(np.concatenate([a[:2] - b[:2], a[:2] + a[2:] - b[:2] - b[2:]])).max())


Build = Callable[[Source], dict[str, Any]]


@pytest.fixture
def build(tmp_path: Path, run: Run) -> Build:
    """Build a source as COCO JSON, without images; the files by name, as pycocotools has them."""

    def built(source: Source) -> dict[str, Any]:
        data = {
            "source": source,
            "target": {"root": str(tmp_path / "out"), "format": "coco", "images": "none"},
            "workdir": str(tmp_path / "work"),
        }
        run("build", write_file(tmp_path / "c.yaml", yaml.safe_dump(data)))
        return {p.stem: load(p) for p in (tmp_path / "out/annotations").iterdir()}

    return built


def _sample(task: str, names: str) -> Source:
    return {
        "task": task,
        "root": str(SAMPLE / task),
        "names": str(PROJECT / names),
        "splits": {"train": "train2017", "val": "val2017"},
    }


SOURCES: dict[str, Source] = {
    "boxes": _sample("detect", "conf/coco.yaml"),
    "polygons": _sample("segment", "conf/coco.yaml"),
    "keypoints": _sample("pose", "conf/coco-pose.yaml"),
    "labelme": {"format": "labelme", "root": str(PROJECT / "tests"), "splits": {"train": "sample/labelme"}},
}


@pytest.mark.parametrize("name", SOURCES)
def test_areas_boxes_and_scores(name: str, build: Build) -> None:
    with_masks = 0
    for coco in build(SOURCES[name]).values():
        assert coco.anns
        for object_ in coco.anns.values():
            if not object_["segmentation"]:
                continue
            mask = coco.annToMask(object_)
            assert object_["area"] == mask.sum()
            y, x = np.nonzero(mask)
            assert boxes_apart(object_["bbox"], (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)) <= 1
            with_masks += 1
        assert precision(coco, "bbox") == 1
        if name == "keypoints":
            assert precision(coco, "keypoints") == 1
        elif name != "boxes":
            assert precision(coco, "segm") == 1
    assert (with_masks > 0) is (name in ("polygons", "labelme"))


@pytest.mark.slow
@pytest.mark.parametrize(("task", "kind"), [("detect", "instances"), ("pose", "person_keypoints")])
def test_real_annotations(task: str, kind: str, shared: Path, build: Build) -> None:
    folder = shared / "data/coco/annotations"
    files = build(
        {
            "format": "coco",
            "task": task,
            "root": str(folder),
            "splits": {
                s: {"annotations": f"{kind}_{s}2017.json", "captions": f"captions_{s}2017.json"}
                for s in ("train", "val")
            },
        }
    )
    assert set(files) == {f"{k}_{s}" for k in (kind, "captions") for s in ("train", "val")}
    for split in ("train", "val"):
        coco, before = files[f"{kind}_{split}"], load(folder / f"{kind}_{split}2017.json")
        names = {c["id"]: c["name"] for c in before.dataset["categories"]}
        assert [c["name"] for c in coco.dataset["categories"]] == list(names.values())
        assert {i: a | {"category_id": names[a["category_id"]]} for i, a in before.anns.items()} == {
            i: a | {"category_id": coco.cats[a["category_id"]]["name"]} for i, a in coco.anns.items()
        }
        for object_ in coco.anns.values():
            assert (coco.annToMask(object_) == before.annToMask(before.anns[object_["id"]])).all()
        assert precision(coco, "bbox") == 1
        told = json.loads((folder / f"captions_{split}2017.json").read_text())["annotations"]
        captions = files[f"captions_{split}"]
        assert captions.anns == {a["id"]: a for a in told if a["image_id"] in captions.imgs}


# --- beside what others made of the same labelme files ----------------------------------------------------------------


def _pairs(ours: Any, theirs: Any) -> list[tuple[Any, Any, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
    """Each object of theirs with that of ours of the same image and class that covers it best, and both masks."""
    files = {i["file_name"]: i["id"] for i in ours.dataset["images"]}
    assert sorted(files) == sorted(i["file_name"].split("/")[-1] for i in theirs.dataset["images"])
    found = []
    for image in theirs.dataset["images"]:
        left = list(ours.imgToAnns[files[image["file_name"].split("/")[-1]]])
        assert len(left) == len(theirs.imgToAnns[image["id"]])
        for their in theirs.imgToAnns[image["id"]]:
            if not isinstance(their["segmentation"][0], list):
                their["segmentation"] = [their["segmentation"]]  # one polygon without the list around it
            mask = theirs.annToMask(their).astype(bool)
            masks = [
                (o, ours.annToMask(o).astype(bool))
                for o in left
                if ours.cats[o["category_id"]]["name"] == theirs.cats[their["category_id"]]["name"]
            ]
            own, covered = max(masks, key=lambda pair: float((pair[1] & mask).sum() / (pair[1] | mask).sum()))
            left.remove(own)
            found.append((own, their, covered, mask))
    return found


@pytest.mark.slow
def test_the_tutorials_own_file(shared: Path, run: Run, tmp_path: Path) -> None:
    """Its author's box is that of the pixels, its area the polygon's; our box is the polygon's, our area the mask's."""
    labelme = shared / "data/labelme"
    run(
        "convert",
        labelme / "tony607",
        tmp_path / "out",
        "--from",
        "labelme",
        "--to",
        "coco",
        "--set",
        "target.images=none",
        "--workdir",
        tmp_path / "work",
    )
    ours, theirs = load(tmp_path / "out/annotations/instances_train.json"), load(labelme / "tony607-trainval.json")
    assert [c["name"] for c in ours.dataset["categories"]] == [c["name"] for c in theirs.dataset["categories"]]
    pairs = _pairs(ours, theirs)
    assert len(pairs) == 165
    for own, their, covered, mask in pairs:
        assert own["segmentation"] == their["segmentation"]
        assert (covered == mask).all()
        assert own["area"] == mask.sum()
        assert abs(own["area"] - their["area"]) <= 0.005 * their["area"]
        assert boxes_apart(own["bbox"], their["bbox"]) <= 1


def test_labelmes_own_example(shared: Path, run: Run, tmp_path: Path) -> None:
    """labelme draws the edge too, so its areas are larger by less than the length of the edge."""
    example = shared / "data/labelme/wkentaro/instance_segmentation"
    run(
        "convert",
        example / "data_annotated",
        tmp_path / "out",
        "--from",
        "labelme",
        "--to",
        "coco",
        "--labels",
        example / "labels.txt",
        "--set",
        "target.images=none",
        "--workdir",
        tmp_path / "work",
    )
    ours = load(tmp_path / "out/annotations/instances_train.json")
    theirs = load(example / "data_dataset_coco/annotations.json")
    names = [c["name"] for c in theirs.dataset["categories"]]
    assert [c["name"] for c in ours.dataset["categories"]] == names[1:]  # there `_background_` is a category too
    pairs = _pairs(ours, theirs)
    assert len(pairs) == 12
    for own, their, covered, mask in pairs:
        edge = sum(
            float(np.hypot(*(p - np.roll(p, 1, axis=0)).T).sum())
            for p in (np.array(part).reshape(-1, 2) for part in own["segmentation"])
        )
        assert 0 <= their["area"] - own["area"] <= edge
        assert (covered & mask).sum() >= 0.999 * (covered | mask).sum()
        assert boxes_apart(own["bbox"], their["bbox"]) <= 1


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 1_000_000), st.integers(0, 1_000_000)), min_size=3, max_size=12),
        min_size=1,
        max_size=5,
    ),
    st.integers(1, 900),
    st.integers(1, 900),
)
def test_areas_of_label_rows_are_those_of_what_is_written(
    polygons: list[list[tuple[int, int]]], width: int, height: int
) -> None:
    """A coordinate is rounded to a thousandth of a pixel, and may then be that of another column."""
    tails = ["".join(f" {x / 1e6:.6f} {y / 1e6:.6f}" for x, y in polygon).encode() for polygon in polygons]
    boxes = {name: [0.5] * len(tails) for name in ("cx", "cy", "w", "h")}
    rows = pa.table({"tail": pa.array([None, *tails], pa.binary()), **{k: [0.5, *v] for k, v in boxes.items()}})
    images = pa.table({"width": pa.array([width], pa.int32()), "height": pa.array([height], pa.int32())})
    box, *made = map(json.loads, annotations_of_rows(rows, np.zeros(rows.num_rows, np.int64), images, None))
    assert box["segmentation"] == []
    assert box["area"] == round(box["bbox"][2] * box["bbox"][3], 3)
    for polygon, found in zip(polygons, made, strict=True):
        (outline,) = found["segmentation"]
        assert outline == [round(v, 3) for x, y in polygon for v in (x / 1e6 * width, y / 1e6 * height)]
        assert found["area"] == pycocotools.area(pycocotools.frPyObjects([outline], height, width)[0])
