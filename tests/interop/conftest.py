"""The trainers' environment, targets of every task, and what a reader says of them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.helpers import PROJECT, run_process

PYTHON = PROJECT / ".interop/bin/python"

Reader = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def read(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Call a function of `readers` in the trainers' environment, once for each tuple of arguments, in one process.

    `beside` names a folder of the environment whose packages come first: the older Ultralytics, or RF-DETR.
    """
    if not PYTHON.exists():
        told = "there is no environment of trainers; `make test-interop` installs it"
        if os.environ.get("COCO_DIY_REQUIRE_SERVERS"):
            pytest.fail(told)
        pytest.skip(told)
    settings = tmp_path_factory.mktemp("settings")

    def call(function: str, *calls: tuple[str | Path, ...], beside: str | None = None) -> list[dict[str, Any]]:
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
            "YOLO_CONFIG_DIR": str(settings),
            "YOLO_AUTOINSTALL": "false",
            "YOLO_OFFLINE": "true",
        }
        if beside is not None:
            env["PYTHONPATH"] = str(PYTHON.parents[1] / beside)
        done = subprocess.run(
            [PYTHON, PROJECT / "tests/interop/readers.py", function],
            text=True,
            env=env,
            input=json.dumps(calls, default=str),
            cwd=settings,
            capture_output=True,
            check=False,
            timeout=1500,  # all configs of mmdetection, on a busy machine
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return found

    return call


Make = Callable[..., Path]


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Convert a folder; the same words give the same target again."""
    known: dict[tuple[str, ...], Path] = {}

    def made(source: Path, *words: str) -> Path:
        key = (str(source), *words)
        if key not in known:
            folder = tmp_path_factory.mktemp("made")
            told = run_process("convert", source, folder / "target", "--workdir", folder / "work", *words)
            assert told.code == 0, told.err
            known[key] = folder / "target"
        return known[key]

    return made
