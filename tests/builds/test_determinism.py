"""The same bytes with any scheduler, any number of workers and any number of buckets; a partition is a bucket."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.stages.index import assignment
from pipeline.stages.index.reader import Index
from pipeline.storage import spill
from pipeline.tables import schema
from tests.conftest import CROWD_CONFIG, MakeSubset, Subset
from tests.support.helpers import NAMES, contents, make_tree, slow

pytestmark = pytest.mark.xdist_group("crowd")  # one process makes what is expected, not each

BUCKETS = [7, *slow(1, 2, 64)]


@pytest.mark.slow
def test_the_crowd_is_worth_it(expected: dict[str, bytes]) -> None:
    assert sum(p.startswith("labels/") for p in expected) > 75
    assert b"" in expected.values()


@pytest.mark.parametrize("buckets", BUCKETS)
def test_any_number_of_buckets(wanted: Subset, expected: dict[str, bytes], buckets: int) -> None:
    wanted.build("--set", f"index.buckets={buckets}")
    assert contents(wanted.target, record=True) == expected


@pytest.mark.parametrize("engine", ["threads 2", "auto", "processes 2", *slow("threads 1", "threads 8")])
def test_any_scheduler(wanted: Subset, expected: dict[str, bytes], engine: str) -> None:
    scheduler, _, workers = engine.partition(" ")
    words = ["--scheduler", scheduler, *(["--workers", workers] if workers else [])]
    wanted.build(*words, "--set", "index.buckets=7")
    assert contents(wanted.target, record=True) == expected


def test_listings_in_memory_or_in_a_file(crowd: Path, make_subset: MakeSubset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is the same, whether what was listed waits in memory or in a file, and how much is assigned at once."""
    made = []
    for name, limit, block in (("memory", 1 << 30, 65_536), ("file", 0, 7)):
        monkeypatch.setattr(spill, "IN_MEMORY", limit)
        monkeypatch.setattr(assignment, "_BLOCK", block)
        subset = make_subset(crowd, name)
        for _ in range(2):  # first of names, then with stats, which are to be those that reading found
            subset.command("index", "--set", "index.buckets=3")
            made.append(contents(subset.workdir / "index"))
    assert made[1:] == made[:-1]
    assert len(made[0]) > 3 * 4


@pytest.mark.slow
def test_more_files_than_one_process_does_alone(tmp_path: Path, make_subset: MakeSubset) -> None:
    """From ten thousand files on `auto` shares the buckets with helper processes, for the index and at the target."""
    labels = {f"{number:05d}": f"{number % 6} 0.5 0.5 0.1 0.{number:05d}\n" for number in range(10_100)}
    source = make_tree(tmp_path / "src", {"train2017": labels, "val2017": {"v": "0 0.5 0.5 0.1 0.1\n"}}, {})
    subset = make_subset(source, classes=["truck", {"name": "rest", "from": list(NAMES[:-1])}])
    words = ("--workers", "2", "--set", "target.images=none", "--set", "index.buckets=4")
    told = subset.build("--scheduler", "auto", *words)
    assert told["rows"]["kept"] == 10_101
    made = contents(subset.target)
    assert made["labels/train/00017.txt"] == b"0 0.5 0.5 0.1 0.00017\n"
    for number, row in enumerate(labels.values()):
        new = b"0" if number % 6 == 5 else b"1"
        assert made[f"labels/train/{number:05d}.txt"] == new + row[1:].encode()
    assert len(made) == 10_102
    assert subset.build("--scheduler", "sync", *words, "--set", f"workdir={tmp_path}/other")["changes"] == 0


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A Dask scheduler that listens on TCP, with two workers of two threads."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=2, processes=False, protocol="tcp://", dashboard_address=":0", silence_logs=50
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.slow
def test_a_scheduler_s_address(wanted: Subset, expected: dict[str, bytes], address: str) -> None:
    assert address.startswith("tcp://")
    wanted.build("--scheduler", address, "--set", "index.buckets=7")
    assert contents(wanted.target, record=True) == expected


def test_an_address_that_is_none(wanted: Subset) -> None:
    told = wanted.command("build", "--scheduler", "quick://127.0.0.1:9", code=75).err
    assert "no scheduler answers at quick://127.0.0.1:9" in told
    assert "internal error" not in told


