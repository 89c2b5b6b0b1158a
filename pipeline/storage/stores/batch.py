"""Batches of a store's files: read, passed on, digested, with a window of requests in flight."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pipeline.base.errors import StorageError
from pipeline.storage.location import MAX_IMAGE_BYTES, Fetched, is_too_large, too_large
from pipeline.storage.stores.client import Client, Entry
from pipeline.storage.stores.in_flight import in_flight
from pipeline.storage.stores.store_errors import Missing, NoParts, Refused

T = TypeVar("T")

#: So many files show how large those of a folder are.
_FIRST_BATCH = 64

if TYPE_CHECKING:
    #: Contents, four numbers a file and reasons by index, as of `Location.read_many`.
    Contents = tuple[list[bytes], array[int], dict[int, str]]


@dataclass(frozen=True)
class Batch:
    """Files of the store `client`: their `keys`, and the `urls` that messages call them."""

    client: Client
    keys: Sequence[str]
    urls: Sequence[str]

    def each(self, work: Callable[[int], T], doing: str) -> Iterator[tuple[int, T | Refused]]:
        """``(i, work(i))`` for each file by its index, as they are done; see `in_flight`."""
        width = min(self.client.width, len(self.keys))
        return in_flight(work, range(len(self.keys)), name=lambda i: self.urls[i], doing=doing, width=width)

    def read(self, limit: int) -> Contents:
        """All contents; of files with more than `limit` bytes none.

        Raises `UnavailableError` where the store is away: that says nothing about a file.
        """
        contents = [b""] * len(self.keys)
        stats = array("q", bytes(32 * len(self.keys)))
        failed: dict[int, str] = {}
        for i, found in self.each(lambda i: _got(self.client, self.keys[i], limit), "read"):
            if isinstance(found, Refused):
                found.unless_away(self.urls[i])
                failed[i] = "unreadable"
            elif found is None:
                failed[i] = "vanished"
            elif found[1].size > limit:
                failed[i] = "too_large"
            else:
                contents[i] = found[0]
                stats[4 * i : 4 * i + 4] = array("q", found[1].numbers)
        return contents, stats, failed

    def read_into(self, limit: int, room: int) -> Contents:
        """The first contents, a batch after the other, each of as many as the `room` left holds by their mean size."""
        contents: list[bytes] = []
        stats, failed, size, count = array("q"), dict[int, str](), 0, _FIRST_BATCH
        while len(contents) < len(self.keys) and size < room:
            begin = len(contents)
            part = slice(begin, begin + count)
            some, numbers, bad = Batch(self.client, self.keys[part], self.urls[part]).read(limit)
            contents += some
            stats += numbers
            failed.update({begin + i: reason for i, reason in bad.items()})
            size += sum(map(len, some))
            count = max((room - size) * len(contents) // max(size, 1), 1)
        return contents, stats, failed

    def fetch(self, work: Callable[[Fetched], T]) -> Iterator[T]:
        """``work(fetched)`` for each image, done where it came."""

        def get(i: int) -> T:
            found = _got(self.client, self.keys[i], MAX_IMAGE_BYTES)
            if found is None:
                return work(Fetched(i, reason="is not there"))
            return work(Fetched(i, found[0], too_large() if is_too_large(found[1].size) else None))

        for i, done in self.each(get, "read"):
            yield work(Fetched(i, reason=done.reason, away=done.away)) if isinstance(done, Refused) else done

    def digests(self) -> list[bytes | None]:
        """XXH3-128 of each content, read in pieces; None where it cannot be read. Raises as `read` does."""
        import xxhash

        def read(i: int) -> bytes | None:
            state = xxhash.xxh3_128()
            try:
                for piece in self.client.stream(self.keys[i])[1]:
                    state.update(piece)
            except Missing:
                return None
            return bytes(state.digest())

        found: list[bytes | None] = [None] * len(self.keys)
        for i, digest in self.each(read, "read"):
            if isinstance(digest, Refused):
                digest.unless_away(self.urls[i])
            else:
                found[i] = digest
        return found

    def heads(self, doing: str) -> list[Entry | None]:
        """Each file as it is; None if missing. Raises `StorageError` for the first that is refused."""
        found: list[Entry | None] = [None] * len(self.keys)
        for i, entry in self.each(lambda i: self.client.head(self.keys[i]), doing):
            if isinstance(entry, Refused):
                raise entry.error(self.urls[i], doing)
            found[i] = entry
        return found


def read_parts(
    client: Client, key: str, url: str, parts: Sequence[tuple[int, int]], width: int
) -> Iterator[tuple[int, bytes]]:
    """Parts of one file, by their index as they come; cut from the whole where the store gives no parts."""
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
        yield from _cut(client, key, url, parts)
    except Missing:
        raise StorageError(f"{url}: was deleted while it was read") from None


def _cut(client: Client, key: str, url: str, parts: Sequence[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    order = sorted(range(len(parts)), key=lambda i: parts[i])
    at, ahead = 0, bytearray()
    try:
        for piece in client.stream(key)[1]:
            ahead += piece
            while order and parts[order[0]][1] <= at + len(ahead):
                i = order.pop(0)
                start, stop = parts[i]
                yield i, bytes(ahead[start - at : stop - at])
                del ahead[: stop - at]
                at = stop
            if not order:
                return
    except Refused as refused:
        raise refused.error(url, "read") from None
    raise StorageError(f"{url}: became shorter while it was read; run again")


def _got(client: Client, key: str, limit: int) -> tuple[bytes, Entry] | None:
    try:
        return client.get(key, limit)
    except Missing:
        return None
