"""The plan of few buckets needs no Dask frame, and is the one that a frame makes."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.stages.plan import frame
from tests.conftest import MakeSubset


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
