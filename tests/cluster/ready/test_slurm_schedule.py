"""`conf/schedule/slurm.sh` on a real SLURM: submitted by hand, and with the options that scrontab would give it.

scrontab itself is in no package of Debian or Ubuntu; what it does is to submit the script with the options of #SCRON.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.test_schedule_files import home as home  # noqa: PLC0414 - a fixture
from tests.cli.test_schedule_files import is_built, text_at
from tests.support.slurm import Slurm

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")

#: The nodes of the tests have less memory than a job asks for.
FITTING = "--mem=1G"


@pytest.mark.parametrize("by", ["sbatch", "scrontab"])
def test_a_night(slurm: Slurm, home: Path, by: str) -> None:
    text = text_at("slurm.sh", home)
    script = home / "slurm.sh"
    script.write_text(text if by == "sbatch" else re.sub(r"^#SBATCH.*\n", "", text, flags=re.MULTILINE))
    script.chmod(0o755)
    options = [] if by == "sbatch" else re.findall(r"^#SCRON (--.+)$", text, re.MULTILINE)
    command = str(script) if by == "sbatch" else re.findall(r"^# 17 3 \* \* \* (.+)$", text, re.MULTILINE)[0]
    for night in ("built", "nothing to do"):
        job = slurm.submit(home, *shlex.split(" ".join(options)), FITTING, command)
        assert slurm.until_state(job, *ENDED, seconds=120) == "COMPLETED", slurm.facts(job)
        output = home / (f"nightly-{job}.out" if by == "sbatch" else "nightly.out")
        assert output.read_text() == ""
        assert f" info ends with exit code 0 ({night})" in (home / "nightly.log").read_text()
        assert slurm.facts(job)["CPUs/Task"] == "4"
    assert is_built(home)
    assert (home / "bikes/data.yaml").exists()


@pytest.mark.parametrize("kind", ["SBATCH", "SCRON"])
def test_the_signal_before_the_end_reaches_the_command(slurm: Slurm, home: Path, kind: str) -> None:
    """And not only steps of the job, of which it has none."""
    text = text_at("slurm.sh", home)
    script = home / "slurm.sh"
    script.write_text(re.sub(r"^#SBATCH.*\n", "", text, flags=re.MULTILINE))
    (signal,) = re.findall(rf"^#{kind} (--signal=.+)$", text, re.MULTILINE)
    command = home / ".venv/bin/coco-diy"
    command.write_text("#!/bin/sh\ntrap 'touch stopped; exit 143' TERM\nwhile :; do sleep 0.1; done\n")
    job = slurm.submit(home, signal, "--time=2", str(script))  # of two minutes the last two begin at once
    slurm.until(lambda: (home / "stopped").exists() or slurm.facts(job)["JobState"] in ENDED, seconds=120)
    assert (home / "stopped").exists()
    assert slurm.until_state(job, *ENDED) == "FAILED"  # by what it ended with: its time is not over
    assert slurm.facts(job)["ExitCode"] == "143:0"
