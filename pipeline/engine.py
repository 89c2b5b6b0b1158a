"""Dask: where tasks run. A task is a bucket.

The same task functions run in this thread (``sync``), on ``threads``, on ``processes`` and on a scheduler's address
(``tcp://…``). ``auto`` picks per stage by what measures best on one machine: label files are small, and small local
reads and creates hold the interpreter lock, so a pool of threads slows them down; processes pay their start (about
0.4 s) only for some ten thousand files; table work releases the lock and runs well on threads.
"""

from __future__ import annotations

import os
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from pipeline.errors import ConfigError, StorageError

T = TypeVar("T")

#: Fewer files than this are done sooner than processes start.
FILES_WORTH_PROCESSES = 20_000


def _warm_up() -> None:
    """First task of a worker process: what all later ones import."""
    import pyarrow.parquet

    assert pyarrow.parquet


class Engine(AbstractContextManager["Engine"]):
    """Runs tasks by the config's ``engine.scheduler`` and ``engine.workers``; closes what it started on exit."""

    def __init__(self, scheduler: str = "auto", workers: int | str = "auto") -> None:
        self.scheduler = scheduler
        self.workers = (len(os.sched_getaffinity(0)) if workers == "auto" else int(workers))
        self._pool: ProcessPoolExecutor | None = None
        self._client: Any = None
        self._started = threading.Lock()

    def __exit__(self, *exc: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=exc[0] is None, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    def kind(self, files: int) -> str:
        """What runs a stage that reads or writes `files` small files: sync, threads, processes or an address."""
        if self.scheduler != "auto":
            return self.scheduler
        return "processes" if files >= FILES_WORTH_PROCESSES and self.workers > 1 else "sync"

    def pool(self) -> ProcessPoolExecutor:
        """The worker processes, started once and shared by all stages.

        They are spawned: forking a process that has threads (pyarrow's, fsspec's) can hang it.
        """
        import multiprocessing

        with self._started:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"))
                with _no_main():
                    for _ in range(self.workers):
                        self._pool.submit(_warm_up)
            return self._pool

    def background(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """Run `function` in a worker process while this one imports or reads."""
        return self.pool().submit(function, *args)

    def map(self, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], *, files: int) -> Iterator[T]:
        """Results of ``function(*task)`` for every task as they finish, in any order.

        Each is one Dask task. The first error ends it and is raised; tasks not begun are left.
        """
        if not tasks:
            return iter(())
        kind = self.kind(files)
        if "://" in kind:
            return self._on_cluster(function, tasks)
        return _local(function, tasks, self._local_options(kind))

    def compute(self, frame: Any) -> Any:
        """The result of a Dask frame; table work, so `auto` takes threads."""
        if "://" in self.scheduler:
            return self._cluster().compute(frame, sync=True)
        kind = "threads" if self.scheduler == "auto" else self.scheduler
        return frame.compute(**self._local_options(kind))

    def _local_options(self, kind: str) -> dict[str, Any]:
        # The functions themselves, not their names: for a name Dask looks for a cluster first (0.3 s of imports).
        if kind == "processes":
            from dask.multiprocessing import get as get_processes

            return {"scheduler": get_processes, "pool": self.pool(), "num_workers": self.workers, "chunksize": 1}
        if kind == "threads":
            from dask.threaded import get as get_threads

            return {"scheduler": get_threads, "num_workers": self.workers}
        from dask.local import get_sync

        return {"scheduler": get_sync}

    def _cluster(self) -> Any:
        if self._client is None:
            try:
                from distributed import Client
            except ImportError:
                raise ConfigError(f"engine.scheduler {self.scheduler}: needs the package distributed; "
                                  "install it with `pip install 'coco-diy[cluster]'`") from None
            try:
                self._client = Client(self.scheduler, timeout="10s", set_as_default=False)
            except (OSError, ValueError) as error:
                raise StorageError(f"engine.scheduler: no scheduler answers at {self.scheduler} ({error}); "
                                   "start one with `dask scheduler`, or use processes") from None
        return self._client

    def _on_cluster(self, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]]) -> Iterator[T]:
        from distributed import as_completed

        client = self._cluster()
        futures = [client.submit(function, *task, pure=False) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            client.cancel(futures)


def _local(function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], options: dict[str, Any]) -> Iterator[T]:
    """Run tasks with a local Dask scheduler in a thread of its own, handing on each result as it comes."""
    import queue

    import dask
    from dask.callbacks import Callback
    from dask.delayed import delayed

    results: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
    if "num_workers" not in options:
        return (dask.compute(delayed(function, pure=False)(*task), **options)[0] for task in tasks)
    stop = threading.Event()

    class Stopped(Exception):  # noqa: N818 - never seen outside
        pass

    def done(key: Any, value: Any, _dsk: Any, _state: Any, _worker: Any) -> None:
        if stop.is_set():
            raise Stopped
        if isinstance(key, str) and key.startswith("bucket-"):
            results.put((True, value))

    def run() -> None:
        try:
            graph = [delayed(function, pure=False)(*task, dask_key_name=f"bucket-{i}") for i, task in enumerate(tasks)]
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
                    raise value
                yield value
        finally:
            stop.set()
            thread.join()

    return generate()


@contextmanager
def _no_main() -> Iterator[None]:
    """Hide the caller's main module while workers start.

    Spawned processes import the parent's main module anew; ours need nothing of it, and a user's script without a
    ``__name__`` guard would run twice.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
