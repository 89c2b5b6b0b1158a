"""Requests to web servers: many in flight from one thread, retried, limited, continued where they broke off.

libcurl does the transfers (proxies and certificates from the environment, as `curl` takes them); what is here decides
what to ask for, when, and what an answer means.

No client of Python does all of this as fast: libcurl fetches 6,700 to 7,300 files/s of an nginx on the same machine.
obstore's HTTP store reaches 8,300 to 8,500, but ignores Retry-After and refuses answers without Content-Length
(2026-11, pycurl 7.49, obstore 0.12.1).
"""

from __future__ import annotations

import collections
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.base.errors import ConfigError, StorageError, UnavailableError
from pipeline.base.redaction import redact_url
from pipeline.base.text import whole_number
from pipeline.runtime.interrupt import STOP, check_stop
from pipeline.storage import retry
from pipeline.storage.certificates import HOW_TO_TRUST, certificates
from pipeline.storage.location import too_large
from pipeline.storage.retry import PASSING, log_retry
from pipeline.storage.web.pace import Flow, Pace

if TYPE_CHECKING:
    from pipeline.storage.location import Limits

SCHEMES = ("http://", "https://")

_BUSY = {429, 503}

_CONNECT_S = 30

#: Bytes that a connection takes at a time; with a limit, all of them together take some tenths of a second's share.
_BUFFER, _LEAST_BUFFER, _SHARES = 512 * 1024, 1024, 20

_CURES = {
    401: "it wants a login; get the file in another way, or name a mirror with fetch.mirror",
    403: "it is not allowed to read it; check the URL, or name a mirror with fetch.mirror",
    404: "it is not there; check the URL, or name a mirror with fetch.mirror",
    407: "the proxy wants a login; set it in the environment, as in https_proxy=http://user:password@host:port",
    410: "it is not there any more; name a mirror with fetch.mirror",
}


@dataclass(eq=False)
class Transfer:
    """One request: `url` whole, or its bytes from `start` up to `stop` where `stop` is not None.

    `sink(offset, data)` takes what comes; without one it is gathered in `body`. `validator` is an ETag or a date: an
    answer about another state of the file then has `status` 200 instead of 206, and nothing of it is taken. An answer
    of more than `most` bytes is given up. What the caller may check when it is done: `reason` (None: all came),
    `status`, `headers` (names in lower case), and `at`, the offset that comes next.
    """

    url: str
    start: int = 0
    stop: int | None = None
    sink: Callable[[int, bytes], None] | None = None
    validator: str | None = None
    whole_too: bool = False
    most: int | None = None
    tag: Any = None
    body: bytearray = field(default_factory=bytearray)
    at: int = 0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    #: Whether the empty line that ends the headers of the answer has come.
    headed: bool = False
    reason: str | None = None
    #: Whether there was no answer, or none but that the server is busy, so that other requests need not be tried.
    lost: bool = False
    #: Whether it was given up because the server is busy, ill or away: the same request may do later.
    later: bool = False
    attempts: int = 0
    asked: int = 0
    begun: float = 0.0
    #: Whether the answer that comes now was checked, and is what was asked for.
    fits: bool = False

    def __post_init__(self) -> None:
        self.at = self.start

    @property
    def ends_unseen(self) -> bool:
        """Whether the answer ended with its connection, so that nobody knows whether all of it came."""
        return not {"content-length", "transfer-encoding"} & self.headers.keys()


def check_url(url: str) -> None:
    """Raise `ConfigError` for a URL with a login or a question mark: there hide secrets, and URLs are noted."""
    if redact_url(url) != url:
        raise ConfigError(f"{redact_url(url)}: must be a plain URL, without a login and without ? or #")


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


