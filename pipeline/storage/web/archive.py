"""A zip archive on a web server, read by ranges of bytes."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.base.errors import ConfigError, StorageError
from pipeline.storage.archives.directory import (
    DAMAGED,
    OFFSET,
    PACKED,
    ROOM,
    SIZE,
    TAIL_BYTES,
    Members,
    find_directory,
    lead_of,
    parse_directory,
    unpack,
)
from pipeline.storage.archives.folder import ZipFolder
from pipeline.storage.archives.table import Table, cache_table, cached_table, know_table, known_table
from pipeline.storage.listing import Listing
from pipeline.storage.location import Add, EndsWhole, FetchCost, Limits, is_too_large, too_large, unknown_end
from pipeline.storage.web.cache import ImageCache
from pipeline.storage.web.client import Transfer, Web, check_url, lost, parse_range, validator
from pipeline.storage.web.folder import RemoteBytes

#: Wanted members with less than this between them come by one request: another costs about as much.
_GAP = 16 << 10

#: And with less than this share of what they are themselves, so that hardly more moves than is wanted.
_WASTE = 0.03

_MOST = 8 << 20

_SLACK = 4096


@dataclass
class _Span:
    """Bytes of a remote archive from `start` to `stop` that come by one request, and the members in them."""

    start: int
    stop: int
    members: list[tuple[str, list[int]]]
    waste: int = 0


class RemoteZip(RemoteBytes, ZipFolder):
    """A folder in a zip archive on a web server, of which only the directory and the wanted members are fetched."""

    def __init__(self, url: str, keep: str | None = None) -> None:
        self._workdir = keep
        ZipFolder.__init__(self, url, keep)

    @staticmethod
    def _locate_archive(archive: str) -> str:
        check_url(archive)
        return archive

    def exists(self) -> bool:
        """See `Location.exists`: known when the archive is listed."""
        return True

    def _cached_as(self) -> str:
        known = cached_table(self.table_file())
        return f"{self.archive} {known[0] if known else ''} {self.prefix}"

    def table(self) -> Table:
        """The archive's files as they were when it was listed last."""
        path = self.table_file()
        try:
            stamp = str(os.stat(path or "").st_mtime_ns)  # a worker may outlive the run that read the table
        except OSError:
            return self._refresh()
        known = known_table(self.archive, path, stamp)
        if known is None:
            cached = cached_table(path)
            known = self._refresh() if cached is None else know_table(self.archive, path, stamp, cached[1])
        return known

    def listing(self, suffixes: frozenset[str], *, with_stats: bool) -> Listing:
        """See `Location.listing`; asks the server whether the archive is still the same."""
        self._refresh()
        return ZipFolder.listing(self, suffixes, with_stats=with_stats)

    def read_many(
        self, paths: Sequence[str], limit: int, room: int | None = None
    ) -> tuple[Sequence[bytes], array[int], dict[int, str]]:
        """See `Location.read_many`: labels are all read, so the archive had better be here."""
        raise ConfigError(
            f"{self.url}: labels are not read over the network; fetch the archive and name its path, as "
            "in zip://coco/labels/train2017::downloads/coco2017labels.zip"
        )

    def _refresh(self) -> Table:
        """Ask for the end of the archive, and where it is another one than before, for its directory."""
        web = Web(Limits(connections=1))
        end = Transfer(self.archive, -TAIL_BYTES, 0)
        self._one(web, end)
        size = parse_range(end.headers.get("content-range", ""))[2]
        if size is None:
            raise StorageError(f"{self.archive}: the server does not report the size of the archive")
        identity, path = f"{size} {validator(end.headers)}", self.table_file()
        cached = cached_table(path)
        if cached is not None and cached[0] == identity:
            return Table(cached[1])
        first = size - len(end.body)

        def read(at: int, count: int) -> bytes:
            if at >= first:
                return bytes(end.body[at - first : at - first + count])
            part = Transfer(self.archive, at, min(at + count, size))
            self._one(web, part)
            return bytes(part.body)

        where = find_directory(size, read, self.archive)
        members: Members = parse_directory(read(where.offset, where.size), where, self.archive)
        cache_table(path, identity, members)
        return Table(members)

    def _one(self, web: Web, transfer: Transfer) -> None:
        for done in web.run([transfer]):
            if done.status == 200:
                raise StorageError(
                    f"{self.archive}: the server does not give parts of files (no Range), so an archive "
                    "there cannot be read in place; download it with `coco-diy fetch`"
                )
            if done.reason:
                raise lost(done)

    def ask(self, paths: Sequence[str], limits: Limits | None = None) -> FetchCost:
        """See `Location.ask`; the archive's directory says all."""
        del limits
        spans = self._spans(paths, self.cache())
        return FetchCost(len(spans), sum(s.stop - s.start for s in spans))

    def _spans(self, paths: Sequence[str], cache: ImageCache) -> list[_Span]:
        """The requests that bring those of `paths` that are not cached, in the archive's order."""
        spans: list[_Span] = []
        wanted = [path for path in paths if path not in cache.files]
        for i, entry in self._in_order(wanted):
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
                last.members.append((wanted[i], entry))
            else:
                spans.append(_Span(start, stop, [(wanted[i], entry)]))
        return spans

    def gather(self, paths: Sequence[str], limits: Limits, add: Add, ends: EndsWhole = unknown_end) -> dict[str, str]:
        """See `Location.gather`; neighbours come by one request, and all is checked by its CRC-32."""
        del ends
        failed = {
            paths[i]: too_large() for i, entry in self._in_order(paths) if entry is not None and _too_large(entry)
        }
        known = cached_table(self.table_file())
        state = known[0].split(" ", 1)[1] if known else "None"
        strong = None if state.startswith("W/") or state == "None" else state
        with self.cache() as cache:
            spans = self._spans(paths, cache)
            transfers = (Transfer(self.archive, s.start, s.stop, validator=strong, tag=s) for s in spans)
            for transfer in Web(limits).run(transfers):
                another = transfer.status == 206 and validator(transfer.headers) not in (state, None)
                if transfer.status == 200 or (another and state != "None"):
                    raise StorageError(f"{self.archive}: has changed while it was read; run again")
                if transfer.reason:
                    raise lost(transfer)
                for path, entry in transfer.tag.members:
                    data = _cut(transfer.body, entry, transfer.tag.start)
                    if data is None:
                        failed[path] = DAMAGED
                    else:
                        cache.put(path, data)
                add(len(transfer.tag.members))
            cache.note_failures(failed)
        return failed


def _too_large(entry: list[int]) -> bool:
    return is_too_large(max(entry[SIZE], entry[PACKED]))


def _cut(body: bytearray, entry: list[int], start: int) -> bytes | None:
    """The content of a member out of the bytes from `start`, checked."""
    at = entry[OFFSET] - start
    lead = lead_of(bytes(body[at : at + 30]))
    data = bytes(body[at + lead : at + lead + entry[PACKED]])
    return unpack(data, entry) if lead else None
