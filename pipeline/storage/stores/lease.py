"""Locks on stores: a file that says who works there, and is written anew while it is true.

A lock of the operating system dies with its holder; a file does not. So the holder writes it anew every
`BEAT_S`, and one that has not been written for `LEASE_S`, by the store's own clock, is nobody's any more. A holder that
was on this machine and is gone is known at once.

Stores that create conditionally (AWS, Ceph, Azure, Google) let exactly one of two runs in. Others (rclone, Swift, SFTP)
overwrite: there a run waits `CLAIM_S` after its claim and then checks whose it is, which keeps out all but two that
claim within the time one request takes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from pipeline.base.errors import LockError, StorageError
from pipeline.runtime.interrupt import STOP
from pipeline.storage.processes import is_gone, myself, shown
from pipeline.storage.stores.client import Version
from pipeline.storage.stores.guard import clock
from pipeline.storage.stores.in_flight import insist
from pipeline.storage.stores.store_errors import Refused

BEAT_S = 20.0

LEASE_S = 120.0

#: Longer than a request takes.
CLAIM_S = 1.0

_LOST = "{}: its lock was broken by another run, so this one stopped; run again"


class Keeper(Protocol):
    """What keeps the file of a lease: a store (`Client`), or a file system without locks."""

    def version(self, key: str) -> Version | None:
        """See `Client`."""

    def put(self, key: str, data: bytes) -> None:
        """See `Client`."""

    def create(self, key: str, data: bytes) -> bool:
        """See `Client`."""

    def replace(self, key: str, data: bytes, was: Version) -> bool:
        """See `Client`."""

    def delete(self, keys: Sequence[str]) -> object:
        """See `Client`."""


@contextlib.contextmanager
def lease(client: Keeper, key: str, url: str, what: str) -> Iterator[Callable[[], None]]:
    """Hold the lock file `key` while inside; what it gives asks the store, and raises `LockError` where it is lost.

    Raises `LockError`, naming the holder, where another run has it.
    """
    me = _Claim(client, key)
    if not insist(lambda: me.take(what), url, "locked"):
        raise LockError(f"{what} was taken by another run at the same moment; run again later")
    beat = threading.Thread(target=me.beat, daemon=True)
    beat.start()
    try:
        yield functools.partial(me.check, what, url)
        if me.lost:
            raise LockError(_LOST.format(what))
    except BaseException:
        if me.lost:
            STOP.clear()
            raise LockError(_LOST.format(what)) from None
        raise
    finally:
        me.ended.set()
        beat.join(timeout=BEAT_S)
        me.release()


def holder(client: Keeper, key: str) -> str | None:
    """Who holds the lock file `key`; None where nobody does, or nobody is alive to."""
    found = client.version(key)
    if found is None or _is_over(client, key, found):
        return None
    return shown(_who(found))


class _Claim:
    def __init__(self, client: Keeper, key: str) -> None:
        self._client, self._key = client, key
        self._who = myself() | {"id": uuid.uuid4().hex}
        self._alive = clock()  # when the last sign of life was begun
        self.ended = threading.Event()
        self.lost = False

    def take(self, what: str) -> bool:
        """Whether the lock is ours now. Raises `LockError` where somebody has it."""
        client, key, data = self._client, self._key, self._data()
        self._alive = clock()
        found = client.version(key)
        if found is None:
            taken = client.create(key, data)
        elif self._is_mine(found):
            return True
        elif not _is_over(client, key, found):
            raise LockError(
                f"{what} is in use by {shown(_who(found))}; wait for it, or stop it. If it does not run any "
                f"more: the lock ends {LEASE_S:.0f} s after its last sign of life; --break-lock ends it"
            )
        else:
            taken = client.replace(key, data, found)
        if taken:
            if not client.create(key, data):  # refused, as it should be: the store keeps conditions
                return True
            self.ended.wait(CLAIM_S)
        now = client.version(key)  # where the answer was lost, the request that was refused was a second one
        return now is not None and self._is_mine(now)

    def check(self, what: str, url: str) -> None:
        """Raise `LockError` where the lock is not ours any more: the store is asked, for a beat is some time ago."""
        found = insist(lambda: self._client.version(self._key), url, "read")
        if self.lost or found is None or not self._is_mine(found):
            self.lost = True
            raise LockError(_LOST.format(what))

    def beat(self) -> None:
        """Until it ends: say that we are alive. Where the lock is not ours any more, the run is stopped."""
        while not self.ended.wait(BEAT_S):
            begun = clock()
            try:
                found = self._client.version(self._key)
                if found is None or not self._is_mine(found):
                    self.lost = True
                elif not self._client.replace(self._key, self._data(), found):
                    continue
                self._alive = begun
            except (Refused, StorageError):
                # A store that is away for so long that others may think us dead: then we must not go on.
                self.lost = clock() - self._alive >= LEASE_S
            if self.lost:
                STOP.set()
                return

    def release(self) -> None:
        """Give the lock back, if it is ours still."""
        with contextlib.suppress(Refused, StorageError):
            found = self._client.version(self._key)
            if found is not None and self._is_mine(found):
                self._client.delete([self._key])

    def _is_mine(self, found: Version) -> bool:
        return bool(_who(found).get("id") == self._who["id"])

    def _data(self) -> bytes:
        return json.dumps(self._who | {"beat": time.time()}).encode()


def _who(found: Version) -> dict[str, Any]:
    try:
        data = json.loads(found.data)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _is_over(client: Keeper, key: str, found: Version) -> bool:
    who = _who(found)
    if is_gone(who):
        return True
    # The store's clock, not ours: what it says of a file that it gets now.
    probe = f"{key}.{uuid.uuid4().hex}"
    client.put(probe, b"")
    try:
        now = client.version(probe)
    finally:
        client.delete([probe])
    return now is not None and now.modified_ns - found.modified_ns > LEASE_S * 1e9
