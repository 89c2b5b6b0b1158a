"""Locations on a store or server: the verbs of `Location`, made of what a `Client` can do.

Requests take their time however small the file is, so every batch keeps a window of them in flight. And where many
files are asked about, one listing answers instead.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TypeVar

from pipeline.base.errors import StorageError
from pipeline.storage.address import Address, why_invalid
from pipeline.storage.listing import Listing
from pipeline.storage.location import RUNNING, Copies, Fetched, Fingerprint, Results, WritableLocation
from pipeline.storage.settling import settle_ns
from pipeline.storage.spill import Spill
from pipeline.storage.stores.batch import Batch, read_parts
from pipeline.storage.stores.client import Client, Entry
from pipeline.storage.stores.connect import client_for
from pipeline.storage.stores.guard import Asking, Guard, outlast_answers, unguarded
from pipeline.storage.stores.in_flight import insist
from pipeline.storage.stores.lease import holder, lease
from pipeline.storage.stores.store_errors import Missing, Refused
from pipeline.storage.stores.survey import Numbers, forget, look_up, peek, peeked, remembered, survey, whole_listing
from pipeline.storage.stores.transfer import Shipment, ship

T = TypeVar("T")

#: Files of a listing that are handed on together.
_CHUNK = 16_384


class RemoteFolder(WritableLocation):
    """A folder of a store or server: all files whose keys begin with its path. It need not exist."""

    def __init__(self, address: Address, guard: Guard = unguarded) -> None:
        super().__init__(address.url)
        self.address, self.guard = address, guard

    @property
    def client(self) -> Client:
        """The store; opened when it is first needed. Raises `StorageError` where it does not answer."""
        return insist(lambda: client_for(self.address), self.url, "opened")

    def below(self, folder: str) -> RemoteFolder:
        """See `Location.below`."""
        return RemoteFolder(self.address.below(folder), self.guard)

    # What is there

    def exists(self) -> bool:
        """See `Location.exists`: whether there is any file."""
        return peek(self.url, self._list(""))

    def listing(self, suffixes: frozenset[str], *, with_stats: bool, spill: Spill | None = None) -> Listing:
        """See `Location.listing`; the numbers come along anyway: size, 64 bits of the etag (or time), time or 0, 1."""
        listing = Listing(self.url, spill or Spill())
        _fill(listing, whole_listing(self.url, self._list("")), suffixes, with_stats=with_stats)
        return listing

    def names(self, folder: str = "") -> set[str]:
        """See `Location.names`."""
        if (seen := remembered(self.url)) is not None:
            prefix = f"{folder}/" if folder else ""
            return {path[len(prefix) :] for path in seen if path.startswith(prefix)}
        return {entry.key for chunk in self._list(folder) for entry in chunk}

    def flat_names(self, folder: str) -> Sequence[str]:
        """See `Location.flat_names`."""
        return insist(lambda: self.client.flat(self.address.key(folder)), self.join(folder), "listed")

    def begin_listing(self) -> None:
        """See `Location.begin_listing`."""
        forget(self.url)
        if self.client.PAGES:
            peek(self.url, self._list(""))

    def begun(self) -> dict[str, Fingerprint] | None:
        """See `Location.begun`."""
        seen, now, settle = peeked(self.url), time.time_ns(), settle_ns()
        return {name: _fingerprint(file, now, settle) for name, file in seen.items()} if seen is not None else None

    @contextmanager
    def surveyed(self) -> Iterator[None]:
        """See `Location.surveyed`."""
        forget(self.url)
        survey(self.url, lambda: self._list(""))
        try:
            yield
        finally:
            forget(self.url)

    def exist_many(self, paths: Sequence[str], *, sure: bool = False) -> Sequence[bool]:
        """See `Location.exist_many`."""
        return [entry is not None for entry in self._look_up(paths, sure=sure)]

    def sizes(self, paths: Sequence[str]) -> Sequence[int | None]:
        """See `Location.sizes`."""
        return [entry and entry[0] for entry in self._look_up(paths, sure=True)]

    def fingerprints(self, paths: Sequence[str]) -> Sequence[Fingerprint | None]:
        """See `Location.fingerprints`; the mark is size and etag, or size and time."""
        now, settle = time.time_ns(), settle_ns()
        return [file and _fingerprint(file, now, settle) for file in self._look_up(paths)]

    # Reading

    def read(self, path: str) -> bytes | None:
        """See `Location.read`."""
        try:
            return insist(lambda: self.client.get(self.address.key(path))[0], self.join(path), "read")
        except Missing:
            return None

    def read_many(
        self, paths: Sequence[str], limit: int, room: int | None = None
    ) -> tuple[Sequence[bytes], array[int], dict[int, str]]:
        """See `Location.read_many`; sizes are not known beforehand, so `room` is filled from small batches."""
        batch = self._batch(paths)
        return batch.read(limit) if room is None else batch.read_into(limit, room)

    def fetch_many(self, paths: Sequence[str]) -> Iterator[Fetched]:
        """See `Location.fetch_many`; in the order in which they come."""
        return self.fetch_each(paths, lambda fetched: fetched)

    def fetch_each(self, paths: Sequence[str], work: Callable[[Fetched], T]) -> Iterator[T]:
        """See `Location.fetch_each`; in the order in which they come."""
        return self._batch(paths).fetch(work)

    def read_parts(self, path: str, parts: Sequence[tuple[int, int]], width: int) -> Iterator[tuple[int, bytes]]:
        """See `Location.read_parts`; in the order in which they come."""
        return read_parts(self.client, self.address.sound_key(path), self.join(path), parts, width)

    def content_digests(self, paths: Sequence[str]) -> Sequence[bytes | None]:
        """See `Location.content_digests`."""
        return self._batch(paths).digests()

    # Writing

    def write(self, path: str, data: bytes) -> None:
        """See `WritableLocation.write`."""
        forget(self.url)
        insist(lambda: self.client.put(self.address.key(path), data), self.join(path), "written")

    def write_many(
        self,
        paths: Sequence[str],
        contents: Sequence[bytes],
        *,
        scratch: WritableLocation | None = None,
        direct: bool = False,
    ) -> Results:
        """See `WritableLocation.write_many`; a store shows whole files only, so nothing is made elsewhere first."""
        del direct
        forget(self.url)
        batch = self._batch(paths)
        put = _guard(scratch)(lambda i: batch.client.put(batch.keys[i], contents[i]))
        results = Results()
        for i, found in batch.each(put, "written"):
            if isinstance(found, Refused):
                found.note(results, paths[i])
            else:
                results.done += 1
        return results

    def copy_many(self, copies: Copies, *, scratch: WritableLocation | None = None, direct: bool = False) -> Results:
        """See `WritableLocation.copy_many`; within one store the bytes do not pass through here."""
        del direct
        if copies.how != "copy":
            raise StorageError(f"{self.url}: a store knows no {copies.how}s; set target.images to copy")
        forget(self.url)
        origin_client = copies.origin.client if isinstance(copies.origin, RemoteFolder) else None
        keys = [self.address.sound_key(path) for path in copies.paths]
        return ship(Shipment(copies, self, self.client, keys, origin_client, _guard(scratch)))

    def delete_many(self, paths: Sequence[str], *, scratch: WritableLocation | None = None) -> Results:
        """See `WritableLocation.delete_many`; in batches where the store knows them."""
        forget(self.url)
        if not paths:
            return Results()
        keys = {self.address.key(path): path for path in paths}
        delete = _guard(scratch)(lambda: self.client.delete(list(keys)))
        refusals = insist(delete, self.join(paths[0]), "deleted")
        results = Results(len(keys) - len(refusals))
        for key, refused in refusals.items():
            refused.note(results, keys[key])
        return results

    def sealed(self) -> RemoteFolder:
        """See `WritableLocation.sealed`."""
        return RemoteFolder(self.address, Asking(lambda: self.client, self.address.key(RUNNING), self.join(RUNNING)))

    def outlast_writers(self) -> None:
        """See `WritableLocation.outlast_writers`."""
        outlast_answers()

    def drop_temporaries(self, folder: str = "", *, shared: bool = False) -> None:
        """See `WritableLocation.drop_temporaries`."""
        assert not shared
        client = self.client
        halves = insist(lambda: client.halves(self.address.key(folder)), self.join(folder), "listed")
        if halves:
            insist(lambda: client.delete(halves), self.join(folder), "deleted")

    def lock(self, path: str, what: str) -> AbstractContextManager[Callable[[], None]]:
        """See `WritableLocation.lock`; a lease, see `stores.lease`."""
        forget(self.url)  # who locks it wants to know what is there from now on
        return lease(self.client, self.address.key(path), self.join(path), what)

    def lock_holder(self, path: str) -> str | None:
        """See `WritableLocation.lock_holder`."""
        return insist(lambda: holder(self.client, self.address.key(path)), self.join(path), "read")

    def break_lock(self, path: str) -> None:
        """See `WritableLocation.break_lock`."""
        self.delete_many([path])

    def _list(self, folder: str) -> Iterator[Sequence[Entry]]:
        return _entries(lambda: self.client, self.address.key(folder), self.join(folder))

    def _batch(self, paths: Sequence[str]) -> Batch:
        return Batch(self.client, [self.address.sound_key(path) for path in paths], [self.join(path) for path in paths])

    def _look_up(self, paths: Sequence[str], *, sure: bool = False) -> list[Numbers | None]:
        """The four numbers of each file; None if missing. `sure` is as in `Location.exist_many`."""
        return look_up(
            self.url, paths, lambda: self._list(""), lambda some: self._batch(some).heads("checked"), sure=sure
        )


def _fingerprint(file: Numbers, now: int, settle: int) -> Fingerprint:
    return Fingerprint(file[0], array("q", file).tobytes(), abs(now - file[2]) >= settle, file[2] != 0)


def _entries(client: Callable[[], Client], prefix: str, url: str) -> Iterator[Sequence[Entry]]:
    """Entries below the folder `url`, whose keys begin with `prefix`; their own are relative to it."""
    cut = len(prefix) + 1 if prefix else 0
    try:
        for chunk in client().list(prefix):
            yield [replace(entry, key=entry.key[cut:]) for entry in chunk if len(entry.key) > cut]
    except Refused as refused:
        raise refused.error(url, "listed") from None


def _guard(scratch: WritableLocation | None) -> Guard:
    """The guard of `scratch`, or one that asks nobody."""
    return scratch.guard if isinstance(scratch, RemoteFolder) else unguarded


def _fill(listing: Listing, chunks: Iterable[Sequence[Entry]], suffixes: frozenset[str], *, with_stats: bool) -> None:
    """Add those of the files in `chunks`, which are all of its folder, that have one of the `suffixes`."""
    single = next(iter(suffixes)) if len(suffixes) == 1 else None
    names: list[str] = []
    stats: list[int] = []
    for chunk in chunks:
        for entry in chunk:
            name = entry.key
            if not (single and name.endswith(single)) and name[name.rfind(".") :].lower() not in suffixes:
                continue
            if why_invalid(name):
                listing.unusable.append((name, "odd_key"))
                continue
            names.append(name)
            stats.extend(entry.numbers)
        if len(names) >= _CHUNK:
            listing.take(names, stats, with_stats=with_stats)
    if names:
        listing.take(names, stats, with_stats=with_stats)
