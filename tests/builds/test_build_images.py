"""Images: how they get there, which belong, and what is no pair with a label."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage.local import folders
from pipeline.storage.local.folders import _sync_disk
from tests.builds.test_build import BUILT
from tests.builds.test_demo import SAMPLE
from tests.conftest import MakeSubset, Subset
from tests.support.helpers import (
    contents,
    make_tree,
    outside,
    picture,
    run_process,
    snapshot,
    without_digest,
    write_file,
)

BOX = "1 0.5 0.5 0.1 0.1\n"
#: `IMG_FORMATS` of Ultralytics 8.4.
SUFFIXES = ("avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp")
PICTURE = "images/train/sub/e.jpeg"


def images(how: str) -> tuple[str, str]:
    return ("--set", f"target.images={how}")


def check_images(subset: Subset, how: str) -> None:
    """All files are as they must be, and each image is there in the way that `how` says."""
    expected = {p: c for p, c in BUILT.items() if how != "none" or not p.startswith("images")}
    assert without_digest(contents(subset.target)) == without_digest(expected)
    for path in (p for p in expected if p.startswith("images")):
        made = subset.target / path
        source = subset.source / path.replace("train/", "train2017/").replace("val/", "val2017/")
        assert made.is_symlink() == (how == "symlink"), path
        if how == "symlink":
            assert made.readlink() == source
        else:
            assert (made.stat().st_ino == source.stat().st_ino) == (how == "hardlink"), path


#: Every change from one way to another is in it.
WAYS = [
    "copy",
    "hardlink",
    "copy",
    "symlink",
    "copy",
    "none",
    "hardlink",
    "symlink",
    "hardlink",
    "none",
    "symlink",
    "none",
    "copy",
]


@pytest.mark.slow
def test_ways_and_changes_between_them(own_subset: Subset) -> None:
    source = snapshot(own_subset.source, links=True)
    for how in WAYS:
        told = own_subset.build(*images(how))
        check_images(own_subset, how)
        assert any("happens to the source" in w for w in told["warnings"]) == (how in ("hardlink", "symlink"))
    assert snapshot(own_subset.source, links=True) == source
    assert not list(own_subset.target.rglob(".coco-diy-*"))


@pytest.mark.parametrize("how", ["copy", "hardlink", "symlink", "none"])
def test_a_second_build_does_nothing_either_way(own_subset: Subset, how: str) -> None:
    own_subset.build(*images(how))
    before = outside(snapshot(own_subset.target))
    assert own_subset.build(*images(how))["status"] == "nothing to do"
    assert own_subset.plan(*images(how))["changes"] == 0
    assert outside(snapshot(own_subset.target)) == before


@pytest.mark.parametrize("how", ["copy", "hardlink", "symlink"])
def test_one_more_image_is_one_more_copy(own_subset: Subset, how: str) -> None:
    own_subset.build(*images(how))
    write_file(own_subset.source / "labels/train2017/new.txt", BOX)
    write_file(own_subset.source / "images/train2017/new.jpg", "new")
    told = own_subset.build(*images(how))
    assert told["plan"]["copy"]["image"] == {"files": 1, "bytes": 3}
    assert told["plan"]["keep"]["image"]["files"] == 7
    assert (own_subset.target / "images/train/new.jpg").read_bytes() == b"new"


@pytest.mark.parametrize("how", ["copy", "hardlink", "symlink"])
def test_a_changed_image_is_taken_anew(own_subset: Subset, how: str) -> None:
    """Also when it changes again right away: what is young is not trusted."""
    own_subset.build(*images(how))
    for content in ("another picture", "another one, the same", "third"):
        source = own_subset.source / "images/train2017/sub/e.jpeg"
        source.unlink()
        write_file(source, content)
        own_subset.build(*images(how))
        assert (own_subset.target / PICTURE).read_bytes() == content.encode()


def test_a_moved_source_is_linked_where_it_is_now(own_subset: Subset, make_subset: MakeSubset) -> None:
    own_subset.build(*images("symlink"))
    moved = own_subset.source.rename(own_subset.source.with_name("moved"))
    after = make_subset(moved)
    after.build(*images("symlink"))
    check_images(after, "symlink")


def test_lost_files_of_the_target_come_back(subset: Subset) -> None:
    subset.build()
    for path in ("labels/val/v.txt", PICTURE, "data.yaml"):
        (subset.target / path).unlink()
    told = subset.build()
    assert told["changes"] == 3
    assert contents(subset.target) == BUILT


@pytest.mark.parametrize("upper", [False, True])
def test_every_suffix_in_any_case(tmp_path: Path, make_subset: MakeSubset, upper: bool) -> None:
    names = [f"{s}.{s.upper() if upper else s}" for s in SUFFIXES]
    others = ("jpg.txt", "png.npy", "x.gif", "x.svg", "x.pfm", "jpg", "x.jpg.part", "x.cache", "x.json")
    source = make_tree(
        tmp_path / "src",
        {"train2017": dict.fromkeys(SUFFIXES, BOX), "val2017": {"v": BOX}},
        {"train2017": (*names, *others), "val2017": ("v.jpg",)},
    )
    subset = make_subset(source)
    told = subset.build()
    found = {p.split("/")[-1] for p in contents(subset.target) if p.startswith("images/train/")}
    assert found == set(names)
    assert told["source"]["train"]["images"] == len(SUFFIXES)


@pytest.fixture
def doubled(own_subset: Subset) -> Subset:
    """A subset where two stems have several images, one of them of an image that is wanted."""
    for name in ("train2017/a.webp", "train2017/a.BMP", "val2017/w.png"):
        write_file(own_subset.source / "images" / name, "another")
    return own_subset


def test_two_images_of_one_stem_stop_the_build(doubled: Subset) -> None:
    told = doubled.command("build", code=1)
    assert f"{doubled.source}/images/train2017/a.jpg" in told.err
    assert "a.BMP, a.webp" in told.err
    assert "on_error=skip" in told.err
    assert contents(doubled.target) == {}
    # The other pair has no object of these classes: it is in nobody's way, but counted.
    assert doubled.plan(code=1)["problems"] == {"many_images": 1}
    assert doubled.command("index", "--json").json["source"]["val"]["many_images"] == 1


def test_two_images_of_one_stem_the_first_is_taken(doubled: Subset) -> None:
    told = doubled.build("--set", "on_error=skip", code=3)
    assert told["ok"] is False
    assert contents(doubled.target) == BUILT
    assert any("with several" in w for w in told["warnings"])
    again = doubled.build("--set", "on_error=skip", code=3)
    assert (again["status"], again["problems"]) == ("nothing to do", {"many_images": 1})


def test_a_label_without_image(own_subset: Subset) -> None:
    (own_subset.source / "images/val2017/v.jpg").unlink()
    told = own_subset.command("build", code=1)
    assert f"{own_subset.source}/images/val2017/v" in told.err
    assert "v.txt has no image" in told.err
    assert contents(own_subset.target) == {}
    built = own_subset.build("--set", "on_error=skip", code=3)
    expected = {p: c for p, c in BUILT.items() if p not in ("labels/val/v.txt", "images/val/v.jpg")}
    assert without_digest(contents(own_subset.target)) == without_digest(expected)
    assert +Counter(built["rows"]) == {"source": 19, "kept": 7, "other_classes": 10, "without_image": 2}
    assert +Counter(built["images"]) == {"source": 12, "kept": 6, "other_classes": 3, "background": 2, "no_image": 1}
    assert built["problems"] == {"no_image": 1}
    assert built["source"]["val"]["no_image"] == 1
    # Labels alone need no image.
    assert own_subset.build(*images("none"))["rows"]["kept"] == 9


def test_an_image_that_goes_while_nobody_looks(own_subset: Subset) -> None:
    own_subset.build()
    (own_subset.source / "images/val2017/v.jpg").unlink()
    assert own_subset.build("--set", "on_error=skip", code=3)["plan"]["delete"]["image"]["files"] == 1
    assert not (own_subset.target / "labels/val/v.txt").exists()


BACKGROUNDS: dict[str, set[str]] = {
    "none": set(),
    "unlabelled": {"train/empty.jpg", "train/unlabelled.jpg"},
    "all": {"train/empty.jpg", "train/unlabelled.jpg", "train/only_person.jpg", "train/sub/deep/f.bmp", "val/w.jpg"},
}


@pytest.mark.parametrize("which", BACKGROUNDS)
def test_backgrounds(subset: Subset, which: str) -> None:
    told = subset.build("--set", f"select.backgrounds={which}")
    expected = dict(BUILT)
    for path in BACKGROUNDS[which]:
        expected[f"images/{path}"] = picture(path.replace("/", "2017/", 1))
        expected[f"labels/{path.rpartition('.')[0]}.txt"] = b""
    assert without_digest(contents(subset.target)) == without_digest(expected)
    assert sum(s["backgrounds"] for s in told["subset"].values()) == len(BACKGROUNDS[which])


def test_backgrounds_of_labels_alone(subset: Subset) -> None:
    """Without copies an image still says that its empty label file belongs."""
    subset.build("--set", "select.backgrounds=unlabelled", *images("none"))
    labels = {p for p, c in contents(subset.target).items() if c == b""}
    assert labels == {"labels/train/empty.txt", "labels/train/unlabelled.txt"}


STEMS = [
    "a b",
    "ünï",
    "-dash",
    "a.b.c",
    "back\\slash",
    "quo'te\"",
    "line\nbreak",
    "tab\there",
    "%2F",
    "日本",
    "#x",
    "~",
    "a.txt",
    "a.jpg",
]


def test_any_name_is_taken_as_it_is(tmp_path: Path, make_subset: MakeSubset) -> None:
    stems = [*STEMS, *(f"in {stem}/{stem}" for stem in STEMS[:-2])]
    labels = {stem: f"1 0.5 0.5 0.1 0.{number}1\n" for number, stem in enumerate(stems)}
    labels["stays"] = "2 0.5 0.5 0.1 0.1\n"
    source = make_tree(
        tmp_path / "src",
        {"train2017": labels, "val2017": {}},
        {"train2017": tuple(f"{stem}.jpg" for stem in labels), "val2017": ()},
    )
    subset = make_subset(source)
    subset.build("--set", "index.buckets=3")
    expected = {f"labels/train/{stem}.txt": f"{int(row[0]) - 1}{row[1:]}".encode() for stem, row in labels.items()}
    expected |= {f"images/train/{stem}.jpg": picture(f"train2017/{stem}.jpg") for stem in labels}
    made = contents(subset.target)
    del made["data.yaml"]
    assert made == expected
    subset.build("--set", "classes=[car]", "--set", "index.buckets=3")
    assert set(contents(subset.target)) == {"data.yaml", "labels/train/stays.txt", "images/train/stays.jpg"}


@pytest.mark.parametrize("folder", ["images", "images/train", "labels"])
def test_a_folder_of_the_target_on_another_disk(
    own_subset: Subset, folder: str, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People put images on the big disk and leave a link in their place."""
    (own_subset.target / folder).parent.mkdir(parents=True)
    os.symlink(other_disk, own_subset.target / folder)
    synced = []
    sync_disk = _sync_disk

    def sync(place: str) -> None:
        synced.append(os.stat(place).st_dev)
        sync_disk(place)

    monkeypatch.setattr(folders, "_sync_disk", sync)
    own_subset.build()
    assert {other_disk.stat().st_dev, own_subset.target.stat().st_dev} <= set(synced)
    assert contents_of_links(own_subset.target) == BUILT
    assert any(other_disk.rglob("*.*"))
    own_subset.build("--set", "classes=[car, bicycle]")
    assert own_subset.build("--set", "classes=[car, bicycle]")["status"] == "nothing to do"
    own_subset.build()
    assert contents_of_links(own_subset.target) == BUILT


