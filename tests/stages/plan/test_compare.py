"""What a plan does: wanted files and a manifest in, actions out; nothing else is asked."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reports.counts import FileCount
from pipeline.stages.plan.compare import Loss, as_manifest, compare, doubt, losses, summarise
from pipeline.tables import schema
from pipeline.tables.schema import UNKNOWN
from tests.support.tables import digest, file_row, manifest, wanted


def actions(plan: pa.Table) -> dict[str, str]:
    return dict(zip(plan["path"].to_pylist(), plan["action"].to_pylist(), strict=True))


def test_each_action() -> None:
    plan = compare(
        wanted(
            file_row("labels/train/new.txt", "a", content=b"a", size=1),
            file_row("labels/train/same.txt", "b", content=b"b", size=1),
            file_row("labels/train/other.txt", "c", content=b"c", size=1),
            file_row("images/train/new.jpg", "d", source="/s/new.jpg"),
            file_row("images/train/same.jpg", "e", source="/s/same.jpg"),
        ),
        manifest(
            file_row("labels/train/other.txt", "before"),
            file_row("images/train/same.jpg", "e", content_digest=digest("read")),
            file_row("labels/train/same.txt", "b"),
            file_row("images/train/gone.jpg", "f"),
        ),
    )
    assert plan.schema == schema.plan()
    assert actions(plan) == {
        "labels/train/new.txt": "write",
        "labels/train/same.txt": "keep",
        "labels/train/other.txt": "write",
        "images/train/new.jpg": "copy",
        "images/train/same.jpg": "keep",
        "images/train/gone.jpg": "delete",
    }
    assert plan["content"].to_pylist() == [b"a", None, b"c", None, None, None]
    assert plan["content_digest"].to_pylist() == [None, None, None, None, digest("read"), None]


def test_contents_are_not_copied_where_no_file_stays() -> None:
    files = wanted(*(file_row(f"labels/train/{i}.txt", str(i), content=b"a", size=1) for i in range(3)))
    plan = compare(files, manifest(file_row("labels/train/0.txt", "before")))
    assert set(actions(plan).values()) == {"write"}
    mine, theirs = (table["content"].chunk(0).buffers()[2].address for table in (plan, files))
    assert mine == theirs


def test_nothing_wanted_and_nothing_there() -> None:
    row = file_row("labels/train/1.txt")
    assert compare(wanted(), manifest()).num_rows == 0
    assert actions(compare(wanted(), manifest(row))) == {"labels/train/1.txt": "delete"}
    assert actions(compare(wanted(row), manifest())) == {"labels/train/1.txt": "write"}


_FILES = st.dictionaries(
    st.builds(
        lambda folder, split, stem: f"{folder}/{split}/{stem}.{'txt' if folder == 'labels' else 'jpg'}",
        st.sampled_from(["labels", "images"]),
        st.sampled_from(["train", "val"]),
        st.sampled_from("abcde"),
    ),
    st.sampled_from("123"),
)


def _rows(files: dict[str, str]) -> list[dict[str, Any]]:
    return [file_row(path, content, size=len(content)) for path, content in sorted(files.items())]


def _held(table: pa.Table) -> dict[str, bytes]:
    return dict(zip(table["path"].to_pylist(), table["digest"].to_pylist(), strict=True))


@given(_FILES, _FILES)
def test_a_plan_carried_out_makes_what_is_wanted(want: dict[str, str], have: dict[str, str]) -> None:
    plan = compare(wanted(*_rows(want)), manifest(*_rows(have)))
    after = as_manifest(plan, set(), {})
    assert _held(after) == {path: digest(content) for path, content in want.items()}
    assert set(actions(compare(wanted(*_rows(want)), after)).values()) <= {"keep"}


@given(_FILES, _FILES, st.data())
def test_what_failed_is_done_by_the_next_plan(want: dict[str, str], have: dict[str, str], data: st.DataObject) -> None:
    plan = compare(wanted(*_rows(want)), manifest(*_rows(have)))
    todo = sorted(path for path, action in actions(plan).items() if action != "keep")
    failed = set(data.draw(st.lists(st.sampled_from(todo), unique=True))) if todo else set()
    after = as_manifest(plan, failed, {})
    again = {path: action for path, action in actions(compare(wanted(*_rows(want)), after)).items() if action != "keep"}
    assert again == {path: actions(plan)[path] for path in failed}


@given(_FILES, _FILES)
def test_losses_are_what_goes_and_what_is_replaced(want: dict[str, str], have: dict[str, str]) -> None:
    loss = losses(compare(wanted(*_rows(want)), manifest(*_rows(have))), manifest(*_rows(have)))
    gone = have.keys() - want.keys()  # the key says the split, so a file of the same key is one of the same split
    again = {path for path in have.keys() & want.keys() if path.startswith("labels/") and have[path] != want[path]}
    assert (loss.lost, loss.replaced, loss.total, loss.moved) == (len(gone), len(again), len(have), 0)
    assert loss.images == len({path.split("/", 1)[1].rpartition(".")[0] for path in gone})
    assert len(loss.names) == min(3, loss.lost + loss.replaced)
    assert set(loss.names) <= gone | again


def test_an_image_in_another_split_is_moved_not_lost() -> None:
    before = manifest(*(file_row(f"{folder}/train/1.x", key="s/a/1") for folder in ("labels", "images")))
    after = wanted(*(file_row(f"{folder}/val/1.x", key="s/a/1") for folder in ("labels", "images")))
    loss = losses(compare(after, before), before)
    assert (loss.lost, loss.moved, loss.sides) == (0, 1, [("1", "train", "val")])


def test_labels_of_unknown_content_are_not_replaced() -> None:
    before = doubt(manifest(file_row("labels/train/1.txt", "a")), frozenset(["labels/train/1.txt"]))
    assert before["digest"].to_pylist() == [UNKNOWN]
    plan = compare(wanted(file_row("labels/train/1.txt", "a")), before)
    assert actions(plan) == {"labels/train/1.txt": "write"}
    assert losses(plan, before).replaced == 0


def test_losses_of_all_buckets() -> None:
    assert Loss.of_all([]) == Loss()
    parts = [Loss(1, 1, 2, 9, ["d", "b"], 1, [("z", "train", "val")]), Loss(2, 1, 0, 5, ["a", "c"], 0, [])]
    assert Loss.of_all(parts) == Loss(3, 2, 2, 14, ["a", "b", "c"], 1, [("z", "train", "val")])


def test_files_and_bytes_by_action_and_kind() -> None:
    plan = compare(
        wanted(file_row("labels/train/1.txt", size=3), file_row("labels/train/2.txt", size=4)),
        manifest(file_row("images/train/1.jpg", size=None)),
    )
    assert summarise(plan) == {"write": {"label": FileCount(2, 7)}, "delete": {"image": FileCount(1, 0)}}
