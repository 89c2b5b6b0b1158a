"""One view of a config, of the target it makes, and of that target as a folder that nobody knows: the same numbers."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.base.errors import ConfigError
from pipeline.config.load import load_config
from pipeline.look.numbers import statistics_of
from pipeline.look.sample import Wish, choose
from pipeline.look.view import View, open_view
from pipeline.reports.statistics import Statistics, noteworthy
from tests.conftest import MakeSubset, Run, Subset
from tests.support.helpers import PROJECT, contents, make_tree, write_file


def seen(what: Path, tmp_path: Path, **more: str) -> tuple[View, Statistics]:
    config = load_config(what, [f"{key}={value}" for key, value in more.items()]) if what.is_file() else str(what)
    view = open_view(config, str(tmp_path / "cache"))
    return view, statistics_of(view)


def counted(labels: Path) -> tuple[Counter[int], Counter[int], int]:
    """Objects by class, images by class and backgrounds of a folder of label files, by a plain loop."""
    objects: Counter[int] = Counter()
    images: Counter[int] = Counter()
    empty = 0
    for path in labels.rglob("*.txt"):
        numbers = [int(line.split()[0]) for line in path.read_text().splitlines() if line.strip()]
        objects.update(numbers)
        images.update(set(numbers))
        empty += not numbers
    return objects, images, empty


@pytest.mark.slow
def test_config_target_and_folder_are_one_view(wanted: Subset, tmp_path: Path) -> None:
    before = seen(wanted.config, tmp_path)
    assert not wanted.target.exists()
    wanted.build()
    folder = tmp_path / "taken along"
    shutil.copytree(wanted.target, folder, ignore=shutil.ignore_patterns(".coco-diy"))
    for view, found in (before, seen(wanted.target, tmp_path), seen(folder, tmp_path)):
        assert view.classes == ("truck", "small", "person")
        for split in ("train", "val"):
            objects, images, empty = counted(wanted.target / "labels" / split)
            counts = found.splits[split]
            assert dict(enumerate(counts.objects.tolist())) == {i: objects[i] for i in range(3)}
            assert dict(enumerate(counts.class_images.tolist())) == {i: images[i] for i in range(3)}
            assert counts.backgrounds == empty
        assert found.per_image.sum() == found.images
        assert found.centres.sum() == found.boxes.sum() == found.objects
    assert [v.kind for v, _ in (before, seen(wanted.target, tmp_path), seen(folder, tmp_path))] == [
        "config",
        "target",
        "folder",
    ]


def test_a_target_whose_manifest_is_lost_is_one_by_its_copy(wanted: Subset) -> None:
    wanted.build()
    counts = wanted.run("stats", wanted.target, "--json").json
    (wanted.target / ".coco-diy/manifest.json").unlink()
    found = wanted.run("stats", wanted.target, "--json").json
    assert (found["of"], found["subset"], found["sizes"]) == ("target", counts["subset"], counts["sizes"])


def test_a_pose_target_in_coco_json(tmp_path: Path, run: Run) -> None:
    names = write_file(tmp_path / "n.yaml", "names: [person]\nkpt_shape: [2, 3]\n")
    label = "0 0.5 0.5 0.4 0.4 0.4 0.4 2 0.6 0.6 2\n"
    tree = make_tree(tmp_path / "tree", {"train": {"a": label}}, {}, ("person",))
    Image.new("RGB", (64, 48)).save(write_file(tree / "images/train/a.png", ""))
    data = {
        "source": {"task": "pose", "names": str(names), "root": str(tree), "splits": {"train": "train"}},
        "target": {"root": str(tmp_path / "out"), "format": "coco"},
        "workdir": str(tmp_path / "work"),
    }
    run("build", write_file(tmp_path / "c.yaml", yaml.safe_dump(data)))
    assert (tmp_path / "out/annotations/person_keypoints_train.json").exists()
    assert statistics_of(open_view(str(tmp_path / "out"), str(tmp_path / "cache"))).objects == 1


def test_a_dataset_in_one_file(tmp_path: Path, run: Run) -> None:
    data = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 20]}],
    }
    path = write_file(tmp_path / "given/all.json", json.dumps(data))
    found = run("stats", path, "--workdir", tmp_path / "cache", "--json").json
    assert (found["of"], found["subset"]["train"]["objects"]) == ("folder", {"cat": 1})
    assert path.read_text() == json.dumps(data)
    told = run("show", path, "-o", tmp_path / "x.png", "--workdir", tmp_path / "cache", code=2).err
    assert told.endswith("all.json: has no image file to show\n")


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("annotations/instances_val2017.json", "val2017"),  # COCO's own
        ("annotations/person_keypoints_train2017.json", "images/train2017"),
        ("annotations/instances_default.json", "images/default"),  # CVAT's
        ("train/_annotations.coco.json", "train"),  # Roboflow's
        ("result.json", "images"),  # Label Studio's
        ("train.json", "train"),
    ],
)
def test_images_of_one_file_are_where_tools_have_them(tmp_path: Path, run: Run, file: str, images: str) -> None:
    image = {"id": 1, "file_name": "a.png", "width": 100, "height": 50}
    found = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
    data = {"images": [image], "categories": [{"id": 3, "name": "cat"}], "annotations": [found]}
    path = write_file(tmp_path / "given" / file, json.dumps(data))
    (tmp_path / "given" / images).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 50)).save(tmp_path / "given" / images / "a.png")
    run("show", path, "-o", tmp_path / "x.png", "--workdir", tmp_path / "cache")
    assert run("verify", path).out.startswith("No problem")


@pytest.mark.slow
def test_a_new_label_changes_no_class_of_a_view(tmp_path: Path, run: Run) -> None:
    """Where the labels' own names decide, classes have the numbers that they have at the target."""
    shutil.copytree(PROJECT / "tests/sample/labelme", tmp_path / "labelme")
    config = write_file(
        tmp_path / "c.yaml",
        yaml.safe_dump(
            {
                "source": {"format": "labelme", "root": str(tmp_path), "splits": {"train": "labelme"}},
                "target": {"root": str(tmp_path / "out")},
                "workdir": str(tmp_path / "work"),
            }
        ),
    )
    before = open_view(load_config(config), "").classes
    run("build", config)
    labels = next(p for p in (tmp_path / "labelme").rglob("*.json") if f'"{before[-1]}"' in p.read_text())
    labels.write_text(labels.read_text().replace(f'"{before[-1]}"', '"aardvark"', 1))
    assert open_view(load_config(config), "").classes == (*before, "aardvark")


