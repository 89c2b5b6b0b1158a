"""Which format a JSON file of all labels is of, by how it begins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import formats

REAL = Path(__file__).parent / "real"
WHOLE = [name for name in formats.available() if formats.load(name).WHOLE]

COCO, TASKS = (REAL / "roboflow.json").read_bytes(), (REAL / "labelstudio/tasks.json").read_bytes()
CREATEML = [{"image": "a.jpg", "annotations": [{"label": "x", "coordinates": {"x": 2, "y": 1, "width": 3}}]}]
MIN = [{"image": "/data/upload/a.jpg", "id": 1, "annotation_id": 2, "annotator": 1}]

HEADS = {
    "COCO JSON": (COCO, {"coco"}),
    "a byte order mark": (b"\xef\xbb\xbf" + COCO, {"coco"}),
    "UTF-16, whose user is told so": (COCO.decode().encode("utf-16"), {"coco"}),
    "cut short": (COCO[: len(COCO) // 3], {"coco"}),
    "VIA, whose user is told so": (b'{"_via_settings": {}, "_via_img_metadata": {}}', {"coco"}),
    "Label Studio": (TASKS, {"labelstudio"}),
    "Label Studio, one task": (json.dumps(json.loads(TASKS)[0]).encode(), {"labelstudio"}),
    "Label Studio, JSON-MIN": (json.dumps(MIN).encode(), {"labelstudio"}),
    "NDJSON": (b'{"type": "dataset", "class_names": {"0": "a"}}\n{"type": "image", "file": "a.jpg"}\n', {"ndjson"}),
    "CreateML": (json.dumps(CREATEML).encode(), set()),
    "labelme": ((REAL / "labelme/human-pose.json").read_bytes(), set()),
    "a list of numbers": (b"[1, 2]", set()),
    "another object": (b'{"name": "x"}', set()),
    "a web page": (b"<!doctype html>", set()),
    "no text": (b"\0" * 64, set()),
    "nothing, whose user is told so": (b" \n", {"coco", "labelstudio"}),
}


@pytest.mark.parametrize("case", HEADS)
def test_a_file_is_of_the_format_that_it_begins_as(case: str) -> None:
    head, expected = HEADS[case]
    assert {name for name in WHOLE if formats.load_single_file(name).recognises(head)} == expected
