"""A stop is bounded from its signal on, and by nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from pipeline.runtime import interrupt
from pipeline.runtime.interrupt import STOP, stop_bounded
from tests.support.helpers import PROJECT

#: A run whose main thread is inside of a library for minutes.
AMID = """
import hashlib
import pipeline.cli
from pipeline.__main__ import main
from pipeline.runtime import interrupt
interrupt.MOST_SECONDS = 0.2
def inside():
    print("inside", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
pipeline.cli.run_cli = inside
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_library_that_does_not_come_back_is_ended(number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", AMID],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "inside\n"
        process.send_signal(number)
        try:
            assert process.wait(60) == 128 + number
            assert process.stderr.read() == "coco-diy: stopped; run the same command again to go on\n"
        finally:
            process.kill()


def test_an_error_that_stops_threads_does_not_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine sets the flag for a moment when a task has failed; recording that may take longer than a stop may."""
    monkeypatch.setattr(interrupt, "MOST_SECONDS", 0.01)
    ended = threading.Event()
    with stop_bounded(ended.set):
        STOP.set()
        STOP.clear()
        assert not ended.wait(0.2)
