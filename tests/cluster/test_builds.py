"""Builds on a cluster make the bytes that a build in one process makes, and leave nothing of the run behind."""

from __future__ import annotations

from tests.cluster.conftest import Cluster
from tests.conftest import Subset
from tests.support.helpers import contents


def left_of_runs(subset: Subset) -> list[str]:
    """What runs on a cluster leave: nothing."""
    return [
        str(path)
        for folder in (subset.workdir / "cluster", subset.target / ".coco-diy" / "tmp")
        for path in folder.rglob("*")
    ]


def test_the_bytes_of_one_process(wanted: Subset, expected: dict[str, bytes], cluster: Cluster) -> None:
    cluster.start(2)
    wanted.build("--scheduler", cluster.address, "--set", "index.buckets=7")
    assert contents(wanted.target, record=True) == expected
    assert left_of_runs(wanted) == []
    told = wanted.build("--scheduler", cluster.address, "--set", "index.buckets=7")
    assert told["status"] == "nothing to do"
