"""COCO JSON in the hands of torchvision, supervision and mmdetection."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.interop.conftest import Make, Reader
from tests.support.helpers import PROJECT

pytestmark = pytest.mark.interop
SAMPLE = PROJECT / "tests/sample"

SOURCES: dict[str, tuple[str, list[str]]] = {
    "labelme": ("labelme", ["--from", "labelme", "--split", "0.7", "--seed", "1"]),
    "boxes": ("detect", ["--from", "yolo", "--labels", str(PROJECT / "conf/coco.yaml")]),
    "polygons": ("segment", ["--from", "yolo", "--labels", str(PROJECT / "conf/coco.yaml"), "--task", "segment"]),
    "keypoints": ("pose", ["--from", "yolo", "--labels", str(PROJECT / "conf/coco-pose.yaml"), "--task", "pose"]),
}


def told(target: Path, split: str) -> tuple[Path, dict[str, Any]]:
    """The JSON of a split, and what a reader should find in it."""
    (path,) = (p for p in (target / "annotations").iterdir() if p.stem.endswith(f"s_{split}"))
    data = json.loads(path.read_text())
    names = {c["id"]: c["name"] for c in data["categories"]}
    return path, {
        "images": len(data["images"]),
        "classes": list(names.values()),
        "objects": dict(Counter(names[a["category_id"]] for a in data["annotations"])),
    }


@pytest.mark.parametrize("reader", ["torchvision_coco", "supervision_coco", "mmdetection_coco"])
def test_all_is_read_with_the_right_classes(reader: str, make: Make, read: Reader) -> None:
    wanted, calls = {}, {}
    for name, (folder, words) in SOURCES.items():
        target = make(SAMPLE / folder, *words, "--to", "coco")
        for split in ("train", "val"):
            path, wanted[name, split] = told(target, split)
            calls[name, split] = (
                (target / "mmdetection.py", split) if "mm" in reader else (path, target / "images" / split)
            )
    assert dict(zip(calls, read(reader, *calls.values()), strict=True)) == wanted


def test_every_config_of_mmdetection_reads_the_subset(make: Make, read: Reader) -> None:
    target = make(SAMPLE / "labelme", *SOURCES["labelme"][1], "--to", "coco")
    (found,) = read("mmdetection_configs", (target / "mmdetection.py",))
    assert found["wrong"] == {}
    counts = found["counts"]
    assert min(counts[form] for form in ("plain", "wrapped", "joined", "wrapped and joined")) > 0
    assert counts["plain"] + counts["wrapped"] > 650  # of the 746 of mmdetection 3.3
