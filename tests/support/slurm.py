"""A SLURM of one machine, for tests: munge, the controller and two nodes, all on loopback addresses.

Debian and Ubuntu have it in the packages slurmctld, slurmd, slurm-client, munge and slurm-wlm-basic-plugins. Nothing of
the system's own SLURM or munge is read or written: key, socket, configuration and state lie in a folder of the tests.
"""

from __future__ import annotations

import getpass
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.stores import tool
from tests.support.web import free_port

#: Nothing takes so long, unless it hangs.
WAIT_S = 60.0

#: They share the address of this machine, and have ports of their own.
NODES = ("n1", "n2")
_CPUS = 4

#: Jobs start, end and are requeued without the pauses that spare a controller of thousands of nodes. ``cred_expire``
#: and ``KillWait`` bound how long a requeued job waits for its old self. There is no accounting, as at many sites.
_SETTINGS: Mapping[str, object] = {
    "ClusterName": "tests",
    "AuthType": "auth/munge",
    "CryptoType": "crypto/munge",
    "CredType": "cred/munge",
    "KillWait": 5,
    "OverTimeLimit": 0,
    "ProctrackType": "proctrack/linuxproc",
    "TaskPlugin": "task/none",
    "SelectType": "select/cons_tres",
    "SelectTypeParameters": "CR_CPU",
    "SchedulerType": "sched/backfill",
    "SchedulerParameters": "batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0",
    "MpiDefault": "none",
    "PreemptType": "preempt/partition_prio",
    "PreemptMode": "REQUEUE",
    "ReturnToService": 2,
    "JobRequeue": 1,
    "AccountingStorageType": "accounting_storage/none",
    "JobAcctGatherType": "jobacct_gather/none",
    "CommunicationParameters": "NoCtldInAddrAny,NoInAddrAny",
    "SlurmdParameters": "config_overrides",
}

#: Jobs of ``urgent`` take the nodes of others, which are queued again after a few seconds to stop in.
_PARTITIONS = {"debug": "Default=YES PriorityTier=1 GraceTime=5", "urgent": "PriorityTier=9"}


@dataclass
class Slurm:
    """A controller and the nodes of `NODES`; jobs run as the user who runs the tests."""

    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """The environment of a user of this cluster, with this Python's commands first in ``PATH``."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return kept | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}

    def start(self) -> None:
        """From nothing to idle nodes."""
        for name in ("state", "log", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        self._start_munge()
        (self.folder / "slurm.conf").write_text(self._config())
        config = str(self.folder / "slurm.conf")
        self._daemon("slurmctld", tool("slurmctld"), "-D", "-f", config)
        for node in NODES:
            self._daemon(node, tool("slurmd"), "-D", "-f", config, "-N", node)
        self.until(lambda: self.ask("sinfo", "-h", "-N", "-p", "debug", "-o", "%T").split() == ["idle"] * len(NODES))

    def end(self) -> None:
        """Cancel all jobs, and end all daemons."""
        try:
            self.ask("scancel", "--user", getpass.getuser())
            self.until(lambda: not self.ask("squeue", "-h"))
        finally:
            for process in reversed(self.processes.values()):
                process.send_signal(signal.SIGTERM)
            for process in self.processes.values():
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def ask(self, name: str, *args: str) -> str:
        """What a program of SLURM prints; it must succeed."""
        done = subprocess.run(
            [tool(name), *args], env=self.env, text=True, capture_output=True, check=False, timeout=WAIT_S
        )
        assert done.returncode == 0, f"{name} {args}: {done.stderr or done.stdout}"
        return done.stdout

    def submit(self, folder: Path, *args: str) -> int:
        """Submit a batch job from `folder`; returns its number."""
        done = subprocess.run(
            [tool("sbatch"), "--parsable", *args],
            cwd=folder,
            env=self.env,
            text=True,
            capture_output=True,
            check=False,
            timeout=WAIT_S,
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    def facts(self, job: int) -> dict[str, str]:
        """What the controller knows of a job: ``JobState``, ``ExitCode``, ``Restarts`` and many more."""
        return self.all_facts(job)[0]

    def all_facts(self, job: int) -> list[dict[str, str]]:
        """As `facts`, of each element of an array."""
        lines = self.ask("scontrol", "show", "job", "-o", str(job)).splitlines()
        return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines if line]

    def until(self, ready: Callable[[], bool], *, seconds: float = WAIT_S) -> float:
        """Wait until `ready`; returns for how long, in seconds."""
        started = time.monotonic()
        while not ready():
            assert time.monotonic() < started + seconds, f"it takes more than {seconds} s\n{self._logs()}"
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            assert not ended, f"{ended} ended\n{self._logs()}"
            time.sleep(0.05)
        return time.monotonic() - started

    def until_state(self, job: int, *states: str, seconds: float = WAIT_S) -> str:
        """Wait until a job is in one of `states`, such as ``RUNNING`` or ``COMPLETED``; returns which."""
        self.until(lambda: self.facts(job)["JobState"] in states, seconds=seconds)
        return self.facts(job)["JobState"]

    def _config(self) -> str:
        user, host = getpass.getuser(), socket.gethostname().partition(".")[0]
        own = {
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmUser": user,
            "SlurmdUser": user,
            "AuthInfo": f"socket={self.folder}/munge/socket,cred_expire=10",
            "StateSaveLocation": self.folder / "state",
            "SlurmdSpoolDir": self.folder / "spool-%n",
            "SlurmctldPidFile": self.folder / "slurmctld.pid",
            "SlurmdPidFile": self.folder / "slurmd-%n.pid",
            "SlurmctldPort": free_port(),
        }
        nodes = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs={_CPUS} RealMemory=4000"
            for name in NODES
        ]
        return "\n".join(
            [
                *(f"{name}={value}" for name, value in {**_SETTINGS, **own}.items()),
                *nodes,
                *(
                    f"PartitionName={name} Nodes={','.join(NODES)} MaxTime=INFINITE State=UP OverSubscribe=YES {more}"
                    for name, more in _PARTITIONS.items()
                ),
                "",
            ]
        )

    def _start_munge(self) -> None:
        """A munge of our own: with ``--force`` it also runs as root, and in a folder that only this user may enter."""
        folder = self.folder / "munge"
        folder.mkdir(mode=0o755)
        (folder / "key").write_bytes(os.urandom(128))
        (folder / "key").chmod(0o400)
        files = [f"--{name}={folder / name.split('-')[0]}" for name in ("socket", "key-file", "pid-file", "log-file")]
        self._daemon("munged", tool("munged"), "--foreground", "--force", f"--seed-file={folder}/seed", *files)
        self.until((folder / "socket").exists)

    def _logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-1000:] for path in (self.folder / "log").iterdir())

    def _daemon(self, name: str, *command: str) -> None:
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, start_new_session=True
            )
