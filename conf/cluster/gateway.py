"""A build by dask-gateway; NOT TESTED.

    pip install 'coco-diy[cluster]' dask-gateway
    python conf/cluster/gateway.py conf/bicycle.yaml

The image of the gateway's workers must have coco-diy in the version that runs here. Address and login of the gateway
are in ~/.config/dask/gateway.yaml. Source, workdir and target must be what its workers see: a shared disk, or stores
with a workdir on a shared disk.
"""

import sys

from dask_gateway import Gateway

import pipeline

WORKERS = 4

if __name__ == "__main__":
    with Gateway().new_cluster() as cluster, cluster.get_client() as client:
        cluster.adapt(minimum=WORKERS, maximum=WORKERS)
        report = pipeline.build(sys.argv[1], client=client)
    print(report)
    sys.exit(report.exit_code)
