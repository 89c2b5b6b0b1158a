"""The COCO layout: what comes from COCO JSON stays as it was, ids that collide are counted anew, rows become pixels."""

from __future__ import annotations

import functools
import io
import itertools
import json
import runpy
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.geometry import masks
from tests.conftest import MakeSubset, Run, Subset
from tests.formats.test_coco import SQUARE, annotation, document, image
from tests.support.contracts import ExporterContract
from tests.support.helpers import contents, write_file


class TestCocoExporter(ExporterContract):
    name = "coco"


Make = Callable[..., Subset]


@functools.cache
def jpeg(width: int, height: int, turned: int = 1) -> bytes:
    """A photograph of that size, stored so that the EXIF orientation `turned` shows it right."""
    sink = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = turned
    Image.new("RGB", (width, height)).save(sink, "JPEG", exif=exif)
    return sink.getvalue()


@pytest.fixture
def make(tmp_path: Path, run: Run) -> Make:
    """A subset in the COCO layout: of COCO documents by source and split, or of sources spelled out."""

    numbers = itertools.count()

    def make_one(sources: Mapping[str, Mapping[str, Any]] | list[Any], classes: Any = None, **target: Any) -> Subset:
        root = tmp_path / str(next(numbers))
        entries = sources if isinstance(sources, list) else []
        for name, splits in sources.items() if not isinstance(sources, list) else ():
            for split, data in splits.items():
                text = data if isinstance(data, str) else json.dumps(data)
                write_file(root / f"{name}/{split}.json", text)
            entries.append(
                {
                    "name": name,
                    "format": "coco",
                    "root": str(root / name),
                    "splits": {split: {"annotations": f"{split}.json"} for split in splits},
                }
            )
        data = {
            "source": entries,
            "classes": classes,
            "workdir": str(root / "work"),
            "target": {"root": str(root / "out"), "format": "coco", "images": "none", **target},
        }
        return Subset(run, root, write_file(root / "c.yaml", yaml.safe_dump(data)), root / "out", root / "work")

    return make_one


def told(subset: Subset, split: str = "train", kind: str = "instances") -> dict[str, Any]:
    """The JSON of one split."""
    found: dict[str, Any] = json.loads((subset.target / f"annotations/{kind}_{split}.json").read_bytes())
    return found


TEXT = """{"info": {"year": 2017, "x": 1.50}, "version": 2.0,
 "licenses": [{"id": 4, "name": "CC"}],
 "images": [{"license":4,"file_name":"b.jpg","height":50,"width":100,"id":9007199254740992,"extra":1e3},
  {"license": 4, "file_name": "a.jpg", "height": 50, "width": 100, "id": 7}],
 "annotations": [
  {"segmentation":[[1.10,2,3,4,5,6.000]],"area":4.50,"iscrowd":0,"image_id":7,"bbox":[1,2,4,4.0],"category_id":44,"id":1768},
  {"id": 900100259690, "category_id": 3, "segmentation": {"counts": [0, 5000], "size": [50, 100]}, "iscrowd": 1,
   "image_id": 9007199254740992, "bbox": [0,0,100,50], "area": 5000, "note": {"category_id": 3, "id": [1]}},
  {"id": 5, "category_id": 1, "image_id": 7, "bbox": [0,0,1,1], "area": 1, "iscrowd": 0}],
 "categories": [{"id": 1, "name": "person"}, {"supercategory": "kitchen", "id": 44, "name": "bottle", "w": 1.0},
  {"id": 3, "name": "car", "supercategory": "vehicle"}]}"""


def test_what_is_kept_stays_as_it_was_written(make: Make) -> None:
    subset = make({"zoo": {"train": TEXT}}, ["car", "bottle"])
    subset.build()
    made = (subset.target / "annotations/instances_train.json").read_text()
    for kept in (
        '"year": 2017, "x": 1.50',
        '"version": 2.0',
        '{"id": 4, "name": "CC"}',
        "[[1.10,2,3,4,5,6.000]]",
        '"area":4.50',
        '"note": {"category_id": 3, "id": [1]}',
        '"extra":1e3',
        '"w":1.0',
    ):
        assert kept in made, kept
    assert '"bbox":[1,2,4,4.0],"category_id":2,"id":1768}' in made
    assert '{"id": 900100259690, "category_id": 1, "segmentation"' in made
    data = json.loads(made)
    assert [i["file_name"] for i in data["images"]] == ["a.jpg", "b.jpg"]
    assert [(c["id"], c["name"], c["supercategory"]) for c in data["categories"]] == [
        (1, "car", "vehicle"),
        (2, "bottle", "kitchen"),
    ]


