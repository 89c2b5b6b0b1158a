"""What a step does when workers are set aside and others vanish: it waits for another, and not for ever."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import UnavailableError
from pipeline.cluster import fitness
from pipeline.cluster.driver import Driver
from pipeline.cluster.run_folder import Facts, RunFolder
from pipeline.cluster.step_run import StepRun
from pipeline.cluster.worker import UNFIT, run_task
from pipeline.runtime.tasks import Outcome, Task


class Workers:
    """An executor in this process: what `unfit` gets fails there, what `fickle` gets vanishes with it, others do it."""

    name = "engine.scheduler here"

    def __init__(self, *there: str) -> None:
        self.there = list(there)
        self.under_way: list[tuple[Task, str]] = []
        self.asked: list[str] = []

    def workers(self) -> dict[str, int]:
        return dict.fromkeys(self.there, 1)

    def examine(self, folder: str, versions: dict[str, str], seconds: float) -> dict[str, tuple[str, Any]]:
        del folder, versions, seconds
        return {}

    def submit(self, task: Task, avoid: Collection[str] = ()) -> None:
        fit = [worker for worker in self.there if worker not in avoid]
        self.under_way.append((task, fit[len(self.under_way) % len(fit)]))
        self.asked.append(self.under_way[-1][1])

    def wait(self, seconds: float) -> list[tuple[Task, Outcome | None]]:
        del seconds
        ended = [(task, worker) for task, worker in self.under_way if worker != "fickle"]
        if not ended:  # what fickle has is the last to end
            self.there = [worker for worker in self.there if worker != "fickle"]
            ended = self.under_way
        self.under_way = [one for one in self.under_way if one not in ended]
        return [(task, self._outcome(task, worker)) for task, worker in ended]

    def _outcome(self, task: Task, worker: str) -> Outcome | None:
        if worker == "fickle":
            return None
        if worker == "unfit":
            return Outcome("none", worker, os.uname().nodename, error="sees another folder; mount it", kind=UNFIT)
        return run_task(task.folder, task.number, worker)

    def cancel(self, task: Task) -> None:
        self.under_way = [(one, worker) for one, worker in self.under_way if one != task]

    def close(self) -> None:
        """Nothing is left."""


def step_of(tmp_path: Path, workers: Workers, wait_workers: float) -> StepRun:
    """A step of eight tasks, each of which gives its number."""
    folder = RunFolder(str(tmp_path / "work"))
    folder.make(Facts(folder.run, folder.work.url, fitness.versions()))
    driver = Driver(lambda: workers, folder, wait_workers)
    files = folder.step(functools.partial(int))
    return StepRun(workers, files, [(number,) for number in range(8)], functools.partial(driver.width, workers))


@pytest.mark.slow
def test_it_ends_when_all_that_are_left_were_set_aside(tmp_path: Path) -> None:
    workers = Workers("unfit", "fickle")
    with pytest.raises(UnavailableError, match=r"no worker is there for 0 s; start workers"):
        list(step_of(tmp_path, workers, 0.1).results())
    assert workers.there == ["unfit"]


def test_one_that_comes_later_does_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers("unfit", "fickle")
    there = workers.workers

    def coming() -> dict[str, int]:
        if workers.there == ["unfit"]:
            workers.there.append("good")
        return there()

    step = step_of(tmp_path, workers, 60)
    monkeypatch.setattr(workers, "workers", coming)
    assert sorted(step.results()) == list(range(8))
    assert "unfit" not in workers.asked[workers.asked.index("good") :]
