"""Dask: where tasks run. A task is a bucket.

The same task functions run in this thread (``sync``), on ``threads``, on ``processes`` and on workers elsewhere
(``tcp://…``, see `pipeline.cluster`). ``auto`` picks by what measures best on one machine. Table work releases the
interpreter lock, so it runs on threads. Reading and writing thousands of small files holds it: a few thousand are done
right here; for more, this process and its helpers (one process less than there are workers) share the buckets, which
costs less memory and less start-up than a pool beside an idle parent.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.base.memory import release_free
from pipeline.runtime.interrupt import check_stop
from pipeline.runtime.spare import sparing

if TYPE_CHECKING:
    from pipeline.runtime.helpers import Helpers
    from pipeline.runtime.tasks import Remote

T = TypeVar("T")

#: Fewer files than this are done sooner than a helper process starts.
FILES_WORTH_HELPERS = 10_000


class Engine(AbstractContextManager["Engine"]):
    """Runs tasks by the config's ``engine.scheduler`` and ``engine.workers``; closes what it started on exit.

    With `remote` all tasks run there.
    """

    def __init__(self, scheduler: str = "auto", workers: int | str = "auto", remote: Remote | None = None) -> None:
        self.scheduler = scheduler
        self.workers = _cores() if workers == "auto" else int(workers)
        self._remote = remote
        self._pool: Helpers | None = None
        self._started = threading.Lock()
        self._begun: Callable[[], None] | None = None
        self._beginning = threading.Lock()

    def __exit__(self, *exc: object) -> None:
        if self._pool is not None:
            self._pool.kill()  # idle, or not wanted any more: they hold nothing, and a polite end takes 40 ms
        if self._remote is not None:
            self._remote.close()

    def connect(self, target: Any = None, scratch: str = "") -> None:
        """Have workers elsewhere, if there are any, made ready for this run, see `cluster.driver.Driver.begin`."""
        if self._remote is not None:
            self._remote.begin(target, scratch)

    @property
    def fence(self) -> str | None:
        """Folder below the target through which tasks must write to it; None where no task outlives this process."""
        return self._remote.fence if self._remote is not None else None

    def drop_fence(self) -> None:
        """Nothing that a task still does can change the target from here on."""
        if self._remote is not None:
            self._remote.drop_fence()

    @property
    def in_process(self) -> bool:
        """Whether tables are worked on in this process alone."""
        return self._remote is None and self.scheduler != "processes"

    def kind(self, files: int | None) -> str:
        """What runs a stage that reads or writes `files` small files; None: it works on tables."""
        if self.scheduler != "auto":
            return self.scheduler
        if files is None:
            return "threads"
        return "shared" if files >= FILES_WORTH_HELPERS and self.workers > 1 else "sync"

    def weight(self, files: int) -> int:
        """For `map`, `files` from disk to disk: two threads do 15,000 in the 0.3 s in which a helper starts."""
        return files if self._pool is not None or self.workers > 2 else files // 2

    @property
    def helpers(self) -> int:
        """How many processes there are beside this one."""
        if self._remote is not None:
            return 0
        if self.scheduler == "auto":
            return self.workers - 1
        return self.workers if self.scheduler == "processes" else 0

    def pool(self) -> Helpers:
        """The helper processes, started when first used and shared by all stages."""
        from pipeline.runtime.helpers import start_helpers

        with self._started:
            if self._pool is None:
                self._pool = start_helpers(max(self.helpers, 1), needs_pandas=self.scheduler != "auto")
            return self._pool

    def begin(self, work: Callable[[], None]) -> None:
        """Have this process do `work` once: while its helpers are busy, or at the latest before `compute`.

        It is what later stages import. Dask must not meet modules that another thread has imported by half, so `map`
        and `compute` wait for it. Where there are few files, it may never be needed, and is not done ahead. Workers
        elsewhere do their own, and nothing is done here.
        """
        if self._remote is None:
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

    def warm_up(self, work: Callable[[], object] | None = None) -> None:
        """Let the helpers import what tasks need, by `work` or all that read tables, as soon as they are free."""
        from pipeline.runtime.helpers import warm_up

        with suppress(BrokenExecutor):  # who uses them finds out, and does without
            for _ in range(self.helpers):
                self.pool().submit(work or warm_up)

    def map(self, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], *, files: int | None) -> Iterator[T]:
        """Results of ``function(*task)`` for every task as they finish, in any order; `files` as `kind` has them.

        Each is one Dask task, but where this thread does them all itself. The first error ends it and is raised; tasks
        not begun are left.
        """
        if not tasks:
            return iter(())
        if self._remote is not None:
            return self._remote.map(function, tasks)
        kind = self.kind(files)
        if kind == "shared" and len(tasks) == 1 and self._begun is None:  # a helper would do it while this one waits
            kind = "sync"
        if kind == "sync" or (kind == "threads" and len(tasks) == 1):
            spare = self.workers - 1 if kind == "sync" and self.scheduler == "auto" else 0
            return _in_turn(function, tasks, spare)
        import dask.callbacks
        import dask.delayed

        from pipeline.runtime.threads import Shared, run_local

        assert dask.callbacks
        assert dask.delayed
        options = self._local_options(kind)
        if kind == "shared":
            function = Shared(function, self.pool(), self.helpers, self._join)
        else:
            with self._beginning:
                pass  # a thread that has begun comes to its end
        return run_local(function, tasks, options)

    def compute(self, make: Callable[[], Any], numbers: Sequence[int], done: Callable[[int], None]) -> list[Any]:
        """The partitions `numbers` of the Dask frame that `make` makes, in order; `done` gets how many more there are.

        It is table work, so `auto` takes threads. Workers elsewhere make the frame themselves.
        """
        self._join()
        if self._remote is not None:
            from pipeline.runtime.tasks import partition

            found: dict[int, Any] = {}
            for number, value in self._remote.map(functools.partial(partition, make), [(n,) for n in numbers]):
                found[number] = value
                done(1)
                import pandas  # noqa: F401 - Arrow does so at its first conversion: better while workers are busy
            return [found[number] for number in numbers]
        import dask
        from dask.callbacks import Callback

        from pipeline.runtime.helpers import workers_lost

        delayed = make().to_delayed()
        parts = [delayed[number] for number in numbers]
        keys = {part.key for part in parts}

        def note(key: Any, *_: Any) -> None:
            if key in keys:
                done(1)

        options = self._local_options(self.kind(None))
        with Callback(posttask=note), workers_lost(), _own_threads(options):
            return list(dask.compute(*parts, optimize_graph=False, **options))

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


@contextmanager
def _own_threads(options: dict[str, Any]) -> Iterator[None]:
    """Have `options` that ask for threads use ones that end with the work: each keeps memory that it has freed."""
    from concurrent.futures import ThreadPoolExecutor

    from dask.threaded import get as get_threads

    if options["scheduler"] is not get_threads:
        yield
        return
    options["pool"] = pool = ThreadPoolExecutor(options["num_workers"])
    done = False
    try:
        yield
        done = True
    finally:
        pool.shutdown(wait=done)  # else tasks may be under way
    release_free()


def _in_turn(function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], spare: int) -> Iterator[T]:
    """Do tasks one at a time, while `spare` processors have nothing to do."""
    for task in tasks:
        check_stop()
        with sparing(spare):
            result = function(*task)
        yield result


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
