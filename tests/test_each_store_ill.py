"""Faults of the stores that `test_stores_ill` does not ask: Google's, Azure's and SFTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import storage
from pipeline.errors import ConfigError, StorageError
from tests import stores
from tests.conftest import MakeSubset
from tests.helpers import write_file
from tests.proxy import Proxy

pytestmark = [pytest.mark.xdist_group("stores"), pytest.mark.timeout(60)]

ACCOUNT, KEY = stores.AZURITE
OTHER_KEY = "d3Jvbmcta2V5LW9mLWF6dXJlLTAxMjM0NTY3ODk="
URLS = {"gs": "gs://bucket/subset", "az": "az://bucket/subset"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, stores.Server]]:
    found: dict[str, stores.Server] = {}
    try:
        for kind in URLS:
            found[kind] = stores.MAKERS[kind](tmp_path_factory.mktemp(kind))
            found[kind].start()
        stores.make_container(found["az"])
        yield found
    finally:
        for server in found.values():
            server.end()


@pytest.fixture(params=sorted(URLS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str, servers: dict[str, stores.Server]) -> stores.Server:
    return servers[kind]


@pytest.fixture
def proxy(server: stores.Server) -> Iterator[Proxy]:
    found = Proxy(server.door)
    yield found
    found.close()


@pytest.fixture
def url(kind: str, options: Any) -> str:
    """A place of the test's own, behind the proxy."""
    return f"{URLS[kind]}-{time.monotonic_ns()}"


