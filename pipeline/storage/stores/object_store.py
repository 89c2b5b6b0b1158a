"""Object stores: S3, Google Cloud Storage, Azure, and all that speak like them, by obstore's own API.

Its requests leave the interpreter lock alone, which makes it several times faster here than fsspec's classes.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pipeline.base.errors import ConfigError
from pipeline.storage.address import Address, bucket_of, content_type
from pipeline.storage.stores.client import Client, Entry, Version
from pipeline.storage.stores.credentials import endpoint_host, open_store, open_top
from pipeline.storage.stores.endpoints import PROXIES
from pipeline.storage.stores.in_flight import WIDTH, delete_each, persist
from pipeline.storage.stores.read_ahead import read_ahead
from pipeline.storage.stores.store_errors import (
    NO_CREDENTIALS,
    Missing,
    NoParts,
    Refused,
    must_be_whole,
    no_credentials,
    of_connection,
    of_status,
)

T = TypeVar("T")

_STATUS = re.compile(r"status code: (\d{3})|HTTP status (?:client|server) error \((\d{3})|\(code: (\d{3})\)")

_CODE = re.compile(r"<Code>([^<]+)</Code>|\"reason\":\s*\"(\w+)\"|\(code: ([A-Za-z]+)\)")

_MESSAGE = re.compile(r"<Message>([^<\n]*)|\"message\":\s*\"([^\"\n]*)\"")

_MD5 = re.compile(r"[0-9a-f]{32}")

#: Stores whose etag of a file that came whole is its MD5, but for some kinds of encryption.
_MD5_TAGS = frozenset({"s3", "gs"})

_PART = 16 << 20

_DELETES = 1000

#: Files of several megabytes in memory at once, whatever the number of threads.
_BIG = 8 << 20

_BIG_AT_ONCE = threading.BoundedSemaphore(4)


class ObjectClient(Client):
    """A bucket or container."""

    LARGE = 64 << 20

    def __init__(self, address: Address, options: dict[str, Any]) -> None:
        self.address, self.options = address, options
        self.width = int(options.get("in_flight", WIDTH))
        self._store = open_store(address, options)
        _find_host(address, options)
        self._root: Any = None
        self._plain_etags = True  # MD5, until one is seen that is not
        self._conditions = True  # are kept, until the store says that it knows none
        self._brief: Any = None

    # Reading

    def get(self, key: str, limit: int | None = None) -> tuple[bytes, Entry]:
        """See `Client.get`; where the etag is an MD5, by it."""
        import obstore

        found = _ask(lambda: obstore.get(self._store, key))
        entry = _entry(found.meta)
        if limit is not None and entry.size > limit:
            return b"", entry
        with _big(entry.size):
            data = _ask(lambda: found.bytes().to_bytes())
        must_be_whole(len(data), entry.size)
        if self._differs(data, found.meta.get("e_tag")):
            self._doubt(key, data, "came damaged; run again")
        return data, entry

    def stream(self, key: str) -> tuple[Entry, Iterator[bytes]]:
        """See `Client.stream`; the number of bytes is checked."""
        import obstore

        found = _ask(lambda: obstore.get(self._store, key))
        entry = _entry(found.meta)

        def pieces() -> Iterator[bytes]:
            came, stream = 0, iter(found.stream(min_chunk_size=4 << 20))
            while (piece := _ask(lambda: next(stream, None))) is not None:
                came += len(piece)
                yield bytes(piece)
            must_be_whole(came, entry.size)

        return entry, pieces()

    def part(self, key: str, start: int, stop: int) -> bytes:
        """See `Client.part`."""
        import obstore
        from obstore.exceptions import GenericError

        def read() -> bytes:
            try:
                return bytes(obstore.get_range(self._store, key, start=start, end=stop))
            except GenericError as error:
                if "NotPartial" in str(error):
                    raise NoParts from None
                raise

        data = _ask(read)
        must_be_whole(len(data), stop - start)
        return data

    def head(self, key: str) -> Entry | None:
        """See `Client.head`."""
        import obstore

        try:
            return _entry(_ask(lambda: obstore.head(self._store, key)))
        except Missing:
            return None

    def list(self, prefix: str) -> Iterator[Sequence[Entry]]:
        """See `Client.list`; a request a thousand files. One whose answer breaks off is gone on with after its last."""
        import obstore

        listing: Iterator[Any] | None = None
        last: str | None = None

        def ask() -> Any:
            nonlocal listing
            if listing is None:
                listing = iter(obstore.list(self._store, prefix or None, offset=last, chunk_size=_DELETES))
            try:
                return _ask(functools.partial(next, listing, None))
            except Refused:
                listing = None
                raise

        while (chunk := persist(ask, lambda: f"{self.address.protocol}://{self.address.host}/{prefix}")) is not None:
            if chunk:
                entries = [_entry(meta) for meta in chunk]
                last = entries[-1].key
                yield entries

    def flat(self, prefix: str) -> Sequence[str]:
        """See `Client.flat`."""
        import obstore

        found = _ask(lambda: obstore.list_with_delimiter(self._store, prefix or None))
        return sorted(meta["path"].rpartition("/")[2] for meta in found["objects"])

    # Writing

    def put(self, key: str, data: bytes) -> None:
        """See `Client.put`.

        S3 stores check the SHA-256 that each request is signed with. On S3 and Google the etag that comes back is the
        MD5 (but under some encryptions), and is compared too. Azure tells no digest through obstore.
        """
        with _big(len(data)):
            tag = self._put(key, data)
            if self._differs(data, tag):
                self._doubt(key, data, "arrived damaged; run again")

    def put_stream(self, key: str, pieces: Iterator[bytes], size: int) -> None:
        """See `Client.put_stream`; by parts, so nothing is to be seen before the last has come."""
        import obstore

        failed: list[BaseException] = []

        def watched() -> Iterator[bytes]:
            try:
                # Not in this thread, where obstore is at work already: pieces of another store ask it, too.
                yield from read_ahead(pieces)
            except BaseException as error:
                failed.append(error)
                raise

        part = max(_PART, -(-size // 9000))  # at most 10,000 parts
        try:
            with _BIG_AT_ONCE:
                _ask(
                    lambda: obstore.put(
                        self._store,
                        key,
                        watched(),
                        attributes={"Content-Type": content_type(key)},
                        use_multipart=True,
                        chunk_size=part,
                        max_concurrency=2,
                    ),
                    writing=True,
                )
        except (Refused, Missing):
            if failed:
                raise failed[0] from None
            raise

    def delete(self, keys: Sequence[str]) -> dict[str, str]:
        """See `Client.delete`; a request a thousand files where the store can."""
        import obstore

        failed: dict[str, str] = {}
        for start in range(0, len(keys), _DELETES):
            some = list(keys[start : start + _DELETES])
            try:
                if len(some) > 1:
                    _ask(lambda some=some: obstore.delete(self._store, some))  # type: ignore[misc]
                    continue
            except Refused as refused:
                if refused.fatal:
                    raise
            except Missing:
                pass
            # One that was gone can stop a whole batch (Azure, Google), and some stores know no batches.
            top = f"{self.address.protocol}://{self.address.host}"
            failed |= delete_each(lambda key: _ask(lambda: obstore.delete(self._store, key)), some, top, self.width)
        return failed

    def can_copy(self, other: Client) -> bool:
        """See `Client.can_copy`: within a bucket; on S3 and Azure also between those of one endpoint or account."""
        if not isinstance(other, ObjectClient) or other.address.protocol != self.address.protocol:
            return False
        (mine, account), (its, its_account) = bucket_of(self.address), bucket_of(other.address)
        if other.options != self.options or account != its_account:
            return False
        return mine == its or self.address.protocol in ("s3", "az")

    def copy(self, other: Client, source: str, key: str, size: int | None) -> None:
        """See `Client.copy`."""
        import obstore

        assert isinstance(other, ObjectClient)
        if size is not None:
            found = other.head(source)
            if found is None:
                raise Missing
            if found.size != size:
                raise Refused("changed since the plan was made; run again")
        if other.address.host == self.address.host:
            _ask(lambda: obstore.copy(self._store, source, key))
            return
        if self._root is None:
            self._root = open_top(self.address, self.options, self._store)
        here, there = bucket_of(self.address)[0], bucket_of(other.address)[0]
        _ask(lambda: obstore.copy(self._root, f"{there}/{source}", f"{here}/{key}"))

    # Locks

    def version(self, key: str) -> Version | None:
        """See `Client.version`."""
        import obstore

        try:
            found = _ask(lambda: obstore.get(self._store, key))
            data = _ask(lambda: found.bytes().to_bytes())
        except Missing:
            return None
        state = {k: found.meta[k] for k in ("e_tag", "version") if found.meta.get(k) is not None}
        return Version(data, _nanoseconds(found.meta["last_modified"]), state)

    def create(self, key: str, data: bytes) -> bool:
        """See `Client.create`."""
        return self._conditionally(key, data, "create")

    def replace(self, key: str, data: bytes, was: Version) -> bool:
        """See `Client.replace`."""
        if self._conditionally(key, data, was.state):
            return True
        state: Any = was.state
        tag = state.get("e_tag") or ""
        if self.address.protocol != "s3" or not tag.startswith('"'):
            return False
        # Ceph compares with the bare etag, so that it refuses whatever is asked for in quotation marks.
        now = self.version(key)
        return now is not None and now.state == state and self._conditionally(key, data, {"e_tag": tag.strip('"')})

    def _conditionally(self, key: str, data: bytes, mode: Any) -> bool:
        from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

        if self._conditions:
            if self._brief is None:  # else obstore asks again and again where a store says that it knows no conditions
                brief = {**self.options, "retry_config": {"max_retries": 2}}
                self._brief = open_store(self.address, brief)
            try:
                self._put(key, data, mode=mode, store=self._brief)
            except (AlreadyExistsError, PreconditionError):
                return False
            except NotSupportedError:
                self._conditions = False
            except Refused as refused:
                if not refused.reason.startswith("501"):
                    raise
                self._conditions = False
            else:
                return True
        self._put(key, data)
        return True

    def _put(self, key: str, data: bytes, mode: Any = None, store: Any = None) -> str | None:
        import obstore

        kind, store = {"Content-Type": content_type(key)}, store or self._store
        found = _ask(
            lambda: obstore.put(store, key, data, attributes=kind, use_multipart=False, mode=mode), writing=True
        )
        tag: str | None = found["e_tag"]
        return tag

    def _differs(self, data: bytes, etag: str | None) -> bool:
        tag = (etag or "").strip('"')
        return bool(
            self._plain_etags
            and self.address.protocol in _MD5_TAGS
            and _MD5.fullmatch(tag)
            and hashlib.md5(data, usedforsecurity=False).hexdigest() != tag
        )

    def _doubt(self, key: str, data: bytes, what: str) -> None:
        """An etag that is not the content's MD5: is the content damaged, or are etags here no MD5s (encryption)?"""
        import obstore

        if _ask(lambda: obstore.get(self._store, key).bytes().to_bytes()) != data:
            raise Refused(what, passing=True)
        self._plain_etags = False


