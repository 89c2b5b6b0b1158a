"""What is asked again: only what may pass, after waits that grow and differ, and each time is in the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import Interrupted
from pipeline.runtime.interrupt import STOP
from pipeline.runtime.log import LOG
from pipeline.storage.retry import (
    CONNECTION,
    LONGEST_ASKED_S,
    REQUEST,
    TRANSFER,
    Policy,
    asked_wait,
    retried,
    while_wanted,
)

POLICIES = st.builds(Policy, st.integers(1, 9), st.floats(0.001, 1), st.floats(1, 60))


def failing(count: int, error: Exception) -> Callable[[], str]:
    """What fails `count` times, then answers."""
    errors: Iterator[Exception] = iter([error] * count)

    def ask() -> str:
        for found in errors:
            raise found
        return "answer"

    return ask


def answer(ask: Callable[[], str], policy: Policy, waits: list[float]) -> str:
    return retried(ask, policy, lambda error: isinstance(error, OSError), lambda: "s3://b/k", waits.append)


@given(POLICIES, st.integers(0, 12))
def test_it_is_asked_as_often_as_the_policy_says(policy: Policy, failures: int) -> None:
    waits: list[float] = []
    if failures < policy.tries:
        assert answer(failing(failures, OSError("busy")), policy, waits) == "answer"
        assert len(waits) == failures
    else:
        with pytest.raises(OSError, match="busy"):
            answer(failing(failures, OSError("busy")), policy, waits)
        assert len(waits) == policy.tries - 1
    for n, wait in enumerate(waits):
        expected = min(policy.first_s * 2**n, policy.longest_s)
        assert 0.5 * expected <= wait <= 1.5 * expected


def test_what_stays_as_it_is_is_asked_once() -> None:
    waits: list[float] = []
    with pytest.raises(ValueError, match="wrong key"):
        answer(failing(1, ValueError("wrong key")), REQUEST, waits)
    assert waits == []


def test_a_stop_ends_a_wait() -> None:
    with pytest.raises(Interrupted):
        retried(failing(1, OSError()), REQUEST, lambda _: True, lambda: "x", lambda _: STOP.set())
    STOP.clear()


@pytest.mark.parametrize("waits", [0, 1])
def test_an_answer_that_nobody_waits_for_is_asked_for_no_more(waits: int, caplog: pytest.LogCaptureFixture) -> None:
    ended = threading.Event()
    asked: list[int] = []

    def ask() -> None:
        asked.append(1)
        if not waits:
            ended.set()
        raise OSError("away")

    with caplog.at_level(logging.INFO, LOG.name), pytest.raises(OSError, match="away"), while_wanted(ended.is_set):
        retried(ask, REQUEST, lambda _: True, lambda: "x", lambda _: ended.set())
    assert (len(asked), len(caplog.messages)) == (1, waits)
    answer(failing(1, OSError()), REQUEST, [])  # this thread is as before


def test_each_retry_is_in_the_log_without_its_cure(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, LOG.name):
        answer(failing(2, OSError("the store is busy (503); run again")), REQUEST, [])
    assert [m.rpartition(" in ")[0] for m in caplog.messages] == [
        f"s3://b/k: the store is busy (503); try {n} of 3" for n in (2, 3)
    ]


@pytest.mark.parametrize("policy", [REQUEST, CONNECTION, TRANSFER])
def test_nobody_waits_for_minutes_unasked(policy: Policy) -> None:
    assert all(policy.wait(failures) <= 90 for failures in range(1, policy.tries))


@given(st.integers(0, 10**9))
def test_a_server_is_obeyed_but_not_for_ever(seconds: int) -> None:
    wait = asked_wait(str(seconds))
    assert wait is not None
    assert min(seconds, LONGEST_ASKED_S) <= wait <= 1.1 * LONGEST_ASKED_S
    assert asked_wait(None) is asked_wait("soon") is None