@pytest.fixture
def options(kind: str, server: stores.Server, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COCO_DIY_LOCAL", str(tmp_path / "options"))

    def write(**more: Any) -> None:
        here = f"http://127.0.0.1:{proxy.port}"
        where = {"gs": {"endpoint_url": here}, "az": {"endpoint": f"{here}/{ACCOUNT}"}}[kind]
        data = {k: v for k, v in {**server.options, **where, **more}.items() if v is not None}
        write_file(tmp_path / "options" / "it.yaml", yaml.safe_dump({kind: data}))

    write()
    return write


def names(count: int) -> tuple[list[str], list[bytes]]:
    return [f"{i} ü#.txt" for i in range(count)], [b"content %d" % i for i in range(count)]


@pytest.mark.parametrize("fault", ["slow", "cut", "damage"])
def test_what_passes_is_tried_again(proxy: Proxy, url: str, kind: str, fault: str) -> None:
    place = storage.locate(url)
    paths, data = names(20)
    bad = ("3 ü#.txt", "7 ü#.txt") if (fault, kind) != ("damage", "az") else ()  # Azure's digests obstore does not tell
    proxy.fault = lambda _method, path, time: fault if time == 1 and path.endswith(bad) else None
    results = place.write_many(paths, data)
    assert (results.done, results.failed) == (20, {})
    proxy.times.clear()
    found, _, failed = place.read_many(paths, 100)
    assert (list(found), failed) == (data, {})
    proxy.fault = lambda _method, _path, time: fault if time == 1 and fault != "damage" else None
    proxy.times.clear()
    assert place.names() == set(paths)


def test_a_server_that_is_killed_and_comes_back(proxy: Proxy, url: str, server: stores.Server) -> None:
    place = storage.locate(url)
    paths, data = names(150)
    proxy.fault = stores.killing(server, 70)
    results = place.write_many(paths, data)
    assert (results.done, results.failed) == (150, {})
    assert place.sizes(paths) == [len(d) for d in data]


@pytest.mark.parametrize(("fault", "clause"), [
    ("denied", "these credentials may not do that here; allow listing, reading, writing and deleting"),
    ("silent", "no permission; check the credentials"),
    ("full", "the store is full, or a quota is used up; make room, then run again"),
    ("unknown", "the store does not accept these credentials; check the credentials"),
])
def test_what_would_meet_every_file_stops_at_once(
    proxy: Proxy, options: Any, url: str, fault: str, clause: str
) -> None:
    options(in_flight=8, retry_config={"max_retries": 0})
    proxy.fault = lambda method, _path, _time: fault if method == "PUT" else None
    paths, data = names(3000)
    with pytest.raises(StorageError, match=rf"{url}/\d+ ü#\.txt: cannot be written: {clause}"):
        storage.locate(url).write_many(paths, data)
    assert len(proxy.requests) <= 8 + 8 + 1


def wrong(kind: str, what: str) -> dict[str, Any]:
    """Options of Azure or Google with something wrong in them."""
    if (kind, what) == ("gs", "key") or what == "container":
        return {}
    if what == "server":
        return {"endpoint_url": "http://127.0.0.1:9", "endpoint": f"http://127.0.0.1:9/{ACCOUNT}"}
    if what == "name":
        return {"endpoint_url": "http://no-such.invalid", "endpoint": f"http://no-such.invalid/{ACCOUNT}"}
    if what == "old":
        return {"account_key": None, "sas_token": stores.azure_pass("rwdlc", "2020-01-01T00:00:00Z")}
    return {"account_key": OTHER_KEY}


@pytest.mark.parametrize(("kind", "what", "clause"), [
    ("az", "key", "the account key or token is wrong, or "),
    ("gs", "key", "the store does not accept these credentials; check the credentials"),
    ("az", "old", "the account key or token is wrong, or "),
    ("az", "container", "there is no such container; create it, or correct the URL"),
    ("gs", "container", "there is no such bucket; create it, or correct the URL"),
    ("az", "server", "no server answers there; check the endpoint"),
    ("gs", "server", "no server answers there; check the endpoint"),
    ("az", "name", "the name of the server, no-such.invalid, cannot be found"),
    ("gs", "name", "the name of the server, no-such.invalid, cannot be found"),
], indirect=["kind"])
def test_a_wrong_key_or_place_stops_at_the_first_request(
    proxy: Proxy, options: Any, url: str, kind: str, town: Path, make_subset: MakeSubset, what: str, clause: str
) -> None:
    if (kind, what) == ("gs", "key"):  # the emulator takes all
        proxy.fault = lambda _method, _path, _time: "unknown"
    own = {n: v for n, v in wrong(kind, what).items() if n != {"gs": "endpoint", "az": "endpoint_url"}[kind]}
    options(**own, **({"retry_config": {"max_retries": 0}} if what == "server" else {}))
    url = url.replace("bucket", "nobucket") if what == "container" else url
    told = make_subset(town, target={"root": url}).command("build", code=None)
    assert told.code in (1, 2)
    assert clause in told.err
    assert url in told.err
    assert OTHER_KEY not in told.err
    assert "sig=" not in told.err
    assert len(proxy.requests) <= 2


@pytest.mark.parametrize("kind", ["az"], indirect=True)
def test_a_pass_that_may_only_read(options: Any, url: str) -> None:
    storage.locate(url).write("a.txt", b"1")
    options(account_key=None, sas_token=stores.azure_pass("rl", "2100-01-01T00:00:00Z"))
    place = storage.locate(url)
    assert place.read("a.txt") == b"1"
    assert place.names() == {"a.txt"}
    with pytest.raises(StorageError, match=r"cannot be written: .*these credentials may not do that here"):
        place.write_many(["b.txt"], [b"2"])
    with pytest.raises(StorageError, match="cannot be deleted: no permission; check the credentials"):
        place.delete_many(["a.txt"])


# --- SFTP -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COCO_DIY_LOCAL", str(tmp_path / "options"))
    return lambda data: write_file(tmp_path / "options" / "sftp.yaml", yaml.safe_dump({"sftp": data}))


def test_a_server_of_sftp_that_is_killed_and_comes_back(tmp_path: Path, local: Any) -> None:
    with stores.running(stores.sftp(tmp_path / "sftp")) as server:
        local(server.options)
        place = storage.locate(f"{server.url}/subset")
        paths, data = names(200)
        folder = server.folder / "data" / "subset"

        def blow() -> None:
            while not folder.is_dir() or len(list(folder.iterdir())) < 40:
                time.sleep(0.005)
            killed.append(len(list(folder.iterdir())))
            server.kill()
            time.sleep(0.5)
            server.start()

        killed: list[int] = []
        blower = threading.Thread(target=blow, daemon=True)
        blower.start()
        results = place.write_many(paths, data)
        blower.join()
        assert killed[0] < 200
        assert (results.done, results.failed) == (200, {})
        assert {paths[f.index]: f.data for f in place.fetch_many(paths)} == dict(zip(paths, data, strict=True))


def test_sftp_that_refuses(tmp_path: Path, local: Any) -> None:
    with stores.running(stores.sftp(tmp_path / "sftp", "internal-sftp -R")) as server:
        paths, data = names(300)
        local(server.options)
        place = storage.locate(f"{server.url}/subset")
        with pytest.raises(StorageError, match="cannot be written: no permission; "):
            place.write_many(paths, data)
        log = server.folder / f"log-{server.port}"
        other = tmp_path / "sftp" / "host"  # a key, but not of a user
        for change, clause in (
            ({"client_keys": [str(other)]}, "no permission; check the credentials"),
            ({"known_hosts": str(write_file(tmp_path / "none", ""))}, "the server is not in ~/.ssh/known_hosts"),
            ({"client_keys": [str(tmp_path / "none-such")]}, "a file that the options for sftp in conf/local/ name is"),
            ({"port": 9}, "no server answers there; check the endpoint"),
        ):
            local({**server.options, **change})
            before = log.read_text().count("Connection from") + log.read_text().count("Connection closed")
            with pytest.raises((StorageError, ConfigError), match=clause) as told:
                storage.locate(f"{server.url}/subset").write_many(paths, data)
            assert str(told.value).startswith(f"{server.url}/subset: ")
            after = log.read_text().count("Connection from") + log.read_text().count("Connection closed")
            assert after - before <= 2
