"""The other files of `conf/cluster` that run here: LocalCluster, SSH, a given address with TLS, dask-jobqueue."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.ready.conftest import Work
from tests.cluster.ready.test_slurm_job import listening
from tests.support.helpers import PROJECT
from tests.support.slurm import Slurm
from tests.support.stores import TOOLS, lacking, running, sftp

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

READY = PROJECT / "conf" / "cluster"


def environment(**more: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(PROJECT), "COCO_DIY_INTERFACE": "lo"} | more


def check_run(work: Work, *command: str, **environ: str) -> None:
    done = subprocess.run(
        command,
        cwd=work.folder,
        env=environment(**environ),
        text=True,
        capture_output=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "\nBuilt " in done.stdout
    assert work.made() == work.expected


def test_worker_processes_of_this_machine(work: Work) -> None:
    check_run(work, sys.executable, str(READY / "local.py"), "subset.yaml")


def test_machines_that_are_reached_by_ssh(work: Work, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("sshd")
    with running(sftp(folder)) as server:
        home = tmp_path_factory.mktemp("home")
        (home / ".ssh").mkdir(mode=0o700)
        (home / ".ssh" / "config").write_text(
            "".join(
                f"Host {name}\n  HostName 127.0.0.1\n  Port {server.port}\n  User {server.options['username']}\n"
                f"  IdentityFile {folder}/user\n  UserKnownHostsFile {folder}/known_hosts\n"
                for name in ("node1", "node2")
            )
        )
        check_run(work, sys.executable, str(READY / "ssh.py"), "subset.yaml", "node1", "node2", HOME=str(home))
    assert [p.name for p in work.folder.iterdir() if p.name.startswith(".")] == []


@pytest.fixture
def given(work: Work, slurm: Slurm) -> Iterator[dict[str, str]]:
    """Scheduler and two workers started as the page says; their environment."""
    environ = environment(COCO_DIY_DASK=str(work.folder / "dask"))
    script = str(READY / "address.sh")
    started = []
    try:
        for what in ("scheduler", "worker", "worker"):
            started.append(
                subprocess.Popen(["bash", script, what], cwd=work.folder, env=environ, stderr=subprocess.DEVNULL)
            )
            slurm.until((work.folder / "dask" / "scheduler.json").exists)
        assert {address for address, _ in listening({p.pid for p in started})} == {"127.0.0.1"}
        yield environ
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)


def test_a_given_address_with_tls(work: Work, given: dict[str, str]) -> None:
    own = Path(given["COCO_DIY_DASK"])
    assert {p.name: oct(p.stat().st_mode & 0o777) for p in own.iterdir()} == dict.fromkeys(
        ("scheduler.json", "key.pem", "certificate.pem"), "0o600"
    )
    check_run(work, "bash", str(READY / "address.sh"), "build", "subset.yaml", COCO_DIY_DASK=str(own))
    address = re.search(r"tls://[\d.:]+", (own / "scheduler.json").read_text())
    assert address is not None
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pipeline",
            "build",
            "subset.yaml",
            "--scheduler",
            address[0],
            "--set",
            "target.root=other",
        ],
        cwd=work.folder,
        env=environment(),
        text=True,
        capture_output=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 2
    assert "needs certificates" in done.stderr


def test_workers_that_are_jobs_by_dask_jobqueue(slurm: Slurm, work: Work) -> None:
    packages = TOOLS / "jobqueue"
    if not packages.is_dir():
        lacking("there is no dask-jobqueue; `make servers` installs it")
    conf = {"SLURM_CONF": slurm.env["SLURM_CONF"], "DASK_JOBQUEUE__SLURM__QUEUE": "debug"}
    check_run(
        work,
        sys.executable,
        str(READY / "jobqueue.py"),
        "subset.yaml",
        **conf,
        PYTHONPATH=f"{PROJECT}:{packages}",
    )
    slurm.until(lambda: not slurm.ask("squeue", "-h"))


@pytest.mark.parametrize("path", sorted(p for p in READY.iterdir() if p.is_file()), ids=lambda p: p.name)
def test_files_are_in_order_and_say_what_is_not_tested(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".sh", ".sbatch"):
        assert subprocess.run(["bash", "-n", path], check=False, timeout=60).returncode == 0
    elif path.suffix == ".py":
        compile(text, path.name, "exec")
    elif path.suffix == ".yaml":
        assert yaml.safe_load(text)["kind"] == "DaskJob"
    untested = path.stem in ("k8s", "gateway", "cloud")
    assert ("NOT TESTED" in text) is untested
    if path.suffix != ".md":
        row = next(
            line for line in (READY / "README.md").read_text().splitlines() if f"| `cluster/{path.stem}`" in line
        )
        assert ("**not tested**" in row) is untested
