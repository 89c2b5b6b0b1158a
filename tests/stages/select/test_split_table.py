"""The split table: what it says is obeyed, what it lacks is assigned, and what the target remembers moves no image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline import storage
from pipeline.base.errors import ConfigError, TargetError
from pipeline.config.load import load_config
from pipeline.job.job import Job
from pipeline.job.resolve import resolve
from pipeline.stages.select.split import assign, read_table
from pipeline.stages.select.split_table import GroupCounts, SplitDecision, by_table, merged
from pipeline.tables import schema
from pipeline.target.split_copy import COPY, sign
from tests.conftest import Subset
from tests.support.helpers import write_file

SHARES: dict[str, Any] = {"train": 0.5, "val": 0.5}


def part(*groups: str, of_class: int = 0) -> GroupCounts:
    """A bucket of groups of one image with one object each."""
    objects = [(number, of_class, 1) for number in range(len(groups))]
    return GroupCounts([*groups], np.ones(len(groups), np.int64), np.array(objects, np.int64).reshape(-1, 3))


PARTS = [part("a", "b"), part("c", "d", "a")]


class Case:
    """A job whose config has the shares and a seed, and the folder of the target's copy."""

    def __init__(self, subset: Subset, folder: Path) -> None:
        self.subset, self.folder = subset, folder

    def job(self, **split: Any) -> Job:
        return resolve(load_config(self.subset.config, [f"split={SHARES | split}"]))

    def decide(self, rows: str | None = None, copy: bytes | None = None, /, **split: Any) -> SplitDecision:
        """What is decided, with `rows` in the user's table or that of the workdir, and `copy` at the target."""
        job = self.job(**split)
        assert job.split_table is not None
        assert job.config.split is not None
        if rows is not None:
            write_file(Path(job.split_table), f"group,split\n{rows}")
        if copy is not None:
            write_file(self.folder / COPY, copy)
        return by_table(job, job.config.split, PARTS, storage.locate(str(self.folder)))


@pytest.fixture
def case(subset: Subset, tmp_path: Path) -> Case:
    return Case(subset, tmp_path / "copy")


def sides(decision: SplitDecision) -> dict[str, str]:
    """The split of each group, as the rule of each bucket has it."""
    found: dict[str, str] = {}
    for bucket, here in enumerate(PARTS):
        images = pa.table(
            {name: here.groups if name == "stem" else ["x"] * len(here.groups) for name in ("key", "stem", "split")}
        )
        found |= dict(zip(here.groups, decision.rule.split(images, bucket)["split"].to_pylist(), strict=True))
    return found


def test_a_group_of_several_buckets_is_one() -> None:
    strata = merged([part("b", "a"), part("a", "c", of_class=1), part()])
    assert (strata.groups, strata.images.tolist()) == (["a", "b", "c"], [2, 1, 1])
    assert strata.objects.tolist() == [[0, 0, 1], [0, 1, 1], [1, 0, 1], [2, 1, 1]]


def test_the_users_table_is_obeyed_and_the_hash_assigns_the_rest(case: Case, tmp_path: Path) -> None:
    decision = case.decide("a,val\nd,train\nelsewhere,val\n", table=str(tmp_path / "mine.csv"), seed=5)
    rest = dict(zip("bc", assign(["b", "c"], SHARES, 5), strict=True))
    assert sides(decision) == {"a": "val", "d": "train", **rest}
    assert (decision.known, decision.new, decision.table, decision.moved) == (2, 2, None, [])


def test_what_stratify_decides_is_what_the_next_build_obeys(case: Case) -> None:
    first = case.decide(stratify=True)
    assert first.table is not None
    assert sorted(sides(first).values()) == ["train", "train", "val", "val"]
    assert (first.known, first.new) == (0, 4)
    again = case.decide(first.table.decode().partition("\n")[2], stratify=True, seed=9)
    assert (sides(again), again.known, again.table) == (sides(first), 4, first.table)


def test_a_lost_table_is_filled_from_the_copy_at_the_target(case: Case) -> None:
    copy = sign(b"group,split\na,val\nb,val\nc,val\nd,val\n")
    decision = case.decide(None, copy, stratify=True)
    assert sides(decision) == dict.fromkeys("abcd", "val")
    assert (decision.known, decision.moved) == (4, [])
    cut = case.decide("a,val\n", copy, stratify=True)
    assert (sides(cut), cut.known) == (sides(decision), 4)


def test_what_the_user_changes_in_the_table_moves_and_is_said(case: Case) -> None:
    copy = sign(b"group,split\na,val\nb,val\nc,train\nd,train\n")
    decision = case.decide("a,train\nb,val\nc,train\nd,train\n", copy, stratify=True)
    assert decision.moved == [("a", "val", "train")]
    assert decision.table is not None
    assert read_table(decision.table.decode(), "") == sides(decision)


def test_a_damaged_copy_is_refused_where_the_table_lacks_groups(case: Case) -> None:
    copy = sign(b"group,split\na,val\n").replace(b"val", b"vax")
    whole = case.decide("a,val\nb,val\nc,train\nd,train\n", copy, stratify=True)
    assert whole.known == 4
    with pytest.raises(TargetError, match="the split table is damaged"):
        case.decide("a,val\n", copy, stratify=True)


@pytest.mark.parametrize(
    ("rows", "stratify", "message"),
    [
        ("elsewhere,val\n", False, "names none of the groups of these images"),
        ("elsewhere,val\n", True, "names none of the groups of these images"),
        ("a,test\n", False, "puts 'a' into test, which has no share"),
        (None, False, "is not there; write one"),
    ],
)
def test_a_table_that_cannot_be_obeyed_is_refused(
    case: Case, tmp_path: Path, rows: str | None, stratify: bool, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        case.decide(rows, table=str(tmp_path / "mine.csv"), stratify=stratify)


def test_buckets_that_are_no_more_leave_no_table(case: Case) -> None:
    rule = case.decide(stratify=True).rule
    assert rule.folder is not None
    stale = write_file(Path(rule.folder) / schema.part_name(7), "x")
    case.decide(stratify=True)
    assert sorted(path.name for path in stale.parent.iterdir()) == [schema.part_name(0), schema.part_name(1)]
