"""Layouts of targets in the hands of the trainers that go by them: RF-DETR, Ultralytics."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.interop.conftest import Reader
from tests.support.helpers import PROJECT, run_process, write_file

pytestmark = pytest.mark.interop

#: What RF-DETR calls what reads a target, by exporter and layout.
READERS = [("coco", "roboflow", "roboflow"), ("coco", "coco2017", "coco"), ("yolo", "roboflow", "roboflow")]
READERS += [("yolo", layout, "yolo") for layout in ("default", "roboflow", "coco2017")]

CLASSES = ["person", "bicycle", "car"]


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Path, dict[str, Any]]]:
    """Two sources in one folder a split, by exporter and layout, each with what is in it."""
    source: dict[str, Any] = {"names": str(PROJECT / "conf/coco.yaml"), "root": str(PROJECT / "tests/sample/detect")}
    source |= {"splits": {"train": "train2017", "val": "val2017"}}
    folder, made = tmp_path_factory.mktemp("layouts"), {}
    for exporter, layout in dict.fromkeys((exporter, layout) for exporter, layout, _ in READERS):
        root = folder / f"{exporter}-{layout}"
        config = {
            "source": [{**source, "name": name} for name in ("one", "two")],
            "classes": CLASSES,
            "target": {"root": str(root), "format": exporter, "layout": layout, "flat": True},
            "workdir": str(folder / "work"),
        }
        done = run_process("build", write_file(folder / "config.yaml", json.dumps(config)), "--json")
        assert done.code == 0, done.err
        made[exporter, layout] = root, json.loads(done.out)["subset"]
    return made


def wanted(subset: dict[str, Any], split: str) -> dict[str, Any]:
    """What a reader finds of a split."""
    counts = subset[split]
    assert counts["images"] > 0
    return {"images": counts["images"], "objects": dict(+Counter(counts["objects"])), "classes": CLASSES}


def test_rfdetr_finds_every_image_and_object(
    targets: dict[tuple[str, str], tuple[Path, dict[str, Any]]], read: Reader
) -> None:
    cases = [(exporter, layout, kind, split) for exporter, layout, kind in READERS for split in ("train", "val")]
    calls = [(targets[exporter, layout][0], kind, split) for exporter, layout, kind, split in cases]
    found = dict(zip(cases, read("rfdetr_dataset", *calls, beside="rfdetr"), strict=True))
    assert found == {case: wanted(targets[case[:2]][1], case[3]) for case in cases}


def test_ultralytics_finds_every_image_and_object(
    targets: dict[tuple[str, str], tuple[Path, dict[str, Any]]], read: Reader
) -> None:
    layouts = [key for key in targets if key[0] == "yolo"]
    found = read("ultralytics_rows", *[(targets[key][0] / "data.yaml", "detect") for key in layouts])
    for key, one in zip(layouts, found, strict=True):
        assert one["classes"] == CLASSES
        for split in ("train", "val"):
            told = wanted(targets[key][1], split)
            assert one["splits"][split] == {"images": told["images"], "objects": told["objects"]}


def test_mmdetection_finds_every_image_and_object(
    targets: dict[tuple[str, str], tuple[Path, dict[str, Any]]], read: Reader
) -> None:
    cases = [(*key, split) for key in targets if key[0] == "coco" for split in ("train", "val")]
    calls = [(targets[exporter, layout][0] / "mmdetection.py", split) for exporter, layout, split in cases]
    found = dict(zip(cases, read("mmdetection_coco", *calls), strict=True))
    assert found == {case: wanted(targets[case[:2]][1], case[2]) for case in cases}
