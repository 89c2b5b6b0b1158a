"""The transfers of one batch: libcurl's multi handle, what waits for its turn, and what is asked for again."""

from __future__ import annotations

import collections
import contextlib
import re
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any
from urllib.parse import urlsplit

from pipeline.base.redaction import redact_url
from pipeline.runtime.interrupt import STOP
from pipeline.storage import retry
from pipeline.storage.certificates import HOW_TO_TRUST
from pipeline.storage.retry import PASSING, log_retry
from pipeline.storage.web.pace import Pace
from pipeline.storage.web.sinks import Sinks
from pipeline.storage.web.slot import Session, Slot
from pipeline.storage.web.transfer import Transfer

_BUSY = {429, 503}

_CURES = {
    401: "it wants a login; get the file in another way, or name a mirror with fetch.mirror",
    403: "it is not allowed to read it; check the URL, or name a mirror with fetch.mirror",
    404: "it is not there; check the URL, or name a mirror with fetch.mirror",
    407: "the proxy wants a login; set it in the environment, as in https_proxy=http://user:password@host:port",
    410: "it is not there any more; name a mirror with fetch.mirror",
}


def _reasons(curl: Any) -> dict[int, tuple[str, bool]]:
    """What libcurl's codes mean to a user, and whether a further try may change it."""
    broken = ("the connection broke", True)
    return {
        curl.E_COULDNT_RESOLVE_HOST: ("the name {host} is not known; check the URL and the network", True),
        curl.E_COULDNT_RESOLVE_PROXY: ("the name of the proxy is not known; correct https_proxy, or unset it", True),
        curl.E_COULDNT_CONNECT: ("no server answers at {host}; check the URL, the proxy and the network", True),
        curl.E_OPERATION_TIMEDOUT: ("no answer came in time", True),
        curl.E_PEER_FAILED_VERIFICATION: (f"the certificate of {{host}} is not trusted; {HOW_TO_TRUST}", False),
        curl.E_SSL_CACERT_BADFILE: (f"the file of certificates is of no use; {HOW_TO_TRUST}", False),
        curl.E_SSL_CONNECT_ERROR: ("no secure connection to {host} is possible; check the URL and the proxy", True),
        curl.E_URL_MALFORMAT: ("is no URL of a web server: check the URL", False),
        curl.E_UNSUPPORTED_PROTOCOL: (
            "is redirected to another protocol (from https only https is followed): check the URL",
            False,
        ),
        curl.E_TOO_MANY_REDIRECTS: ("leads from one address to the next without end: check the URL", False),
        **dict.fromkeys((curl.E_PARTIAL_FILE, curl.E_RECV_ERROR, curl.E_SEND_ERROR, curl.E_GOT_NOTHING), broken),
    }


