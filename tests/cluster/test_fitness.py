"""Workers that are unfit are refused before the first task, all of them by name, each with its cure."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.cluster.conftest import Cluster, hooked
from tests.cluster.test_builds import build, left_of_runs
from tests.conftest import Subset
from tests.support import stores
from tests.support.helpers import PROJECT, contents, write_file
from tests.support.stores import lacking

pytestmark = pytest.mark.cluster

#: A worker for which nothing is mounted where the tests have a folder.
_SHUT_OUT = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"')

_may_mount = pytest.mark.skipif(
    os.system("unshare -m true 2> /dev/null") != 0, reason="this user may not make mount namespaces"
)


def test_no_worker_is_there(wanted: Subset, cluster: Cluster) -> None:
    told = build(wanted, cluster, "--set", "engine.wait_workers=1", code=75)
    assert "no worker is there for 1 s; start workers, or raise engine.wait_workers" in told.err
    assert left_of_runs(wanted) == []


@_may_mount
@pytest.mark.parametrize("what", ["target", "workdir", "source"])
def test_a_folder_that_is_not_mounted(
    wanted: Subset, expected: dict[str, bytes], cluster: Cluster, what: str, tmp_path: Path
) -> None:
    """Under a mount point there is an empty folder, or none: nothing is made there, whoever notices."""
    root = {"target": wanted.target, "workdir": wanted.workdir, "source": wanted.source / "images"}[what]
    root.mkdir(exist_ok=True)
    cluster.start(1)
    cluster.start(2, prefix=(*_SHUT_OUT, str(root)))
    told = build(wanted, cluster, code=2)
    assert f"{os.uname().nodename}" in told.err
    assert sum(name in told.err for name in cluster.names()) == 2
    assert "mount it there" in told.err
    assert "on_error" not in told.err
    assert contents(wanted.target) == {}
    for worker in cluster.workers[1:]:
        assert os.listdir(f"/proc/{worker.pid}/root{root}") == []


@pytest.mark.parametrize(("change", "clause"), [("+60s", "60 s ahead"), ("-60s", "60 s behind")])
def test_a_clock_that_is_wrong(
    wanted: Subset, cluster: Cluster, change: str, clause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("faketime") is None:
        lacking("there is no faketime; Debian and Ubuntu have it in the package of that name")
    monkeypatch.setenv("NO_FAKE_STAT", "1")
    monkeypatch.setenv("DONT_FAKE_MONOTONIC", "1")
    cluster.start(1, prefix=("faketime", "-f", change))
    told = build(wanted, cluster, code=2)
    assert f"{cluster.names()[0]} on {os.uname().nodename} has a clock that is {clause}; set it, with NTP" in told.err
    assert contents(wanted.target) == {}


@_may_mount
@pytest.mark.parametrize("what", ["target", "workdir"])
def test_a_disk_that_is_nearly_full(wanted: Subset, cluster: Cluster, what: str) -> None:
    root = {"target": wanted.target, "workdir": wanted.workdir}[what]
    root.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=90m", "none", root], check=True)
    try:
        cluster.start(1)
        told = build(wanted, cluster, code=2)
        assert f"{cluster.names()[0]} on {os.uname().nodename} has " in told.err
        assert f"free for the {what} {root}; make room there" in told.err
    finally:
        subprocess.run(["umount", root], check=True)


def test_a_worker_without_the_keys_of_a_store(
    wanted: Subset, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stores.running(stores.s3(tmp_path / "s3")) as server:
        cluster.start(1)
        cluster.start(1, env={"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}"})
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", stores.KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", stores.SECRET)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        told = build(wanted, cluster, "--set", "target.root=s3://bucket/out", code=2)
    for name in cluster.names():
        assert f"worker {name} on {os.uname().nodename} cannot write to the target: s3://bucket/out/" in told.err
    assert "credentials" in told.err
    assert stores.KEY not in told.err
    assert stores.SECRET not in told.err


def test_other_code_no_code_and_silence(
    wanted: Subset, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, without = tmp_path / "older", tmp_path / "without"
    shutil.copytree(PROJECT / "pipeline", older / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    write_file(older / "pipeline/base/later.py", '"""Not there yet."""\n')
    write_file(
        without / "pipeline/__init__.py", "raise ModuleNotFoundError('No module named pipeline', name='pipeline')\n"
    )
    cluster.start(1)
    cluster.start(1, env={"PYTHONPATH": str(older)})
    cluster.start(1, env={"PYTHONPATH": str(without)})
    (silent,) = cluster.start(1)
    monkeypatch.setattr("pipeline.cluster.driver._EXAMINE_S", 2.0)  # before the scheduler gives it up
    cluster.signal(silent, signal.SIGSTOP)
    told = build(wanted, cluster, code=2)
    assert "does not answer" in told.err
    assert "has coco-diy 0.1.0 (" in told.err
    assert "has no coco-diy" in told.err
    assert "internal error" not in told.err
    assert left_of_runs(wanted) == []


def test_a_late_worker_that_is_unfit_is_set_aside(
    wanted: Subset, expected: dict[str, bytes], cluster: Cluster, tmp_path: Path
) -> None:
    """It came when the others had been examined: its first task finds out."""
    from pipeline.cluster.driver import Driver

    older = tmp_path / "older"
    shutil.copytree(PROJECT / "pipeline", older / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    write_file(older / "pipeline/base/later.py", '"""Not there yet."""\n')
    cluster.start(1)
    examine = Driver._examine

    def then_late(*args: object) -> None:
        examine(*args)  # type: ignore[arg-type]
        cluster.start(1, env={"PYTHONPATH": str(older)})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Driver, "_examine", then_late)
        told = build(wanted, cluster)
    assert "its work is done elsewhere" in told.err
    assert contents(wanted.target, record=True) == expected


def test_tls_without_certificates(wanted: Subset) -> None:
    told = wanted.command("build", "--scheduler", "tls://127.0.0.1:9", code=2)
    assert "needs certificates" in told.err
    assert "internal error" not in told.err


@_may_mount
@pytest.mark.parametrize("what", ["target", "workdir", "source"])
def test_a_folder_that_goes_away_on_one_worker(
    wanted: Subset, expected: dict[str, bytes], cluster: Cluster, what: str
) -> None:
    """It is covered by an empty disk while that worker is at work there: its work is done by the other."""
    root = {"target": wanted.target, "workdir": wanted.workdir, "source": wanted.source / "images"}[what]
    (shut,) = cluster.start(1, prefix=("unshare", "-m"), env=hooked("os.rename", ".txt", "stop", 3))
    cluster.start(1)

    def cover() -> None:
        cluster.wait_for_frozen()
        subprocess.run(["nsenter", "-m", "-t", str(shut.pid), "mount", "-t", "tmpfs", "none", str(root)], check=True)
        cluster.signal(shut, signal.SIGCONT)

    covers = threading.Thread(target=cover)
    covers.start()
    build(wanted, cluster)
    covers.join()
    assert contents(wanted.target, record=True) == expected
    assert os.listdir(f"/proc/{shut.pid}/root{root}") == []
