"""Requests to web servers: many in flight from one thread, retried, limited, continued where they broke off.

libcurl does the transfers (proxies and certificates from the environment, as `curl` takes them); what is here decides
what to ask for, when, and what an answer means.

No client of Python does all of this as fast: libcurl fetches 6,700 to 7,300 files/s of an nginx on the same machine.
obstore's HTTP store reaches 8,300 to 8,500, but ignores Retry-After and refuses answers without Content-Length
(2026-11, pycurl 7.49, obstore 0.12.1).
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from pipeline.base.errors import ConfigError
from pipeline.base.redaction import redact_url
from pipeline.runtime.interrupt import check_stop
from pipeline.storage.web.loop import Loop
from pipeline.storage.web.slot import LARGE, Session, WholeSlot, ends_too_large

if TYPE_CHECKING:
    from pipeline.storage.location import Limits
    from pipeline.storage.web.transfer import Transfer

SCHEMES = ("http://", "https://")

#: So many small files in a row are all small again.
_CALM = 64


def check_url(url: str) -> None:
    """Raise `ConfigError` for a URL with a login or a question mark: there hide secrets, and URLs are noted."""
    if redact_url(url) != url:
        raise ConfigError(f"{redact_url(url)}: must be a plain URL, without a login and without ? or #")


class Web:
    """Carries out transfers, `limits.connections` at a time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._session = Session(limits)

    @property
    def received(self) -> int:
        """Bytes that came of what was asked for."""
        return self._session.received

    def run(self, transfers: Iterable[Transfer], *, poll: Callable[[], None] | None = None) -> Iterator[Transfer]:
        """Give the transfers as they are done or given up; `transfers` may be added to while this goes on.

        `poll` is called some ten times a second. Raises what a sink raises, and `Interrupted`.
        """
        halt = threading.Event()
        yield from self._by_thread(Loop(self._session, iter(transfers), halt).run(), halt, poll)

    def whole(self, transfers: Iterable[Transfer]) -> Iterator[Transfer]:
        """Give the transfers of files that come whole, without a sink; a `body` lasts until the next one is given.

        Small ones are carried out by this thread, as to hand one to another thread takes as long as to write it, and
        libcurl calls nothing of Python there in which a signal's exception could be lost. Once a large one came, those
        behind it come while the caller is at work on others, until `_CALM` small ones followed each other. Raises
        `Interrupted`.
        """
        if self.limits.bytes_per_second or not ends_too_large():
            yield from self.run(transfers)
            return
        halt = threading.Event()
        with contextlib.closing(Loop(self._session, iter(transfers), halt, WholeSlot).run()) as found:
            large = True
            while large:
                large = False
                for transfer in found:
                    check_stop()
                    large = len(transfer.body) > LARGE
                    yield transfer
                    if large:
                        yield from self._by_thread(found, halt, calm=_CALM)
                        break
            check_stop()

    def _by_thread(
        self,
        found: Iterator[Transfer],
        halt: threading.Event,
        poll: Callable[[], None] | None = None,
        calm: int | None = None,
    ) -> Iterator[Transfer]:
        """Give what a loop gives, which goes on in another thread, until `calm` small ones followed each other."""
        # The thread keeps signals out of libcurl's callbacks, where an exception would be lost.
        done: queue.Queue[Transfer | BaseException | None] = queue.Queue(2 * self.limits.connections)
        thread = threading.Thread(target=_carry_out, args=(found, done, halt, calm), daemon=True)
        thread.start()
        ended = False
        try:
            while True:
                check_stop()
                try:
                    one = done.get(timeout=0.1)
                except queue.Empty:
                    if poll:
                        poll()
                    continue
                if one is None:
                    break
                if isinstance(one, BaseException):
                    raise one
                if poll:
                    poll()
                yield one
            check_stop()
            ended = True
        finally:
            if not ended:
                halt.set()
            thread.join()


def _carry_out(
    found: Iterator[Transfer],
    done: queue.Queue[Transfer | BaseException | None],
    halt: threading.Event,
    calm: int | None,
) -> None:
    """Put what a loop gives into `done`, and behind it None or its error."""

    def hand(what: Transfer | BaseException | None) -> None:
        while not halt.is_set():
            try:
                done.put(what, timeout=0.2)
                return
            except queue.Full:
                continue

    small = 0
    try:
        for transfer in found:
            transfer.kept = True
            small = small + 1 if len(transfer.body) <= LARGE else 0
            hand(transfer)
            if small == calm:
                break
        hand(None)
    except BaseException as error:  # noqa: BLE001 - raised again where the results are taken
        hand(error)
