"""Masks of COCO JSON that no reader can decode are named, and go along to nobody."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from pipeline.base.terms import Task
from pipeline.formats.coco.placing import completed
from pipeline.formats.coco.run_lengths import damaged, totals_of
from pipeline.geometry import masks
from tests.conftest import Run
from tests.formats.test_coco import annotation, document, parse

SIZE = [50, 100]

WHOLE = masks.compress(np.array([0, 5000]))

#: Masks that no reader can decode, each with what is said of it.
DAMAGED: list[tuple[Any, str]] = [
    ({"size": SIZE, "counts": f"b'{WHOLE}'"}, "bytes as Python prints them"),
    ({"size": SIZE, "counts": f'b"{WHOLE}"'}, "bytes as Python prints them"),
    ({"size": SIZE, "counts": [100, 20, 100]}, "runs have 220 pixels, but its size 50 x 100 has 5,000"),
    ({"size": [100, 100], "counts": WHOLE}, "runs have 5,000 pixels, but its size 100 x 100 has 10,000"),
    ({"size": SIZE, "counts": None}, "counts are null"),
    ({"size": SIZE, "counts": []}, "0 pixels"),
    ({"size": SIZE, "counts": ""}, "0 pixels"),
    ({"size": SIZE, "counts": [0.5, 4999.5]}, "no run lengths"),
    ({"size": SIZE, "counts": [-10, 5010]}, "no run lengths"),
    ({"size": SIZE, "counts": [0, None]}, "no run lengths"),
    ({"size": SIZE, "counts": "~"}, "no run lengths"),
    ({"size": SIZE, "counts": "0é"}, "no run lengths"),
    ({"size": SIZE, "counts": 5000}, "no run lengths"),
    ({"counts": WHOLE}, "size null"),
    ({"size": None, "counts": WHOLE}, "size null"),
    ({"size": [50], "counts": WHOLE}, "size [50]"),
    ({"size": [50.5, 100], "counts": WHOLE}, "size [50.5, 100]"),
    ({"size": [-50, -100], "counts": WHOLE}, "size [-50, -100]"),
    ({"size": SIZE}, "neither polygons nor run lengths"),
    ([{"size": SIZE, "counts": [1]}], "1 pixels"),
    (json.dumps({"size": SIZE, "counts": [1]}), "1 pixels"),
]

#: Masks that readers take.
SOUND: list[Any] = [
    {"size": SIZE, "counts": WHOLE},
    {"size": SIZE, "counts": [0, 5000]},
    {"size": SIZE, "counts": [5000]},
    {"counts": [2500, 1, 2499], "size": SIZE, "note": {"a": 1}},
]


@pytest.mark.parametrize("task", [Task.SEGMENT, Task.OBB])
@pytest.mark.parametrize("crowd", [0, 1])
@pytest.mark.parametrize(("mask", "clause"), DAMAGED)
def test_a_damaged_mask_is_a_bad_annotation(mask: Any, clause: str, crowd: int, task: Task) -> None:
    data = document(annotation(segmentation=mask, iscrowd=crowd), annotation(2))
    rows, ((reason, detail),), _ = parse(data, task)
    assert [json.loads(row["raw"])["id"] for row in rows] == [2]
    assert reason == "bad_annotation"
    assert detail.startswith("annotation 1 has ")
    assert clause in detail


@pytest.mark.parametrize(("mask", "clause"), DAMAGED)
def test_where_the_box_is_wanted_the_mask_is_left_out_and_counted(mask: Any, clause: str) -> None:
    (row, _), problems, _ = parse(document(annotation(segmentation=mask), annotation(2)))
    assert problems == []
    assert row["loss"] == "damaged_mask"
    assert json.loads(row["raw"]) == annotation(segmentation=[])
    _, ((_, detail),), _ = parse(document(annotation(segmentation=mask, bbox=None)))
    assert clause in detail


@pytest.mark.parametrize("task", [Task.DETECT, Task.SEGMENT])
@pytest.mark.parametrize("mask", SOUND)
def test_a_sound_mask_stays_as_it_is(mask: Any, task: Task) -> None:
    (row, _), problems, _ = parse(document(annotation(segmentation=mask), annotation(2)), task)
    assert problems == []
    assert row["loss"] != "damaged_mask"
    assert completed(row["raw"], 100, 50) == json.dumps(annotation(segmentation=mask)).encode()


def test_numbers_that_readers_do_not_take_are_made_such() -> None:
    for mask in ({"size": [50.0, 100], "counts": [0, 5000]}, {"size": SIZE, "counts": ["0", 5000]}):
        (row,), problems, _ = parse(document(annotation(segmentation=mask)), Task.SEGMENT)
        assert problems == []
        assert json.loads(completed(row["raw"], 100, 50))["segmentation"] == {"size": SIZE, "counts": WHOLE}


def test_an_object_that_says_nothing_is_no_mask() -> None:
    (row,), problems, _ = parse(document(annotation(segmentation={})))
    assert problems == []
    assert json.loads(completed(row["raw"], 100, 50))["segmentation"] == []


def _pixels(text: str) -> int | None:
    try:
        return int(masks.decompress(text).sum())
    except ValueError:
        return None


def _text(rng: random.Random) -> str:
    """COCO's string of a mask, which may be damaged."""
    pixels = np.random.default_rng(rng.randrange(1 << 30)).random((rng.randrange(1, 30), rng.randrange(1, 30)))
    letters = [*masks.compress(masks.of_mask(pixels < rng.random()))]
    for _ in range(rng.choice([0, 0, 1, 3])):
        letters[rng.randrange(len(letters))] = chr(rng.choice([rng.randrange(48, 112), rng.randrange(30, 200)]))
    return "".join(letters[: len(letters) if rng.random() < 0.8 else rng.randrange(len(letters) + 1)])


