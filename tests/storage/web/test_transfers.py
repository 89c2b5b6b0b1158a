"""Transfers that follow each other: nothing of one, neither its bytes nor its headers nor its login, is in the next."""

from __future__ import annotations

import base64
import contextlib
import http.server
import os
import random
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import storage
from pipeline.base.errors import Interrupted
from pipeline.runtime.interrupt import STOP, forget_signal
from pipeline.storage import Limits, Transfer, Web, retry
from pipeline.storage.certificates import VARIABLES
from pipeline.storage.web import client
from pipeline.storage.web.slot import LARGE
from pipeline.storage.web.transfer import note_header, note_headers
from tests.support.web import Faults, Silent, faulty, nginx_in, serving

#: Around the pieces in which libcurl gives an answer, and where a file is large.
SIZES = sorted({n + d for n in (1, 16_384, 262_144, LARGE, 3 * LARGE) for d in (-1, 0, 1)})


def files(seed: int, count: int) -> dict[str, bytes]:
    """`count` files of all those sizes, in no order."""
    rng = random.Random(seed)
    return {f"{i}.jpg": rng.randbytes(rng.choice(SIZES)) for i in range(count)}


@pytest.mark.parametrize("secure", [False, True], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("limits", [Limits(1), Limits(5), Limits(5, bytes_per_second=1 << 30)], ids=repr)
def test_images_of_all_sizes_come_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: Limits, *, secure: bool
) -> None:
    """In this thread, in another one, and back: large ones lead there, some small ones back."""
    monkeypatch.setattr(client, "_CALM", 3)
    made = files(limits.connections, 25)
    (tmp_path / "server").mkdir()
    with nginx_in(tmp_path / "server", secure=secure) as nginx:
        if secure:
            monkeypatch.setenv(VARIABLES[0], str(nginx.certificate))
        for name, data in made.items():
            (nginx.www / name).write_bytes(data)
        place = storage.locate(nginx.url, str(tmp_path))
        assert place.gather(list(made), limits, lambda _: None) == {}
        assert {name: f.data for name, f in zip(made, place.fetch_many(list(made)), strict=True)} == made
        assert set((nginx.folder / "protocols.log").read_text().split()) == {"HTTP/2.0" if secure else "HTTP/1.1"}


@pytest.mark.slow
def test_images_whose_answers_are_cut_come_whole_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "TRANSFER", retry.Policy(30, 0.01, 0.01))
    monkeypatch.setattr(client, "_CALM", 3)
    made = files(3, 60)
    faults = Faults({f"/{name}": data for name, data in made.items()}, cut=20_000, times=25)
    with faulty(faults) as url:
        place = storage.locate(url, str(tmp_path))
        assert place.gather(list(made), Limits(4), lambda _: None) == {}
        assert {name: f.data for name, f in zip(made, place.fetch_many(list(made)), strict=True)} == made
    assert faults.times == 0


@pytest.mark.slow
def test_a_part_that_is_cut_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "TRANSFER", retry.Policy(30, 0.01, 0.01))
    data = random.Random(4).randbytes(3 << 20)
    faults = Faults({"/x": data}, etag='"1"', cut=400_000, times=7)
    spans = [(i * 500_000, (i + 1) * 500_000) for i in range(6)] + [(-700_000, 0)]
    with faulty(faults) as url:
        transfers = [Transfer(f"{url}/x", start, stop, tag=(start, stop)) for start, stop in spans]
        found = {done.tag: bytes(done.body) for done in Web(Limits(2)).run(transfers)}
    assert found == {(a, b): data[a:b] if a >= 0 else data[a:] for a, b in spans}
    assert faults.times == 0


def test_a_login_is_of_one_server_alone() -> None:
    first, second = Faults({"/x": b"0123456789"}), Faults({"/x": b"0123456789"})
    with faulty(first) as one, faulty(second) as two:
        login = one.replace("://", "://me:secret@")
        urls = [f"{login}/x", f"{one}/x", f"{two}/x", f"{login}/x"]
        bodies = [bytes(done.body) for done in Web(Limits(1)).whole(Transfer(url) for url in urls)]
    assert bodies == [b"0123456789"] * 4
    basic = f"Basic {base64.b64encode(b'me:secret').decode()}"
    assert [asked.get("Authorization") for asked in first.headers] == [basic, None, basic]
    assert [asked.get("Authorization") for asked in second.headers] == [None]


def test_answers_are_of_one_request_alone() -> None:
    faults = Faults({"/page": b"a page", "/x": b"1", "/empty": b""}, pages={"/page"})
    faults.answers = [(302, {"Location": "/page", "X-Only": "of the redirection"})]
    with faulty(faults) as url:
        paths = ["moved", "x", "nothing", "empty"]
        web = Web(Limits(1))
        moved, plain, lacking, empty = (
            (done.status, dict(done.headers), bytes(done.body), done.reason)
            for done in web.whole(Transfer(f"{url}/{path}") for path in paths)
        )
    assert (moved[0], moved[1]["content-type"], moved[2]) == (200, "text/html; charset=utf-8", b"a page")
    assert "x-only" not in moved[1]
    assert (plain[0], plain[1].get("content-type"), plain[2]) == (200, None, b"1")
    assert (lacking[0], lacking[2]) == (404, b"")
    assert "the server says 404" in str(lacking[3])
    assert (empty[0], empty[2], empty[3]) == (200, b"", None)
    assert web.received == len(b"a page" + b"1")


