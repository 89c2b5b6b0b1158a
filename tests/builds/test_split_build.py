"""Splits that a build deals out anew: by hash, by group, stratified and remembered."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeSubset, Subset
from tests.formats.test_labelme import jpeg
from tests.support.helpers import contents, make_tree, settle, snapshot, write_file

CLASSES = ("person", "bicycle", "car")


@pytest.fixture(scope="module")
def cams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images of twelve cameras; each camera sees one class alone, and rarely a second."""
    labels: dict[str, dict[str, bytes | str]] = {"train2017": {}, "val2017": {}}
    for i in range(60):
        cam = i % 12
        rows = f"{cam % 3} 0.5 0.5 0.1 0.1\n" + ("1 0.2 0.2 0.1 0.1\n" if i % 7 == 0 else "")
        labels["val2017" if i % 5 == 0 else "train2017"][f"cam{cam:02d}_{i:03d}"] = rows
    images = {split: tuple(f"{stem}.jpg" for stem in files) for split, files in labels.items()}
    root = make_tree(tmp_path_factory.mktemp("cams") / "cams", labels, images, CLASSES)
    settle()
    return root


def _make(make_subset: MakeSubset, source: Path, name: str = "subset", /, **split: Any) -> Subset:
    return make_subset(source, name, classes=list(CLASSES), split=split)


def _sides(subset: Subset) -> dict[str, str]:
    """The split of each image; its label is on the same side."""
    found = {p.rpartition("/")[2].split(".")[0]: p.split("/")[1] for p in contents(subset.target) if "images/" in p}
    labels = {p.rpartition("/")[2].split(".")[0]: p.split("/")[1] for p in contents(subset.target) if "labels/" in p}
    assert found == labels
    return found


def test_every_image_is_assigned_once_and_nothing_is_left_to_do(cams: Path, make_subset: MakeSubset) -> None:
    subset = _make(make_subset, cams, train=0.7, val=0.2, test=0.1, seed=3)
    told = subset.build()
    sides = _sides(subset)
    assert len(sides) == 60
    assert Counter(sides.values()) == {s: c["images"] for s, c in told["subset"].items()}
    assert told["split"]["images"] == {s: round(n / 60, 6) for s, n in Counter(sides.values()).items()}
    assert "test: images/test" in (subset.target / "data.yaml").read_text()
    assert "Nothing to do" in subset.command("build").out
    again = _make(make_subset, cams, "other", train=0.7, val=0.2, test=0.1, seed=3)
    again.build("--set", "index.buckets=4")
    assert contents(again.target) == contents(subset.target)
    third = _make(make_subset, cams, "third", train=0.7, val=0.2, test=0.1, seed=4)
    third.build()
    assert _sides(third) != sides


@pytest.mark.parametrize("images", ["copy", "none"])
def test_images_that_change_their_split_of_the_source_keep_their_files(
    images: str, tmp_path: Path, make_subset: MakeSubset
) -> None:
    """What one bucket gives up another gets: that is neither deleted nor somebody else's."""
    stems = [f"{number:02d}" for number in range(24)]
    labels = {"train2017": dict.fromkeys(stems, "0 0.5 0.5 0.1 0.1\n"), "val2017": {"v": "0 0.5 0.5 0.1 0.1\n"}}
    pictures = {split: tuple(f"{stem}.jpg" for stem in files) for split, files in labels.items()}
    source = make_tree(tmp_path / "source", labels, pictures, CLASSES)
    keys = {"split": {"train": 0.5, "val": 0.5}, "classes": list(CLASSES), "index": {"buckets": 8}}
    subset = make_subset(source, target={"root": str(tmp_path / "subset"), "images": images}, **keys)
    subset.build()
    made = contents(subset.target)
    for stem in stems[:6]:
        for kind, end in (("labels", "txt"), ("images", "jpg")):
            (source / kind / f"train2017/{stem}.{end}").rename(source / kind / f"val2017/{stem}.{end}")
    (source / f"labels/val2017/{stems[0]}.txt").write_text("1 0.5 0.5 0.1 0.1\n")
    settings = ("--max-delete", "none")
    planned = subset.plan(*settings)
    told = subset.build(*settings)
    assert planned["foreign"] == []
    assert told["plan"]["delete"]["label"]["files"] == told["plan"]["delete"]["image"]["files"] == 0
    again = contents(subset.target)
    assert {path for path in made if again.get(path) != made[path]} <= {
        "data.yaml", f"labels/train/{stems[0]}.txt", f"labels/val/{stems[0]}.txt"
    }  # fmt: skip
    fresh = make_subset(source, "fresh", target={"root": str(tmp_path / "fresh"), "images": images}, **keys)
    fresh.build()
    assert again == contents(fresh.target)
    assert subset.command("verify", "--deep").code == 0
    assert subset.build()["changes"] == 0


