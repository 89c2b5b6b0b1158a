"""Dask: where tasks run. A task is a bucket.

The same task functions run in this thread (``sync``), on ``threads``, on ``processes`` and on a scheduler's address
(``tcp://…``). ``auto`` picks by what measures best on one machine. Table work releases the interpreter lock, so it runs
on threads. Reading and writing thousands of small files holds it: a few thousand are done right here; for more, this
process and its helpers (one process less than there are workers) share the buckets, which costs less memory and less
start-up than a pool beside an idle parent.
"""

from __future__ import annotations

import functools
import gc
import importlib.abc
import os
import queue
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TypeVar

from pipeline.base.errors import CocoDiyError, ConfigError, UnavailableError
from pipeline.runtime.counters import add_helpers, count_in
from pipeline.runtime.interrupt import STOP, STOP_SECONDS, check_stop
from pipeline.runtime.log import LOG, show_log

T = TypeVar("T")

_MAIN_LOCK = threading.Lock()

_ENDING = threading.Lock()

#: Fewer files than this are done sooner than a helper process starts.
FILES_WORTH_HELPERS = 10_000

#: Counters of the files that helpers go through.
_COUNTERS = 64

#: How often helpers that were started since are searched for.
_POLL_SECONDS = 0.2


def _start_worker(needs_pandas: bool, counts: Any, log_level: int) -> None:
    """First of all in a worker process. Ctrl-C is for the parent, which ends its workers.

    A helper beside the parent indexes and applies, so it never needs pandas; Arrow would import it at its first
    conversion, which takes 0.3 s and 60 MB where it finds it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if log_level:
        show_log(log_level)
    slot = os.getpid() % len(counts)  # two of one slot would only lose some counts
    count_in(memoryview(counts).cast("B").cast("q")[slot : slot + 1])
    gc.set_threshold(100_000, 50, 50)  # lists of a hundred thousand names are no garbage
    if not needs_pandas:
        sys.meta_path.insert(0, _NoPandas())


def _end_with_parent() -> None:
    """A parent that was killed cannot end its workers, and they would wait for its tasks for ever."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _NoPandas(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:  # noqa: ARG002
        if name == "pandas":
            raise ModuleNotFoundError(name)


def _warm_up() -> None:
    """First task of a helper: what later ones import."""
    import pyarrow.parquet

    assert pyarrow.parquet


