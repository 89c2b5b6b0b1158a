"""When a web server is asked next: as often as the user allows, and less often when it says that it is busy.

And when more is taken of what it sends.
"""

from __future__ import annotations

from pipeline.runtime.counters import FETCHED, REQUESTS, count
from pipeline.storage.retry import Policy, asked_wait

#: Without a word from the server of how often it may be asked: what a first complaint makes of it, and how the seconds
#: between two requests grow with each complaint and shrink with each answer.
_FIRST_GAP_S, _LONGEST_GAP_S, _GROW, _SHRINK = 0.001, 1.0, 1.5, 0.98

#: So much time in which nothing came is made up for.
_CREDIT_S = 0.1


class Pace:
    """The seconds between two requests: at least those of `per_second`, more for a server that is busy."""

    def __init__(self, per_second: float | None) -> None:
        self._least = self._gap = 1 / per_second if per_second else 0.0
        self._not_before = self._slowed = 0.0

    def wait(self, now: float) -> float:
        """Seconds from `now` (of `time.monotonic`) until the next request may begin; 0 where it may."""
        return max(0.0, self._not_before - now)

    def began(self, now: float) -> None:
        """A request begins."""
        count(REQUESTS)
        self._not_before = max(self._not_before, now) + self._gap

    def answered(self) -> None:
        """The server gave what it was asked for: it may be asked a little more often."""
        gap = self._gap * _SHRINK
        self._gap = gap if gap > max(self._least, _FIRST_GAP_S / 2) else self._least

    def busy(self, now: float, begun: float) -> None:
        """The server was too busy for a request that had begun at `begun`.

        Those that were under way together complain together, which slows down once.
        """
        if begun > self._slowed:
            self._gap = min(max(self._gap * _GROW, _FIRST_GAP_S), max(_LONGEST_GAP_S, self._least))
            self._slowed = now

    def back_off(self, now: float, policy: Policy, attempts: int, asked: str | None) -> float:
        """When a request that failed `attempts` times in a row is tried again; `asked` is its answer's Retry-After.

        For as long as a server asks for nothing at all is asked of it.
        """
        seconds = asked_wait(asked)
        if seconds is None:
            return now + policy.wait(attempts)
        self._not_before = max(self._not_before, now + seconds)
        return now + seconds


class Flow:
    """Bytes of all connections together, at most `per_second` of them; None: no limit."""

    def __init__(self, per_second: int | None) -> None:
        self._per_second = per_second
        self._due = 0.0

    def wait(self, now: float) -> float:
        """Seconds from `now` (of `time.monotonic`) until more may be taken; 0 where it may."""
        return max(0.0, self._due - now)

    def came(self, octets: int, now: float) -> None:
        """So many bytes were taken."""
        count(FETCHED, octets)
        if self._per_second:
            self._due = max(self._due, now - _CREDIT_S) + octets / self._per_second
