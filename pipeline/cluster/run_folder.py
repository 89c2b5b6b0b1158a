"""The folder of one run below the workdir, through which driver and workers exchange all that is larger than a line.

::

    <workdir>/cluster/<run>/
      facts                what a worker must be like, see `Facts`
      answers/             one empty file from each worker: it can write here
      <step>/function      what all tasks of a step share: a function by name, with what it knows of the whole
      <step>/arguments/    a file a task, there while it is under way
      <step>/begun/        a file while a worker is at work, called by worker and task; of one that died it stays
      <step>/made/         what tasks wrote for other folders of the workdir, see `storage.local.outbox`
      <step>/results/      what tasks returned, and the list of what they made

The driver makes it and removes it: a worker that was cut off finds nothing to write to. Functions and values are
pickled, by the very code that reads them (`fitness` compares it): who may write to the workdir is trusted as before.
"""

from __future__ import annotations

import functools
import os
import pickle
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pipeline import storage
from pipeline.base.os_errors import run_ended

FOLDER = "cluster"

_PARTS = ("arguments", "begun", "made", "results")

#: File servers show a new file to another machine within so many seconds; until then its folder is listed again.
_SHOWN_S = 10.0


@dataclass(frozen=True)
class Place:
    """A location that every worker must see: its `url`, and the name of something right in it (None: any)."""

    url: str
    sample: str | None = None


@dataclass(frozen=True)
class Facts:
    """What a run expects of its workers.

    `versions` are those of the driver by package; `places` must be seen, `workdir` and the `target` (None: nothing is
    written there) be written to: there `fence` is a folder that is this run's own.
    """

    run: str
    workdir: str
    versions: dict[str, str]
    places: tuple[Place, ...] = ()
    target: str | None = None
    fence: str = ""


@dataclass(frozen=True)
class Made:
    """What a task left: its value, and the paths, relative to the workdir, of what it wrote in `folder`."""

    value: Any
    folder: str
    files: list[str] = field(default_factory=list)


@functools.lru_cache(maxsize=8)
def facts_of(run_path: str) -> Facts:
    """The facts of the run whose folder is `run_path`, for a worker."""
    return msgspec.json.decode(_read(storage.locate_writable(run_path).sealed(), "facts"), type=Facts)


class RunFolder:
    """The folder of one run, as its driver has it."""

    def __init__(self, workdir: str, links: frozenset[str] = frozenset()) -> None:
        self.run = uuid.uuid4().hex[:16]
        self.work = storage.locate_writable(workdir, links=links)
        self._folder = f"{FOLDER}/{self.run}"
        self.path = self.work.join(self._folder)
        self._steps = 0

    def make(self, facts: Facts) -> None:
        """Make it; `facts` are for all its workers."""
        self.work.make_folders([f"{self._folder}/answers"])
        self.work.write(f"{self._folder}/facts", msgspec.json.encode(facts))

    def answers(self) -> set[str]:
        """Names of the files that workers have left: the folder is listed, no name is asked for."""
        return self.work.names(f"{self._folder}/answers")

    def step(self, function: Callable[..., Any]) -> Step:
        """A new step, whose tasks call `function`."""
        self._steps += 1
        folder = f"{self._folder}/{self._steps:04d}"
        self.work.make_folders([f"{folder}/{part}" for part in _PARTS])
        self.work.write(f"{folder}/function", pickle.dumps(function))
        return Step(self.work, folder)

    def remove(self) -> None:
        """Remove it, and with it whatever a worker could still write."""
        self.work.remove_folder(self._folder)
        self.work.drop_empty_folders(FOLDER)


class Step:
    """The files of one step, as the driver has them."""

    def __init__(self, work: storage.WritableLocation, folder: str) -> None:
        self._work, self._folder = work, folder
        self.path = work.join(folder)

    def put(self, number: int, arguments: tuple[Any, ...]) -> None:
        """Leave the arguments of task `number`."""
        path = f"{self._folder}/arguments/{number}"
        self._work.write_many([path], [pickle.dumps(arguments)]).must(self._work)

    def begun(self) -> dict[str, str]:
        """By attempt, see `attempt_name`, the worker that is at work on it, or died of it."""
        folder = f"{self._folder}/begun"
        found = {name: self._work.read(f"{folder}/{name}") for name in self._work.names(folder)}
        return {name: worker.decode() for name, worker in found.items() if worker is not None}

    def take(self, made_by: str) -> Any:
        """The value of a task that ended well, whose files are put in place."""
        data = _read(self._work, f"{self._folder}/results/{made_by}")
        made: Made = pickle.loads(data)
        self._work.take_files(self._work.own(made.folder), made.files)
        self._work.remove_folder(made.folder)
        self._work.delete_many([f"{self._folder}/results/{made_by}"])
        return made.value

    def done(self, number: int) -> None:
        """Nobody needs the arguments of task `number` any more."""
        self._work.delete_many([f"{self._folder}/arguments/{number}"])


def attempt_name(number: int) -> str:
    """What one attempt at task `number`, on this machine, calls its files."""
    return f"{number}.{os.getpid()}.{uuid.uuid4().hex[:12]}"


def task_of(attempt: str) -> int:
    """The number of the task that an attempt was made at."""
    return int(attempt.partition(".")[0])


class WorkerStep:
    """The files of one step, as a worker has them: none of its folders is made here."""

    def __init__(self, folder: str) -> None:
        self._run = storage.locate_writable(os.path.dirname(folder)).sealed()
        self._name = os.path.basename(folder)
        self.path = folder

    def function(self) -> Callable[..., Any]:
        """What all tasks call."""
        function: Callable[..., Any] = pickle.loads(_read(self._run, f"{self._name}/function"))
        return function

    def arguments(self, number: int) -> tuple[Any, ...]:
        """The arguments of task `number`."""
        found: tuple[Any, ...] = pickle.loads(_read(self._run, f"{self._name}/arguments/{number}"))
        return found

    def begin(self, attempt: str, worker: str) -> None:
        """Say that `worker` is at work."""
        self._run.write_many([f"{self._name}/begun/{attempt}"], [worker.encode()]).must(self._run)

    def end(self, attempt: str) -> None:
        """Say that it is not any more."""
        self._run.delete_many([f"{self._name}/begun/{attempt}"])

    def folder_of(self, attempt: str) -> str:
        """Where an attempt leaves what it makes for the workdir."""
        return f"{self.path}/made/{attempt}"

    def leave(self, attempt: str, made: Made) -> None:
        """Leave what a task returned, durably, the last of all."""
        self._run.write(f"{self._name}/results/{attempt}", pickle.dumps(made))


def _read(location: storage.WritableLocation, path: str) -> bytes:
    """The file `path`, which another machine has written; its folder is listed until it shows."""
    until = time.monotonic() + _SHOWN_S
    while (data := location.read(path)) is None:
        folder, _, name = path.rpartition("/")
        shown = name in location.flat_names(folder)
        if not location.exists() or (not shown and time.monotonic() > until):
            raise run_ended(location.join(path))
        time.sleep(0.1)
    return data
