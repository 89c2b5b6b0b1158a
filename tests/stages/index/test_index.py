"""The index: only what changed is read again, and it ends as a fresh one would."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.base.errors import ConfigError
from pipeline.stages.index import source
from tests.conftest import MakeSubset, Run, Subset
from tests.support.helpers import settle, write_file

BUCKETS = "index.buckets=5"
TABLES = ("files", "images", "annotations", "problems")
BOX = "3 0.5 0.5 0.1 0.1\n"


def make_index(subset: Subset, *args: str, code: int = 0) -> Path:
    """Bring the index up to date; returns its folder."""
    return Path(subset.command("index", "--json", "--set", BUCKETS, *args, code=code).json["index"])


def parts(index: Path) -> dict[str, tuple[int, int]]:
    """Inode and mtime of every part: a part that is written again has others."""
    return {
        f"{table}/{p.name}": (p.stat().st_ino, p.stat().st_mtime_ns)
        for table in TABLES
        for p in sorted((index / table).iterdir())
    }


def tables(index: Path) -> dict[str, list[pa.Table]]:
    """Every table of the index by bucket; times of files are left out, they differ between copies of a source."""
    found: dict[str, list[pa.Table]] = {}
    for table in TABLES:
        read = [pq.read_table(p).replace_schema_metadata(None) for p in sorted((index / table).iterdir())]
        found[table] = [t.drop_columns("fingerprint") if table == "files" else t for t in read]
    return found


def touched(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> set[str]:
    """Names of the buckets' parts that were written."""
    return {name.split("/")[1] for name in before | after if before.get(name) != after.get(name)}


def reads(action: Callable[[], object]) -> int:
    """How often this process asked the system to read something in `action`: at least once a file."""

    def asked() -> int:
        return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["syscr"])

    before = asked()
    action()
    return asked() - before


def check_as_fresh(subset: Subset, make_subset: MakeSubset, name: str = "fresh", *args: str, code: int = 0) -> None:
    """The index as it is equals one made anew, counts included."""
    fresh = make_subset(subset.source, name)
    told = subset.command("index", "--json", "--set", BUCKETS, *args, code=code).json
    anew = fresh.command("index", "--json", "--set", BUCKETS, *args, code=code).json
    assert told["source"] == anew["source"]
    here, there = tables(Path(told["index"])), tables(Path(anew["index"]))
    for table in TABLES:
        assert len(here[table]) == len(there[table]) == 5
        for bucket, (one, other) in enumerate(zip(here[table], there[table], strict=True)):
            assert one.to_pylist() == other.to_pylist(), f"{table} {bucket}"
            assert one.schema.equals(other.schema)


def test_unchanged_is_not_read_again(subset: Subset) -> None:
    index = make_index(subset)
    before = parts(index)
    info = (index / "index.json").stat().st_mtime_ns
    assert make_index(subset) == index
    assert parts(index) == before
    assert (index / "index.json").stat().st_mtime_ns == info


Change = Callable[[Path], object]


def drop(*paths: Path) -> None:
    for path in paths:
        path.unlink()


CHANGES: dict[str, tuple[Change, int]] = {
    "one row more": (lambda s: write_file(s / "labels/train2017/b.txt", "1 0.3 0.3 0.1 0.1\n" + BOX), 1),
    "same size": (lambda s: write_file(s / "labels/val2017/w.txt", "4 0.5 0.5 0.1 0.1\n"), 1),
    "emptied": (lambda s: write_file(s / "labels/train2017/sub/e.txt", ""), 1),
    "replaced": (lambda s: os.replace(write_file(s / "new", BOX), s / "labels/train2017/a.txt"), 1),
    "a label more": (lambda s: write_file(s / "labels/train2017/sub/new.txt", BOX), 1),
    "a label to an image": (lambda s: write_file(s / "labels/train2017/unlabelled.txt", BOX), 1),
    "a label gone": (lambda s: drop(s / "labels/train2017/c.txt"), 1),
    "an image more": (lambda s: write_file(s / "images/val2017/new.png", "x"), 1),
    "a second image of a stem": (lambda s: write_file(s / "images/val2017/v.png", "x"), 1),
    "an image gone": (lambda s: drop(s / "images/train2017/unlabelled.jpg"), 1),
    "an image in another suffix": (lambda s: (s / "images/val2017/v.jpg").rename(s / "images/val2017/v.webp"), 1),
    "another time": (lambda s: os.utime(s / "labels/train2017/c.txt", ns=(10**18, 10**18)), 1),
    "a folder gone": (lambda s: drop(*(s / "labels/train2017/sub").rglob("*.txt")), 2),
    "nothing": (lambda s: None, 0),
}