@pytest.mark.parametrize("stratify", [False, True])
def test_two_images_of_one_name_are_both_kept(stratify: bool, tmp_path: Path, make_subset: MakeSubset) -> None:
    """Splits of the source had them apart; assigned anew they are on one side, and still two."""
    labels: dict[str, dict[str, bytes | str]] = {
        "train2017": {"a": "0 0.5 0.5 0.1 0.1\n", "sub/b": "", "only": "2 0.5 0.5 0.1 0.1\n"},
        "val2017": {"a": "1 0.5 0.5 0.2 0.2\n", "sub/b": "1 0.5 0.5 0.3 0.3\n"},
    }
    images = {split: tuple(f"{stem}.jpg" for stem in files) for split, files in labels.items()}
    source = make_tree(tmp_path / "source", labels, images, CLASSES)
    subset = make_subset(
        source,
        "twins",
        classes=list(CLASSES),
        select={"backgrounds": "all"},
        split={"train": 0.5, "val": 0.5, "stratify": stratify},
    )
    told = subset.build()
    assert told["images"]["kept"] == 5
    made = {p.split("/", 2)[2]: (p.split("/")[1], c) for p, c in contents(subset.target).items() if p.startswith("lab")}
    assert {name: content for name, (_, content) in made.items()} == {
        **{f"{split}/{stem}.txt": str(labels[split][stem]).encode() for split in labels for stem in ("a", "sub/b")},
        "only.txt": b"2 0.5 0.5 0.1 0.1\n",
    }
    for stem in ("a", "sub/b"):
        assert made[f"train2017/{stem}.txt"][0] == made[f"val2017/{stem}.txt"][0]
    kept = {p: c for p, c in contents(subset.target).items() if p.startswith("images/")}
    assert len(set(kept.values())) == len(kept) == 5


def test_the_text_tells_how_near_it_came(cams: Path, make_subset: MakeSubset) -> None:
    out = _make(make_subset, cams, train=0.8, val=0.2).command("plan").out
    assert "Split assigned: train 0." in out
    assert "furthest from its share: " in out


def test_images_stay_where_they_are_when_others_come(cams: Path, make_subset: MakeSubset, tmp_path: Path) -> None:
    source = Path(shutil.copytree(cams, tmp_path / "own"))
    subset = _make(make_subset, source, train=0.8, val=0.2)
    subset.build()
    before = _sides(subset)
    for i in range(20):
        write_file(source / f"labels/train2017/new{i}.txt", "1 0.5 0.5 0.1 0.1\n")
        write_file(source / f"images/train2017/new{i}.jpg", b"new")
    told = subset.build()
    after = _sides(subset)
    assert {stem: after[stem] for stem in before} == before
    assert len(after) == 80
    assert told["plan"]["delete"]["image"]["files"] == 0
    assert told["plan"]["copy"]["image"]["files"] == 20


def test_no_group_is_on_two_sides(cams: Path, make_subset: MakeSubset) -> None:
    for name, stratify in (("hash", False), ("strata", True)):
        subset = _make(make_subset, cams, name, train=0.6, val=0.4, by="^(cam[0-9]+)_", stratify=stratify)
        subset.build()
        cameras: dict[str, set[str]] = {}
        for stem, side in _sides(subset).items():
            cameras.setdefault(stem[:5], set()).add(side)
        assert len(cameras) == 12
        assert all(len(sides) == 1 for sides in cameras.values())
        assert {s for sides in cameras.values() for s in sides} == {"train", "val"}


def test_strata_are_kept_in_a_table_that_later_builds_obey(cams: Path, make_subset: MakeSubset, tmp_path: Path) -> None:
    source = Path(shutil.copytree(cams, tmp_path / "own"))
    subset = _make(make_subset, source, train=0.8, val=0.2, stratify=True)
    before_plan = snapshot(subset.workdir) if subset.workdir.exists() else {}
    planned = subset.plan()
    table = Path(planned["split"]["table"])
    assert not table.exists()  # a plan decides, but remembers nothing
    told = subset.build()
    assert told["split"]["images"] == planned["split"]["images"]
    assert told["split"]["images"]["train"] == pytest.approx(0.8, abs=0.02)
    assert max(abs(d) for parts in told["split"]["deviation"].values() for d in parts.values()) < 0.03
    assert (told["split"]["kept"], told["split"]["assigned"]) == (0, 60)
    sides = _sides(subset)
    lines = table.read_text().splitlines()
    assert lines[0] == "group,split"
    assert dict(line.split(",") for line in lines[1:]) == sides
    assert before_plan == {}
    assert "Nothing to do" in subset.command("build").out
    for i in range(10):
        write_file(source / f"labels/train2017/new{i}.txt", "2 0.5 0.5 0.1 0.1\n")
        write_file(source / f"images/train2017/new{i}.jpg", b"new")
    (source / "labels/train2017/cam01_001.txt").unlink()
    told = subset.build("--set", "split.seed=9")
    after = _sides(subset)
    assert {s: after[s] for s in sides if s != "cam01_001"} == {s: sides[s] for s in sides if s != "cam01_001"}
    assert (told["split"]["kept"], told["split"]["assigned"]) == (59, 10)
    assert "cam01_001" in table.read_text()  # if it comes back, it goes where it was


