"""A Dask scheduler as what brings tasks to workers.

Functions go as bytes that only a worker opens: the scheduler needs nothing of this package. Each attempt has a key of
its own, and its outcome is fetched and let go the moment it is there: a worker that ends takes no finished work along.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import pickle
import queue
import threading
import uuid
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from pipeline.base.errors import ConfigError, UnavailableError
from pipeline.cluster import fitness
from pipeline.cluster.worker import UNFIT, run_task
from pipeline.runtime.log import LOG
from pipeline.runtime.tasks import Outcome, Task

#: A scheduler that does not answer for so long is gone.
_ANSWERS_S = 15.0

#: Imports of all workers on a slow disk; who takes longer does them with its first task.
_IMPORTS_S = 60.0

_TLS = (
    "set distributed.comm.tls.ca-file, client.cert and client.key in Dask's configuration "
    "(https://distributed.dask.org/en/stable/tls.html)"
)


def connect(scheduler: str) -> Any:
    """A client of the scheduler at the address, or in the scheduler file, `scheduler`.

    Raises `ConfigError` where the package is missing or the address cannot be meant, `UnavailableError` where nobody
    answers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ConfigError(
            f"engine.scheduler {scheduler}: needs the package distributed; install it with `pip install distributed`"
        ) from None
    where = {"address": scheduler} if "://" in scheduler else {"scheduler_file": scheduler}
    try:
        with warnings.catch_warnings():  # of versions: `fitness` says more, and refuses
            warnings.simplefilter("ignore")
            return Client(**where, timeout=f"{_ANSWERS_S:.0f}s", set_as_default=False)
    except (TypeError, ValueError, OSError) as error:
        if scheduler.startswith("tls://") and ("ssl" in str(error).lower() or isinstance(error, TypeError)):
            raise ConfigError(f"engine.scheduler {scheduler}: needs certificates; {_TLS}") from None
        raise UnavailableError(
            f"engine.scheduler: no scheduler answers at {scheduler} ({_one_line(error)}); "
            "start one with `dask scheduler`, or use processes"
        ) from None


