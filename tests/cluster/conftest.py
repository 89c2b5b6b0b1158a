"""A real Dask scheduler and real workers, each a process of its own, that tests kill, freeze and shut out."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.helpers import PROJECT

if (
    importlib.util.find_spec("distributed") is None
):  # not imported: that takes half a second wherever tests are collected
    pytest.skip("there is no distributed", allow_module_level=True)

#: Dask's own waits, cut short: a test has no minutes.
_QUICK = {
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "3s",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__TICK__LIMIT": "60s",
}


def hooked(event: str, text: str, action: str, nth: int = 1) -> dict[str, str]:
    """The environment of a worker that something befalls, see `hooked.sitecustomize`."""
    path = os.pathsep.join([str(Path(__file__).parent / "hooked"), str(PROJECT)])
    return {"PYTHONPATH": path, "COCO_DIY_TEST_HOOK": f"{event} {text} {action} {nth}"}


def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for what is to come true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


@dataclass
class Cluster:
    """One scheduler and its workers."""

    folder: Path
    scheduler: subprocess.Popen[bytes]
    address: str
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self,
        count: int = 1,
        *,
        prefix: tuple[str, ...] = (),
        threads: int = 1,
        memory: str | None = None,
        env: dict[str, str] | None = None,
    ) -> list[subprocess.Popen[bytes]]:
        """Start workers and wait until they are there.

        `prefix` is a command that runs them; those with a limit of `memory` have a nanny, which keeps it.
        """
        before = len(self.names())
        command = [*prefix, sys.executable, "-m", "dask", "worker", self.address, "--no-dashboard"]
        command += ["--nthreads", str(threads), "--local-directory", str(self.folder / "local")]
        command += ["--no-nanny"] if memory is None else ["--memory-limit", memory]
        here = self.folder  # in a checkout, its code would come first
        with open(here / f"worker-{len(self.workers)}.log", "wb") as log:
            found = [
                subprocess.Popen(
                    command,
                    env=os.environ | _QUICK | (env or {}),
                    cwd=here,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                for _ in range(count)
            ]
        self.workers += found
        until(lambda: len(self.names()) >= before + count)
        return found

    def names(self) -> list[str]:
        """Addresses of the workers that are there."""
        from distributed import Client

        with Client(self.address, set_as_default=False, timeout="10s") as client:
            return list(client.sync(client.scheduler.ncores))

    def wait_for_frozen(self) -> None:
        """Wait until a worker is stopped."""
        until(lambda: any(is_stopped(worker.pid) for worker in self.workers))

    def start_when_one_is_frozen(self) -> None:
        """Start another worker then."""
        self.wait_for_frozen()
        self.start(1)

    def start_when_ended(self, worker: subprocess.Popen[bytes]) -> None:
        """Start another worker a second after this one is gone."""
        worker.wait()
        time.sleep(1)
        self.start(1)

    def signal(self, process: subprocess.Popen[bytes], number: int) -> None:
        """Send a worker, and what it started, a signal."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)

    def stop(self) -> None:
        """End all processes."""
        for process in [*self.workers, self.scheduler]:
            self.signal(process, signal.SIGKILL)
            process.wait()


def is_stopped(process: int) -> bool:
    """Whether a process is stopped by a signal."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler without workers yet."""
    folder = tmp_path / "dask"
    folder.mkdir()
    file = folder / "scheduler.json"
    command = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    with open(folder / "scheduler.log", "wb") as log:
        process = subprocess.Popen(
            [*command, "--scheduler-file", str(file)],
            env=os.environ | _QUICK,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    until(lambda: file.exists() and file.read_text().strip().endswith("}"))
    found = Cluster(folder, process, json.loads(file.read_text())["address"])
    try:
        yield found
    finally:
        found.stop()