@pytest.mark.slow
def test_a_table_that_the_user_edits_is_obeyed(cams: Path, make_subset: MakeSubset, tmp_path: Path) -> None:
    table = write_file(tmp_path / "mine.csv", "group,split\ncam01_001,val\ncam02_002,val\n")
    subset = _make(make_subset, cams, train=0.8, val=0.2, table=str(table))
    subset.build()
    assert [_sides(subset)[s] for s in ("cam01_001", "cam02_002")] == ["val", "val"]
    plain = _make(make_subset, cams, "plain", train=0.8, val=0.2)
    plain.build()
    others = {s: side for s, side in _sides(plain).items() if s not in ("cam01_001", "cam02_002")}
    assert {s: _sides(subset)[s] for s in others} == others
    write_file(table, "group,split\ncam01_001,train\ncam02_002,val\n")
    told = subset.build()
    assert told["status"] == "built"
    assert _sides(subset)["cam01_001"] == "train"
    assert not (subset.target / "images/val/cam01_001.jpg").exists()
    assert table.read_text() == "group,split\ncam01_001,train\ncam02_002,val\n"  # it is the user's
    assert "Nothing to do" in subset.command("build").out


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"train": 0.8}, "split: shares add up to 0.8, not to 1"),
        ({}, "split: shares add up to 0, not to 1"),
        ({"train": 1.5, "val": -0.5}, "split.train"),
        (
            {"train": 1.0, "by": "("},
            "split.by: is neither image nor folder, and no regular expression from character 1 on",
        ),
        ({"train": 1.0, "table": "missing.csv"}, "missing.csv is not there"),
        ({"train": 1.0, "dev": 0.0}, "unknown key 'split.dev'"),
    ],
)
def test_what_cannot_be_meant_is_told(cams: Path, make_subset: MakeSubset, split: dict[str, Any], message: str) -> None:
    assert message in _make(make_subset, cams, **split).command("plan", code=2).err


def test_a_table_of_something_else_is_told(cams: Path, make_subset: MakeSubset, tmp_path: Path) -> None:
    table = write_file(tmp_path / "t.csv", "group,split\nother,val\n")
    subset = _make(make_subset, cams, train=0.8, val=0.2, stratify=True, table=str(table))
    assert "names none of the groups" in subset.command("build", code=2).err
    write_file(table, "group,split\ncam01_001,test\n")
    assert "puts 'cam01_001' into test, which has no share" in subset.command("build", code=2).err


def test_a_table_lies_beside_source_and_target(cams: Path, make_subset: MakeSubset) -> None:
    for place in (cams / "labels/train2017/t.csv", "TARGET/t.csv"):
        subset = _make(make_subset, cams, train=0.8, val=0.2, stratify=True)
        table = str(place).replace("TARGET", str(subset.target))
        assert "--set split.table=" in subset.command("build", "--set", f"split.table={table}", code=2).err
        assert not Path(table).exists()


def test_an_empty_side_is_told(cams: Path, make_subset: MakeSubset) -> None:
    told = _make(make_subset, cams, train=0.999, val=0.001).command("plan").err
    assert "the subset has no val images, and trainers need them; give it a larger share in `split`" in told


@pytest.mark.parametrize("how", ["workdir gone", "emptied", "cut", "gone"])
def test_a_lost_table_moves_no_image(cams: Path, make_subset: MakeSubset, tmp_path: Path, how: str) -> None:
    """The target has a copy: others come along, and nobody who was on one side is on the other."""
    source = Path(shutil.copytree(cams, tmp_path / "own"))
    subset = _make(make_subset, source, train=0.7, val=0.3, stratify=True)
    table = Path(subset.build()["split"]["table"])
    before, text = _sides(subset), table.read_text()
    if how == "workdir gone":
        shutil.rmtree(subset.workdir)
    elif how == "gone":
        table.unlink()
    else:
        table.write_text("".join(text.splitlines(keepends=True)[: {"emptied": 0, "cut": 20}[how]]))
    for i in range(20):
        write_file(source / f"labels/train2017/new{i}.txt", f"{i % 3} 0.5 0.5 0.1 0.1\n")
        write_file(source / f"images/train2017/new{i}.jpg", b"new")
    told = subset.build()
    after = _sides(subset)
    assert {stem: after[stem] for stem in before} == before
    assert len(after) == 80
    assert (told["split"]["kept"], told["split"]["assigned"], told["warnings"]) == (60, 20, [])
    assert set(text.splitlines()) <= set(table.read_text().splitlines())


