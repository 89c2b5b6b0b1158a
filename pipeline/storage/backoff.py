"""How long to wait before a request is sent again."""

from __future__ import annotations

import random
import time

#: Its own: a program that has seeded the numbers of `random` keeps them.
CHANCE = random.Random()


def retry_after(text: str | None) -> float | None:
    """Seconds that a Retry-After asks for: a number, or a date (RFC 9110, 10.2.3)."""
    if not text:
        return None
    if text.isdecimal():
        return float(text)
    import email.utils

    try:
        return email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None


_FIRST_WAIT_S = 0.2


def wait_after(attempt: int) -> float:
    """Seconds until the next of several tries; `attempt` counts from 0."""
    return _FIRST_WAIT_S * 2.0**attempt * CHANCE.uniform(0.5, 1.5)
