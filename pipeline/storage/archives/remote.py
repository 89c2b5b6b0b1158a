"""A zip archive that is not on this machine: its directory and the wanted members come by ranges of bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.storage.archives.directory import (
    DAMAGED,
    OFFSET,
    PACKED,
    ROOM,
    SIZE,
    TAIL_BYTES,
    find_directory,
    lead_of,
    parse_directory,
    unpack,
)
from pipeline.storage.archives.folder import ZipFolder
from pipeline.storage.archives.table import Table, cache_table, cached_table, know_table, known_table
from pipeline.storage.listing import Listing
from pipeline.storage.location import Add, EndsWhole, FetchCost, Limits, is_too_large, too_large, unknown_end
from pipeline.storage.spill import Spill
from pipeline.storage.web.folder import RemoteBytes

#: Wanted members with less than this between them come by one request: another costs about as much.
_GAP = 16 << 10

#: And with less than this share of what they are themselves, so that hardly more moves than is wanted.
_WASTE = 0.03

_MOST = 8 << 20

_SLACK = 4096


@dataclass
class Span:
    """Bytes of a remote archive from `start` to `stop` that come by one request, and the members in them."""

    start: int
    stop: int
    members: list[tuple[str, list[int]]]
    waste: int = 0


class RemoteZip(RemoteBytes, ZipFolder):
    """A folder in a zip archive elsewhere, of which only the directory and the wanted members are fetched.

    What asks for the bytes is the kind of location that the archive is at: `_end`, `_part` and `_bring`.
    """

    def __init__(self, url: str, keep: str | None = None) -> None:
        self._workdir = keep
        ZipFolder.__init__(self, url, keep)

    def _end(self) -> tuple[str, int, bytes]:
        """What shows that the archive is another one, its size in bytes and, where they come along, its last bytes."""
        raise NotImplementedError

    def _part(self, start: int, stop: int) -> bytes:
        """Some bytes of the archive."""
        raise NotImplementedError

    def _bring(self, spans: Sequence[Span], limits: Limits) -> Iterator[tuple[Span, bytes | bytearray]]:
        """The bytes of `spans` as they come."""
        raise NotImplementedError

    def _cached_as(self) -> str:
        known = cached_table(self.table_file())
        return f"{self.archive} {known[0] if known else ''} {self.prefix}"

    def table(self) -> Table:
        """The archive's files as they were when it was listed last."""
        path = self.table_file()
        try:
            stamp = str(os.stat(path).st_mtime_ns) if path is not None else ""
        except OSError:
            return self._refresh()
        known = known_table(self.archive, path, stamp)  # a worker may outlive the run that read the table
        if known is None:
            cached = cached_table(path)
            known = self._refresh() if cached is None else know_table(self.archive, path, stamp, cached[1])
        return known

    def listing(self, suffixes: frozenset[str], *, with_stats: bool, spill: Spill | None = None) -> Listing:
        """See `Location.listing`; asks whether the archive is still the same."""
        self._refresh()
        return ZipFolder.listing(self, suffixes, with_stats=with_stats, spill=spill)

    def _refresh(self) -> Table:
        """Ask for the end of the archive, and where it is another one than before, for its directory."""
        identity, size, tail = self._end()
        path = self.table_file()
        cached = cached_table(path)
        if cached is not None and cached[0] == identity:
            return Table(cached[1])
        first = size - len(tail) if tail else max(0, size - TAIL_BYTES)
        tail = tail or self._part(first, size)

        def read(at: int, count: int) -> bytes:
            return tail[at - first : at - first + count] if at >= first else self._part(at, min(at + count, size))

        where = find_directory(size, read, self.archive)
        members = parse_directory(read(where.offset, where.size), where, self.archive)
        cache_table(path, identity, members)
        return Table(members) if path is not None else know_table(self.archive, None, "", members)

    def ask(self, paths: Sequence[str], limits: Limits | None = None) -> FetchCost:
        """See `Location.ask`; the archive's directory says all."""
        del limits
        cached = self.cache().files
        spans = self._spans([path for path in paths if path not in cached])
        return FetchCost(len(spans), sum(s.stop - s.start for s in spans))

    def _spans(self, paths: Sequence[str]) -> list[Span]:
        """The requests that bring `paths`, in the archive's order."""
        spans: list[Span] = []
        for i, entry in self._in_order(paths):
            if entry is None or _too_large(entry):
                continue
            start = entry[OFFSET]
            stop = start + min(entry[ROOM], entry[PACKED] + _SLACK)
            last = spans[-1] if spans else None
            gap = start - last.stop if last else 0
            if (
                last
                and gap <= _GAP
                and stop - last.start <= _MOST
                and last.waste + gap <= _WASTE * (last.stop - last.start)
            ):
                last.stop = stop
                last.waste += gap
                last.members.append((paths[i], entry))
            else:
                spans.append(Span(start, stop, [(paths[i], entry)]))
        return spans

    def _members(self, paths: Sequence[str], limits: Limits) -> Iterator[list[tuple[str, bytes | None]]]:
        """Contents of those of `paths` that are there and not too large, checked; None for one that is damaged.

        They come a request at a time; neighbours come by one.
        """
        for span, body in self._bring(self._spans(paths), limits):
            yield [(path, _cut(body, entry, span.start)) for path, entry in span.members]

    def gather(self, paths: Sequence[str], limits: Limits, add: Add, ends: EndsWhole = unknown_end) -> dict[str, str]:
        """See `Location.gather`; all is checked by its CRC-32."""
        del ends
        failed = {
            paths[i]: too_large() for i, entry in self._in_order(paths) if entry is not None and _too_large(entry)
        }
        with self.cache() as cache:
            for some in self._members([path for path in paths if path not in cache.files], limits):
                for path, data in some:
                    if data is None:
                        failed[path] = DAMAGED
                    else:
                        cache.put(path, data)
                add(len(some))
            cache.note_failures(failed)
        return failed


def _too_large(entry: list[int]) -> bool:
    return is_too_large(max(entry[SIZE], entry[PACKED]))


def _cut(body: bytes | bytearray, entry: list[int], start: int) -> bytes | None:
    """The content of a member out of the bytes from `start`, checked."""
    at = entry[OFFSET] - start
    lead = lead_of(bytes(body[at : at + 30]))
    data = bytes(body[at + lead : at + lead + entry[PACKED]])
    return unpack(data, entry) if lead else None
