"""Progress: seen while a batch is under way, on a terminal and in a log."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator

import pytest

from pipeline.runtime import counters
from pipeline.runtime.engine import Engine
from pipeline.runtime.progress import Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def work(progress: Progress, *, unit: str = "files", total: int = 100) -> None:
    """A stage of two batches, the first of which takes longer than it takes until a bar is shown."""
    with progress.stage("apply", total, unit) as step:
        for _ in range(50):
            counters.count_file()
        time.sleep(1.5)
        step.add(60)
        time.sleep(0.4)
        step.add(40)


@pytest.mark.slow
def test_a_bar_moves_while_the_first_batch_is_under_way() -> None:
    stream = Terminal()
    work(Progress(stream, quiet=False))
    shown = [int(done) for done in re.findall(r"(\d+)/100 ", stream.getvalue())]
    assert 50 in shown
    assert 60 in shown
    assert shown[-1] == 100
    assert "apply" in stream.getvalue()
    assert " files/s" in stream.getvalue()


@pytest.mark.slow
def test_buckets_are_counted_when_they_are_done() -> None:
    stream = Terminal()
    work(Progress(stream, quiet=False), unit="buckets")
    assert next(int(n) for n in re.findall(r"(\d+)/100 ", stream.getvalue())) == 0


@pytest.mark.slow
def test_a_log_tells_at_intervals() -> None:
    stream = io.StringIO()
    work(Progress(stream, quiet=False, log_every=0.5))
    lines = stream.getvalue().splitlines()
    assert len(lines) >= 2
    assert re.fullmatch(r"\d\d:\d\d:\d\d apply: 50 of 100 files, \d+ files/s, \d+ s left", lines[0])


def test_short_stages_are_silent() -> None:
    for stream in (Terminal(), io.StringIO()):
        with Progress(stream, quiet=False).stage("plan", 4, "buckets") as step:
            step.add(4)
        assert stream.getvalue() == ""


@pytest.mark.slow
def test_quiet_is_quiet() -> None:
    stream = Terminal()
    work(Progress(stream, quiet=True))
    assert stream.getvalue() == ""


@pytest.mark.slow
def test_a_total_that_is_not_known() -> None:
    stream = io.StringIO()
    work(Progress(stream, quiet=False, log_every=0.5), total=0)
    assert re.fullmatch(r"\d\d:\d\d:\d\d apply: 50 files, \d+ files/s", stream.getvalue().splitlines()[0])


def _count(files: int) -> int:
    for _ in range(files):
        counters.count_file()
    return files


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine("processes", 2) as found:
        yield found


def test_helpers_are_counted_too(engine: Engine) -> None:
    before = counters.files_counted()
    assert sum(engine.map(_count, [(30,), (12,)], files=10**6)) == 42
    assert counters.files_counted() - before == 42
