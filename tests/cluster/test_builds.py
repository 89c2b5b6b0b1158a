"""Builds on a cluster make the bytes that a build in one process makes, whatever befalls workers and driver.

Whoever is cut off from a run may go on or wake up later: it changes nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pipeline
from pipeline.cluster import step_run
from tests.cluster.conftest import Cluster, hooked, is_stopped, until
from tests.conftest import CROWD_CONFIG, MakeSubset, Subset
from tests.support.helpers import PROJECT, Result, contents, write_file
from tests.support.stores import TOOLS, lacking

pytestmark = pytest.mark.cluster

BUCKETS = ("--set", "index.buckets=8")
OTHER = ("--set", "classes=[bicycle, person]")


def left_of_runs(subset: Subset) -> list[str]:
    """What runs on a cluster leave: nothing."""
    folders = (subset.workdir / "cluster", subset.target / ".coco-diy/tmp", subset.target / ".coco-diy/new")
    return [str(path) for folder in folders for path in folder.rglob("*")]


def build(subset: Subset, cluster: Cluster, *words: str, code: int | None = 0) -> Result:
    """A build on the cluster."""
    return subset.command("build", "--scheduler", cluster.address, *BUCKETS, *words, code=code)


def start(subset: Subset, cluster: Cluster, *words: str) -> subprocess.Popen[str]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "pipeline", "build", str(subset.config), "--scheduler", cluster.address, *BUCKETS]
    env = os.environ | {"PYTHONPATH": f"{PROJECT}:{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.Popen([*command, *words], env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def everything(subset: Subset) -> dict[str, bytes]:
    """All files of target and index, but what says when."""
    return {
        str(path): path.read_bytes()
        for folder in (subset.target, subset.workdir / "index")
        for path in folder.rglob("*")
        if path.is_file() and not {"runs", "lock"} & set(path.parts)
    }


def test_the_bytes_of_one_process(wanted: Subset, expected: dict[str, bytes], cluster: Cluster) -> None:
    cluster.start(2)
    build(wanted, cluster)
    assert contents(wanted.target, record=True) == expected
    assert left_of_runs(wanted) == []
    assert "nothing to do" in build(wanted, cluster).out.lower()


def test_a_shaped_subset_has_the_bytes_of_one_process(crowd: Path, make_subset: MakeSubset, cluster: Cluster) -> None:
    """What is decided of all buckets goes through files of the workdir that workers write and the driver reads."""
    select = {
        "objects": {"where": "w * h < 0.6"},
        "objects_per_image": {"max": 6},
        "per_class": {"max_images": 40},
        "background": {"ratio": 0.2, "prefer": "near-miss"},
    }
    alone, together = (make_subset(crowd, name, **CROWD_CONFIG | {"select": select}) for name in ("alone", "together"))
    alone.build("--set", "index.buckets=1")
    cluster.start(2)
    build(together, cluster)
    assert contents(together.target, record=True) == contents(alone.target, record=True)
    assert left_of_runs(together) == []
    assert "nothing to do" in build(together, cluster).out.lower()


@pytest.mark.parametrize(
    ("command", "unwanted"), [("index", {"pyarrow", "pandas", "dask.dataframe"}), ("build", {"dask.dataframe"})]
)
def test_the_driver_leaves_imports_to_workers(
    wanted: Subset, cluster: Cluster, command: str, unwanted: set[str]
) -> None:
    """What it imports before its first task, and between stages, all workers wait for."""
    cluster.start(1)
    words = [sys.executable, "-X", "importtime", "-m", "pipeline", command, str(wanted.config)]
    env = os.environ | {"PYTHONPATH": f"{PROJECT}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([*words, "--scheduler", cluster.address], env=env, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "distributed" in imported
    assert not imported & unwanted


def test_a_client_of_python_stays_open(wanted: Subset, expected: dict[str, bytes], cluster: Cluster) -> None:
    from distributed import Client

    cluster.start(1, threads=2)
    with Client(cluster.address, set_as_default=False) as client:
        report = pipeline.build(str(wanted.config), client=client)
        assert report.data["status"] == "built"
        assert client.submit(len, "abc").result() == 3
    assert contents(wanted.target, record=True) == expected


@pytest.mark.parametrize(
    ("event", "text"),
    [("os.rename", "states"), ("os.rename", ".touched"), ("os.rename", ".txt")],
    ids=["index", "plan", "apply"],
)
def test_a_worker_dies_in_a_stage(
    wanted: Subset, expected: dict[str, bytes], cluster: Cluster, event: str, text: str
) -> None:
    """Another comes when it is dead: of two at once the other may do all of the stage, and this one never die."""
    cluster.start(1, env=hooked(event, text, "die", 3))
    with ThreadPoolExecutor() as beside:
        died = beside.submit(cluster.workers[0].wait)
        died.add_done_callback(lambda _: cluster.start(1))
        build(wanted, cluster)
    assert died.result() == -signal.SIGKILL
    assert contents(wanted.target, record=True) == expected
    assert left_of_runs(wanted) == []


@pytest.mark.parametrize(("event", "first"), [("open", False), ("os.rename", True)], ids=["index", "apply"])
def test_a_frozen_worker_that_wakes_up_after_the_next_run(
    crowd: Path, make_subset: MakeSubset, cluster: Cluster, tmp_path: Path, event: str, first: bool
) -> None:
    """It was stopped when it read a label file, or put one in place; the scheduler gave it up.

    The next build finds other labels, and has other classes.
    """
    wanted = make_subset(shutil.copytree(crowd, tmp_path / "source"), **CROWD_CONFIG)
    if first:
        wanted.build("--set", "classes=[bus]", *BUCKETS)
    label = next((wanted.source / "labels").rglob("*.txt"))
    (frozen,) = cluster.start(1, env=hooked(event, ".txt" if first else label.name, "stop"))
    if first:
        cluster.start(1)
    else:
        threading.Thread(target=cluster.start_when_one_is_frozen).start()
    build(wanted, cluster)
    assert is_stopped(frozen.pid)
    for label in (wanted.source / "labels").rglob("*.txt"):
        label.write_text("1 0.5 0.5 0.25 0.25\n")
    build(wanted, cluster, *OTHER)
    before = everything(wanted)
    cluster.signal(frozen, signal.SIGCONT)
    time.sleep(2)
    assert everything(wanted) == before


def test_the_driver_is_killed_and_its_worker_goes_on(wanted: Subset, cluster: Cluster) -> None:
    (frozen,) = cluster.start(1, env=hooked("os.rename", ".txt", "stop", 3))
    driver = start(wanted, cluster)
    cluster.wait_for_frozen()
    driver.kill()
    driver.communicate()
    wanted.build(*OTHER, *BUCKETS)
    before = everything(wanted)
    cluster.signal(frozen, signal.SIGCONT)
    time.sleep(2)
    assert everything(wanted) == before


def test_a_driver_is_killed_amid_another_layout(wanted: Subset, expected: dict[str, bytes], cluster: Cluster) -> None:
    """The next run ends in its own layout, whichever that is, and the worker that wakes up changes nothing."""
    (frozen,) = cluster.start(1, env=hooked("os.rename", ".txt", "stop", 3))
    wanted.build(*BUCKETS)
    mine = write_file(wanted.target / "train/notes.md", "mine")
    driver = start(wanted, cluster, "--set", "target.layout=roboflow")
    cluster.wait_for_frozen()
    driver.kill()
    driver.communicate()
    wanted.build(*BUCKETS)
    before = everything(wanted)
    cluster.signal(frozen, signal.SIGCONT)
    time.sleep(2)
    assert everything(wanted) == before
    mine.unlink()
    mine.parent.rmdir()
    assert contents(wanted.target, record=True) == expected
    build(wanted, cluster, "--set", "target.layout=roboflow")
    placed = {
        path: path.replace("val", "valid").split("/") for path in expected if path.startswith(("labels", "images"))
    }
    assert contents(wanted.target).keys() - {"data.yaml", "DATASET.md"} == {
        "/".join([split, kind, *rest]) for kind, split, *rest in placed.values()
    }


def test_an_interrupt_lets_workers_end_and_leaves_nothing(
    wanted: Subset, expected: dict[str, bytes], cluster: Cluster
) -> None:
    cluster.start(2, env=hooked("os.rename", ".txt", "slow"))
    driver = start(wanted, cluster)
    intent = wanted.target / ".coco-diy/intent.json"
    until(intent.exists)
    driver.send_signal(signal.SIGINT)
    _, err = driver.communicate(timeout=60)
    assert driver.returncode == 130, err
    assert left_of_runs(wanted)[:1] == [] or ".coco-diy/new" in left_of_runs(wanted)[0]
    before = everything(wanted)
    time.sleep(1)
    assert everything(wanted) == before
    wanted.build(*BUCKETS)
    assert contents(wanted.target, record=True) == expected


def test_all_workers_are_gone_for_a_while(wanted: Subset, expected: dict[str, bytes], cluster: Cluster) -> None:
    (only,) = cluster.start(1, env=hooked("os.rename", ".txt", "die", 3))
    later = threading.Thread(target=cluster.start_when_ended, args=(only,))
    later.start()
    build(wanted, cluster)
    later.join()
    assert contents(wanted.target, record=True) == expected


def test_workers_that_never_come_back(wanted: Subset, expected: dict[str, bytes], cluster: Cluster) -> None:
    cluster.start(1, env=hooked("os.rename", ".txt", "die", 3))
    told = build(wanted, cluster, "--set", "engine.wait_workers=2", code=75)
    assert "no worker is there for 2 s; start workers, or raise engine.wait_workers" in told.err
    wanted.build(*BUCKETS)
    assert contents(wanted.target, record=True) == expected


def test_a_scheduler_that_dies(wanted: Subset, expected: dict[str, bytes], cluster: Cluster) -> None:
    cluster.start(1, env=hooked("os.rename", ".txt", "slow"))
    driver = start(wanted, cluster)
    until((wanted.target / ".coco-diy/intent.json").exists)
    cluster.signal(cluster.scheduler, signal.SIGKILL)
    _, err = driver.communicate(timeout=100)
    assert driver.returncode == 75, err
    assert "the scheduler does not answer any more" in err
    wanted.build(*BUCKETS)
    assert contents(wanted.target, record=True) == expected


def test_a_bucket_that_kills_its_workers(
    wanted: Subset, expected: dict[str, bytes], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up after four, by name; the others go on, and the next run has but that to do."""
    label = next(p for p in sorted((wanted.source / "labels/train2017").rglob("*.txt")))
    cluster.start(5, env=hooked("open", label.name, "die"))
    told = build(wanted, cluster, code=1)
    assert "1 bucket given up, of which 4 workers each died (out of memory?): bucket " in told.err
    assert "internal error" not in told.err
    assert len(cluster.names()) == 1
    states = list((wanted.workdir / "index").rglob("states/*.json"))
    assert len(states) == 7
    wanted.build(*BUCKETS)
    assert contents(wanted.target, record=True) == expected


