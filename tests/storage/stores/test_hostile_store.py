"""Answers that no good store gives, and names that none should hold: nothing is lost, and each is named."""

from __future__ import annotations

import gzip
import itertools
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline import storage
from pipeline.base.errors import LockError, StorageError
from pipeline.runtime.interrupt import STOP
from pipeline.storage import Copies
from pipeline.storage.stores import lease, options
from tests.support import stores
from tests.support.hostile_store import Answer, HostileStore, Request, hostile_store

pytestmark = pytest.mark.timeout(60)

SUBSET = "s3://bucket/subset"

INTERNAL = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileStore]:
    """A store to which options lead, and whose faults are not waited for."""
    with hostile_store() as found:
        given = {
            "key": stores.KEY,
            "secret": stores.SECRET,
            "endpoint_url": f"http://127.0.0.1:{found.port}",
            "retry_config": {"max_retries": 1, "retry_timeout": timedelta(seconds=5)},
        }
        monkeypatch.setattr(options, "_local_options", lambda *_: {"s3": given})
        monkeypatch.setenv("COCO_DIY_LOCAL", "here")
        monkeypatch.setattr(lease, "CLAIM_S", 0.05)
        storage.begin_listings()
        yield found


def names() -> set[str]:
    storage.begin_listings()
    return storage.locate(SUBSET).names()


# --- listings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [999, 1000, 1001, 2000])
def test_all_objects_are_listed(store: HostileStore, count: int) -> None:
    store.objects = {f"subset/{i:05}.txt": b"x" for i in range(count)}
    assert names() == {f"{i:05}.txt" for i in range(count)}


@pytest.mark.parametrize("count", [1001, 2500])
def test_a_store_that_lists_its_first_page_alone_is_seen_through(store: HostileStore, count: int) -> None:
    """One that does not know ListObjectsV2 gives a page and no token, as if that were all."""
    store.pages = False
    store.objects = {f"subset/{i:05}.txt": b"x" for i in range(count)}
    with pytest.raises(StorageError, match=r"cannot be listed: after 1,000 objects the store begins anew"):
        names()


def test_a_full_page_that_is_all_passes(store: HostileStore) -> None:
    store.objects = {f"subset/{i:05}.txt": b"x" for i in range(999)} | {"subset/z/": b""}
    assert len(names()) == 1000


def test_objects_that_stand_for_folders_are_no_files(store: HostileStore) -> None:
    """Consoles and mounts make them, and they end with a slash."""
    folders = {f"subset/{name}": b"" for name in ("", "images/", "images/train/", "labels/")}
    store.objects = folders | {"subset/images/train/a.jpg": b"x", "subset/labels/a.txt": b"", "subset/z.txt": b""}
    assert names() == {"images/train/a.jpg", "labels/a.txt", "z.txt"}
    files = {f"images/train/{i:05}.txt" for i in range(2996)}  # pages end at empty ones
    store.objects = folders | {f"subset/{name}": b"" for name in (*files, "labels/a.txt")}
    assert names() == {*files, "labels/a.txt"}


@pytest.mark.parametrize("key", ["subset//a.txt", "subset/./a.txt", "subset/../a.txt", "subset/a\tb.txt"])
def test_a_key_that_cannot_be_used_is_named(store: HostileStore, key: str) -> None:
    store.objects = {"subset/b.txt": b"x", key: b"x"}
    with pytest.raises(StorageError, match=re.escape(f"cannot be listed: the key {key!r} has an empty, . or .. step")):
        names()


def test_an_answer_that_nobody_understands_is_told(store: HostileStore) -> None:
    store.hook = lambda _asked: (200, {}, b"<ListBucketResult><Contents><Key>sub")
    with pytest.raises(StorageError, match="cannot be listed: Generic S3 error: Got invalid list response"):
        names()


