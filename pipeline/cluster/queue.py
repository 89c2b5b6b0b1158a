"""A folder as what brings tasks to workers: no scheduler and no ports, only a disk that all of them see.

::

    <queue>/<run>/driver@-@17           the driver is alive: the number grows every `BEAT_S` seconds
    <queue>/<run>/worker@NAME@4         so is a worker
    <queue>/<run>/task@ID               a task that waits
    <queue>/<run>/begun@ID@NAME         one that a worker has taken, by renaming it: one worker alone can do that
    <queue>/<run>/ended@ID@NAME         its outcome

Who is alive is seen by names that change, not by times or locks: clocks of machines and of the file server differ, what
is known of a file may be a minute old, and some file servers have no locks; a folder in which one has just renamed a
file oneself is listed anew.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
import uuid
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from pipeline import storage
from pipeline.base.errors import ConfigError, StorageError, UnavailableError
from pipeline.cluster.worker import run_task
from pipeline.runtime.interrupt import STOP, check_stop
from pipeline.runtime.tasks import Outcome, Task
from pipeline.storage.local.folders import make_private, rename

#: How often whoever is alive says so, and after how long without a word nobody counts on them any more.
BEAT_S, LEASE_S = 2.0, 20.0

#: How often a driver lists its folder; a worker without work does it more and more seldom, for there may be hundreds.
_POLL_S, _IDLE_S = 0.2, 1.0

#: What an outcome says whose task was stopped with its worker.
_STOPPED = "Interrupted"


class _Note(msgspec.Struct):
    """What the file of a task says: the task, and which workers shall leave it to others."""

    task: Task
    avoid: list[str]


class _Name(NamedTuple):
    """A name in the folder of a run, taken apart."""

    kind: str
    what: str
    by: str


def _parsed(names: Iterable[str]) -> list[_Name]:
    """The names of the queue's own files, in order; others, such as those of files under way, are left out."""
    parts = (name.split("@") for name in sorted(names))
    return [_Name(*part, *[""] * (3 - len(part))) for part in parts if 2 <= len(part) <= 3]


def queue_at(url: str) -> storage.LocalFolder:
    """The folder of the queue `url`, made where it is not there, for its user alone.

    Raises `ConfigError` where others may write to it: whoever does runs code as its user.
    """
    path = storage.local_path(url)
    if not make_private(path):
        raise ConfigError(
            f"the queue {path}: others may write to it, and so run code as you; name a folder of your own"
        )
    return storage.LocalFolder(path)