class Web:
    """Carries out transfers in a thread of its own, `limits.connections` at a time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.received = 0

    def run(self, transfers: Iterable[Transfer], *, poll: Callable[[], None] | None = None) -> Iterator[Transfer]:
        """Give the transfers as they are done or given up; `transfers` may be added to while this goes on.

        `poll` is called a few times a second. Raises what a sink raises, and `Interrupted`.
        """
        # The thread keeps signals out of libcurl's callbacks, where an exception would be lost.
        done: queue.Queue[Transfer | BaseException | None] = queue.Queue(2 * self.limits.connections)
        halt = threading.Event()
        thread = threading.Thread(target=_Loop(self, iter(transfers), done, halt).run, daemon=True)
        thread.start()
        try:
            while True:
                check_stop()
                try:
                    found = done.get(timeout=0.2)
                except queue.Empty:
                    if poll:
                        poll()
                    continue
                if found is None:
                    break
                if isinstance(found, BaseException):
                    raise found
                if poll:
                    poll()
                yield found
            check_stop()
        finally:
            halt.set()
            thread.join()


class _Loop:
    """The thread: libcurl's multi handle, and what waits for its turn."""

    def __init__(
        self,
        web: Web,
        transfers: Iterator[Transfer],
        done: queue.Queue[Transfer | BaseException | None],
        halt: threading.Event,
    ) -> None:
        import pycurl

        self.web, self.limits, self.transfers, self.done, self.halt = web, web.limits, transfers, done, halt
        self.curl = pycurl
        self.multi = pycurl.CurlMulti()
        self.idle = [pycurl.Curl() for _ in range(self.limits.connections)]
        self.busy: dict[Any, Transfer] = {}
        self.again: collections.deque[tuple[float, Transfer]] = collections.deque()
        self.more = True
        self.pace, self.flow = Pace(self.limits.requests_per_second), Flow(self.limits.bytes_per_second)
        self.buffer = _buffer_size(self.limits)
        self.error: Exception | None = None
        self.reasons = _reasons(pycurl)
        self.bundle = certificates().path

    def run(self) -> None:
        """Until all are done, or a stop is asked for."""
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
                if not self._finish():
                    # A wake-up for the next request, where one only waits for its turn.
                    wait = min(self.pace.wait(time.monotonic()) or 0.05, 0.05) if self.idle else 0.05
                    if self.busy:
                        self.multi.select(wait)
                    else:
                        time.sleep(min(wait, 0.02))
            self._hand(None)
        except Exception as error:  # noqa: BLE001 - raised again where the results are taken
            self._hand(error)
        finally:
            for handle in self.busy:
                self.multi.remove_handle(handle)
            for handle in [*self.idle, *self.busy]:
                handle.close()
            self.multi.close()

    def _hand(self, what: Transfer | BaseException | None) -> None:
        while not self.halt.is_set():
            try:
                self.done.put(what, timeout=0.2)
                return
            except queue.Full:
                continue

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
            handle = self.idle.pop()
            self._prepare(handle, transfer)
            self.busy[handle] = transfer
            self.multi.add_handle(handle)

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

    def _prepare(self, handle: Any, transfer: Transfer) -> None:
        c = self.curl
        handle.reset()
        transfer.status, transfer.headers, transfer.headed, transfer.fits = 0, {}, False, False
        transfer.asked = transfer.at
        headers = _request_headers(transfer)
        web = c.PROTO_HTTP | c.PROTO_HTTPS
        # A login is for its own host, which libcurl sees to; and nobody on the way may take the s off https.
        onward = c.PROTO_HTTPS if transfer.url.lower().startswith("https:") else web
        for option, value in (
            (c.URL, transfer.url),
            (c.HTTPHEADER, headers),
            (c.FOLLOWLOCATION, True),
            (c.MAXREDIRS, 10),
            (c.PROTOCOLS, web),
            (c.REDIR_PROTOCOLS, onward),
            (c.NOSIGNAL, True),
            (c.UNRESTRICTED_AUTH, False),
            (c.USERAGENT, "coco-diy"),
            (c.BUFFERSIZE, self.buffer),
            (c.CONNECTTIMEOUT, _CONNECT_S),
            (c.LOW_SPEED_LIMIT, 1),
            (c.LOW_SPEED_TIME, max(1, round(self.limits.timeout))),
            (c.HEADERFUNCTION, lambda line: _note_header(transfer, line)),
            (c.WRITEFUNCTION, lambda data: self._take(transfer, data)),
        ):
            handle.setopt(option, value)
        handle.setopt(c.CAPATH if os.path.isdir(self.bundle) else c.CAINFO, self.bundle)

    def _take(self, transfer: Transfer, data: bytes) -> int:
        """Take a piece of an answer; anything but its length ends the transfer."""
        self.flow.came(len(data), time.monotonic())
        if not transfer.fits and (answer := _misfit(transfer, len(data))) is not None:
            return answer
        if transfer.most is not None and transfer.at + len(data) > transfer.start + transfer.most:
            return _too_large(transfer)
        if transfer.stop is not None and transfer.status == 206 and transfer.at + len(data) > transfer.stop:
            transfer.reason = f"{redact_url(transfer.url)}: the server sends more than was asked for; try again later"
            return -1
        self.web.received += len(data)
        try:
            if transfer.sink is None:
                transfer.body += data
            else:
                transfer.sink(transfer.at, data)
        except Exception as error:  # noqa: BLE001 - raised again in `_finish`
            self.error = error
            return -1
        transfer.at += len(data)
        return len(data)

    def _finish(self) -> bool:
        """Take the transfers that ended; returns whether there were any."""
        _, good, bad = self.multi.info_read()
        for handle, code, curl_text in [*((h, 0, "") for h in good), *bad]:
            self.multi.remove_handle(handle)
            transfer = self.busy.pop(handle)
            self.idle.append(handle)
            if self.error is not None:
                raise self.error
            self._judge(transfer, code or _cut_in_headers(transfer), curl_text)
        return bool(good or bad)

    def _judge(self, transfer: Transfer, code: int, curl_text: str) -> None:
        status = transfer.status
        if status in (200, 206) and code in (0, self.curl.E_WRITE_ERROR):
            short = transfer.stop is not None and status == 206 and 0 <= transfer.at < transfer.stop
            if code == 0 and not short:
                self.pace.answered()
                self._hand(transfer)
                return
            if code != 0:  # not what was asked for
                transfer.reason = transfer.reason or (
                    f"{redact_url(transfer.url)}: the server answered with something else than the bytes that were "
                    "asked for; try again later"
                )
                self._hand(transfer)
                return
        elif code == 0 and status not in PASSING:
            cure = _CURES.get(status, "check the URL")
            transfer.reason = f"{redact_url(transfer.url)}: the server says {status}: {cure}"
            self._hand(transfer)
            return
        self._retry(transfer, code, curl_text)

    def _retry(self, transfer: Transfer, code: int, curl_text: str) -> None:
        """Put a transfer back among those to begin, or give it up."""
        status = transfer.status
        what, again = self.reasons.get(code, ("the transfer ended early", True))
        if transfer.stop is not None and transfer.at > transfer.asked:
            transfer.attempts = 0  # it gets on, if slowly
        transfer.attempts += 1
        policy = retry.TRANSFER if self.web.received or status else retry.FIRST_TRANSFER
        if code == 0:
            what = f"the server says {status}" if status not in (200, 206) else "the answer is cut off"
        what = what.format(host=_host_of(curl_text, transfer.url))
        if not again or transfer.attempts >= policy.tries:
            tried = f", {transfer.attempts} times in a row; run again later: it goes on where it was" if again else ""
            transfer.reason = f"{redact_url(transfer.url)}: {what}{tried}"
            transfer.later = again
            transfer.lost = code != 0 or status in (200, 206, *_BUSY)
            self._hand(transfer)
            return
        now = time.monotonic()
        if status in _BUSY and code == 0:
            self.pace.busy(now, transfer.begun)
        when = self.pace.back_off(now, policy, transfer.attempts, transfer.headers.get("retry-after"))
        log_retry(redact_url(transfer.url), what, transfer.attempts, policy, when - now)
        self.again.append((when, transfer))


