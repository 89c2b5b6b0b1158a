"""What `test_faults` asks of S3, asked of Google's and Azure's stores: faults, and what copies move."""

from __future__ import annotations

import contextlib
import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import xxhash
import yaml

from pipeline import storage
from pipeline.base.errors import StorageError
from pipeline.storage import Copies
from pipeline.storage.stores import lease
from tests.conftest import MakeSubset, Run
from tests.support import stores
from tests.support.helpers import settle, write_file
from tests.support.proxy import Proxy

pytestmark = [pytest.mark.xdist_group("each store"), pytest.mark.timeout(60)]

ACCOUNT, KEY = stores.AZURITE
OTHER_KEY = "d3Jvbmcta2V5LW9mLWF6dXJlLTAxMjM0NTY3ODk="
URLS = {"gs": "gs://bucket/subset", "az": "az://bucket/subset"}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else claims the same lock here."""
    monkeypatch.setattr(lease, "CLAIM_S", 0.05)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, stores.Server]]:
    found: dict[str, stores.Server] = {}
    try:
        for kind in URLS:
            found[kind] = stores.MAKERS[kind](tmp_path_factory.mktemp(kind))
            found[kind].start()
        stores.make_container(found["az"])
        stores.make_container(found["az"], "other")
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
    place = storage.locate_writable(url)
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


def test_a_server_that_is_killed_and_comes_back(proxy: Proxy, url: str, options: Any, server: stores.Server) -> None:
    options(retry_config={"max_retries": 30})  # on a busy machine azurite takes many seconds to start
    place = storage.locate_writable(url)
    paths, data = names(150)
    proxy.fault = stores.killing(server, 70)
    results = place.write_many(paths, data)
    assert (results.done, results.failed) == (150, {})
    assert place.sizes(paths) == [len(d) for d in data]


@pytest.mark.parametrize(
    ("fault", "clause"),
    [
        ("denied", "these credentials may not do that here; allow listing, reading, writing and deleting"),
        ("silent", "no permission; check the credentials"),
        ("full", "the store is full, or a quota is used up; make room, then run again"),
        ("unknown", "the store does not accept these credentials; check the credentials"),
    ],
)
def test_what_would_meet_every_file_stops_at_once(
    proxy: Proxy, options: Any, url: str, fault: str, clause: str
) -> None:
    options(in_flight=8, retry_config={"max_retries": 0})
    proxy.fault = lambda method, _path, _time: fault if method == "PUT" else None
    paths, data = names(3000)
    with pytest.raises(StorageError, match=rf"{url}/\d+ ü#\.txt: cannot be written: {clause}"):
        storage.locate_writable(url).write_many(paths, data)
    assert len(proxy.requests) <= 8 + 8 + 1


def wrong(kind: str, what: str) -> dict[str, Any]:
    """Options of Azure or Google with something wrong in them."""
    if (kind, what) == ("gs", "key") or what == "container":
        return {}
    if what == "server":
        return {"endpoint_url": "http://127.0.0.1:9", "endpoint": f"http://127.0.0.1:9/{ACCOUNT}"}
    if what == "name":
        return {"endpoint_url": "https://no-such.invalid", "endpoint": f"https://no-such.invalid/{ACCOUNT}"}
    if what == "old":
        return {"account_key": None, "sas_token": stores.azure_pass("rwdlc", "2020-01-01T00:00:00Z")}
    return {"account_key": OTHER_KEY}


@pytest.mark.parametrize(
    ("kind", "what", "clause"),
    [
        ("az", "key", "the account key or token is wrong, or "),
        ("gs", "key", "the store does not accept these credentials; check the credentials"),
        ("az", "old", "the account key or token is wrong, or "),
        ("az", "container", "there is no such container; create it, or correct the URL"),
        ("gs", "container", "there is no such bucket; create it, or correct the URL"),
        ("az", "server", "no server answers there; check the endpoint"),
        ("gs", "server", "no server answers there; check the endpoint"),
        ("az", "name", "the name of the server, no-such.invalid, cannot be found"),
        ("gs", "name", "the name of the server, no-such.invalid, cannot be found"),
    ],
    indirect=["kind"],
)
def test_a_wrong_key_or_place_stops_at_the_first_request(
    proxy: Proxy, options: Any, url: str, kind: str, town: Path, make_subset: MakeSubset, what: str, clause: str
) -> None:
    if (kind, what) == ("gs", "key"):  # the emulator takes all
        proxy.fault = lambda _method, _path, _time: "unknown"
    own = {n: v for n, v in wrong(kind, what).items() if n != {"gs": "endpoint", "az": "endpoint_url"}[kind]}
    options(**own, **({"retry_config": {"max_retries": 0}} if what == "server" else {}))
    url = url.replace("bucket", "nobucket") if what == "container" else url
    told = make_subset(town, target={"root": url}).command("build", code=None)
    assert told.code in (1, 2, 75)
    assert clause in told.err
    assert url in told.err
    assert OTHER_KEY not in told.err
    assert "sig=" not in told.err
    assert len(proxy.requests) <= 2


@pytest.mark.parametrize("kind", ["az"], indirect=True)
def test_a_pass_that_may_only_read(options: Any, url: str) -> None:
    storage.locate_writable(url).write("a.txt", b"1")
    options(account_key=None, sas_token=stores.azure_pass("rl", "2100-01-01T00:00:00Z"))
    place = storage.locate_writable(url)
    assert place.read("a.txt") == b"1"
    assert place.names() == {"a.txt"}
    with pytest.raises(StorageError, match=r"cannot be written: .*these credentials may not do that here"):
        place.write_many(["b.txt"], [b"2"])
    with pytest.raises(StorageError, match="cannot be deleted: no permission; check the credentials"):
        place.delete_many(["a.txt"])


# --- what passes, and what does not -----------------------------------------------------------------------------------


def sent(proxy: Proxy) -> int:
    return sum(r.sent + r.came for r in proxy.requests)


def test_copies_within_a_store_do_not_pass_through_here(proxy: Proxy, url: str, kind: str) -> None:
    big, (paths, _) = os.urandom(100_000), names(12)
    origin = storage.locate_writable(f"{url}/from")
    origin.write_many(paths, [big] * 12)
    # Between buckets of Google's a copy passes through here: obstore has no way to ask for it.
    for to in (url, url.replace("//bucket", "//other"))[: 1 if kind == "gs" else 2]:
        proxy.reset()
        results = storage.locate_writable(f"{to}/to").copy_many(Copies(paths, origin, paths, [len(big)] * 12))
        assert (results.done, results.failed) == (12, {})
        assert sent(proxy) < 12 * 3000
        assert storage.locate(f"{to}/to").read(paths[3]) == big


def test_what_goes_from_one_provider_to_another_is_never_here_as_a_whole(
    proxy: Proxy, url: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.storage.stores import object_requests
    from pipeline.storage.stores.object_store import ObjectClient

    monkeypatch.setattr(ObjectClient, "LARGE", 2 << 20)
    monkeypatch.setattr(object_requests, "_PART", 5 << 20)
    big = os.urandom(1 << 20) * 13
    with stores.running(stores.s3(tmp_path / "s3")) as s3:
        write_file(tmp_path / "options" / "s3.yaml", yaml.safe_dump({"s3": s3.options}))
        origin, place = storage.locate_writable("s3://bucket/from"), storage.locate_writable(url)
        origin.write_many(["big.zip", "ü.jpg"], [big, b"small"])
        many = {f"{i}.jpg": b"%d" % i * (3 << 20) for i in range(6)}
        origin.write_many(list(many), list(many.values()))
        place.copy_many(Copies(list(many), origin, list(many), [3 << 20] * 6)).must(place)
        assert {list(many)[f.index]: f.data for f in place.fetch_many(list(many))} == many
        proxy.reset()
        results = place.copy_many(Copies(["big.zip", "b.jpg"], origin, ["big.zip", "ü.jpg"], [len(big), 5]))
        assert (results.done, results.failed) == (2, {})
        assert results.digests["big.zip"] == xxhash.xxh3_128_digest(big) == place.content_digests(["big.zip"])[0]
        assert max(r.sent for r in proxy.requests) <= 5 << 20
        assert len([r for r in proxy.requests if r.method == "PUT" and r.sent > 1000]) == 3
        back = origin.copy_many(Copies(["back.zip"], place, ["big.zip"], [len(big)]))
        assert (back.done, back.failed) == (1, {})
        assert origin.sizes(["back.zip"]) == [len(big)]


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def secret_of(tmp_path: Path, servers: dict[str, stores.Server]) -> Iterator[Any]:
    """By kind: options with a secret in them, words that may be nowhere, a place, and one that is refused."""
    with contextlib.ExitStack() as stack:

        def options(what: str) -> tuple[dict[str, Any], list[str], str, str]:
            if what == "az":
                return {"az": servers["az"].options}, [KEY], "az://bucket/secret", "az://nobucket/x"
            if what == "pass":
                token = stores.azure_pass("rwdlc", "2100-01-01T00:00:00Z")
                given = {k: v for k, v in servers["az"].options.items() if k != "account_key"} | {"sas_token": token}
                signed = token.partition("sig=")[2]
                return {"az": given}, [token, signed, unquote(signed)], "az://bucket/pass", "az://other/x"
            if what == "gs":
                account = {
                    "client_email": "",
                    "private_key_id": "",
                    "private_key": "PRIVATE-key-4711",
                    "disable_oauth": True,
                    "gcs_base_url": servers["gs"].options["endpoint_url"],
                }
                given = {"token": account, "client_options": {"allow_http": True}}
                return {"gs": given}, ["PRIVATE-key-4711"], "gs://bucket/secret", "gs://nobucket/x"
            server = stack.enter_context(stores.running(stores.sftp(tmp_path / "sftp")))
            words = "PASS-word-4711"
            given = {**server.options, "password": words}
            return {"sftp": given}, [words], f"{server.url}/secret", "sftp://nowhere.invalid/x"

        yield options


@pytest.mark.parametrize("what", ["az", "pass", "gs", "sftp"])
def test_no_secret_is_left_anywhere(
    secret_of: Any, what: str, town: Path, make_subset: MakeSubset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, secrets, url, refused = secret_of(what)
    monkeypatch.setenv("COCO_DIY_LOCAL", str(tmp_path / "options"))
    write_file(tmp_path / "options" / "it.yaml", yaml.safe_dump(given))
    subset = make_subset(town, target={"root": url})
    said = [
        subset.command("build", "-v", "--json"),
        subset.command("verify", "-v", "--json"),
        subset.command("plan", "-v", "--json", "--set", "classes=[car]"),
        subset.command("build", "-v", "--json", "--set", f"target.root={refused}", code=75 if what == "sftp" else 1),
    ]
    place = storage.locate_writable(url)
    names = sorted(place.names())
    assert any(name.startswith(".coco-diy/runs/") for name in names)
    left = {names[f.index]: bytes(f.data) for f in place.fetch_many(names)}
    left |= {str(p): p.read_bytes() for p in [*subset.workdir.rglob("*"), subset.config] if p.is_file()}
    left |= {"graph": pickle.dumps(place) + repr(place).encode() + repr(vars(place)).encode()}
    left |= {f"said {i}": (told.out + told.err).encode() for i, told in enumerate(said)}
    assert len(left["said 3"]) > 20
    for secret in secrets:
        assert len(secret) > 8
        assert [name for name, data in left.items() if secret.encode() in data] == []


def test_a_check_makes_two_requests(url: str, proxy: Proxy, tmp_path: Path, run: Run) -> None:
    source = tmp_path / "coco"
    for i in range(9):
        write_file(source / f"labels/train/{i}.txt", f"{i % 3} 0.5 0.5 0.1 0.1\n")
        write_file(source / f"images/train/{i}.jpg", f"image {i}")
    names = write_file(tmp_path / "names.yaml", "names: {0: a, 1: b, 2: c}\n")
    config = {
        "source": {"names": str(names), "root": str(source), "splits": {"train": "train"}},
        "classes": ["b"],
        "target": {"root": url},
        "workdir": str(tmp_path / "work"),
        "engine": {"scheduler": "sync"},
    }
    path = write_file(tmp_path / "c.yaml", yaml.safe_dump(config))
    settle()
    run("build", path)
    settle()
    proxy.reset()
    assert run("build", path, "--json").json["status"] == "nothing to do"
    assert [r.method for r in proxy.requests] == ["GET", "PUT"]
