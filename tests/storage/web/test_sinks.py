"""Sinks: in order, in a thread of their own, and nothing more once one failed."""

from __future__ import annotations

import http.server
import os
import queue
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.stages.fetch.partial import PartFile
from pipeline.storage import Limits, Transfer, Web
from pipeline.storage.web.sinks import Sinks
from tests.support.web import Silent, serving


def test_pieces_are_taken_in_their_order_while_more_come() -> None:
    sinks, go, found, threads = Sinks(), threading.Event(), list[tuple[int, list[bytes]]](), set[int]()

    def sink(offset: int, pieces: Sequence[bytes]) -> None:
        assert go.wait(30)
        found.append((offset, list(pieces)))
        threads.add(threading.get_ident())

    lots = [(i, [b"%d" % i]) for i in range(9)]
    for lot in lots[:2]:
        sinks.put(sink, *lot)  # the first one waits meanwhile
    assert found == []
    go.set()
    for lot in lots[2:]:
        sinks.put(sink, *lot)
    sinks.settle()
    assert found == lots
    assert len(threads) == 1
    assert threads != {threading.get_ident()}
    sinks.close()


def test_nothing_more_is_taken_once_a_sink_failed() -> None:
    sinks, found = Sinks(), list[int]()

    def sink(offset: int, _pieces: Sequence[bytes]) -> None:
        found.append(offset)
        if offset == 1:
            raise ValueError("full")

    for offset in range(20):
        sinks.put(sink, offset, [b""])
    with pytest.raises(ValueError, match="full"):
        sinks.settle()
    with pytest.raises(ValueError, match="full"):
        sinks.check()
    sinks.close()
    assert found == [0, 1]


def test_what_waits_is_taken_before_the_end() -> None:
    sinks, found = Sinks(), list[int]()
    for offset in range(20):
        sinks.put(lambda at, _: found.append(at), offset, [b""])
    sinks.close()
    assert found == [*range(20)]
    Sinks().close()


def test_a_sink_that_fails_ends_a_transfer_whose_server_is_silent() -> None:
    failed, in_time = threading.Event(), queue.Queue[bool]()

    class Handler(Silent, http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 100)
            in_time.put(failed.wait(10))

    def sink(_offset: int, _pieces: Sequence[bytes]) -> None:
        raise ValueError("full")

    with serving(Handler) as port:
        web = Web(Limits(1))
        with pytest.raises(ValueError, match="full"):
            list(web.run([Transfer(f"http://127.0.0.1:{port}/x", sink=sink)]))
        failed.set()
    assert in_time.get(timeout=20)  # the server's thread may come to it late


def test_a_transfer_is_given_when_its_sink_has_taken_all() -> None:
    data, found = os.urandom(3 << 20), bytearray(3 << 20)

    class Handler(Silent, http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    later = threading.Event()

    def sink(offset: int, pieces: Sequence[bytes]) -> None:
        later.wait(0.02)
        came = b"".join(pieces)
        found[offset : offset + len(came)] = came

    with serving(Handler) as port:
        for done in Web(Limits(1)).run([Transfer(f"http://127.0.0.1:{port}/x", sink=sink)]):
            assert found == data
            assert done.at == len(data)


def test_a_disk_that_takes_little_at_a_time_gets_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.pwritev, list[int]()

    def little(fd: int, pieces: Sequence[Any], offset: int) -> int:
        calls.append(len(pieces))
        return real(fd, [b"".join(pieces)[:1500]], offset)

    monkeypatch.setattr(os, "pwritev", little)
    pieces = [os.urandom(n % 3) for n in range(2500)]
    part = PartFile(str(tmp_path / "x"))
    fd = part.open()
    assert part.put(fd, 10, pieces) == 10 + sum(map(len, pieces))
    os.close(fd)
    assert Path(part.path).read_bytes() == bytes(10) + b"".join(pieces)
    assert max(calls) <= os.sysconf("SC_IOV_MAX")
