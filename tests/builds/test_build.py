"""`build`, `plan`, `index` and `stats` on a source that is in order: what is made, what is kept, what is told."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import pipeline
from pipeline.tables import schema
from tests.conftest import MakeSubset, Subset
from tests.support.helpers import contents, outside, picture, run_process, slow, snapshot, write_file

MERGED = "classes=[{name: vehicle, from: [car, bus, truck]}, person]"

BUILT = {
    "labels/train/a.txt": b"0 0.25 0.25 0.1 0.1\n",
    "labels/train/b.txt": b"0 0.3 0.3 0.1 0.1\n1 0.4 0.4 0.100 1e-1\n",
    "labels/train/c.txt": b"1 0.5 0.5 0.4 0.4\n",
    "labels/train/d.txt": b"0 0.1 0.1 0.9 0.1 0.5 0.95\n",
    "labels/train/sub/e.txt": b"0 0.5 0.5 0.25 0.25\n",
    "labels/val/v.txt": b"0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n",
    "labels/val/x.txt": b"1 0.2 0.2 0.1 0.1\n",
    **{
        f"images/{split}/{name}": picture(f"{split}2017/{name}")
        for split, name in (
            ("train", "a.jpg"),
            ("train", "b.JPG"),
            ("train", "c.png"),
            ("train", "d.WebP"),
            ("train", "sub/e.jpeg"),
            ("val", "v.jpg"),
            ("val", "x.tiff"),
        )
    },
    "data.yaml": b"# Made by coco-diy; a build writes it anew. Digest of the subset: 279c9fa33727\n"
    b"train: images/train\nval: images/val\n\n"
    b"names:\n  0: bicycle\n  1: car\n",
}


def test_what_a_build_makes(subset: Subset) -> None:
    before = snapshot(subset.source)
    told = subset.build()
    assert contents(subset.target) == BUILT
    assert snapshot(subset.source) == before
    assert (told["command"], told["status"], told["ok"], told["warnings"]) == ("build", "built", True, [])
    assert told["classes"] == ["bicycle", "car"]
    assert +Counter(told["rows"]) == {"source": 19, "kept": 9, "other_classes": 10}
    assert +Counter(told["images"]) == {"source": 12, "kept": 7, "other_classes": 3, "background": 2}
    assert told["subset"]["train"] == {
        "images": 5,
        "labels": 5,
        "backgrounds": 0,
        "objects": {"bicycle": 4, "car": 2},
        "images_by_class": {"bicycle": 4, "car": 2},
    }
    assert told["subset"]["val"] == {
        "images": 2,
        "labels": 2,
        "backgrounds": 0,
        "objects": {"bicycle": 2, "car": 1},
        "images_by_class": {"bicycle": 1, "car": 1},
    }
    assert not list(subset.target.rglob("*.tmp"))
    assert not (subset.target / ".coco-diy/intent.json").exists()


def test_a_second_build_does_nothing(subset: Subset) -> None:
    source = snapshot(subset.source)
    subset.build()
    before, index = snapshot(subset.target), snapshot(subset.workdir / "index")
    told = subset.build()
    after = snapshot(subset.target)
    changed = {path for path in before | after if before.get(path) != after.get(path)}
    assert {path for path in changed if not path.startswith(".coco-diy/runs")} <= {".coco-diy/lock"}
    assert snapshot(subset.workdir / "index").keys() == index.keys()
    assert snapshot(subset.source) == source
    assert (told["status"], told["changes"]) == ("nothing to do", 0)
    sizes: dict[str, list[int]] = {}
    for path, content in contents(subset.target, record=True).items():
        kind = {"labels": "label", "images": "image"}.get(path.split("/")[0], "meta")
        sizes.setdefault(kind, []).append(len(content))
    kept = {kind: {"files": len(found), "bytes": sum(found)} for kind, found in sizes.items()}
    assert told["plan"]["keep"] == kept == subset.plan()["plan"]["keep"]
    assert told["subset"]["train"]["objects"] == {"bicycle": 4, "car": 2}
    assert "Nothing to do" in subset.command("build").out
    assert subset.plan()["changes"] == 0


def test_nothing_to_do_is_seen_with_tables_too(subset: Subset) -> None:
    """Where the quick way out cannot be taken, the plan says the same."""
    subset.build()
    write_file(subset.target / "labels/train.cache", "a trainer was here")
    before = outside(snapshot(subset.target))
    told = subset.build()
    assert (told["status"], told["changes"]) == ("nothing to do", 0)
    assert outside(snapshot(subset.target)) == before


def test_a_plan_touches_no_target(subset: Subset) -> None:
    assert subset.plan()["changes"] == 16
    assert not subset.target.exists()
    subset.build()
    before = snapshot(subset.target)
    subset.plan("--set", MERGED)
    assert snapshot(subset.target) == before


def happened(before: dict[str, tuple[int, ...]], after: dict[str, tuple[int, ...]]) -> Counter[tuple[str, str]]:
    """Files by (what became of them, kind), of two snapshots."""
    kinds = {"labels": "label", "images": "image"}

    def is_file(facts: tuple[int, ...] | None) -> bool:
        return facts is not None and facts[0] >> 12 != 0o4

    found: Counter[tuple[str, str]] = Counter()
    for path in before | after:
        old, new = before.get(path), after.get(path)
        if is_file(old) or is_file(new):
            kind = kinds.get(path.split("/")[0], "meta")
            found["delete" if new is None else "keep" if old == new else "make", kind] += 1
    return found


def planned(told: dict[str, Any]) -> Counter[tuple[str, str]]:
    """The counts of a plan in the same form."""
    names = {"write": "make", "copy": "make", "keep": "keep", "delete": "delete"}
    found: Counter[tuple[str, str]] = Counter()
    for action, kinds in told["plan"].items():
        for kind, counts in kinds.items():
            found[names[action], kind] += counts["files"]
    return +found


STEPS = [
    (),
    ("classes=[car, bicycle]",),
    ("classes=[car, bicycle, person, bus]",),
    (MERGED,),
    (MERGED, "select.backgrounds=all"),
    (MERGED, "select.backgrounds=unlabelled", "target.yaml=cloud"),
    (MERGED, "target.images=none"),
    ("classes=[motorcycle]", "target.images=symlink"),
    ("target.images=symlink", "target.yaml=absolute"),
    ("source.splits={train: train2017}",),
    ("source.splits={train: val2017, val: train2017}",),
    ("classes=[{name: bike, from: bicycle}, car]",),
    (),
]


def test_a_plan_says_what_the_build_then_does(subset: Subset, make_subset: MakeSubset) -> None:
    for number, step in enumerate(STEPS):
        overrides = [word for override in step for word in ("--set", override)]
        before = outside(snapshot(subset.target)) if subset.target.exists() else {}
        told = subset.plan(*overrides)
        built = subset.build(*overrides)
        after = outside(snapshot(subset.target))
        assert happened(before, after) == planned(told), step
        assert built["plan"] == told["plan"]
        assert all(built[key] == told[key] for key in ("rows", "subset", "changes"))
        assert told["changes"] == sum(n for (action, _), n in planned(told).items() if action != "keep")
        fresh = make_subset(subset.source, f"fresh-{number}")
        fresh.build(*overrides)
        if not {"target.yaml=cloud", "target.yaml=absolute"} & set(step):  # those two name their place
            assert contents(subset.target) == contents(fresh.target), step


def test_bytes_of_a_plan_are_the_files(subset: Subset) -> None:
    told = subset.plan()["plan"]
    subset.build()
    sizes: Counter[str] = Counter()
    for path, content in contents(subset.target, record=True).items():
        sizes[path.split("/")[0]] += len(content)
    assert told["write"]["label"] == {"files": 7, "bytes": sizes["labels"]}
    assert told["copy"]["image"] == {"files": 7, "bytes": sizes["images"]}
    assert told["write"]["meta"] == {"files": 2, "bytes": sizes["data.yaml"] + sizes["DATASET.md"]}


def test_the_plan_is_parquet(subset: Subset) -> None:
    subset.build()
    told = subset.plan("--set", MERGED, "--set", "index.buckets=3")
    parts = sorted(Path(told["plan_files"]).iterdir())
    assert [p.name for p in parts] == [*(schema.part_name(i) for i in range(3)), "meta.parquet"]
    tables = [pq.read_table(p) for p in parts]
    assert all(t.schema.equals(schema.plan()) for t in tables)
    rows = pa.concat_tables(tables).to_pylist()
    counted = Counter((r["action"], r["kind"]) for r in rows)
    for action, kinds in told["plan"].items():
        for kind in ("label", "image", "meta"):
            assert counted[action, kind] == kinds[kind]["files"]
    meta = {r["path"]: r["content"] for r in rows if r["kind"] == "meta"}
    subset.build("--set", MERGED, "--set", "index.buckets=3")
    assert meta["data.yaml"] == (subset.target / "data.yaml").read_bytes()
    assert {r["path"] for r in rows if r["action"] == "delete"} >= {"labels/train/sub/e.txt", "images/train/sub/e.jpeg"}


def test_another_order_rewrites_labels_and_leaves_images(subset: Subset) -> None:
    subset.build()
    before = snapshot(subset.target)
    told = subset.build("--set", "classes=[car, bicycle]")
    after = snapshot(subset.target)
    assert all(before[p] == after[p] for p in before if p.startswith("images"))
    assert all(before[p] != after[p] for p in before if p.endswith(".txt"))
    assert yaml.safe_load((subset.target / "data.yaml").read_text())["names"] == {0: "car", 1: "bicycle"}
    assert (subset.target / "labels/train/b.txt").read_bytes() == b"1 0.3 0.3 0.1 0.1\n0 0.4 0.4 0.100 1e-1\n"
    assert told["plan"]["keep"]["image"]["files"] == 7


def test_a_class_removed_takes_its_files_along(subset: Subset) -> None:
    subset.build()
    told = subset.build("--set", "classes=[bicycle]")
    found = contents(subset.target)
    assert set(BUILT) - set(found) == {
        "labels/train/c.txt",
        "images/train/c.png",
        "labels/val/x.txt",
        "images/val/x.tiff",
    }
    assert told["plan"]["keep"]["label"]["files"] == 4  # a, d, e, v hold nothing else
    assert told["plan"]["write"]["label"]["files"] == 1


@pytest.mark.parametrize(
    ("kind", "name", "train"),
    [
        ("portable", "data.yaml", "images/train"),
        ("cloud", "subset.yaml", "images/train"),
        ("absolute", "data.yaml", "{root}/images/train"),
    ],
)
def test_training_yaml(subset: Subset, kind: str, name: str, train: str) -> None:
    subset.build()
    subset.build("--set", f"target.yaml={kind}")
    assert {p.name for p in subset.target.iterdir() if p.is_file()} == {name, "DATASET.md"}
    told = yaml.safe_load((subset.target / name).read_text())
    assert told["train"] == train.format(root=subset.target)
    assert "path" not in told


def test_a_new_name_is_a_new_yaml_and_record_alone(subset: Subset) -> None:
    subset.build()
    told = subset.build("--set", "classes=[{name: bike, from: bicycle}, car]")
    assert told["changes"] == told["plan"]["write"]["meta"]["files"] == 2
    assert yaml.safe_load((subset.target / "data.yaml").read_text())["names"] == {0: "bike", 1: "car"}


@pytest.mark.slow
@pytest.mark.parametrize("buckets", ["1", "8"])
def test_a_source_of_another_name_makes_the_same_files(subset: Subset, buckets: str) -> None:
    """Names are in the keys, keys deal files to buckets: what one gives up another takes, or a true word says no."""
    subset.build("--set", f"index.buckets={buckets}")
    before = outside(snapshot(subset.target))
    told = subset.command("build", "--set", f"index.buckets={buckets}", "--set", "source.name=other", code=None)
    assert told.code == 0 or "source.name" in told.err
    assert "was not made by coco-diy" not in told.err
    assert outside(snapshot(subset.target)) == before


def test_splits_spelled_out(subset: Subset, tmp_path: Path) -> None:
    """As Roboflow lays them out: the folders of two splits have the same names."""
    for split, folder in (("train", "train2017"), ("valid", "val2017")):
        for kind in ("labels", "images"):
            shutil.copytree(subset.source / kind / folder, tmp_path / "robo" / split / kind)
    splits = "{train: {labels: train/labels, images: train/images}, val: {labels: valid/labels, images: valid/images}}"
    subset.build("--set", f"source.root={tmp_path}/robo", "--set", f"source.splits={splits}")
    assert contents(subset.target) == BUILT


def test_a_moved_target_is_still_ours(subset: Subset) -> None:
    subset.build()
    moved = subset.target.with_name("elsewhere")
    subset.target.rename(moved)
    assert subset.build("--set", f"target.root={moved}")["changes"] == 0
    assert contents(moved) == BUILT


def test_another_workdir_makes_the_same_plan(subset: Subset) -> None:
    subset.build()
    before = outside(snapshot(subset.target))
    assert subset.build("--set", f"workdir={subset.workdir}-2")["changes"] == 0
    assert outside(snapshot(subset.target)) == before


@pytest.mark.parametrize(
    ("classes", "lacking", "cure"),
    [
        ("[motorcycle]", "train", "has no object of these classes"),
        ("[bus]", "val", "has no object of these classes"),
    ],
)
def test_a_subset_without_a_split_is_built_with_a_warning(
    subset: Subset, classes: str, lacking: str, cure: str
) -> None:
    told = subset.command("build", "--set", f"classes={classes}")
    assert f"warning: the subset has no {lacking} images" in told.err
    assert cure in told.err
    assert lacking not in yaml.safe_load((subset.target / "data.yaml").read_text())
    again = subset.command("build", "--set", f"classes={classes}")
    assert f"no {lacking} images" in again.err
    only = subset.command("plan", "--set", "source.splits={train: train2017}")
    assert "val: val2017" in only.err


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        (MERGED,),
        ("classes=null",),
        ("select.duplicates=drop",),
        ("target.images=none",),
        ("index.buckets=5", "select.backgrounds=all"),
        *slow(((MERGED, "select.duplicates=drop"),), (("classes=null", "select.duplicates=drop"),)),
    ],
    ids=str,
)
def test_every_row_is_accounted_for(subset: Subset, overrides: tuple[str, ...]) -> None:
    told = subset.build(*(word for override in overrides for word in ("--set", override)))
    rows, images = dict(told["rows"]), dict(told["images"])
    assert rows.pop("source") == sum(rows.values()) == 19
    assert images.pop("source") == sum(images.values()) == 12
    assert images["kept"] == sum(s["images"] for s in told["subset"].values())
    assert rows["kept"] == sum(sum(s["objects"].values()) for s in told["subset"].values())
    labels = [c for path, c in contents(subset.target).items() if path.startswith("labels/")]
    written = [line for content in labels for line in content.splitlines()]
    assert rows["kept"] == len(written)
    merged = MERGED in overrides
    assert rows["other_classes"] == (10 if told["classes"] == ["bicycle", "car"] else 7 if merged else 0)


@pytest.mark.parametrize(
    ("classes", "v", "x", "dropped"),
    [
        ("[bicycle, car]", b"0 0.5 0.5 0.2 0.2\n", b"1 0.2 0.2 0.1 0.1\n", 1),
        ("[bicycle, {name: vehicle, from: [car, truck]}]", b"0 0.5 0.5 0.2 0.2\n", b"1 0.2 0.2 0.1 0.1\n", 2),
    ],
)
def test_duplicates(subset: Subset, classes: str, v: bytes, x: bytes, dropped: int) -> None:
    kept = subset.build("--set", f"classes={classes}")
    assert kept["rows"]["duplicates"] == 0
    assert (subset.target / "labels/val/v.txt").read_bytes() == 2 * v
    assert sum(s["duplicate_rows"] for s in kept["source"].values()) == 1
    told = subset.build("--set", f"classes={classes}", "--set", "select.duplicates=drop")
    assert (subset.target / "labels/val/v.txt").read_bytes() == v
    assert (subset.target / "labels/val/x.txt").read_bytes() == x
    assert told["rows"]["duplicates"] == dropped
    assert told["rows"]["kept"] == kept["rows"]["kept"] - dropped


def test_index_and_stats_count_the_source(subset: Subset) -> None:
    told = subset.command("index", "--json").json
    assert told["source"]["train"]["labels"] == {"found": 7, "empty": 1, "missing": 1}
    assert (told["source"]["train"]["images"], told["source"]["train"]["rows"]) == (9, 13)
    assert told["source"]["val"]["objects"] == {"0": 1, "1": 2, "2": 1, "3": 1, "5": 1}
    stats = subset.command("stats", "--json").json
    assert stats["of"] == "source"
    assert stats["subset"]["val"]["objects"] == {
        "person": 1,
        "bicycle": 2,
        "car": 1,
        "motorcycle": 1,
        "bus": 0,
        "truck": 1,
    }
    assert stats["subset"]["val"]["images_by_class"]["bicycle"] == 1
    assert not subset.target.exists()


def test_stats_of_a_target(subset: Subset) -> None:
    assert "no such config, target or folder" in subset.run("stats", subset.target, code=2).err
    built = subset.build()
    told = subset.run("stats", subset.target, "--json").json
    assert (told["of"], told["subset"], told["classes"]) == ("target", built["subset"], ["bicycle", "car"])
    text = subset.run("stats", subset.target).out
    (row,) = (line for line in text.splitlines() if "bicycle" in line)
    assert re.match(r"0 bicycle <- 1 bicycle +4 +4 +1 +2 ", row)


@pytest.mark.parametrize("command", ["plan", "build", "index", "stats"])
def test_streams(subset: Subset, command: str) -> None:
    """The result on stdout, as one JSON document or for people; nothing on stderr; quiet is quiet."""
    told = subset.command(command, "--json")
    assert isinstance(json.loads(told.out), dict)
    assert told.out.count("\n") == 1
    assert told.err == ""
    text = subset.command(command)
    assert text.err == ""
    assert "bicycle" in text.out or "train" in text.out or "Nothing to do" in text.out
    assert subset.command(command, "-q").out == ""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a file that is always full")
def test_a_result_that_cannot_be_written(subset: Subset) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", "build", subset.config, "--scheduler", "sync"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "coco-diy: stdout: the result cannot be written (No space left on device); the command itself is done\n"
    )
    assert contents(subset.target) == BUILT


def test_a_fault_of_ours(subset: Subset, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence that asks for a report; with -v the traceback."""
    monkeypatch.setattr("pipeline.api.resolve", lambda _: 1 // 0)
    told = subset.command("plan", code=1)
    assert told.err == (
        "coco-diy: internal error, please report it: ZeroDivisionError: integer division or "
        "modulo by zero (run again with -v for the traceback)\n"
    )
    told = subset.command("plan", "-v", code=1)
    assert told.err.startswith("Traceback")
    assert told.err.rstrip().endswith("ZeroDivisionError: integer division or modulo by zero")


def test_as_processes_with_the_default_engine(subset: Subset) -> None:
    first = run_process("build", subset.config, "--json")
    assert (first.code, first.err, first.json["status"]) == (0, "", "built")
    assert contents(subset.target) == BUILT
    second = run_process("build", subset.config, "--json")
    assert (second.code, second.err, second.json["status"]) == (0, "", "nothing to do")
    wrong = run_process("build", subset.config, "--set", "classes=[cra]", "--json")
    assert (wrong.code, wrong.json["reason"], wrong.json["exit_code"]) == (2, "unknown_name", 2)
    assert wrong.err == "coco-diy: --set classes=[cra]: unknown class 'cra'; did you mean 'car'?\n"


def test_as_a_library(subset: Subset) -> None:
    from pipeline.api import make_plan

    config = pipeline.load_config(subset.config, ["engine.scheduler=sync"])
    assert make_plan(config).data["changes"] == 16
    report = pipeline.build(config)
    assert (report.ok, report.data["status"]) == (True, "built")
    assert contents(subset.target) == BUILT
    frame = pipeline.open_index(str(subset.workdir)).annotations
    assert len(frame.compute(scheduler="sync")) == 19
