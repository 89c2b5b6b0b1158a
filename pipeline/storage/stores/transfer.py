"""Putting files of another location into a store: copied by the store itself, read and sent, or passed on in pieces."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.runtime.counters import READ, count
from pipeline.storage.location import Copies, Fetched, Location, Results
from pipeline.storage.stores.client import Client
from pipeline.storage.stores.guard import Guard, unguarded
from pipeline.storage.stores.in_flight import in_flight
from pipeline.storage.stores.store_errors import Missing, Refused

_CHANGED = "changed since the plan was made; run again"

_PIECE = 4 << 20


@dataclass(frozen=True)
class Shipment:
    """Files that go to `keys` of `client`, the store of `location`.

    `origin_client` is the origin's store where it is one; a `guard` is asked before each is sent.
    """

    files: Copies
    location: Location
    client: Client
    keys: Sequence[str]
    origin_client: Client | None
    guard: Guard = unguarded


def ship(job: Shipment) -> Results:
    """Carry it out; each file with its own result."""
    sender: Any
    items: Iterable[Any] = range(len(job.files.paths))
    width = min(job.client.width, len(job.files.paths))
    if job.files.origin.local is not None:
        sender = _FromFolder(job)
    elif job.origin_client is not None and job.client.can_copy(job.origin_client):
        sender = _WithinStore(job)
    elif job.origin_client is not None:
        sender = _BetweenStores(job)
    else:
        sender, items = _StreamedSource(job), job.files.origin.fetch_many(job.files.names)
    results = Results()
    for item, found in in_flight(
        job.guard(sender.send),
        items,
        name=lambda it: job.location.join(job.files.paths[_number(it)]),
        doing="written",
        width=width,
    ):
        i = _number(item)
        if isinstance(found, Refused):
            found.note(results, job.files.paths[i], f"{job.files.origin.join(job.files.names[i])}: ")
            continue
        results.done += 1
        if found is not None:
            results.digests[job.files.paths[i]] = found
    return results


def _number(item: int | Fetched) -> int:
    return item.index if isinstance(item, Fetched) else item


def _digest() -> Any:
    import xxhash

    return xxhash.xxh3_128()


class _FromFolder:
    """Files of this machine: each thread reads one and sends it."""

    def __init__(self, job: Shipment) -> None:
        self._job = job

    def send(self, i: int) -> bytes:
        """Read one file and write it; its XXH3-128. Raises `Refused`."""
        job = self._job
        assert job.files.origin.local is not None
        path, size = os.path.join(job.files.origin.local, job.files.names[i]), job.files.sizes[i]
        try:
            found = os.stat(path).st_size
            if size is not None and found != size:
                raise Refused(_CHANGED)
            digest = _digest()
            if found > job.client.LARGE:
                job.client.put_stream(job.keys[i], _pieces_of(path, found, digest), found)
            else:
                data = Path(path).read_bytes()
                count(READ, len(data))
                if len(data) != found:
                    raise Refused(_CHANGED)
                digest.update(data)
                job.client.put(job.keys[i], data)
        except OSError as error:
            raise Refused(os.strerror(error.errno or 0)) from None
        return bytes(digest.digest())


def _pieces_of(path: str, size: int, digest: Any) -> Iterator[bytes]:
    came = 0
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            came += len(piece)
            count(READ, len(piece))
            digest.update(piece)
            yield piece
    if came != size:
        raise Refused(_CHANGED)


class _WithinStore:
    """Files of the same store: it copies them itself, and no byte passes through here."""

    def __init__(self, job: Shipment) -> None:
        self._job = job

    def send(self, i: int) -> None:
        """Let the store copy one file. Raises `Refused`."""
        job = self._job
        assert job.origin_client is not None
        try:
            job.client.copy(
                job.origin_client, _key_of(job.files.origin, job.files.names[i]), job.keys[i], job.files.sizes[i]
            )
        except Missing:
            raise Refused("is not there any more; run again") from None


class _BetweenStores:
    """Files of another store: small ones whole, large ones in pieces."""

    def __init__(self, job: Shipment) -> None:
        self._job = job

    def send(self, i: int) -> bytes:
        """Pass one file on; its XXH3-128. Raises `Refused`."""
        job, digest = self._job, _digest()
        source, size = job.origin_client, job.files.sizes[i]
        assert source is not None
        key = _key_of(job.files.origin, job.files.names[i])
        try:
            if size is not None and size > job.client.LARGE:
                entry, pieces = source.stream(key)
                if entry.size != size:
                    raise Refused(_CHANGED)
                job.client.put_stream(job.keys[i], _noted(pieces, digest), size)
            else:
                data, entry = source.get(key)
                if size is not None and entry.size != size:
                    raise Refused(_CHANGED)
                digest.update(data)
                job.client.put(job.keys[i], data)
        except Missing:
            raise Refused("is not there any more; run again") from None
        return bytes(digest.digest())


def _noted(pieces: Iterator[bytes], digest: Any) -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        yield piece


class _StreamedSource:
    """What an archive or a server hands out, in its own order."""

    def __init__(self, job: Shipment) -> None:
        self._job = job

    def send(self, item: Fetched) -> bytes:
        """Write one file that has come; its XXH3-128. Raises `Refused`."""
        job = self._job
        if item.reason is not None:
            raise Refused(item.reason, away=item.away)
        size = job.files.sizes[item.index]
        if size is not None and len(item.data) != size:
            raise Refused(_CHANGED)
        digest = _digest()
        digest.update(item.data)
        if len(item.data) > job.client.LARGE:
            whole = memoryview(item.data)
            job.client.put_stream(
                job.keys[item.index],
                (bytes(whole[at : at + _PIECE]) for at in range(0, len(whole), _PIECE)),
                len(whole),
            )
        else:
            job.client.put(job.keys[item.index], item.data)
        return bytes(digest.digest())


def _key_of(origin: Location, name: str) -> str:
    address: Any = getattr(origin, "address", None)
    return str(address.key(name))
