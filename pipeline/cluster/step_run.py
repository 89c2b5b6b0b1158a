"""One step on workers elsewhere: what is under way, what is done again and where, which outcome counts."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pipeline.base import errors
from pipeline.base.errors import CocoDiyError, ConfigError, StorageError
from pipeline.base.humanize import plural
from pipeline.cluster.run_folder import Step, task_of
from pipeline.cluster.worker import UNFIT
from pipeline.runtime.interrupt import check_stop
from pipeline.runtime.log import LOG
from pipeline.runtime.tasks import Executor, Outcome, Task

#: Tasks under way, for each thread of a worker: enough that none waits for the driver.
_FOR_EACH_THREAD = 4

#: A task that so many workers died of is given up.
_DEATHS = 4

#: A task that was lost so often, though no worker had begun it, is given up, too.
_LOSSES = 8

#: A task is begun a second time after so many seconds, and so many times what others take.
STRAGGLES_S, STRAGGLES_TIMES = 120.0, 10.0

_POLL_S = 0.5

_WORKERS_EVERY_S = 1.0

_STRAGGLERS_EVERY_S = 5.0

#: Errors that another worker may not meet.
_OF_ITS_PLACE = {UNFIT, "StorageError", "UnavailableError"}


@dataclass
class _Tried:
    """What has been tried of one task: how often it was lost, and which workers failed at it."""

    losses: int = 0
    twice: bool = False
    failed: set[str] = field(default_factory=set)
    deaths: dict[str, str] = field(default_factory=dict)


class StepRun:
    """The tasks of one step on the workers of `executor`.

    `files` are those of the step, `width` gives the workers that are there by threads, without those that are set
    aside, and raises where none comes.
    """

    def __init__(
        self,
        executor: Executor,
        files: Step,
        tasks: Sequence[tuple[Any, ...]],
        width: Callable[[Collection[str]], dict[str, int]],
    ) -> None:
        self._executor, self._files, self._tasks, self._width = executor, files, tasks, width
        self._waiting = deque(range(len(tasks)))
        self._under_way: set[int] = set()
        self._tried: defaultdict[int, _Tried] = defaultdict(_Tried)
        self._given_up: dict[int, str] = {}
        self._aside: set[str] = set()
        self._workers: dict[str, int] = {}
        self._seconds: list[float] = []
        self._seen: dict[str, float] = {}
        self._next_workers = self._next_stragglers = 0.0

    def results(self) -> Iterator[Any]:
        """The values of the tasks as they end. The first error is raised at once; lost tasks are named at the end."""
        try:
            while self._waiting or self._under_way:
                check_stop()
                self._look_around()
                self._submit_more()
                for task, outcome in self._executor.wait(_POLL_S):
                    if task.folder == self._files.path and task.number in self._under_way:
                        yield from self._end(task, outcome)
        finally:
            self.stop()
        if self._given_up:
            raise CocoDiyError(self._given_up_text())

    def stop(self) -> None:
        """Have nothing more begun."""
        self._waiting.clear()
        for number in list(self._under_way):
            self._executor.cancel(self._task(number))
        self._under_way.clear()

    def unended(self) -> list[str]:
        """Workers that have begun a task of this step and have not ended it; some may have died."""
        return list(self._files.begun().values())

    def at_work(self) -> list[str]:
        """Those of `unended` that are there."""
        there = self._executor.workers()
        return [worker for worker in self.unended() if worker in there]

    def _task(self, number: int) -> Task:
        return Task(self._files.path, number)

    def _look_around(self) -> None:
        now = time.monotonic()
        if now >= self._next_workers:
            self._workers = self._width(self._aside)
            self._next_workers = now + _WORKERS_EVERY_S
        if now >= self._next_stragglers:
            self._next_stragglers = now + _STRAGGLERS_EVERY_S
            self._begin_stragglers_again(now)

    def _submit_more(self) -> None:
        threads = sum(self._workers.values())
        while self._waiting and len(self._under_way) < _FOR_EACH_THREAD * threads:
            number = self._waiting.popleft()
            self._files.put(number, self._tasks[number])
            self._under_way.add(number)
            self._executor.submit(self._task(number), self._aside)

    def _end(self, task: Task, outcome: Outcome | None) -> Iterator[Any]:
        """The value of a task that ended, if it did well; else it is begun again, or given up."""
        number = task.number
        if outcome is None:
            self._again(number)
            return
        for level, line in outcome.lines:
            LOG.log(level, "%s: %s", outcome.host, line)
        if outcome.error is not None:
            self._again_elsewhere(number, outcome)
            return
        try:
            value = self._files.take(outcome.made_by)
        except StorageError as error:
            self._again_elsewhere(number, Outcome(outcome.made_by, outcome.worker, outcome.host, 0, str(error), UNFIT))
            return
        self._seconds.append(outcome.seconds)
        self._forget(number)
        yield value

    def _forget(self, number: int) -> None:
        """Task `number` is over: other attempts at it are in vain."""
        self._executor.cancel(self._task(number))
        self._under_way.discard(number)
        self._tried.pop(number, None)
        with suppress(StorageError):
            self._files.done(number)

    def _again(self, number: int) -> None:
        """Begin task `number` again, whose worker vanished; one that several died of is given up."""
        tried = self._tried[number]
        tried.losses += 1
        there = self._executor.workers()
        self._workers = {worker: threads for worker, threads in self._workers.items() if worker in there}
        begun = {name: who for name, who in self._files.begun().items() if task_of(name) == number}
        tried.deaths = {name: who for name, who in begun.items() if who not in there}
        if len(tried.deaths) < _DEATHS and tried.losses < _LOSSES:
            LOG.info("bucket %d: its worker vanished; it is begun again", number)
            self._submit_again(number, there)
            return
        self._given_up[number] = ", ".join(sorted(set(tried.deaths.values()))) or "none had begun it"
        LOG.warning("bucket %d: is given up: %d workers died of it", number, len(tried.deaths))
        self._forget(number)

    def _again_elsewhere(self, number: int, outcome: Outcome) -> None:
        """Begin task `number` again on another worker, once, where its error may be the worker's; else raise it."""
        tried, who = self._tried[number], f"worker {outcome.worker or '?'} on {outcome.host or '?'}"
        text = outcome.error or ""
        if outcome.kind not in _OF_ITS_PLACE:
            kind = getattr(errors, outcome.kind, CocoDiyError)
            raise kind(f"{who}: {text}" if outcome.kind == "internal" else text)
        tried.failed.add(outcome.worker)
        self._aside.add(outcome.worker)
        self._workers.pop(outcome.worker, None)
        others = [worker for worker in self._executor.workers() if worker not in self._aside]
        if (outcome.kind != UNFIT and len(tried.failed) > 1) or not others:
            kind = ConfigError if outcome.kind == UNFIT else getattr(errors, outcome.kind)
            raise kind(f"{self._executor.name}: {who}: {text}")
        LOG.warning("%s: %s; its work is done elsewhere", who, text.partition("; ")[0])
        self._submit_again(number, others)

    def _submit_again(self, number: int, there: Collection[str]) -> None:
        """Begin task `number` again; while none of the workers that are `there` may do it, it waits for another."""
        if set(there) - self._aside:
            self._executor.submit(self._task(number), self._aside)
        else:
            self._under_way.discard(number)
            self._waiting.appendleft(number)

    def _begin_stragglers_again(self, now: float) -> None:
        """Begin a second time, elsewhere, what takes many times as long as the others took."""
        if not self._seconds or not self._under_way:
            return
        longest = max(STRAGGLES_S, STRAGGLES_TIMES * statistics.median(self._seconds))
        begun = self._files.begun()
        self._seen = {name: self._seen.get(name, now) for name in begun}
        for name, worker in begun.items():
            number = task_of(name)
            brief = now - self._seen[name] < longest
            if number not in self._under_way or self._tried[number].twice or brief or not set(self._workers) - {worker}:
                continue
            self._tried[number].twice = True
            LOG.info("bucket %d: takes long on %s; it is begun a second time elsewhere", number, worker)
            self._executor.submit(self._task(number), {*self._aside, worker})

    def _given_up_text(self) -> str:
        named = "; ".join(f"bucket {number} ({workers})" for number, workers in sorted(self._given_up.items())[:5])
        return (
            f"{self._executor.name}: {plural(len(self._given_up), 'bucket')} given up, of which {_DEATHS} workers each "
            f"died (out of memory?): {named}; give workers more memory, or set index.buckets to more, and run again"
        )
