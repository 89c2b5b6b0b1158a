"""What a worker does with a task, without any scheduler: its outcome is small and never an exception."""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path

import msgspec
import pytest

from pipeline import storage
from pipeline.base.errors import DataError, StorageError
from pipeline.cluster import fitness
from pipeline.cluster.run_folder import Facts, Place, RunFolder, Step
from pipeline.cluster.worker import run_task
from pipeline.runtime.log import LOG
from pipeline.runtime.tasks import Outcome


def _work(folder: str, how: str, number: int) -> int:
    """A task: it writes a file for the workdir, logs, and ends as it was asked to."""
    storage.write_with(f"{folder}/index/{number}", lambda file: file.write(b"x" * number))
    LOG.info("%d: try 2 of 3", number)
    if how == "data":
        raise DataError(f"{number}.txt:1: is bad; correct it")
    if how == "disk":
        raise OSError(5, os.strerror(5), "/disk")
    if how == "bug":
        raise ZeroDivisionError("by zero")
    return number


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with one place that workers must see."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images/one.jpg").touch()
    found = RunFolder(str(tmp_path / "work"))
    places = (Place(str(tmp_path / "images"), "one.jpg"),)
    found.make(Facts(found.run, found.work.url, fitness.versions(), places))
    return found


def outcome_of(run: RunFolder, how: str) -> tuple[Step, Outcome]:
    """What a worker says of task 7."""
    step = run.step(functools.partial(_work, run.work.url, how))
    step.put(7, (7,))
    return step, run_task(step.path, 7, "tcp://10.0.0.1:1")


def test_what_a_task_makes_is_put_in_place_when_it_is_believed(run: RunFolder, tmp_path: Path) -> None:
    step, outcome = outcome_of(run, "well")
    assert (outcome.error, outcome.host, outcome.lines) == (
        None,
        os.uname().nodename,
        ((logging.INFO, "7: try 2 of 3"),),
    )
    assert not (tmp_path / "work/index").exists()
    assert step.take(outcome.made_by) == 7
    assert (tmp_path / "work/index/7").read_bytes() == b"xxxxxxx"
    assert step.begun() == {}
    run.remove()
    assert sorted(os.listdir(tmp_path / "work")) == ["index"]


@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ("data", "DataError", "7.txt:1: is bad; correct it"),
        ("disk", "StorageError", "/disk: cannot be used: the disk or server failed"),
        ("bug", "internal", "internal error, please report it: ZeroDivisionError: by zero"),
    ],
)
def test_an_error_is_an_outcome(run: RunFolder, how: str, kind: str, text: str, tmp_path: Path) -> None:
    _, outcome = outcome_of(run, how)
    assert outcome.kind == kind
    assert (outcome.error or "").startswith(text)
    assert len(msgspec.json.encode(outcome)) < 2000
    assert not (tmp_path / "work/index").exists()


def test_a_place_that_goes_away_meanwhile_makes_its_worker_unfit(run: RunFolder, tmp_path: Path) -> None:
    """Whatever the task says: files of a disk that is away look like files that are missing."""
    (tmp_path / "images/one.jpg").unlink()
    _, outcome = outcome_of(run, "data")
    assert outcome.kind == "unfit"
    assert "sees another folder, or an empty one, at" in (outcome.error or "")


def test_a_run_that_is_over_takes_nothing(run: RunFolder, tmp_path: Path) -> None:
    step, _ = outcome_of(run, "well")
    run.remove()
    outcome = run_task(step.path, 7, "tcp://10.0.0.1:1")
    assert outcome.kind == StorageError.__name__
    assert "its run has ended, or the folder is not mounted here" in (outcome.error or "")
    assert not (tmp_path / "work/cluster").exists()


@pytest.mark.parametrize("number", [1, 65_535])
def test_a_message_is_small_whatever_the_bucket_holds(number: int) -> None:
    pytest.importorskip("distributed")
    from pipeline.cluster.dask_executor import call_of

    assert len(call_of(f"/{'scratch/' * 20}work/cluster/0123456789abcdef/0003", number)) < 2000


def test_all_unfit_workers_are_named_in_one_sentence() -> None:
    pandas, mount = (
        fitness.Problem("has pandas 2 instead of 3", "install it"),
        fitness.Problem("does not see /a", "mount it"),
    )
    told = fitness.sentence("tcp://s:1", [("w1 on h1", pandas), ("w2 on h2", mount), ("w3 on h3", pandas)])
    assert told == (
        "tcp://s:1: worker w1 on h1, w3 on h3 has pandas 2 instead of 3, and worker w2 on h2 does not see /a; "
        "install it, and mount it"
    )
