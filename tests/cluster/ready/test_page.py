"""The page *On a cluster*: what it tells a newcomer to type works on a real SLURM."""

from __future__ import annotations

import shlex

import pytest
import yaml

from tests.cluster.ready.conftest import Work
from tests.support.helpers import run_process
from tests.support.slurm import Slurm
from tests.test_docs import PAGES, blocks

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

PAGE = "conf/cluster/README.md"


def typed(program: str) -> list[list[str]]:
    """The words of what begins with `program` in the shell blocks of the page, without the first."""
    assert PAGE in PAGES
    lines = [
        line.partition("#")[0] for block in blocks(PAGE) if block.language == "sh" for line in block.text.splitlines()
    ]
    return [shlex.split(line)[1:] for line in lines if line.startswith(program)]


def test_from_a_fresh_account_to_a_finished_job(slurm: Slurm, work: Work) -> None:
    inits = [words for words in typed(".venv/bin/coco-diy") if words[0] == "init"]
    assert len(inits) >= 2
    for words in inits:
        assert run_process(*words, cwd=work.folder).code == 0
    [(script, config)] = typed("sbatch conf/cluster/slurm.sbatch")
    assert "source" in yaml.safe_load((work.folder / config).read_text())
    (work.folder / config).write_text(work.config.read_text())  # ours, which needs no internet, under its name
    job = slurm.submit(work.folder, "--cpus-per-task=1", script, config)
    assert slurm.until_state(job, "COMPLETED", "FAILED", "CANCELLED", seconds=120) == "COMPLETED"
    assert work.made() == work.expected
    assert "\nBuilt " in (work.folder / f"coco-diy-{job}.log").read_text()
