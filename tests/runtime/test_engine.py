"""What is begun in this process is done once, and before anything that counts on it."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from pipeline.runtime.engine import FILES_WORTH_HELPERS, Engine


@pytest.mark.parametrize("scheduler", ["auto", "sync", "threads"])
def test_what_was_begun_is_done_once_and_before_a_frame(scheduler: str) -> None:
    import dask.dataframe as dd

    done: list[str] = []
    with Engine(scheduler, 2) as engine:
        engine.begin(lambda: done.append("begun"))
        list(engine.map(done.append, [("task",)], files=1))
        assert done == ["task"]  # so little may need no frame
        for _ in range(2):
            engine.compute(lambda: dd.from_map(_rows, [1]), [0], lambda _: done.append("frame"))
    assert done == ["task", "begun", "frame", "frame"]


def test_an_answer_from_a_helper_waits_for_what_was_begun() -> None:
    done: list[str] = []
    with Engine("auto", 2) as engine:
        engine.begin(lambda: done.append("begun"))
        answer = engine.background(len, "abc")
        assert answer() == 3
        assert done == ["begun"]


def _rows(count: int) -> Any:
    import pandas as pd

    return pd.DataFrame({"a": range(count)})


def test_a_frame_waits_for_what_a_thread_still_does() -> None:
    """Helpers may have done all tasks before this process has imported what the frame needs."""
    import dask.dataframe as dd
    import pandas as pd

    frame = dd.from_map(_rows, [2], meta=pd.DataFrame({"a": [0]}))
    begun, go_on, done = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        go_on.wait(30)
        done.append("begun")

    with Engine("auto", 2) as engine:
        engine.begin(work)
        assert list(engine.map(len, [("abc",)], files=FILES_WORTH_HELPERS)) == [3]
        assert begun.wait(30)
        threading.Timer(0.1, go_on.set).start()
        parts = engine.compute(lambda: frame, [0], lambda _: done.append("part"))
    assert [len(part) for part in parts] == [2]
    assert done == ["begun", "part"]


def who(_: int) -> int:
    return os.getpid()


@pytest.mark.parametrize(
    ("tasks", "files", "running", "shared"),
    [
        (1, 4 * FILES_WORTH_HELPERS, False, False),
        (1, 4 * FILES_WORTH_HELPERS, True, False),
        (4, 2 * FILES_WORTH_HELPERS - 1, False, False),
        (4, 2 * FILES_WORTH_HELPERS, False, True),
        (4, FILES_WORTH_HELPERS, True, True),
        (4, FILES_WORTH_HELPERS - 1, True, False),
    ],
)
def test_helpers_share_what_is_worth_it(tasks: int, files: int, running: bool, shared: bool) -> None:
    with Engine("auto", 2) as engine:
        if running:
            assert engine.pool().submit(who, 0).result() != os.getpid()
        did = set(engine.map(who, [(n,) for n in range(tasks)], files=engine.weight(files)))
        assert bool(did - {os.getpid()}) == shared
        assert (engine._pool is not None) == (running or shared)