class Engine(AbstractContextManager["Engine"]):
    """Runs tasks by the config's ``engine.scheduler`` and ``engine.workers``; closes what it started on exit."""

    def __init__(self, scheduler: str = "auto", workers: int | str = "auto") -> None:
        self.scheduler = scheduler
        self.workers = _cores() if workers == "auto" else int(workers)
        self._pool: _Helpers | None = None
        self._client: Any = None
        self._started = threading.Lock()
        self._begun: Callable[[], None] | None = None
        self._beginning = threading.Lock()

    def __exit__(self, *exc: object) -> None:
        if self._pool is not None:
            self._pool.kill()  # idle, or not wanted any more: they hold nothing, and a polite end takes 40 ms
        if self._client is not None:
            self._client.close()

    def kind(self, files: int) -> str:
        """What runs a stage that reads or writes `files` small files."""
        if self.scheduler != "auto":
            return self.scheduler
        return "shared" if files >= FILES_WORTH_HELPERS and self.workers > 1 else "sync"

    @property
    def helpers(self) -> int:
        """How many processes there are beside this one."""
        if self.scheduler == "auto":
            return self.workers - 1
        return self.workers if self.scheduler == "processes" else 0

    def pool(self) -> _Helpers:
        """The helper processes, started when first used and shared by all stages.

        They are spawned: forking a process that has threads (pyarrow's, fsspec's) can hang it.
        """
        import multiprocessing

        with self._started:
            if self._pool is None:
                context = multiprocessing.get_context("spawn")
                counts = context.RawArray("q", _COUNTERS)
                add_helpers(counts)
                first = (self.scheduler != "auto", counts, LOG.level)
                self._pool = _Helpers(max(self.helpers, 1), context, _start_worker, first)
            return self._pool

    def begin(self, work: Callable[[], None]) -> None:
        """Have this process do `work` once: while its helpers are busy, or at the latest before a task runs here.

        It is what later stages import. Dask must not meet modules that another thread has imported by half, so `map`
        and `compute` wait for it.
        """
        self._begun = work

    def _join(self) -> None:
        """Do what was begun, or wait for the thread that does it."""
        with self._beginning:
            work, self._begun = self._begun, None
            if work is not None:
                work()

    def background(self, function: Callable[..., T], *args: Any) -> Callable[[], T]:
        """Start `function` in a helper process; call the answer, which first does what was begun here, for its result.

        Where there are no helpers, it runs when its result is asked for.
        """
        if not self.helpers:
            return functools.partial(function, *args)
        pool = self.pool()
        with suppress(BrokenExecutor):
            asked = pool.submit(function, *args)

            def answer() -> T:
                self._join()
                try:
                    found: T = asked.result()
                except BrokenExecutor:
                    check_stop()
                    pool.say_lost()
                    return function(*args)
                return found

            return answer
        return functools.partial(function, *args)

    def warm_up(self) -> None:
        """Let the helpers import what tasks need, as soon as they are free: they will be used."""
        with suppress(BrokenExecutor):  # who uses them finds out, and does without
            for _ in range(self.helpers):
                self.pool().submit(_warm_up)

    def map(self, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], *, files: int) -> Iterator[T]:
        """Results of ``function(*task)`` for every task as they finish, in any order.

        Each is one Dask task. The first error ends it and is raised; tasks not begun are left.
        """
        if not tasks:
            return iter(())
        kind = self.kind(files)
        if "://" in kind:
            return self._on_cluster(function, tasks)
        import dask.callbacks
        import dask.delayed

        assert dask.callbacks
        assert dask.delayed
        options = self._local_options(kind)
        if kind == "shared":
            function = _Shared(function, self.pool(), self.helpers, self._join)
        else:
            self._join()
        return _local(function, tasks, options)

    def compute(self, frame: Any, done: Callable[[int], None]) -> list[Any]:
        """The partitions of a Dask frame, in order; `done` gets how many more there are whenever some are.

        It is table work, so `auto` takes threads.
        """
        self._join()
        import dask
        from dask.callbacks import Callback

        parts = frame.to_delayed()
        if "://" in self.scheduler:
            client = self._cluster()  # says what is lacking where the package is
            from distributed import as_completed

            futures = client.compute(parts, optimize_graph=False)
            with _workers_lost():
                for _ in as_completed(futures, loop=client.loop):
                    done(1)
                return list(client.gather(futures))
        keys = {part.key for part in parts}

        def note(key: Any, *_: Any) -> None:
            if key in keys:
                done(1)

        kind = "threads" if self.scheduler == "auto" else self.scheduler
        with Callback(posttask=note), _workers_lost():
            return list(dask.compute(*parts, optimize_graph=False, **self._local_options(kind)))

    def _local_options(self, kind: str) -> dict[str, Any]:
        # The functions themselves, not their names: for a name Dask searches for a cluster first (0.3 s of imports).
        if kind == "shared":
            from dask.threaded import get as get_threads

            return {"scheduler": get_threads, "num_workers": self.workers}
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
                raise ConfigError(
                    f"engine.scheduler {self.scheduler}: needs the package distributed; "
                    "install it with `pip install distributed`"
                ) from None
            try:
                self._client = Client(self.scheduler, timeout="10s", set_as_default=False)
            except (OSError, ValueError) as error:
                raise UnavailableError(
                    f"engine.scheduler: no scheduler answers at {self.scheduler} ({error}); "
                    "start one with `dask scheduler`, or use processes"
                ) from None
        return self._client

    def _on_cluster(self, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]]) -> Iterator[T]:
        client = self._cluster()  # says what is lacking where the package is
        from distributed import as_completed

        futures = [client.submit(function, *task, pure=False) for task in tasks]
        try:
            with _workers_lost():
                for future in as_completed(futures, loop=client.loop):
                    yield future.result()
        finally:
            client.cancel(futures)