class _big:  # noqa: N801 - a context manager, read as a word
    """Waits while several large files are in memory already."""

    def __init__(self, size: int) -> None:
        self._large = size > _BIG

    def __enter__(self) -> None:
        if self._large:
            _BIG_AT_ONCE.acquire()

    def __exit__(self, *exc: object) -> None:
        if self._large:
            _BIG_AT_ONCE.release()


def _find_host(address: Address, options: dict[str, Any]) -> None:
    """A name that nobody knows is told at once, not after half a minute of tries."""
    import os
    import socket

    if any(map(os.environ.get, PROXIES)):
        return  # then names are the proxy's affair
    name = endpoint_host(address, options)
    if not name:
        return
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        raise ConfigError(
            f"{address.url}: the name of the server, {name}, cannot be found; correct the endpoint (in "
            "conf/local/ or the environment), or check the network"
        ) from None


def _ask(call: Callable[[], T], *, writing: bool = False) -> T:
    """What `call` returns, its errors as ours."""
    from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError, PreconditionError

    try:
        return call()
    except (AlreadyExistsError, PreconditionError, NotSupportedError):
        raise
    except (BaseError, OSError, ValueError) as error:
        text, _, inner = str(error).partition("\n\nDebug source")
        missing = isinstance(error, FileNotFoundError)
    status, code, message = (
        next((g for g in m.groups() if g), None) if (m := pattern.search(text)) else None
        for pattern in (_STATUS, _CODE, _MESSAGE)
    )
    if missing and not writing and code not in ("NoSuchBucket", "ContainerNotFound", "notFound"):
        raise Missing
    if missing:
        code = "NoSuchBucket" if code in (None, "NoSuchKey", "notFound") else code
    if no_credentials(text):
        raise NO_CREDENTIALS
    if status is None and (broken := of_connection(text + inner)) is not None:
        raise broken
    raise of_status(status, code, (message or "").strip()[:200])


def _entry(meta: Any) -> Entry:
    import xxhash

    tag = (meta.get("e_tag") or "").strip('"')
    if not tag:
        return Entry(meta["path"], meta["size"], 0, _nanoseconds(meta["last_modified"]))
    number = int.from_bytes(xxhash.xxh3_64_digest(tag.encode()), "big", signed=True)
    return Entry(meta["path"], meta["size"], number, 0)


def _nanoseconds(time: datetime.datetime) -> int:
    return int(time.timestamp() * 1_000_000) * 1000
