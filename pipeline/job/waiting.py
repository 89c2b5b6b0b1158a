"""Patience with what another run uses: a target, an index."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pipeline import storage
from pipeline.base.errors import LockError
from pipeline.runtime.interrupt import check_stop
from pipeline.runtime.log import LOG

T = TypeVar("T")

#: How often a lock that is waited for is tried (s).
_LOCK_EVERY_S = 1.0

#: How long a run waits for an index that others may use while it fetches images (s): one that indexes is soon done.
INDEX_S = 600.0


class IndexChangedError(Exception):
    """Another run brought an index up to date that this one has a plan from; the argument is its folder."""


def waiting(seconds: float, work: Callable[[], T], ask: Callable[[], object] = bool) -> T:
    """What `work` returns; where something is in use, it is tried again for so many `seconds`.

    `ask` comes before each further try, and may find out at less cost that it is still in use. Where an index changed
    under `work`, it is done anew at once.
    """
    end, busy = time.monotonic() + seconds, False
    while True:
        try:
            if busy:
                ask()
            return work()
        except IndexChangedError as changed:
            LOG.info("%s: another run brought it up to date while images were fetched; plans anew", changed)
        except LockError as error:
            busy, left = True, end - time.monotonic()
            if left <= 0:
                raise
            LOG.info("%s; waits for it, %.0f s at most", str(error).partition(";")[0], left)
            time.sleep(min(left, _LOCK_EVERY_S))
        check_stop()
        storage.begin_listings()
