"""How a task is described to a worker elsewhere, and what runs it there.

A worker gets a folder and a number, nothing else. In the folder, that of a step, lies what all its tasks share (the
function, by name, and what it knows of the whole) and a file of arguments for each number; what a task made is left
there, too, in files that are called by what made them. So messages are small whatever the bucket holds, and anything
that carries a `Task` one way and an `Outcome` back can be an `Executor`: a Dask scheduler, or files in a folder.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """Task `number` of the step whose files lie in `folder`, an absolute path that driver and workers share."""

    folder: str
    number: int


@dataclass(frozen=True)
class Outcome:
    """What a worker says of a task, as small plain values; what it made lies in files called by `made_by`.

    `worker` and `host` name the worker. An `error` is a sentence, and `kind` the name of its class in `base.errors`;
    `lines` (level of `logging`, text) were logged meanwhile.
    """

    made_by: str
    worker: str
    host: str
    seconds: float = 0.0
    error: str | None = None
    kind: str = ""
    lines: tuple[tuple[int, str], ...] = ()


class Executor(Protocol):
    """What brings tasks to workers and their outcomes back. It is used from one thread."""

    #: What sentences call it, such as ``engine.scheduler tcp://host:8786``.
    name: str

    def workers(self) -> dict[str, int]:
        """The workers that are there now, and how many tasks each does at once.

        Raises `UnavailableError` where nobody can say.
        """

    def examine(self, folder: str, versions: dict[str, str], seconds: float) -> dict[str, tuple[str, Any]]:
        """By worker, its host and what `cluster.fitness.examine` says there, an error, or None after so many seconds.

        Workers that examine themselves before their first task need not be asked.
        """

    def submit(self, task: Task, avoid: Collection[str] = ()) -> None:
        """Have a worker do the task, any but those to `avoid`; where it is under way, once more."""

    def wait(self, seconds: float) -> list[tuple[Task, Outcome | None]]:
        """What has ended since it was asked last, at most so long from now; None: its worker vanished."""

    def cancel(self, task: Task) -> None:
        """Forget the task; where no worker has begun it, none will."""

    def close(self) -> None:
        """Leave nothing of it behind. Workers stay: whoever started them ends them."""


class Remote(Protocol):
    """Workers elsewhere, as the engine uses them."""

    def begin(self, target: Any, scratch: str) -> None:
        """See `Engine.connect`."""

    @property
    def fence(self) -> str | None:
        """See `Engine.fence`."""

    def drop_fence(self) -> None:
        """See `Engine.drop_fence`."""

    def map(self, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]]) -> Iterator[T]:
        """See `Engine.map`."""

    def close(self) -> None:
        """Let go of the workers."""


def partition(make: Callable[[], Any], number: int) -> tuple[int, Any]:
    """`number` and the partition of that number of the Dask frame that `make` makes, computed in this thread."""
    import dask
    from dask.local import get_sync

    return number, dask.compute(_partitions(make)[number], scheduler=get_sync)[0]


@functools.lru_cache(maxsize=2)
def _partitions(make: Callable[[], Any]) -> list[Any]:
    parts: list[Any] = make().to_delayed()
    return parts
