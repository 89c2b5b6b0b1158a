"""The folder of a queue: real workers, each a process of its own, that are stopped, killed and frozen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.cluster import fitness, queue
from pipeline.cluster.queue import QueueExecutor, serve
from pipeline.cluster.run_folder import Facts, RunFolder, Step
from pipeline.runtime.tasks import Outcome, Task
from tests.cluster.conftest import until
from tests.conftest import Run, Subset
from tests.support.helpers import PROJECT, contents, run_process, write_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

Workers = Callable[..., list[subprocess.Popen[str]]]
Ended = list[tuple[Task, Outcome | None]]


def note_down(path: str, word: str, seconds: float) -> str:
    """What the tasks of these tests do: it leaves a line, and lasts."""
    with Path(path).open("a") as file:
        file.write(f"{word}\n")
    time.sleep(seconds)
    return word


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/queue"


@pytest.fixture
def workers(url: str) -> Iterator[Workers]:
    """Start workers; those that are left at the end are killed."""
    started: list[subprocess.Popen[str]] = []

    def start(count: int, wait: float = 60) -> list[subprocess.Popen[str]]:
        words = [sys.executable, "-m", "pipeline", "worker", url.removeprefix("file://"), "--wait", str(wait)]
        env = {**os.environ, "PYTHONPATH": str(PROJECT)}
        new = [subprocess.Popen(words, env=env, text=True, stdout=subprocess.PIPE) for _ in range(count)]
        started.extend(new)
        return new

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def executor(url: str) -> Iterator[QueueExecutor]:
    made = QueueExecutor(url)
    yield made
    made.close()


@pytest.fixture
def step(tmp_path: Path) -> Step:
    folder = RunFolder(str(tmp_path / "work"))
    folder.make(Facts(folder.run, str(tmp_path / "work"), fitness.versions()))
    return folder.step(note_down)


def put(executor: QueueExecutor, step: Step, tmp_path: Path, number: int, seconds: float = 0, **how: set[str]) -> Task:
    step.put(number, (str(tmp_path / "lines"), str(number), seconds))
    task = Task(step.path, number)
    executor.submit(task, **how)
    return task


def lines(tmp_path: Path) -> list[str]:
    path = tmp_path / "lines"
    return path.read_text().split() if path.exists() else []


def wait_for(executor: QueueExecutor, count: int) -> Ended:
    found: Ended = []

    def more() -> bool:
        found.extend(executor.wait(0.2))
        return len(found) >= count

    until(more, 60)
    return found


def of(process: subprocess.Popen[str], executor: QueueExecutor) -> str:
    """What a worker calls itself."""
    return next(name for name in executor.workers() if f"-{process.pid}-" in name)


def test_each_task_is_done_by_one_worker_once(
    executor: QueueExecutor, workers: Workers, step: Step, tmp_path: Path
) -> None:
    workers(4)
    until(lambda: len(executor.workers()) == 4, 60)
    tasks = {put(executor, step, tmp_path, number) for number in range(100)}
    ended = wait_for(executor, 100)
    assert {task for task, _ in ended} == tasks
    assert sorted(map(int, lines(tmp_path))) == list(range(100))
    done = [outcome for _, outcome in ended if outcome is not None and outcome.error is None]
    assert len(done) == 100
    assert {outcome.worker for outcome in done} <= set(executor.workers())
    assert executor.wait(0.5) == []


def test_what_a_stopped_worker_had_begun_is_done_by_another(
    executor: QueueExecutor, workers: Workers, step: Step, tmp_path: Path
) -> None:
    [first] = workers(1)
    put(executor, step, tmp_path, 7, 2.0)
    until(lambda: lines(tmp_path), 60)
    first.terminate()
    assert first.wait(20) == 143
    assert executor.wait(0.5) == []  # it is back among those that wait
    assert executor.workers() == {}
    [second] = workers(1)
    [(_, outcome)] = wait_for(executor, 1)
    assert outcome is not None
    assert outcome.worker == of(second, executor)
    assert lines(tmp_path) == ["7", "7"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_worker_without_a_pulse_has_vanished(
    executor: QueueExecutor,
    workers: Workers,
    step: Step,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    monkeypatch.setattr(queue, "LEASE_S", 2.5 * queue.BEAT_S)
    [first] = workers(1)
    task = put(executor, step, tmp_path, 7, 1.0)
    until(lambda: lines(tmp_path), 60)
    first.send_signal(number)
    assert wait_for(executor, 1) == [(task, None)]
    assert executor.workers() == {}
    workers(1)
    put(executor, step, tmp_path, 7)
    [(_, outcome)] = wait_for(executor, 1)
    assert outcome is not None
    assert outcome.error is None
    first.send_signal(signal.SIGCONT)  # what it says now nobody asked for
    assert executor.wait(3.0) == []


def test_a_worker_leaves_to_others_what_it_is_to_avoid(
    executor: QueueExecutor, workers: Workers, step: Step, tmp_path: Path
) -> None:
    first, second = workers(2)
    until(lambda: len(executor.workers()) == 2, 60)
    for number in range(6):
        put(executor, step, tmp_path, number, avoid={of(first, executor)})
    found = {outcome.worker for _, outcome in wait_for(executor, 6) if outcome is not None}
    assert found == {of(second, executor)}


def test_what_is_cancelled_is_not_begun_and_not_said(
    executor: QueueExecutor, workers: Workers, step: Step, tmp_path: Path
) -> None:
    tasks = [put(executor, step, tmp_path, number) for number in range(3)]
    executor.cancel(tasks[1])
    workers(1)
    assert sorted(task.number for task, _ in wait_for(executor, 2)) == [0, 2]
    assert sorted(lines(tmp_path)) == ["0", "2"]


def test_runs_share_workers_and_leave_nothing_behind(workers: Workers, step: Step, url: str, tmp_path: Path) -> None:
    [process] = workers(1, wait=3 * queue.BEAT_S)
    runs = [QueueExecutor(url), QueueExecutor(url)]
    for number, run in enumerate(runs):
        put(run, step, tmp_path, number)
    for run in runs:
        assert len(wait_for(run, 1)) == 1
        run.close()
    assert process.communicate(timeout=30)[0] == "2 tasks done\n"
    assert process.returncode == 0
    assert list((tmp_path / "queue").iterdir()) == []


def test_a_run_that_ends_before_its_tasks_takes_no_worker_along(
    workers: Workers, step: Step, url: str, tmp_path: Path
) -> None:
    [process] = workers(1)
    run = QueueExecutor(url)
    put(run, step, tmp_path, 1, 1.0)
    until(lambda: lines(tmp_path), 60)
    run.close()
    after = QueueExecutor(url)
    put(after, step, tmp_path, 2)
    [(task, outcome)] = wait_for(after, 1)
    assert (task.number, outcome is not None) == (2, True)
    assert process.poll() is None
    after.close()


def test_nobody_works_for_a_driver_that_died(
    url: str, step: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = QueueExecutor(url)
    put(died, step, tmp_path, 1)
    died._pulse._over.set()  # its files stay, and nothing changes any more
    died._pulse._thread.join()
    monkeypatch.setattr(queue, "LEASE_S", 0.5)
    assert serve(url, wait=1.5) == 0
    assert lines(tmp_path) == []


def test_a_queue_that_others_may_write_to_is_refused(tmp_path: Path, run: Run, own_subset: Subset) -> None:
    (tmp_path / "queue").mkdir()
    (tmp_path / "queue").chmod(0o777)
    expected = f"the queue {tmp_path}/queue: others may write to it, and so run code as you; name a folder of your own"
    assert expected in run("worker", tmp_path / "queue", code=2).err
    words = ("--scheduler", f"file://{tmp_path}/queue")
    assert expected in own_subset.command("build", *words, code=2).err
    assert "must be a folder of this machine" in run("worker", "s3://bucket/queue", code=2).err


def test_signals_that_come_again_and_again_leave_no_traceback(
    executor: QueueExecutor, step: Step, url: str, tmp_path: Path
) -> None:
    """As from SLURM, which signals every process of a job, and from the script, which passes its own on."""
    words = [sys.executable, "-m", "pipeline", "worker", url]
    with subprocess.Popen(
        words, env={**os.environ, "PYTHONPATH": str(PROJECT)}, text=True, stderr=subprocess.PIPE
    ) as one:
        put(executor, step, tmp_path, 1)  # it imports what leaves much to clean up
        wait_for(executor, 1)
        while one.poll() is None:
            one.terminate()
            time.sleep(0.01)
        assert one.stderr is not None
        told = one.stderr.read()
    assert one.returncode == 143
    assert "Traceback" not in told, told


def test_a_new_queue_is_its_users_alone(tmp_path: Path, url: str) -> None:
    assert serve(url, wait=0) == 0
    assert (tmp_path / "queue").stat().st_mode & 0o777 == 0o700


def test_a_build_without_workers_says_so(own_subset: Subset, url: str) -> None:
    words = ("--scheduler", url, "--set", "engine.wait_workers=0.5")
    told = own_subset.command("build", *words, code=75).err
    assert "no worker is there for 0 s" in told or "no worker is there for 1 s" in told
    assert not own_subset.target.exists()


def test_a_build_has_the_bytes_of_one_thread(
    wanted: Subset, expected: dict[str, bytes], url: str, workers: Workers, tmp_path: Path
) -> None:
    workers(2)
    told = run_process("build", wanted.config, "--scheduler", url)
    assert told.code == 0, told.err
    assert contents(wanted.target, record=True) == expected
    assert list((tmp_path / "queue").iterdir()) == []
    assert storage.locate(str(wanted.workdir)).names("cluster") == set()


def test_a_worker_writes_nothing_to_a_folder_that_is_no_run(tmp_path: Path) -> None:
    """A person may name the wrong folder: that of photographs, or their home."""
    folder = tmp_path / "photos"
    write_file(folder / "labels/a.txt", "0 0.5 0.5 0.1 0.1")
    write_file(folder / "labels/task@1", "")
    folder.chmod(0o700)
    made: list[str] = []

    def watch() -> None:
        while not ended.is_set():
            made.extend(path.name for path in folder.rglob("*@*"))
            time.sleep(0.01)

    ended = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    assert serve(f"file://{folder}", 1.0) == 0
    ended.set()
    watcher.join()
    assert set(made) == {"task@1"}
    assert (folder / "labels/a.txt").read_text() == "0 0.5 0.5 0.1 0.1"
