"""What was left out is counted, listed and told; the numbers add up; the record says what made a subset."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.config.load import load_config
from pipeline.job.resolve import resolve
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.plan import balance
from pipeline.tables import schema
from tests.conftest import MakeSubset, Subset
from tests.support.helpers import contents, write_file

SKIP = ("--set", "on_error=skip")
GOOD = "1 0.5 0.5 0.1 0.1\n"


def spoil(source: Path) -> Counter[str]:
    """Every kind of fault at once; returns how often each reason must be counted."""
    labels, images = source / "labels/train2017", source / "images/train2017"
    write_file(labels / "a.txt", GOOD + "1 0.5 0.5\n1 nan 0.5 0.5 0.5\n")
    write_file(labels / "b.txt", GOOD * 2 + "1 0.1 0.1 0.9 0.1 0.5 0.9\n")  # three rows, one problem
    write_file(labels / "c.txt", GOOD + "99 0.5 0.5 0.1 0.1\n77 0.5 0.5 0.1 0.1\n")
    write_file(labels / "d.txt", "x")
    (labels / "lost.txt").symlink_to("nowhere")
    (labels / "folder.txt").mkdir()
    (images / "sub/e.jpeg").unlink()
    write_file(images / "a.webp", "another")
    return Counter(
        tokens=1,
        not_finite=1,
        mixed=1,
        unknown_class=2,
        not_a_number=1,
        dangling=1,
        not_a_file=1,
        no_image=1,
        many_images=1,
    )


def balanced(counts: dict[str, int]) -> dict[str, int]:
    """The counts that are not 0, after a look at their sum."""
    rest = dict(counts)
    assert rest.pop("source") == sum(rest.values())
    return +Counter(counts)


def test_rows_that_went_nowhere_are_of_other_classes(subset: Subset) -> None:
    """The town has six classes: what is beyond them is counted apart, and what no word takes is the rest."""
    job = resolve(load_config(subset.config))
    totals: Any = {
        "train": {"rows": 10, "bad_rows": 2, "objects": {"1": 6, "4": 1, "6": 2, "70": 1}},
        "val": {"rows": 5, "bad_rows": 0, "objects": {"1": 5}},
    }
    found = balance.row_balance(job, [IndexInfo({}, "", 1, None, totals)], {"kept": 7, "duplicate": 1})
    assert found == {"source": 17, "kept": 7, "duplicate": 1, "other_classes": 4, "unknown_class": 3, "bad": 2}
    assert balanced(found) == found


def test_images_of_the_source_are_those_of_either_kind() -> None:
    totals: list[Any] = [
        {"train": {"images": 5, "no_image": 2}, "val": {"images": 1, "no_image": 0}},
        {"train": {"images": 3, "no_image": 0}},
    ]
    infos = [IndexInfo({}, "", 1, None, of_source) for of_source in totals]
    assert balance.image_balance(infos, {"kept": 9, "no_image": 2}) == {"source": 11, "kept": 9, "no_image": 2}


def test_what_is_taken_away_is_whole_classes_and_splits() -> None:
    def report(classes: list[str], **splits: tuple[int, dict[str, int]]) -> Any:
        return {"classes": classes, "subset": {s: {"images": n, "objects": o} for s, (n, o) in splits.items()}}

    before = report(
        ["car", "bus", "dog"], train=(3, {"car": 1_000, "bus": 2, "dog": 1}), val=(2, {"bus": 1}), test=(1, {})
    )
    now = report(["car", "bus"], train=(2, {"bus": 1}), val=(0, {}))
    assert balance.taken_away(before, now) == [
        "split val had 2 images in the target, and has none now",
        "class 'car' had 1,000 objects in the target, and has none now",  # a dog is not asked for, and nor is test
    ]
    assert balance.taken_away(now, now) == balance.taken_away(before, before) == []


def test_problems_are_listed_by_reason_and_row() -> None:
    rows = [
        {"key": "k", "path": path, "line": line, "reason": reason, "detail": "d", "rows": 1}
        for path, line, reason in (("a.txt", 1, "tokens"), ("b.txt", None, "dangling"), ("c.txt", 2, "tokens"))
    ]
    found = balance.listed(pa.Table.from_pylist(rows, schema.problems()), "there")
    assert (found["counts"], found["table"]) == ({"dangling": 1, "tokens": 2}, "there")
    assert found["listed"][0] == {"path": "a.txt", "line": 1, "reason": "tokens", "detail": "d"}


def test_all_that_is_left_out_is_listed(own_subset: Subset) -> None:
    expected = spoil(own_subset.source)
    told = own_subset.build(*SKIP, code=3)
    left = told["left_out"]
    assert Counter(left["counts"]) == expected
    assert Counter(entry["reason"] for entry in left["listed"]) == expected
    table = pq.read_table(left["table"])
    assert Path(left["table"]).is_relative_to(own_subset.target / ".coco-diy")
    assert table.schema.equals(schema.problems())
    assert table.select(["path", "line", "reason", "detail"]).to_pylist() == left["listed"]
    first = next(e for e in left["listed"] if e["reason"] == "unknown_class")
    assert (first["path"], first["line"]) == (f"{own_subset.source}/labels/train2017/c.txt", 2)
    assert "class 99 is not in" in first["detail"]
    # Every row of the source: 3 + 3 + 3 + 1, and those of the files that were not spoilt.
    assert balanced(told["rows"]) == {
        "source": 20,
        "kept": 5,
        "other_classes": 6,
        "without_image": 1,
        "unknown_class": 2,
        "bad": 3,
        "lost": 3,
    }
    assert balanced(told["images"]) == {
        "source": 12,
        "kept": 4,
        "other_classes": 3,
        "background": 2,
        "corrupt": 1,
        "mixed": 1,
        "no_image": 1,
    }
    # A run with nothing to do says the same, whatever was planned for this target meanwhile.
    own_subset.plan(*SKIP, "--set", "classes=[person]", code=3)
    again = own_subset.build(*SKIP, code=3)
    assert (again["status"], again["left_out"]) == ("nothing to do", left)
    # Boxes and polygons in one file are no fault of the file: COCO JSON takes both.
    assert "mixed" not in own_subset.command("index", "--json", *SKIP, code=3).json["left_out"]["counts"]


def test_what_was_mended_is_not_listed_any_more(own_subset: Subset) -> None:
    write_file(own_subset.source / "labels/train2017/d.txt", "x")
    left = own_subset.build(*SKIP, code=3)["left_out"]
    write_file(own_subset.source / "labels/train2017/d.txt", GOOD)
    told = own_subset.build(*SKIP)
    assert "left_out" not in told
    assert not Path(left["table"]).exists()


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("select.backgrounds=all",),
        ("target.images=none",),
        ("select.duplicates=drop", "index.buckets=5"),
        ("classes=null",),
    ],
    ids=str,
)
def test_a_spoilt_source_adds_up(own_subset: Subset, overrides: tuple[str, ...]) -> None:
    spoil(own_subset.source)
    told = own_subset.build(*SKIP, *(w for o in overrides for w in ("--set", o)), code=3)
    kept = balanced(told["rows"])["kept"]
    files = {p: c for p, c in contents(own_subset.target).items() if p.startswith("labels/")}
    assert kept == sum(len(c.splitlines()) for c in files.values())
    assert balanced(told["images"])["kept"] == len(files) == sum(s["images"] for s in told["subset"].values())
    text = own_subset.command("plan", *SKIP, *(w for o in overrides for w in ("--set", o)), code=3).out
    assert f"{kept} of {told['rows']['source']} rows kept" in text
    assert "of a class that the names do not have" in text


def record(subset: Subset) -> str:
    return (subset.target / "DATASET.md").read_text()


def test_the_record_says_what_made_it(subset: Subset) -> None:
    told = subset.build()
    text = record(subset)
    assert f"`{told['fingerprint']}`" in text
    assert "from 11 label files" in text
    assert "| 0 | bicycle | bicycle | 4 | 4 | 1 | 2 |" in text
    assert "|  | total |  | 5 | 6 | 2 | 3 |" in text
    assert "| rows | in the source | 19 |" in text
    config: dict[str, Any] = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert config["classes"] == ["bicycle", "car"]
    assert config["source"]["splits"]["train"] == {"labels": "train2017", "images": "train2017"}
    assert config["source"]["names"] == "coco.yaml"
    assert str(subset.source) not in text
    assert not {"workdir", "engine", "index"} & config.keys()


def test_the_record_knows_no_time_no_place_and_no_machine(own_town: Path, make_subset: MakeSubset) -> None:
    """A copy of the source elsewhere, with other times and inodes, makes the same record."""
    one = make_subset(own_town, "one")
    elsewhere = own_town.parent / "elsewhere" / own_town.name
    shutil.copytree(own_town, elsewhere, copy_function=shutil.copyfile)
    two = make_subset(elsewhere, "two", index={"buckets": 5}, engine={"workers": 1})
    for subset in (one, two):
        subset.build()
    assert record(one) == record(two)


def test_the_digest_of_the_source_is_of_its_contents(own_subset: Subset) -> None:
    first = own_subset.build()["fingerprint"]
    label = own_subset.source / "labels/train2017/only_person.txt"
    before = label.read_bytes()
    label.write_bytes(before.replace(b"0.5", b"0.6", 1))
    assert own_subset.build()["fingerprint"] != first  # of a label that is not in the subset, too
    label.write_bytes(before)
    assert own_subset.build()["fingerprint"] == first
    label.rename(label.with_name("other.txt"))
    assert own_subset.build()["fingerprint"] != first
