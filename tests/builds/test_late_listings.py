"""A store whose listings lack the newest keys for a while: what is asked for by its name is there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.storage.stores import lease
from tests.conftest import Run
from tests.support import kinds
from tests.support.ground import Ground
from tests.support.helpers import settle, write_file
from tests.support.kinds import Kind
from tests.support.proxy import Proxy


@pytest.fixture
def late(tmp_path: Path, crowd: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Ground, Proxy]]:
    monkeypatch.setenv("COCO_DIY_LOCAL", str(tmp_path / "S3-s3/options"))
    monkeypatch.setattr(lease, "CLAIM_S", 0.05)
    with kinds.store(tmp_path / "S3", crowd) as kind:
        assert kind.server is not None
        proxy = Proxy(kind.server.port)
        options = kind.server.options | {"endpoint_url": f"http://127.0.0.1:{proxy.port}"}
        write_file(kind.server.folder / "options/storage.yaml", yaml.safe_dump({"s3": options}))
        settle()
        yield Ground(kind, tmp_path / "state", run), proxy
        proxy.close()


def _orphans(kind: Kind) -> list[str]:
    """Parts at the target that no manifest names."""
    state = kind.target / ".coco-diy"
    manifest = (state / "manifest.json").read_text()
    return [path.name for path in state.glob("**/manifest/*.parquet") if path.stem not in manifest]


@pytest.mark.servers
@pytest.mark.parametrize("count", [1, 40, 100_000])
def test_listings_that_lack_the_newest_keys(late: tuple[Ground, Proxy], count: int) -> None:
    ground, proxy = late
    kind, rng = ground.kind, random.Random(count)
    ground.reset("nothing")
    changes = [[], kind.swapped, [], ["--set", "index.buckets=8"], kind.swapped]
    for more in changes:
        proxy.late = count
        words = kind.command(*more)
        expected = ground.swapped if more == kind.swapped else ground.expected
        ground.run(words)
        assert kind.result() == expected, more
        target = kind.config["target"]["root"]
        assert ground.run(["verify", target, "--deep", "--json"]).json["differences"] == {}
        assert ground.run([*words, "--json"]).json["status"] == "nothing to do"
        proxy.late = rng.choice((0, count))
    assert proxy.hidden
    proxy.late = 0
    ground.run([*kind.command(), "-q"])
    assert kind.result() == ground.expected
    assert _orphans(kind) == []
