"""`remake`: the tutorial's four values, and the tutorial's own script as the oracle."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from tests.conftest import MakeSubset, Run
from tests.support.helpers import NAMES, contents, make_tree, names_yaml, run_process, snapshot, write_file

SPLITS = {"train2017": "train", "val2017": "val"}


def tutorial(source: Path, names: Sequence[str], wanted: Sequence[str]) -> dict[str, bytes]:
    """The tutorial's algorithm for box labels, anew: path below the target to bytes."""
    made: dict[str, bytes] = {}
    for folder, split in SPLITS.items():
        for label in sorted((source / "labels" / folder).glob("*.txt")):
            rows = []
            for line in label.read_text().splitlines():
                class_id, *box = line.split()
                if names[int(class_id)] in wanted:
                    rows.append(f"{wanted.index(names[int(class_id)])} {' '.join(box)}\n")
            if rows:
                made[f"labels/{split}/{label.name}"] = "".join(rows).encode()
                image = source / "images" / folder / f"{label.stem}.jpg"
                made[f"images/{split}/{image.name}"] = image.read_bytes()
    return made


def boxes_tree(root: Path, seed: int) -> Path:
    """A tree as the tutorial's script needs it: rows `%d %.6f …` with one blank, images `.jpg`, no empty files."""
    rng = random.Random(seed)
    labels: dict[str, dict[str, bytes | str]] = {}
    for folder in SPLITS:
        labels[folder] = {
            f"{rng.randrange(10**6):012d}": "".join(
                f"{rng.randrange(len(NAMES))} {' '.join(f'{rng.uniform(0.01, 0.99):.6f}' for _ in range(4))}\n"
                for _ in range(rng.randint(1, 6))
            )
            for _ in range(20)
        }
    images = {folder: (*(f"{stem}.jpg" for stem in files), "no_label.jpg") for folder, files in labels.items()}
    return make_tree(root, labels, images)


def remake(run: Run, source: Path, target: Path, wanted: Sequence[str], *args: str) -> dict[str, bytes]:
    """Run `remake`; returns what is at the target but for data.yaml, after a look at that."""
    mine = write_file(target.parent / f"{target.name}-names.yaml", names_yaml(tuple(wanted)))
    run(
        "remake",
        source,
        target,
        "--src-yaml",
        source / "coco.yaml",
        "--dst-yaml",
        mine,
        "--workdir",
        target.parent / "work",
        *args,
    )
    found = contents(target)
    told = yaml.safe_load(found.pop("data.yaml"))
    assert told == {"train": "images/train", "val": "images/val", "names": dict(enumerate(wanted))}
    return found


