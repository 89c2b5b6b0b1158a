"""What a store must be able to do; everything else that a `Location` offers is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.runtime.counters import FETCHED, count
from pipeline.storage.stores.store_errors import Refused, must_be_whole


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a store: its key, size in bytes, and two numbers that change with it.

    `mark` is 64 bits of its etag (0 where the store has none), `stamp` its modification time (ns; 0 where it has an
    etag).
    """

    key: str
    size: int
    mark: int
    stamp: int

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """The four numbers of a fingerprint, in the places of size, mtime_ns, ctime_ns and inode."""
        return self.size, self.mark or self.stamp, self.stamp, 1


@dataclass(frozen=True)
class Version:
    """A file's content, its modification time by the store's clock, and what shows the store that it is unchanged."""

    data: bytes
    modified_ns: int
    state: object = None


class Client(Protocol):
    """A store. Keys are whole, from the top of the bucket or server. All methods are safe to call from many threads.

    They raise `Refused`, and `Missing` where they say so.
    """

    #: Files larger than this (bytes) go in parts and are never in memory as a whole.
    LARGE: int
    #: Requests in flight that suit it.
    width: int
    #: Whether a listing takes a request for every thousand files, and is begun by one.
    PAGES: bool

    def get(self, key: str, limit: int | None = None) -> tuple[bytes, Entry]:
        """Content, checked; empty where it has more than `limit` bytes. Raises `Missing`."""

    def stream(self, key: str) -> tuple[Entry, Iterator[bytes]]:
        """Content in pieces. Raises `Missing`."""

    def part(self, key: str, start: int, stop: int) -> bytes:
        """The bytes of a file from `start` up to `stop`. Raises `Missing`, and `NoParts` where only all can be had."""

    def head(self, key: str) -> Entry | None:
        """The file as it is; None if missing."""

    def list(self, prefix: str) -> Iterator[Sequence[Entry]]:
        """All files whose keys begin with `prefix` and a /, in order of keys."""

    def flat(self, prefix: str) -> Sequence[str]:
        """Names of the files right below `prefix`."""

    def halves(self, prefix: str) -> Sequence[str]:
        """Files below `prefix` that were being written when their run was killed, where a store shows such."""
        del prefix
        return ()

    def put(self, key: str, data: bytes) -> None:
        """Write a file, whole or not at all, checked."""

    def put_stream(self, key: str, pieces: Iterator[bytes], size: int) -> None:
        """Write a large file of pieces, whole or not at all: an error in `pieces` leaves none."""

    def delete(self, keys: Sequence[str]) -> dict[str, Refused]:
        """Delete files; one that is gone counts as done. Returns refusals by key of those that stay."""

    def can_copy(self, other: Client) -> bool:
        """Whether files of `other` can be copied here without passing through us."""

    def copy(self, other: Client, source: str, key: str, size: int | None) -> None:
        """Copy a file of `other`. Raises `Missing`."""

    def version(self, key: str) -> Version | None:
        """A small file with its version; None if missing."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a file if there is none of that key; False where there is. Stores without conditions write it."""

    def replace(self, key: str, data: bytes, was: Version) -> bool:
        """Write a file if it is still what it `was`; False where it is not. Stores without conditions write it."""


def counted_pieces(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The `pieces` of an object of `size` bytes, each counted as it comes. Raises `Refused` where some are missing."""
    came = 0
    for piece in pieces:
        came += len(piece)
        count(FETCHED, len(piece))
        yield piece
    must_be_whole(came, size)