def test_strings_are_added_up_together_as_one_by_one() -> None:
    rng = random.Random(7)
    certain = 0
    for _ in range(500):
        texts = [_text(rng) for _ in range(rng.randrange(9))]
        for text, total in zip(texts, totals_of(texts), strict=True):
            if total >= 0:
                assert total == _pixels(text)
                certain += 1
            else:
                assert not text or _pixels(text) is None or max(masks.decompress(text).tolist()) > 1 << 20
    assert certain > 1000


def test_what_is_damaged_is_found_among_others() -> None:
    rng = random.Random(8)
    for _ in range(200):
        texts = [_text(rng) for _ in range(5)]
        sizes = [[1, _pixels(text) or 7] for text in texts]
        given = [{"size": size, "counts": text} for size, text in zip(sizes, texts, strict=True)]
        several = [json.dumps(annotation(segmentation=one)).encode() for one in given]
        wanted = {i for i, text in enumerate(texts) if not _pixels(text)}
        assert damaged(several).keys() == wanted


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools, of NumPy 2
def test_what_is_built_is_decoded_by_pycocotools(tmp_path: Path, run: Run) -> None:
    several = [annotation(i, segmentation=mask) for i, mask in enumerate([*[m for m, _ in DAMAGED], *SOUND])]
    path = tmp_path / "s/annos.json"
    (tmp_path / "s/images").mkdir(parents=True)
    Image.new("RGB", (100, 50)).save(tmp_path / "s/images/a.jpg")
    path.write_text(json.dumps(document(*several)))
    for task, kept in (("segment", len(SOUND)), ("detect", len(several))):
        target = tmp_path / task
        command = ["convert", str(path.parent), str(target), "--from", "coco", "--to", "coco", "--task", task]
        command += ["--workdir", str(tmp_path / f"work-{task}")]
        if task == "segment":
            refused = run(*command, code=1).err
            assert f"{path}: annotation 0 has a mask whose counts are bytes as Python prints them" in refused
            command += ["--set", "on_error=skip"]
        told = run(*command, code=3 if task == "segment" else 0)
        if task == "detect":
            assert f"{len(DAMAGED)} objects with a damaged mask, of which the box alone is taken." in told.out
        (made,) = (target / "annotations").glob("*.json")
        found = COCO(str(made))
        assert len(found.anns) == kept
        with_mask = [one for one in found.anns.values() if one["segmentation"]]
        assert len(with_mask) == len(SOUND)
        for one in with_mask:
            assert found.annToMask(one).shape == (50, 100)