@pytest.mark.parametrize(
    "wanted",
    [("bicycle",), ("truck", "person", "car"), NAMES, tuple(reversed(NAMES))],
    ids=["one", "another order", "all", "all, reversed"],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_as_the_tutorial(tmp_path: Path, run: Run, wanted: tuple[str, ...], seed: int) -> None:
    source = boxes_tree(tmp_path / "src", seed)
    before = snapshot(source)
    expected = tutorial(source, NAMES, wanted)
    assert expected
    assert remake(run, source, tmp_path / "dst", wanted) == expected
    assert snapshot(source) == before


def test_the_script_agrees_with_our_reading_of_it(tmp_path: Path, shared: Path) -> None:
    source = boxes_tree(tmp_path / "src", 3)
    script(shared, source, tmp_path / "dst", ("car", "person"))
    assert contents(tmp_path / "dst") == tutorial(source, NAMES, ("car", "person"))


def script(shared: Path, source: Path, target: Path, wanted: Sequence[str]) -> None:
    """Run the tutorial's own script."""
    mine = write_file(target.parent / f"{target.name}-names.yaml", names_yaml(tuple(wanted)))
    paths = (shared / "reference/coco_remake.py", source, target, source / "coco.yaml", mine)
    subprocess.run([sys.executable, *map(str, paths)], check=True, stdout=subprocess.DEVNULL, timeout=100)


COCO_NAMES_YAML = "data/yaml/coco-dict.yaml"
FIVE = ("dog", "bicycle", "person", "car", "traffic light")


@pytest.mark.parametrize("wanted", [("bicycle",), FIVE, None], ids=["one", "five", "all 80"])
def test_as_the_tutorial_s_script_on_real_boxes(
    coco_boxes: Path, shared: Path, tmp_path: Path, run: Run, wanted: tuple[str, ...] | None
) -> None:
    shutil.copyfile(shared / COCO_NAMES_YAML, coco_boxes / "coco.yaml")
    names = list(yaml.safe_load((coco_boxes / "coco.yaml").read_text())["names"].values())
    wanted = wanted or tuple(sorted(names))
    script(shared, coco_boxes, tmp_path / "script", wanted)
    expected = contents(tmp_path / "script")
    assert {p.split("/")[1] for p in expected} == {"train", "val"}
    made = remake(run, coco_boxes, tmp_path / "ours", wanted)
    if len(wanted) == len(names):
        assert len(made) == 2 * sum(1 for _ in (coco_boxes / "labels").rglob("*.txt")) > 400
    assert made.keys() == expected.keys()
    assert made == expected
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(
    ("kind", "task", "wanted", "rows"),
    [
        ("segments", "segment", ["person", "dog"], 1000),
        ("segments", "detect", ["zebra", "car", "person"], 1000),
        ("keypoints", "pose", ["person"], 2000),
    ],
)
def test_real_polygons_and_poses_keep_every_byte_but_the_class(
    coco_labels: Callable[[str], Path],
    shared: Path,
    make_subset: MakeSubset,
    kind: str,
    task: str,
    wanted: list[str],
    rows: int,
) -> None:
    source = coco_labels(kind)
    names_file = shared / "data/yaml" / ("coco-pose.yaml" if task == "pose" else "coco-dict.yaml")
    names = yaml.safe_load(names_file.read_text(encoding="utf-8"))["names"]
    subset = make_subset(
        source,
        classes=wanted if task != "pose" else [{"name": "player", "from": "person"}],
        source={
            "task": task,
            "names": str(names_file),
            "root": str(source),
            "splits": {"train": "train2017", "val": "val2017"},
        },
    )
    told = subset.build("--set", "target.images=none")
    made = contents(subset.target)
    data = yaml.safe_load(made.pop("data.yaml"))
    assert ("kpt_shape" in data, "flip_idx" in data) == ((True, True) if task == "pose" else (False, False))
    count = 0
    expected = {}
    for folder, split in SPLITS.items():
        for label in (source / "labels" / folder).iterdir():
            kept = []
            for line in label.read_bytes().splitlines():
                token, blank, rest = line.partition(b" ")
                if names[int(token)] in wanted:
                    kept.append(str(wanted.index(names[int(token)])).encode() + blank + rest + b"\n")
            count += len(kept)
            if kept:
                expected[f"labels/{split}/{label.name}"] = b"".join(kept)
    assert made == expected
    assert told["rows"]["kept"] == count > rows // 2


def test_pose_is_known_by_its_kpt_shape(tmp_path: Path, run: Run) -> None:
    row = "0 0.5 0.5 0.2 0.2 0.4 0.4 2 0 0 0\n"
    source = make_tree(
        tmp_path / "src",
        {"train2017": {"a": row}, "val2017": {"b": row}},
        {"train2017": ("a.jpg",), "val2017": ("b.jpg",)},
        ("person",),
    )
    write_file(source / "coco.yaml", "names: [person]\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\n")
    mine = write_file(tmp_path / "mine.yaml", "names: [person]\n")
    words = (
        "remake",
        source,
        tmp_path / "dst",
        "--src-yaml",
        source / "coco.yaml",
        "--dst-yaml",
        mine,
        "--workdir",
        tmp_path / "work",
    )
    run(*words)
    assert contents(tmp_path / "dst")["labels/train/a.txt"] == row.encode()
    assert yaml.safe_load((tmp_path / "dst/data.yaml").read_text())["kpt_shape"] == [2, 3]
    # The same rows have an odd number of tokens, so they pass as polygons; a box does not pass as a pose.
    run(*words, "--task", "segment", code=1)  # visibility 2 is no coordinate
    write_file(source / "labels/train2017/a.txt", "0 0.5 0.5 0.2 0.2\n")
    assert "task pose takes 11 tokens" in run(*words, code=1).err
    assert "train2017/a.txt:1: " in run(*words, code=1).err


def test_remake_says_what_is_wrong_with_its_values(tmp_path: Path, town: Path, run: Run) -> None:
    mine = write_file(tmp_path / "mine.yaml", names_yaml(("bicycle", "cra")))
    rest = ("--src-yaml", town / "coco.yaml", "--dst-yaml", mine, "--workdir", tmp_path / "work")
    dst = tmp_path / "dst"
    assert f"{mine}: classes: unknown class 'cra'; did you mean 'car'" in run("remake", town, dst, *rest, code=2).err
    assert "for example labels/train2017" in run("remake", tmp_path, dst, *rest, code=2).err
    assert "--dst-yaml" in run("remake", town, dst, code=2).err
    assert "--src-yaml" in run("remake", town, dst, "--dst-yaml", mine, code=2).err
    none = ("--src-yaml", "none.yaml", *rest[2:])
    assert "no such class names file" in run("remake", town, dst, *none, code=2).err
    write_file(mine, names_yaml(("bicycle",)))
    assert "which is never written to" in run("remake", town, town, *rest, code=2).err
    assert not dst.exists()


def test_without_val_there_is_a_warning_with_the_cure(tmp_path: Path, run: Run) -> None:
    source = make_tree(tmp_path / "src", {"train2017": {"a": "1 0.5 0.5 0.1 0.1\n"}}, {"train2017": ("a.jpg",)})
    mine = write_file(tmp_path / "mine.yaml", names_yaml(("bicycle",)))
    told = run(
        "remake",
        source,
        tmp_path / "dst",
        "--src-yaml",
        source / "coco.yaml",
        "--dst-yaml",
        mine,
        "--workdir",
        tmp_path / "work",
    )
    assert "warning: the subset has no val images" in told.err
    assert "assign images by --set 'split={train: 0.8, val: 0.2}'" in told.err
    assert "val" not in yaml.safe_load((tmp_path / "dst/data.yaml").read_text())


@pytest.mark.slow
def test_as_a_command_with_the_index_in_the_user_s_cache(
    tmp_path: Path, town: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole job as people run it: a process, no workdir, relative paths; the next subset uses the same index."""
    here = tmp_path / "here"
    here.mkdir()
    os.symlink(town, here / "coco")
    write_file(here / "mine.yaml", names_yaml(("car", "bicycle")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ("remake", "coco", "dst", "--src-yaml", "coco/coco.yaml", "--dst-yaml", "mine.yaml")
    told = run_process(*words, cwd=here)
    assert (told.code, told.err) == (0, "")
    assert f"Built {here}/dst." in told.out
    parts = sorted((tmp_path / "cache/coco-diy").rglob("annotations/*.parquet"))
    before = [p.stat().st_mtime_ns for p in parts]
    assert parts
    write_file(here / "mine.yaml", names_yaml(("bus",)))
    assert run_process("remake", "coco", "other", *words[3:], cwd=here).code == 0
    assert [p.stat().st_mtime_ns for p in parts] == before
    assert {p.name for p in here.iterdir()} == {"coco", "mine.yaml", "dst", "other"}
    assert set(contents(here / "other")) == {
        "data.yaml",
        "images/train/d.WebP",
        "images/train/sub/deep/f.bmp",
        "labels/train/d.txt",
        "labels/train/sub/deep/f.txt",
    }


def test_a_tilde_is_the_home(town: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In all four values; and a repair, which works from the manifest, knows where they were."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "source").symlink_to(town)
    write_file(home / "two.yaml", "names: [bicycle, car]\n")
    monkeypatch.setenv("HOME", str(home))
    words = ("~/source", tmp_path / "out", "--src-yaml", "~/source/coco.yaml", "--dst-yaml", "~/two.yaml")
    run("remake", *words, "--workdir", "~/work")
    (tmp_path / "out/labels/train/a.txt").unlink()
    assert run("verify", tmp_path / "out", "--repair", "--json").json["repaired"] == 1
