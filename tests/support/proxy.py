"""A proxy of ours before a store: it counts what passes, and makes the faults that real stores have."""

from __future__ import annotations

import contextlib
import html
import http.client
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from pipeline.storage.stores import lease
from tests.support import stores
from tests.support.helpers import write_file
from tests.support.web import Silent, serving

#: Faults by name: status, and what S3 writes.
ANSWERS = {
    "slow": (503, b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"),
    "full": (507, b"<Error><Code>XMinioStorageFull</Code><Message>Storage backend is full.</Message></Error>"),
    "expired": (400, b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"),
    "denied": (403, b"<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>"),
    "silent": (403, b""),
    "not implemented": (
        501,
        b"<Error><Code>NotImplemented</Code><Message>Conditional object PUTs are not supported.</Message></Error>",
    ),
    "unknown": (401, b"<Error><Code>AuthenticationRequired</Code><Message>Authentication required.</Message></Error>"),
}


@dataclass(frozen=True)
class Request:
    """One request: method, decoded path, query, bytes of its body and of the answer's, and the status of that."""

    method: str
    path: str
    query: str
    sent: int
    came: int
    status: int


@dataclass
class Proxy:
    """Listens on `port` for a server at `upstream`; `fault` says what to do to a request (None: pass it on)."""

    upstream: int
    fault: Callable[[str, str, int], str | None] = lambda _method, _path, _time: None
    #: Whether uploads may have conditions; Swift refuses them.
    conditions: bool = True
    #: Whether a part of a file has the status of a part; rclone gives it that of a whole file.
    parts: bool = False
    #: So many of the keys that came last are in no listing of S3: stores that are not consistent answer so for a while.
    late: int = 0
    hidden: int = 0
    #: Whether listings of S3 show each key again: a server that lists a folder while it is written to may do so.
    repeated: bool = False
    requests: list[Request] = field(default_factory=list)
    times: Counter[tuple[str, str]] = field(default_factory=Counter)
    _came: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._running = contextlib.ExitStack()
        self.port = self._running.enter_context(serving(self._handler()))

    def close(self) -> None:
        self._running.close()

    def count(self, method: str, query: str = "") -> int:
        """Requests so far."""
        return sum(r.method == method and query in r.query for r in self.requests)

    def reset(self) -> None:
        self.requests.clear()
        self.times.clear()

    def _older(self, bucket: str, listing: bytes) -> bytes:
        """A listing without the `late` keys that came last."""
        late = {path.removeprefix(bucket.rstrip("/") + "/") for path in list(self._came)[-self.late :]}

        def hides(found: re.Match[bytes]) -> bytes:
            hidden = html.unescape(found[1].decode()) in late
            self.hidden += hidden
            return b"" if hidden else found[0]

        return re.sub(rb"<Contents>.*?<Key>([^<]*)</Key>.*?</Contents>", hides, listing, flags=re.DOTALL)

    def _listing(self, path: str, listing: bytes) -> bytes:
        """The `listing` of a bucket as this store shows it."""
        if self.repeated:
            listing = re.sub(rb"<Contents>.*?</Contents>", rb"\g<0>\g<0>", listing, flags=re.DOTALL)
        return self._older(path, listing) if self.late else listing

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(Silent, BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = urlsplit(self.path)
                path = unquote(parts.path)
                with proxy._lock:
                    proxy.times[self.command, path] += 1
                    number = proxy.times[self.command, path]
                fault = proxy.fault(self.command, path, number)
                if (
                    self.command == "PUT"
                    and not proxy.conditions
                    and (self.headers["If-None-Match"] or self.headers["If-Match"])
                ):
                    fault = "not implemented"
                if fault == "hang":
                    time.sleep(2)
                    self.close_connection = True
                    return
                if fault == "cut" and self.command == "PUT":
                    self.close_connection = True
                    return
                if fault == "damage" and body:
                    body = body[:-1] + bytes([body[-1] ^ 1])
                headers: list[tuple[str, str]] = []
                if fault in ANSWERS:
                    status, answer = ANSWERS[fault]
                else:
                    status, headers, answer = self.ask(body)
                if self.command == "PUT" and status == 200:
                    proxy._came.pop(path, None)
                    proxy._came[path] = None
                if "list-type=2" in parts.query:
                    answer = proxy._listing(path, answer)
                    headers = [(n, v) for n, v in headers if n.lower() != "content-length"]
                with proxy._lock:
                    proxy.requests.append(Request(self.command, path, parts.query, len(body), len(answer), status))
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                if not any(name.lower() == "content-length" for name, _ in headers):
                    self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                if fault == "cut":
                    answer, self.close_connection = answer[: len(answer) // 2], True
                if self.command != "HEAD":
                    self.wfile.write(answer)

            def ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                upstream = http.client.HTTPConnection("127.0.0.1", proxy.upstream, timeout=20)
                with contextlib.closing(upstream), contextlib.closing(self.answer(upstream, body)) as found:
                    answer = found.read()
                kept = [(n, v) for n, v in found.getheaders() if n.lower() not in ("transfer-encoding", "connection")]
                part = proxy.parts and found.status == 200 and found.getheader("Content-Range")
                return 206 if part else found.status, kept, answer

            def answer(self, upstream: http.client.HTTPConnection, body: bytes) -> http.client.HTTPResponse:
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    upstream.putheader(name, value)
                upstream.endheaders(body)
                return upstream.getresponse()

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # the client went away
                    super().handle()

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on  # noqa: N815 - the base's names

        return Handler


def lead_to(port: int, home: Path, patch: pytest.MonkeyPatch, **more: Any) -> None:
    """Have options in `home`, with `more` of them, lead to the S3 store that listens on `port`.

    Locks there are believed at once: nobody else claims them.
    """
    patch.setattr(lease, "CLAIM_S", 0.05)
    options = {"key": stores.KEY, "secret": stores.SECRET, "endpoint_url": f"http://127.0.0.1:{port}", **more}
    write_file(home / "options/s3.yaml", yaml.safe_dump({"s3": options}))
    patch.setenv("COCO_DIY_LOCAL", str(home / "options"))


@contextlib.contextmanager
def before_store(home: Path, patch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before an S3 store of its own in `home`, to which options lead."""
    with stores.running(stores.s3(home / "s3")) as server, contextlib.closing(Proxy(server.port)) as found:
        lead_to(found.port, home, patch)
        yield found
