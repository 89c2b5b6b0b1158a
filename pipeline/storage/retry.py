"""What is asked again, how often, and after which waits: one policy for stores, web servers and downloads.

Only what may pass by itself is asked again: an answer that the server is busy or ill (`PASSING`), a connection that
broke, a time-out, bytes that came short or damaged. What stays the same until somebody corrects it (a wrong key, a
missing bucket, a full store, 404) is given up at the first answer.

Waits double, and are random by half, so that requests which failed together do not come back together. A server's
Retry-After counts in their stead, up to `LONGEST_ASKED_S`. Tries count in a row; for a transfer that gets on they begin
anew. There is no deadline beside them: what stalls for `fetch.timeout` seconds counts as broken. A thread whose answer
nobody waits for any more gives up at once (`while_wanted`): it would go on asking, and logging, amid the next run of
this process. Below a store's tries obstore has its own for each request, up to 120 s
(`stores.credentials.client_options`).
"""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from pipeline.base.text import whole_number
from pipeline.runtime.interrupt import check_stop
from pipeline.runtime.log import LOG

R = TypeVar("R")

#: Answers of HTTP that say: not now.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})

LONGEST_ASKED_S = 600.0

#: Its own: a program that has seeded the numbers of `random` keeps them.
CHANCE = random.Random()

#: `ended`: what says that nobody waits for the answers of this thread, see `while_wanted`.
_ANSWERS = threading.local()


@dataclass(frozen=True)
class Policy:
    """So many `tries` in a row. The waits between them grow from `first_s` to `longest_s` seconds."""

    tries: int
    first_s: float
    longest_s: float = math.inf

    def wait(self, failures: int) -> float:
        """Seconds until the next try after `failures` in a row, from 1."""
        return min(self.longest_s, self.first_s * 2.0 ** (failures - 1)) * CHANCE.uniform(0.5, 1.5)


#: A request to a store.
REQUEST = Policy(3, 0.2)

#: A connection to a server of files (SFTP, FTP, SMB) that is to be opened again.
CONNECTION = Policy(9, 0.1, 10.0)

#: A transfer from a web server; and one from where not a byte ever came, whose address may be wrong.
TRANSFER, FIRST_TRANSFER = Policy(8, 0.5, 60.0), Policy(5, 0.5, 60.0)

#: A file that changed while it was fetched, or has to come by one answer, and is begun anew.
FILE = Policy(3, 0.0)


def retried(
    ask: Callable[[], R],
    policy: Policy,
    passing: Callable[[Exception], bool],
    name: Callable[[], str],
    pause: Callable[[float], object] = time.sleep,
) -> R:
    """What `ask` returns, tried again by `policy` where its error is `passing`; `name` is what the log calls it.

    Raises the last error, and `Interrupted` where a stop was asked for during a wait.
    """
    failures = 0
    while True:
        try:
            return ask()
        except Exception as error:
            failures += 1
            if failures >= policy.tries or not passing(error) or not wanted():
                raise
            seconds = policy.wait(failures)
            log_retry(name(), str(error), failures, policy, seconds)
            pause(seconds)
            check_stop()
            if not wanted():
                raise


@contextlib.contextmanager
def while_wanted(ended: Callable[[], bool]) -> Iterator[None]:
    """While inside, this thread tries nothing again once `ended` says that nobody waits for its answers."""
    before: Callable[[], bool] | None = getattr(_ANSWERS, "ended", None)
    _ANSWERS.ended = ended
    try:
        yield
    finally:
        _ANSWERS.ended = before


def wanted() -> bool:
    """Whether somebody waits for the answers of this thread, see `while_wanted`."""
    ended: Callable[[], bool] | None = getattr(_ANSWERS, "ended", None)
    return ended is None or not ended()


def log_retry(name: str, reason: str, failures: int, policy: Policy, seconds: float) -> None:
    """Log that `name` is tried again in so many `seconds`; of `reason` its cure is left out."""
    why = reason.partition(";")[0]
    LOG.info("%s: %s; try %d of %d in %.1f s", name, why, failures + 1, policy.tries, seconds)


def retry_after(text: str | None) -> float | None:
    """Seconds that a Retry-After asks for: a number, or a date (RFC 9110, 10.2.3)."""
    if not text:
        return None
    if (seconds := whole_number(text)) is not None:
        return float(seconds)
    import email.utils

    try:
        return email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None


def asked_wait(text: str | None) -> float | None:
    """Seconds to wait by a Retry-After of `text`, a little more than it asks for; None where it asks for none."""
    seconds = retry_after(text)
    return None if seconds is None else max(min(seconds, LONGEST_ASKED_S), 0.0) * CHANCE.uniform(1.0, 1.1)
