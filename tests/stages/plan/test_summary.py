"""What a bucket comes to: rows and images in, counts out, which add up whatever the buckets are."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.images.inspection import UnusableImage
from pipeline.reports.counts import FileCount, SplitCounts
from pipeline.stages.plan.choice import writable
from pipeline.stages.plan.compare import compare
from pipeline.stages.plan.planned import image_sources
from pipeline.stages.plan.summary import PlanCounts, subset_counts
from pipeline.storage.origins import Origins
from pipeline.tables.schema import part_name
from tests.support.tables import digest, file_row, images, manifest, objects, wanted

CLASSES = ("car", "person")


def counts_of(drawn: list[tuple[str, list[int]]], offset: int = 0) -> PlanCounts:
    """The counts of images, each a split and the classes of its objects."""
    keys = [f"s/{split}/{i + offset}" for i, (split, _) in enumerate(drawn)]
    rows = objects(*({"key": key, "class_id": c} for key, (_, found) in zip(keys, drawn, strict=True) for c in found))
    chosen = images(*({"key": key} for key in keys))
    return PlanCounts(subset_counts(CLASSES, ("train", "val"), rows, chosen, labels=True), {"kept": len(keys)})


def test_counts_of_a_bucket() -> None:
    found = counts_of([("train", [0, 0, 1]), ("train", []), ("val", [1])])
    assert found.subset == {
        "train": SplitCounts(2, 2, 1, {"car": 2, "person": 1}, {"car": 1, "person": 1}),
        "val": SplitCounts(1, 1, 0, {"car": 0, "person": 1}, {"car": 0, "person": 1}),
    }
    assert (found.images_in("val"), found.images_in("test")) == (1, 0)


_IMAGES = st.lists(st.tuples(st.sampled_from(["train", "val"]), st.lists(st.integers(0, 1), max_size=4)))


@given(_IMAGES, _IMAGES)
def test_counts_of_two_buckets_are_those_of_one(
    one: list[tuple[str, list[int]]], two: list[tuple[str, list[int]]]
) -> None:
    total = PlanCounts()
    total.add(counts_of(one))
    total.add(counts_of(two, offset=len(one)))
    assert total == counts_of(one + two)


def test_all_counts_are_added() -> None:
    part = PlanCounts(
        {"train": SplitCounts(1, 1, 1, {"car": 1}, {"car": 1})},
        {"kept": 1},
        {"write": {"label": FileCount(1, 9)}},
        {"kept": 2},
        {"crowd": 3},
        {"train": {"car": {"crowd": 3}}},
    )
    total = PlanCounts()
    total.add(part)
    assert total == part
    total.add(part)
    assert total == PlanCounts(
        {"train": SplitCounts(2, 2, 2, {"car": 2}, {"car": 2})},
        {"kept": 2},
        {"write": {"label": FileCount(2, 18)}},
        {"kept": 4},
        {"crowd": 6},
        {"train": {"car": {"crowd": 6}}},
    )
    assert part.subset["train"].images == 1  # a sum leaves its parts as they are


def test_rows_that_a_target_can_have() -> None:
    rows = objects(
        {"key": "s/a/1", "class_id": 0, "raw": b"{}"},
        {"key": "s/a/1", "class_id": 0, "raw": b"{}", "tail": None, "loss": "crowd"},
        {"key": "s/a/2", "class_id": 0, "raw": b"{}", "loss": "clipped"},
        {"key": "s/a/3", "class_id": 0, "tail": None, "loss": "no_box"},
    )
    of_task, lost, left_out = writable(rows, of_task=True)
    assert of_task["key"].to_pylist() == ["s/a/1", "s/a/2"]
    assert lost == {"clipped": 1, "crowd": 1, "no_box": 1}
    assert left_out is not None
    assert left_out["loss"].to_pylist() == ["crowd", "no_box"]
    any_object, lost, left_out = writable(rows, of_task=False)
    assert any_object.num_rows == 3
    assert lost == {"clipped": 1, "no_box": 1}
    assert left_out is not None
    assert left_out["loss"].to_pylist() == ["no_box"]
    assert writable(of_task.slice(0, 1), of_task=True) == (of_task.slice(0, 1), {}, None)


@pytest.mark.parametrize("left_out", [[], [UnusableImage("s/b/", "bad.jpg", digest("bad"), "image_cut_short", "")]])
def test_source_images_and_digests_go_by_their_folders(tmp_path: Path, left_out: list[UnusableImage]) -> None:
    """A later run reads the names from a record that is sorted, and makes the digests in that order."""
    rows = [
        file_row("images/b/1.jpg", "one", key="s/b/1", source="/z/1.jpg"),
        file_row("images/a/2.jpg", "two", key="s/a/2", source="/a/2.jpg"),
        file_row("labels/a/2.txt", "a label", key="s/a/2"),
    ]
    plan = compare(wanted(*rows), manifest(rows[1]))
    pq.write_table(plan, tmp_path / part_name(0))
    origins = Origins({"s/b/": "/z", "s/a/": "/a"}, "/work")
    names, digests = image_sources(str(tmp_path), 1, origins, left_out)
    assert names == {"/z": ["1.jpg", *(image.name for image in left_out)], "/a": ["2.jpg"]}
    assert digests == digest("two") + digest("one") + b"".join(image.digest for image in left_out)
    copies, _ = image_sources(str(tmp_path), 1, origins, [], copies=True)
    assert copies == {"/z": ["1.jpg"], "/a": []}