def test_a_second_build_changes_nothing_and_another_order_only_the_files_of_all(make: Make) -> None:
    subset = make({"zoo": {"train": TEXT}}, ["car", "bottle"])
    subset.build()
    made = contents(subset.target)
    assert subset.build()["changes"] == 0
    assert subset.build("--set", "classes=[bottle, car]")["changes"] == 3  # the JSON, mmdetection.py and DATASET.md
    assert subset.build("--set", "classes=[car, bottle]", "--set", "index.buckets=5")["changes"] == 3
    assert contents(subset.target) == made
    assert subset.command("verify", "--deep").code == 0


@pytest.mark.parametrize(
    ("segmentation", "has"),
    [("[[1,1,4,1,4,4]]", True), ('{"counts": [1, 2, 13], "size": [4, 4]}', True), ("[]", False)],
)
def test_a_mask_model_is_where_there_are_outlines(make: Make, segmentation: str, has: bool) -> None:
    """A whole config of Python, whatever the splits are; what is not there is switched off."""
    text = (
        '{"images": [{"id": 1, "file_name": "a.jpg", "width": 4, "height": 4}], "categories": [{"id": 1, "name": "x"}],'
        f'"annotations": [{{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3], '
        f'"segmentation": {segmentation}, "area": 4, "iscrowd": 0}}]}}'
    )
    subset = make({"zoo": {"train": text}}, ["x"])
    subset.build()
    file = subset.target / "mask_rcnn.py"
    assert file.exists() == has
    if has:
        made = file.read_text()
        compile(made, str(file), "exec")
        assert "train_dataloader = dict(dataset=_base_.subset_train)" in made
        assert "val_dataloader = val_evaluator = val_cfg = None" in made


def test_ids_that_collide_are_counted_from_one(make: Make) -> None:
    first = document(annotation(1), annotation(2, image_id=4), images=[image(1), image(4, "d.jpg")])
    second = document(annotation(2), annotation(8), annotation("x"), images=[image(1)])
    subset = make({"a": {"train": first}, "b": {"train": second}}, ["car"])
    subset.build()
    data = told(subset)
    assert [(i["id"], i["file_name"]) for i in data["images"]] == [(1, "a/a.jpg"), (4, "a/d.jpg"), (2, "b/a.jpg")]
    assert [(o["id"], o["image_id"]) for o in data["annotations"]] == [(1, 1), (2, 4), (3, 2), (8, 2), (4, 2)]


def test_objects_without_ids_get_some(make: Make) -> None:
    bare = {k: v for k, v in annotation().items() if k != "id"}
    subset = make({"a": {"train": document(bare, annotation(1))}}, ["car"])
    subset.build()
    assert [o["id"] for o in told(subset)["annotations"]] == [2, 1]


def test_an_id_that_stands_twice_in_one_file_is_kept_once(make: Make) -> None:
    subset = make({"a": {"train": document(annotation(3), annotation(3, bbox=[0, 0, 5, 5]), annotation(1))}}, ["car"])
    subset.build()
    assert [(o["id"], o["bbox"][2]) for o in told(subset)["annotations"]] == [(3, 20), (2, 5), (1, 20)]


def test_licenses_of_all_sources_are_kept(make: Make) -> None:
    shared = {"id": 2, "name": "CC BY"}
    first = document(annotation(), licenses=[{"id": 1, "name": "mine"}, shared])
    second = document(annotation(), licenses=[{"id": 1, "name": "yours"}, shared])
    subset = make({"a": {"train": first, "val": first}, "b": {"train": second}}, ["car"])
    subset.build()
    assert [found["name"] for found in told(subset)["licenses"]] == ["mine", "CC BY", "yours"]


