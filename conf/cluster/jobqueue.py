"""A build on Dask workers that are SLURM, PBS, LSF or SGE jobs.

    pip install 'coco-diy[cluster]' dask-jobqueue cryptography
    python conf/cluster/jobqueue.py conf/bicycle.yaml

For sites that allow a process of yours on the login node, or in a small job, for as long as the build takes. On SLURM
slurm.sbatch needs neither. dask-jobqueue's last release is of August 2024; it is tested here on SLURM alone.
"""

import os
import sys

from dask_jobqueue import SLURMCluster  # or PBSCluster, LSFCluster, SGECluster, HTCondorCluster

import pipeline

JOBS = 2
#: The network that leads to the nodes, as `ip addr` calls it on the machine that runs this.
INTERFACE = os.environ.get("COCO_DIY_INTERFACE", "ib0")

if __name__ == "__main__":
    cluster = SLURMCluster(
        cores=1,
        processes=1,
        memory="2GB",
        walltime="04:00:00",
        # queue="short", account="myproject", job_extra_directives=["--constraint=fast"],
        python=sys.executable,
        interface=INTERFACE,
        scheduler_options={"interface": INTERFACE, "dashboard": False},
        worker_extra_args=["--preload", "dask.dataframe", "--preload", "pipeline.cluster.worker"],  # before it is there
        protocol="tls://",
        security=True,  # a key of this run alone
        shared_temp_directory=os.getcwd(),
        log_directory="dask-logs",
    )
    with cluster, cluster.get_client() as client:
        cluster.adapt(minimum=JOBS, maximum=JOBS)  # scale() does not replace jobs that end; adapt() does
        report = pipeline.build(sys.argv[1], client=client)
    print(report)
    sys.exit(report.exit_code)
