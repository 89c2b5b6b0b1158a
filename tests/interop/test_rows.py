"""YOLO rows in the hands of Ultralytics: read whole, trained on, and its stale caches gone."""

from __future__ import annotations

from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from tests.interop.conftest import Make, Reader
from tests.support.helpers import PROJECT, run_process, write_file
from tests.support.web import serving

pytestmark = pytest.mark.interop
SAMPLE = PROJECT / "tests/sample"
COCO = ["--labels", str(PROJECT / "conf/coco.yaml")]
POSE = ["--labels", str(PROJECT / "conf/coco-pose.yaml")]
MODELS = {
    "detect": "yolo11n.yaml",
    "segment": "yolo11n-seg.yaml",
    "pose": "yolo11n-pose.yaml",
    "obb": "yolo11n-obb.yaml",
}

#: By way and task: a folder of the sample or of DOTA, or COCO's real annotations, and the words of `convert`.
WAYS: dict[str, tuple[str, str, list[str]]] = {
    "yolo-detect": ("detect", "detect", ["--from", "yolo", *COCO]),
    "yolo-segment": ("segment", "segment", ["--from", "yolo", *COCO]),
    "yolo-pose": ("pose", "pose", ["--from", "yolo", *POSE]),
    "labelme-detect": ("labelme", "detect", ["--from", "labelme", "--split", "0.7", "--seed", "1"]),
    "labelme-segment": ("labelme", "segment", ["--from", "labelme", "--split", "0.7", "--seed", "1"]),
    "coco-detect": ("", "detect", ["--from", "coco"]),
    "coco-segment": ("", "segment", ["--from", "coco"]),
    "coco-pose": ("", "pose", ["--from", "coco"]),
    "dota-obb": ("dota", "obb", ["--from", "dota"]),
}


