"""What a task does to one bucket, a step at a time, on tables in memory."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from pipeline import storage
from pipeline.base.terms import Task
from pipeline.base.version import INDEX_VERSION
from pipeline.job.spec import IndexSpec, SplitSpec
from pipeline.stages.index.buckets import BucketListing, ListedGroup
from pipeline.stages.index.image_rows import image_rows
from pipeline.stages.index.label_reading import LabelReading
from pipeline.stages.index.label_tables import annotations_table, problem_table, states_schema
from pipeline.stages.index.listed_files import files_table, fingerprints, listed_files, with_unlisted_images
from pipeline.stages.index.previous import PreviousBucket
from pipeline.stages.index.summary import bucket_summary
from pipeline.tables import schema

SPEC = IndexSpec(
    "src",
    "yolo",
    Task.DETECT,
    None,
    (SplitSpec("train", "train", "/l/train", "/i/train"), SplitSpec("val", "val", "/l/val", "/i/val")),
)


def listing(*files: tuple[str, int, int]) -> BucketListing:
    """Files as (path, number of the split, 0 label or 1 image); their stats count from 1."""
    groups = [
        ListedGroup(split, kind, 1, np.arange(10 * number + 1, 10 * number + 5, dtype=np.int64).tobytes())
        for number, (_, split, kind) in enumerate(files)
    ]
    return BucketListing(b"\0".join(path.encode() for path, *_ in files), tuple(groups))


FILES = (("b.txt", 0, 0), ("a.png", 0, 1), ("a.JPG", 0, 1), ("sub/a.txt", 1, 0), ("a.txt", 0, 0), ("z.bmp", 1, 1))


def test_listed_files_are_in_the_order_of_keys_and_suffixes() -> None:
    listed = listed_files(SPEC, listing(*FILES))
    assert listed.labels["key"].to_pylist() == ["src/train/a", "src/train/b", "src/val/sub/a"]
    assert listed.labels["size"].to_pylist() == [41, 1, 31]
    assert listed.label_stats[:, 3].tolist() == [44, 4, 34]
    assert listed.images["path"].to_pylist() == ["a.JPG", "a.png", "z.bmp"]
    assert listed.images["size"].to_pylist() == [None] * 3
    assert listed.image_stats[:, 0].tolist() == [21, 11, 51]


@pytest.mark.parametrize("files", [(), FILES[:1], FILES[1:2]])
def test_few_listed_files_or_none(files: tuple[tuple[str, int, int], ...]) -> None:
    listed = listed_files(SPEC, listing(*files))
    assert listed.labels.num_rows + listed.images.num_rows == len(files)
    assert listed.label_stats.shape[1] == listed.image_stats.shape[1] == 4


def test_images_that_nobody_lists_are_called_as_their_label_file() -> None:
    listed = listed_files(SPEC, listing(*FILES))
    assert with_unlisted_images(SPEC, listed.labels, listed.images) is listed.images
    spec = replace(SPEC, splits=(SPEC.splits[0], replace(SPEC.splits[1], suffix=".jpg")))
    images = with_unlisted_images(spec, listed.labels, listed.images)
    assert images["path"].to_pylist() == ["a.JPG", "a.png", "sub/a.jpg", "z.bmp"]


def test_a_young_or_unread_file_has_no_fingerprint() -> None:
    now = 10**18
    settle = storage.settle_ns()
    stats = np.array([[5, 1, now - 2 * settle, 7], [5, 1, now - settle // 2, 7], [5, 1, 1, 0]], np.int64)
    marks = fingerprints(stats, now).to_pylist()
    assert marks[1:] == [None, None]
    assert marks[0] == stats[0].astype("<i8").tobytes()


def states(*found: str) -> pa.Table:
    empty = dict.fromkeys(states_schema().names)
    return pa.Table.from_pylist([empty | {"label_state": state} for state in found], states_schema())


def test_there_is_one_row_a_key_and_the_first_image_is_the_one() -> None:
    listed = listed_files(SPEC, listing(*FILES))
    rows = image_rows(SPEC, 3, listed.labels, listed.images, states("found", "empty", "corrupt"))
    assert rows.schema.equals(schema.images())
    found = rows.select(["key", "split", "label_state", "image_path", "other_images"]).to_pylist()
    assert [tuple(row.values()) for row in found] == [
        ("src/train/a", "train", "found", "a.JPG", "a.png"),
        ("src/train/b", "train", "empty", None, None),
        ("src/val/sub/a", "val", "corrupt", None, None),
        ("src/val/z", "val", "missing", "z.bmp", None),
    ]
    assert set(rows["bucket"].to_pylist()) == {3}


def parsed(*rows: tuple[str, int, float]) -> pa.Table:
    """Rows as (key, class id, width)."""
    columns = {
        "key": [key for key, *_ in rows],
        "line": range(1, len(rows) + 1),
        "class_id": [number for _, number, _ in rows],
        "head": [None] * len(rows),
        "tail": [b" 0.5 0.5 %g 0.1" % width for *_, width in rows],
        "cx": [0.5] * len(rows),
        "cy": [0.5] * len(rows),
        "w": [width for *_, width in rows],
        "h": [0.1] * len(rows),
        "n_tokens": [5] * len(rows),
    }
    fitting = schema.annotations()
    return pa.table({name: pa.array(values, fitting.field(name).type) for name, values in columns.items()})


def test_a_summary_counts_by_split_and_class() -> None:
    listed = listed_files(SPEC, listing(*FILES))
    images = image_rows(SPEC, 0, listed.labels, listed.images, states("found", "empty", "corrupt"))
    a = ("src/train/a", 7, 0.2)
    rows = annotations_table(0, [parsed(a, a, ("src/train/a", 3, 0.0), ("src/val/sub/a", 7, 0.1))])
    problems = problem_table([("src/val/sub/a", "/l/val/sub/a.txt", 2, "tokens", "has 2 tokens", 2)])
    found = bucket_summary(SPEC, images, rows, problems, listed.labels, np.array([1, 2, 4], np.uint64))
    assert found["train"] == {
        "images": 1,
        "labels": {"empty": 1, "found": 1},
        "rows": 3,
        "bad_rows": 0,
        "objects": {"3": 1, "7": 2},
        "class_images": {"3": 1, "7": 1},
        "no_image": 1,
        "many_images": 1,
        "duplicate_rows": 1,
        "zero_size": 1,
        "label_bytes": 42,
        "problems": {},
        "content": 3,
    }
    val = {"rows": 1, "bad_rows": 2, "problems": {"tokens": 1}, "no_image": 1, "images": 1, "content": 4}
    assert {name: count for name, count in found["val"].items() if name in val} == val


def test_a_summary_of_nothing() -> None:
    listed = listed_files(SPEC, listing())
    images = image_rows(SPEC, 0, listed.labels, listed.images, states())
    none = annotations_table(0, []), problem_table([])
    found = bucket_summary(SPEC, images, *none, listed.labels, np.zeros(0, np.uint64))
    assert [found[split]["images"] for split in ("train", "val")] == [0, 0]


def test_what_is_unchanged_is_seen_by_its_fingerprint() -> None:
    """A file that is new, was touched, or had none counts as changed; where images decide, theirs too."""
    listed = listed_files(SPEC, listing(*FILES))
    marks = fingerprints(listed.label_stats, 10**18), fingerprints(listed.image_stats, 10**18)
    contents = np.array([11, 12, 13], np.uint64)
    files = files_table(0, listed.labels, listed.images, marks, contents)
    before = PreviousBucket("", 0, files, {}, unsettled=False, parts={})
    same, found = before.unchanged(listed.labels, listed.images, marks)
    assert same.all()
    assert found.tolist() == contents.tolist()
    stats = listed.label_stats.copy()
    stats[1, 1] += 1
    same, found = before.unchanged(listed.labels, listed.images, (fingerprints(stats, 10**18), None))
    assert (same.tolist(), found.tolist()) == ([True, False, True], [11, 0, 13])
    stats = listed.image_stats.copy()
    stats[0, 1] += 1  # the image of train/a
    same, _ = before.unchanged(listed.labels, listed.images, (marks[0], fingerprints(stats, 10**18)))
    assert same.tolist() == [False, True, True]
    same, _ = before.unchanged(listed.labels, listed.images.slice(2), marks)  # it is gone
    assert same.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("case", "same"),
    [
        ("label touched", True),
        ("label of another content", False),
        ("label not read", False),
        ("label of another size", False),
        ("image touched", True),
        ("image touched that decides", False),
        ("image gone", False),
        ("unsettled", False),
    ],
)
def test_labels_of_other_times_alone_say_the_same(case: str, same: bool) -> None:
    listed = listed_files(SPEC, listing(*FILES))
    stats, contents = [listed.label_stats, listed.image_stats], np.array([11, 12, 2**64 - 1], np.uint64)

    def table(images: pa.Table = listed.images) -> pa.Table:
        sizes = listed.labels.set_column(listed.labels.column_names.index("size"), "size", pa.array(stats[0][:, 0]))
        marks = fingerprints(stats[0], 10**18), fingerprints(stats[1], 10**18)
        return files_table(0, sizes, images, (marks[0], marks[1].slice(0, images.num_rows)), contents)

    before = PreviousBucket("", 0, table(), {}, unsettled=case == "unsettled", parts={})
    stats = [found.copy() for found in stats]
    stats[1 if case.startswith("image") else 0][1, 3 if "size" not in case else 0] += 1
    contents = contents.copy()
    contents[1] = {"label of another content": 13, "label not read": 0}.get(case, 12)
    files = table(listed.images.slice(0, 2) if case == "image gone" else listed.images)
    if case != "image touched":
        assert before.says_the_same(files, images_marked="image" in case) is same
    else:
        assert before.says_the_same(files, images_marked=False) is same


def test_rows_of_unchanged_files_stay_beside_fresh_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = listed_files(SPEC, listing(*FILES))
    keys = listed.labels["key"].to_pylist()
    old = {
        "annotations": annotations_table(0, [parsed(*((key, 1, 0.1) for key in keys))]),
        "problems": problem_table([(keys[0], "p", 1, "old", "", 1), (keys[1], "p", 1, "old", "", 1)]),
        "images": image_rows(SPEC, 0, listed.labels, listed.images, states("found", "found", "found")),
    }
    monkeypatch.setattr(PreviousBucket, "table", lambda _self, name, _columns=None: old[name])
    before = PreviousBucket("", 0, schema.files().empty_table(), {}, unsettled=False, parts={})
    fresh = LabelReading(
        annotations_table(0, [parsed((keys[1], 2, 0.2))]),
        states("empty"),
        problem_table([(keys[1], "p", 1, "new", "", 1)]),
        np.zeros((1, 4), np.int64),
        np.zeros(1, np.uint64),
    )
    rows, found, problems = before.updated(listed.labels, np.array([True, False, True]), fresh)
    assert [(r["key"], r["class_id"]) for r in rows.to_pylist()] == [(keys[0], 1), (keys[1], 2), (keys[2], 1)]
    assert found["label_state"].to_pylist() == ["found", "empty", "found"]
    assert [(p["key"], p["reason"]) for p in problems.to_pylist()] == [(keys[0], "old"), (keys[1], "new")]


def test_a_file_is_of_the_bucket_of_its_key() -> None:
    """The crc32 of a key is that of its prefix continued: `assign` relies on it."""
    assert zlib.crc32(b"a/b", zlib.crc32(b"src/train/")) == zlib.crc32(b"src/train/a/b")


def test_an_index_of_other_rules_of_reading_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    before = SPEC.digest()  # its folder, and the states in it, are named by it
    monkeypatch.setattr("pipeline.job.spec.INDEX_VERSION", INDEX_VERSION + 1)
    assert SPEC.digest() != before