@pytest.mark.slow
@pytest.mark.parametrize("buckets", ["8", "1"])
def test_buckets_change_nothing(wanted: Subset, tmp_path: Path, buckets: str) -> None:
    view, found = seen(wanted.config, tmp_path, **{"index.buckets": buckets})
    assert view.buckets == int(buckets)
    sample = [s.key for s in choose(view, Wish(10, seed=3))]
    objects = [(s.key, s.shapes[0].box) for s in choose(view, Wish(7, objects=True, sort="smallest"))]
    drawn = [(s.key, s.shapes[0].box) for s in choose(view, Wish(7, objects=True, sort="random"))]
    each = [s.key for s in choose(view, Wish(0, each=2))]
    other, same = seen(wanted.config, tmp_path, **{"index.buckets": "4", "workdir": str(tmp_path / "other")})
    assert [s.key for s in choose(other, Wish(10, seed=3))] == sample
    assert [s.key for s in choose(other, Wish(10, seed=4))] != sample
    assert [(s.key, s.shapes[0].box) for s in choose(other, Wish(7, objects=True, sort="smallest"))] == objects
    assert [(s.key, s.shapes[0].box) for s in choose(other, Wish(7, objects=True, sort="random"))] == drawn
    assert [s.key for s in choose(other, Wish(0, each=2))] == each
    assert (same.centres == found.centres).all()
    assert same.pairs == found.pairs


def test_sizes_shapes_and_pairs(tmp_path: Path) -> None:
    """Of images of 640 x 480, as their headers say: one object of each size, a duplicate, two classes together."""

    rows = ["0 0.5 0.5 0.01 0.01", "0 0.5 0.5 0.1 0.1", "1 0.2 0.2 0.5 0.5", "1 0.2 0.2 0.5 0.5"]
    tree = make_tree(
        tmp_path / "tree", {"train": {"a": "\n".join(rows), "b": "2 0.5 0.5 0.2 0.1\n"}, "val": {"c": ""}}, {}
    )
    for split, name in (("train", "a"), ("train", "b"), ("val", "c")):
        (tree / "images" / split).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (640, 480)).save(tree / "images" / split / f"{name}.jpg")
    write_file(tree / "data.yaml", "names: [one, two, three]\ntrain: images/train\nval: images/val\n")
    _, found = seen(tree, tmp_path)
    assert found.total("sizes").tolist() == [[1, 1, 0], [0, 0, 2], [0, 1, 0]]
    assert found.pairs == {(0, 1): 1}
    assert (found.duplicates, found.unsized, found.backgrounds) == (1, 0, 1)
    assert found.per_image[[0, 1, 4]].tolist() == [1, 1, 1]
    texts = [note.text for note in noteworthy(found, ("one", "two", "three"))]
    assert any("3 classes (one, two, three) in train alone" in t for t in texts)
    assert any("33% of the images have no object" in t for t in texts)
    assert any("1,500 images" in t for t in texts)