@pytest.fixture(scope="session")
def photographs(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO's own layout: real annotations, and real photographs."""
    import zipfile

    root = tmp_path_factory.mktemp("coco")
    for split in ("train2017", "val2017"):
        with zipfile.ZipFile(shared / f"data/coco/{split}.zip") as opened:
            opened.extractall(root)
    (root / "annotations").symlink_to(shared / "data/coco/annotations")
    return root


@pytest.fixture(scope="session")
def dota(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DOTA's own layout: real label files, and drawn images of their size."""
    root = tmp_path_factory.mktemp("dota")
    for split in ("train", "val"):
        for path in (PROJECT / "tests/formats/real/dota").glob("*.txt"):
            write_file(root / split / "labelTxt" / path.name, path.read_bytes())
            (root / split / "images").mkdir(exist_ok=True)
            Image.effect_noise((1200, 1190), 40).save(root / split / "images" / f"{path.stem}.png")
    return root


def rows_of(target: Path, split: str) -> dict[str, Any]:
    """Images of a split and objects by class, as the label files have them."""
    names = list(yaml.safe_load((target / "data.yaml").read_text())["names"].values())
    files = list((target / "labels" / split).rglob("*.txt"))
    # Of rows that stand twice Ultralytics takes one.
    rows = [row.split()[0] for path in files for row in dict.fromkeys(path.read_text().splitlines())]
    return {"images": len(files), "objects": dict(Counter(names[int(row)] for row in rows))}


def test_no_image_is_dropped(make: Make, read: Reader, photographs: Path, dota: Path) -> None:
    roots = {"": photographs, "dota": dota}
    targets = {
        way: make(roots.get(folder, SAMPLE / folder), *words, "--to", "yolo", "--task", task)
        for way, (folder, task, words) in WAYS.items()
    }
    found = read("ultralytics_rows", *((target / "data.yaml", WAYS[way][1]) for way, target in targets.items()))
    for target, told in zip(targets.values(), found, strict=True):
        assert told["classes"] == list(yaml.safe_load((target / "data.yaml").read_text())["names"].values())
        assert told["splits"] == {split: rows_of(target, split) for split in ("train", "val")}
        assert all(split["images"] for split in told["splits"].values())


def test_ndjson_is_taken_by_the_shipped_converter(make: Make, read: Reader, dota: Path, tmp_path: Path) -> None:
    """The same rows, in the same order, as the YOLO layout has; the dataset that it makes is one to train on."""
    ways = [way for way in WAYS if way.startswith("yolo-") or way == "dota-obb"]
    roots = {"dota": dota}
    made = {
        way: [make(roots.get(folder, SAMPLE / folder), *words, "--to", to, "--task", task) for to in ("ndjson", "yolo")]
        for way, (folder, task, words) in WAYS.items()
        if way in ways
    }
    found = read("ultralytics_ndjson", *((made[way][0] / "dataset.ndjson", tmp_path / way) for way in ways))
    for way, told in zip(ways, found, strict=True):
        yolo = made[way][1]
        data = yaml.safe_load((yolo / "data.yaml").read_text())
        assert told["classes"] == list(data["names"].values())
        assert (told.get("kpt_shape"), told.get("flip_idx")) == (data.get("kpt_shape"), data.get("flip_idx"))
        for split, labels in told["splits"].items():
            files = sorted((yolo / "labels" / split).rglob("*.txt"))
            assert labels == [[[*map(float, row.split())] for row in f.read_text().splitlines()] for f in files]
    rows = read("ultralytics_rows", *((told["yaml"], WAYS[way][1]) for way, told in zip(ways, found, strict=True)))
    for way, told in zip(ways, rows, strict=True):
        assert told["splits"] == {split: rows_of(made[way][1], split) for split in ("train", "val")}
    again = make(made["dota-obb"][0] / "dataset.ndjson", "--from", "ndjson", "--to", "yolo")
    for path in (made["dota-obb"][1] / "labels").rglob("*.txt"):
        assert (again / path.relative_to(made["dota-obb"][1])).read_bytes() == path.read_bytes()


def test_ndjson_of_addresses_fetches_its_images(read: Reader, tmp_path: Path) -> None:
    serve = partial(SimpleHTTPRequestHandler, directory=str(SAMPLE / "detect/images"))
    with serving(serve) as port:
        split = {
            name: {
                "labels": f"labels/{name}2017",
                "images": {"url": f"http://127.0.0.1:{port}/{name}2017", "suffix": ".png"},
            }
            for name in ("train", "val")
        }
        data = {
            "source": {"root": str(SAMPLE / "detect"), "names": str(PROJECT / "conf/coco.yaml"), "splits": split},
            "classes": ["bicycle", "car"],
            "select": {"exclude_images": str(write_file(tmp_path / "capitals.txt", "000000700127\n"))},
            "target": {"root": str(tmp_path / "file"), "format": "ndjson", "images": "none"},
            "workdir": str(tmp_path / "work"),
        }
        told = run_process("build", write_file(tmp_path / "c.yaml", yaml.safe_dump(data)))
        assert told.code == 0, told.err
        (found,) = read("ultralytics_ndjson", (tmp_path / "file/dataset.ndjson", tmp_path / "made"))
    assert found["classes"] == ["bicycle", "car"]
    assert all(labels and all(labels) for labels in found["splits"].values())


def test_a_zip_by_path_and_by_address(read: Reader, tmp_path: Path) -> None:
    """What a trainer in a cloud is given: it unpacks the zip, and finds the one YAML with the name of the file."""
    data = {
        "source": {
            "root": str(SAMPLE / "detect"),
            "names": str(PROJECT / "conf/coco.yaml"),
            "splits": {"train": "train2017", "val": "val2017"},
        },
        "classes": ["bicycle", "car"],
        "workdir": str(tmp_path / "work"),
    }
    for name, more in (("folder", {}), ("packed", {"archive": "zip"}), ("served", {"archive": "zip"})):
        data["target"] = {"root": str(tmp_path / name), **more}
        told = run_process("build", write_file(tmp_path / "c.yaml", yaml.safe_dump(data)))
        assert told.code == 0, told.err
    (packed,), (served,) = (tmp_path / "packed").glob("*.zip"), (tmp_path / "served").glob("*.zip")
    serve = partial(SimpleHTTPRequestHandler, directory=str(served.parent))
    with serving(serve) as port:
        found = read("ultralytics_rows", (packed, "detect"), (f"http://127.0.0.1:{port}/{served.name}", "detect"))
    for told_of in found:
        assert told_of["classes"] == ["bicycle", "car"]
        assert told_of["splits"] == {split: rows_of(tmp_path / "folder", split) for split in ("train", "val")}


def test_an_epoch_of_each_task(make: Make, read: Reader, dota: Path, tmp_path: Path) -> None:
    targets = {
        task: make(SAMPLE / WAYS[f"yolo-{task}"][0], *WAYS[f"yolo-{task}"][2], "--to", "yolo", "--task", task)
        for task in ("detect", "segment", "pose")
    }
    targets["obb"] = make(dota, *WAYS["dota-obb"][2], "--to", "yolo", "--task", "obb")
    found = read("ultralytics_train", *((targets[t] / "data.yaml", MODELS[t], tmp_path / t) for t in MODELS))
    for task, told in zip(MODELS, found, strict=True):
        assert told["images"] == [rows_of(targets[task], "train")["images"]]
        assert list((tmp_path / task).rglob("last.pt"))


def test_a_stale_cache_of_an_older_release(read: Reader, tmp_path: Path) -> None:
    """Two classes change places: paths and sizes of the labels stay. Where the cache stays too, training goes wrong."""
    targets = [tmp_path / "ours", tmp_path / "put back"]
    yamls = [(target / "data.yaml", "train") for target in targets]

    def build(classes: list[str]) -> None:
        for target in targets:
            data = {
                "source": {
                    "root": str(SAMPLE / "detect"),
                    "names": str(PROJECT / "conf/coco.yaml"),
                    "splits": {"train": "train2017", "val": "val2017"},
                },
                "classes": classes,
                "target": {"root": str(target)},
                "workdir": str(tmp_path / "work"),
            }
            told = run_process("build", write_file(tmp_path / "c.yaml", yaml.safe_dump(data)))
            assert told.code == 0, told.err

    build(["bicycle", "car"])
    before = read("older_ultralytics_labels", *yamls, beside="older")
    caches = [target / "labels/train.cache" for target in targets]
    kept = caches[1].read_bytes()
    build(["car", "bicycle"])
    assert [cache.exists() for cache in caches] == [False, False]
    caches[1].write_bytes(kept)
    ours, put_back = read("older_ultralytics_labels", *yamls, beside="older")
    swapped = {stem: [1 - c for c in numbers] for stem, numbers in before[0]["labels"].items()}
    assert ours["classes"] == put_back["classes"] == before[0]["classes"][::-1]
    assert (ours["labels"], put_back["labels"]) == (swapped, before[1]["labels"])
    assert swapped != before[0]["labels"]
