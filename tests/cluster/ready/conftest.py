"""The ready files of `conf/cluster`, run for real. Fixtures: a SLURM, and builds that last as long as a test needs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.helpers import NAMES, contents, make_tree, run_process, settle, write_file
from tests.support.pace import Pace, paced
from tests.support.slurm import Slurm
from tests.support.stores import tool


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A SLURM of two nodes, see `tests.support.slurm`."""
    for name in ("munged", "slurmctld", "slurmd", "sbatch"):
        tool(name)
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


@dataclass
class Work:
    """A folder to submit from, with the config of a build whose images come from a web server at a `pace`."""

    folder: Path
    pace: Pace
    images: int
    expected: dict[str, bytes]

    @property
    def config(self) -> Path:
        return self.folder / "subset.yaml"

    def made(self) -> dict[str, bytes]:
        return contents(self.folder / "subset")


_BUCKETS = 16


@pytest.fixture(scope="session")
def _source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = random.Random(14)
    labels = {
        f"{split}2017": {
            f"{number:06d}": "".join(f"{rng.randrange(len(NAMES))} 0.5 0.5 0.{n + 1} 0.2\n" for n in range(5))
            for number in range(count)
        }
        for split, count in (("train", 120), ("val", 30))
    }
    return make_tree(tmp_path_factory.mktemp("source") / "source", labels, {})


@pytest.fixture(scope="session")
def _web() -> Iterator[Pace]:
    with paced() as pace:
        yield pace


@pytest.fixture(scope="session")
def _expected(_source: Path, _web: Pace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The subset as one thread makes it."""
    folder = tmp_path_factory.mktemp("expected")
    _write_config(folder, _source, _web.url)
    settle()
    done = run_process("build", "subset.yaml", "--scheduler", "sync", cwd=folder)
    assert done.code == 0, done.err
    return contents(folder / "subset")


def _write_config(folder: Path, source: Path, url: str) -> None:
    splits = {
        split: {"labels": f"labels/{split}2017", "images": {"url": f"{url}/{split}2017", "suffix": ".jpg"}}
        for split in ("train", "val")
    }
    data = {
        "source": {"names": str(source / "coco.yaml"), "root": str(source), "splits": splits},
        "classes": ["bicycle", "car"],
        "target": {"root": "subset"},
        "index": {"buckets": _BUCKETS},
        "fetch": {"connections": 2},
    }
    write_file(folder / "subset.yaml", yaml.safe_dump(data, sort_keys=False))


@pytest.fixture
def work(_source: Path, _web: Pace, _expected: dict[str, bytes], tmp_path: Path) -> Iterator[Work]:
    """A build that is not begun."""
    _write_config(tmp_path, _source, _web.url)
    _web.asked.clear()
    _web.seconds = 0
    yield Work(tmp_path, _web, sum(name.startswith("images/") for name in _expected), _expected)
    _web.seconds = 0
