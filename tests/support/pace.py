"""A web server of images that answers one request at a time, each after a pause: a build lasts as a test needs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.support.helpers import picture
from tests.support.web import Silent, serving


@dataclass
class Pace:
    """How long each image takes, in seconds, and which were asked for how often; `url` has no final slash."""

    url: str = ""
    seconds: float = 0.0
    asked: Counter[str] = field(default_factory=Counter)
    turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def total(self) -> int:
        """Requests so far."""
        return self.asked.total()


@contextlib.contextmanager
def paced() -> Iterator[Pace]:
    """Serve `picture` of every path, at a pace that can be changed while it runs."""
    pace = Pace()

    class Handler(Silent, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"one"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.answer(picture(self.path))

        def do_GET(self) -> None:
            with pace.turn:
                time.sleep(pace.seconds)
                pace.asked[self.path] += 1
            with contextlib.suppress(OSError):  # who asked was killed meanwhile
                self.answer(picture(self.path))

    with serving(Handler) as port:
        pace.url = f"http://127.0.0.1:{port}"
        yield pace
