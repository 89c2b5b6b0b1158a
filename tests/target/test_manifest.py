"""What a target has, bucket by bucket: from its manifest, an intent, and the marks of buckets that are done."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import storage
from pipeline.tables.parquet import to_parquet
from pipeline.tables.schema import UNKNOWN
from pipeline.target.intent import commit_manifest, settle, write_intent, write_part
from pipeline.target.manifest import FOLDER, DoneMarks, Manifest, TargetState
from tests.support.tables import digest, file_row, manifest

PATHS = [f"labels/train/{i:02d}.txt" for i in range(24)]

REPORT = {"classes": ["car"], "subset": {}, "format": "yolo", "ok": True, "warnings": []}

CONFIG = {
    "target": {"images": "copy", "archive": "none", "format": "yolo"},
    "source": [{"name": "source", "splits": {}}],
}


def bucket_of(key: str, buckets: int) -> int:
    return zlib.crc32(key.encode()) % buckets


def parts_of(rows: Iterable[dict[str, Any]], buckets: int) -> list[pa.Table]:
    found: list[list[dict[str, Any]]] = [[] for _ in range(buckets)]
    for row in rows:
        found[bucket_of(row["key"], buckets)].append(row)
    return [manifest(*some) for some in found]


def commit(state: TargetState, tables: Sequence[pa.Table], **fields: Any) -> None:
    """Commit a manifest of these parts at the target."""
    parts = [write_part(state.folder, table) for table in tables]
    made = Manifest("a tool", "a recipe", None, len(parts), parts, {}, REPORT, config=CONFIG, **fields)
    assert commit_manifest(state, made) == []


@pytest.fixture
def target(tmp_path: Path) -> storage.WritableLocation:
    return storage.locate_writable(str(tmp_path / "target"))


@pytest.fixture
def built(target: storage.WritableLocation) -> storage.WritableLocation:
    """A target of four buckets with all of `PATHS`, their content being their path."""
    commit(TargetState(target), parts_of((file_row(path, path) for path in PATHS), 4))
    return target


def has(state: TargetState, buckets: int = 1) -> dict[str, bytes]:
    """Path and digest of all that the target has, asked by `buckets`."""
    tables = [state.rows(bucket, buckets) for bucket in range(buckets)]
    for bucket, table in enumerate(tables):
        assert {bucket_of(key, buckets) for key in table["key"].to_pylist()} <= {bucket}
    pairs = [pair for t in tables for pair in zip(t["path"].to_pylist(), t["digest"].to_pylist(), strict=True)]
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


WHOLE = {path: digest(path) for path in PATHS}


def test_an_empty_target(target: storage.WritableLocation) -> None:
    state = TargetState(target)
    assert (has(state), has(state, 4), state.meta, state.serial, state.lost) == ({}, {}, {}, 0, False)


@pytest.mark.parametrize("buckets", [1, 2, 4, 8, 16, 3])
def test_a_manifest_is_read_by_any_number_of_buckets(built: storage.WritableLocation, buckets: int) -> None:
    assert has(TargetState(built), buckets) == WHOLE


def begin(target: storage.WritableLocation, buckets: int, touched: Iterable[str]) -> TargetState:
    """A run that is going to touch the files `touched` of the target."""
    state = TargetState(target)
    tables = parts_of((file_row(path) for path in touched), buckets)
    columns = ["path", "kind", "key", "split"]
    parts = {b: to_parquet(table.select(columns)) for b, table in enumerate(tables) if table.num_rows}
    write_intent(state, buckets, parts, ["data.yaml"])
    return state


@pytest.mark.parametrize("buckets", [2, 4, 8])
def test_what_a_run_was_going_to_touch_is_ours_and_unknown(built: storage.WritableLocation, buckets: int) -> None:
    touched = [*PATHS[:5], "labels/train/new.txt"]
    begin(built, buckets, touched)
    state = TargetState(built)
    assert state.intent is not None
    for n in (1, 4, buckets):
        assert has(state, n) == WHOLE | dict.fromkeys(touched, UNKNOWN)
    assert state.meta == {"data.yaml": {"size": 0, "digest": UNKNOWN.hex()}}


def test_a_bucket_that_is_done_has_what_its_part_says(built: storage.WritableLocation) -> None:
    state = begin(built, 4, PATHS)
    done = bucket_of("train/00", 4)
    rows = [file_row(path, "new") for path in PATHS if bucket_of(file_row(path)["key"], 4) == done]
    marks = DoneMarks(state, [])
    marks.add(done, write_part(state.folder, manifest(*rows[1:])))
    marks.write()
    expected = dict.fromkeys(PATHS, UNKNOWN) | {row["path"]: digest("new") for row in rows[1:]}
    del expected[rows[0]["path"]]
    assert has(TargetState(built)) == expected
    assert has(TargetState(built), 8) == expected


def test_buckets_that_are_done_are_marked_together(built: storage.WritableLocation) -> None:
    state = begin(built, 4, PATHS)
    assert state.intent is not None
    marks = DoneMarks(state, [])
    for bucket in range(4):
        marks.add(bucket, None)
    assert not state.folder.names(state.intent.folder)
    marks.write()
    assert len(state.folder.names(state.intent.folder)) == 4


def test_an_intent_of_a_run_that_is_over_counts_no_more(built: storage.WritableLocation) -> None:
    state = begin(built, 4, PATHS[:3])
    left = [(path, state.folder.read(path)) for path in ("intent.json", "copy/intent.json")]
    commit(state, parts_of((file_row(path, path) for path in PATHS), 4))
    for path, data in left:  # as if it could not be deleted
        state.folder.write(path, data or b"")
    again = TargetState(built)
    assert (again.intent, has(again)) == (None, WHOLE)


def test_a_source_that_is_called_otherwise_has_the_same_files(target: storage.WritableLocation) -> None:
    row = file_row("labels/train/1.txt", "a", key="old/train2017/1")
    commit(TargetState(target), [manifest(row)], prefixes={"train": "old/train2017/"})
    state = TargetState(target, {"train": "new/train/"})
    assert state.renamed == [("old/train2017/", "new/train/")]
    bucket = bucket_of("new/train/1", 4)
    assert [state.rows(b, 4)["key"].to_pylist() for b in range(4)] == [
        ["new/train/1"] if b == bucket else [] for b in range(4)
    ]


def test_a_source_that_is_called_otherwise_may_have_no_files(target: storage.WritableLocation) -> None:
    """A zip, say, has all in one file that belongs to no bucket."""
    commit(TargetState(target), [manifest()], prefixes={"train": "old/train2017/"})
    state = TargetState(target, {"train": "new/train/"})
    assert state.rows(0, 4).equals(manifest())


def test_parts_are_cut_anew_where_the_plan_has_other_buckets(built: storage.WritableLocation) -> None:
    state = TargetState(built)
    assert settle(state, 4) is state.base
    base = settle(state, 8)
    state.base = base
    assert (base.buckets, has(state, 8)) == (8, WHOLE)


def _damage(target: storage.WritableLocation, name: str) -> None:
    for path in (name, f"copy/{name}"):
        data = target.own(FOLDER).read(path)
        assert data is not None
        target.own(FOLDER).write(path, data[:-9])


def test_a_damaged_part_is_lost_and_the_others_are_not(built: storage.WritableLocation) -> None:
    state = TargetState(built)
    _damage(built, f"manifest/{state.base.parts[1]}.parquet")
    assert not state.lost
    assert has(state, 4) == {path: d for path, d in WHOLE.items() if bucket_of(file_row(path)["key"], 4) != 1}
    assert state.lost


@pytest.mark.parametrize(("name", "lost", "doubted"), [("manifest.json", True, False), ("intent.json", True, True)])
def test_damaged_records(built: storage.WritableLocation, name: str, lost: bool, doubted: bool) -> None:
    begin(built, 4, PATHS[:3])
    _damage(built, name)
    state = TargetState(built)
    assert (state.lost, state.doubted) == (lost, doubted)
    if doubted:  # nobody knows what the run did to the files of the manifest
        assert has(state) == dict.fromkeys(PATHS, UNKNOWN)