@pytest.mark.parametrize("status", [200, 201, 206, 404, 503])
@pytest.mark.parametrize("size", [0, 10, 3000])
def test_whole_files_are_judged_as_parts_are(monkeypatch: pytest.MonkeyPatch, status: int, size: int) -> None:
    """What is seen when all came is what is seen as the pieces come: of another status, and of more than may come."""
    for policy in ("TRANSFER", "FIRST_TRANSFER"):
        monkeypatch.setattr(retry, policy, retry.Policy(2, 0.001, 0.001))

    class Handler(Silent, http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(b"x" * size)

    def judged(*, whole: bool) -> list[tuple[object, ...]]:
        with serving(Handler) as port:
            web, url = Web(Limits(1, timeout=5)), f"http://127.0.0.1:{port}"
            transfers = [Transfer(f"{url}/x", most=1000)]
            return [
                (t.status, bytes(t.body), t.reason and t.reason.replace(url, ""), t.lost, t.later)
                for t in (web.whole(transfers) if whole else web.run(transfers))
            ]

    assert judged(whole=True) == judged(whole=False)


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("size", [999, 1000, 1001, 100_000])
def test_no_more_comes_than_may(sized: bool, size: int) -> None:
    faults = Faults({"/x": b"x" * size}, sized=sized)
    with faulty(faults) as url:
        found = [(len(t.body), t.reason) for t in Web(Limits(1)).whole([Transfer(f"{url}/x", most=1000)])]
    assert [reason is None for _, reason in found] == [size <= 1000]
    assert found[0][0] == (size if size <= 1000 else 0)


@pytest.mark.parametrize("size", [100, LARGE + 1])
def test_a_stop_amid_images_ends_them(tmp_path: Path, size: int) -> None:
    """Of small ones in this thread, of large ones in the other; what was counted is there, and nothing else is."""
    faults = Faults({f"/{i}.jpg": b"%04d" % i * (size // 4) for i in range(40)})
    done = 0

    def add(_: int) -> None:
        nonlocal done
        done += 1
        if done == 10:
            STOP.set()

    with faulty(faults) as url:
        place = storage.locate(url, str(tmp_path))
        names = [f"{i}.jpg" for i in range(40)]
        with contextlib.ExitStack() as stack:
            stack.callback(forget_signal)
            with pytest.raises(Interrupted):
                place.gather(names, Limits(4), add)
        assert done == 10
        assert sum(storage.locate(url, str(tmp_path)).at_hand(names)) == 10
        assert len(faults.asked) < 40
    assert not [t for t in threading.enumerate() if "_carry_out" in t.name]


LINES = st.lists(
    st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/2 302\r\n", b"HTTP/1.1 abc\r\n", b"HTTP/\r\n", b"\r\n", b"\n"])
    | st.sampled_from([b'ETag: "1"\r\n', b"etag:2\r\n", b"Content-Length: 5\r\n", b"no colon\r\n", b": nothing\r\n"])
    | st.binary(max_size=20),
    max_size=12,
)


@given(LINES, LINES)
def test_lines_together_say_what_they_say_one_by_one(first: list[bytes], rest: list[bytes]) -> None:
    together, single = Transfer(""), Transfer("")
    for line in first + rest:
        note_header(single, line)
    note_headers(together, first + rest)
    assert (together.status, together.headers, together.headed) == (single.status, single.headers, single.headed)


def test_reasons_of_failures_are_those_of_the_last_time(tmp_path: Path) -> None:
    faults = Faults({"/a.jpg": b"0123456789"})
    with faulty(faults) as url:
        place = storage.locate(url, str(tmp_path))
        assert place.gather(["a.jpg"], Limits(1), lambda _: None) == {}
        assert not [*tmp_path.rglob("failures.json")]  # nothing to be said
        assert list(place.gather(["b.jpg"], Limits(1), lambda _: None)) == ["b.jpg"]
        (missing,) = place.fetch_many(["b.jpg"])
        assert missing.reason is not None
        assert "404" in missing.reason
        faults.files["/b.jpg"] = b"abcdefghij"
        assert place.gather(["b.jpg"], Limits(1), lambda _: None) == {}
        (late,) = place.fetch_many(["b.jpg"])
        assert (late.data, late.reason) == (b"abcdefghij", None)
        os.unlink(next(tmp_path.rglob("b.jpg.*")))
        (gone,) = storage.locate(url, str(tmp_path)).fetch_many(["b.jpg"])
        assert gone.reason == "was not fetched; run again"
