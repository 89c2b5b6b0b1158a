"""Many builds at once in one workdir, some of them of one target: each ends well, or says what is in use.

COCO_DIY_BUILDS says how many (`make test` few, `make torture` more).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Run
from tests.support import kinds
from tests.support.helpers import PROJECT, contents, settle, write_file
from tests.support.kinds import Kind

pytestmark = [pytest.mark.torture, pytest.mark.slow]

#: So many builds at once, of so many targets.
BUILDS = int(os.environ.get("COCO_DIY_BUILDS", "4"))
TARGETS = BUILDS * 4 // 5


def _begin(config: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "build", str(config), "-q"],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _until_all_are_done(configs: list[Path]) -> int:
    """Begin all, and again those that found something in use; returns how many did."""
    busy, todo = 0, configs
    for _ in configs:
        running = [(config, _begin(config)) for config in todo]
        ends = [(config, process.communicate(timeout=600)[1], process.returncode) for config, process in running]
        for _, err, code in ends:
            assert code == 0 or (code == 5 and "in use by" in err), (code, err)
        todo = [config for config, _, code in ends if code]
        busy += len(todo)
        if not todo:
            return busy
    raise AssertionError(f"{todo}: in use after {len(configs)} rounds")


def test_builds_of_different_targets_and_of_one(crowd: Path, tmp_path: Path, run: Run) -> None:
    makers = (kinds.folders, kinds.split, kinds.zip_target, kinds.coco_json, kinds.labelme)
    sources: list[Kind] = [make(tmp_path / make.__name__ / "alone", crowd) for make in makers]
    settle()
    expected, configs = [], list[Path]()
    for number in range(TARGETS):
        config: dict[str, Any] = sources[number % len(sources)].config
        alone, crowded = tmp_path / f"alone/{number}/out", tmp_path / f"crowded/{number}/out"
        for root, workdir in ((alone, tmp_path / f"alone/{number}/work"), (crowded, tmp_path / "crowded/work")):
            one = config | {"target": config["target"] | {"root": str(root)}, "workdir": str(workdir)}
            path = write_file(root.parent / "c.yaml", yaml.safe_dump(one))
        run("build", alone.parent / "c.yaml")
        expected.append(contents(alone))
        configs.append(path)
    _until_all_are_done([*configs, *configs[: BUILDS - TARGETS]])
    for path, wanted in zip(configs, expected, strict=True):
        assert contents(path.parent / "out") == wanted
        assert run("verify", path, "--deep", "--json").json["differences"] == {}
        assert run("build", path, "--json").json["status"] == "nothing to do"
    assert not list((tmp_path / "crowded/work").rglob("*.tmp"))
