"""Random lives of random datasets: each build is what plain loops say, and what a plan said; each rebuild a fresh one.

A life is a small dataset of one or two sources in several formats, a config, and edits of both. After each a plan is
made, carried out and compared with `plain_selection.expected`: images, rows, class ids, splits, and how many were left
out for which reason. At its end the target is, byte for byte, what a first build makes of the same source.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import pipeline
from pipeline.api import verify
from pipeline.config.load import validate
from pipeline.reports.report import Report
from tests.support.helpers import contents, repeated, settle, write_file
from tests.support.plain_selection import CONDITIONS, expected
from tests.support.plain_world import Expected, World
from tests.support.random_worlds import (
    clear,
    edited,
    file_of,
    look_hash,
    shares,
    source_files,
    tail,
    worlds,
    write_world,
)

CLASSES = (
    None,
    ["car", "dog"],
    ["dog", {"name": "vehicle", "from": ["car", "bus"]}],
    [{"name": "all", "from": "*"}],
    ["traffic *", "cat"],
    [{"name": "moving", "supercategory": "vehicle"}, "person"],
    [{"exclude": ["person"]}],
    [{"supercategory": "vehicle", "exclude": ["bus"]}, {"name": "signs", "from": ["traffic*"], "exclude": ["* light"]}],
    ["person", {"name": "dog", "from": ["dog", "cat"]}],
)

KEYS: dict[str, st.SearchStrategy[Any]] = {
    "classes": st.sampled_from(CLASSES),
    "objects": st.sampled_from(
        (
            {},
            {"min_side": 10},
            {"min_side": 4.5, "max_side": 20, "drop": "image"},
            {"min_area": 50, "max_area": 250},
            {"max_aspect": 2},
            {"max_aspect": 4, "drop": "image"},
            {"min_area_ratio": 0.0137},
            *({"where": text} for text in CONDITIONS),
        )
    ),
    "duplicates": st.sampled_from(("keep", "drop")),
    "objects_per_image": st.sampled_from(({}, {"min": 2}, {"max": 2}, {"min": 2, "max": 3})),
    "check_images": st.sampled_from(("none", "header", "full")),
    "on_unlabelled": st.sampled_from(("keep", "drop")),
    "dedup": st.sampled_from(
        (
            None,
            {"across": ["train", "val"], "keep": "val", "bits": 0},
            {"across": ["train", "test", "val"], "keep": "train", "bits": 3},
        )
    ),
    "per_class": st.sampled_from(
        ({}, {"max_images": 2}, {"max_objects": 3, "seed": 4}, {"max_images": 3, "max_objects": 4})
    ),
    "background": st.sampled_from(
        (
            "none",
            "unlabelled",
            "all",
            {"ratio": 0.3},
            {"ratio": 0.1, "max": 2, "seed": 3},
            {"max": 1},
            {"ratio": 0.5, "prefer": "near-miss"},
        )
    ),
    "listed": st.sampled_from(
        (
            None,
            ("a", "sub/d.png", "cam1_b", "nowhere"),
            ("source/train2017/a", "/x/y/train2017/sub/e.jpg", "b", "ü.jpg", "cam2_c", "f"),
        )
    ),
    "excluded": st.sampled_from((None, ("a",), ("sub/a.jpg", "train2017/b.png"))),
    "split": st.sampled_from(
        (
            None,
            {"train": 0.5, "val": 0.5, "by": "image", "stratify": False, "seed": 0},
            {"train": 0.6, "val": 0.2, "test": 0.2, "by": "folder", "stratify": False, "seed": 1},
            {"train": 0.5, "val": 0.5, "by": "^(cam[0-9]+)_", "stratify": False, "seed": 2},
            {"train": 0.5, "val": 0.3, "test": 0.2, "by": "image", "stratify": True, "seed": 3},
            {"train": 0.5, "val": 0.5, "by": "folder", "stratify": True, "seed": 0},
        )
    ),
    "format": st.sampled_from(("yolo", "coco")),
    "images": st.sampled_from(("copy", "hardlink", "none")),
    "flat": st.booleans(),
    "layout": st.sampled_from(("default", "roboflow", "coco2017")),
    "buckets": st.sampled_from((1, 4, "auto")),
}

#: What of a config is so where nothing else was drawn.
USUAL: dict[str, Any] = {
    "classes": ["car", "dog"],
    "objects": {},
    "duplicates": "keep",
    "objects_per_image": {},
    "check_images": "none",
    "on_unlabelled": "keep",
    "dedup": None,
    "per_class": {},
    "background": "none",
    "listed": None,
    "excluded": None,
    "split": None,
    "format": "yolo",
    "images": "copy",
    "flat": False,
    "layout": "default",
    "buckets": 2,
}

SELECT = (
    "objects", "duplicates", "objects_per_image", "check_images", "on_unlabelled", "dedup", "per_class", "background"
)  # fmt: skip

#: By format and layout: the folder of images, where the labels are, and what splits are called.
FOLDERS: dict[tuple[str, str], tuple[str, str, dict[str, str]]] = {
    ("yolo", "default"): ("images/{}", "labels/{}", {}),
    ("yolo", "roboflow"): ("{}/images", "{}/labels", {"val": "valid"}),
    ("yolo", "coco2017"): ("images/{}2017", "labels/{}2017", {}),
    ("coco", "default"): ("images/{}", "annotations/instances_{}.json", {}),
    ("coco", "roboflow"): ("{}", "{}/_annotations.coco.json", {"val": "valid"}),
    ("coco", "coco2017"): ("{}2017", "annotations/instances_{}2017.json", {}),
}

Config = dict[str, Any]

#: Class number, cx, cy, w, h of each object of an image.
Rows = list[list[float]]


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[World, Config]]:
    """States of the sources and of a config, one after another; a few keys of a config are not as usual."""
    world = clear(draw(worlds()))
    keys = USUAL | {key: draw(KEYS[key]) for key in sorted(draw(st.sets(st.sampled_from(sorted(KEYS)), max_size=7)))}
    found = [(world, keys)]
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.integers(0, 2)):
            for _ in range(draw(st.integers(1, 3))):
                world = clear(draw(edited(world)))
        else:
            # A split table of other groups is refused, and so is one of a split without a share.
            remembered = any(before["split"] and before["split"]["stratify"] for _, before in found)
            key = draw(st.sampled_from(sorted(KEYS.keys() - ({"split"} if remembered else set()))))
            keys = {**keys, key: draw(KEYS[key])}
        found.append((world, keys))
    return found


@dataclass
class Life:
    """Sources below a folder, and the subset that is built of them again and again."""

    root: Path
    files: dict[str, bytes] = field(default_factory=dict)
    #: Groups that a stratified split has assigned so far.
    sides: dict[str, str] = field(default_factory=dict)

    def go_on(self, world: World, keys: Config) -> Report | None:
        """Bring the sources into a state, plan and build, and compare; None where a build is refused."""
        files = source_files(world)
        write_world(self.root / "sources", self.files, files)
        self.files = files
        settle()
        wanted = expected(world, keys, look_hash, self.sides)
        config = self.config(world, keys)
        if wanted is None or not wanted.taken or (self.sides and wanted.sides and not wanted.sides.keys() & self.sides):
            for command in (pipeline.plan, pipeline.build):
                assert refused(command, config), command
            return None
        planned, report = pipeline.plan(config), pipeline.build(config)
        check_counts(report, wanted)
        check_target(contents(self.root / "subset"), keys, wanted)
        assert said(planned) == said(report)
        self.sides |= wanted.sides
        return report

    def config(self, world: World, keys: Config, place: str = "subset") -> pipeline.Config:
        """The config of `keys`, for a target and a workdir at `place`; a table of groups goes along."""
        sources = []
        for one in world.sources:
            folder = self.root / "sources" / one.name
            labels = {"coco": ("annotations", "annotations/instances_{}2017.json")}.get(one.format)
            key, path = labels or ("labels", "labels/{}2017")
            facts = {"names": str(folder / "names.yaml"), "exhaustive": one.exhaustive and [*one.exhaustive]}
            splits = {s: {key: path.format(s), "images": f"images/{s}2017"} for s in ("train", "val")}
            sources.append({"name": one.name, "format": one.format, "root": str(folder), "splits": splits, **facts})
        select = {key: keys[key] for key in SELECT}
        for key, name in (("listed", "images"), ("excluded", "exclude_images")):
            if keys[key] is not None:
                select[name] = str(write_file(self.root / f"{key}.txt", "\n".join(keys[key])))
        table = {"table": str(self.root / "table.csv")} if keys["split"] and keys["split"]["stratify"] else {}
        target = {key: keys[key] for key in ("format", "images", "flat", "layout")} | {"max_delete": "none"}
        data = {
            "source": sources,
            "classes": keys["classes"],
            "select": select,
            "split": keys["split"] and keys["split"] | table,
            "target": {"root": str(self.root / place), **target},
            "index": {"buckets": keys["buckets"]},
            "engine": {"scheduler": "sync"},
            "on_error": "skip",
            "workdir": str(self.root / f"{place}-work"),
        }
        return validate(data, "a life")


def refused(command: Callable[[pipeline.Config], Report], config: pipeline.Config) -> bool:
    """Whether a command does not go through; a plan says of a subset that would be empty that a build stops."""
    try:
        report = command(config)
    except pipeline.CocoDiyError:
        return True
    return any("the subset would be empty" in warning for warning in report.warnings)


def said(report: Report) -> dict[str, Any]:
    """What plan and build agree on, also where there is nothing to do."""
    names = ("subset", "rows", "images", "steps", "problems", "digest", "classes", "changes", "loss", "unlabelled")
    plan = {(a, k): count for a, kinds in report.data["plan"].items() for k, count in kinds.items() if count["files"]}
    return {"plan": plan} | {name: report.data[name] for name in names if name in report.data}


def check_counts(report: Report, wanted: Expected) -> None:
    """Compare what a report says with what must be."""
    for key, counter in (("images", wanted.images), ("rows", wanted.rows)):
        assert {word: n for word, n in report.data[key].items() if n and word != "source"} == +counter, key
        assert report.data[key]["source"] == counter.total()
    assert report.data["problems"] == +wanted.problems
    assert report.ok == (not wanted.problems and not {"bad", "unknown_class"} & (+wanted.rows).keys())
    assert report.data.get("unlabelled", {}) == wanted.unlabelled
    for split, counts in report.data["subset"].items():
        here = [one for one in wanted.taken if one.split == split]
        assert counts["images"] == len(here)
        assert counts["backgrounds"] == sum(not one.rows for one in here)
        assert +Counter(counts["objects"]) == Counter(wanted.classes[n] for one in here for n, _ in one.rows)
        having = Counter(name for one in here for name in {wanted.classes[n] for n, _ in one.rows})
        assert +Counter(counts["images_by_class"]) == having
    for step, what in itertools.product(report.data["steps"].values(), ("images", "objects")):
        assert step[what]["in"] - sum(step[what]["left_out"].values()) == step[what]["out"]


def check_target(made: dict[str, bytes], keys: Config, wanted: Expected) -> None:
    """Compare the files of a target with what must be there: of rows of a YOLO source each byte."""
    images, labels, called = FOLDERS[keys["format"], keys["layout"]]
    files: dict[str, bytes] = {}
    rows: dict[str, Rows] = {}
    for one in wanted.taken:
        folder = images.format(called.get(one.split, one.split))
        files[f"{folder}/{one.path}{one.picture.suffix}"] = file_of(one.picture)
        label = f"{labels.format(called.get(one.split, one.split))}/{one.path}.txt"
        rows[label if keys["format"] == "yolo" else f"{one.split}/{one.path}{one.picture.suffix}"] = [
            [number, *shares(o, one.picture)] for number, o in one.rows
        ]
        if keys["format"] == one.source.format == "yolo":
            assert made[label].decode() == "".join(f"{number} {tail(o, one.picture)}\n" for number, o in one.rows)
    there = {path: data for path, data in made.items() if path.endswith((".png", ".jpg"))}
    assert there == (files if keys["images"] != "none" else {})
    if keys["format"] == "yolo":
        texts = {path: data.decode().splitlines() for path, data in made.items() if path.endswith(".txt")}
        found = {path: [[float(token) for token in line.split()] for line in text] for path, text in texts.items()}
    else:
        paths = {split: labels.format(called.get(split, split)) for split in ("train", "val", "test")}
        documents = {split: json.loads(made[path]) for split, path in paths.items() if path in made}
        found = {path: some for split, one in documents.items() for path, some in json_rows(one, split, wanted).items()}
    assert found.keys() == rows.keys()
    for path, some in rows.items():
        assert len(found[path]) == len(some), path
        for row, own in zip(found[path], some, strict=True):
            assert row == pytest.approx(own, abs=2e-5), path


def json_rows(document: Any, split: str, wanted: Expected) -> dict[str, Rows]:
    """The objects of a COCO JSON by image, as rows of shares."""
    numbers = {category["id"]: wanted.classes.index(category["name"]) for category in document["categories"]}
    found: dict[str, Rows] = {}
    for image in document["images"]:
        width, height = image["width"], image["height"]
        rows = found.setdefault(f"{split}/{image['file_name']}", [])
        for one in document["annotations"]:
            if one["image_id"] == image["id"]:
                x, y, w, h = one["bbox"]
                box = (x + w / 2) / width, (y + h / 2) / height, w / width, h / height
                rows.append([numbers[one["category_id"]], *box])
    return found


def live(root: Path, states: Sequence[tuple[World, Config]]) -> None:
    """Go through the states, and compare the target at the end with what a first build makes of the last one."""
    life = Life(root)
    reports = [life.go_on(world, keys) for world, keys in states]
    if reports[-1] is None:
        return
    world, keys = states[-1]
    assert pipeline.build(life.config(world, keys)).data["changes"] == 0
    pipeline.build(life.config(world, keys, "fresh"))
    assert contents(root / "fresh", record=True) == contents(root / "subset", record=True)
    assert verify(str(root / "subset"), deep=True).ok


@settings(max_examples=repeated(50), suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate))
@given(states=lives())
def test_a_life(states: list[tuple[World, Config]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        live(Path(name), states)
