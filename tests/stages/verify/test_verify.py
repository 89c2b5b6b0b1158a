"""Verify, repair, diff and status; and what a subset leaves alone beside it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pipeline import storage
from tests.builds.test_build import BUILT
from tests.conftest import MakeSubset, Subset
from tests.support.helpers import contents, slow, snapshot, write_file

LABEL = "labels/train/a.txt"
PICTURE = "images/train/a.jpg"


def listed(subset: Subset, *args: str, code: int = 1) -> dict[str, str]:
    """Path to reason of every difference that verify tells."""
    told = subset.run("verify", str(subset.target), "--json", *args, code=code).json
    assert sum(told["differences"].values()) == len(told["listed"])
    return {d["path"]: d["reason"] for d in told["listed"]}


def test_a_fresh_subset_is_clean(own_subset: Subset) -> None:
    own_subset.build()
    before = snapshot(own_subset.target)
    assert listed(own_subset, code=0) == {}
    assert listed(own_subset, "--deep", code=0) == {}
    assert own_subset.run("verify", str(own_subset.config), code=0).out.startswith("All is as it was built")
    assert snapshot(own_subset.target) == before


def _damage(target: Path) -> dict[str, str]:
    """Damage of every kind; returns what a deep verification must say of it."""
    (target / LABEL).write_bytes((target / LABEL).read_bytes().replace(b"0", b"1", 1))  # equal length
    picture = target / PICTURE
    picture.write_bytes(bytes(reversed(picture.read_bytes())))
    (target / "labels/val/v.txt").unlink()
    with (target / "images/val/v.jpg").open("ab") as file:
        file.write(b"more")
    (target / "data.yaml").write_text("names: [x]\n")
    (target / "labels/train/mine.txt").write_text("")
    (target / "labels/train.cache").write_text("a trainer's")
    return {
        LABEL: "content",
        PICTURE: "content",
        "labels/val/v.txt": "missing",
        "images/val/v.jpg": "size",
        "data.yaml": "content",
        "labels/train/mine.txt": "foreign",
    }


def test_every_damage_is_told_and_repaired(own_subset: Subset) -> None:
    own_subset.build()
    source = snapshot(own_subset.source, links=True)
    expected = _damage(own_subset.target)
    shallow = {p: r for p, r in expected.items() if r != "content" or p == "data.yaml"}
    assert listed(own_subset) == shallow
    assert listed(own_subset, "--deep") == expected
    told = own_subset.run("verify", str(own_subset.target), "--deep", "--repair", "--json", code=1).json
    assert told["repaired"] == len(expected) - 1
    assert told["differences"] == {"foreign": 1}  # told, and left alone
    (own_subset.target / "labels/train/mine.txt").unlink()
    assert listed(own_subset, "--deep", code=0) == {}
    assert contents(own_subset.target) == BUILT
    assert snapshot(own_subset.source, links=True) == source


def test_a_repair_touches_nothing_else(own_subset: Subset) -> None:
    own_subset.build()
    before = snapshot(own_subset.target)
    (own_subset.target / LABEL).unlink()
    own_subset.run("verify", str(own_subset.config), "--repair", code=0)
    after = snapshot(own_subset.target)
    changed = {p for p, s in after.items() if before.get(p) != s and not p.startswith(".coco-diy")}
    assert changed <= {LABEL, "labels/train", "."}


@pytest.mark.parametrize("command", ["verify", "status"])
def test_what_is_no_subset(own_subset: Subset, command: str) -> None:
    assert "Traceback" not in (told := own_subset.run(command, str(own_subset.source), code=2)).err
    assert "coco-diy" in told.err


def test_diff_adds_up(own_town: Path, make_subset: MakeSubset) -> None:
    one, two = make_subset(own_town, "one"), make_subset(own_town, "two")
    first, second = one.build(), two.build("--set", "classes=[car]")
    told = one.run("diff", str(one.target), str(two.target), "--json", code=0).json
    for split, classes in told["by_class"].items():
        for name, counts in classes.items():
            before = first["subset"][split]["objects"].get(name, 0)
            after = second["subset"][split]["objects"].get(name, 0)
            assert counts["objects"] == after - before, (split, name)
    assert told["classes"]["lost"] == [c for c in first["classes"] if c != "car"]
    a, b = (contents(s.target) for s in (one, two))
    files = {key: set(paths) for key, paths in told["listed"].items()}
    assert files["lost"] == a.keys() - b.keys() - {"data.yaml"}
    assert files["changed"] == {p for p in a.keys() & b.keys() if a[p] != b[p]} - {"data.yaml"}
    manifests = (f"{s.target}/.coco-diy/manifest.json" for s in (one, two))
    by_manifest = one.run("diff", *manifests, "--json", code=0).json
    assert by_manifest | {"run": None} == told | {"run": None}
    same = one.run("diff", str(one.target), str(one.target), "--json", code=0).json
    assert same["files"] == {"gained": 0, "lost": 0, "changed": 0}


def test_a_folder_that_is_called_as_a_state_is_that_folder(own_town: Path, make_subset: MakeSubset) -> None:
    one = make_subset(own_town, "one@20261128")
    one.build()
    told = one.run("diff", str(one.target), str(one.target), "--json", code=0).json
    assert told["files"] == {"gained": 0, "lost": 0, "changed": 0}


def test_links_and_copies_of_one_image_do_not_differ(own_town: Path, make_subset: MakeSubset) -> None:
    one = make_subset(own_town, "one")
    two = make_subset(own_town, "two", target={"root": str(one.target.with_name("two")), "images": "symlink"})
    one.build()
    two.build()
    assert one.run("diff", one.config, two.target, "--json").json["files"] == {"gained": 0, "lost": 0, "changed": 0}


@pytest.mark.parametrize("how", ["hardlink", "symlink"])
@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("content", [b"another", *slow(b"", None)])
def test_a_linked_image_that_was_written_to(
    own_subset: Subset, how: str, content: bytes | None, replaced: bool
) -> None:
    """Its content was never read: its size is compared and, with --deep, whether it is older than the manifest."""
    own_subset.build("--set", f"target.images={how}")
    image = own_subset.target / "images/train/a.jpg"
    before = image.read_bytes()
    own_subset.run("verify", own_subset.target, "--deep", code=0)
    if replaced:
        image.unlink()
    image.write_bytes(before[::-1] if content is None else content)  # else the content of all its links
    told = own_subset.run("verify", own_subset.target, "--deep", "--json", code=1).json
    assert [d["path"] for d in told["listed"]] == ["images/train/a.jpg"]
    assert told["differences"] == {"content" if content is None else "size": 1}
    own_subset.run("verify", own_subset.config, "--deep", "--repair", "--set", f"target.images={how}", code=0)
    own_subset.run("verify", own_subset.target, "--deep", code=0)


@pytest.mark.parametrize("how", ["hardlink", "symlink"])
@pytest.mark.parametrize("by", ["a file", "a symlink", "a hardlink"])
def test_a_link_that_was_replaced_before_the_last_build(own_subset: Subset, tmp_path: Path, how: str, by: str) -> None:
    """Its image has the size of the other and is older than the manifest: which link was made is what is left."""
    own_subset.build("--set", f"target.images={how}")
    image = own_subset.target / "images/train/a.jpg"
    content = image.read_bytes()
    other = write_file(tmp_path / "other.jpg", content[::-1])
    image.unlink()
    if by == "a file":
        image.write_bytes(content[::-1])
    elif by == "a symlink":
        image.symlink_to(other)
    else:
        image.hardlink_to(other)
    own_subset.build("--set", f"target.images={how}", "--set", "classes=[bicycle, {name: motor, from: [car, bus]}]")
    told = own_subset.run("verify", own_subset.target, "--deep", "--json", code=1).json
    assert [(d["path"], d["detail"]) for d in told["listed"]] == [
        ("images/train/a.jpg", "is not the link that was made")
    ]
    own_subset.run("verify", own_subset.target, "--deep", "--repair", code=0)
    assert image.read_bytes() == content
    assert other.read_bytes() == content[::-1]
    own_subset.run("verify", own_subset.target, "--deep", code=0)


@pytest.mark.parametrize("how", ["hardlink", "symlink"])
def test_a_source_whose_images_changed_damages_no_link(own_subset: Subset, how: str) -> None:
    images = ("--set", f"target.images={how}")
    own_subset.build(*images)
    for name in ("a.jpg", "c.png"):  # one is replaced, one written to, both by what is as large
        image = own_subset.source / "images/train2017" / name
        content = image.read_bytes()[::-1]
        if name == "a.jpg":
            image.unlink()
        image.write_bytes(content)
    own_subset.build(*images)
    own_subset.run("verify", own_subset.target, "--deep", code=0)
    (own_subset.source / "images/train2017/a.jpg").rename(own_subset.source / "a.jpg")
    write_file(own_subset.source / "images/train2017/a.jpg", (own_subset.source / "a.jpg").read_bytes()[::-1])
    found = own_subset.run("verify", own_subset.target, "--deep", code=how == "symlink").out
    assert ("images/train/a.jpg: was written to since the build" in found) == (how == "symlink")
    own_subset.build(*images)
    own_subset.run("verify", own_subset.target, "--deep", code=0)


def test_another_link_to_an_image_is_no_change_of_it(own_subset: Subset, tmp_path: Path) -> None:
    own_subset.build("--set", "target.images=hardlink")
    os.link(own_subset.target / "images/train/a.jpg", tmp_path / "second.jpg")
    ahead = time.time() + 10**6
    os.utime(own_subset.target / "images/train/b.JPG", (ahead, ahead))
    own_subset.build("--set", "target.images=hardlink")  # an image with a time of the future is as good as any
    own_subset.run("verify", own_subset.target, "--deep", code=0)


def test_a_repair_by_target_alone_leaves_the_record(own_subset: Subset) -> None:
    own_subset.build()
    before = contents(own_subset.target, record=True)
    (own_subset.target / "labels/train/a.txt").unlink()
    own_subset.run("verify", str(own_subset.target), "--repair")
    assert contents(own_subset.target, record=True) == before
    assert own_subset.plan()["changes"] == 0
    assert own_subset.build()["status"] == "nothing to do"


def test_nothing_can_be_set_of_a_target(own_subset: Subset) -> None:
    own_subset.build()
    for command in ("verify", "stats", "status"):
        told = own_subset.run(command, own_subset.target, "--set", "on_error=skip", code=2).err
        assert (
            told == f"coco-diy: --set on_error=skip: sets a key of a config, but {own_subset.target} is not a config\n"
        )


def test_a_file_is_no_target_and_a_manifest_names_one(own_subset: Subset, tmp_path: Path) -> None:
    own_subset.build()
    manifest = own_subset.target / ".coco-diy/manifest.json"
    assert own_subset.run("status", manifest, "--json").json["runs"] == 1
    for words in (("status", "/dev/null"), ("diff", own_subset.target, "/dev/null")):
        assert (
            "is a file that is no subset of coco-diy's; name a config, the folder" in own_subset.run(*words, code=2).err
        )


def test_status_tells_the_last_run(own_subset: Subset) -> None:
    own_subset.build()
    told = own_subset.run("status", str(own_subset.target), "--json", code=0).json
    assert (told["runs"], told["running"], told["stopped"]) == (1, None, False)
    assert told["last"]["report"]["status"] == "built"
    (record,) = (own_subset.target / ".coco-diy/runs").iterdir()
    record.rename(record.with_name(f"2020{record.name[4:]}"))  # another run's
    told = own_subset.run("status", str(own_subset.target), "--json", code=0).json
    assert (told["runs"], told["last"], told["recent"]) == (0, {}, [])
    assert "Nothing is known of" in own_subset.run("status", str(own_subset.target)).out


def test_a_subset_of_links_leaves_one_of_copies_alone(own_town: Path, make_subset: MakeSubset) -> None:
    """A hard link changes the ctime of its source."""
    copies, links = make_subset(own_town, "copies"), make_subset(own_town, "links")
    copies.build()
    links.build("--set", "target.images=hardlink")
    assert copies.build()["status"] == "nothing to do"
    assert copies.plan()["changes"] == 0


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("workdir", "."),
        ("workdir", "labels"),
        ("target.root", "."),
        ("target.root", "images/new"),
    ],
)
def test_nothing_is_made_inside_the_source(own_subset: Subset, key: str, place: str) -> None:
    before = snapshot(own_subset.source)
    word = f"{key}={own_subset.source / place}"
    assert (
        "never written to"
        in own_subset.command("build", "--set", word, "--set", f"source.root={own_subset.source}", code=2).err
    )
    assert snapshot(own_subset.source) == before


def test_no_subset_inside_another(own_subset: Subset) -> None:
    own_subset.build()
    inner = own_subset.target / "labels/train"
    assert "is a subset already" in own_subset.command("build", "--set", f"target.root={inner}", code=2).err


def test_a_repair_by_target_alone_knows_the_root_of_the_source(own_subset: Subset) -> None:
    """A link that stays within it is none that leads out of the source."""
    image = own_subset.source / "images/train2017/a.jpg"
    image.symlink_to(image.rename(own_subset.source / "a.jpg"))
    own_subset.build("--set", "source.links=refuse")
    (own_subset.target / LABEL).unlink()
    own_subset.run("verify", own_subset.target, "--repair")
    assert contents(own_subset.target) == BUILT


def test_a_subset_that_was_moved_is_repaired_where_it_is(own_subset: Subset, tmp_path: Path) -> None:
    own_subset.build()
    moved = own_subset.target.rename(tmp_path / "moved")
    (moved / LABEL).unlink()
    told = own_subset.run("verify", str(moved), "--repair", "--json", code=0).json
    assert told["repaired"] == 1
    assert contents(moved) == BUILT
    assert not own_subset.target.exists()


def test_images_of_the_user_are_none_of_our_business(own_subset: Subset) -> None:
    own_subset.build("--set", "target.images=none")
    write_file(own_subset.target / PICTURE, "mine")
    assert listed(own_subset, code=0) == {}


def test_nobody_looks_at_a_target_that_is_being_built(own_subset: Subset) -> None:
    own_subset.build()
    with storage.locate_writable(str(own_subset.target)).lock(".coco-diy/lock", "the target"):
        for words in (
            ("plan", str(own_subset.config)),
            ("verify", str(own_subset.target)),
            ("build", str(own_subset.config)),
        ):
            assert f"the target {own_subset.target} is in use by process" in own_subset.run(*words, code=5).err
    assert listed(own_subset, code=0) == {}


def test_a_plan_from_elsewhere_leaves_the_plan_of_a_build_alone(own_subset: Subset) -> None:
    """A build reads its plan while it is carried out, so no other run may write there meanwhile."""
    first = own_subset.plan()["plan_files"]
    before = contents(Path(first))
    assert own_subset.plan("--set", "source.name=other", "--set", "classes=[bus]")["plan_files"] != first
    assert contents(Path(first)) == before


def test_splits_do_not_leak(own_subset: Subset) -> None:
    folder = own_subset.source / "labels/train2017"
    (folder.parent / "link").symlink_to(folder)
    splits = f"{{train: {{labels: {folder}}}, val: {{labels: {folder.parent}/link}}}}"
    told = own_subset.command("build", "--set", f"source.splits={splits}", "--set", "target.images=none", code=2)
    assert "the labels of train" in told.err
    assert "by a link, so they would be in both splits" in told.err
    assert "give each split a folder of its own" in told.err
