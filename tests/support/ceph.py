"""A Ceph of one machine, for tests: a monitor, one disk in memory, and the gateway that speaks S3.

Debian and Ubuntu have it in the packages ceph-mon, ceph-osd, radosgw and ceph-common. Nothing of the system's own Ceph
is read or written.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.stores import KEY, SECRET, Server, bucket_on, tool
from tests.support.web import free_port

_WAIT_S = 120

#: A pool has one copy of everything and few parts; what a single small disk is warned of is no concern here.
_ALL: Mapping[str, object] = {
    "osd_pool_default_size": 1,
    "osd_pool_default_min_size": 1,
    "osd_pool_default_pg_num": 4,
    "osd_pool_default_pgp_num": 4,
    "osd_pool_default_pg_autoscale_mode": "off",
    "mon_allow_pool_size_one": "true",
    "mon_max_pg_per_osd": 1000,
    "osd_crush_chooseleaf_type": 0,
    "mon_data_avail_warn": 2,
    "mon_data_avail_crit": 1,
    "osd_objectstore": "memstore",
    "memstore_device_bytes": 2 << 30,
}
_GATEWAY: Mapping[str, object] = {
    "rgw_enable_ops_log": "false",
    "rgw_run_sync_thread": "false",
    "rgw_enable_lc_threads": "false",
    "rgw_gc_obj_min_wait": 5,
}


@dataclass
class Ceph(Server):
    """The gateway, with buckets ``ceph`` and ``ceph-other``, and the daemons behind it, which a `kill` leaves alone."""

    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """From nothing to buckets; or, after a `kill`, the gateway alone."""
        if self.daemons:
            super().start()
            return
        for name in ("mon", "osd", "run", "log", "rgw"):
            (self.folder / name).mkdir()
        cluster, monitor = str(uuid.uuid4()), f"127.0.0.1:{free_port()}"
        self._write_config(cluster, monitor)
        self._write_keys()
        monitors = str(self.folder / "map")
        self.ask("monmaptool", "--create", "--fsid", cluster, "--addv", "a", f"[v2:{monitor}]", monitors)
        self.ask("ceph-mon", "--mkfs", "-i", "a", "--monmap", monitors, "--keyring", self._keys)
        self._daemon("ceph-mon", "-i", "a", "--no-mon-config")
        self._until(lambda: "a" in self._state("quorum_status").get("quorum_names", ()))
        disk = str(uuid.uuid4())
        self.ask("ceph", "osd", "new", disk, "0")
        self.ask("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk, "--no-mon-config")
        self._daemon("ceph-osd", "-i", "0")
        self._until(lambda: self._state("osd", "stat").get("num_up_osds") == 1)
        super().start()
        self.ask(
            "radosgw-admin",
            "user",
            "create",
            "--uid=tester",
            "--display-name=tester",
            f"--access-key={KEY}",
            f"--secret-key={SECRET}",
        )
        for bucket in (self.host, f"{self.host}-other"):
            bucket_on(self, bucket)

    def end(self) -> None:
        super().end()
        for process in reversed(self.daemons):
            process.send_signal(signal.SIGKILL)
            process.wait()

    @property
    def _config(self) -> Path:
        return self.folder / "ceph.conf"

    @property
    def _keys(self) -> str:
        return str(self.folder / "keys")

    def _write_config(self, cluster: str, monitor: str) -> None:
        own = {
            "fsid": cluster,
            "mon_host": f"v2:{monitor}",
            "public_addr": "127.0.0.1",
            "cluster_addr": "127.0.0.1",
            "keyring": self._keys,
            "run_dir": self.folder / "run",
            "crash_dir": self.folder / "log",
            "admin_socket": self.folder / "run" / "$name.sock",
            "pid_file": self.folder / "run" / "$name.pid",
            "log_file": self.folder / "log" / "$name.log",
            "mon_cluster_log_file": self.folder / "log" / "cluster.log",
            "mon_data": self.folder / "mon",
            "osd_data": self.folder / "osd",
        }
        gateway = {"rgw_frontends": f"beast endpoint=127.0.0.1:{self.port}", "rgw_data": self.folder / "rgw"}
        sections = {"global": {**own, **_ALL}, "client.admin": {**gateway, **_GATEWAY}}
        self._config.write_text(
            "".join(
                f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in values.items()) for name, values in sections.items()
            )
        )

    def _write_keys(self) -> None:
        may_all = ("--cap", "mon", "allow *", "--cap", "osd", "allow *")
        for name, may in (("mon.", ("--cap", "mon", "allow *")), ("client.admin", may_all), ("osd.0", may_all)):
            new = () if Path(self._keys).exists() else ("--create-keyring",)
            self.ask("ceph-authtool", self._keys, *new, "--gen-key", "-n", name, *may)

    def ask(self, name: str, *args: str) -> bytes:
        """What a program of Ceph says; it must succeed."""
        config = () if name in ("monmaptool", "ceph-authtool") else ("-c", str(self._config))
        done = subprocess.run([tool(name), *config, *args], capture_output=True, check=False, timeout=_WAIT_S)
        assert done.returncode == 0, f"{name} {args}: {(done.stderr or done.stdout).decode(errors='replace')}"
        return done.stdout

    def _state(self, *words: str) -> dict[str, Any]:
        with contextlib.suppress(subprocess.TimeoutExpired):
            command = [tool("ceph"), "-c", str(self._config), "--connect-timeout", "3", *words, "-f", "json"]
            done = subprocess.run(command, capture_output=True, check=False, timeout=10)
            if done.returncode == 0:
                found: dict[str, Any] = json.loads(done.stdout)
                return found
        return {}

    def _daemon(self, name: str, *args: str) -> None:
        log = (self.folder / "log" / f"{name}.out").open("ab")
        with log:
            self.daemons.append(
                subprocess.Popen(
                    [tool(name), "-c", str(self._config), *args, "-f"],
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "CEPH_CONF": str(self._config)},
                )
            )

    def _until(self, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + _WAIT_S
        while not ready():
            assert time.monotonic() < end, "Ceph does not come up"
            assert all(process.poll() is None for process in self.daemons), "a daemon of Ceph has ended"
            time.sleep(0.1)


def ceph(folder: Path) -> Server:
    port = free_port()
    command = [tool("radosgw"), "-c", str(folder / "ceph.conf"), "-n", "client.admin", "-f"]
    for name in ("ceph", "ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool", "radosgw-admin"):
        tool(name)
    options = {"key": KEY, "secret": SECRET, "endpoint_url": f"http://127.0.0.1:{port}", "region": "us-east-1"}
    return Ceph("s3", port, command, folder, options, host="ceph")
