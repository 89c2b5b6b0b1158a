"""Stores that fail in all the ways they do: every file has its own result, and nothing is lost or told to the world."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import storage
from pipeline.base.errors import ConfigError, Interrupted, LockError, StorageError, UnavailableError
from pipeline.runtime.interrupt import forget_signal, note_signal
from pipeline.storage import Copies
from pipeline.storage.stores import lease
from tests.conftest import MakeSubset, Run
from tests.support import stores
from tests.support.helpers import contents, run_process, write_file
from tests.support.proxy import Proxy

pytestmark = [pytest.mark.xdist_group("faults of stores"), pytest.mark.timeout(60)]

SUBSET = "s3://bucket/subset"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Server]:
    with stores.running(stores.s3(tmp_path_factory.mktemp("s3"), "bucket", "other")) as running:
        yield running


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second run claims the same lock here, but where a test says so."""
    monkeypatch.setattr(lease, "CLAIM_S", 0.05)


@pytest.fixture
def proxy(server: stores.Server) -> Iterator[Proxy]:
    """A proxy before an empty store."""
    for bucket in ("bucket", "other"):
        stores.empty(server, bucket)
    found = Proxy(server.port)
    yield found
    found.close()


Configure = Any


@pytest.fixture
def options(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Write options of S3 to a conf/local of the test; they lead to the proxy."""
    monkeypatch.setenv("COCO_DIY_LOCAL", str(tmp_path / "options"))

    def write(**more: Any) -> None:
        data = {"key": stores.KEY, "secret": stores.SECRET, "endpoint_url": f"http://127.0.0.1:{proxy.port}", **more}
        write_file(tmp_path / "options" / f"{time.monotonic_ns()}.yaml", yaml.safe_dump({"s3": data}))

    write()
    return write


QUICK = {"retry_config": {"max_retries": 0}}


def names(count: int) -> tuple[list[str], list[bytes]]:
    return [f"{i}.txt" for i in range(count)], [b"content %d" % i for i in range(count)]


def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(StorageError, match=r"ftp://127.0.0.1:1/x: cannot be opened: no server answers"):
        storage.locate("ftp://127.0.0.1:1/x").fingerprints(["a.zip"])


@pytest.mark.parametrize("url", ["s3://bucket/x", "ftp://files.example.org/x"])
def test_a_network_that_is_down_may_be_up_later(options: Configure, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Exit code 75, as for all that the network does: a timer tries again, and nobody has to correct anything."""

    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    options(endpoint_url="https://store.example.org")
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(UnavailableError, match=r"the name of the server(, store\.example\.org,)? cannot be"):
        storage.locate(url).read("a.txt")


@pytest.mark.parametrize("fault", ["slow", "cut", "hang", "damage"])
def test_what_passes_is_tried_again(proxy: Proxy, options: Configure, fault: str) -> None:
    if fault == "hang":
        options(client_options={"read_timeout": "500ms"})
    place = storage.locate_writable(SUBSET)
    paths, data = names(20)
    proxy.fault = lambda _method, path, time: fault if time == 1 and path.endswith(("3.txt", "7.txt")) else None
    results = place.write_many(paths, data)
    assert (results.done, results.failed) == (20, {})
    proxy.times.clear()
    found, _, failed = place.read_many(paths, 100)
    assert (list(found), failed) == (data, {})
    proxy.fault = lambda _method, _path, time: fault if time == 1 else None
    proxy.times.clear()
    assert place.names() == set(paths)


def test_one_file_fails_alone_and_the_next_build_does_just_it(
    proxy: Proxy, options: Configure, town: Path, make_subset: MakeSubset
) -> None:
    options(**QUICK)
    bad = "/bucket/subset/images/train/b.JPG"
    proxy.fault = lambda method, path, _time: "slow" if (method, path) == ("PUT", bad) else None
    subset = make_subset(town, target={"root": SUBSET})
    told = subset.build(code=75)
    assert list(told["failed"]) == ["images/train/b.JPG"]
    assert (
        "the store is busy or ill (503 SlowDown Please reduce your request rate.)"
        in told["failed"]["images/train/b.JPG"]
    )
    proxy.fault = lambda _method, _path, _time: None
    proxy.reset()
    again = subset.build()
    assert {a: sum(k["files"] for k in kinds.values()) for a, kinds in again["plan"].items() if a != "keep"} == {
        "write": 0,
        "copy": 1,
        "delete": 0,
    }
    assert [r.path for r in proxy.requests if r.method == "PUT" and "/.coco-diy/" not in r.path] == [
        "/bucket/subset/images/train/b.JPG"
    ]


def test_what_a_store_did_not_delete_is_deleted_later(
    server: stores.Server, proxy: Proxy, options: Configure, town: Path, make_subset: MakeSubset
) -> None:
    """Of files that stay because no server answers while they are to go: exit code 75, as of any others."""
    options(**QUICK)
    subset = make_subset(town, target={"root": SUBSET})
    subset.build()
    proxy.fault = _not_deleting(server)
    told = subset.build("--set", "classes=[car]", "--max-delete", "none", code=75)
    assert told["failed"]
    assert all(path.startswith(("labels/", "images/")) for path in told["failed"])
    proxy.fault = lambda _method, _path, _time: None
    subset.build("--set", "classes=[car]", "--max-delete", "none")
    assert subset.command("verify", "--json").json["differences"] == {}


def _not_deleting(server: stores.Server) -> Callable[[str, str, int], str | None]:
    """What kills `server` when labels and images are to go, after the YAML, and starts it when a file comes."""
    yaml_file = server.folder / "data/bucket/subset/data.yaml"
    over: list[bool] = []

    def fault(method: str, _path: str, _time: int) -> str | None:
        if yaml_file.exists() or over:
            return None
        if method == "PUT":
            over.append(True)
            if server.process is None:
                server.start()
        elif method in ("POST", "DELETE"):
            server.kill()
        return None

    return fault


@pytest.mark.parametrize(
    ("fault", "clause"),
    [
        ("full", "the store is full, or a quota is used up; make room, then run again"),
        ("expired", "the session token has expired; get a new one, then run again"),
        ("denied", "these credentials may not do that here; allow listing, reading, writing and deleting"),
        ("silent", "no permission; check the credentials"),
    ],
)
def test_what_would_meet_every_file_stops_at_once(proxy: Proxy, options: Configure, fault: str, clause: str) -> None:
    options(**QUICK, in_flight=8)
    proxy.fault = lambda method, _path, _time: fault if method == "PUT" else None
    paths, data = names(3000)
    with pytest.raises(StorageError, match=re.escape(clause)) as told:
        storage.locate_writable(SUBSET).write_many(paths, data)
    assert re.match(r"s3://bucket/subset/\d+\.txt: cannot be written: ", str(told.value))
    assert len(proxy.requests) <= 8 + 8 + 1  # under way, waiting to be looked at, looked at


def test_a_store_that_stays_ill_stops_the_run(proxy: Proxy, options: Configure) -> None:
    options(**QUICK)
    proxy.fault = lambda _method, _path, _time: "slow"
    paths, data = names(3000)
    with pytest.raises(StorageError, match="the store is busy or ill"):
        storage.locate_writable(SUBSET).write_many(paths, data)
    assert len(proxy.requests) < 600


def test_a_store_that_is_busy_now_may_do_later(
    proxy: Proxy, options: Configure, town: Path, make_subset: MakeSubset
) -> None:
    """Exit code 75, and the record of the run is where it can be written."""
    options(**QUICK)
    subset = make_subset(town, target={"root": SUBSET})
    proxy.fault = lambda _method, _path, _time: "slow"
    told = subset.command("build", "--json", code=75).json
    assert (told["reason"], told["exit_code"]) == ("unavailable", 75)
    (record,) = (subset.workdir / "runs").rglob("*-75.json")
    assert yaml.safe_load(record.read_text())["error"]["error"] == told["error"]
    proxy.fault = lambda _method, _path, _time: None
    subset.build()
    assert [r["exit_code"] for r in subset.command("status", "--json").json["recent"]] == [0, 75]


@pytest.mark.parametrize(
    ("change", "url", "clause"),
    [
        ({"secret": "wrong-secret-0123"}, SUBSET, "the secret key is wrong; check the credentials in the environment"),
        ({"key": "AKUNKNOWN"}, SUBSET, "check the credentials in the environment"),
        ({}, "s3://nobucket/subset", "there is no such bucket; create it, or correct the URL"),
        ({"endpoint_url": "http://127.0.0.1:9", **QUICK}, SUBSET, "no server answers there; check the endpoint"),
        (
            {"endpoint_url": "https://no-such.invalid"},
            SUBSET,
            "the name of the server, no-such.invalid, cannot be found",
        ),
        ({"endpont": "http://127.0.0.1"}, SUBSET, "the options for s3 in conf/local/ are not understood"),
    ],
)
def test_a_wrong_key_or_place_stops_at_the_first_request(
    proxy: Proxy, options: Configure, town: Path, make_subset: MakeSubset, change: dict[str, Any], url: str, clause: str
) -> None:
    options(**change)
    told = make_subset(town, target={"root": url}).command("build", code=None)
    assert told.code in (1, 2, 75)
    assert (told.code == 75) == ("no server answers" in clause)
    assert clause in told.err
    assert url in told.err
    assert "wrong-secret-0123" not in told.err
    assert len(proxy.requests) <= 2


@pytest.mark.racing
def test_a_server_that_is_killed_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stores.running(stores.s3(tmp_path / "s3")) as server:
        write_file(tmp_path / "options" / "s3.yaml", yaml.safe_dump({"s3": server.options}))
        monkeypatch.setenv("COCO_DIY_LOCAL", str(tmp_path / "options"))
        place = storage.locate_writable(SUBSET)
        paths = [f"{i}.jpg" for i in range(1500)]
        data = [b"%d" % i * 500 for i in range(1500)]
        killed: list[int] = []

        def blow() -> None:
            folder = server.folder / "data" / "bucket" / "subset"
            for _ in range(2000):
                if folder.is_dir() and 200 <= len(os.listdir(folder)) < 1400:
                    server.kill()
                    killed.append(len(os.listdir(folder)))
                    time.sleep(1)
                    server.start()
                    return
                time.sleep(0.005)

        blower = threading.Thread(target=blow, daemon=True)
        blower.start()
        results = place.write_many(paths, data)
        blower.join(20)
        assert killed
        assert killed[0] < 1500
        assert (results.done, results.failed) == (1500, {})
        assert {paths[f.index]: f.data for f in place.fetch_many(paths)} == dict(zip(paths, data, strict=True))


# --- what passes, and what does not -----------------------------------------------------------------------------------


def test_copies_within_a_store_do_not_pass_through_here(proxy: Proxy, options: Configure) -> None:
    origin = storage.locate_writable("s3://other/from")
    paths, _ = names(30)
    big = os.urandom(50_000)
    origin.write_many([*paths, "ü #.txt"], [big] * 31)
    proxy.reset()
    for url in ("s3://other/to", "s3://bucket/to"):
        results = storage.locate_writable(url).copy_many(Copies(paths, origin, paths, [len(big)] * 30))
        assert (results.done, results.failed) == (30, {})
    results = storage.locate_writable(SUBSET).copy_many(Copies(["a b#.txt"], origin, ["ü #.txt"], [len(big)]))
    assert (results.done, results.failed) == (1, {})
    assert sum(r.sent + r.came for r in proxy.requests) < 61 * 1000
    assert storage.locate("s3://bucket/to").sizes(paths) == [len(big)] * 30
    assert storage.locate(SUBSET).read("a b#.txt") == big


def test_requests_of_builds(
    server: stores.Server, proxy: Proxy, options: Configure, town: Path, make_subset: MakeSubset
) -> None:
    subset = make_subset(town, target={"root": SUBSET})
    subset.build()
    proxy.reset()
    assert subset.build()["status"] == "nothing to do"
    asked = sorted((r.method, "RECORD" if "/runs/" in r.path else r.path.rpartition("/")[2]) for r in proxy.requests)
    assert asked == [("GET", "bucket"), ("PUT", "RECORD")]
    proxy.reset()
    subset.command("verify")
    assert (proxy.count("HEAD"), proxy.count("GET", "list-type=2")) == (0, 1)
    buckets = len(list(subset.workdir.rglob("annotations/*.parquet")))
    # The manifest and its copy, the intent that there is none of, nor a copy, the lock that there is none of, the YAML,
    # the record, and the parts: by their digest, their copies too, and what they list.
    assert proxy.count("GET") == 1 + 7 + 3 * buckets
    proxy.reset()
    assert subset.plan()["changes"] == 0
    assert sum(r.path.endswith(("/manifest.json", "/intent.json")) for r in proxy.requests) == 4
    yaml_there = set()

    def look(method: str, path: str, _time: int) -> None:
        if method == "PUT" and "/labels/" in path:
            yaml_there.add((server.folder / "data/bucket/subset/data.yaml").exists())

    proxy.fault = look
    told = subset.build("--set", "classes=[car, bicycle]")
    written = told["plan"]["write"]["label"]["files"]
    assert written
    images = [r for r in proxy.requests if r.method == "PUT" and "/images/" in r.path]
    labels = [r for r in proxy.requests if r.method == "PUT" and "/labels/" in r.path]
    assert images == []
    assert len(labels) == written
    # There is no YAML while labels change; it comes back after the last, and the manifest is the last of all.
    assert yaml_there == {False}
    written_to = [r.path.removeprefix("/bucket/subset/") for r in proxy.requests if r.method == "PUT"]
    after = written_to[written_to.index("data.yaml") :]
    assert [name for name in after if name.startswith(("labels/", "images/"))] == []
    assert [name for name in after if "/runs/" not in name][-1] == ".coco-diy/manifest.json"
    proxy.reset()
    gone = subset.build("--set", "classes=[car]")["plan"]["delete"]
    assert min(gone["label"]["files"], gone["image"]["files"]) > 1
    singly = [r.path for r in proxy.requests if r.method == "DELETE"]
    assert [path for path in singly if "/labels/" in path or "/images/" in path] == []


def test_an_upload_cut_in_two_leaves_nothing(
    proxy: Proxy, options: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.storage.stores import object_requests
    from pipeline.storage.stores.object_store import ObjectClient

    monkeypatch.setattr(ObjectClient, "LARGE", 1 << 20)
    monkeypatch.setattr(object_requests, "_PART", 5 << 20)
    options(**QUICK)
    write_file(tmp_path / "from" / "big.jpg", os.urandom(12 << 20))
    proxy.fault = lambda method, path, time: "denied" if method == "PUT" and time == 2 else None
    place = storage.locate_writable(SUBSET)
    with pytest.raises(StorageError, match="these credentials may not do that"):
        place.copy_many(Copies(["big.jpg"], storage.locate_writable(str(tmp_path / "from")), ["big.jpg"], [12 << 20]))
    assert place.names() == set()


@pytest.mark.parametrize("count", [1, 2])
def test_an_upload_in_parts_is_taken_back_when_the_run_is_stopped(
    proxy: Proxy, options: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    from pipeline.storage.stores import object_requests
    from pipeline.storage.stores.object_store import ObjectClient

    monkeypatch.setattr(ObjectClient, "LARGE", 1 << 20)
    monkeypatch.setattr(object_requests, "_PART", 5 << 20)
    options(**QUICK)
    names = [f"{number}.jpg" for number in range(count)]
    for name in names:
        write_file(tmp_path / "from" / name, os.urandom(32 << 20))

    def stop(method: str, _path: str, time: int) -> None:
        if method == "PUT" and time == 3:
            note_signal(signal.SIGTERM)

    proxy.fault = stop
    place = storage.locate_writable(SUBSET)
    try:
        with pytest.raises(Interrupted):
            place.copy_many(Copies(names, storage.locate_writable(str(tmp_path / "from")), names, [32 << 20] * count))
    finally:
        forget_signal()
    assert proxy.count("DELETE", "uploadId") == proxy.count("POST", "uploads") > 0
    assert place.names() == set()


def test_no_secret_is_left_anywhere(
    proxy: Proxy,
    options: Configure,
    town: Path,
    tmp_path: Path,
    server: stores.Server,
    make_subset: MakeSubset,
    run: Run,
) -> None:
    """Builds that succeed and fail, in processes of their own: logs, errors, manifests, reports, plans, graphs."""
    import pickle

    more = {"s3://nobucket": {"token": "TOKEN-4711-very-secret"}}
    write_file(tmp_path / "options" / "bad.yaml", yaml.safe_dump(more))
    subset = make_subset(town, target={"root": SUBSET})
    runs = [
        run_process("build", subset.config, "-v", "--scheduler", "processes"),
        run("build", subset.config, "-v", "--json", "--set", "target.root=s3://nobucket/x", code=1),
    ]
    assert "Built" in runs[0].out
    assert "there is no such bucket" in runs[1].err
    proxy.fault = lambda _method, _path, _time: "denied"
    runs.append(run("verify", SUBSET, "-v", code=1))
    said = [told.out + told.err for told in runs]
    assert "cannot be checked: no permission" in said[-1]
    secrets = (stores.SECRET, "TOKEN-4711-very-secret", stores.KEY)
    left = [p for p in [*(server.folder / "data").rglob("*"), *subset.workdir.rglob("*"), subset.config] if p.is_file()]
    assert any(".coco-diy/runs" in str(p) for p in left)
    assert any("plans" in str(p) for p in left)
    for secret in secrets:
        assert [text for text in said if secret in text] == []
        assert [p for p in left if secret.encode() in p.read_bytes()] == []
    place = storage.locate_writable(SUBSET)
    graph = pickle.dumps(place) + repr(place).encode() + repr(vars(place)).encode()
    assert not any(secret.encode() in graph for secret in secrets)


def test_what_fsspec_says_is_scrubbed(options: Configure, tmp_path: Path) -> None:
    from pipeline.storage.stores.options import scrub

    text = "AccountName=me;AccountKey=c2VjcmV0LWtleQ=="
    write_file(tmp_path / "options" / "z.yaml", yaml.safe_dump({"az": {"connection_string": text}}))
    assert scrub(f"a {stores.SECRET} b c2VjcmV0LWtleQ== c") == "a *** b *** c"
    write_file(tmp_path / "options" / "zz.yaml", "s3: {secret: half-a-secret\n")
    with pytest.raises(ConfigError) as told:
        storage.locate(SUBSET).exists()
    assert "half-a-secret" not in str(told.value)
    assert "zz.yaml: is not YAML" in str(told.value)


# --- locks ------------------------------------------------------------------------------------------------------------


@pytest.mark.racing
def test_a_lease_that_is_lost_stops_its_holder(options: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.runtime.interrupt import STOP, check_stop

    monkeypatch.setattr(lease, "BEAT_S", 0.1)
    place = storage.locate_writable(SUBSET)
    with (  # noqa: PT012 - the error comes at the end of what it holds
        pytest.raises(LockError, match="its lock was broken by another run"),
        place.lock("lock", "the target"),
    ):
        first = place.read("lock")
        time.sleep(0.5)
        assert place.read("lock") != first  # the sign of life
        place.break_lock("lock")
        with place.lock("lock", "the target"):
            assert STOP.wait(5)
        check_stop()
    assert not STOP.is_set()


def test_a_lock_where_uploads_may_have_no_conditions(proxy: Proxy, options: Configure) -> None:
    """As on Swift, which answers 501: the claim is written without, and looked at again."""
    proxy.conditions = False
    place = storage.locate_writable(SUBSET)
    with place.lock("lock", "the target"):
        assert place.lock_holder("lock") is not None
        with pytest.raises(LockError, match="the target is in use by process"), place.lock("lock", "the target"):
            raise AssertionError
    assert place.read("lock") is None
    # Asked three times with a condition, then claimed without, and once more to see what the store makes of it.
    assert len([r for r in proxy.requests if r.method == "PUT" and r.path.endswith("/lock")]) == 5


def test_a_dead_holder_is_known(options: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = storage.locate_writable(SUBSET)
    code = (
        "import os, signal\nfrom pipeline import storage\n"
        f"with storage.locate('{SUBSET}').lock('lock', 'it'): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert run_process(python=("-c", code)).code == -9
    assert place.read("lock") is not None
    assert place.lock_holder("lock") is None  # of this machine, and gone
    with place.lock("lock", "the target"):
        pass
    place.write("lock", b'{"host": "elsewhere", "process": 7, "since": "noon", "where": "there", "id": "x"}')
    with (
        pytest.raises(
            LockError,
            match=r"the target is in use by process 7 on elsewhere since noon; wait for it, or "
            r"stop it.* --break-lock ends it",
        ),
        place.lock("lock", "the target"),
    ):
        raise AssertionError
    for damaged in (b"", b"{", b'["x"]', b'{"plans": {}}'):
        place.write("lock", damaged)
        with pytest.raises(LockError, match="is in use by another process"), place.lock("lock", "the target"):
            raise AssertionError
    monkeypatch.setattr(lease, "LEASE_S", -60.0)  # as if two minutes had gone by
    with place.lock("lock", "the target"):
        pass


def test_break_lock_on_the_command_line(options: Configure, town: Path, make_subset: MakeSubset) -> None:
    subset = make_subset(town, target={"root": SUBSET})
    storage.locate_writable(SUBSET).write(
        ".coco-diy/lock", b'{"host": "elsewhere", "process": 7, "where": "there", "id": "x"}'
    )
    assert "in use by process 7 on elsewhere" in subset.command("build", code=5).err
    assert storage.locate(SUBSET).names() == {".coco-diy/lock"}
    subset.command("build", "--break-lock")
    local = make_subset(town, "local")
    local.command("build", "--break-lock")
    assert len(contents(local.target)) == sum(
        not n.startswith(".coco-diy") and n != "DATASET.md" for n in storage.locate(SUBSET).names()
    )
