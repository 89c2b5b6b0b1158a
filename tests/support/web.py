"""A real web server, and one of ours with faults. No test stands here."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import os
import random
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_CONF = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  log_format bytes '$status $body_bytes_sent $request_uri $http_range'; access_log {folder}/access.log bytes;
  log_format protocol '$server_protocol'; access_log {folder}/protocols.log protocol;
  keepalive_requests 100000; sendfile on; server_tokens off;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  limit_req_zone $binary_remote_addr zone=slow:1m rate=400r/s; limit_req_status 429;
  server {{
    listen 127.0.0.1:{port}{secure};
    location / {{ root {folder}/www; }}
    location /whole/ {{ alias {folder}/www/; max_ranges 0; gzip on; gzip_types *; gzip_min_length 1; }}
    location /as_gzip/ {{ alias {folder}/www/; add_header Content-Encoding x-gzip; }}
    location /by_proxy/ {{
      proxy_pass http://127.0.0.1:{port}/whole/; proxy_http_version 1.1; proxy_set_header Accept-Encoding gzip;
    }}
    location /slow/ {{ alias {folder}/www/; limit_req zone=slow burst=4 nodelay; }}
  }}
}}
"""

_SECURE = " ssl http2; ssl_certificate {certificate}; ssl_certificate_key {certificate}"


def free_port() -> int:
    """A port that nobody listens on now, and that the system gives to nobody by itself.

    One that it does may be the end of some connection when the server comes to take it, or comes back after a kill.
    """
    chance = random.SystemRandom()  # not seeded, as the other is in each process of the tests
    while True:
        with contextlib.suppress(OSError), socket.socket() as found:
            found.bind(("127.0.0.1", chance.randrange(10_000, 32_000)))
            return int(found.getsockname()[1])


def wait_for(port: int) -> None:
    """Return when somebody listens on `port`."""
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError(f"nobody listens on {port}")


class Silent:
    """What a handler of requests is that writes no log on stderr."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no fault."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serving(handler: Callable[..., Any], secure: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answer requests by `handler`, a class of http.server, in threads of this process; the port, on this machine."""
    with _Server(("127.0.0.1", 0), handler) as server:
        if secure is not None:
            server.socket = secure.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Nginx:
    """A real nginx with `folder`/www as its root.

    ``/whole/`` gives the same files without ranges, ``/by_proxy/`` so, too, by a proxy that has them compressed, and
    ``/as_gzip/`` says of all that they are (as Apache's ``AddEncoding`` does of NAME.gz).
    With `secure` it speaks HTTP/2 over TLS alone, with a `certificate` that nobody signed.
    """

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    secure: bool = False

    @property
    def url(self) -> str:
        """Without a final slash."""
        return f"http{'s' if self.secure else ''}://127.0.0.1:{self.port}"

    @property
    def certificate(self) -> Path:
        """With its key in the same file."""
        return self.folder / "certificate.pem"

    @property
    def www(self) -> Path:
        """Where its files are."""
        return self.folder / "www"

    def start(self) -> None:
        """Start it, on the port that it had."""
        self.port = self.port or free_port()
        self.www.mkdir(exist_ok=True)
        secure = _SECURE.format(certificate=self._signed()) if self.secure else ""
        (self.folder / "nginx.conf").write_text(_CONF.format(folder=self.folder, port=self.port, secure=secure))
        binary = nginx_binary()
        assert binary is not None
        self.process = subprocess.Popen(
            [binary, "-p", self.folder, "-c", self.folder / "nginx.conf"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self.port)

    def _signed(self) -> Path:
        """The certificate, made by openssl."""
        from tests.support.stores import openssl

        out = self.certificate
        if not out.exists():
            words = f"req -x509 -newkey rsa:2048 -nodes -keyout {out.name} -out {out.name} -subj /CN=here"
            openssl(out.parent, *words.split(), "-addext", "subjectAltName=IP:127.0.0.1")
        return out

    def stop(self) -> None:
        """End it at once, whatever it is sending."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def log(self, least: int = 0) -> list[tuple[int, int, str, str]]:
        """Status, bytes of the body, path and Range of each request so far; the list is emptied.

        A line is written after the answer: `least` lines are waited for.
        """
        path = self.folder / "access.log"
        for _ in range(250):
            if path.read_bytes().count(b"\n") >= least:
                break
            time.sleep(0.02)
        lines = [line.split(" ", 3) for line in path.read_text().splitlines()]
        os.truncate(path, 0)
        return [(int(a), int(b), c, d) for a, b, c, d in lines]


@contextlib.contextmanager
def between(port: int, seconds: float = 0, cut: threading.Event | None = None) -> Iterator[int]:
    """A port that leads to `port`, but each way takes `seconds` longer.

    When `cut` is set, one connection is cut in the middle of an answer, and `cut` is cleared.
    """
    loop = asyncio.new_event_loop()
    writers = list[asyncio.StreamWriter]()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 20):
                if back and cut is not None and cut.is_set():
                    cut.clear()
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    writer.transport.abort()
                    return
                loop.call_later(seconds, writer.write, data) if seconds else writer.write(data)
        loop.call_later(seconds, writer.close)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, there_writer))
        await asyncio.gather(pipe(reader, there_writer, back=False), pipe(there_reader, writer, back=True))

    async def end() -> None:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.05)  # the pipes see it

    server = loop.run_until_complete(asyncio.start_server(connected, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def nginx_binary() -> str | None:
    """Where nginx is; None where it is not installed."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def need_nginx() -> None:
    """Skip, or fail where servers are required."""
    if nginx_binary():
        return
    told = "nginx is not installed (apt-get install nginx-light)"
    if os.environ.get("COCO_DIY_REQUIRE_SERVERS"):
        pytest.fail(told)
    pytest.skip(told)


@contextlib.contextmanager
def nginx_in(folder: Path, *, secure: bool = False) -> Iterator[Nginx]:
    """A server with its files below `folder`."""
    need_nginx()
    os.chmod(folder, 0o755)
    server = Nginx(folder, secure=secure)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class Faults:
    """What the faulty server does: `cut` bodies after so many bytes, so many `times`; `answers` before all else."""

    files: dict[str, bytes] = field(default_factory=dict)
    #: What the answers say of the file's state; empty: nothing.
    etag: str = '"one"'
    modified: str = ""
    #: Whether they say how long the file is.
    sized: bool = True
    #: Whether a cut is a reset, instead of an end.
    reset: bool = False
    cut: int | None = None
    times: int = 0
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    ranges: bool = True
    pages: set[str] = field(default_factory=set)
    #: With what Content-Encoding some paths come.
    packed: dict[str, str] = field(default_factory=dict)
    #: What is answered for some paths.
    broken: dict[str, int] = field(default_factory=dict)
    #: So many answers stop after their headers.
    silent: int = 0
    connections: int = 0
    #: So many bytes are sent beyond what was asked for.
    more: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)


