"""What workers elsewhere cost and gain: start-up, overhead, one worker against two, messages, the scheduler's memory.

A scheduler and its workers run here, each a process with one thread, beside this very machine's cores: what two workers
gain is what two cores give. So processor seconds are shown as well: those of all processes, by the number of cores, are
the least that a run can take. Builds are whole processes, in turn with the same build in one process. Workers are warm
after the first round, which is left out: what a cold one imports is shown apart. Images are copied to a store that
answers after 200 ms: there workers wait, and do not share the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import bench_cloud
from tests.bench.bench_main import DEFAULT_BASE, child_environment, pick_base
from tests.bench.measure import table
from tests.bench.tree import make_tree
from tests.support.web import between

ROUNDS = 3

#: Images that are copied to a store, in buckets: more of these than workers. Half a minute a run, most of it waits.
IMAGES, BUCKETS, COPY_ROUNDS = 800, 16, 1

#: Seconds each way to that store and back.
AWAY = 0.1


@dataclass
class Run:
    """Seconds of a command, and processor seconds of itself and of each process of its cluster, the scheduler first."""

    seconds: float
    driver: float
    others: list[float]


@dataclass
class Cluster:
    """A scheduler file and the processes: the scheduler, then the workers."""

    file: str
    processes: list[int]

    def processor_seconds(self) -> list[float]:
        """What each process has taken so far."""
        stats = [Path(f"/proc/{process}/stat").read_text() for process in self.processes]
        ticks = [sum(map(int, stat.rpartition(")")[2].split()[11:13])) for stat in stats]
        return [count / os.sysconf("SC_CLK_TCK") for count in ticks]

    @property
    def most_memory(self) -> int:
        """The most bytes that the scheduler had."""
        lines = Path(f"/proc/{self.processes[0]}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@contextmanager
def cluster(base: Path, workers: int, env: Mapping[str, str]) -> Iterator[Cluster]:
    """A scheduler with so many workers."""
    base.mkdir(exist_ok=True)
    file, log = base / "scheduler.json", open(base / "dask.log", "ab")  # noqa: SIM115 - closed below
    file.unlink(missing_ok=True)
    dask = [sys.executable, "-m", "dask"]
    options = {"env": env, "stdout": log, "stderr": log, "cwd": base, "start_new_session": True}
    host = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    started = [subprocess.Popen([*dask, "scheduler", "--port", "0", *host], **options)]  # type: ignore[call-overload]
    try:
        _until(lambda: file.exists() and file.read_text().endswith("}"))
        words = ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(base / "local")]
        for _ in range(workers):
            command = [*dask, "worker", "--scheduler-file", str(file), *words]
            started.append(subprocess.Popen(command, **options))  # type: ignore[call-overload]
        _until(lambda: _workers(str(file)) == workers)
        yield Cluster(str(file), [process.pid for process in started])
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


def run(words: list[str], on: Cluster | None, env: Mapping[str, str]) -> Run:
    """Run a command, on the cluster or in one process."""
    words = [*words, "-q", "--scheduler", on.file if on is not None else "sync"]
    before, ours, began = on.processor_seconds() if on is not None else [], _children(), time.perf_counter()
    command = [sys.executable, "-m", "pipeline", *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - began, on.processor_seconds() if on is not None else []
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr}")
    return Run(seconds, _children() - ours, [b - a for a, b in zip(before, after, strict=True)])


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


#: A case: its name, and what makes all ready for a run of it and returns the words of the command.
Case = tuple[str, Callable[[], list[str]]]


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

    def cases(self) -> list[Case]:
        """What is run."""
        return [
            ("index", lambda: self.from_nothing("index")),
            ("index out of a zip", lambda: self.from_nothing("index", zipped=True)),
            ("build", lambda: self.from_nothing("build")),
        ]

    def from_nothing(self, command: str, *, zipped: bool = False) -> list[str]:
        """The words of a command that finds no index and no target."""
        target, work = self.base / "target", self.base / "work"
        for folder in (target, work):
            shutil.rmtree(folder, ignore_errors=True)
        splits: object = {"train": "train2017", "val": "val2017"}
        if zipped:
            splits = {s: {"labels": f"zip://labels/{f}::{self.zip}"} for s, f in dict(splits).items()}  # type: ignore[call-overload]
        source = {"names": str(self.root / "coco.yaml"), "root": str(self.root), "splits": splits}
        return [command, _config(self.base, source, {"root": str(target), "images": "none"})]


def _config(base: Path, source: object, target: object, **more: object) -> str:
    config = base / "cluster.json"
    config.write_text(json.dumps({"source": source, "target": target, "workdir": str(base / "work"), **more}))
    return str(config)


#: The runs of each case in one process, with one worker, with two.
Found = dict[str, tuple[list[Run], list[Run], list[Run]]]


def measure(
    base: Path, cases: list[Case], rounds: int, env: Mapping[str, str], target: Path | None = None
) -> tuple[Found, int]:
    """All runs but those of the first round, and the most memory (bytes) that a scheduler had.

    With `target`, where builds leave their record, the apply stage of each is a case of its own.
    """
    found: Found = {name: ([], [], []) for name, _ in cases}
    with cluster(base / "one", 1, env) as one, cluster(base / "two", 2, env) as two:
        for turn in range(rounds + 1):
            for name, ready in cases:
                for runs, on in zip(found[name], (None, one, two), strict=True):
                    done = run(ready(), on, env)
                    if turn:
                        runs.append(done)
                    if turn and target is not None:
                        stages = found.setdefault(f"{name}: copies alone", ([], [], []))
                        stages[(None, one, two).index(on)].append(Run(_applied(target), done.driver, done.others))
        return found, max(one.most_memory, two.most_memory)


def _applied(target: Path) -> float:
    """Seconds that the apply stage of the last build at `target` took."""
    record = max((target / ".coco-diy/runs").iterdir())
    return float(json.loads(record.read_text())["run"]["stages"]["apply"])


COLUMNS = ["seconds", "in one process", "1 worker", "2 workers", "1 worker: more", "1 -> 2 workers: times"]
PROCESSOR = ["processor seconds", "in one process", "1 worker: driver + scheduler + worker", "2 workers", "by 2 cores"]


def report(title: str, found: Found) -> None:
    """Print the medians, of seconds and of processor seconds."""
    rows, processor = [], []
    for name, runs in found.items():
        sync, one, two = (statistics.median(run.seconds for run in some) for some in runs)
        rows.append([name, f"{sync:.2f}", f"{one:.2f}", f"{two:.2f}", f"{one - sync:+.2f}", f"{one / two:.2f}"])
        parts = [_medians([[run.driver, *run.others] for run in some]) for some in runs]
        shown = [" + ".join(f"{seconds:.2f}" for seconds in part) for part in parts]
        processor.append([name, *shown, f"{sum(parts[-1]) / 2:.2f}"])
    print(f"\n{title}\n\n{table(COLUMNS, rows)}\n\n{table(PROCESSOR, processor)}", flush=True)


def _medians(rows: list[list[float]]) -> list[float]:
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def copies(base: Path) -> None:
    """Print what a build takes whose images and labels go to a store that answers after 200 ms."""
    with bench_cloud.started(base, IMAGES, COPY_ROUNDS) as bench, between(bench.server.port, AWAY) as port:
        bench.server.options["endpoint_url"] = f"http://127.0.0.1:{port}"
        env = bench_cloud.environment(bench.server, bench.base / "far")
        source = {
            "names": str(bench.source / "coco.yaml"),
            "root": str(bench.source),
            "splits": {"train": "train2017"},
        }

        def ready() -> list[str]:
            bench.server.kill()  # it remembers files that are removed behind its back
            for folder in (bench.bucket / "up", bench.base / "work"):
                shutil.rmtree(folder, ignore_errors=True)
            bench.server.start()
            return ["build", _config(bench.base, source, {"root": "s3://bucket/up"}, index={"buckets": BUCKETS})]

        found, _ = measure(bench.base, [("build", ready)], COPY_ROUNDS, env, bench.bucket / "up")
        report(f"{IMAGES:,} images and their labels to a store that is {2000 * AWAY:.0f} ms away", found)


def task_bytes() -> int:
    """Bytes of a task as it goes to the scheduler, whatever it has to do."""
    from pipeline.cluster.dask_executor import call_of

    return len(call_of(f"/{'folder/' * 4}work/cluster/0123456789abcdef/0003", 65535))


def two_at_once() -> float:
    """How much more two processes that only compute do here than one: no two workers gain more than that."""
    command = [sys.executable, "-c", "x = 0\nfor i in range(10_000_000): x += i * i"]
    gains = []
    for _ in range(ROUNDS):
        seconds = []
        for count in (1, 2):
            began = time.perf_counter()
            processes = [subprocess.Popen(command) for _ in range(count)]
            assert all(process.wait() == 0 for process in processes)
            seconds.append(time.perf_counter() - began)
        gains.append(2 * seconds[0] / seconds[1])
    return statistics.median(gains)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=117_266)
    parser.add_argument("--small", type=int, default=200, help="label files of the build whose start-up is shown")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default="", help="cases whose name begins so")
    parser.add_argument("--no-copies", action="store_true", help="leave out the store")
    parser.add_argument("--dir", type=Path, default=DEFAULT_BASE)
    args = parser.parse_args()
    base = pick_base(args.dir, 3_000_000_000)
    for files in (args.small, args.files):
        collection = Collection(base / f"cluster-{files}", files)
        cases = [case for case in collection.cases() if case[0].startswith(args.only)]
        found, memory = measure(collection.base, cases, args.rounds, child_environment())
        report(f"{files:,} label files; the scheduler took {memory / 1e6:.0f} MB at most", found)
    if not args.no_copies:
        copies(base)
    print(f"\nA task is {task_bytes()} bytes.")
    print(f"Two processes that only compute do {two_at_once():.2f} times what one does.")


if __name__ == "__main__":
    main()