def _buffer_size(limits: Limits) -> int:
    if not limits.bytes_per_second:
        return _BUFFER
    return min(max(limits.bytes_per_second // (_SHARES * limits.connections), _LEAST_BUFFER), _BUFFER)


def _request_headers(transfer: Transfer) -> list[str]:
    """The headers that ask for what is lacking; of a file that only comes whole, all is lacking again."""
    headers = ["Accept: */*"]
    if transfer.stop is not None:
        last = transfer.stop - 1
        headers.append(f"Range: bytes={transfer.at}-{last}" if transfer.at >= 0 else f"Range: bytes={transfer.at}")
        if transfer.validator:
            headers.append(f"If-Range: {transfer.validator}")
    else:
        transfer.body.clear()
        transfer.at = transfer.start
    return headers


def _cut_in_headers(transfer: Transfer) -> int:
    """The code of what libcurl takes for a whole answer without a body: one that ends amid its headers; else 0."""
    import pycurl

    return 0 if transfer.headed else int(pycurl.E_PARTIAL_FILE)


def _misfit(transfer: Transfer, count: int) -> int | None:
    """Check the first piece of an answer: None where it is what was asked for, else what the callback returns."""
    expected = 200 if transfer.stop is None else 206
    if transfer.status != expected and not (transfer.whole_too and transfer.status == 200 and transfer.asked == 0):
        return count if transfer.status >= 400 else -1
    if expected == 206 and transfer.status == 206:
        first, _, size = parse_range(transfer.headers.get("content-range", ""))
        if size is not None and transfer.stop:
            transfer.stop = min(transfer.stop, size)
        if first is not None and size is not None and transfer.asked < 0:
            transfer.asked = transfer.at = transfer.start = first
            transfer.stop = size
        elif first != transfer.asked:
            return -1
    length = whole_number(transfer.headers.get("content-length", ""))
    if transfer.most is not None and length is not None and length > transfer.most:
        return _too_large(transfer)
    transfer.fits = True
    return None


def _too_large(transfer: Transfer) -> int:
    transfer.reason = f"{redact_url(transfer.url)}: {too_large(transfer.most)}"
    return -1


def _note_header(transfer: Transfer, line: bytes) -> None:
    text = line.decode("latin-1").strip()
    if text.startswith("HTTP/"):  # a new answer: after a redirection, or a proxy's
        words = text.split(None, 2)
        transfer.status = (whole_number(words[1]) if len(words) > 1 else None) or 0
        transfer.headers, transfer.headed = {}, False
    elif not text:
        transfer.headed = True
    elif ":" in text:
        name, _, value = text.partition(":")
        transfer.headers[name.strip().lower()] = value.strip()


def parse_range(text: str) -> tuple[int | None, int | None, int | None]:
    """First byte, last byte and size of ``bytes 0-99/1234`` (RFC 9110, 14.4); None for what it does not say."""
    unit, _, rest = text.partition(" ")
    span, _, size = rest.partition("/")
    first, _, last = span.partition("-")
    numbers = [whole_number(n) if unit == "bytes" else None for n in (first, last, size)]
    return numbers[0], numbers[1], numbers[2]


def validator(headers: dict[str, str]) -> str | None:
    """What shows a changed file in the `headers` of an answer: its ETag, or the date of the last change."""
    return headers.get("etag") or headers.get("last-modified")


def _host_of(curl_text: str, url: str) -> str:
    """The host that libcurl could not reach: that of the URL, unless it was led to another one."""
    found = re.search(r"(?:host: |connect to |target host name ')([\w.-]*\w)", curl_text)
    return found[1] if found else urlsplit(redact_url(url)).hostname or "the server"


def lost(transfer: Transfer) -> StorageError:
    """The error of a transfer that was given up."""
    return (UnavailableError if transfer.later else StorageError)(transfer.reason or "")