@contextlib.contextmanager
def faulty(faults: Faults, secure: ssl.SSLContext | None = None) -> Iterator[str]:
    """A web server with the faults of `faults`, which may be changed while it runs, or a `secure` one; its URL."""

    class Handler(Silent, http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            faults.connections += 1
            super().setup()

        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            path = re.sub(r"^https?://[^/]*", "", self.path)  # a proxy is asked for whole URLs
            faults.asked.append((path, asked))
            faults.headers.append(dict(self.headers))
            faults.at.append(time.monotonic())
            if faults.answers:
                status, headers = faults.answers.pop(0)
                self.send_response(status)
                for name, value in ({"Content-Length": "0"} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                return
            data = faults.files.get(path)
            if data is None or path in faults.broken:
                self.send_error(faults.broken.get(path, 404))
                return
            self.send_file(data, asked)

        def send_file(self, data: bytes, asked: str) -> None:
            found = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
            current = self.headers.get("If-Range") in (None, faults.etag or faults.modified)
            if found and faults.ranges and current:
                first = int(found[1]) if found[1] else max(0, len(data) - int(found[2]))
                last = min(int(found[2]), len(data) - 1) if found[1] and found[2] else len(data) - 1
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
                data = data[first : last + 1]
            else:
                self.send_response(200)
            if self.path in faults.pages:
                self.send_header("Content-Type", "text/html; charset=utf-8")
            for name, value in (
                ("ETag", faults.etag),
                ("Content-Encoding", faults.packed.get(self.path, "")),
                ("Last-Modified", faults.modified),
                ("Content-Length", str(len(data)) if faults.sized else ""),
            ):
                if value:
                    self.send_header(name, value)
            self.close_connection = not faults.sized
            self.end_headers()
            if faults.silent:
                faults.silent -= 1
                self.wfile.flush()
                time.sleep(3)
                self.close_connection = True
                return
            if faults.cut is not None and faults.times and len(data) > faults.cut:
                faults.times -= 1
                self.wfile.write(data[: faults.cut])
                self.wfile.flush()
                self.close_connection = True
                if faults.reset:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                else:
                    self.connection.shutdown(socket.SHUT_RDWR)
            else:
                with contextlib.suppress(OSError):
                    self.wfile.write(data + bytes(faults.more))

    with serving(Handler, secure) as port:
        yield f"http{'s' if secure else ''}://127.0.0.1:{port}"
