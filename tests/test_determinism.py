"""The same bytes with any scheduler, any number of workers and any number of buckets; a partition is a bucket."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline import schema
from pipeline.index import Index
from tests.conftest import MakeSubset, Subset
from tests.helpers import NAMES, contents, make_tree, run_process

BUCKETS = (1, 2, 7, 64)
CONFIG = {"classes": ["truck", {"name": "small", "from": ["bicycle", "motorcycle"]}, "person"],
          "select": {"backgrounds": "unlabelled", "duplicates": "drop"}}


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred images and more, in folders, with all that is in order: empty, unlabelled, polygons, duplicate rows."""
    rng = random.Random(5)
    labels: dict[str, dict[str, bytes | str]] = {}
    images = {}
    for folder, count in (("train2017", 120), ("val2017", 30)):
        stems = [f"{'deep/' * rng.choice((0, 0, 1))}{rng.randrange(10**9):012d}" for _ in range(count)]
        labels[folder] = {}
        for stem in stems:
            size = rng.choice((4, 4, 4, 6, 10))
            rows = [f"{rng.randrange(len(NAMES))} {' '.join(f'{rng.random():.4f}' for _ in range(size))}\n"
                    for _ in range(rng.randint(0, 5))]
            labels[folder][stem] = "".join(rows + rows[: rng.choice((0, 0, 2))])
        images[folder] = tuple(f"{s}.{rng.choice(('jpg', 'PNG', 'webp'))}" for s in [*stems, "lone", "deep/lone"])
    return make_tree(tmp_path_factory.mktemp("crowd") / "crowd", labels, images)


@pytest.fixture(scope="module")
def expected(crowd: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The subset as one thread makes it of one bucket, in a process of its own."""
    import yaml

    folder = tmp_path_factory.mktemp("expected")
    source = {"root": str(crowd), "names": str(crowd / "coco.yaml"), "splits": {"train": "train2017", "val": "val2017"}}
    (folder / "c.yaml").write_text(yaml.safe_dump(CONFIG | {"source": source, "target": {"root": str(folder / "out")},
                                                            "workdir": str(folder / "work"), "index": {"buckets": 1}}))
    told = run_process("build", folder / "c.yaml", "--scheduler", "sync", "--workers", "1")
    assert told.code == 0, told.err
    return contents(folder / "out")


def test_the_crowd_is_worth_it(expected: dict[str, bytes]) -> None:
    assert sum(p.startswith("labels/") for p in expected) > 75
    assert b"" in expected.values()


@pytest.fixture
def wanted(crowd: Path, make_subset: MakeSubset) -> Subset:
    return make_subset(crowd, **CONFIG)


@pytest.mark.parametrize("buckets", BUCKETS)
def test_any_number_of_buckets(wanted: Subset, expected: dict[str, bytes], buckets: int) -> None:
    wanted.build("--set", f"index.buckets={buckets}")
    assert contents(wanted.target) == expected


@pytest.mark.parametrize("engine", ["threads 1", "threads 2", "threads 8", "auto", "processes 2"])
def test_any_scheduler(wanted: Subset, expected: dict[str, bytes], engine: str) -> None:
    scheduler, _, workers = engine.partition(" ")
    words = ["--scheduler", scheduler, *(["--workers", workers] if workers else [])]
    wanted.build(*words, "--set", "index.buckets=7")
    assert contents(wanted.target) == expected


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A Dask scheduler that listens on TCP, with two workers of two threads."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=2, processes=False, protocol="tcp://", dashboard_address=None,
                      silence_logs=50) as cluster:
        yield cluster.scheduler_address


def test_a_scheduler_s_address(wanted: Subset, expected: dict[str, bytes], address: str) -> None:
    assert address.startswith("tcp://")
    wanted.build("--scheduler", address, "--set", "index.buckets=7")
    assert contents(wanted.target) == expected


def test_an_address_that_is_none(wanted: Subset) -> None:
    told = wanted.command("build", "--scheduler", "quick://127.0.0.1:9", code=1).err
    assert "no scheduler answers at quick://127.0.0.1:9" in told
    assert "fault of coco-diy" not in told


def test_buckets_may_change_under_a_target(wanted: Subset, make_subset: MakeSubset) -> None:
    """A target of one bucket count is compared with an index of another: of a divisor, of a multiple, of neither."""
    orders = (["truck", "car"], ["car", "truck", "bus"], ["bus", "car"], ["person"], ["car"])
    for classes, buckets in zip(orders, (7, 32, 2, 6, 1), strict=True):
        told = wanted.build("--set", f"classes={classes}", "--set", f"index.buckets={buckets}")
        assert told["changes"] > 0
    fresh = make_subset(wanted.source, "fresh", **CONFIG)
    fresh.build("--set", "classes=['car']")
    assert contents(wanted.target) == contents(fresh.target)


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
    schemas = {"files": schema.files(), "images": schema.images(), "annotations": schema.annotations(),
               "problems": schema.problems()}
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
    stems = {f"source/{p.relative_to(crowd / kind).with_suffix('')}" for kind in ("labels", "images")
             for p in (crowd / kind).rglob("*") if p.is_file()}
    assert len(keys) == len(set(keys))
    assert set(keys) == stems