def test_captions_come_along(make: Make) -> None:
    subset = make({"zoo": {"train": document(annotation(), images=[image(), image(2, "b.jpg")])}}, ["car"])
    said = [{"image_id": n, "id": 10 - n, "caption": f"picture {n}"} for n in (2, 1, 3)]
    write_file(subset.source / "zoo/captions.json", json.dumps({"images": [], "annotations": said}))
    words = ("--set", f"source.0.splits.train.captions={subset.source}/zoo/captions.json")
    config = yaml.safe_load(subset.config.read_text())
    config["source"][0]["splits"]["train"]["captions"] = "captions.json"
    subset.config.write_text(yaml.safe_dump(config))
    del words
    subset.build()
    data = told(subset, kind="captions")
    assert data["annotations"] == [said[1]]
    assert [i["id"] for i in data["images"]] == [1]
    assert "categories" not in data


@pytest.mark.parametrize("turned", [1, 6])
def test_label_rows_become_pixels(make: Make, tmp_path: Path, turned: int) -> None:
    size = (100, 50) if turned == 1 else (50, 100)
    root = tmp_path / "yolo"
    write_file(root / "coco.yaml", "names: [car, person]\n")
    write_file(root / "labels/t/p.txt", "1 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6\n0 0.1 0.1 0.5 0.1 0.5 0.9\n")
    write_file(root / "images/t/p.jpg", jpeg(*size, turned))
    source = {"names": str(root / "coco.yaml"), "root": str(root), "task": "segment", "splits": {"train": "t"}}
    subset = make([source], ["person", "car"], images="copy")
    subset.build()
    data = told(subset)
    assert data["images"] == [{"id": 1, "file_name": "p.jpg", "width": 100, "height": 50}]
    first, second = data["annotations"]
    assert first == {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "segmentation": [SQUARE],
        "bbox": [10, 10, 20, 20],
        "area": masks.area(masks.of_polygon(np.array(SQUARE).reshape(-1, 2), 50, 100)),
        "iscrowd": 0,
    }
    assert (second["id"], second["category_id"], second["bbox"]) == (2, 2, [10, 5, 40, 40])
    assert (subset.target / "images/train/p.jpg").read_bytes() == jpeg(*size, turned)


def test_keypoints_of_rows(make: Make, tmp_path: Path) -> None:
    root = tmp_path / "yolo"
    write_file(root / "coco.yaml", "names: [person]\nkpt_shape: [2, 3]\nkpt_names: {0: [head, foot]}\n")
    write_file(root / "labels/t/p.txt", "0 0.2 0.4 0.2 0.4 0.15 0.5 2 0 0 0\n")
    write_file(root / "images/t/p.jpg", jpeg(100, 50))
    source = {"names": str(root / "coco.yaml"), "root": str(root), "task": "pose", "splits": {"train": "t"}}
    subset = make([source])
    subset.build()
    data = told(subset, kind="person_keypoints")
    (made,) = data["annotations"]
    assert (made["keypoints"], made["num_keypoints"]) == ([15, 25, 2, 0, 0, 0], 1)
    assert data["categories"][0]["keypoints"] == ["head", "foot"]


def test_an_image_that_is_none_stops_with_a_sentence(make: Make, tmp_path: Path) -> None:
    root = tmp_path / "yolo"
    write_file(root / "coco.yaml", "names: [person]\n")
    write_file(root / "labels/t/p.txt", "0 0.2 0.4 0.2 0.4\n")
    write_file(root / "images/t/p.jpg", b"no image")
    source = {"names": str(root / "coco.yaml"), "root": str(root), "splits": {"train": "t"}}
    error = make([source]).command("build", code=1).err
    assert f"{root}/images/t/p.jpg: is no image whose size can be read" in error