class Loop:
    """libcurl's multi handle with its slots, and what waits for its turn."""

    def __init__(
        self, session: Session, transfers: Iterator[Transfer], halt: threading.Event, kind: type[Slot] = Slot
    ) -> None:
        self.session, self.limits, self.transfers, self.halt = session, session.limits, transfers, halt
        self.curl, self.flow, session.sinks = session.curl, session.flow, Sinks()
        self.multi = self.curl.CurlMulti()
        self.idle = [kind(session) for _ in range(self.limits.connections)]
        self.busy: dict[Any, Slot] = {}
        self.again: collections.deque[tuple[float, Transfer]] = collections.deque()
        self.more = True
        self.pace = Pace(self.limits.requests_per_second)
        self.reasons = _reasons(self.curl)

    def run(self) -> Generator[Transfer, None, None]:
        """Give the transfers as they are done or given up, until all are, or a stop is asked for.

        Raises what a sink raises. A body in memory that is used again is there until the next one is asked for.
        """
        try:
            while not (self.halt.is_set() or STOP.is_set()):
                if wait := self.flow.wait(time.monotonic()):  # what the server sends meanwhile stays with the system
                    time.sleep(min(wait, 0.1))
                    continue
                self._begin()
                if not self.busy and not self.again and not self.more:
                    break
                while self.multi.perform()[0] == self.curl.E_CALL_MULTI_PERFORM:
                    pass
                self.session.sinks.check()
                for slot in [*self.busy.values()]:
                    if not slot.drain():
                        yield from self._finish(slot.handle, self.curl.E_WRITE_ERROR, "")
                _, good, bad = self.multi.info_read()
                for handle, code, curl_text in [*((h, 0, "") for h in good), *bad]:
                    yield from self._finish(handle, code, curl_text)
                if not good and not bad:
                    self._rest()
        finally:
            for handle in self.busy:
                self.multi.remove_handle(handle)
            for slot in [*self.idle, *self.busy.values()]:
                slot.handle.close()
            self.multi.close()
            self.session.sinks.close()

    def _rest(self) -> None:
        """Wait for bytes, or where one only waits for its turn, for the time of the next request."""
        wait = min(self.pace.wait(time.monotonic()) or 0.05, 0.05) if self.idle else 0.05
        if not self.busy:
            time.sleep(min(wait, 0.02))
            return
        with contextlib.suppress(InterruptedError):
            self.multi.select(wait)

    def _begin(self) -> None:
        while self.idle:
            now = time.monotonic()
            if self.pace.wait(now):
                return
            transfer = self._next(now)
            if transfer is None:
                return
            self.pace.began(now)
            transfer.begun = now
            slot = self.idle.pop()
            slot.begin(transfer)
            self.busy[slot.handle] = slot
            self.multi.add_handle(slot.handle)

    def _next(self, now: float) -> Transfer | None:
        for _ in range(len(self.again)):
            when, transfer = self.again.popleft()
            if when <= now:
                return transfer
            self.again.append((when, transfer))
        # A broken server gets no new questions until the old ones are answered.
        if self.more and len(self.again) < self.limits.connections:
            found = next(self.transfers, None)
            if found is None:
                self.more = False
            return found
        return None

    def _finish(self, handle: Any, code: int, curl_text: str) -> Iterator[Transfer]:
        """Give the transfer that ended, unless it is tried again."""
        self.multi.remove_handle(handle)
        slot = self.busy.pop(handle)
        self.idle.append(slot)
        transfer = slot.transfer
        code = slot.end(code)
        if not code and not transfer.headed:  # amid its headers: libcurl takes it for a whole one without a body
            code = self.curl.E_PARTIAL_FILE
        if self._judge(transfer, code, curl_text):
            slot.give()
            try:
                yield transfer
            finally:
                slot.release()

    def _judge(self, transfer: Transfer, code: int, curl_text: str) -> bool:
        """Whether a transfer is done or given up; else it is among those to begin."""
        status = transfer.status
        if status in (200, 206) and code in (0, self.curl.E_WRITE_ERROR):
            short = transfer.stop is not None and status == 206 and 0 <= transfer.at < transfer.stop
            if code == 0 and not short:
                self.pace.answered()
                return True
            if code != 0:  # not what was asked for
                transfer.reason = transfer.reason or (
                    f"{redact_url(transfer.url)}: the server answered with something else than the bytes that were "
                    "asked for; try again later"
                )
                return True
        elif code == 0 and status not in PASSING:
            cure = _CURES.get(status, "check the URL")
            transfer.reason = f"{redact_url(transfer.url)}: the server says {status}: {cure}"
            return True
        return self._retry(transfer, code, curl_text)

    def _retry(self, transfer: Transfer, code: int, curl_text: str) -> bool:
        """Put a transfer back among those to begin, or give it up: whether it is given up."""
        status = transfer.status
        what, again = self.reasons.get(code, ("the transfer ended early", True))
        if transfer.stop is not None and transfer.at > transfer.asked:
            transfer.attempts = 0  # it gets on, if slowly
        transfer.attempts += 1
        policy = retry.TRANSFER if self.session.received or status else retry.FIRST_TRANSFER
        if code == 0:
            what = f"the server says {status}" if status not in (200, 206) else "the answer is cut off"
        what = what.format(host=_host_of(curl_text, transfer.url))
        if not again or transfer.attempts >= policy.tries:
            tried = f", {transfer.attempts} times in a row; run again later: it goes on where it was" if again else ""
            transfer.reason = f"{redact_url(transfer.url)}: {what}{tried}"
            transfer.later = again
            transfer.lost = code != 0 or status in (200, 206, *_BUSY)
            return True
        now = time.monotonic()
        if status in _BUSY and code == 0:
            self.pace.busy(now, transfer.begun)
        when = self.pace.back_off(now, policy, transfer.attempts, transfer.headers.get("retry-after"))
        log_retry(redact_url(transfer.url), what, transfer.attempts, policy, when - now)
        self.again.append((when, transfer))
        return False


def _host_of(curl_text: str, url: str) -> str:
    """The host that libcurl could not reach: that of the URL, unless it was led to another one."""
    found = re.search(r"(?:host: |connect to |target host name ')([\w.-]*\w)", curl_text)
    return found[1] if found else urlsplit(redact_url(url)).hostname or "the server"
