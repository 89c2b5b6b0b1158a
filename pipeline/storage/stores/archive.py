"""A zip archive at a store, read by parts."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from pipeline.base.errors import StorageError
from pipeline.storage.address import parse
from pipeline.storage.archives.directory import CRC, SIZE
from pipeline.storage.archives.folder import ZipFolder, within
from pipeline.storage.archives.remote import RemoteZip, Span
from pipeline.storage.archives.table import known_table
from pipeline.storage.listing import Listing
from pipeline.storage.location import Limits
from pipeline.storage.spill import Spill
from pipeline.storage.stores.folder import RemoteFolder

#: Requests at once.
_LIMITS = Limits(connections=16)


class StoreZip(RemoteZip):
    """A folder in a zip archive at a store; files of label suffixes are cached when they are listed: all are read."""

    @staticmethod
    def _locate_archive(archive: str) -> str:
        return parse(archive).url

    def _store(self) -> tuple[RemoteFolder, str]:
        """The folder that has the archive, and its name there."""
        folder, _, name = self.archive.rpartition("/")
        return RemoteFolder(parse(folder)), name

    def exists(self) -> bool:
        """See `Location.exists`; an archive whose directory was read is there."""
        folder, name = self._store()
        return known_table(self.archive, None, "") is not None or bool(folder.exist_many([name])[0])

    def has_files(self) -> bool:
        """See `Location.has_files`."""
        return self._holds(self.table())

    def listing(self, suffixes: frozenset[str], *, with_stats: bool, spill: Spill | None = None) -> Listing:
        """See `Location.listing`; what is of a single suffix is labels, and neighbours come by one request now."""
        found = super().listing(suffixes, with_stats=with_stats, spill=spill)
        if len(suffixes) == 1 and self._workdir is not None:
            self.gather(list(found.names()), _LIMITS, lambda _: None)
        return found

    def read(self, path: str) -> bytes | None:
        """See `Location.read`."""
        return ZipFolder.read(self, path)

    def read_many(
        self, paths: Sequence[str], limit: int, room: int | None = None
    ) -> tuple[Sequence[bytes], array[int], dict[int, str]]:
        """See `Location.read_many`; what is cached from there, the rest from the store."""
        paths = within(paths, self.sizes, room)
        table, rows = self.table(), self._rows(paths).tolist()
        cache = self.cache() if self._workdir is not None else None
        contents, stats, failed = [b""] * len(paths), array("q", bytes(32 * len(paths))), dict[int, str]()
        lacking: dict[str, int] = {}
        for i, (path, row) in enumerate(zip(paths, rows, strict=True)):
            if row < 0:
                failed[i] = "vanished"
            elif table.numbers[row, SIZE] > limit:
                failed[i] = "too_large"
            else:
                stats[4 * i : 4 * i + 4] = array("q", (*table.numbers[row, [SIZE, CRC]].tolist(), 0, 1))
                found = cache.get(path) if cache is not None else None
                if found is None:
                    lacking[path] = i
                else:
                    contents[i] = found
        for some in self._members(list(lacking), _LIMITS):
            for path, data in some:
                if data is None:
                    failed[lacking[path]] = "damaged"
                else:
                    contents[lacking[path]] = data
        return contents, stats, failed

    def _end(self) -> tuple[str, int, bytes]:
        folder, name = self._store()
        (found,) = folder.fingerprints([name])
        if found is None or found.size is None:
            raise StorageError(f"{self.archive}: does not exist; correct the URL")
        return f"{found.size} {found.mark.hex()}", found.size, b""

    def _part(self, start: int, stop: int) -> bytes:
        folder, name = self._store()
        return b"".join(part for _, part in folder.read_parts(name, [(start, stop)], 1))

    def _bring(self, spans: Sequence[Span], limits: Limits) -> Iterator[tuple[Span, bytes | bytearray]]:
        folder, name = self._store()
        for i, body in folder.read_parts(name, [(s.start, s.stop) for s in spans], limits.connections):
            yield spans[i], body