@pytest.mark.parametrize("case", CHANGES)
def test_one_change_is_one_bucket(own_subset: Subset, make_subset: MakeSubset, case: str) -> None:
    index = make_index(own_subset)
    before = parts(index)
    change, buckets = CHANGES[case]
    change(own_subset.source)
    make_index(own_subset)
    assert 0 <= len(touched(before, parts(index))) <= buckets
    assert bool(touched(before, parts(index))) == bool(buckets)
    check_as_fresh(own_subset, make_subset)


def test_only_buckets_with_a_change_are_opened(own_subset: Subset, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is listed as it was, and whose parts are whole, is neither read nor counted again."""
    opened: list[int] = []
    work = source.index_bucket

    def noted(*args: Any) -> Any:
        opened.append(args[-2])
        return work(*args)

    monkeypatch.setattr(source, "index_bucket", noted)
    settle()
    index = make_index(own_subset, "--scheduler", "sync")
    assert sorted(opened) == [0, 1, 2, 3, 4]
    for case in ("one row more", "an image more", "a label gone"):
        before, opened[:] = parts(index), []
        CHANGES[case][0](own_subset.source)
        settle()
        make_index(own_subset, "--scheduler", "sync")
        assert {f"bucket-{bucket:05d}.parquet" for bucket in opened} == touched(before, parts(index))
        assert len(opened) == 1
    other = next(bucket for bucket in range(5) if bucket not in opened)
    (index / f"annotations/bucket-{other:05d}.parquet").unlink()
    opened.clear()
    make_index(own_subset, "--scheduler", "sync")
    assert opened == [other]


def test_one_change_reads_one_file(own_subset: Subset) -> None:
    """The other files of the bucket are rows of its old table."""
    for number in range(1000):
        write_file(own_subset.source / f"labels/train2017/{number}.txt", BOX)
    one_bucket = ("--set", "index.buckets=1")
    settle()  # until then the new files are too young to be trusted, and are read every time
    assert reads(lambda: own_subset.command("index", *one_bucket)) > 1000
    write_file(own_subset.source / "labels/val2017/w.txt", BOX)
    assert reads(lambda: own_subset.command("index", *one_bucket)) < 300


def test_of_files_that_were_but_touched_times_alone_are_written(own_subset: Subset, make_subset: MakeSubset) -> None:
    """As a copy or a checkout leaves them: what they say is known, bad rows and files that nobody may read too."""
    write_file(own_subset.source / "labels/train2017/b.txt", BOX + "no row\n" + BOX)
    skip = ("--set", "on_error=skip")
    index = make_index(own_subset, *skip, code=3)
    settle()
    for path in (own_subset.source / "labels").rglob("*.txt"):
        os.utime(path)
    settle()
    before = parts(index)
    make_index(own_subset, *skip, code=3)
    written = {name for name, mark in parts(index).items() if before[name] != mark}
    assert {name.split("/")[0] for name in written} == {"files"}
    assert len(written) == len({*(index / "files").iterdir()})
    check_as_fresh(own_subset, make_subset, "fresh", *skip, code=3)
    before = parts(index)
    make_index(own_subset, *skip, code=3)
    assert parts(index) == before


def test_bad_rows_of_unchanged_files_stay_known(own_subset: Subset, make_subset: MakeSubset) -> None:
    skip = ("--set", "on_error=skip")
    for name in ("a", "b", "v/deep"):
        write_file(own_subset.source / f"labels/train2017/{name}.txt", "0 9 9 9 9\n" + BOX + "x\n")
    index = make_index(own_subset, *skip, code=3)
    before = {r["path"] for t in tables(index)["problems"] for r in t.to_pylist()}
    assert len(before) == 3
    write_file(own_subset.source / "labels/train2017/a.txt", BOX)
    check_as_fresh(own_subset, make_subset, "fresh", *skip, code=3)
    for name in ("b", "v/deep"):
        write_file(own_subset.source / f"labels/train2017/{name}.txt", BOX)
    check_as_fresh(own_subset, make_subset, "later")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "index.json": lambda i: drop(i / "index.json"),
    "broken index.json": lambda i: (i / "index.json").write_text("{"),
    "other index.json": lambda i: (i / "index.json").write_text('{"version": 0}'),
    "a part": lambda i: drop(i / "annotations/bucket-00002.parquet"),
    "an images part": lambda i: drop(i / "images/bucket-00000.parquet"),
    "a files part": lambda i: drop(i / "files/bucket-00001.parquet"),
    "a problems part": lambda i: drop(i / "problems/bucket-00004.parquet"),
    "a cut files part": lambda i: os.truncate(i / "files/bucket-00003.parquet", 100),
    "a whole table": lambda i: drop(*(i / "annotations").iterdir()),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "info"),
    [(case, info) for case in DAMAGES for info in ("left", "gone") if (case, info) != ("a cut files part", "left")],
)
def test_a_killed_run_is_healed(subset: Subset, make_subset: MakeSubset, case: str, info: str) -> None:
    """A run that is killed leaves parts without `index.json`, or with that of the run before."""
    index = make_index(subset)
    before = parts(index)
    DAMAGES[case](index)
    if info == "gone":
        (index / "index.json").unlink(missing_ok=True)
    make_index(subset)
    assert parts(index).keys() == before.keys()
    healed = touched(before, parts(index))
    assert len(healed) <= (5 if case == "a whole table" else 1)
    check_as_fresh(subset, make_subset)


def test_a_killed_run_of_a_changed_source_is_healed(own_subset: Subset, make_subset: MakeSubset) -> None:
    """Some parts are new and some are old, and `index.json` is that of before."""
    index = make_index(own_subset)
    old_info, old_parts = (index / "index.json").read_bytes(), {p: p.read_bytes() for p in index.rglob("*.parquet")}
    for path in (own_subset.source / "labels").rglob("*.txt"):
        write_file(path, BOX)
    make_index(own_subset)
    (index / "index.json").write_bytes(old_info)
    for path, content in old_parts.items():
        if "bucket-00001" in path.name or "bucket-00003" in path.name:
            path.write_bytes(content)
    check_as_fresh(own_subset, make_subset)


def test_another_count_of_buckets_leaves_no_old_parts(subset: Subset, make_subset: MakeSubset) -> None:
    subset.command("index", "--set", "index.buckets=8")
    index = make_index(subset)
    assert {len(list((index / table).iterdir())) for table in TABLES} == {5}
    check_as_fresh(subset, make_subset)


def test_one_index_serves_every_subset(subset: Subset) -> None:
    index = make_index(subset)
    before = parts(index)
    for override in (
        "classes=[person]",
        "classes=null",
        "target.images=none",
        "select.backgrounds=all",
        "on_error=skip",
        f"target.root={subset.target}-2",
    ):
        subset.build("--set", BUCKETS, "--set", override)
    assert parts(index) == before


def test_another_task_has_another_index(own_subset: Subset, run: Run) -> None:
    for path in (own_subset.source / "labels").rglob("*.txt"):
        write_file(path, "1 0.1 0.1 0.9 0.1 0.5 0.95\n")
    found = {make_index(own_subset, "--set", f"source.task={task}") for task in ("detect", "segment")}
    assert len(found) == 2
    with pytest.raises(ConfigError, match="holds 2 indexes"):
        pipeline.open_index(str(own_subset.workdir))
    assert len(pipeline.open_index(str(found.pop())).images.compute(scheduler="sync")) == 12
    with pytest.raises(ConfigError, match="holds no index"):
        pipeline.open_index(str(own_subset.source))


def test_the_index_counts_what_its_tables_hold(subset: Subset) -> None:
    index = pipeline.open_index(str(make_index(subset)))
    totals = index.info.totals
    rows = index.annotations.compute(scheduler="sync")
    images = index.images.compute(scheduler="sync").set_index("key")
    split = images["split"].loc[rows["key"]].to_numpy()
    for name, counts in totals.items():
        here = rows[split == name]
        assert counts["rows"] == len(here) == sum(counts["objects"].values())
        assert counts["objects"] == {str(k): int(n) for k, n in here["class_id"].value_counts().sort_index().items()}
        pairs = here.drop_duplicates(["key", "class_id"])["class_id"].value_counts()
        assert counts["class_images"] == {str(k): int(n) for k, n in pairs.sort_index().items()}
        assert counts["images"] == int(images[images["split"] == name]["image_path"].notna().sum())


def test_a_file_that_changes_while_it_is_young_is_read_again(own_subset: Subset, unsettled: None) -> None:
    """Same size, same moment: a file system's clock may not tell two writes apart, so young files are not trusted."""
    path = own_subset.source / "labels/val2017/w.txt"
    for class_id in range(4):
        write_file(path, f"{class_id} 0.5 0.5 0.1 0.1\n")
        os.utime(path, ns=(10**18, 10**18))
        told = own_subset.command("stats", "--json", "--set", BUCKETS).json["subset"]["val"]
        own = {"person": 0, "bicycle": 2, "car": 1, "motorcycle": 1, "bus": 0, "truck": 1}
        own[("person", "bicycle", "car", "motorcycle")[class_id]] += 1
        assert told["objects"] == own
