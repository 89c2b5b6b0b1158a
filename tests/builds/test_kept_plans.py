"""A bucket whose plan is kept comes to what a plan made now comes to, whatever happened since."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.conftest import MakeSubset, Subset
from tests.support.helpers import IMAGES, LABELS, make_tree, repeated, settle, write_file

BUCKETS = 8

Change = Callable[[Subset, random.Random], object]


def _label(subset: Subset, draw: random.Random) -> Path:
    return draw.choice(sorted((subset.source / "labels").rglob("*.txt")))


def _append(subset: Subset, draw: random.Random) -> None:
    path = _label(subset, draw)
    path.write_text(f"{path.read_text()}{draw.randrange(6)} 0.5 0.5 0.{draw.randrange(1, 99):02d} 0.2\n")


def _add(subset: Subset, draw: random.Random) -> None:
    stem = f"new{draw.randrange(10**6)}"
    write_file(subset.source / f"labels/train2017/{stem}.txt", "1 0.5 0.5 0.2 0.2\n")
    write_file(subset.source / f"images/train2017/{stem}.jpg", stem)


def _image(subset: Subset, draw: random.Random) -> Path:
    return draw.choice(sorted(p for p in (subset.source / "images").rglob("*") if p.is_file()))


def _remove_at_target(subset: Subset, draw: random.Random) -> None:
    files = sorted(p for p in subset.target.rglob("*.txt") if ".coco-diy" not in p.parts)
    draw.choice(files).unlink()


def _damage_record(subset: Subset, draw: random.Random) -> None:
    path = draw.choice(_kept(subset))
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def _swap(subset: Subset, _: random.Random) -> None:
    config = yaml.safe_load(subset.config.read_text())
    subset.config.write_text(yaml.safe_dump({**config, "classes": config["classes"][::-1]}))


CHANGES: dict[str, Change] = {
    "a label changed": _append,
    "a label touched": lambda subset, draw: _label(subset, draw).touch(),
    "a label removed": lambda subset, draw: _label(subset, draw).unlink(),
    "a label and its image added": _add,
    "a label that no row fits": lambda subset, draw: _label(subset, draw).write_text("1 0.5 0.5\n"),
    "an image changed": lambda subset, draw: _image(subset, draw).write_bytes(draw.randbytes(50)),
    "an image removed": lambda subset, draw: _image(subset, draw).unlink(),
    "a file at the target removed": _remove_at_target,
    "a record damaged": _damage_record,
    "a plan with other classes": lambda subset, _: subset.command("plan", "--set", "classes=[person]", code=None),
    "classes in another order": _swap,
    "a part of the plan removed": lambda subset, draw: draw.choice(_parts(subset)).unlink(),
    "nothing": lambda *_: None,
}


def _kept(subset: Subset) -> list[Path]:
    return sorted(subset.workdir.glob("plans/*.kept/*.json"))


def _parts(subset: Subset) -> list[Path]:
    return [p for p in sorted(subset.workdir.glob("plans/*/bucket-*.parquet")) if "." not in p.parent.name]


def _planned(subset: Subset) -> tuple[dict[str, Any], list[pa.Table]]:
    """What a plan says, and its tables."""
    document = subset.command("plan", "--json", code=None).json  # 3 where something is left out
    return {key: value for key, value in document.items() if key != "run"}, [pq.read_table(p) for p in _parts(subset)]


def _build(subset: Subset) -> None:
    assert subset.command("build", "--json", code=None).code in (0, 3)


def _forget(subset: Subset) -> None:
    for folder in subset.workdir.glob("plans/*.kept"):
        shutil.rmtree(folder)


def _subset(make_subset: MakeSubset, tmp_path: Path, images: str) -> Subset:
    target = {"root": str(tmp_path / "subset"), "images": images, "max_delete": "none"}
    source = make_tree(tmp_path / "tree", LABELS, IMAGES)
    return make_subset(source, target=target, index={"buckets": BUCKETS}, on_error="skip")


@pytest.mark.parametrize("images", ["none", "copy", "hardlink"])
@pytest.mark.repeated
def test_what_is_kept_is_what_would_be_planned(images: str, make_subset: MakeSubset, tmp_path: Path) -> None:
    draw = random.Random(images)
    subset = _subset(make_subset, tmp_path, images)
    _build(subset)
    for _ in range(repeated(15)):
        what = draw.choice(sorted(CHANGES))
        CHANGES[what](subset, draw)
        settle()
        _build(subset)
        settle()
        kept = _planned(subset)
        _forget(subset)
        assert kept == _planned(subset), what
        assert kept[0]["changes"] == 0, what
        subset.run("verify", subset.target, "--deep")
        _append(subset, draw)  # so that there is something to keep again
        settle()
        _build(subset)


@pytest.mark.parametrize("images", ["none", "copy"])
def test_a_changed_label_has_its_bucket_planned_alone(images: str, make_subset: MakeSubset, tmp_path: Path) -> None:
    subset = _subset(make_subset, tmp_path, images)
    first = subset.source / "labels/train2017/a.txt"
    planned = []
    for rows in ("1 0.5 0.5 0.1 0.1\n", "1 0.5 0.5 0.1 0.2\n", "1 0.5 0.5 0.1 0.3\n"):
        settle()
        first.write_text(rows)
        settle()
        before = {path: path.stat().st_ino for path in _parts(subset)}
        assert subset.build()["plan"]["write"]["label"]["files"] >= 1
        planned.append(sum(before.get(path) != path.stat().st_ino for path in _parts(subset)))
    # The first build plans all, the second one writes down of each that its files are there, and later ones plan one.
    assert (planned[0], planned[2]) == (BUCKETS, 1)