@pytest.mark.parametrize("sort", ["smallest", "largest", "extreme"])
def test_objects_of_unknown_size_come_last(tmp_path: Path, sort: str) -> None:
    """Shares of an image are no pixels: where its size is not known, its objects are after all whose size is."""
    rows = {"a": "0 0.5 0.5 0.9 0.01\n", "b": "0 0.5 0.5 0.2 0.1\n", "c": "0 0.5 0.5 0.3 0.3\n"}
    tree = make_tree(tmp_path / "tree", {"train": rows}, {})
    for name in rows:
        write_file(tree / f"images/train/{name}.jpg", "no image")
    Image.new("RGB", (640, 480)).save(tree / "images/train/b.jpg")
    write_file(tree / "data.yaml", "names: [one]\ntrain: images/train\n")
    shown = choose(open_view(str(tree), str(tmp_path / "cache")), Wish(3, objects=True, sort=sort))
    assert [s.key[-1] for s in shown] == ["b", *{"smallest": "ac", "largest": "ca", "extreme": "ac"}[sort]]


def _turned(cx: float, cy: float, long: float, short: float, degrees: float) -> list[float]:
    """The corners of a turned box in pixels, x and y by turns."""
    turn = np.radians(degrees)
    along, across = (
        np.array([np.cos(turn), np.sin(turn)]) * long / 2,
        np.array([-np.sin(turn), np.cos(turn)]) * short / 2,
    )
    centre = np.array([cx, cy])
    corners = np.stack([centre + way for way in (along + across, across - along, -along - across, along - across)])
    return [round(float(value), 3) for value in corners.ravel()]


def test_extreme_is_the_shape_and_not_the_box_around_it(tmp_path: Path) -> None:
    """A needle across the corner has a square box; in rows and in COCO JSON, as polygon, mask or box."""
    needle, slab, disc = _turned(200, 200, 160, 4, 45), _turned(200, 200, 90, 30, 0), _turned(200, 200, 99, 99, 30)
    mask = np.zeros((400, 640), bool)
    mask[100:170, 100] = True
    runs = np.diff(np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=False)), prepend=0, append=mask.size)
    rows = {
        name: " ".join(["0", *(f"{v / (400 if i % 2 else 640):.6f}" for i, v in enumerate(points))]) + "\n"
        for name, points in (("needle", needle), ("slab", slab), ("disc", disc))
    } | {"box": "0 0.5 0.5 0.25 0.04\n"}  # 160 x 16 px
    tree = make_tree(tmp_path / "tree", {"train": rows}, {})
    for name in rows:
        Image.new("RGB", (640, 400)).save(write_file(tree / f"images/train/{name}.png", ""))
    write_file(tree / "data.yaml", "names: [one]\ntrain: images/train\n")
    coco = tmp_path / "coco/all.json"
    drawn: dict[str, Any] = {
        "needle": [needle], "slab": [slab[:4] + slab[2:], slab], "disc": [disc],
        "mask": {"size": [400, 640], "counts": runs.tolist()}, "box": None,
    }  # fmt: skip
    annotations = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [100, 100, 160, 16], "area": 9, "iscrowd": 0}
        | ({"segmentation": drawn[name]} if drawn[name] is not None else {})
        for i, name in enumerate(drawn)
    ]
    images = [{"id": i, "file_name": f"{name}.png", "width": 640, "height": 400} for i, name in enumerate(drawn)]
    data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "one"}]}
    write_file(coco, json.dumps(data))
    for name in drawn:
        write_file(tmp_path / f"coco/{name}.png", "no image is needed")
    boxed = choose(open_view(str(tree), str(tmp_path / "cache")), Wish(9, objects=True, sort="extreme"))
    assert [s.key.rpartition("/")[2] for s in boxed] == ["needle", "box", "slab", "disc"]
    found = choose(open_view(str(coco), str(tmp_path / "cache")), Wish(9, objects=True, sort="extreme"))
    assert [s.key.rpartition("/")[2] for s in found] == ["mask", "needle", "box", "slab", "disc"]


def test_a_leak_is_noticed(tmp_path: Path) -> None:
    image = np.random.default_rng(1).bytes(300)
    row = {"0": "0 0.25 0.5 0.1 0.2\n0 0.5 0.5 0.3 0.2\n", "1": "0 0.25 0.5 0.1 0.25\n"}
    tree = make_tree(tmp_path / "tree", {"train": {"a": row["0"], "b": row["1"]}, "val": {"renamed": row["0"]}}, {})
    for name in ("train/a", "train/b", "val/renamed"):
        write_file(tree / "images" / f"{name}.jpg", image)
    write_file(tree / "data.yaml", "names: [one]\ntrain: images/train\nval: images/val\n")
    found = seen(tree, tmp_path)[1]
    assert found.leaks() == 1
    notes = noteworthy(found, ("one",))
    assert "likely in two splits" in notes[0].text
    assert [note.grave for note in notes] == sorted((note.grave for note in notes), reverse=True)
    write_file(tree / "images/val/renamed.jpg", image + b"more")
    assert seen(tree, tmp_path)[1].leaks() == 0


