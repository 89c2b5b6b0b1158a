"""What is bad, a conflict, locked or half done: who is told, what stays untouched, and with which exit code it ends."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.stages.apply import subset as subset_module
from pipeline.tables import schema
from tests.builds.test_build import BUILT
from tests.conftest import MakeSubset, Subset
from tests.support.helpers import contents, outside, picture, snapshot, without_digest, write_file

GOOD = "0 0.5 0.5 0.1 0.1\n"
SKIP = ("--set", "on_error=skip")

BAD: dict[str, tuple[str | bytes, int | None, str]] = {
    "cut short": (GOOD + "1 0.5 0.5 0.5\n", 2, "4 tokens '1 0.5 0.5 0.5' look like a row cut short"),
    "pixels": (GOOD + "\n\n1 320 240 10 10\n", 4, "'320' is not within 0 and 1"),
    "no number": ("bicycle 0.5 0.5 0.1 0.1\n" + GOOD, 1, "'bicycle' is not a number"),
    "prediction": ("0 0.5 0.5 0.1 0.1 0.875\n", 1, "look like a box with a confidence or a track's number"),
    "track": ("0 0.5 0.5 0.1 0.1 0.875 3\n", 1, "ends with a track's number: a prediction (save_txt), no polygon"),
    "no text": (b"\xff\xfe1\x000\x00", 1, "is UTF-16 text; save it as UTF-8"),
    "binary": (bytes(range(256)), 1, "is not a number"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_stops_the_build(own_subset: Subset, case: str) -> None:
    content, line, clause = BAD[case]
    path = write_file(own_subset.source / "labels/train2017/sub/e.txt", content)
    for command in ("build", "plan", "index", "stats"):
        told = own_subset.command(command, code=1)
        assert told.out == ""
        assert f"coco-diy: {path}:{line}: " in told.err
        assert clause in told.err
        assert "--set on_error=skip" in told.err
    assert contents(own_subset.target) == {}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_left_out_counted_and_listed(own_subset: Subset, case: str) -> None:
    content, line, clause = BAD[case]
    path = write_file(own_subset.source / "labels/train2017/sub/e.txt", content)
    told = own_subset.build(*SKIP, code=3)
    assert told["ok"] is False
    expected = {p: c for p, c in BUILT.items() if "/sub/e." not in p}
    assert without_digest(contents(own_subset.target)) == without_digest(expected)
    counted = sum(told["source"]["train"]["problems"].values())
    assert counted >= 1
    rows = [r for p in sorted(Path(told["index"], "problems").iterdir()) for r in pq.read_table(p).to_pylist()]
    assert len(rows) == counted
    first = min(rows, key=lambda r: r["line"] or 0)
    assert (first["path"], first["line"], first["key"]) == (str(path), line, "source/train2017/sub/e")
    assert clause in first["detail"]
    assert any("left out" in w for w in told["warnings"])
    again = own_subset.build(*SKIP, code=3)
    assert (again["status"], again["ok"]) == ("nothing to do", False)
    assert any("left out" in w for w in again["warnings"])
    for command in ("plan", "index"):
        assert own_subset.command(command, *SKIP, "--json", code=3).json["ok"] is False


def test_the_rest_of_a_file_with_a_bad_row_is_kept(own_subset: Subset) -> None:
    write_file(own_subset.source / "labels/train2017/sub/e.txt", "1 0.5 0.5 0.25 0.25\n1 9 9 9 9\n2 0.5 0.5 0.5 0.5\n")
    own_subset.build(*SKIP, code=3)
    assert (own_subset.target / "labels/train/sub/e.txt").read_text() == "0 0.5 0.5 0.25 0.25\n1 0.5 0.5 0.5 0.5\n"


def test_bad_rows_are_told_in_order_with_their_number(own_subset: Subset) -> None:
    for name in ("c", "a", "b"):
        write_file(own_subset.source / f"labels/train2017/{name}.txt", "x\n1 1\n")
    told = own_subset.command("build", "--set", "index.buckets=7", code=1).err
    assert told.startswith(f"coco-diy: {own_subset.source}/labels/train2017/a.txt:1: ")
    assert "(5 more bad rows or files" in told


def test_a_class_beyond_the_names(own_subset: Subset) -> None:
    write_file(own_subset.source / "labels/val2017/w.txt", GOOD + "6 0.5 0.5 0.1 0.1\n7 0.5 0.5 0.1 0.1\n")
    told = own_subset.command("build", code=1).err
    assert f"{own_subset.source}/labels/val2017/w.txt:2: class 6 is not in {own_subset.source}/coco.yaml" in told
    assert "2 such rows" in told


def test_files_that_are_none(own_subset: Subset) -> None:
    os.symlink("nowhere.txt", own_subset.source / "labels/train2017/lost.txt")
    told = own_subset.command("build", code=1).err
    assert f"{own_subset.source}/labels/train2017/lost.txt: is a link to a file that is not there" in told
    own_subset.build(*SKIP, code=3)
    assert contents(own_subset.target) == BUILT


def test_a_name_that_is_not_utf8(own_subset: Subset) -> None:
    write_file(Path(os.fsdecode(os.fsencode(own_subset.source / "labels/train2017") + b"/caf\xe9.txt")), GOOD)
    assert "has a name that is not UTF-8" in own_subset.command("build", code=1).err
    own_subset.build(*SKIP, code=3)
    assert contents(own_subset.target) == BUILT


FOREIGN = ["labels/val/v.txt", "images/train/sub/e.jpeg", "data.yaml"]


@pytest.mark.parametrize("path", FOREIGN)
@pytest.mark.parametrize("how", ["file", "link", "folder"])
def test_a_foreign_file_in_the_way(subset: Subset, path: str, how: str) -> None:
    there = subset.target / path
    if how == "file":
        write_file(there, "mine")
    elif how == "folder":
        write_file(there / "inside", "mine")
    else:
        there.parent.mkdir(parents=True)
        os.symlink("nowhere", there)
    before = outside(snapshot(subset.target))
    assert subset.plan()["foreign"] == [path]
    assert f"conflict: {path}" in subset.command("plan").out
    for extra in ((), SKIP):
        told = subset.command("build", *extra, code=1)
        assert f"{there}: exists and was not made by coco-diy" in told.err
    assert outside(snapshot(subset.target)) == before


def test_a_foreign_file_appears_later(subset: Subset) -> None:
    """In the way of a file that only the new classes bring."""
    subset.build()
    write_file(subset.target / "labels/val/w.txt", "mine")
    before = outside(snapshot(subset.target))
    more = ("--set", "classes=[bicycle, car, person]")
    assert "labels/val/w.txt: exists and was not made" in subset.command("build", *more, code=1).err
    assert outside(snapshot(subset.target)) == before
    assert subset.build()["changes"] == 0


def test_what_is_not_ours_and_in_nobody_s_way_stays(subset: Subset) -> None:
    mine = ["notes.txt", "labels/train/mine.txt", "images/train/a.npy", "images/other/x.jpg", "runs/train/weights.pt"]
    for path in mine:
        write_file(subset.target / path, "mine")
    subset.build()
    subset.build("--set", "classes=[motorcycle]", "--set", "target.images=none")
    for path in mine:
        assert (subset.target / path).read_text() == "mine"
    assert {p for p in contents(subset.target) if p not in mine} == {"labels/val/v.txt", "data.yaml"}


@pytest.mark.parametrize(
    ("where", "key"),
    [
        ("images/train2017/mine", "target.root"),
        ("labels/val2017", "target.root"),
        (".", "target.root"),
        ("labels/train2017/.work", "workdir"),
        ("images/val2017", "workdir"),
    ],
)
def test_the_source_is_no_place_for_a_target(subset: Subset, where: str, key: str) -> None:
    before = snapshot(subset.source)
    told = subset.command("build", "--set", f"{key}={subset.source / where}", code=2).err
    assert key in told
    assert "never written to" in told
    assert snapshot(subset.source) == before


def test_not_by_a_link_either(subset: Subset, tmp_path: Path) -> None:
    os.symlink(subset.source / "images", tmp_path / "link")
    before = snapshot(subset.source)
    subset.command("build", "--set", f"target.root={tmp_path}/link/train2017/mine", code=2)
    subset.target.mkdir()
    os.symlink(subset.source / "labels/train2017", subset.target / "labels")
    subset.command("build", code=2)
    assert snapshot(subset.source) == before


def test_not_by_a_link_deeper_down(own_subset: Subset) -> None:
    """Nothing of the source is a conflict there: the label files to be made are new."""
    (own_subset.source / "labels/train2017/empty.txt").unlink()
    before = snapshot(own_subset.source)
    (own_subset.target / "labels").mkdir(parents=True)
    os.symlink(own_subset.source / "labels/train2017", own_subset.target / "labels/train")
    words = ("classes=[motorcycle]", "select.backgrounds=unlabelled", "target.images=none")
    own_subset.command("build", *(w for word in words for w in ("--set", word)), code=None)
    assert snapshot(own_subset.source) == before


def test_the_workdir_is_not_in_the_target(subset: Subset) -> None:
    told = subset.command("build", "--set", f"workdir={subset.target}/work", code=2).err
    assert "is in the target" in told
    assert not subset.target.exists()


CACHES = ["labels/train.cache", "labels/val.cache", "labels/train/sub.cache"]


def test_trainers_caches_go_when_labels_change(subset: Subset) -> None:
    subset.build()
    for path in CACHES:
        write_file(subset.target / path, "cached")
    write_file(subset.target / "images/train/a.npy", "a trainer's too, of the image")
    assert subset.build()["changes"] == 0
    subset.build("--set", "target.yaml=absolute")  # no label changes
    assert all((subset.target / path).exists() for path in CACHES)
    subset.build("--set", "classes=[car, bicycle]")  # every file keeps its size
    assert not [path for path in CACHES if (subset.target / path).exists()]
    assert (subset.target / "images/train/a.npy").exists()


def test_trainers_caches_go_when_labels_go(subset: Subset) -> None:
    subset.build()
    write_file(subset.target / "labels/train.cache", "cached")
    subset.build("--set", "classes=[bicycle, {name: car, from: [motorcycle]}]")
    assert not (subset.target / "labels/train.cache").exists()


def test_a_failed_file_is_done_by_the_next_run(subset: Subset) -> None:
    """A folder in place of one of our files: writing it fails, and nothing half done passes for done."""
    subset.build()
    label = subset.target / "labels/val/x.txt"
    label.unlink()
    write_file(label / "inside", "mine")
    order = ("--set", "classes=[car, bicycle]")
    told = subset.build(*order, code=1)
    assert (told["status"], told["ok"], list(told["failed"])) == ("failed", False, ["labels/val/x.txt"])
    assert subset.command("build", *order, code=1).out != ""  # still not done
    (label / "inside").unlink()
    label.rmdir()
    assert subset.build(*order)["plan"]["write"]["label"]["files"] == 1
    assert label.read_bytes() == b"0 0.2 0.2 0.1 0.1\n"


def test_an_image_that_cannot_be_copied_fails_alone(own_subset: Subset) -> None:
    """A file of /proc says it has no bytes, and has some: what is copied is not what the plan saw."""
    image = own_subset.source / "images/train2017/sub/e.jpeg"
    image.unlink()
    os.symlink("/proc/version", image)
    for _ in range(2):
        told = own_subset.build(code=1)
        assert list(told["failed"]) == ["images/train/sub/e.jpeg"]
        assert f"{image}: changed since the plan was made" in told["failed"]["images/train/sub/e.jpeg"]
    found = contents(own_subset.target)
    assert found == {p: c for p, c in BUILT.items() if p != "images/train/sub/e.jpeg"}
    image.unlink()
    write_file(image, picture("train2017/sub/e.jpeg"))
    own_subset.build()
    assert contents(own_subset.target) == BUILT


def swapped_amid(monkeypatch: pytest.MonkeyPatch, folder: Path, away: Path, instead: Path) -> None:
    """Have `instead` in the place of `folder` once the first build has begun to write, as after an unmount."""
    prepare = subset_module._prepare_target

    def then_swap(*args: Any) -> None:
        prepare(*args)
        folder.rename(away)
        instead.rename(folder)

    monkeypatch.setattr(subset_module, "_prepare_target", then_swap)


def test_what_is_below_the_mount_point_of_a_target_stays_another_s(
    subset: Subset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = {"labels/train/a.txt": b"mine", "notes.txt": b"mine, too"}
    for name, text in below.items():
        write_file(tmp_path / "below" / name, text)
    with monkeypatch.context() as patch:
        swapped_amid(patch, subset.target, tmp_path / "away", tmp_path / "below")
        assert "or its disk was unmounted, while this run" in subset.command("build", code=1).err
    assert {str(p.relative_to(subset.target)): p.read_bytes() for p in subset.target.rglob("*") if p.is_file()} == below
    assert "exists and was not made by coco-diy" in subset.command("build", code=1).err
    subset.target.rename(tmp_path / "below")
    (tmp_path / "away").rename(subset.target)
    assert subset.build()["status"] == "built"


def test_no_image_goes_to_what_has_the_place_of_another_disk(
    subset: Subset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "below").mkdir()
    subset.target.mkdir()
    (subset.target / "images").symlink_to(disk)
    with monkeypatch.context() as patch:
        swapped_amid(patch, disk, tmp_path / "away", tmp_path / "below")
        assert f"{subset.target / 'images'}: was removed, or its disk" in subset.command("build", code=1).err
    assert list(disk.iterdir()) == []
    assert not (subset.target / ".coco-diy/manifest.json").exists()
    disk.rename(tmp_path / "below")
    (tmp_path / "away").rename(disk)
    assert subset.build()["status"] == "built"
    assert subset.run("verify", str(subset.target), "--deep").code == 0
    assert any((disk / "train").iterdir())


def test_nothing_is_made_where_the_workdir_goes_away_at_any_instant(
    subset: Subset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty folder has its place from the N-th call on that opens something, as after an unmount of its disk."""
    workdir, away, opens = subset.workdir, tmp_path / "away", os.open
    ended = []
    for instant in itertools.count(start=0, step=9):
        calls = 0

        def swapping(*args: Any, at: int = instant, **options: Any) -> int:
            nonlocal calls
            calls += 1
            if calls > at and not away.exists() and any((workdir / "plans").glob("*.lock")):
                workdir.rename(away)
                workdir.mkdir()
            return opens(*args, **options)

        with monkeypatch.context() as patched:
            patched.setattr(os, "open", swapping)
            done = subset.command("build", code=None)
        if not away.exists():
            break
        assert list(workdir.iterdir()) == [], instant
        ended.append(done.code)
        assert done.code == 0 or "was removed, or its disk was unmounted, while this run" in done.err, done.err
        workdir.rmdir()
        away.rename(workdir)
        shutil.rmtree(subset.target, ignore_errors=True)
        shutil.rmtree(workdir)
    assert ended.count(1) > 10
    assert subset.build()["status"] in ("built", "nothing to do")
    assert contents(subset.target) == BUILT


