"""An S3 store of ours that answers as no good one does: it holds a dictionary, and a hook may answer instead."""

from __future__ import annotations

import contextlib
import hashlib
import html
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.web import Silent, serving

#: Status, headers and body; None: the connection ends without an answer.
Answer = tuple[int, dict[str, str], bytes] | None


@dataclass
class Request:
    """A request: method, key below the bucket, query, headers (names in lower case) and body."""

    method: str
    key: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class HostileStore:
    """The `objects` of one bucket by key, each with `headers` of its own, and how it lists them."""

    objects: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    #: Gives what is answered; `answer` is what a good store does.
    hook: Callable[[Request], Answer] | None = None
    #: Whether it knows ListObjectsV2, which gives a token where there is more than a page.
    pages: bool = True
    port: int = 0

    def answer(self, asked: Request) -> Answer:
        """What a good store says."""
        if asked.method == "GET" and not asked.key:
            return self._list(asked)
        if asked.method in ("GET", "HEAD"):
            data = self.objects.get(asked.key)
            if data is None:
                return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
            return 200, {"ETag": _etag(data), "Last-Modified": _now(), **self.headers.get(asked.key, {})}, data
        if asked.method == "PUT":
            there = self.objects.get(asked.key)
            wanted = asked.headers.get("if-match")
            if (there is not None and asked.headers.get("if-none-match") == "*") or (
                wanted and (there is None or wanted != _etag(there))
            ):
                return 412, {}, b"<Error><Code>PreconditionFailed</Code></Error>"
            self.objects[asked.key] = asked.body
            return 200, {"ETag": _etag(asked.body)}, b""
        if asked.method == "POST" and "delete" in asked.query:
            keys = [html.unescape(key) for key in re.findall(r"<Key>([^<]*)</Key>", asked.body.decode())]
            for key in keys:
                self.objects.pop(key, None)
            said = "".join(f"<Deleted><Key>{html.escape(key)}</Key></Deleted>" for key in keys)
            return 200, {}, f"<DeleteResult>{said}</DeleteResult>".encode()
        return 501, {}, b"<Error><Code>NotImplemented</Code></Error>"

    def _list(self, asked: Request) -> Answer:
        prefix = asked.query.get("prefix", [""])[0]
        begin = asked.query.get("continuation-token", asked.query.get("start-after", [""]))[0] if self.pages else ""
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > begin)
        page, more = keys[:1000], len(keys) > 1000
        token = f"<NextContinuationToken>{html.escape(page[-1])}</NextContinuationToken>" if more and self.pages else ""
        listed = "".join(
            f"<Contents><Key>{html.escape(key)}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{html.escape(_etag(self.objects[key]))}</ETag><Size>{len(self.objects[key])}</Size></Contents>"
            for key in page
        )
        body = (
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{listed}</ListBucketResult>"
        ).encode()
        return 200, {"Content-Type": "application/xml"}, body


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _now() -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())


@contextlib.contextmanager
def hostile_store() -> Iterator[HostileStore]:
    """One that listens on a port of its own."""
    store = HostileStore()

    class Handler(Silent, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            key = unquote(parts.path).lstrip("/").partition("/")[2]
            asked = Request(self.command, key, parse_qs(parts.query, keep_blank_values=True), headers, body)
            answer = (store.hook or store.answer)(asked)
            if answer is None:
                self.close_connection = True
                return
            status, more, body = answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = reply  # noqa: N815 - the base's names

    with serving(Handler) as store.port:
        yield store