class _Pulse:
    """Says that somebody is alive, in a thread of its own, until it is stopped."""

    def __init__(self, folder: storage.LocalFolder, kind: str, name: str) -> None:
        self._folder, self._name, self._over = folder, f"{kind}@{name}", threading.Event()
        self._number = 0
        folder.write(f"{self._name}@0", b"")
        self._thread = threading.Thread(target=self._beat, name="coco-diy-pulse", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            with suppress(StorageError):  # a file server that is away for a moment
                if not rename(self._folder.root, f"{self._name}@{self._number}", f"{self._name}@{self._number + 1}"):
                    return
                self._number += 1

    def stop(self) -> None:
        """End the pulse, and take its file away."""
        self._over.set()
        self._thread.join()
        with suppress(StorageError):
            self._folder.delete_many([f"{self._name}@{self._number}"])


class _Alive:
    """Who has a pulse: whose number has changed within `LEASE_S` seconds, by the clock of this process.

    Somebody `seen` for the first time counts as alive, or only once their number has changed.
    """

    def __init__(self, kind: str, *, at_sight: bool) -> None:
        self._kind, self._at_sight = kind, at_sight
        self._seen: dict[str, tuple[str, float]] = {}

    def among(self, names: Iterable[_Name]) -> set[str]:
        """Those of `names` who are alive."""
        now, found = time.monotonic(), set()
        for kind, who, number in names:
            if kind != self._kind:
                continue
            last, since = self._seen.get(who, ("", now if self._at_sight else now - LEASE_S))
            if last != number:
                since = now if last or self._at_sight else since
                self._seen[who] = (number, since)
            if now - since < LEASE_S:
                found.add(who)
        return found


class QueueExecutor:
    """The workers of the queue at a ``file://`` URL, see `runtime.tasks.Executor`."""

    def __init__(self, scheduler: str) -> None:
        self.name = f"engine.scheduler {scheduler}"
        self._queue, self._run = queue_at(scheduler), uuid.uuid4().hex[:16]
        self._queue.make_folders([self._run])
        self._folder = self._queue.own(self._run).sealed()
        self._pulse, self._alive = _Pulse(self._folder, "driver", "-"), _Alive("worker", at_sight=True)
        self._tasks: dict[str, Task] = {}
        self._numbers = itertools.count()

    def workers(self) -> dict[str, int]:
        """See `Executor.workers`; each does one task at once."""
        names = _parsed(self._folder.flat_names(""))
        if not names:
            raise UnavailableError(f"{self.name}: its folder {self._folder.url} is gone; run again")
        return dict.fromkeys(sorted(self._alive.among(names)), 1)

    def examine(self, folder: str, versions: dict[str, str], seconds: float) -> dict[str, tuple[str, Any]]:
        """See `Executor.examine`: workers come at any time, and examine themselves."""
        del folder, versions, seconds
        return {}

    def submit(self, task: Task, avoid: Collection[str] = ()) -> None:
        """See `Executor.submit`."""
        number = f"{next(self._numbers):09d}"
        self._tasks[number] = task
        self._folder.write(f"task@{number}", msgspec.json.encode(_Note(task, sorted(avoid))))

    def wait(self, seconds: float) -> list[tuple[Task, Outcome | None]]:
        """See `Executor.wait`."""
        until = time.monotonic() + seconds
        while not (found := self._ended()) and time.monotonic() < until and not STOP.wait(_POLL_S):
            pass
        return found

    def _ended(self) -> list[tuple[Task, Outcome | None]]:
        found: list[tuple[Task, Outcome | None]] = []
        names = _parsed(self._folder.flat_names(""))
        alive = self._alive.among(names)
        for kind, number, who in sorted(names, key=lambda name: name.kind != "ended"):
            outcome = None
            if kind == "ended":
                outcome = msgspec.json.decode(
                    self._folder.read(f"{kind}@{number}@{who}") or b"null", type=Outcome | None
                )
            elif kind != "begun" or who in alive or number not in self._tasks:
                continue
            self._folder.delete_many([f"{kind}@{number}@{who}"])
            if (task := self._tasks.pop(number, None)) is not None:  # else nobody waits for it any more
                found.append((task, outcome))
        return found

    def cancel(self, task: Task) -> None:
        """See `Executor.cancel`."""
        numbers = [number for number, found in self._tasks.items() if found == task]
        self._folder.delete_many([f"task@{number}" for number in numbers])
        for number in numbers:
            del self._tasks[number]

    def close(self) -> None:
        """See `Executor.close`."""
        self._pulse.stop()
        with suppress(StorageError):
            self._queue.remove_folder(self._run)


class _Joined:
    """A run that a worker works for."""

    def __init__(self, folder: storage.LocalFolder, name: str) -> None:
        self._folder, self._name = folder, name
        self._driver = _Alive("driver", at_sight=False)  # one that died may have left its number behind
        self._pulse = _Pulse(folder, "worker", name)

    def is_alive(self, names: list[_Name]) -> bool:
        return bool(self._driver.among(names))

    def do_one(self, names: list[_Name]) -> bool:
        """Take one of the tasks that wait, and do it; returns whether there was one."""
        waiting = [number for kind, number, _ in names if kind == "task"]
        for number in random.sample(waiting, len(waiting)):  # else all workers try to take the same one
            data = self._folder.read(f"task@{number}")
            if data is None or self._name in (note := msgspec.json.decode(data, type=_Note)).avoid:
                continue
            waits, begun = f"task@{number}", f"begun@{number}@{self._name}"
            if rename(self._folder.root, waits, begun):
                self._do(note.task, waits, begun)
                return True
        return False

    def _do(self, task: Task, waits: str, begun: str) -> None:
        try:
            outcome = run_task(task.folder, task.number, self._name)
            if outcome.kind == _STOPPED:
                check_stop()
            self._folder.write(begun.replace("begun", "ended", 1), msgspec.json.encode(outcome))
        except BaseException:
            with suppress(StorageError):
                rename(self._folder.root, begun, waits)  # somebody else begins it at once
            raise
        self._folder.delete_many([begun])

    def leave(self) -> None:
        self._pulse.stop()


def serve(url: str, wait: float) -> int:
    """Do tasks of all runs that use the queue at `url`, until none has used it for `wait` seconds; returns how many.

    What was begun when this is stopped is given back.
    """
    queue, name = queue_at(url), f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    joined: dict[str, _Joined] = {}
    until, done, idle = time.monotonic() + wait, 0, _POLL_S
    try:
        while time.monotonic() < until:
            check_stop()
            before = done
            runs = _runs(queue)
            joined = {run: here for run, here in joined.items() if run in runs}  # what has ended is let go
            for run, names in runs.items():
                try:
                    here = joined.get(run) or joined.setdefault(run, _Joined(queue.own(run).sealed(), name))
                    if here.is_alive(names):
                        until = time.monotonic() + wait
                        done += here.do_one(names)
                except StorageError:
                    if queue.below(run).exists():
                        raise
                    joined.pop(run, None)  # it has ended meanwhile
            if done == before:
                STOP.wait(idle)
            idle = min(_IDLE_S, 1.5 * idle) if done == before else _POLL_S
    finally:
        for here in joined.values():
            here.leave()
    return done


def _runs(queue: storage.LocalFolder) -> dict[str, list[_Name]]:
    """The names in the folders of all runs: those that a driver made, so nothing is written to any other folder."""
    found: dict[str, list[str]] = {}
    for path in queue.names():
        run, _, name = path.partition("/")
        if name:
            found.setdefault(run, []).append(name)
    parsed = {run: _parsed(names) for run, names in sorted(found.items())}
    return {run: names for run, names in parsed.items() if any(name.kind == "driver" for name in names)}