def test_a_held_lock(subset: Subset) -> None:
    subset.build()
    before = outside(snapshot(subset.target))
    (index,) = (subset.workdir / "index").glob("*.lock")
    for lock, what in ((subset.target / ".coco-diy/lock", "the target"), (index, "the index")):
        with lock.open("r+") as held:
            held.write("process 1 on other since then")
            held.flush()
            fcntl.flock(held, fcntl.LOCK_EX)
            told = subset.command("build", "--set", "classes=[car]", code=5)
        assert f"coco-diy: {what}" in told.err
        assert "in use by process 1 on other since then" in told.err
    assert outside(snapshot(subset.target)) == before
    subset.build("--set", "classes=[car]")


@pytest.mark.parametrize("place", ["labels", "images/train"])
def test_a_file_where_a_folder_must_be(subset: Subset, place: str) -> None:
    path = write_file(subset.target / place, "mine")
    assert place in subset.plan()["foreign"]
    assert f"{path}: exists and was not made by coco-diy" in subset.command("build", code=1).err
    assert path.read_text() == "mine"


def test_a_damaged_part_of_the_index_is_made_anew(subset: Subset) -> None:
    index = Path(subset.build()["index"])
    part = index / "annotations" / schema.part_name(0)
    whole = part.read_bytes()
    os.truncate(part, 100)
    assert subset.build("--set", "classes=[car]")["status"] == "built"
    assert part.read_bytes() == whole