def contents_of_links(root: Path) -> dict[str, bytes]:
    """`contents`, through folders that are links as well."""
    return {
        os.path.relpath(os.path.join(folder, name), root): Path(folder, name).read_bytes()
        for folder, _, names in os.walk(root, followlinks=True)
        for name in names
        if ".coco-diy" not in folder and name != "DATASET.md"
    }


def test_a_link_in_the_source_is_the_file_it_leads_to(own_subset: Subset, tmp_path: Path) -> None:
    image = own_subset.source / "images/train2017/sub/e.jpeg"
    image.unlink()
    real = next(SAMPLE.rglob("*.png")).read_bytes()  # what is no image is refused
    os.symlink(write_file(tmp_path / "store/e.jpeg", real), image)
    own_subset.build()
    made = own_subset.target / PICTURE
    assert (made.is_symlink(), made.read_bytes()) == (False, real)


def test_a_link_to_the_folder_above_adds_nothing(own_subset: Subset) -> None:
    for kind in ("labels", "images"):
        os.symlink(own_subset.source / kind / "train2017", own_subset.source / kind / "train2017" / "again")
    own_subset.build()
    assert contents(own_subset.target) == BUILT


def test_a_source_without_an_images_folder(tmp_path: Path, make_subset: MakeSubset) -> None:
    subset = make_subset(make_tree(tmp_path / "src", {"train2017": {"a": BOX}, "val2017": {"v": BOX}}, {}))
    assert "has no images folder" in subset.command("build", code=2).err
    subset.build(*images("none"))
    assert set(contents(subset.target)) == {"labels/train/a.txt", "labels/val/v.txt", "data.yaml"}


