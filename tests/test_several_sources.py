"""Several sources in one subset: classes aligned by name, files kept apart, tables of different counts nested."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeSubset, Subset
from tests.helpers import contents, make_tree, picture

#: The other collection numbers its classes otherwise, has one of its own, and a file name that the town has too.
OTHER_NAMES = ("tram", "car", "bicycle")
OTHER = {"t": {"a": "0 0.5 0.5 0.1 0.1\n1 0.25 0.25 0.1 0.2\n", "b-2": "2 0.5 0.5 0.3 0.3\n"}}


@pytest.fixture
def other(tmp_path: Path) -> Path:
    root = make_tree(tmp_path / "other", OTHER, {"t": ("a.jpg", "b-2.png")}, OTHER_NAMES)
    for path in (root / "images/t").iterdir():
        os.utime(path, (1e9, 1e9))  # an image younger than two seconds would be copied again
    return root


def entry(name: str, root: Path, splits: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "names": str(root / "coco.yaml"), "root": str(root), "splits": splits}


@pytest.fixture
def both(town: Path, other: Path, make_subset: MakeSubset) -> Subset:
    sources = [entry("town", town, {"train": "train2017", "val": "val2017"}), entry("mine", other, {"train": "t"})]
    return make_subset(town, source=sources, classes=["tram", {"name": "wheels", "from": ["bicycle", "car"]}])


MINE = {
    "labels/train/mine/a.txt": b"0 0.5 0.5 0.1 0.1\n1 0.25 0.25 0.1 0.2\n",
    "labels/train/mine/b-2.txt": b"1 0.5 0.5 0.3 0.3\n",
    "images/train/mine/a.jpg": picture("t/a.jpg"),
    "images/train/mine/b-2.png": picture("t/b-2.png"),
}


def test_classes_are_aligned_by_name_and_files_kept_apart(both: Subset) -> None:
    told = both.build()
    made = contents(both.target)
    assert {p: c for p, c in made.items() if "/mine/" in p} == MINE
    assert made["labels/train/town/a.txt"] == b"1 0.25 0.25 0.1 0.1\n"
    assert made["labels/train/town/sub/e.txt"] == b"1 0.5 0.5 0.25 0.25\n"
    assert made["images/train/town/a.jpg"] == picture("train2017/a.jpg")
    assert told["rows"]["source"] == 19 + 4 - 1
    assert told["subset"]["train"]["objects"] == {"tram": 1, "wheels": 8}
    assert [w for w in told["warnings"] if "town has no class for 'tram'" in w]
    assert both.build()["changes"] == 0
    assert both.command("verify").code == 0


@pytest.mark.parametrize("buckets", [1, 7])
def test_bytes_do_not_depend_on_buckets(both: Subset, buckets: int, tmp_path: Path) -> None:
    both.build()
    made = contents(both.target)
    both.build("--set", f"index.buckets={buckets}", "--set", f"target.root={tmp_path}/again",
               "--set", f"workdir={tmp_path}/w2")
    assert contents(tmp_path / "again") == made


def test_an_index_of_more_buckets_cuts_the_other_finer(both: Subset, town: Path, tmp_path: Path) -> None:
    """Each source keeps its index: tables whose counts are powers of two nest."""
    both.build()
    made = contents(both.target)
    single = {"name": "town", "names": str(town / "coco.yaml"), "root": str(town),
              "splits": {"train": "train2017", "val": "val2017"}}
    both.command("index", "--set", f"source={json.dumps(single)}", "--set", "index.buckets=4", "--set", "classes=[car]")
    both.build("--set", f"target.root={tmp_path}/again")
    assert contents(tmp_path / "again") == made
    again = both.build()
    assert again["changes"] == 0


def test_a_change_in_one_source_changes_its_files_alone(both: Subset, other: Path) -> None:
    both.build()
    (other / "labels/t/b-2.txt").write_bytes(b"0 0.5 0.5 0.3 0.3\n")
    told = both.build()
    assert told["changes"] == 2  # and the record
    assert contents(both.target)["labels/train/mine/b-2.txt"] == b"0 0.5 0.5 0.3 0.3\n"


@pytest.mark.parametrize(("override", "clause"), [
    ("classes=[tramm]", "unknown class 'tramm'; did you mean 'tram'"),
    ("source=[]", "the list is empty"),
])
def test_usage_errors(both: Subset, override: str, clause: str) -> None:
    assert clause in both.command("build", "--set", override, code=2).err


def test_sources_need_names_of_their_own_and_one_task(town: Path, make_subset: MakeSubset) -> None:
    one = entry("town", town, {"train": "train2017"})
    assert "two sources are called 'town'" in make_subset(town, source=[one, one]).command("plan", code=2).err
    two = one | {"name": "two", "task": "segment"}
    assert "declare the same task" in make_subset(town, source=[one, two]).command("plan", code=2).err
