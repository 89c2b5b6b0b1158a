"""Metrics of a run, read by Prometheus' own parser."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parse

from pipeline.job.metrics import metrics_text
from tests.conftest import Subset
from tests.support.helpers import settle, write_file


def values(text: str) -> dict[str, float]:
    """Values by name; all are gauges with help, of one target."""
    found = {}
    targets = set()
    for family in parse(text):
        assert (family.type, bool(family.documentation), len(family.samples)) == ("gauge", True, 1)
        (sample,) = family.samples
        targets.add(sample.labels["target"])
        assert sample.labels.keys() == {"target"}
        found[sample.name.removeprefix("coco_diy_")] = sample.value
    assert len(targets) == 1
    return found


@given(target=st.text(), before=st.text())
def test_any_target_is_a_label(target: str, before: str) -> None:
    text = metrics_text(target, 4, None, ended=1.0, seconds=2.0, before=before)
    again = metrics_text("", 4, None, ended=2.0, seconds=2.0, before=text)
    for one in (text, again):
        assert {sample.labels["target"] for family in parse(one) for sample in family.samples} == {target}


@given(target=st.text(min_size=1), other=st.text(min_size=1))
def test_what_stays_is_of_the_same_target(target: str, other: str) -> None:
    """A file that two builds share is never the success of the one that failed."""
    report = {"subset": {"train": {"images": 3, "objects": {"cat": 4}}}}
    before = metrics_text(other, 0, report, ended=1.0, seconds=2.0)
    found = values(metrics_text(target, 1, None, ended=2.0, seconds=2.0, before=before))
    assert (found.get("images") == 3) == ("last_success_timestamp_seconds" in found) == (target == other)


def test_metrics_of_runs(own_subset: Subset, tmp_path: Path) -> None:
    path = tmp_path / "metrics.prom"
    option = ("--metrics", str(path))
    told = own_subset.build(*option)
    first = values(path.read_text())
    plan, split = told["plan"], told["subset"]
    assert first["exit_code"] == 0
    assert first["images"] == sum(counts["images"] for counts in split.values()) == 7
    assert first["objects"] == 9
    assert first["files_written"] == sum(
        plan[action][kind]["files"] for action in ("write", "copy") for kind in plan[action]
    )
    assert first["written_bytes"] == sum(
        plan[action][kind]["bytes"] for action in ("write", "copy") for kind in plan[action]
    )
    assert (first["files_deleted"], first["skipped_rows"]) == (0, 0)
    assert first["last_success_timestamp_seconds"] == first["last_run_timestamp_seconds"]
    settle()
    own_subset.build(*option)
    second = values(path.read_text())
    assert (second["files_written"], second["images"]) == (0, 7)
    # A run that fails, before or after its config is read, leaves when the last success was, and of which target.
    for words, code in ((("--set", "classes=[cra]"), 2), (("--set", "no.such=key"), 2)):
        own_subset.command("build", *option, *words, code=code)
        failed = values(path.read_text())
        assert failed["exit_code"] == code
        assert failed["last_success_timestamp_seconds"] == second["last_success_timestamp_seconds"]
        assert failed["last_run_timestamp_seconds"] > second["last_run_timestamp_seconds"]
        assert failed["images"] == 7
        assert "files_written" not in failed
        assert f'target="{own_subset.target}"' in path.read_text()
    write_file(own_subset.source / "labels/train2017/a.txt", "1 0.5 0.5\n1 0.5 0.5 0.1 0.1\n")
    own_subset.build(*option, "--set", "on_error=skip", code=3)
    third = values(path.read_text())
    assert (third["exit_code"], third["skipped_rows"]) == (3, 1)
    assert third["last_success_timestamp_seconds"] > second["last_success_timestamp_seconds"]
    assert [p.name for p in tmp_path.iterdir() if "metrics" in p.name] == ["metrics.prom"]


@pytest.mark.parametrize(
    ("name", "said", "code"), [("m.txt", "must end in .prom", 2), ("no-folder/../file/m.prom", "--metrics: ", 0)]
)
def test_a_file_that_cannot_be(subset: Subset, tmp_path: Path, name: str, said: str, code: int) -> None:
    write_file(tmp_path / "file", "")
    told = subset.command("build", "--metrics", str(tmp_path / name), code=code)
    assert said in told.err
    assert subset.target.exists() == (code == 0)
