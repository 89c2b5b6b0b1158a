"""The plan of few buckets needs no Dask frame, and is the one that a frame makes."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.stages.plan import frame
from tests.conftest import MakeSubset
from tests.support.helpers import contents


def test_a_subset_is_brought_up_to_date_without_a_frame(
    town: Path, make_subset: MakeSubset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame, "FEW_BUCKETS", 0)
    subset = make_subset(town, "subset", index={"buckets": 4})
    subset.build()
    fresh = make_subset(town, "fresh", index={"buckets": 4}, classes=["car"])
    fresh.build()

    def refuse(*_: object) -> None:
        raise AssertionError("a frame is made")

    with monkeypatch.context() as patch:
        patch.setattr(frame, "_values", refuse)
        assert subset.build("--set", "classes=[car]")["changes"]
    assert contents(subset.target) == contents(fresh.target)


@pytest.mark.parametrize("scheduler", ["sync", "auto"])
def test_few_buckets_have_the_plan_of_a_frame(
    town: Path, make_subset: MakeSubset, monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    plans = []
    for few in (0, 4):
        monkeypatch.setattr(frame, "FEW_BUCKETS", few)
        subset = make_subset(town, "subset", index={"buckets": 4}, split={"train": 0.7, "val": 0.3, "stratify": True})
        subset.plan("--scheduler", scheduler)
        parts = sorted(subset.workdir.glob("plans/**/*.parquet"))
        plans.append({part.relative_to(subset.workdir): pq.read_table(part) for part in parts})
    assert len(plans[0]) > 4
    assert plans[0] == plans[1]
