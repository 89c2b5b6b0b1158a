"""The driver's side of workers elsewhere: when they are fit, what is under way, whose outcome is believed.

Workers come, go, freeze and wake up, so nothing here counts on one. A task whose worker vanished is submitted again, a
task that drags on is begun a second time, and the first outcome counts; what other attempts make is never put in place.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from pipeline import storage
from pipeline.base.errors import CocoDiyError, ConfigError, StorageError, UnavailableError
from pipeline.cluster import fitness
from pipeline.cluster.run_folder import Facts, Place, RunFolder
from pipeline.cluster.step_run import StepRun
from pipeline.runtime.interrupt import STOP, check_stop, more_time
from pipeline.runtime.log import LOG
from pipeline.runtime.tasks import Executor

T = TypeVar("T")

#: A worker that says nothing for so long when it is examined is unfit.
_EXAMINE_S = 9.0

#: Tasks that are under way when a run ends may take so long to end, too.
SETTLE_S = 30.0

_POLL_S = 0.5


class Driver:
    """Workers elsewhere, see `runtime.tasks.Remote`; `wait_workers` is how many seconds may pass without any."""

    def __init__(
        self,
        open_executor: Callable[[], Executor],
        folder: RunFolder,
        wait_workers: float,
        places: Sequence[Place] = (),
    ) -> None:
        self._open, self._folder, self._wait_workers = open_executor, folder, wait_workers
        self._places = tuple(places)
        self._executor: Executor | None = None
        self._target: storage.WritableLocation | None = None
        self._fence: str | None = None
        self._steps: list[StepRun] = []
        self._error: BaseException | None = None
        self._ready: threading.Thread | None = None

    def begin(self, target: storage.WritableLocation | None = None, scratch: str = "") -> None:
        """Connect and examine the workers, in a thread of its own; tasks wait for that.

        At a `target` they write through a folder of this run in `scratch`, see `fence`.
        """
        self._target = target
        facts = Facts(self._folder.run, self._folder.work.url, fitness.versions(), self._places)
        if target is not None:
            self._fence = f"{scratch}/{self._folder.run}"
            target.make_folders([f"{self._fence}/"])
            target.write_many([f"{self._fence}/{storage.RUNNING}"], [b""]).must(target)
            facts = replace(facts, target=target.url, fence=self._fence)
        self._folder.make(facts)
        more_time(SETTLE_S)
        self._ready = threading.Thread(target=self._connect, args=(facts,), name="coco-diy-cluster", daemon=True)
        self._ready.start()

    @property
    def fence(self) -> str | None:
        """The folder below the target that all of this run's workers write through, until `drop_fence`."""
        return self._fence

    def drop_fence(self) -> None:
        """From here on no worker of this run can change anything at the target."""
        fence, self._fence = self._fence, None
        if fence is None or self._target is None:
            return
        self._target.remove_folder(fence)
        if self._target.local is None and any(step.unended() for step in self._steps):
            LOG.info("%s: waits for workers that do not answer to notice that they are given up", self._target.url)
            self._target.outlast_writers()

    def map(self, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]]) -> Iterator[T]:
        """See `Engine.map`."""
        executor = self._workers_ready()
        step = StepRun(executor, self._folder.step(function), tasks, functools.partial(self.width, executor))
        self._steps.append(step)
        return step.results()

    def close(self) -> None:
        """Let what is under way end, or give it up; take away what workers could still write through."""
        if self._ready is None:
            return
        self._ready.join(_EXAMINE_S)
        self._ready, executor, self._executor = None, self._executor, None
        if executor is not None:
            self._settle()
        with suppress(StorageError):
            self.drop_fence()
        with suppress(StorageError):
            self._folder.remove()
        if executor is not None:
            executor.close()
        more_time(0)

    def _settle(self) -> None:
        """Wait until no worker is at work on this run any more, but not for ever."""
        until = time.monotonic() + SETTLE_S
        with suppress(CocoDiyError):
            for step in self._steps:
                step.stop()
            while (left := [who for step in self._steps for who in step.at_work()]) and time.monotonic() < until:
                time.sleep(_POLL_S)
            for worker in sorted(set(left)):
                LOG.warning("worker %s does not answer; whatever it still does has no effect", worker)

    # Workers

    def _connect(self, facts: Facts) -> None:
        try:
            executor = self._executor = self._open()
            self.width(executor)
            if link := getattr(executor, "dashboard", None):
                LOG.info("dashboard: %s", link)
            self._examine(executor, facts)
        except BaseException as error:  # noqa: BLE001 - raised where tasks wait for it
            self._error = error

    def _workers_ready(self) -> Executor:
        if self._ready is None:
            self.begin()
        assert self._ready is not None
        while self._ready.is_alive():
            check_stop()
            self._ready.join(_POLL_S)
        if self._error is not None:
            raise self._error
        assert self._executor is not None
        return self._executor

    def width(self, executor: Executor, aside: Collection[str] = ()) -> dict[str, int]:
        """The workers that are there and not set `aside`, by threads; waits for the first.

        Raises `UnavailableError` where none comes.
        """
        until = time.monotonic() + self._wait_workers
        while not (found := {w: threads for w, threads in executor.workers().items() if w not in aside}):
            check_stop()
            if time.monotonic() > until:
                raise UnavailableError(
                    f"{executor.name}: no worker is there for {self._wait_workers:.0f} s; start workers, or raise "
                    "engine.wait_workers; run again: it goes on where it was"
                )
            STOP.wait(_POLL_S)
        return found

    def _examine(self, executor: Executor, facts: Facts) -> None:
        """Raise `ConfigError` where workers are unfit, and name all of them; `UnavailableError` where none answers."""
        found = executor.examine(self._folder.path, facts.versions, _EXAMINE_S)
        unfit = [
            (f"{worker} on {host}", problem)
            for worker, (host, answer) in sorted(found.items())
            for problem in _problems(answer)
        ]
        fit = {w: a for w, (_, a) in found.items() if isinstance(a, fitness.Fitness) and not a.problems}
        unfit += [(f"{worker} on {found[worker][0]}", problem) for worker, problem in self._unheard(fit)]
        if unfit:
            kind = UnavailableError if all(answer is None for _, answer in found.values()) else ConfigError
            raise kind(fitness.sentence(executor.name, unfit))

    def _unheard(self, fit: dict[str, fitness.Fitness]) -> Iterator[tuple[str, fitness.Problem]]:
        """Workers whose answers are not where the driver sees them: their folders are others."""
        answers = self._folder.answers()
        fenced = self._target.own(self._fence).names() if self._target is not None and self._fence else None
        for worker, answer in fit.items():
            if answer.answer not in answers:
                yield worker, fitness.Problem(f"writes to another folder at {self._folder.work.url}", fitness.MOUNT)
            elif fenced is not None and answer.answer not in fenced and self._target is not None:
                yield worker, fitness.Problem(f"writes to another folder at {self._target.url}", fitness.MOUNT)


def _problems(answer: Any) -> list[fitness.Problem]:
    if isinstance(answer, fitness.Fitness):
        return answer.problems
    if answer is None:
        return [
            fitness.Problem("does not answer: it is stopped, or its memory is used up", "start it again, with more")
        ]
    if isinstance(answer, ImportError):
        what = "has no coco-diy" if getattr(answer, "name", "") == "pipeline" else f"has another coco-diy ({answer})"
        return [fitness.Problem(what, fitness.SAME)]
    if isinstance(answer, AttributeError):
        return [fitness.Problem(f"has another coco-diy ({answer})", fitness.SAME)]
    return [fitness.Problem(f"fails: {type(answer).__name__}: {answer}", "see its log")]
