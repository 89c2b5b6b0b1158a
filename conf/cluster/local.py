"""A build on Dask worker processes of this machine.

    pip install 'coco-diy[cluster]' cryptography
    python conf/cluster/local.py conf/bicycle.yaml

It shows how a config behaves on a cluster. To be fast on one machine takes none of this: `engine.scheduler: auto` is.
"""

import sys

from distributed import LocalCluster

import pipeline

WORKERS = 2

if __name__ == "__main__":
    cluster = LocalCluster(
        n_workers=WORKERS,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        preload=["dask.dataframe", "pipeline.cluster.worker"],  # imported before a worker says that it is there
        security=True,  # a key of this run alone: other users of the machine cannot join
    )
    with cluster, cluster.get_client() as client:
        report = pipeline.build(sys.argv[1], client=client)
    print(report)
    sys.exit(report.exit_code)
