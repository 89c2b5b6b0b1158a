"""A subset as one zip file: what is in it, and when it is made anew."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import CROWD_CONFIG, MakeSubset, Run
from tests.support.helpers import contents, write_file
from tests.support.proxy import Proxy, before_store


def only_zip(target: Path) -> Path:
    """The one file that is at the target."""
    (path,) = (p for p in target.iterdir() if p.name != ".coco-diy")
    assert path.suffix == ".zip"
    return path


def test_it_holds_the_subset(town: Path, make_subset: MakeSubset) -> None:
    folder = make_subset(town)
    packed = make_subset(town, "packed", target={"root": str(folder.target.with_name("packed")), "archive": "zip"})
    folder.build()
    told = packed.build()
    assert told["plan"]["write"] == {
        "label": {"files": 0, "bytes": 0},
        "image": {"files": 0, "bytes": 0},
        "meta": {"files": 1, "bytes": only_zip(packed.target).stat().st_size},
    }
    assert told["subset"] == folder.build()["subset"]
    path = only_zip(packed.target)
    assert path.stem.startswith("packed-")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {i.compress_type for i in archive.infolist()} == {zipfile.ZIP_STORED}
        found = {i.filename: archive.read(i) for i in archive.infolist()}
    # What Ultralytics looks for in a zip: one YAML at its root, with the name of the file.
    assert [n for n in found if n.endswith(".yaml")] == [f"{path.stem}.yaml"]
    assert yaml.safe_load(found[f"{path.stem}.yaml"])["train"] == "images/train"
    wanted = contents(folder.target)
    wanted[f"{path.stem}.yaml"] = wanted.pop("data.yaml")
    assert b"bicycle" in found.pop("DATASET.md")
    assert found == wanted


def test_the_same_bytes_however_it_is_made(crowd: Path, make_subset: MakeSubset, tmp_path: Path) -> None:
    made = []
    for number, (buckets, scheduler) in enumerate([(1, "sync"), (4, "threads")]):
        root = tmp_path / str(number) / "crowd"
        subset = make_subset(
            crowd,
            f"c{number}",
            **CROWD_CONFIG,
            target={"root": str(root), "archive": "zip"},
            index={"buckets": buckets},
        )
        subset.build("--scheduler", scheduler)
        made.append(only_zip(root))
    assert made[0].name == made[1].name
    assert made[0].read_bytes() == made[1].read_bytes()


def test_it_is_made_anew_only_when_it_differs(own_town: Path, make_subset: MakeSubset, run: Run) -> None:
    subset = make_subset(own_town)
    subset.build()
    packed = ("--set", "target.archive=zip")
    assert subset.plan(*packed)["plan"]["delete"]["label"]["files"]
    assert (subset.target / "data.yaml").exists()
    subset.build(*packed)  # a folder becomes a zip
    first = only_zip(subset.target)
    assert list(subset.workdir.rglob("*.zip")) == []
    inode = first.stat().st_ino
    assert subset.build(*packed)["status"] == "nothing to do"
    image = own_town / "images" / "train2017" / "a.jpg"
    image.write_bytes(image.read_bytes())  # touched, not changed: the same archive is kept
    subset.build(*packed)
    assert only_zip(subset.target).stat().st_ino == inode
    write_file(image, b"another picture")
    subset.build(*packed)
    second = only_zip(subset.target)
    assert second.name != first.name
    with zipfile.ZipFile(second) as archive:
        assert archive.read("images/train/a.jpg") == b"another picture"
    assert run("verify", subset.target, "--deep").code == 0
    data = bytearray(second.read_bytes())
    data[50] ^= 1
    second.write_bytes(data)
    assert "has other content" in run("verify", subset.target, "--deep", code=1).out
    subset.command("verify", "--deep", "--repair", *packed)
    with zipfile.ZipFile(second) as archive:
        assert archive.testzip() is None
    second.unlink()
    subset.build(*packed)
    assert only_zip(subset.target) == second
    subset.build()  # and back
    assert (subset.target / "data.yaml").exists()
    assert not list(subset.target.glob("*.zip"))


@pytest.mark.parametrize(
    ("key", "clause"),
    [
        ("images=hardlink", "a zip is not made with images: hardlink; set it to copy"),
        ("yaml=absolute", "a zip is not made with yaml: absolute; set it to portable"),
        ("format=coco", "a zip is not made with format: coco; set it to yolo"),
    ],
)
def test_what_does_not_go_together(town: Path, make_subset: MakeSubset, key: str, clause: str) -> None:
    subset = make_subset(town, target={"root": "x", "archive": "zip"})
    assert clause in subset.command("build", "--set", f"target.{key}", code=2).err


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Before an S3 store, which the options of the test lead to."""
    with before_store(tmp_path, monkeypatch) as found:
        yield found


def test_a_zip_in_a_store(
    proxy: Proxy, town: Path, make_subset: MakeSubset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.storage.stores import object_requests
    from pipeline.storage.stores.object_store import ObjectClient

    monkeypatch.setattr(ObjectClient, "LARGE", 2 << 20)
    monkeypatch.setattr(object_requests, "_PART", 5 << 20)
    source = shutil.copytree(town, tmp_path / "town")
    (source / "images/train2017/a.jpg").write_bytes(os.urandom(12 << 20))
    subset = make_subset(source, target={"root": "s3://bucket/zips/mine", "archive": "zip"})
    subset.build()
    folder = tmp_path / "s3/data/bucket/zips/mine"
    first = only_zip(folder)
    assert first.stem.startswith("mine-")
    parts = [r.sent for r in proxy.requests if r.method == "PUT" and "uploadId" in r.query]
    assert sorted(parts)[1:] == [5 << 20, 5 << 20]
    assert subset.build()["status"] == "nothing to do"
    assert subset.run("verify", "s3://bucket/zips/mine", "--deep").code == 0
    local = make_subset(source, "local", target={"root": str(tmp_path / "mine"), "archive": "zip"})
    local.build()
    assert first.name == only_zip(tmp_path / "mine").name
    assert first.read_bytes() == only_zip(tmp_path / "mine").read_bytes()

    seen: set[int] = set()
    proxy.fault = lambda _method, _path, _time: seen.add(len(list(folder.glob("mine-*.zip"))))
    subset.build("--set", "classes=[car]")
    assert only_zip(folder) != first
    assert seen == {1, 2}  # a reader finds one at any time
    subset.build()
    assert only_zip(folder) == first


def test_a_zip_is_there_at_any_time(own_town: Path, make_subset: MakeSubset, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.storage import LocalFolder

    subset = make_subset(own_town, target={"root": str(own_town.parent / "mine"), "archive": "zip"})
    subset.build()
    target = own_town.parent / "mine"
    seen: set[int] = set()
    for verb in ("delete_many", "copy_many", "write_many", "sync"):
        had = getattr(LocalFolder, verb)

        def watched(*args: Any, had: Any = had, **more: Any) -> Any:
            found = had(*args, **more)
            seen.add(len(list(target.glob("*.zip"))))
            return found

        monkeypatch.setattr(LocalFolder, verb, watched)
    subset.build("--set", "classes=[car]")
    assert seen == {1, 2}
