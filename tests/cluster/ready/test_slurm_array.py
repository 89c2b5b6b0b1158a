"""`conf/cluster/array.sbatch` on a real SLURM: elements share a folder, not a network."""

from __future__ import annotations

import pytest

from tests.cluster.ready.conftest import Work
from tests.cluster.ready.test_slurm_job import ENDED, listening, processes_of
from tests.support.helpers import PROJECT
from tests.support.slurm import Slurm

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

SCRIPT = str(PROJECT / "conf" / "cluster" / "array.sbatch")


def submit(slurm: Slurm, work: Work, *options: str) -> int:
    return slurm.submit(work.folder, "--array=0-2", *options, SCRIPT, "subset.yaml")


def elements(slurm: Slurm, job: int) -> dict[str, dict[str, str]]:
    """What the controller knows of each element, by its number."""
    return {facts["ArrayTaskId"]: facts for facts in slurm.all_facts(job)}


def processes(slurm: Slurm, job: int) -> dict[int, str]:
    return {
        pid: command
        for facts in elements(slurm, job).values()
        for pid, command in processes_of(int(facts["JobId"])).items()
    }


def under_way(slurm: Slurm, work: Work, job: int) -> None:
    """Wait until all elements are at work and some images fetched, by far not all; from then on they come slowly."""
    work.pace.seconds = 0.3
    slurm.until(lambda: work.pace.total >= 6)
    slurm.until(lambda: len([f for f in elements(slurm, job).values() if f["JobState"] == "RUNNING"]) == 3)
    work.pace.seconds = 1.0
    assert len(work.pace.asked) < work.images / 2


def check_done(slurm: Slurm, work: Work, job: int) -> None:
    """Wait until its first element has made the subset, and nothing is left of any."""
    log = work.folder / f"coco-diy-{job}-0.log"
    slurm.until(lambda: elements(slurm, job).get("0", {}).get("JobState") in ENDED, seconds=120)
    assert elements(slurm, job)["0"]["JobState"] == "COMPLETED", log.read_text()
    assert work.made() == work.expected
    slurm.until(lambda: not processes(slurm, job))
    assert [p.name for p in work.folder.iterdir() if p.name.startswith(".")] == []
    assert "internal error" not in log.read_text()


def test_an_array_makes_the_bytes_of_one_thread_without_a_port(slurm: Slurm, work: Work) -> None:
    job = submit(slurm, work)
    under_way(slurm, work, job)
    at_work = {pid: command for pid, command in processes(slurm, job).items() if "coco-diy" in command}
    assert len([command for command in at_work.values() if " worker " in command]) >= 3
    assert listening(set(at_work)) == set()
    work.pace.seconds = 0
    check_done(slurm, work, job)


def test_the_work_of_an_element_that_is_cancelled_is_done_by_others(slurm: Slurm, work: Work) -> None:
    job = submit(slurm, work)
    under_way(slurm, work, job)
    slurm.ask("scancel", f"{job}_1")
    slurm.until(lambda: elements(slurm, job)["1"]["JobState"] == "CANCELLED")
    work.pace.seconds = 0
    check_done(slurm, work, job)


@pytest.mark.parametrize("element", ["0", "2"], ids=["the run", "a worker"])
def test_an_element_that_is_requeued_does_only_what_was_under_way_again(slurm: Slurm, work: Work, element: str) -> None:
    job = submit(slurm, work)
    under_way(slurm, work, job)
    slurm.ask("scontrol", "requeue", f"{job}_{element}")
    slurm.until(lambda: elements(slurm, job)[element]["Restarts"] == "1")
    assert elements(slurm, job)["1"]["JobState"] == "RUNNING"
    work.pace.seconds = 0
    check_done(slurm, work, job)
    twice = [path for path, count in work.pace.asked.items() if count > 1]
    assert len(twice) <= 3 * 2 * 2, twice  # connections of each of three workers, and one more that was answered


def test_an_array_that_is_cancelled_is_gone_on_with_by_the_next(slurm: Slurm, work: Work) -> None:
    job = submit(slurm, work)
    under_way(slurm, work, job)
    after = submit(slurm, work, f"--dependency=afterany:{job}")
    slurm.ask("scancel", str(job))
    slurm.until(lambda: not processes(slurm, job), seconds=10)
    work.pace.seconds = 0
    check_done(slurm, work, after)
