"""What is read ahead from amid a file changes nothing that is found in it, wherever it begins and whatever is there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.base.terms import Task
from pipeline.formats import Malformed, coco
from pipeline.formats._stretches import Stretch
from pipeline.formats.coco import scan

IMAGES = [{"id": i, "file_name": f"bild-{i}.jpg", "note": "}, {"} for i in range(4)]
BOXES = [{"id": i, "image_id": i % 4, "category_id": 1, "bbox": [1, 2, 3, 4.5]} for i in range(9)]
CLASSES = [{"id": 1, "name": "Fahrräder"}, {"id": 2, "name": "}, {"}]


def _with(**more: Any) -> list[dict[str, Any]]:
    return [box | more for box in BOXES]


def _of(annotations: list[Any], **dump: Any) -> str:
    document = {
        "info": {"a": [{"b": 1}, {"b": 2}]},
        "images": IMAGES,
        "annotations": annotations,
        "categories": CLASSES,
    }
    return json.dumps(document, **dump)


#: Boundaries of elements are in strings, in nested lists and in other arrays; elements are unusual or no JSON.
DOCUMENTS = {
    "plain": _of(BOXES),
    "compact": _of(BOXES, separators=(",", ":")),
    "lines": _of(BOXES, indent=1),
    "wide": _of(BOXES, indent=40, ensure_ascii=False),
    "beyond ASCII": _of(_with(note="äöü 自転車"), ensure_ascii=False),
    "strings of boundaries": _of(_with(note='"}, {"image_id": 3}, {"', other="}, {}, {\\")),
    "a string of a whole file": _of(_with(note=_of(BOXES))),
    "nested": _of(_with(parts=[{"image_id": 2}, {"image_id": 3}])),
    "nested like elements": _of(_with(annotations=BOXES[:3])),
    "crowds": _of(_with(segmentation={"counts": [1, 2], "size": [3, 1]})),
    "ids as text": _of([box | {"image_id": str(box["image_id"])} for box in BOXES]),
    "ids of several kinds": _of(
        [box | {"image_id": i} for i, box in zip([1, "2", 3.0, None, 2**40] * 2, BOXES, strict=False)]
    ),
    "no objects among them": _of([*BOXES[:4], None, 3, "}, {", *BOXES[4:6], [], *BOXES[6:]]),
    "empty objects": _of([{}, {}, *BOXES, {}, {}]),
    "of no image": _of([*BOXES, {"image_id": 77}]),
    "NaN": _of(_with(score=float("nan"))),
    "keypoints": _of(_with(keypoints=[1, 2, 2] * 3)),
    "images last": json.dumps({"annotations": BOXES, "categories": CLASSES, "images": IMAGES}),
    "twice": _of(BOXES)[:-1] + ', "annotations": ' + json.dumps(_with(image_id=3)) + "}",
    "images twice": _of(BOXES)[:-1] + ', "images": ' + json.dumps(IMAGES[:2]) + "}",
    "other lists": _of(BOXES)[:-1] + ', "segment_info": ' + json.dumps(BOXES) + ', "last": 1}',
    "a list of none": _of([]),
    "cut short": _of(BOXES)[:-150],
    "cut in a string": _of(BOXES) + "[",
    "no comma": _of(BOXES, indent=1).replace("},", "}", 7),
    "two commas": _of(BOXES, indent=1).replace('"image_id": 2,', '"image_id": 2,,', 1),
    "a bracket too many": _of(BOXES, indent=1).replace("4.5\n  ]", "4.5\n  ]]", 2),
    "a control character": _of(_with(note="x"), indent=1).replace('"x"', '"\x01"', 3),
}


def _found(text: bytes, step: int, task: Task, ahead: Any = ()) -> tuple[Any, ...]:
    """All that an outline says, or the error."""
    pieces = (text[i : i + step] for i in range(0, len(text), step))
    try:
        found = coco.outline(pieces, task, ahead=ahead)
    except Malformed as error:
        return str(error), error.line
    arrays = (found.images, found.annotations, found.image_of)
    rest = {name: value for name, value in vars(found).items() if not isinstance(value, np.ndarray)}
    return [(some.dtype.kind, some.tolist()) for some in arrays], rest


def _answer(text: bytes, begin: int, stop: int, step: int, task: Task) -> Callable[[], Stretch | None]:
    return lambda: coco.stretch((text[i : min(i + step, stop)] for i in range(begin, stop, step)), begin, task)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_read_ahead_changes_nothing(name: str) -> None:
    text = DOCUMENTS[name].encode()
    task = Task.POSE if name == "keypoints" else Task.DETECT
    many = int(os.environ.get("COCO_DIY_EXAMPLES", "30"))
    for step in (64, 1 << 20):
        alone = _found(text, step, task)
        for begin in range(0, len(text), len(text) // many + 1):
            one = [(begin, _answer(text, begin, len(text), step, task))]
            assert _found(text, step, task, one) == alone, begin
            some = [
                (at, _answer(text, at, min(at + 250, len(text)), step, task)) for at in range(begin, len(text), 250)
            ]
            assert _found(text, step, task, some) == alone, begin


@pytest.mark.parametrize("name", ["plain", "compact", "lines", "beyond ASCII", "crowds"])
def test_what_is_read_ahead_is_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = DOCUMENTS[name].encode()
    begin = text.index(b'"image_id"', text.index(b'"annotations"'))
    joined: list[int] = []
    join = scan.SpansAndOwners.join

    def note(self: scan.SpansAndOwners, found: Any) -> None:
        joined.append(len(found[0]))
        join(self, found)

    monkeypatch.setattr(scan.SpansAndOwners, "join", note)
    _found(text, 64, Task.DETECT, [(begin, _answer(text, begin, len(text), 1 << 20, Task.DETECT))])
    assert joined == [len(BOXES) - 1]
