"""What only a production store shows: conditions that hold, errors without a text, users who may only read, quotas."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import storage
from pipeline.base.errors import LockError, StorageError
from pipeline.storage import Copies
from pipeline.storage.stores import lease, object_requests
from pipeline.storage.stores.object_store import ObjectClient
from tests.conftest import MakeSubset
from tests.support.ceph import Ceph, ceph
from tests.support.helpers import write_file
from tests.support.proxy import Proxy
from tests.support.stores import Server, bucket_on, killing, running

pytestmark = [pytest.mark.ceph, pytest.mark.xdist_group("ceph"), pytest.mark.timeout(200)]

READER = {"key": "AKREADER0123", "secret": "SKREADER-secret-0123"}
POOR = {"key": "AKPOOR012345", "secret": "SKPOOR-secret-0123"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    with running(ceph(tmp_path_factory.mktemp("ceph"))) as found:
        assert isinstance(found, Ceph)
        yield found


@pytest.fixture
def proxy(server: Ceph) -> Iterator[Proxy]:
    found = Proxy(server.port)
    yield found
    found.close()


@pytest.fixture
def options(server: Ceph, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COCO_DIY_LOCAL", str(tmp_path / "options"))

    def write(**more: Any) -> None:
        data = {**server.options, "endpoint_url": f"http://127.0.0.1:{proxy.port}", **more}
        write_file(tmp_path / "options" / "ceph.yaml", yaml.safe_dump({"s3": data}))

    write()
    return write


@pytest.mark.parametrize(
    ("change", "url", "clause"),
    [
        ({"secret": "wrong-secret-0123"}, "s3://ceph/x", "the secret key is wrong; check the credentials"),
        ({"key": "AKUNKNOWN"}, "s3://ceph/x", "the store does not know this access key; check the credentials"),
        ({}, "s3://nobucket/x", "there is no such bucket; create it, or correct the URL"),
    ],
)
def test_errors_without_a_text(
    options: Any, proxy: Proxy, town: Path, make_subset: MakeSubset, change: dict[str, Any], url: str, clause: str
) -> None:
    options(**change)
    told = make_subset(town, target={"root": url}).command("build", code=1)
    assert clause in told.err
    assert url in told.err
    assert "wrong-secret-0123" not in told.err
    assert len(proxy.requests) <= 2


def test_a_user_who_may_only_read(options: Any, server: Ceph, proxy: Proxy) -> None:
    server.ask("radosgw-admin", "subuser", "create", "--uid=tester", "--subuser=tester:reader", "--access=read")
    server.ask(
        "radosgw-admin",
        "key",
        "create",
        "--uid=tester",
        "--subuser=tester:reader",
        "--key-type=s3",
        f"--access-key={READER['key']}",
        f"--secret-key={READER['secret']}",
    )
    storage.locate_writable("s3://ceph/read").write("a.txt", b"1")
    options(**READER, in_flight=8)
    place = storage.locate_writable("s3://ceph/read")
    assert place.read("a.txt") == b"1"
    proxy.reset()
    with pytest.raises(StorageError, match=r"s3://ceph/read/\d+\.txt: cannot be written: these credentials may not do"):
        place.write_many([f"{i}.txt" for i in range(2000)], [b"2"] * 2000)
    assert len(proxy.requests) <= 8 + 8 + 1
    with pytest.raises(StorageError, match=r"s3://ceph/read/a\.txt: cannot be deleted: these credentials may not do"):
        place.delete_many(["a.txt", "b.txt"])
    with (
        pytest.raises(StorageError, match="s3://ceph/read/lock: cannot be locked: these credentials may not do"),
        place.lock("lock", "the target"),
    ):
        raise AssertionError
    assert place.read("a.txt") == b"1"


def test_a_full_store(options: Any, server: Ceph, proxy: Proxy) -> None:
    server.ask(
        "radosgw-admin",
        "user",
        "create",
        "--uid=poor",
        "--display-name=poor",
        f"--access-key={POOR['key']}",
        f"--secret-key={POOR['secret']}",
    )
    server.ask("radosgw-admin", "quota", "set", "--quota-scope=user", "--uid=poor", "--max-objects=10")
    server.ask("radosgw-admin", "quota", "enable", "--quota-scope=user", "--uid=poor")
    bucket_on(Server("s3", server.port, [], server.folder, {**server.options, **POOR}), "poor")
    options(**POOR, in_flight=4)
    place = storage.locate_writable("s3://poor/x")
    proxy.reset()
    with pytest.raises(StorageError, match=r"s3://poor/x/\d+\.txt: cannot be written: the store is full, or a quota"):
        place.write_many([f"{i}.txt" for i in range(2000)], [b"2"] * 2000)
    assert len(proxy.requests) <= 10 + 4 + 4 + 1


def test_copies_cross_buckets_without_passing_through_here(options: Any, proxy: Proxy) -> None:
    names, big = [f"{i} ü#.jpg" for i in range(20)], os.urandom(100_000)
    origin = storage.locate_writable("s3://ceph-other/from")
    origin.write_many(names, [big] * 20)
    proxy.reset()
    place = storage.locate_writable("s3://ceph/to")
    assert place.copy_many(Copies(names, origin, names, [len(big)] * 20)).done == 20
    assert sum(r.sent + r.came for r in proxy.requests) < 20 * 2000
    assert place.read(names[3]) == big


def test_deletes_go_in_batches(options: Any, proxy: Proxy) -> None:
    place = storage.locate_writable("s3://ceph/many")
    names = [f"{i} é&+.txt" for i in range(1100)]
    place.write_many(names, [b""] * 1100)
    proxy.reset()
    assert place.delete_many([*names, "none.txt"]).done == 1101
    assert (proxy.count("POST", "delete"), proxy.count("DELETE")) == (2, 0)
    assert place.names() == set()


def test_a_cut_upload_leaves_no_parts(
    options: Any, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ObjectClient, "LARGE", 1 << 20)
    monkeypatch.setattr(object_requests, "_PART", 5 << 20)
    options(retry_config={"max_retries": 0})
    write_file(tmp_path / "from" / "big.jpg", os.urandom(12 << 20))
    proxy.fault = lambda method, path, time: "denied" if method == "PUT" and time == 2 else None
    place = storage.locate_writable("s3://ceph/cut")
    with pytest.raises(StorageError, match="these credentials may not do that"):
        place.copy_many(Copies(["big.jpg"], storage.locate_writable(str(tmp_path / "from")), ["big.jpg"], [12 << 20]))
    assert place.names() == set()
    assert proxy.count("DELETE", "uploadId") == 1


def test_a_lock_is_kept_alive_and_can_be_taken_over(options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.1)
    place = storage.locate_writable("s3://ceph/locks")
    with place.lock("lock", "the target"):
        first = place.read("lock")
        end = time.monotonic() + 20
        while place.read("lock") == first:
            assert time.monotonic() < end
            time.sleep(0.05)
        with pytest.raises(LockError), place.lock("lock", "the target"):
            raise AssertionError
    place.write("lock", b'{"host": "elsewhere", "process": 7, "since": "noon", "where": "there", "id": "x"}')
    with pytest.raises(LockError, match="in use by process 7"), place.lock("lock", "the target"):
        raise AssertionError
    monkeypatch.setattr(lease, "LEASE_S", -60.0)  # as if minutes had gone by
    with place.lock("lock", "the target"):
        pass


def test_a_gateway_that_is_killed_and_comes_back(options: Any, server: Ceph, proxy: Proxy) -> None:
    place = storage.locate_writable("s3://ceph/killed")
    names = [f"{i}.jpg" for i in range(400)]
    proxy.fault = killing(server, 100)
    results = place.write_many(names, [b"%d" % i * 9000 for i in range(400)])
    assert (results.done, results.failed) == (400, {})
    assert place.sizes(names) == [len(b"%d" % i * 9000) for i in range(400)]


def test_a_subset_from_one_bucket_to_another(options: Any, proxy: Proxy, town: Path, make_subset: MakeSubset) -> None:
    source = storage.locate_writable("s3://ceph-other/town")
    for folder in ("labels", "images"):
        origin = storage.locate(str(town / folder))
        names = sorted(origin.names())
        source.copy_many(Copies([f"{folder}/{n}" for n in names], origin, names, [None] * len(names)))
    subset = make_subset(
        town,
        source={
            "names": str(town / "coco.yaml"),
            "root": "s3://ceph-other/town",
            "splits": {"train": "train2017", "val": "val2017"},
        },
        target={"root": "s3://ceph/subset"},
    )
    subset.build()
    assert [
        r
        for r in proxy.requests
        if r.method == "PUT" and "/images/" in r.path and r.sent > 0 and r.path.startswith("/ceph/")
    ] == []
    proxy.reset()
    assert subset.build()["status"] == "nothing to do"
    subset.command("verify", "--deep")