def test_an_image_that_is_stored_compressed_is_no_image(store: HostileStore) -> None:
    """A store sends what was uploaded with a Content-Encoding as it is, asked for or not."""
    store.objects = {"subset/1.jpg": gzip.compress(b"an image"), "subset/2.jpg": b"an image"}
    store.headers = {key: {"Content-Encoding": "gzip"} for key in store.objects}
    found = {fetched.index: fetched for fetched in storage.locate(SUBSET).fetch_many(["1.jpg", "2.jpg"])}
    assert "came compressed (Content-Encoding: gzip)" in str(found[0].reason)
    assert (found[1].reason, found[1].data) == (None, b"an image")


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_copy_that_fails_after_its_status_may_do_later(store: HostileStore) -> None:
    """S3 says 200 once it has begun, and then what went wrong."""
    store.objects["subset/a.jpg"] = b"x"
    store.hook = lambda asked: (200, {}, INTERNAL) if asked.method == "PUT" else store.answer(asked)
    results = storage.locate_writable(SUBSET).copy_many(Copies(["b.jpg"], storage.locate(SUBSET), ["a.jpg"], [1]))
    assert results.passing == {"b.jpg"}
    assert "the store is busy or ill (InternalError We encountered an internal error.)" in results.failed["b.jpg"]


def test_a_slow_upload_may_do_later(store: HostileStore) -> None:
    store.hook = lambda _asked: (400, {}, b"<Error><Code>RequestTimeout</Code></Error>")
    assert storage.locate_writable(SUBSET).write_many(["a.txt"], [b"x"]).passing == {"a.txt"}


def test_a_file_that_is_not_there_after_it_was_written_is_told(store: HostileStore) -> None:
    """Its etag is that of other content, so it is read: and the store has none."""
    store.hook = lambda asked: (
        (200, {"ETag": '"%s"' % ("a" * 32)}, b"") if asked.method == "PUT" else store.answer(asked)
    )
    results = storage.locate_writable(SUBSET).write_many(["a.txt"], [b"x"])
    assert results.failed == {"a.txt": "arrived damaged; run again"}


# --- locks ------------------------------------------------------------------------------------------------------------


def test_a_claim_whose_answer_is_lost_holds(store: HostileStore) -> None:
    """The client asks again, and is refused: by the lock that it has just made itself."""
    lost: list[str] = []

    def hook(asked: Request) -> Answer:
        answer = store.answer(asked)
        if asked.method == "PUT" and asked.key == "subset/lock" and not lost:
            lost.append(asked.key)
            return None
        return answer

    store.hook = hook
    place = storage.locate_writable(SUBSET)
    with place.lock("lock", "the target") as held:
        held()
    assert lost
    assert store.objects == {}


def test_a_store_that_is_away_for_as_long_as_a_lease_ends_its_holder(
    store: HostileStore, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """However few requests fail in that time: each may take minutes."""
    seconds = itertools.count(0.0, 100.0)
    monkeypatch.setattr(lease, "clock", lambda: next(seconds))
    monkeypatch.setattr(lease, "BEAT_S", 0.05)
    request.addfinalizer(STOP.clear)
    with (  # noqa: PT012 - the error comes at the end of what it holds
        pytest.raises(LockError, match="its lock was broken by another run"),
        storage.locate_writable(SUBSET).lock("lock", "the target"),
    ):
        store.hook = lambda _asked: (403, {}, b"")
        assert STOP.wait(5)
        store.hook = None


def test_the_lease_of_a_file_system_with_etags_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of s3fs, gcsfs and adlfs are: its time counts all the same."""
    info = MemoryFileSystem.info

    def later(self: MemoryFileSystem, path: str, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = info(self, path, **more) | {"ETag": f'"{path}"'}
        return found | {"created": found["created"] - timedelta(minutes=9 if path.endswith("/lock") else 0)}

    monkeypatch.setattr(MemoryFileSystem, "info", later)
    monkeypatch.setattr(lease, "CLAIM_S", 0.05)
    place = storage.locate_writable("memory://etags")
    place.write("lock", b'{"host": "elsewhere", "process": 7, "where": "there", "id": "x"}')
    with place.lock("lock", "the target") as held:
        held()
