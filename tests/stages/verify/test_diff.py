"""Two states of a target compared by the records of their runs: what names a state, and which can be compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.job.run_records import split_state
from tests.conftest import Subset

KEEP = ("--set", "runs.keep=2")


@pytest.mark.parametrize(
    ("what", "root", "run"),
    [
        ("bikes", "bikes", None),
        ("bikes@20261128", "bikes", "20261128"),
        ("bikes@20261128T0317", "bikes", "20261128T0317"),
        ("bikes@20261128T031700000Z-4711", "bikes", "20261128T031700000Z-4711"),
        ("s3://me@host/bikes", "s3://me@host/bikes", None),
        ("s3://bucket/bikes@20261128T0317", "s3://bucket/bikes", "20261128T0317"),
        ("a@20260101/b@20261128", "a@20260101/b", "20261128"),
        ("bikes@2026", "bikes@2026", None),  # less than a day names no run
        ("bikes@20261128x", "bikes@20261128x", None),
        ("bikes@20261128T0317/labels", "bikes@20261128T0317/labels", None),
        ("@20261128", "@20261128", None),
        ("two\nlines@20261128", "two\nlines", "20261128"),
    ],
)
def test_what_names_a_state(what: str, root: str, run: str | None) -> None:
    assert split_state(what) == (root, run)


def test_a_folder_of_such_a_name_is_that_folder(tmp_path: Path) -> None:
    folder = tmp_path / "bikes@20261128"
    assert split_state(str(folder)) == (str(tmp_path / "bikes"), "20261128")
    folder.mkdir()
    assert split_state(str(folder)) == (str(folder), None)


def test_states_by_their_runs(own_subset: Subset) -> None:
    target, run = str(own_subset.target), own_subset.run
    one = own_subset.build(*KEEP)["run"]["id"]
    two = own_subset.build(*KEEP, "--set", "classes=[bicycle]")["run"]["id"]

    def diff(first: str, second: str) -> dict[str, object]:
        return {key: value for key, value in run("diff", first, second, "--json").json.items() if key != "run"}

    forth, back = diff(f"{target}@{one}", f"{target}@{two}"), diff(f"{target}@{two}", f"{target}@{one}")
    assert forth["classes"] == {"gained": [], "lost": ["car"], "renumbered": []}
    assert back["classes"] == {"gained": ["car"], "lost": [], "renumbered": []}
    assert forth["images"] == {split: -count for split, count in back["images"].items()}  # type: ignore[attr-defined]
    assert (forth["files"], forth["listed"]) == (None, None)
    assert diff(f"{target}@{one}", target) | {"to": ""} == forth | {"to": ""}
    assert diff(f"{own_subset.config}@{one}", f"{own_subset.config}@{two}") == forth

    same = diff(f"{target}@{two}", f"{target}@{two}")
    assert set(same["images"].values()) == {0}  # type: ignore[attr-defined]
    assert all(kind == {"files": 0, "bytes": 0} for kind in same["held"].values())  # type: ignore[attr-defined]
    assert "gained" not in run("diff", f"{target}@{two}", target).out

    lacking = "no record of such a run is there; `coco-diy status"
    assert f"{target}@20200101: {lacking} {target}` lists them" in run("diff", target, f"{target}@20200101", code=2).err
    assert "several runs are called so" in run("diff", f"{target}@{one[:8]}", target, code=2).err
    own_subset.command("build", *KEEP, "--set", "classes=[cra]", code=2)  # of two records the last success stays
    failed = own_subset.command("status", "--json").json["last"]["run"]["id"]
    assert "this run failed, and says nothing of a state" in run("diff", f"{target}@{failed}", target, code=2).err
    assert lacking in run("diff", f"{target}@{one}", target, code=2).err  # dropped since
    assert diff(f"{target}@{two}", target)["classes"] == {"gained": [], "lost": [], "renumbered": []}
