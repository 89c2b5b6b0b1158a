"""What workers elsewhere cost and gain: start-up, overhead, one worker against two, messages, the scheduler's memory.

A scheduler and its workers run here, each a process with one thread, beside this very machine's cores: what two workers
gain is what two cores give. Builds are whole processes, in turn with the same build in one process. Workers are warm
after the first round, which is left out: what a cold one imports is shown apart.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.bench_main import DEFAULT_BASE, child_environment, pick_base
from tests.bench.measure import table
from tests.bench.tree import make_tree

ROUNDS = 3


@contextmanager
def cluster(base: Path, workers: int) -> Iterator[tuple[str, int]]:
    """The scheduler file of a scheduler with so many workers, and its process id."""
    file, log = base / "scheduler.json", open(base / "dask.log", "ab")  # noqa: SIM115 - closed below
    file.unlink(missing_ok=True)
    dask = [sys.executable, "-m", "dask"]
    options = {"env": child_environment(), "stdout": log, "stderr": log, "cwd": base, "start_new_session": True}
    host = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    started = [subprocess.Popen([*dask, "scheduler", "--port", "0", *host], **options)]  # type: ignore[call-overload]
    try:
        _until(lambda: file.exists() and file.read_text().endswith("}"))
        words = ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(base / "local")]
        for _ in range(workers):
            command = [*dask, "worker", "--scheduler-file", str(file), *words]
            started.append(subprocess.Popen(command, **options))  # type: ignore[call-overload]
        _until(lambda: _workers(str(file)) == workers)
        yield str(file), started[0].pid
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()


def _until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not true():
        if time.monotonic() > end:
            raise SystemExit("the scheduler or a worker did not start; see dask.log")
        time.sleep(0.1)


def _workers(file: str) -> int:
    from distributed import Client

    with Client(scheduler_file=file, set_as_default=False) as client:
        return len(client.nthreads())


class Collection:
    """The label files of a collection, in a folder and in a zip; runs of commands on them."""

    def __init__(self, base: Path, files: int) -> None:
        self.base, self.root = base, base / "labels"
        make_tree(self.root, files=files)
        self.zip = base / f"labels-{files}.zip"
        if not self.zip.exists():
            with zipfile.ZipFile(self.zip, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted((self.root / "labels").rglob("*.txt")):
                    archive.write(path, str(path.relative_to(self.root)))

    def seconds(self, command: str, scheduler: str, *, zipped: bool = False) -> float:
        """Seconds of a whole run from nothing."""
        target, work = self.base / "target", self.base / "work"
        for folder in (target, work):
            shutil.rmtree(folder, ignore_errors=True)
        splits: object = {"train": "train2017", "val": "val2017"}
        if zipped:
            splits = {s: {"labels": f"zip://labels/{f}::{self.zip}"} for s, f in dict(splits).items()}  # type: ignore[call-overload]
        config = self.base / "cluster.json"
        config.write_text(
            json.dumps(
                {
                    "source": {"names": str(self.root / "coco.yaml"), "root": str(self.root), "splits": splits},
                    "target": {"root": str(target), "images": "none"},
                    "workdir": str(work),
                }
            )
        )
        words = [command, str(config), "-q", "--scheduler", scheduler]
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *words],
            env=child_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr}")
        return time.perf_counter() - began


#: What is run: the name of a row, the command, and whether labels come out of the zip.
CASES = (("index", "index", False), ("index out of a zip", "index", True), ("build", "build", False))


def measure(collection: Collection, rounds: int) -> tuple[list[list[str]], int]:
    """Rows of the table, and the most memory (bytes) that a scheduler had."""
    with cluster(collection.base, 1) as (one, first), cluster(_folder(collection.base / "two"), 2) as (two, second):
        found: dict[tuple[str, str], list[float]] = {}
        for turn in range(rounds + 1):
            for name, command, zipped in CASES:
                for who, scheduler in (("sync", "sync"), ("one", one), ("two", two)):
                    seconds = collection.seconds(command, scheduler, zipped=zipped)
                    if turn:
                        found.setdefault((name, who), []).append(seconds)
        memory = max(_most_memory(first), _most_memory(second))
    rows = []
    for name, *_ in CASES:
        sync, one_s, two_s = (statistics.median(found[name, who]) for who in ("sync", "one", "two"))
        rows.append(
            [name, f"{sync:.2f}", f"{one_s:.2f}", f"{two_s:.2f}", f"{one_s - sync:+.2f}", f"{one_s / two_s:.2f}"]
        )
    return rows, memory


def _folder(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


def _most_memory(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def task_bytes() -> int:
    """Bytes of a task as it goes to the scheduler, whatever it has to do."""
    from pipeline.cluster.dask_executor import call_of

    return len(call_of(f"/{'folder/' * 4}work/cluster/0123456789abcdef/0003", 65535))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=117_266)
    parser.add_argument("--small", type=int, default=200, help="label files of the build whose start-up is shown")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--dir", type=Path, default=DEFAULT_BASE)
    args = parser.parse_args()
    base = pick_base(args.dir, 3_000_000_000)
    columns = ["seconds", "in one process", "1 worker", "2 workers", "1 worker: more", "1 -> 2 workers: times"]
    for files in (args.small, args.files):
        rows, memory = measure(Collection(_folder(base / f"cluster-{files}"), files), args.rounds)
        print(f"\n{files:,} label files; the scheduler took {memory / 1e6:.0f} MB at most\n")
        print(table(columns, rows))
    print(f"\nA task is {task_bytes()} bytes.")


if __name__ == "__main__":
    main()
