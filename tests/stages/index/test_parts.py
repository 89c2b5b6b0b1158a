"""Parts of an index are believed only together and bit by bit; what is not is made anew."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.base.errors import DataError
from pipeline.stages.index.parts import TABLES
from tests.conftest import MakeSubset, Subset
from tests.stages.index.test_index import BUCKETS, check_as_fresh, make_index, parts, touched
from tests.support.faults import run_under
from tests.support.helpers import settle, slow, write_file


@pytest.mark.parametrize("folder", ["states", "images", *slow(*(name for name in TABLES if name != "images"))])
def test_a_bit_is_noticed_wherever_it_flips(own_subset: Subset, make_subset: MakeSubset, folder: str) -> None:
    index = make_index(own_subset)
    before = parts(index)
    path = sorted((index / folder).iterdir())[2]
    rng = random.Random(folder)
    for _ in range(3):
        data = bytearray(path.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        state = path.stat()
        path.write_bytes(data)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        make_index(own_subset)
        assert touched(before, parts(index)) <= {"bucket-00002.parquet"}
    check_as_fresh(own_subset, make_subset)


@pytest.mark.parametrize("table", TABLES)
def test_a_damaged_part_is_not_handed_out(own_subset: Subset, table: str) -> None:
    index = make_index(own_subset)
    path = index / table / "bucket-00001.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    found = pipeline.open_index(str(index))
    with pytest.raises(DataError, match=rf"{table}/bucket-00001\.parquet: this part of the index is damaged"):
        getattr(found, table).compute(scheduler="sync")


def test_a_run_with_other_buckets_that_ended_early_is_not_believed(own_subset: Subset, make_subset: MakeSubset) -> None:
    """Parts of eight buckets where those of five were, below an `index.json` of five."""
    index = make_index(own_subset)
    five = (index / "index.json").read_bytes()
    own_subset.command("index", "--set", "index.buckets=8")
    (index / "index.json").write_bytes(five)
    check_as_fresh(own_subset, make_subset)


@pytest.fixture
def zoo(tmp_path: Path, make_subset: MakeSubset) -> Subset:
    """A COCO JSON of forty images."""
    source = tmp_path / "zoo"
    document = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in range(40)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
            for i in range(40)
        ],
        "categories": [{"id": 1, "name": "car"}],
    }
    path = write_file(source / "a.json", json.dumps(document))
    os.utime(path, ns=(10**18, 10**18))
    for i in range(40):
        write_file(source / f"images/{i}.jpg", f"image {i}")
    splits = {"train": {"annotations": str(path), "images": str(source / "images")}}
    return make_subset(source, source={"format": "coco", "splits": splits}, classes=["car"])


@pytest.mark.parametrize("lost", ["states", None, "images", *slow(*(name for name in TABLES if name != "images"))])
def test_coco_json_with_other_buckets_or_a_lost_part(zoo: Subset, lost: str | None) -> None:
    assert zoo.build("--set", "index.buckets=4")["changes"] > 0
    if lost is not None:
        (index,) = (zoo.workdir / "index").glob("*/")
        (index / lost / sorted(os.listdir(index / lost))[1]).unlink()
    for buckets in ("4", "2", "8"):
        told = zoo.command("index", "--json", "--set", f"index.buckets={buckets}").json
        assert told["source"]["train"]["rows"] == 40
        assert told["buckets"] == int(buckets)


@pytest.mark.parametrize(
    "number",
    [errno.EIO, *slow(errno.EBUSY, errno.ETIMEDOUT)],
)
@pytest.mark.parametrize(("kind", "name"), [("stat", "a.jpg"), ("open", "a.txt")])
def test_a_read_that_fails_once_is_no_fact_about_a_file(
    own_subset: Subset, kind: str, name: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `on_error: skip` the image is back as soon as it can be read."""
    own_subset.command("index", "--set", BUCKETS)
    write_file(own_subset.source / "labels/train2017/a.txt", "1 0.25 0.25 0.1 0.1\n1 0.5 0.5 0.1 0.1\n")
    os.utime(own_subset.source / "labels/train2017/a.txt", ns=(10**18, 10**18))
    words = ("--set", "on_error=skip", "--set", BUCKETS)
    real, failed = getattr(os, kind), False

    def fails_once(path: Any, *args: Any, **more: Any) -> Any:
        nonlocal failed
        if not failed and path == name and more.get("dir_fd") is not None:
            failed = True
            raise OSError(number, os.strerror(number), path)
        return real(path, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, kind, fails_once)
        told = own_subset.command("build", *words, code=None)
    assert failed
    assert "Traceback" not in told.err
    assert told.code == 75 if number == errno.ETIMEDOUT else told.code != 0, told.out
    own_subset.command("build", *words)
    assert (own_subset.target / "images/train/a.jpg").exists()
    assert (own_subset.target / "labels/train/a.txt").read_text() == "0 0.25 0.25 0.1 0.1\n0 0.5 0.5 0.1 0.1\n"


@pytest.mark.slow
def test_an_update_is_killed_anywhere(own_subset: Subset, make_subset: MakeSubset) -> None:
    """Some buckets' label files were touched, so that one part of theirs is written, others' have changed."""
    index, labels = make_index(own_subset), sorted((own_subset.source / "labels").rglob("*.txt"))
    words = ["index", str(own_subset.config), "-q"]

    def update(kind: str, number: int, ended: int) -> str:
        settle()
        for path in labels:
            os.utime(path)
        labels[number % len(labels)].write_text(f"1 0.5 0.5 0.25 0.{100 + number}\n")
        settle()
        done = run_under([index], kind, number, words)
        assert done.code == ended, done.err
        return done.out

    calls = int(update("count", 1, 0).split()[-1])
    assert calls > 20
    for number in range(1, calls + 1, 5):
        update("kill", number, -signal.SIGKILL)
        make_index(own_subset)
        check_as_fresh(own_subset, make_subset)