@pytest.mark.parametrize("yaml_", ["portable", "absolute"])
def test_the_lines_for_detectron2_register_each_split(
    make: Make, tmp_path: Path, yaml_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are run against a stand-in: detectron2 has no wheel. It takes what the real function takes."""
    seen: dict[str, tuple[dict[str, Any], Path, Path]] = {}

    def register_coco_instances(name: str, metadata: dict[str, Any], json_file: str, image_root: str) -> None:
        assert all(isinstance(value, str) for value in (name, json_file, image_root))
        assert name not in seen
        seen[name] = metadata, Path(json_file), Path(image_root)

    for module in ("detectron2", "detectron2.data", "detectron2.data.datasets"):
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    vars(sys.modules["detectron2.data.datasets"])["register_coco_instances"] = register_coco_instances
    root = tmp_path / "zoo"
    for split, name in (("train", "a.jpg"), ("val", "sub/b.jpg")):
        text = json.dumps(document(annotation(), images=[image(1, name)]))
        write_file(root / f"annotations/instances_{split}.json", text)
        write_file(root / split / name, jpeg(100, 50))
    source = {"format": "coco", "root": str(root), "splits": {"train": "train", "val": "val"}}
    subset = make([source], images="copy", root=str(tmp_path / "it's {mine}"), yaml=yaml_)
    subset.build()
    target = tmp_path / "it's {mine}"
    runpy.run_path(str(target / "detectron2_datasets.py"))
    assert list(seen) == ["it's {mine}_train", "it's {mine}_val"]
    for metadata, file, images in seen.values():
        assert metadata == {}
        data = json.loads(file.read_text())
        assert [c["id"] for c in data["categories"]] == list(range(1, len(data["categories"]) + 1))
        assert all((images / found["file_name"]).is_file() for found in data["images"])


def test_there_and_back_again(make: Make, make_subset: MakeSubset, shared: Path) -> None:
    """COCO JSON -> rows -> COCO JSON: boxes and polygons come back within the precision of six decimals."""
    data = shared / "data/coco"
    source = {
        "format": "coco",
        "task": "segment",
        "root": str(data),
        "splits": {"val": {"annotations": "annotations/instances_val2017.json"}},
    }
    rows = make_subset(data, source=source, classes=None, target={"root": "x", "images": "none"})
    rows.build("--set", f"target.root={rows.target}")
    sizes = {i["file_name"]: i for i in json.loads((data / "annotations/instances_val2017.json").read_text())["images"]}
    for path in (rows.target / "labels/val").iterdir():
        size = sizes[f"{path.stem}.jpg"]
        write_file(rows.target / f"images/val/{path.stem}.jpg", jpeg(size["width"], size["height"]))
    again = {
        "task": "segment",
        "names": str(rows.target / "data.yaml"),
        "root": str(rows.target),
        "splits": {"val": "val"},
    }
    back = make([again], None)
    back.build()
    before = json.loads((data / "annotations/instances_val2017.json").read_text())
    names = {c["id"]: c["name"] for c in before["categories"]}
    owners = {i["id"]: i["file_name"] for i in before["images"]}
    theirs = sorted([a for a in before["annotations"] if not a["iscrowd"]], key=lambda a: owners[a["image_id"]])
    made = told(back, "val")
    new_names = {c["id"]: c["name"] for c in made["categories"]}
    new_owners = {i["id"]: i["file_name"] for i in made["images"]}
    assert len(theirs) == len(made["annotations"]) > 600
    for a, b in zip(theirs, made["annotations"], strict=True):
        assert (names[a["category_id"]], owners[a["image_id"]]) == (
            new_names[b["category_id"]],
            new_owners[b["image_id"]],
        )
        if len(a["segmentation"]) == 1:
            assert np.allclose(a["segmentation"], b["segmentation"], atol=0.002)


KEYS = ("description", "url", "version", "year", "contributor", "date_created")


@pytest.mark.parametrize("info", ["{}", '{"year": 2017, "x": 1.50}', '{ "url":"u" }', None, "{\n}"])
def test_info_has_every_key_and_what_the_source_says(make: Make, info: str | None) -> None:
    data = json.loads(TEXT)
    text = json.dumps(data | {"info": None}).replace('"info": null', f'"info": {info}') if info else None
    if text is None:
        del data["info"]
        text = json.dumps(data)
    subset = make({"zoo": {"train": text}}, ["car", "bottle"])
    subset.build()
    made = told(subset)["info"]
    assert set(KEYS) <= set(made)
    assert {**made, **json.loads(info or "{}")} == made


def test_no_supercategory_is_another_class(make: Make) -> None:
    """A class without one is its own; `getCatIds(supNms=...)` of one class finds that class alone."""
    classes = [{"name": "vehicle", "from": ["bottle"]}, "car", "person"]
    subset = make({"zoo": {"train": TEXT}}, classes)
    subset.build()
    found = {c["name"]: c["supercategory"] for c in told(subset)["categories"]}
    assert found == {"vehicle": "kitchen", "car": "car", "person": "person"}
