"""A build on machines that you reach by SSH.

    pip install 'coco-diy[cluster]' asyncssh
    python conf/cluster/ssh.py conf/bicycle.yaml node1 node2

Run it in a folder that all machines have at the same path, with the Python that they have at the same path. Ports,
users and keys come from ~/.ssh/config. The first machine runs the scheduler as well.
"""

import os
import sys
import tempfile
from pathlib import Path

import dask
from distributed import Security, SSHCluster

import pipeline

#: Processes on each machine.
WORKERS = 2
#: The network on which the machines talk to each other, as `ip addr` calls it. Without a name, Dask listens on all of
#: them, also those that lead out of the building.
INTERFACE = os.environ.get("COCO_DIY_INTERFACE", "eth0")


def lay_key(folder: Path) -> None:
    """Have all that Dask starts encrypt what it says, with a key in `folder`, which only this user can enter."""
    made = Security.temporary()
    (folder / "certificate.pem").write_text(made.tls_ca_file)
    (folder / "key.pem").write_text(made.tls_client_key)
    keys = {"ca-file": folder / "certificate.pem"}
    for role in ("scheduler", "worker", "client"):
        keys |= {f"{role}.cert": folder / "certificate.pem", f"{role}.key": folder / "key.pem"}
    dask.config.set({f"distributed.comm.tls.{key}": str(path) for key, path in keys.items()})
    dask.config.set({"distributed.comm.require-encryption": True})


if __name__ == "__main__":
    config, *machines = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix=".coco-diy-key-", dir=Path.cwd()) as folder:
        lay_key(Path(folder))
        cluster = SSHCluster(
            [machines[0], *machines],
            worker_options={
                "nthreads": 1,
                "n_workers": WORKERS,
                "interface": INTERFACE,
                "preload": ["dask.dataframe", "pipeline.cluster.worker"],  # before a worker says that it is there
            },
            scheduler_options={"interface": INTERFACE, "protocol": "tls://", "dashboard": False},
            remote_python=sys.executable,
            security=Security(),
        )
        with cluster, cluster.get_client() as client:
            report = pipeline.build(config, client=client)
    print(report)
    sys.exit(report.exit_code)
