"""`conf/cluster/slurm.sbatch` on a real SLURM: one job has everything, and whatever ends it, the next goes on."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
from pathlib import Path

import pytest

from tests.cluster.ready.conftest import Work
from tests.support.helpers import PROJECT, contents
from tests.support.slurm import Slurm

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

SCRIPT = str(PROJECT / "conf" / "cluster" / "slurm.sbatch")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


def submit(slurm: Slurm, work: Work, *options: str) -> int:
    return slurm.submit(work.folder, "--nodes=2", "--cpus-per-task=1", *options, SCRIPT, "subset.yaml")


def log_of(work: Work, job: int) -> str:
    return (work.folder / f"coco-diy-{job}.log").read_text()


def under_way(slurm: Slurm, work: Work, job: int, images: int = 10) -> None:
    """Wait until the job has fetched some images, and no more than half of them; from then on they come slowly.

    So slowly that the job is not over before what a test does to it, however late SLURM gets to that.
    """
    work.pace.seconds = 0.1
    asked = work.pace.total
    slurm.until(lambda: work.pace.total >= asked + images or slurm.facts(job)["JobState"] in ENDED)
    work.pace.seconds = 1.0
    assert slurm.facts(job)["JobState"] == "RUNNING", log_of(work, job)
    assert work.pace.total < asked + work.images / 2


def check_done(slurm: Slurm, work: Work, job: int) -> None:
    assert slurm.until_state(job, *ENDED, seconds=120) == "COMPLETED", log_of(work, job)
    assert work.made() == work.expected
    assert [p.name for p in work.folder.iterdir() if p.name.startswith(".")] == []
    assert "internal error" not in log_of(work, job)


def processes_of(job: int) -> dict[int, str]:
    """Command lines of the processes that belong to a job, by number."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"SLURM_JOB_ID={job}".encode() in path.read_bytes().split(b"\0"):
                found[int(path.parent.name)] = (path.parent / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it has ended
            continue
    return found


def listening(pids: set[int]) -> set[tuple[str, int]]:
    """Addresses and ports at which these processes listen."""
    sockets = set()
    for pid in pids:
        for path in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.update(re.findall(r"socket:\[(\d+)\]", os.readlink(path)))
            except OSError:
                continue
    found = set()
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                address, _, port = fields[1].partition(":")
                packed = bytes.fromhex(address)[::-1] if family == "tcp" else bytes.fromhex(address)
                kind = socket.AF_INET if family == "tcp" else socket.AF_INET6
                found.add((socket.inet_ntop(kind, packed), int(port, 16)))
    return found


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_job_makes_the_bytes_of_one_thread(slurm: Slurm, work: Work, nodes: int) -> None:
    job = submit(slurm, work, f"--nodes={nodes}", "--cpus-per-task=2")
    check_done(slurm, work, job)
    log = log_of(work, job).splitlines()  # of the build alone: what it started starts and ends without a word
    assert (log[0].split()[0], log[-1].split(":")[0]) == ("class", "To train on it")


def test_nobody_else_reaches_the_scheduler(slurm: Slurm, work: Work) -> None:
    job = submit(slurm, work, "--nodes=1", "--cpus-per-task=2")
    under_way(slurm, work, job)
    own = work.folder / f".coco-diy-job-{job}"
    assert own.stat().st_mode & 0o777 == 0o700
    assert {p.name: oct(p.stat().st_mode & 0o777) for p in own.iterdir()} == dict.fromkeys(
        ("scheduler.json", "key.pem", "certificate.pem", "dask.log"), "0o600"
    )
    dask = {pid for pid, command in processes_of(job).items() if "srun" not in command}
    ports = listening(dask)
    assert {address for address, _ in ports} == {"127.0.0.1"}
    address = re.search(r"tls://127\.0\.0\.1:(\d+)", (own / "scheduler.json").read_text())
    assert address is not None
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", int(address[1])), 5) as plain,
        stranger.wrap_socket(plain) as secure,
        pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"),
    ):
        secure.recv(1)
    work.pace.seconds = 0
    check_done(slurm, work, job)
    assert not processes_of(job)


def test_a_job_whose_time_is_nearly_over_goes_on_in_the_queue(slurm: Slurm, work: Work) -> None:
    work.pace.seconds = 1.5
    job = submit(slurm, work, "--time=1", "--signal=B:USR1@10")  # SLURM sends it up to 30 s sooner than that
    slurm.until(lambda: slurm.facts(job)["Restarts"] != "0" or slurm.facts(job)["JobState"] in ENDED, seconds=90)
    assert len(work.pace.asked) < work.images
    work.pace.seconds = 0
    check_done(slurm, work, job)
    assert int(slurm.facts(job)["Restarts"]) >= 1
    log = log_of(work, job)  # of both runs
    assert "stopped; run the same command again" in log
    assert log.index("the job is queued again, and goes on where it was") < log.index("\nBuilt ")


