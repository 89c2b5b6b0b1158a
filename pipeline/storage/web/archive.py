"""A zip archive on a web server, read by ranges of bytes."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from pipeline.base.errors import ConfigError, StorageError
from pipeline.storage.archives.directory import TAIL_BYTES
from pipeline.storage.archives.remote import RemoteZip, Span
from pipeline.storage.archives.table import cached_table
from pipeline.storage.location import Limits
from pipeline.storage.web.client import Web, check_url
from pipeline.storage.web.transfer import Transfer, lost, parse_range, validator


class WebZip(RemoteZip):
    """A folder in a zip archive on a web server."""

    @staticmethod
    def _locate_archive(archive: str) -> str:
        check_url(archive)
        return archive

    def exists(self) -> bool:
        """See `Location.exists`: known when the archive is listed."""
        return True

    def read_many(
        self, paths: Sequence[str], limit: int, room: int | None = None
    ) -> tuple[Sequence[bytes], array[int], dict[int, str]]:
        """See `Location.read_many`: labels are all read, so the archive had better be here."""
        raise ConfigError(
            f"{self.url}: labels are not read over the network; fetch the archive and name its path, as "
            "in zip://coco/labels/train2017::downloads/coco2017labels.zip"
        )

    def _end(self) -> tuple[str, int, bytes]:
        end = self._one(Transfer(self.archive, -TAIL_BYTES, 0))
        size = parse_range(end.headers.get("content-range", ""))[2]
        if size is None:
            raise StorageError(f"{self.archive}: the server does not report the size of the archive")
        return f"{size} {validator(end.headers)}", size, bytes(end.body)

    def _part(self, start: int, stop: int) -> bytes:
        return bytes(self._one(Transfer(self.archive, start, stop)).body)

    def _one(self, transfer: Transfer) -> Transfer:
        for done in Web(Limits(connections=1)).run([transfer]):
            if done.status == 200:
                raise StorageError(
                    f"{self.archive}: the server does not give parts of files (no Range), so an archive "
                    "there cannot be read in place; download it with `coco-diy fetch`"
                )
            if done.reason:
                raise lost(done)
        return transfer

    def _bring(self, spans: Sequence[Span], limits: Limits) -> Iterator[tuple[Span, bytes | bytearray]]:
        known = cached_table(self.table_file())
        state = known[0].split(" ", 1)[1] if known else "None"
        strong = None if state.startswith("W/") or state == "None" else state
        transfers = (Transfer(self.archive, s.start, s.stop, validator=strong, tag=s) for s in spans)
        for transfer in Web(limits).run(transfers):
            another = transfer.status == 206 and validator(transfer.headers) not in (state, None)
            if transfer.status == 200 or (another and state != "None"):
                raise StorageError(f"{self.archive}: has changed while it was read; run again")
            if transfer.reason:
                raise lost(transfer)
            yield transfer.tag, transfer.gathered