def test_halves_of_a_killed_run_are_cleared(subset: Subset) -> None:
    subset.build()
    half = write_file(subset.target / ".coco-diy/.coco-diy-1234-intent.json.tmp", "{")
    subset.build()
    assert not half.exists()


def test_the_yaml_is_away_while_numbers_change(own_subset: Subset) -> None:
    """Also where its own bytes stay as they are: the names YAML of the source was corrected."""
    own_subset.build()
    before = (own_subset.target / "data.yaml").stat()
    names = own_subset.source / "coco.yaml"
    names.write_text(names.read_text().replace("bicycle", "x").replace("car", "bicycle").replace("x", "car"))
    told = own_subset.plan()
    assert told["plan"]["write"]["meta"]["files"] == 2
    own_subset.build()
    after = (own_subset.target / "data.yaml").stat()
    assert (after.st_size, after.st_mtime_ns > before.st_mtime_ns) == (before.st_size, True)


def test_a_manifest_of_another_version_is_told_not_guessed(subset: Subset) -> None:
    from pipeline.base.digest import seal, unseal

    subset.build()
    before = outside(snapshot(subset.target))
    manifest = subset.target / ".coco-diy/manifest.json"
    good = unseal(manifest.read_bytes())
    assert good is not None
    for other in ({"tool": "coco-diy 99"}, good | {"version": 99}, good | {"more": 1}):
        manifest.write_bytes(seal(other))
        told = subset.command("build", "--set", "classes=[car]", code=1).err
        assert f"{manifest}: was written by another version of coco-diy" in told
    assert outside(snapshot(subset.target)) == before


