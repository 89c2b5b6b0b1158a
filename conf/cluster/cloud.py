"""A build on machines in the cloud, by Coiled; NOT TESTED.

    pip install 'coco-diy[cluster]' coiled
    python conf/cluster/cloud.py conf/bicycle.yaml

Run it on a machine that shares its workdir with the workers, such as one that Coiled starts with the same volume.
Source and target are stores; each worker's credentials are those of its machine's role, none are sent.
"""

import sys

import coiled

import pipeline

WORKERS = 4

if __name__ == "__main__":
    with (
        coiled.Cluster(n_workers=WORKERS, worker_cpu=2, credentials=None, shutdown_on_close=True) as cluster,
        cluster.get_client() as client,
    ):
        report = pipeline.build(sys.argv[1], client=client)
    print(report)
    sys.exit(report.exit_code)
