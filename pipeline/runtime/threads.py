"""Local Dask schedulers: tasks in this thread, in threads of this process, or shared with its helpers."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any, TypeVar

from pipeline.runtime.helpers import Helpers, workers_lost
from pipeline.runtime.interrupt import STOP, STOP_SECONDS, check_stop

T = TypeVar("T")


def run_local(function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], options: dict[str, Any]) -> Iterator[T]:
    """Run tasks with a local Dask scheduler in a thread of its own, handing on each result as it comes."""
    import dask
    from dask.callbacks import Callback

    results: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
    stop = threading.Event()

    class Stopped(Exception):  # noqa: N818 - never seen outside
        pass

    def done(key: Any, value: Any, _dsk: Any, state: Any, _worker: Any) -> None:
        if stop.is_set():
            raise Stopped
        if isinstance(key, str) and key.startswith("bucket-"):
            state["cache"][key] = None  # Dask would hold them all until the end
            results.put((True, value))

    def run() -> None:
        try:
            graph = [_task(function, task)(dask_key_name=f"bucket-{i}") for i, task in enumerate(tasks)]
            with Callback(posttask=done):
                dask.compute(*graph, optimize_graph=False, **options)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            results.put((False, error))

    def generate() -> Iterator[T]:
        thread = threading.Thread(target=run, name="coco-diy-dask", daemon=True)
        thread.start()
        try:
            for _ in tasks:
                good, value = results.get()
                if not good:
                    with workers_lost():
                        raise value
                yield value
        except BaseException:
            stopping = STOP.is_set()
            STOP.set()
            stop.set()
            thread.join(STOP_SECONDS if stopping else None)
            if not stopping:  # an error, not a signal: this process may go on to other things
                STOP.clear()
            raise
        finally:
            stop.set()
            thread.join(0 if STOP.is_set() else None)

    return generate()


def _task(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """A Dask task whose arguments Dask does not go through: for a hundred thousand names that takes a second."""
    from dask.delayed import delayed

    return delayed(functools.partial(function, *arguments), pure=False, traverse=False)


class Shared:
    """A task function that runs wherever there is room: in a helper process, or here once `first` is done."""

    def __init__(self, function: Callable[..., Any], pool: Helpers, helpers: int, first: Callable[[], None]) -> None:
        self._function, self._pool = function, pool
        self._room: queue.SimpleQueue[bool] = queue.SimpleQueue()
        for _ in range(helpers):
            self._room.put(False)
        threading.Thread(target=self._open_here, args=(first,), daemon=True).start()

    def _open_here(self, first: Callable[[], None]) -> None:
        try:
            first()
        finally:
            self._room.put(True)

    def __call__(self, *task: Any) -> Any:
        """Its result of `task`."""
        while True:
            here: bool | None = self._room.get()
            try:
                return self._function(*task) if here else self._pool.submit(self._function, *task).result()
            except BrokenExecutor:
                # What a helper had under way is done again, here: there is no room with helpers any more.
                check_stop()
                self._pool.say_lost()
                here = None
            finally:
                if here is not None:
                    self._room.put(here)