@pytest.mark.parametrize("labels", [{}, {"a": ""}, {"a": "\n\n"}, {"a": "0 0.5 0.5 0.1 0.1\n"}], ids=str)
def test_a_subset_without_any_image(tmp_path: Path, make_subset: MakeSubset, labels: dict[str, Any]) -> None:
    source = make_tree(tmp_path / "src", {"train2017": labels, "val2017": {}}, {"train2017": ("a.jpg",), "val2017": ()})
    subset = make_subset(source)
    told = subset.command("build", code=1).err
    cause = "has no object of these classes" if labels.get("a", "").startswith("0") else "has no object of any class"
    assert "the subset would be empty: the source " + ("has no label file" if not labels else cause) in told
    assert not subset.target.exists()
    planned = subset.plan(code=1)
    assert [w for w in planned["warnings"] if w.endswith("a build would stop there")]
    built = subset.build("--set", "select.backgrounds=all")
    assert built["images"]["kept"] == 1


def test_hard_links_do_not_cross_file_systems(own_subset: Subset, other_disk: Path) -> None:
    target = other_disk / "target"
    told = run_process(
        "build", own_subset.config, "--set", f"target.root={target}", *images("hardlink"), "--scheduler", "sync"
    )
    assert (told.code, told.out) == (1, "")
    assert "another file system; set target.images to copy or symlink" in told.err
    assert run_process("build", own_subset.config, "--set", f"target.root={target}").code == 0
    assert contents(target) == BUILT