def test_a_job_that_is_requeued_fetches_nothing_twice_but_what_was_under_way(slurm: Slurm, work: Work) -> None:
    job = submit(slurm, work)
    under_way(slurm, work, job)
    slurm.ask("scontrol", "requeue", str(job))
    slurm.until(lambda: slurm.facts(job)["Restarts"] != "0")
    work.pace.seconds = 0
    check_done(slurm, work, job)
    twice = [path for path, count in work.pace.asked.items() if count > 1]
    assert len(twice) <= 2 * 2 * 2, twice  # connections of each of two workers, and one more that was answered


def test_a_job_that_a_more_urgent_one_preempts_goes_on_after_it(slurm: Slurm, work: Work) -> None:
    job = submit(slurm, work)
    under_way(slurm, work, job)
    urgent = slurm.submit(work.folder, "--partition=urgent", "--nodes=2", "--exclusive", "--wrap=sleep 1")
    slurm.until(lambda: slurm.facts(job)["Restarts"] != "0")
    slurm.until(lambda: not processes_of(job), seconds=15)  # the seconds to stop in are over, too
    assert len(work.pace.asked) < work.images
    assert slurm.until_state(urgent, *ENDED) == "COMPLETED"
    work.pace.seconds = 0
    check_done(slurm, work, job)
    log = log_of(work, job)
    assert log.index("stopped; run the same command again") < log.index("\nBuilt ")


def test_a_job_that_is_cancelled_leaves_no_process_and_no_port_and_the_next_goes_on(slurm: Slurm, work: Work) -> None:
    job = submit(slurm, work)
    under_way(slurm, work, job)
    assert len(listening(set(processes_of(job)))) >= 3
    slurm.ask("scancel", str(job))
    slurm.until(lambda: not processes_of(job), seconds=10)
    work.pace.seconds = 0
    check_done(slurm, work, submit(slurm, work))


@pytest.mark.parametrize("which", ["multiprocessing.spawn", "dask worker"], ids=["worker", "all workers of a node"])
def test_workers_that_are_killed_are_started_again(slurm: Slurm, work: Work, which: str) -> None:
    job = submit(slurm, work)
    under_way(slurm, work, job)
    for pid in [p for p, command in processes_of(job).items() if which in command and "bash" not in command][:1]:
        os.kill(pid, signal.SIGKILL)
    work.pace.seconds = 0.02
    check_done(slurm, work, job)


def test_a_job_whose_scheduler_is_killed_says_so_and_the_next_goes_on(slurm: Slurm, work: Work) -> None:
    job = submit(slurm, work)
    under_way(slurm, work, job)
    for pid in [p for p, command in processes_of(job).items() if "dask scheduler" in command]:
        os.kill(pid, signal.SIGKILL)
    work.pace.seconds = 0.02
    assert slurm.until_state(job, *ENDED, seconds=120) == "FAILED"
    assert slurm.facts(job)["ExitCode"] == "75:0", log_of(work, job)
    assert "the scheduler does not answer any more" in log_of(work, job)
    assert not processes_of(job)
    work.pace.seconds = 0
    check_done(slurm, work, submit(slurm, work))


def test_two_jobs_do_not_disturb_each_other(slurm: Slurm, work: Work) -> None:
    first = submit(slurm, work)
    other = ("--set", "target.root=other", "--set", "workdir=other-work")
    second = slurm.submit(work.folder, "-N1", "-c1", SCRIPT, "subset.yaml", *other)
    check = [slurm.until_state(job, *ENDED, seconds=120) for job in (first, second)]
    assert check == ["COMPLETED", "COMPLETED"], log_of(work, first) + log_of(work, second)
    check_done(slurm, work, first)
    assert contents(work.folder / "other") == work.expected


def test_what_is_wrong_is_one_sentence(slurm: Slurm, work: Work) -> None:
    jobs = {
        "names no config": slurm.submit(work.folder, SCRIPT),
        "missing.yaml: no such config file": slurm.submit(work.folder, "-N1", "-c1", SCRIPT, "missing.yaml"),
        "`coco-diy --version` fails on n1": slurm.submit(
            work.folder, f"--export=PATH=/usr/bin:/bin,SLURM_CONF={slurm.env['SLURM_CONF']}", SCRIPT, "subset.yaml"
        ),
    }
    for text, job in jobs.items():
        assert slurm.until_state(job, *ENDED) == "FAILED"
        assert slurm.facts(job)["ExitCode"] == "2:0", log_of(work, job)
        assert text in log_of(work, job)