def test_a_lost_workdir_does_not_release_the_brake(cams: Path, make_subset: MakeSubset, tmp_path: Path) -> None:
    source = Path(shutil.copytree(cams, tmp_path / "own"))
    subset = _make(make_subset, source, train=0.7, val=0.3, stratify=True)
    subset.build()
    shutil.rmtree(subset.workdir)
    for path in sorted((source / "labels/train2017").iterdir())[:11]:
        path.write_text("")
    assert "would lose 22 of 120 files" in subset.command("build", code=4).err


@pytest.mark.parametrize("how", [{}, {"archive": "zip"}, {"format": "coco", "images": "none"}])
def test_images_that_change_sides_are_told(
    cams: Path, make_subset: MakeSubset, tmp_path: Path, how: dict[str, str]
) -> None:
    source = Path(shutil.copytree(cams, tmp_path / "own"))
    for path in source.rglob("*.jpg"):
        path.write_bytes(jpeg(32, 32))
    target = {"root": str(tmp_path / "out"), **how}
    subset = make_subset(
        source, "told", classes=list(CLASSES), split={"train": 0.7, "val": 0.3, "stratify": True}, target=target
    )
    table = Path(subset.build()["split"]["table"])
    lines = table.read_text().splitlines()
    moved = [line for line in lines if line.endswith("train")][:4]
    table.write_text("\n".join(line.replace("train", "val") if line in moved else line for line in lines) + "\n")
    names = ", ".join(f"{line.split(',')[0]} (train to val)" for line in moved[:3])
    warning = f"warning: 4 images in another split than before: {names}\n"
    assert warning in subset.command("plan").err
    assert subset.command("build", "--quiet").err == warning
    assert subset.command("build").err == ""


def test_sides_by_another_seed_are_told(cams: Path, make_subset: MakeSubset) -> None:
    subset = _make(make_subset, cams, train=0.7, val=0.3)
    subset.build()
    before = _sides(subset)
    told = subset.build("--set", "split.seed=5", "--max-delete", "0")  # files that go to the other side are no loss
    after = _sides(subset)
    count = sum(before[stem] != after[stem] for stem in before)
    assert told["warnings"][0].startswith(f"{count} images in another split than before: cam")


@pytest.mark.parametrize("left", [None, b"", 40])
def test_a_damaged_copy_of_the_table_is_found_and_mended(
    cams: Path, make_subset: MakeSubset, left: bytes | int | None
) -> None:
    """By `verify`, and by a build that has nothing else to do."""
    subset = _make(make_subset, cams, train=0.7, val=0.3, stratify=True)
    subset.build()
    settle()
    copy = subset.target / ".coco-diy/splits.csv"
    data = copy.read_bytes()
    if left is None:
        copy.unlink()
    else:
        copy.write_bytes(data[:left] if isinstance(left, int) else left)
    told = subset.run("verify", subset.target, "--json", code=1).json
    assert [(d["path"], d["reason"]) for d in told["listed"]] == [(".coco-diy/splits.csv", "damaged")]
    assert subset.build()["changes"] == 0
    assert copy.read_bytes() == data
    assert subset.run("verify", subset.target, "--json").json["listed"] == []
    assert subset.build()["status"] == "nothing to do"


@pytest.mark.slow
def test_a_damaged_copy_of_the_table_is_told_where_it_is_needed(cams: Path, make_subset: MakeSubset) -> None:
    """Where the workdir's table has all groups, it is made anew of that; else nobody knows what it said."""
    subset = _make(make_subset, cams, train=0.7, val=0.3, stratify=True)
    subset.build()
    copy, (table,) = subset.target / ".coco-diy/splits.csv", subset.workdir.glob("splits/*.csv")
    data, own = copy.read_bytes(), table.read_bytes()
    for bad in (b"", data[:-2], data[:100], data.replace(b"train", b"val", 1), data + b"x"):
        copy.write_bytes(bad)
        subset.build("--set", "classes=[car]")
        assert copy.read_bytes() == data
        copy.write_bytes(bad)
        table.write_bytes(b"".join(own.splitlines(keepends=True)[:-1]))
        told = subset.command("build", "--set", "classes=[car, person]", code=1).err
        assert f"{copy}: the split table is damaged; restore it, or delete it" in told
        table.write_bytes(own)
        subset.build("--set", "classes=[car, person]")
    copy.unlink()
    subset.build()
    warnings = subset.build("--set", "classes=[car, person]")["warnings"]
    assert [told for told in warnings if not told.startswith("class numbers change")] == []
    assert copy.exists()
