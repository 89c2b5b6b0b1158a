"""A file that helpers read ahead becomes the index that it is without them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline.api import make_index
from pipeline.formats.coco.scan import SpansAndOwners
from pipeline.stages.index import reading_ahead
from tests.support.helpers import contents, settle


def _config(folder: Path) -> Path:
    images = [{"id": 3 * i, "file_name": f"{i:05d}.jpg", "width": 640, "height": 480} for i in range(300)]
    shape = [[1.5, 2, 30.25, 2, 30.25, 40, 1.5, 40]]
    objects = [
        {"id": i, "image_id": 3 * (i * 7 % 301), "category_id": 1, "bbox": [1, 2, 30, 40], "segmentation": shape}
        for i in range(2000)
    ]  # also of image 900, which is not there
    document = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "kite"}]}
    (folder / "kites.json").write_text(json.dumps(document, indent=1))
    source = {"format": "coco", "task": "segment", "splits": {"train": {"annotations": str(folder / "kites.json")}}}
    config = {"source": source, "target": {"root": str(folder / "out"), "images": "none"}, "on_error": "skip"}
    (folder / "config.json").write_text(json.dumps(config))
    settle()  # the state of a file that may change again unseen is another each time
    return folder / "config.json"


def _index(config: Path, workers: int) -> dict[str, bytes]:
    """The files of an index made by so many workers."""
    work = config.parent / f"work-{workers}"
    make_index({**json.loads(config.read_text()), "workdir": str(work), "engine": {"workers": workers}})
    return contents(work / "index")


def _different(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """The files that are not alike."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def test_the_index_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, joined = _config(tmp_path), list[int]()
    alone = _index(config, 1)
    monkeypatch.setattr(reading_ahead, "_LEAST", 0)
    join = SpansAndOwners.join

    def note(self: SpansAndOwners, found: Any) -> None:
        joined.append(len(found[0]))
        join(self, found)

    monkeypatch.setattr(SpansAndOwners, "join", note)
    assert _different(_index(config, 3), alone) == []
    assert len(joined) == 2
    assert sum(joined) > 1000


def test_a_helper_that_is_killed_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = _config(tmp_path)
    alone = _index(config, 1)
    monkeypatch.setattr(reading_ahead, "_LEAST", 0)
    monkeypatch.setattr(reading_ahead, "_stretch", _killed)
    assert _different(_index(config, 2), alone) == []


def _killed(*_: Any) -> None:
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
