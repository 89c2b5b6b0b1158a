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


#: A run that goes on after three signals, as one that waits for what it has under way.
THRICE = """
import os, signal, time
from pipeline.runtime.interrupt import stop_bounded
signal.signal(signal.SIGTERM, lambda number, frame: None)
with stop_bounded(lambda: None):
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
"""

#: A run that is ended while it has helpers.
WITH_HELPERS = """
import os
from pipeline.runtime.helpers import start_helpers
helpers = start_helpers(1, needs_pandas=False)
helpers.submit(int).result()
os._exit(0)
"""


@pytest.mark.parametrize("run", [THRICE, WITH_HELPERS])
def test_a_run_that_is_stopped_leaves_no_lines_of_python(run: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    ended = subprocess.run([sys.executable, "-c", run], env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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
