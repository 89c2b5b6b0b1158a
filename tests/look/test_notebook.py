"""In a notebook: frames, numbers, pictures; and the example notebook, run cell by cell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.base.errors import ConfigError, UnknownNameError, UsageError
from tests.conftest import Run, Subset

ROOT = Path(__file__).parents[2]


def test_frames_stats_and_pictures(wanted: Subset, tmp_path: Path) -> None:
    built = wanted.build("--set", "index.buckets=4")
    opened = pipeline.open_subset(str(wanted.target), str(tmp_path / "cache"))
    assert opened.classes == ("truck", "small", "person")
    images, objects = opened.images.compute(), opened.objects.compute()
    assert len(images) == sum(counts["images"] for counts in built["subset"].values())
    by_class = objects.groupby(["split", "class_name"]).size()
    for split, counts in built["subset"].items():
        assert {name: int(by_class.get((split, name), 0)) for name in opened.classes} == counts["objects"]
    table = opened.stats()
    assert table["train objects"].sum() == sum(built["subset"]["train"]["objects"].values())
    assert len(opened._repr_html_().encode()) <= 1_000_000
    assert "target" in repr(opened)
    with pytest.raises(UnknownNameError, match="small"):
        opened.show(class_="smal")
    with pytest.raises(UsageError, match=r"tset: is no split of .*, which has train, val"):
        opened.to_coco("tset")
    for same in (wanted.target, wanted.config, str(wanted.config), pipeline.load_config(wanted.config)):
        assert pipeline.open_subset(same, tmp_path / "cache").stats().equals(table)
    with pytest.raises(ConfigError, match="no such config"):
        pipeline.open_dataset(str(tmp_path / "nothing"))


def test_coco_is_what_a_build_writes(run: Run, tmp_path: Path) -> None:
    """The objects of a folder as COCO JSON are those that `convert` makes of it."""
    sample = ROOT / "tests/sample/labelme"
    run("convert", sample, tmp_path / "made", "--from", "labelme", "--to", "coco", "--workdir", tmp_path / "w")
    written = json.loads((tmp_path / "made/annotations/instances_train.json").read_text())
    found = pipeline.open_dataset(str(sample), str(tmp_path / "cache")).to_coco()
    place = {image["id"]: image["file_name"] for image in found["images"]}
    wanted = {image["id"]: image["file_name"] for image in written["images"]}

    def told(data: Any, names: dict[int, str]) -> list[Any]:
        keys = ("category_id", "bbox", "segmentation", "area", "iscrowd")
        return sorted(([names[a["image_id"]], *(a[k] for k in keys)] for a in data["annotations"]), key=repr)

    assert told(found, place) == told(written, wanted)
    assert [c["name"] for c in found["categories"]] == [c["name"] for c in written["categories"]]


def test_splits_of_coco_share_no_id(run: Run, tmp_path: Path) -> None:
    words = ("--from", "labelme", "--to", "coco", "--split", "0.5", "--workdir", tmp_path / "w")
    run("convert", ROOT / "tests/sample/labelme", tmp_path / "made", *words)
    found = pipeline.open_subset(str(tmp_path / "made"), str(tmp_path / "cache")).to_coco()
    for key in ("images", "annotations"):
        ids = [item["id"] for item in found[key]]
        assert len(ids) == len(set(ids)) > 0
    assert {a["image_id"] for a in found["annotations"]} <= {i["id"] for i in found["images"]}


def test_the_example_notebook_runs(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    target = tmp_path / "demo"
    run("build", "conf/demo.yaml", "--set", f"target.root={target}", "--set", f"workdir={tmp_path / 'work'}")
    cells = json.loads((ROOT / "conf/look.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert "build/demo" in code[0]
    names: dict[str, Any] = {}
    shown = []
    for text in code:
        *lines, last = text.replace("build/demo", str(target)).splitlines()
        exec("\n".join(lines), names)
        shown.append(eval(last, names))
    assert shown[0].classes == ("bicycle", "vehicle")
    assert shown[2].size[0] > 300
    assert len(shown[3]) > 0
    assert shown[4]["annotations"] == 5


def test_bars_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys
    import types

    from pipeline.runtime.progress import Progress, _Bar

    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    step = Progress(io.StringIO(), quiet=False).open("look", 3)
    assert isinstance(step, _Bar)
    step.close()
