"""Helper processes that are killed, or stopped while they answer: nobody waits for them for ever."""

from __future__ import annotations

import array
import fcntl
import os
import signal
import termios
import threading
from typing import Any

import pytest

from pipeline.base.errors import CocoDiyError
from pipeline.runtime.engine import FILES_WORTH_HELPERS, Engine
from pipeline.runtime.helpers import Helpers


def _answering(pool: Helpers, octets: int) -> None:
    """Return when a helper has begun to answer with more than a pipe holds."""
    pool.submit(int).result()
    pool.submit(bytes, octets)
    waiting = array.array("i", [0])
    results: Any = pool._result_queue
    while not waiting[0]:
        fcntl.ioctl(results._reader.fileno(), termios.FIONREAD, waiting)


def test_a_run_that_is_stopped_while_a_helper_answers_ends() -> None:
    engine = Engine("auto", 2)
    _answering(engine.pool(), 200 << 20)
    ending = threading.Thread(target=engine.__exit__, args=(None, None, None), daemon=True)
    ending.start()
    ending.join(30)
    assert not ending.is_alive()


def _die_once(marker: str, number: int) -> int:
    try:
        os.close(os.open(f"{marker}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return number
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _die_in_a_helper(parent: int, number: int) -> int:
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_helper_leaves_its_work_to_this_process() -> None:
    with Engine("auto", 2) as engine:
        tasks = [(os.getpid(), number) for number in range(20)]
        assert sorted(engine.map(_die_in_a_helper, tasks, files=FILES_WORTH_HELPERS)) == list(range(20))
        assert engine.background(len, "abc")() == 3


def test_a_killed_worker_is_told_in_a_sentence(tmp_path: object) -> None:
    with Engine("processes", 2) as engine:
        tasks = [(f"{tmp_path}/marker", number) for number in range(20)]
        with pytest.raises(CocoDiyError, match="a worker process was killed"):
            list(engine.map(_die_once, tasks, files=1))


def test_an_interrupt_that_meets_a_helper_as_it_starts() -> None:
    """A terminal's Ctrl-C is for the parent alone, also while a helper is still importing what it needs."""
    with Engine("processes", 1) as engine:
        answer = engine.background(os.getpid)
        (helper,) = engine.pool()._processes
        done = threading.Event()

        def interrupt() -> None:
            while not done.wait(0.002):
                os.kill(helper, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            assert answer() == helper
        finally:
            done.set()
            thread.join()