class _Call:
    """A call that is done where its pickle is read."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


def _here(folder: str, number: int) -> bytes:
    """In a worker: do a task."""
    from distributed import get_worker

    return msgspec.json.encode(run_task(folder, number, get_worker().address))


def _examine_here(folder: str, versions: dict[str, str]) -> bytes:
    """In a worker: examine it."""
    return msgspec.json.encode(fitness.examine(folder, versions))


def call_of(folder: str, number: int) -> bytes:
    """What a worker opens to do a task."""
    return pickle.dumps(_Call(_here, folder, number))


class DaskExecutor:
    """See `runtime.tasks.Executor`. A `client` that somebody gave stays open.

    `report` is a file for what the scheduler saw.
    """

    def __init__(self, scheduler: str, client: Any = None, report: str | None = None) -> None:
        if report is not None and importlib.util.find_spec("bokeh") is None:
            raise ConfigError("--performance-report: needs the package bokeh; install it with `pip install bokeh`")
        self._own = client is None
        self._client = connect(scheduler) if client is None else client
        address = self._client.scheduler.address if client is not None else scheduler
        self.name = f"engine.scheduler {address}"
        self._run, self._numbers = uuid.uuid4().hex[:12], itertools.count()
        self._ended: queue.SimpleQueue[tuple[Task, Any, Outcome | None]] = queue.SimpleQueue()
        self._futures: dict[Task, list[Any]] = {}
        self._lock = threading.Lock()
        self._report: Any = None
        if report is not None:
            from distributed import performance_report

            self._report = performance_report(filename=report)
            with self._client.as_current():
                self._report.__enter__()

    @property
    def dashboard(self) -> str | None:
        """The link of the scheduler's dashboard, where there is one."""
        services = self._client.scheduler_info().get("services", {})
        return str(self._client.dashboard_link) if "dashboard" in services else None

    def workers(self) -> dict[str, int]:
        """See `Executor.workers`."""
        with self._answering():
            found = self._client.sync(self._client.scheduler.ncores, callback_timeout=_ANSWERS_S)
        return {str(worker): int(threads) for worker, threads in found.items()}

    def examine(self, folder: str, versions: dict[str, str], seconds: float) -> dict[str, tuple[str, Any]]:
        """See `Executor.examine`; all are asked at once, beside the tasks that they do."""
        blob = pickle.dumps(_Call(_examine_here, folder, versions))
        with self._answering():
            return dict(self._client.sync(self._ask_all, blob, seconds))

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Say in a sentence that the scheduler does not answer."""
        try:
            yield
        except (OSError, TimeoutError, AttributeError, RuntimeError, ValueError) as error:
            raise UnavailableError(
                f"{self.name}: the scheduler does not answer any more ({_one_line(error)}); start it again, and run "
                "again: it goes on where it was"
            ) from None

    async def _ask_all(self, blob: bytes, seconds: float) -> list[tuple[str, tuple[str, Any]]]:
        client = self._client
        workers = list(await client.scheduler.ncores())

        async def ask(worker: str) -> tuple[str, tuple[str, Any]]:
            try:
                asked = client.run(pickle.loads, blob, workers=[worker], on_error="return")
                found = (await asyncio.wait_for(asked, seconds)).get(worker)
            except (OSError, TimeoutError):
                found = None
            if isinstance(found, OSError):
                found = None
            if not isinstance(found, bytes):
                return worker, (_host_of(worker), found)
            answer = msgspec.json.decode(found, type=fitness.Fitness)
            return worker, (answer.host, answer)

        found = await asyncio.gather(*map(ask, workers))
        there = await client.scheduler.ncores()
        fit = [worker for worker, (_, answer) in found if isinstance(answer, fitness.Fitness) and worker in there]
        with suppress(OSError, TimeoutError):
            imports = client.run(
                pickle.loads, pickle.dumps(_Call(fitness.import_early)), workers=fit, on_error="return"
            )
            await asyncio.wait_for(imports, _IMPORTS_S)
        return [(worker, answer) for worker, answer in found if worker in there]

    def submit(self, task: Task, avoid: Collection[str] = ()) -> None:
        """See `Executor.submit`."""
        where: dict[str, Any] = {}
        if avoid:
            where = {"workers": [w for w in self.workers() if w not in avoid], "allow_other_workers": False}
        key = f"coco-diy-{self._run}-{next(self._numbers)}"
        future = self._client.submit(pickle.loads, call_of(task.folder, task.number), key=key, pure=False, **where)
        with self._lock:
            self._futures.setdefault(task, []).append(future)
        future.add_done_callback(lambda done: self._note(task, done))

    def _note(self, task: Task, future: Any) -> None:
        """In a thread of the client's: fetch an outcome, and let go of it."""
        with self._lock:
            if future not in self._futures.get(task, ()):
                return  # nobody wants it any more
        outcome: Outcome | None = None
        with suppress(Exception):
            if future.status == "finished":
                outcome = msgspec.json.decode(future.result(timeout=_ANSWERS_S), type=Outcome)
            elif future.status == "error":
                outcome = _outcome_of(future.exception(timeout=_ANSWERS_S))
        future.release()
        self._ended.put((task, future, outcome))

    def wait(self, seconds: float) -> list[tuple[Task, Outcome | None]]:
        """See `Executor.wait`."""
        found: list[tuple[Task, Outcome | None]] = []
        with suppress(queue.Empty):
            while True:
                task, future, outcome = self._ended.get(timeout=0 if found else seconds)
                with self._lock:
                    if future in self._futures.get(task, ()):
                        self._futures[task].remove(future)
                        found.append((task, outcome))
        return found

    def cancel(self, task: Task) -> None:
        """See `Executor.cancel`."""
        with self._lock:
            futures = self._futures.pop(task, [])
        if futures and self._client.status == "running":
            with suppress(OSError, TimeoutError, asyncio.CancelledError):
                self._client.cancel(futures)

    def close(self) -> None:
        """See `Executor.close`."""
        for task in list(self._futures):
            self.cancel(task)
        if self._report is not None:
            try:
                with self._client.as_current():
                    self._report.__exit__(None, None, None)
            except Exception as error:  # noqa: BLE001 - the run is done, and the scheduler may lack what it takes
                LOG.warning("--performance-report: cannot be made: %s", _one_line(error))
        if self._own:
            with suppress(OSError, TimeoutError, RuntimeError):
                self._client.close(timeout=2)


def _outcome_of(error: BaseException | None) -> Outcome | None:
    """What a task's error means that is not raised by us: that its workers died, or that one cannot even begin."""
    if error is None or type(error).__name__ in ("KilledWorker", "CancelledError", "FutureCancelledError"):
        return None
    return Outcome("", "", "", error=f"cannot begin: {type(error).__name__}: {_one_line(error)}", kind=UNFIT)


def _host_of(worker: str) -> str:
    return worker.partition("://")[2].rpartition(":")[0]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