def test_a_part_of_the_manifest_that_is_lost_with_its_copy(subset: Subset) -> None:
    """What is wanted and there is taken for ours; the rest is told, and mended by a build with the config of before."""
    subset.build("--set", "index.buckets=4")
    before = contents(subset.target)
    for part in (subset.target / ".coco-diy").rglob("*.parquet"):
        os.truncate(part, 5)
    assert "was not made by coco-diy" in subset.command("build", "--set", "classes=[car]", code=1).err
    assert contents(subset.target) == before
    subset.build("--set", "index.buckets=4", "--set", "on_error=skip")
    assert contents(subset.target) == before
    subset.build("--set", "classes=[car]")
    assert subset.command("verify", "--deep", "--json").json["differences"] == {}


def test_the_manifest_lists_what_is_there(subset: Subset) -> None:
    subset.build("--set", "index.buckets=3")
    manifest = json.loads((subset.target / ".coco-diy/manifest.json").read_text())
    parts = [subset.target / ".coco-diy/manifest" / f"{digest}.parquet" for digest in manifest["parts"] if digest]
    assert sorted(parts) == sorted((subset.target / ".coco-diy/manifest").iterdir())
    tables = [pq.read_table(p) for p in parts]
    assert all(t.schema.equals(schema.manifest()) for t in tables)
    sizes = {row["path"]: row["size"] for t in tables for row in t.to_pylist()}
    sizes |= {path: facts["size"] for path, facts in manifest["meta"].items()}
    assert sizes == {path: len(content) for path, content in contents(subset.target, record=True).items()}


def test_times_and_hosts_are_in_the_runs_alone(own_town: Path, make_subset: MakeSubset) -> None:
    import socket

    subset = make_subset(own_town)
    subset.build()
    host = socket.gethostname().encode()
    for path in (p for p in subset.target.rglob("*") if p.is_file()):
        parts = path.relative_to(subset.target).parts
        if parts[:2] != (".coco-diy", "runs"):
            assert host not in path.read_bytes(), path
    (record,) = (subset.target / ".coco-diy/runs").iterdir()
    assert json.loads(record.read_text())["host"] == host.decode()


@pytest.mark.parametrize("key", ["source.names", "source.root", "workdir", "target.root", "classes", "source.marker"])
def test_a_path_with_a_nul(subset: Subset, key: str) -> None:
    """YAML can write one, and no file system has it."""
    told = subset.command("plan", "--set", f'{key}="a\\0b"', code=2).err
    assert told.startswith(f"coco-diy: --set {key}=")
    assert told.count("\n") == 1