def test_a_disk_that_fails_on_one_worker(wanted: Subset, expected: dict[str, bytes], cluster: Cluster) -> None:
    """Its work is done on another, once; where there is no other, the worker is named."""
    cluster.start(1, env=hooked("os.rename", ".txt", "fail"))
    told = build(wanted, cluster, code=1)
    assert "input/output error" in told.err
    assert f"worker {cluster.names()[0]} on {os.uname().nodename}" in told.err
    cluster.start(1)
    told = build(wanted, cluster)
    assert "its work is done elsewhere" in told.err
    assert contents(wanted.target, record=True) == expected


def test_data_that_is_bad_is_not_tried_again(wanted: Subset, cluster: Cluster, tmp_path: Path) -> None:
    cluster.start(2)
    told = build(wanted, cluster, "--set", "source.names=nowhere.yaml", code=2)
    assert "nowhere.yaml" in told.err


def test_a_straggler_is_begun_elsewhere(
    wanted: Subset, expected: dict[str, bytes], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler still believes in the frozen worker: the second attempt counts."""
    monkeypatch.setattr(step_run, "STRAGGLES_S", 0.5)
    monkeypatch.setattr(step_run, "_STRAGGLERS_EVERY_S", 0.2)
    monkeypatch.setattr("pipeline.cluster.driver.SETTLE_S", 1.0)
    cluster.start(1, env=hooked("os.rename", ".txt", "stop", 3))
    cluster.start(1)
    told = build(wanted, cluster, "-v")
    assert "it is begun a second time elsewhere" in told.err
    assert contents(wanted.target, record=True) == expected


def test_two_drivers_at_once(
    wanted: Subset, expected: dict[str, bytes], cluster: Cluster, make_subset: MakeSubset
) -> None:
    cluster.start(2)
    other = make_subset(wanted.source, "other", **CROWD_CONFIG)
    drivers = [start(wanted, cluster), start(other, cluster)]
    for driver in drivers:
        _, err = driver.communicate(timeout=100)
        assert driver.returncode == 0, err
    assert contents(wanted.target, record=True) == contents(other.target, record=True) == expected


def test_workers_whose_memory_is_used_up(wanted: Subset, expected: dict[str, bytes], cluster: Cluster) -> None:
    """Their nannies kill and start them again and again: a sentence, within a time; more memory, and it goes on."""
    cluster.start(1, memory="150MB")
    told = build(wanted, cluster, "--set", "engine.wait_workers=5", code=None)
    assert told.code in (1, 2, 75), told.err
    assert "internal error" not in told.err
    assert "memory" in told.err or "no worker is there" in told.err
    cluster.start(1)
    wanted.build(*BUCKETS)
    assert contents(wanted.target, record=True) == expected


@pytest.fixture
def bokeh(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package that draws a performance report, for all processes that are begun from here on."""
    if not (TOOLS / "bokeh").is_dir():
        lacking("there is no bokeh; `make servers` installs it")
    monkeypatch.setenv("PYTHONPATH", str(TOOLS / "bokeh"))


def test_a_report_of_what_the_scheduler_saw(bokeh: None, wanted: Subset, cluster: Cluster, tmp_path: Path) -> None:
    cluster.start(1)
    run = start(wanted, cluster, "--performance-report", str(tmp_path / "seen.html"))
    err = run.communicate(timeout=120)[1]
    assert run.returncode == 0, err
    page = (tmp_path / "seen.html").read_text()
    assert "Dask Performance Report" in page
    assert "coco-diy-" in page  # the keys of our tasks are in its task stream


def test_a_report_for_which_a_package_is_missing(wanted: Subset, cluster: Cluster) -> None:
    told = build(wanted, cluster, "--performance-report", "seen.html", code=2)
    assert "needs the package bokeh; install it with `pip install bokeh`" in told.err