def test_labelme_and_coco_folders(run: Run, tmp_path: Path) -> None:
    sample = Path(__file__).parents[1] / "sample/labelme"
    view, labelme = seen(sample, tmp_path)
    assert (view.sources[0].named, sorted(view.classes)) == (True, ["dog", "kite", "person"])
    run("convert", sample, tmp_path / "coco", "--from", "labelme", "--to", "coco", "--workdir", tmp_path / "work")
    shutil.rmtree(tmp_path / "coco/.coco-diy")
    view, coco = seen(tmp_path / "coco", tmp_path)
    assert view.kind == "folder"
    assert coco.objects == labelme.objects
    shapes = [shape for s in choose(view, Wish(20)) for shape in s.shapes]
    assert len(shapes) == coco.objects
    assert all(polygon.shape[1] == 2 for shape in shapes for polygon in shape.polygons)
    assert any(shape.polygons for shape in shapes)


@pytest.mark.parametrize(
    ("tree", "clause"),
    [
        ({}, "is no dataset folder"),
        ({"labels/train/a.txt": "0 .5 .5 .1 .1\n", "images/train/a.jpg": "x"}, "names classes"),
        ({"notes.txt": "hello"}, "is no dataset folder"),
    ],
)
def test_what_is_no_dataset(tmp_path: Path, tree: dict[str, str], clause: str) -> None:
    (tmp_path / "x").mkdir()
    for path, text in tree.items():
        write_file(tmp_path / "x" / path, text)
    with pytest.raises(ConfigError, match=clause):
        open_view(str(tmp_path / "x"), str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match="no such config"):
        open_view(str(tmp_path / "gone"), str(tmp_path / "cache"))


def test_nothing_is_written_to_what_is_looked_at(own_subset: Subset, run: Run, tmp_path: Path) -> None:
    own_subset.build()
    before = contents(own_subset.target, record=True)
    for words in (("stats",), ("show", "-o", tmp_path / "x.png")):
        run(words[0], own_subset.target, *words[1:])
    assert contents(own_subset.target, record=True) == before


def test_stats_of_a_folder_and_before_and_after(subset: Subset, make_subset: MakeSubset, tmp_path: Path) -> None:
    after = subset.command("stats", "--json").json["after"]
    built = subset.build()
    assert {s: {k: c[k] for k in ("images", "objects", "images_by_class")} for s, c in after["subset"].items()} == {
        s: {k: c[k] for k in ("images", "objects", "images_by_class")} for s, c in built["subset"].items()
    }
    assert after["made_of"] == {"bicycle": ["1 bicycle"], "car": ["2 car"]}
    text = subset.command("stats").out
    assert "Before: the source" in text
    assert "After: what a build makes" in text
    rows = [line.split(",") for line in subset.command("stats", "--csv").out.splitlines()]
    assert rows[0][:3] == ["of", "id", "class"]
    assert [row[2] for row in rows[1:] if row[0] == "subset"] == ["bicycle", "car"]
    shutil.rmtree(subset.target / ".coco-diy")
    told = subset.run("stats", subset.target, "--json").json
    assert (told["of"], told["subset"]["val"]["objects"]) == ("folder", built["subset"]["val"]["objects"])
    lines = subset.run("stats", subset.source / "nowhere", code=2).err
    assert "no such config" in lines


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["yolo", "coco"])
def test_at_a_store(run: Run, tmp_path: Path, kind: str) -> None:
    """A target in an object store is looked at as one on this disk: the same numbers, the same pictures."""
    sample = Path(__file__).parents[1] / "sample/labelme"
    store = f"memory://looks-{kind}/target"
    words = ("--from", "labelme", "--to", kind, "--split", "0.5", "--workdir", tmp_path / "w")
    for place in (store, tmp_path / "here"):
        run("convert", sample, place, *words)
    stats = [run("stats", place, "--json", "--workdir", tmp_path / "w").json for place in (store, tmp_path / "here")]
    assert [told["warnings"] for told in stats] == [[], []]
    assert stats[0]["sizes"] == stats[1]["sizes"] or kind == "yolo"
    assert stats[0]["subset"] == stats[1]["subset"]
    page = tmp_path / "page.html"
    run("report", store, "-o", page, "--workdir", tmp_path / "w", "--scheduler", "sync")
    assert page.read_bytes().count(b"image/jpeg") == 7
