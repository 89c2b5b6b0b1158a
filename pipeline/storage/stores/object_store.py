"""Object stores: S3, Google Cloud Storage, Azure, and all that speak like them, by obstore's own API.

Its requests leave the interpreter lock alone, which makes it several times faster here than fsspec's classes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.base.errors import ConfigError, UnavailableError
from pipeline.runtime.counters import FETCHED, count
from pipeline.storage.address import Address, bucket_of
from pipeline.storage.location import PACKED, is_packed
from pipeline.storage.stores.client import Client, Entry, Version, counted_pieces
from pipeline.storage.stores.credentials import endpoint_host, open_store, open_top
from pipeline.storage.stores.endpoints import PROXIES
from pipeline.storage.stores.in_flight import WIDTH, delete_each
from pipeline.storage.stores.object_requests import (
    AT_ONCE,
    ask,
    big,
    entry_of,
    list_entries,
    nanoseconds,
    put_object,
    put_pieces,
)
from pipeline.storage.stores.store_errors import Missing, NoParts, Refused, must_be_whole

_MD5 = re.compile(r"[0-9a-f]{32}")

#: Stores whose etag of a file that came whole is its MD5, but for some kinds of encryption.
_MD5_TAGS = frozenset({"s3", "gs"})


class _Conditions:
    """Writes on conditions, as far as the store keeps them: from when it says that it knows none, plain writes."""

    def __init__(self, address: Address, options: dict[str, Any], store: Any) -> None:
        self._address, self._options, self._store = address, options, store
        self._supported = True
        self._brief: Any = None

    def write(self, key: str, data: bytes, mode: Any) -> bool:
        """Write a file by the condition `mode` of obstore; False where it is not met."""
        from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

        if self._supported:
            if self._brief is None:  # else obstore asks again and again where a store says that it knows no conditions
                self._brief = open_store(self._address, {**self._options, "retry_config": {"max_retries": 2}})
            try:
                put_object(self._brief, key, data, mode)
            except (AlreadyExistsError, PreconditionError):
                return False
            except NotSupportedError:
                self._supported = False
            except Refused as refused:
                if not refused.reason.startswith("501"):
                    raise
                self._supported = False
            else:
                return True
        put_object(self._store, key, data)
        return True


class _Etags:
    """Etags as digests: on S3 and Google that of a file that went whole is its MD5, if not encrypted."""

    def __init__(self, protocol: str, store: Any) -> None:
        self._store = store
        self._are_digests = protocol in _MD5_TAGS  # until one is seen that is not

    def check(self, key: str, data: bytes, etag: str | None, what: str) -> None:
        """Raise `Refused`, saying `what` happened, where the store has other content than `data` by its `etag`."""
        import obstore

        tag = (etag or "").strip('"')
        if not self._are_digests or not _MD5.fullmatch(tag):
            return
        if hashlib.md5(data, usedforsecurity=False).hexdigest() == tag:
            return
        # Is the content damaged, or are etags here no MD5s?
        try:
            whole = _content(ask(lambda: obstore.get(self._store, key))) == data
        except Missing:
            whole = False
        if not whole:
            raise Refused(what, passing=True)
        self._are_digests = False


class ObjectClient(Client):
    """A bucket or container."""

    LARGE = 64 << 20
    PAGES = True

    def __init__(self, address: Address, options: dict[str, Any]) -> None:
        self.address, self.options = address, options
        self.width = int(options.get("in_flight", WIDTH))
        self._store = open_store(address, options)
        _find_host(address, options)
        self._root: Any = None
        self._etags = _Etags(address.protocol, self._store)
        self._conditions = _Conditions(address, options, self._store)

    # Reading

    def get(self, key: str, limit: int | None = None) -> tuple[bytes, Entry]:
        """See `Client.get`; where the etag is an MD5, by it."""
        import obstore

        found = ask(lambda: obstore.get(self._store, key))
        entry = entry_of(found.meta)
        if limit is not None and entry.size > limit:
            return b"", entry
        with big(entry.size):
            data = _content(found)
        must_be_whole(len(data), entry.size)
        if is_packed(data, found.attributes.get("Content-Encoding")):
            raise Refused(PACKED)
        self._etags.check(key, data, found.meta.get("e_tag"), "came damaged; run again")
        return data, entry

    def stream(self, key: str) -> tuple[Entry, Iterator[bytes]]:
        """See `Client.stream`; the number of bytes is checked."""
        import obstore

        found = ask(lambda: obstore.get(self._store, key))
        entry = entry_of(found.meta)

        def pieces() -> Iterator[bytes]:
            stream = iter(found.stream(min_chunk_size=4 << 20))
            while (piece := ask(lambda: next(stream, None), goes_on=True)) is not None:
                yield bytes(piece)

        return entry, counted_pieces(pieces(), entry.size)

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

        data = ask(read)
        count(FETCHED, len(data))
        must_be_whole(len(data), stop - start)
        return data

    def head(self, key: str) -> Entry | None:
        """See `Client.head`."""
        import obstore

        try:
            return entry_of(ask(lambda: obstore.head(self._store, key)))
        except Missing:
            return None

    def list(self, prefix: str) -> Iterator[Sequence[Entry]]:
        """See `Client.list`; a request a thousand files. One whose answer breaks off is gone on with after its last."""
        url = f"{self.address.protocol}://{self.address.host}/{prefix}"
        return list_entries(self._store, prefix, url)

    def flat(self, prefix: str) -> Sequence[str]:
        """See `Client.flat`."""
        import obstore

        found = ask(lambda: obstore.list_with_delimiter(self._store, prefix or None))
        return sorted(meta["path"].rpartition("/")[2] for meta in found["objects"])

    # Writing

    def put(self, key: str, data: bytes) -> None:
        """See `Client.put`.

        S3 stores check the SHA-256 that each request is signed with. On S3 and Google the etag that comes back is the
        MD5 (but under some encryptions), and is compared too. Azure gives no digest through obstore.
        """
        with big(len(data)):
            self._etags.check(key, data, put_object(self._store, key, data), "arrived damaged; run again")

    def put_stream(self, key: str, pieces: Iterator[bytes], size: int) -> None:
        """See `Client.put_stream`; by parts, so nothing is to be seen before the last has come."""
        put_pieces(self._store, key, pieces, size)

    def delete(self, keys: Sequence[str]) -> dict[str, Refused]:
        """See `Client.delete`; a request a thousand files where the store can."""
        import obstore

        failed: dict[str, Refused] = {}
        for start in range(0, len(keys), AT_ONCE):
            some = list(keys[start : start + AT_ONCE])
            try:
                if len(some) > 1:
                    ask(lambda some=some: obstore.delete(self._store, some))  # type: ignore[misc]
                    continue
            except Refused as refused:
                if refused.fatal:
                    raise
            except Missing:
                pass
            # One that was gone can stop a whole batch (Azure, Google), and some stores know no batches.
            top = f"{self.address.protocol}://{self.address.host}"
            failed |= delete_each(lambda key: ask(lambda: obstore.delete(self._store, key)), some, top, self.width)
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
            ask(lambda: obstore.copy(self._store, source, key))
            return
        if self._root is None:
            self._root = open_top(self.address, self.options, self._store)
        here, there = bucket_of(self.address)[0], bucket_of(other.address)[0]
        ask(lambda: obstore.copy(self._root, f"{there}/{source}", f"{here}/{key}"))

    # Locks

    def version(self, key: str) -> Version | None:
        """See `Client.version`."""
        import obstore

        try:
            found = ask(lambda: obstore.get(self._store, key))
            data = _content(found)
        except Missing:
            return None
        state = {k: found.meta[k] for k in ("e_tag", "version") if found.meta.get(k) is not None}
        return Version(data, nanoseconds(found.meta["last_modified"]), state)

    def create(self, key: str, data: bytes) -> bool:
        """See `Client.create`."""
        return self._conditions.write(key, data, "create")

    def replace(self, key: str, data: bytes, was: Version) -> bool:
        """See `Client.replace`."""
        if self._conditions.write(key, data, was.state):
            return True
        state: Any = was.state
        tag = state.get("e_tag") or ""
        if self.address.protocol != "s3" or not tag.startswith('"'):
            return False
        # Ceph compares with the bare etag, so that it refuses whatever is asked for in quotation marks.
        now = self.version(key)
        return now is not None and now.state == state and self._conditions.write(key, data, {"e_tag": tag.strip('"')})


def _content(found: Any) -> bytes:
    """All of an object whose answer has begun."""
    data: bytes = ask(lambda: found.bytes().to_bytes(), goes_on=True)
    count(FETCHED, len(data))
    return data


def _find_host(address: Address, options: dict[str, Any]) -> None:
    """An unknown name is reported at once, not after half a minute of tries."""
    import os
    import socket

    if any(map(os.environ.get, PROXIES)):
        return  # then names are the proxy's affair
    name = endpoint_host(address, options)
    if not name:
        return
    try:
        socket.getaddrinfo(name, None)
    except OSError as error:
        if error.errno == socket.EAI_AGAIN:
            raise UnavailableError(
                f"{address.url}: the name of the server, {name}, cannot be looked up now; check the network, then run "
                "again: it goes on where it was"
            ) from None
        raise ConfigError(
            f"{address.url}: the name of the server, {name}, cannot be found; correct the endpoint (in "
            "conf/local/ or the environment), or check the network"
        ) from None
