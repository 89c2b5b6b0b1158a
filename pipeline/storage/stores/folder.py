"""Places on a store or server: the verbs of `Location`, made of what a `Client` can do.

Requests take their time however small the file is, so every batch keeps a window of them in flight. And where many
files are asked about, one listing answers instead.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from pipeline.base.errors import StorageError
from pipeline.storage.address import Address, odd_key
from pipeline.storage.listing import Listing
from pipeline.storage.location import (
    MAX_IMAGE_BYTES,
    Fetched,
    Fingerprint,
    Location,
    Results,
    WritableLocation,
    is_too_large,
    too_large,
)
from pipeline.storage.settling import settle_ns
from pipeline.storage.stores.client import Client, Entry
from pipeline.storage.stores.connect import client_for
from pipeline.storage.stores.in_flight import in_flight, persist
from pipeline.storage.stores.lease import holder, lease
from pipeline.storage.stores.store_errors import Missing, NoParts, Refused
from pipeline.storage.stores.transfer import Shipment, ship

T = TypeVar("T")

#: From here on a listing is quicker than a question a file.
_LIST_FROM = 64

#: What is remembered of a listing, and for how long (s): the stages ask about one place a bucket at a time.
_REMEMBER_FILES = 2_000_000

_REMEMBER_S = 60.0

_CHUNK = 16_384


#: So many files tell how large those of a folder are.
_FIRST_BATCH = 64


class RemoteFolder(WritableLocation):
    """A folder of a store or server: all files whose keys begin with its path. It need not exist."""

    def __init__(self, address: Address) -> None:
        super().__init__(address.url)
        self.address = address

    @property
    def client(self) -> Client:
        """The store; opened when it is first needed. Raises `StorageError` where it does not answer."""
        try:
            return persist(lambda: client_for(self.address), lambda: self.url)
        except Refused as refused:
            raise refused.error(self.url, "opened") from None

    def below(self, folder: str) -> RemoteFolder:
        """See `Location.below`."""
        return RemoteFolder(replace(self.address, url=f"{self.url}/{folder}", path=self.address.key(folder)))

    # What is there

    def exists(self) -> bool:
        """See `Location.exists`: whether there is any file."""
        return any(chunk for chunk in self._list(""))

    def listing(self, suffixes: frozenset[str], *, with_stats: bool) -> Listing:
        """See `Location.listing`; the numbers come along anyway: size, 64 bits of the etag (or time), time or 0, 1."""
        listing = Listing(self.url)
        single = next(iter(suffixes)) if len(suffixes) == 1 else None
        names: list[str] = []
        stats: list[int] = []
        for chunk in self._list(""):
            for entry in chunk:
                name = entry.key
                if not (name.endswith(single) if single else name[name.rfind(".") :].lower() in suffixes):
                    continue
                if odd_key(name):
                    listing.odd.append((name, "odd_key"))
                    continue
                names.append(name)
                stats.extend(entry.numbers)
            if len(names) >= _CHUNK:
                listing.take(names, stats, with_stats=with_stats)
        if names:
            listing.take(names, stats, with_stats=with_stats)
        return listing

    def names(self, folder: str = "") -> set[str]:
        """See `Location.names`."""
        if (seen := self._remembered()) is not None:
            prefix = f"{folder}/" if folder else ""
            return {path[len(prefix) :] for path in seen if path.startswith(prefix)}
        return {entry.key for chunk in self._list(folder) for entry in chunk}

    def flat_names(self, folder: str) -> Sequence[str]:
        """See `Location.flat_names`."""
        found: Sequence[str] = self._single(
            lambda: self.client.flat(self.address.key(folder)), self.join(folder), "listed"
        )
        return found

    @contextmanager
    def surveyed(self) -> Iterator[None]:
        """See `Location.surveyed`."""
        self._forget()
        self._seen()
        try:
            yield
        finally:
            self._forget()

    def exist_many(self, paths: Sequence[str], *, sure: bool = False) -> Sequence[bool]:
        """See `Location.exist_many`."""
        return [entry is not None for entry in self._look(paths, sure=sure)]

    def sizes(self, paths: Sequence[str]) -> Sequence[int | None]:
        """See `Location.sizes`."""
        return [entry and entry[0] for entry in self._look(paths, sure=True)]

    def fingerprints(self, paths: Sequence[str]) -> Sequence[Fingerprint | None]:
        """See `Location.fingerprints`; the mark is size and etag, or size and time."""
        now, settle = time.time_ns(), settle_ns()
        return [
            found and Fingerprint(found[0], array("q", found).tobytes(), abs(now - found[2]) >= settle)
            for found in self._look(paths)
        ]

    # Reading

    def read(self, path: str) -> bytes | None:
        """See `Location.read`."""
        try:
            data: bytes = self._single(lambda: self.client.get(self.address.key(path))[0], self.join(path), "read")
        except Missing:
            return None
        return data

    def read_many(
        self, paths: Sequence[str], limit: int, room: int | None = None
    ) -> tuple[Sequence[bytes], array[int], dict[int, str]]:
        """See `Location.read_many`; a store does not tell sizes beforehand, so `room` is filled from small batches."""
        if room is not None:
            return self._read_into(paths, limit, room)
        contents: list[bytes] = [b""] * len(paths)
        stats = array("q", bytes(32 * len(paths)))
        failed: dict[int, str] = {}
        client = self.client  # to find it takes longer than a small file
        for i, found in self._each(paths, lambda key: _got(client, key, limit), "read"):
            if isinstance(found, Refused) or found is None:
                failed[i] = "vanished" if found is None else "unreadable"
            elif found[1].size > limit:
                failed[i] = "too_large"
            else:
                contents[i] = found[0]
                stats[4 * i : 4 * i + 4] = array("q", found[1].numbers)
        return contents, stats, failed

    def _read_into(
        self, paths: Sequence[str], limit: int, room: int
    ) -> tuple[Sequence[bytes], array[int], dict[int, str]]:
        """The first of `paths`, a batch after the other, each of as many as the room left holds by their mean size."""
        contents: list[bytes] = []
        stats, failed, size, count = array("q"), {}, 0, _FIRST_BATCH
        while len(contents) < len(paths) and size < room:
            begin = len(contents)
            some, numbers, bad = self.read_many(paths[begin : begin + count], limit)
            contents += some
            stats += numbers
            failed.update({begin + i: reason for i, reason in bad.items()})
            size += sum(map(len, some))
            count = max((room - size) * len(contents) // max(size, 1), 1)
        return contents, stats, failed

    def fetch_many(self, paths: Sequence[str]) -> Iterator[Fetched]:
        """See `Location.fetch_many`; in the order in which they come."""
        return self.fetch_each(paths, lambda fetched: fetched)

    def fetch_each(self, paths: Sequence[str], work: Callable[[Fetched], T]) -> Iterator[T]:
        """See `Location.fetch_each`; in the order in which they come."""
        client, keys = self.client, [self._key(path) for path in paths]

        def get(i: int) -> T:
            found = _got(client, keys[i], MAX_IMAGE_BYTES)
            if found is None:
                return work(Fetched(i, reason="is not there"))
            return work(Fetched(i, found[0], too_large() if is_too_large(found[1].size) else None))

        for i, done in in_flight(
            get, range(len(keys)), name=lambda i: self.join(paths[i]), doing="read", width=min(client.width, len(keys))
        ):
            yield work(Fetched(i, reason=done.reason)) if isinstance(done, Refused) else done

    def read_parts(self, path: str, parts: Sequence[tuple[int, int]], width: int) -> Iterator[tuple[int, bytes]]:
        """See `Location.read_parts`; in the order in which they come."""
        client, key, url = self.client, self._key(path), self.join(path)
        try:
            for i, found in in_flight(
                lambda i: client.part(key, *parts[i]),
                range(len(parts)),
                name=lambda _: url,
                doing="read",
                width=min(width, len(parts)),
            ):
                if isinstance(found, Refused):
                    raise found.error(url, "read")
                yield i, found
        except NoParts:
            yield from self._cut(key, url, parts)
        except Missing:
            raise StorageError(f"{url}: was deleted while it was read") from None

    def _cut(self, key: str, url: str, parts: Sequence[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
        """Parts of a file that is read as a whole."""
        order = sorted(range(len(parts)), key=lambda i: parts[i])
        at, held = 0, bytearray()
        try:
            for piece in self.client.stream(key)[1]:
                held += piece
                while order and parts[order[0]][1] <= at + len(held):
                    i = order.pop(0)
                    start, stop = parts[i]
                    yield i, bytes(held[start - at : stop - at])
                    del held[: stop - at]
                    at = stop
                if not order:
                    return
        except Refused as refused:
            raise refused.error(url, "read") from None
        raise StorageError(f"{url}: became shorter while it was read; run again")

    def content_digests(self, paths: Sequence[str]) -> Sequence[bytes | None]:
        """See `Location.content_digests`."""
        import xxhash

        client = self.client

        def read(key: str) -> bytes | None:
            state = xxhash.xxh3_128()
            try:
                for piece in client.stream(key)[1]:
                    state.update(piece)
            except Missing:
                return None
            return bytes(state.digest())

        found: list[bytes | None] = [None] * len(paths)
        for i, digest in self._each(paths, read, "read"):
            found[i] = None if isinstance(digest, Refused) else digest
        return found

    # Writing

    def write(self, path: str, data: bytes) -> None:
        """See `WritableLocation.write`."""
        self._forget()
        self._single(lambda: self.client.put(self.address.key(path), data), self.join(path), "written")

    def write_many(
        self,
        paths: Sequence[str],
        contents: Sequence[bytes],
        *,
        scratch: WritableLocation | None = None,
        direct: bool = False,
    ) -> Results:
        """See `WritableLocation.write_many`; a store shows whole files only, so nothing is made elsewhere first."""
        del scratch, direct
        self._forget()
        results, client = Results(), self.client

        def put(i: int) -> None:
            client.put(self._key(paths[i]), contents[i])

        for i, found in in_flight(
            put,
            range(len(paths)),
            name=lambda i: self.join(paths[i]),
            doing="written",
            width=min(client.width, len(paths)),
        ):
            if isinstance(found, Refused):
                results.failed[paths[i]] = found.reason
            else:
                results.done += 1
        return results

    def copy_many(
        self,
        paths: Sequence[str],
        origin: Location,
        names: Sequence[str],
        sizes: Sequence[int | None],
        how: str,
        *,
        scratch: WritableLocation | None = None,
        direct: bool = False,
    ) -> Results:
        """See `WritableLocation.copy_many`; within one store the bytes do not pass through here."""
        del scratch, direct
        if how != "copy":
            raise StorageError(f"{self.url}: a store knows no {how}s; set target.images to copy")
        self._forget()
        origin_client = origin.client if isinstance(origin, RemoteFolder) else None
        keys = [self._key(path) for path in paths]
        return ship(Shipment(self, self.client, paths, keys, origin, origin_client, names, sizes))

    def delete_many(self, paths: Sequence[str]) -> Results:
        """See `WritableLocation.delete_many`; in batches where the store knows them."""
        self._forget()
        if not paths:
            return Results()
        keys = {self.address.key(path): path for path in paths}
        failed = self._single(lambda: self.client.delete(list(keys)), self.join(paths[0]), "deleted")
        return Results(len(keys) - len(failed), {keys[key]: reason for key, reason in failed.items()})

    # Locks

    def lock(self, path: str, what: str) -> AbstractContextManager[Callable[[], None]]:
        """See `WritableLocation.lock`; a lease, see `_lease`."""
        return lease(self.client, self.address.key(path), self.join(path), what)

    def lock_holder(self, path: str) -> str | None:
        """See `WritableLocation.lock_holder`."""
        found: str | None = self._single(lambda: holder(self.client, self.address.key(path)), self.join(path), "read")
        return found

    def break_lock(self, path: str) -> None:
        """See `WritableLocation.break_lock`."""
        self.delete_many([path])

    # How

    def _key(self, path: str) -> str:
        key = self.address.key(path)
        if why := odd_key(key):
            raise StorageError(f"{self.join(path)}: {why}")
        return key

    def _list(self, folder: str) -> Iterator[Sequence[Entry]]:
        """Entries below `folder`, their keys relative to it."""
        prefix = self.address.key(folder)
        cut = len(prefix) + 1 if prefix else 0
        try:
            for chunk in self.client.list(prefix):
                yield [replace(entry, key=entry.key[cut:]) for entry in chunk if len(entry.key) > cut]
        except Refused as refused:
            raise refused.error(self.join(folder), "listed") from None

    def _each(self, paths: Sequence[str], work: Any, doing: str) -> Iterator[tuple[int, Any]]:
        client = self.client
        keys = [self._key(path) for path in paths]
        return in_flight(
            lambda i: work(keys[i]),
            range(len(keys)),
            name=lambda i: self.join(paths[i]),
            doing=doing,
            width=min(client.width, len(keys)),
        )

    def _single(self, ask: Any, url: str, doing: str) -> Any:
        try:
            return persist(ask, lambda: url)
        except Refused as refused:
            raise refused.error(url, doing) from None

    def _look(self, paths: Sequence[str], *, sure: bool = False) -> list[tuple[int, int, int, int] | None]:
        """The four numbers of each file; None where there is none. `sure` is as in `Location.exist_many`."""
        seen = self._seen() if len(paths) > _LIST_FROM else self._remembered()
        found = [seen.get(path) if seen is not None else None for path in paths]
        asked = [i for i, entry in enumerate(found) if entry is None] if sure or seen is None else []
        for n, entry in self._each([paths[i] for i in asked], self.client.head, "looked at"):
            if isinstance(entry, Refused):
                raise entry.error(self.join(paths[asked[n]]), "looked at")
            found[asked[n]] = entry and entry.numbers
        return found

    def _seen(self) -> dict[str, tuple[int, int, int, int]] | None:
        """All files below this place; None where they are too many to be remembered."""
        with _SEEN_LOCK:
            made, files = _SEEN.get(self.url, (0.0, None))
            if time.monotonic() - made < _REMEMBER_S and made:
                return files
            files = {}
            for chunk in self._list(""):
                files.update((entry.key, entry.numbers) for entry in chunk)
                if len(files) > _REMEMBER_FILES:
                    files = None
                    break
            _SEEN[self.url] = (time.monotonic(), files)
            return files

    def _remembered(self) -> dict[str, tuple[int, int, int, int]] | None:
        made, files = _SEEN.get(self.url, (0.0, None))
        return files if time.monotonic() - made < _REMEMBER_S else None

    def _forget(self) -> None:
        with _SEEN_LOCK:
            for url in [u for u in _SEEN if u.startswith(self.url) or self.url.startswith(u)]:
                del _SEEN[url]


def _got(client: Client, key: str, limit: int | None) -> tuple[bytes, Entry] | None:
    try:
        return client.get(key, limit)
    except Missing:
        return None


_SEEN: dict[str, tuple[float, dict[str, tuple[int, int, int, int]] | None]] = {}

_SEEN_LOCK = threading.Lock()
