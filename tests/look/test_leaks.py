"""`coco-diy verify --leaks`: images that are in two splits or sources, however they were stored."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from pipeline.images import hashes
from tests.conftest import Run
from tests.support.helpers import settle, write_file
from tests.support.images import encoded, photograph

WHITE = encoded(Image.new("RGB", (64, 48), "white"))

#: The same picture, smaller and in another format; a part of it; and another picture of one brightness.
SMALLER = encoded(photograph(1).resize((160, 120)), "PNG")
PART = encoded(photograph(1).crop((60, 40, 320, 240)))
GREY = encoded(Image.new("RGB", (80, 60), "grey"))

#: By path: a pair that is near, one that is equal, others that are neither; one image that cannot be decoded.
IMAGES = {
    "train/a.jpg": encoded(photograph(1)),
    "train/b.jpg": encoded(photograph(2)),
    "train/b2.jpg": encoded(photograph(2)),
    "train/white.jpg": WHITE,
    "train/bad.jpg": encoded(photograph(3))[:3000],
    "val/other.png": SMALLER,
    "val/part.jpg": PART,
    "val/same.jpg": encoded(photograph(2)),
    "val/grey.jpg": GREY,
}


def make_folder(root: Path, images: dict[str, bytes] = IMAGES) -> Path:
    """A YOLO folder of `images`, each with one object."""
    for path, data in images.items():
        write_file(root / "images" / path, data)
        write_file(root / "labels" / Path(path).with_suffix(".txt"), "0 0.5 0.5 0.2 0.2\n")
    write_file(root / "data.yaml", "names: [cat]\ntrain: images/train\nval: images/val\n")
    return root


def make_config(folder: Path, *sources: Path, **keys: Any) -> Path:
    """A config of some folders, with its target and workdir in `folder`."""
    several = [
        {
            "name": root.name,
            "root": str(root),
            "names": str(root / "data.yaml"),
            "splits": {s: s for s in ("train", "val")},
        }
        for root in sources
    ]
    data = {
        "source": several if len(several) > 1 else several[0],
        "target": {"root": str(folder / "out"), **keys.pop("target", {})},
        "workdir": str(folder / "work"),
        **keys,
    }
    return write_file(folder / "config.yaml", yaml.safe_dump(data))


def pairs(found: dict[str, Any], root: Path) -> list[tuple[str, str, bool]]:
    return [
        (str(Path(p["first"]).relative_to(root)), str(Path(p["second"]).relative_to(root)), p["equal"])
        for p in found["listed"]
    ]


#: Of `IMAGES`.
EXPECTED = [
    ("train/b.jpg", "val/same.jpg", True),
    ("train/b2.jpg", "val/same.jpg", True),
    ("train/a.jpg", "val/other.png", False),
]


def test_a_folder(tmp_path: Path, run: Run) -> None:
    root = make_folder(tmp_path / "in")
    found = run("verify", root, "--leaks", "--json", code=1).json["leaks"]
    assert pairs(found, root / "images") == EXPECTED
    numbers = {key: found[key] for key in ("of", "images", "damaged", "unread", "equal", "near")}
    assert numbers == {"of": "folder", "images": 9, "damaged": 1, "unread": 0, "equal": 2, "near": 1}
    sources = found["between"][0]["sources"]
    assert found["between"] == [{"splits": ["train", "val"], "sources": sources, "equal": 2, "near": 1}]
    assert all(pair["splits"] == ["train", "val"] and pair["distance"] <= 3 for pair in found["listed"])


@pytest.mark.slow
def test_what_is_printed(tmp_path: Path, run: Run) -> None:
    root = make_folder(tmp_path / "in")
    told = run("verify", root, "--leaks", code=1)
    lines = told.out.splitlines()
    at = f"{root}/images"
    assert f"{at}/train/b.jpg (train) and {at}/val/same.jpg (val): equal, byte for byte" in lines
    assert any(line.startswith(f"{at}/train/a.jpg (train) and {at}/val/other.png (val): near, ") for line in lines)
    assert lines[-1] == (
        "3 pairs of images in two splits (2 equal, 1 near): 9 images compared, "
        "1 of them, which cannot be decoded, by content alone."
    )
    quiet = run("verify", root, "--leaks", "-q", code=1)
    assert lines[-1] in quiet.err


def test_without_leaks_all_is_well(tmp_path: Path, run: Run) -> None:
    root = make_folder(
        tmp_path / "in",
        {path: IMAGES[path] for path in ("train/a.jpg", "train/white.jpg", "val/part.jpg", "val/grey.jpg")},
    )
    told = run("verify", root, "--leaks")
    assert told.out.splitlines()[-1] == "No image is in two splits or sources: 4 images compared."
    assert "leaks" not in run("verify", root, "--json").json


@pytest.mark.slow
@pytest.mark.parametrize("images", ["copy", "symlink", "none"])
def test_a_config_before_and_after_its_build_and_its_target(tmp_path: Path, run: Run, images: str) -> None:
    """The images are those of the target, where it has any, and of the source until then."""
    root = make_folder(tmp_path / "in")
    config = make_config(tmp_path, root, target={"images": images}, on_error="skip")
    before = run("verify", config, "--leaks", "--json", code=1).json
    assert before["of"] == "config"
    assert pairs(before["leaks"], root / "images") == EXPECTED
    assert run("verify", config, "--leaks", code=1).out.startswith(f"{root}/images/train/b.jpg (train) and ")
    run("build", config, code=None)
    where = root if images == "none" else tmp_path / "out"
    for what in (config, tmp_path / "out"):
        found = run("verify", what, "--leaks", "--json", code=1).json
        assert found["differences"] == {}
        assert pairs(found["leaks"], where / "images") == EXPECTED
    if images == "copy":
        shutil.rmtree(root)  # a target is a dataset of its own
        assert pairs(run("verify", tmp_path / "out", "--leaks", "--json", code=1).json["leaks"], where / "images")


def test_two_sources(tmp_path: Path, run: Run) -> None:
    """An image of both is reported, whatever its split; before the build by source folder, and at the target."""
    coco = make_folder(tmp_path / "coco", {"train/a.jpg": IMAGES["train/a.jpg"], "val/w.jpg": WHITE})
    voc = make_folder(tmp_path / "voc", {"train/x.png": SMALLER, "val/b.jpg": IMAGES["train/b.jpg"]})
    config = make_config(tmp_path, coco, voc)
    before = run("verify", config, "--leaks", "--json", code=1).json["leaks"]
    assert before["between"] == [{"splits": ["train", "train"], "sources": ["coco", "voc"], "equal": 0, "near": 1}]
    assert pairs(before, tmp_path) == [("coco/images/train/a.jpg", "voc/images/train/x.png", False)]
    run("build", config)
    after = run("verify", config, "--leaks", "--json", code=1).json["leaks"]
    assert after["between"] == before["between"]
    assert pairs(after, tmp_path / "out/images") == [("train/coco/a.jpg", "train/voc/x.png", False)]
    printed = run("verify", tmp_path / "out", "--leaks", code=1).out
    assert "a.jpg (coco train) and " in printed
    assert "1 pair of images in two splits or sources (0 equal, 1 near)" in printed


def test_images_are_decoded_once(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder(tmp_path / "in")
    config = make_config(tmp_path, root, on_error="skip")
    settle()
    first = run("verify", config, "--leaks", "--json", code=1).json["leaks"]

    def refuse(_: bytes) -> int:
        raise AssertionError("an image is decoded again")

    monkeypatch.setattr(hashes, "difference_hash", refuse)
    assert run("verify", config, "--leaks", "--json", code=1).json["leaks"] == first


def test_one_file_in_two_splits(tmp_path: Path, run: Run) -> None:
    """Image lists may name a file twice."""
    root = make_folder(tmp_path / "in", {"train/a.jpg": IMAGES["train/a.jpg"]})
    for split in ("train", "val"):
        write_file(root / f"{split}.txt", "images/train/a.jpg\n")
    config = make_config(tmp_path, root)
    lists = {
        split: {"labels": "labels/train", "images": "images/train", "image_list": f"{split}.txt"}
        for split in ("train", "val")
    }
    override = f"source.splits={yaml.safe_dump(lists, default_flow_style=True, width=10_000)}"
    found = run("verify", config, "--leaks", "--json", "--set", override, code=1).json["leaks"]
    assert [(pair["first"], pair["splits"], pair["equal"]) for pair in found["listed"]] == [
        (str(root / "images/train/a.jpg"), ["train", "val"], True)
    ]