@pytest.mark.slow
def test_buckets_may_change_under_a_target(wanted: Subset, make_subset: MakeSubset) -> None:
    """A target of one bucket count is compared with an index of another: of a divisor, of a multiple, of neither."""
    orders = (["truck", "car"], ["car", "truck", "bus"], ["bus", "car"], ["person"], ["car"])
    for classes, buckets in zip(orders, (7, 32, 2, 6, 1), strict=True):
        told = wanted.build("--set", f"classes={classes}", "--set", f"index.buckets={buckets}")
        assert told["changes"] > 0
    fresh = make_subset(wanted.source, "fresh", **CROWD_CONFIG)
    fresh.build("--set", "classes=['car']")
    assert contents(wanted.target) == contents(fresh.target)


@pytest.mark.slow
def test_other_buckets_alone_change_nothing_and_forget_nothing(wanted: Subset, expected: dict[str, bytes]) -> None:
    wanted.build("--set", "index.buckets=7")
    before = {p: p.lstat().st_mtime_ns for p in wanted.target.rglob("*") if p.is_file() and ".coco-diy" not in p.parts}
    for buckets in (3, 14):
        told = wanted.build("--set", f"index.buckets={buckets}", "--set", f"workdir={wanted.workdir}-{buckets}")
        assert told["changes"] == 0
    assert {p: p.lstat().st_mtime_ns for p in before} == before
    wanted.build("--set", "classes=[motorcycle]", "--set", "select.backgrounds=none")
    left = contents(wanted.target)
    assert 0 < len(left) < len(expected)
    assert b"" not in left.values()


def open_crowd(wanted: Subset, buckets: int) -> Index:
    wanted.command("index", "--set", f"index.buckets={buckets}")
    found = pipeline.open_index(str(wanted.workdir))
    assert isinstance(found, Index)
    return found


@pytest.mark.parametrize("buckets", BUCKETS)
def test_partition_i_is_bucket_i(wanted: Subset, buckets: int) -> None:
    import dask

    index = open_crowd(wanted, buckets)
    for frame in (index.annotations, index.images, index.files, index.problems):
        assert frame.npartitions == frame.optimize().npartitions == buckets
    frames = [
        index.annotations,
        index.annotations[["bucket", "key"]],  # a projection is where read_parquet would fuse files
        index.frame("annotations", ["key", "bucket", "class_id"]),
        index.frame("annotations", ["key", "bucket", "class_id"], classes=[1, 3]),
        index.images[["bucket", "key"]],
    ]
    for frame in frames:
        assert frame.optimize().npartitions == buckets
        parts = dask.compute(*frame.to_delayed(), scheduler="sync")
        assert len(parts) == buckets
        for bucket, part in enumerate(parts):
            assert set(part["bucket"]) <= {bucket}
            assert all(zlib.crc32(key.encode()) % buckets == bucket for key in part["key"])
    assert set(frames[3].compute(scheduler="sync")["class_id"]) == {1, 3}


def test_tables_have_their_schema(wanted: Subset) -> None:
    index = open_crowd(wanted, 7)
    schemas = {
        "files": schema.files(),
        "images": schema.images(),
        "annotations": schema.annotations(),
        "problems": schema.problems(),
    }
    for table, told in schemas.items():
        parts = sorted((Path(index.directory) / table).iterdir())
        assert [p.name for p in parts] == [schema.part_name(i) for i in range(7)]
        for path in parts:
            made = pq.read_table(path)
            assert made.schema.equals(told), table
            assert [f.metadata for f in made.schema] == [f.metadata for f in told]
            for field in told:
                assert field.nullable or made[field.name].null_count == 0, (table, field.name)
            if table != "files":
                assert made["key"].to_pylist() == sorted(made["key"].to_pylist())


def test_all_keys_have_one_home(wanted: Subset, crowd: Path) -> None:
    index = open_crowd(wanted, 7)
    keys = list(index.images.compute(scheduler="sync")["key"])
    stems = {
        f"source/{p.relative_to(crowd / kind).with_suffix('')}"
        for kind in ("labels", "images")
        for p in (crowd / kind).rglob("*")
        if p.is_file()
    }
    assert len(keys) == len(set(keys))
    assert set(keys) == stems
