"""Killed with `kill -9` at random moments, builds end in the bytes of a build that nobody disturbed.

COCO_DIY_KILLS says how many moments are drawn (`make test` few, `make torture` many), COCO_DIY_SEED which.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import CROWD_CONFIG, Run
from tests.support.helpers import contents, settle, write_file
from tests.support.torture import Case, command, files_below, torture

pytestmark = pytest.mark.torture

KILLS = int(os.environ.get("COCO_DIY_KILLS", "2"))
SEED = int(os.environ.get("COCO_DIY_SEED", "1"))
SWAPPED = ("--set", "classes=[{name: small, from: [bicycle, motorcycle]}, truck, bus, person]")
ENGINES = (
    ("--scheduler", "sync"),
    ("--scheduler", "threads", "--workers", "2"),
    ("--scheduler", "processes", "--workers", "2"),
)
BUCKETS = ("--set", "index.buckets=16")


class Ground:
    """Sources, an undisturbed first build and what each case must end in."""

    def __init__(self, folder: Path, crowd: Path, run: Run) -> None:
        self.folder, self.crowd, self.run = folder, crowd, run
        self.edited = folder / "edited"
        shutil.copytree(crowd, self.edited)
        self.config, self.edited_config = self._config(crowd), self._config(self.edited)
        self.built, self.edited_built = folder / "built", folder / "edited-built"
        started = time.monotonic()
        self._run(command(self.config, self.built, *BUCKETS))
        self.seconds = time.monotonic() - started + 1.0  # and what a process needs to start
        self.files = files_below(self.built)
        settle()  # a younger file would be read again, whoever was killed
        self._run(command(self.edited_config, self.edited_built, *BUCKETS))
        self._edit()
        settle()

    def _config(self, source: Path) -> Path:
        data: dict[str, Any] = CROWD_CONFIG | {
            "source": {
                "root": str(source),
                "names": str(source / "coco.yaml"),
                "splits": {"train": "train2017", "val": "val2017"},
            },
            "target": {"root": "out"},
        }
        return write_file(self.folder / f"{source.name}.yaml", yaml.safe_dump(data))

    def _edit(self) -> None:
        """Some labels change, come and go, and so do some images."""
        labels = sorted((self.edited / "labels/train2017").rglob("*.txt"))
        for path in labels[::7]:
            path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
        for path in labels[3::11]:
            path.unlink()
        for number in range(9):
            write_file(self.edited / f"labels/train2017/new{number}.txt", "0 0.5 0.5 0.1 0.1\n")
            write_file(self.edited / f"images/train2017/new{number}.jpg", f"new {number}")
        for path in sorted((self.edited / "images/val2017").rglob("*.*"))[::5]:
            path.write_bytes(path.read_bytes() + b"changed")

    def _run(self, words: list[str]) -> None:
        self.run(*words)

    def case(self, name: str, rng: random.Random) -> tuple[Case, Path]:
        """A case by name, and its source; what it must end in comes of a run that nobody disturbs."""
        engine = list(rng.choice(ENGINES))
        config, source, start, more = {
            "first": (self.config, self.crowd, None, ()),
            "swapped": (self.config, self.crowd, self.built, SWAPPED),
            "edited": (self.edited_config, self.edited, self.edited_built, ()),
            "edited and swapped": (self.edited_config, self.edited, self.edited_built, SWAPPED),
            "links": (self.config, self.crowd, self.built, ("--set", "target.images=hardlink")),
        }[name]
        clean = self.folder / "expected" / name
        if not clean.exists():
            self._run(command(config, clean, *BUCKETS, *more))
        words = command(config, self.folder / "tortured", *BUCKETS, *more, *engine)
        return Case(f"{name} on {engine[1]}", start, words, contents(clean / "out", record=True)), source


CASES = ("first", "edited and swapped", "first", "swapped", "edited", "links")


@pytest.fixture(scope="module")
def ground_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("torture")


@pytest.mark.slow
def test_killed_at_random_moments(ground_folder: Path, crowd: Path, run: Run) -> None:
    ground = Ground(ground_folder, crowd, run)
    for number in range(KILLS):
        rng = random.Random(f"{SEED}-{number}")
        case, source = ground.case(CASES[number % len(CASES)], rng)
        told = torture(case, ground.folder / "tortured", source, rng, ground.files, ground.seconds, run)
        print(f"{number + 1}/{KILLS} {told}")