def _local(function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], options: dict[str, Any]) -> Iterator[T]:
    """Run tasks with a local Dask scheduler in a thread of its own, handing on each result as it comes."""
    import dask
    from dask.callbacks import Callback

    results: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
    if "num_workers" not in options:
        return (dask.compute(_task(function, task)(), **options)[0] for task in tasks)
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
                    with _workers_lost():
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


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Shared:
    """A task function that runs wherever there is room: in a helper process, or here once `first` is done."""

    def __init__(self, function: Callable[..., Any], pool: _Helpers, helpers: int, first: Callable[[], None]) -> None:
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


@contextmanager
def _workers_lost() -> Iterator[None]:
    """Say in a sentence that processes were killed while they were at work."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, BrokenExecutor) and type(error).__name__ != "KilledWorker":
            raise
        check_stop()
        raise CocoDiyError(
            "a worker process was killed (out of memory?); run again with fewer --workers: it goes on where it was"
        ) from None


class _Helpers(ProcessPoolExecutor):
    """A pool whose processes do not import the caller's main module.

    They need nothing of it, and a user's script without a ``__name__`` guard would run twice.
    """

    _watched = _ended = _warned = False

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """See `ProcessPoolExecutor.submit`: this may start a process."""
        try:
            with _no_main(), _no_interrupt():
                future = super().submit(*args, **kwargs)
        except OSError:
            if not self._ended:
                raise
            raise BrokenExecutor("its processes were ended") from None
        if not self._watched:
            self._watched = True
            threading.Thread(target=self._watch, name="coco-diy-helpers", daemon=True).start()
        return future

    def _watch(self) -> None:
        """End all helpers when one has died: it may hold the lock, or half of the pipe, that the others wait for."""
        from multiprocessing.connection import wait

        while not self._ended and (processes := list((self._processes or {}).values())):
            if wait([process.sentinel for process in processes], timeout=_POLL_SECONDS):
                self._end(processes)

    def _end(self, processes: Sequence[Any]) -> None:
        """End all processes: what they were doing is lost, as if the machine had stopped there.

        One that was killed amid an answer leaves half of it in the pipe. Nobody else writes there any more, so its end
        is closed, and whoever reads the other half sees that instead of waiting for ever.
        """
        with _ENDING:  # two threads may come here at once, and a descriptor is to be closed once
            if self._ended:
                return
            self._ended = True
        for process in processes:
            process.kill()
        writer = getattr(self._result_queue, "_writer", None)
        if writer is not None and not writer.closed:
            writer.close()

    def kill(self) -> None:
        """End all processes and threads of this pool, as `_end` says."""
        manager: Any = self._executor_manager_thread
        self._end(list((self._processes or {}).values()))
        self.shutdown(wait=False, cancel_futures=True)
        if manager is not None:
            manager.join(STOP_SECONDS)

    def say_lost(self) -> None:
        """Say, once, that helpers are gone."""
        if not self._warned:
            self._warned = True
            LOG.warning(
                "a helper process was killed (out of memory?); this one goes on alone; fewer --workers take less memory"
            )


@contextmanager
def _no_main() -> Iterator[None]:
    """Hide the caller's main module while workers start.

    Spawned processes import the parent's main module anew; ours need nothing of it, and a user's script without a
    ``__name__`` guard would run twice.
    """
    with _MAIN_LOCK:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Block Ctrl-C in this thread, and so in workers that it starts: until `_start_worker` they would die of it aloud.

    What starts before them, Python's tracker of resources, ends a block of its own by letting all through.
    """
    from multiprocessing.resource_tracker import ensure_running

    ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
