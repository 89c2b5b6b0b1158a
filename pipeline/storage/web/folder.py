"""Images on a web server: asked for one by one by their URL, or by ranges out of an archive that is there.

Both fetch only what is wanted into the workdir, in one go and from one process, so that limits hold; what copies images
then reads them there.
"""

from __future__ import annotations

import contextlib
import time
import urllib.parse
from collections.abc import Iterator, Sequence

from pipeline.base.errors import ConfigError, StorageError
from pipeline.base.humanize import plural
from pipeline.runtime.log import LOG
from pipeline.storage.archives.directory import is_page
from pipeline.storage.listing import Listing
from pipeline.storage.local.folder import LocalFolder
from pipeline.storage.location import (
    MAX_IMAGE_BYTES,
    PACKED,
    Add,
    EndsWhole,
    FetchCost,
    Fetched,
    Fingerprint,
    Limits,
    Location,
    is_packed,
    unknown_end,
)
from pipeline.storage.spill import Spill
from pipeline.storage.web.cache import ImageCache
from pipeline.storage.web.client import Web, check_url
from pipeline.storage.web.transfer import Transfer, lost, parse_range

_NOT_CACHED = "was not fetched; run again"

#: So many failures and not one success, or so many refusals in a row: the URL is wrong, not the images.
_HOPELESS = 16

_GONE = {404, 410}

#: So many images are asked for their size, and for so long.
_SAMPLE, _PATIENCE_S = 12, 5.0


class RemoteBytes(Location):
    """What locations on web servers have in common: what was fetched is cached in the workdir, and read there."""

    remote = True
    on_disk = False
    _workdir: str | None

    def cache(self) -> ImageCache:
        """The cached images of this location."""
        if self._workdir is None:
            raise StorageError(f"{self.url}: is only read by way of a workdir")
        return ImageCache(self._workdir, self._cached_as())

    def _cached_as(self) -> str:
        return self.url

    def at_hand(self, paths: Sequence[str]) -> Sequence[bool]:
        """See `Location.at_hand`; those that `gather` brought."""
        cached = self.cache().files
        return [path in cached for path in paths]

    def cached_files(self, paths: Sequence[str]) -> tuple[Location, Iterator[tuple[str, bytes] | None]]:
        """See `Location.cached_files`."""
        cache = self.cache()
        return LocalFolder(cache.folder), (cache.whole(path) for path in paths)

    def fetch_many(self, paths: Sequence[str]) -> Iterator[Fetched]:
        """See `Location.fetch_many`; what `gather` brought, checked by its digest."""
        cache = self.cache()
        failures = cache.failures()
        for i, path in enumerate(paths):
            data = cache.get(path)
            if data is None:
                yield Fetched(i, reason=failures.get(path, _NOT_CACHED))
            else:
                yield Fetched(i, data)

    def read(self, path: str) -> bytes | None:
        """See `Location.read`."""
        return self.cache().get(path)


class HttpFolder(RemoteBytes):
    """Images at ``url/NAME``: known by name alone, for nobody lists them."""

    def __init__(self, url: str, keep: str | None = None) -> None:
        check_url(url)
        self._workdir = keep
        super().__init__(url.rstrip("/"))

    @property
    def key_path(self) -> str:
        """See `Location.key_path`."""
        return self.url.split("://", 1)[1]

    def exists(self) -> bool:
        """See `Location.exists`: not known before a file is asked for."""
        return True

    def _cannot(self, doing: str) -> ConfigError:
        del doing
        return ConfigError(
            f"{self.url}: is on a web server, which lists no files; download it, or name an archive there, as in "
            "zip://FOLDER::URL"
        )

    def listing(self, suffixes: frozenset[str], *, with_stats: bool, spill: Spill | None = None) -> Listing:
        """See `Location.listing`: there is none."""
        raise ConfigError(
            f"{self.url}: a web server lists no files; as images name the URL with their suffix, "
            f"{{url: {self.url!r}, suffix: .jpg}}"
        )

    def fingerprints(self, paths: Sequence[str]) -> Sequence[Fingerprint | None]:
        """See `Location.fingerprints`; an image counts as unchanged for as long as it is asked for by the same name."""
        sizes = self.cache().sizes(paths)
        return [Fingerprint(size, b"by name", True) for size in sizes]

    def ask(self, paths: Sequence[str], limits: Limits | None = None) -> FetchCost:
        """See `Location.ask`; nobody lists the sizes, so those of a few images stand for the others."""
        cached = self.cache().files
        lacking = [path for path in paths if path not in cached]
        if not lacking or limits is None:
            return FetchCost(len(lacking), None if lacking else 0)
        sizes = self._sizes(lacking[:: -(-len(lacking) // _SAMPLE)], limits)
        mean = sum(sizes) / len(sizes) if sizes else None
        return FetchCost(len(lacking), None if mean is None else round(mean * len(lacking)), about=True)

    def _sizes(self, paths: Sequence[str], limits: Limits) -> list[int]:
        """Sizes in bytes that the server gives in time: it is asked for the first byte of each image."""
        sizes: list[int] = []
        end = time.monotonic() + _PATIENCE_S

        def poll() -> None:
            if time.monotonic() > end:
                raise TimeoutError

        transfers = (Transfer(f"{self.url}/{urllib.parse.quote(path)}", 0, 1, tag=path) for path in paths)
        with contextlib.suppress(TimeoutError):
            for transfer in Web(limits).run(transfers, poll=poll):
                size = parse_range(transfer.headers.get("content-range", ""))[2]
                sizes += [size] if transfer.status == 206 and size is not None else []
        return sizes

    def gather(self, paths: Sequence[str], limits: Limits, add: Add, ends: EndsWhole = unknown_end) -> dict[str, str]:
        """See `Location.gather`; one request an image."""
        failed, done, row, unsure = dict[str, str](), 0, 0, 0
        with self.cache() as cache:
            wanted = (path for path in paths if path not in cache.files)
            transfers = (
                Transfer(f"{self.url}/{urllib.parse.quote(path)}", most=MAX_IMAGE_BYTES, tag=path) for path in wanted
            )
            for transfer in Web(limits).whole(transfers):
                is_html = transfer.headers.get("content-type", "").startswith("text/html")
                if transfer.reason is None and (is_html or is_page(bytes(transfer.body[:2048]))):
                    transfer.reason = f"{transfer.url}: the server sent a web page instead of an image; check the URL"
                if transfer.reason is None and is_packed(
                    bytes(transfer.body[:2]), transfer.headers.get("content-encoding")
                ):
                    transfer.reason = f"{transfer.url}: {PACKED}"
                whole = transfer.reason is not None or not transfer.ends_unseen or ends(bytes(transfer.body))
                if whole is False:
                    transfer.reason = f"{transfer.url}: came without its end, and without its length; run again"
                unsure += whole is None
                row = 0 if transfer.reason is None or transfer.status in _GONE else row + 1
                if transfer.reason is None:
                    cache.put(transfer.tag, transfer.body)
                    done += 1
                elif transfer.lost or row >= _HOPELESS or (not done and len(failed) >= _HOPELESS):
                    raise lost(transfer)
                else:
                    failed[transfer.tag] = transfer.reason
                add(1)
            cache.note_failures(failed)
        if unsure:
            LOG.warning("%s: gave no length of %s, which may be cut short", self.url, plural(unsure, "image"))
        return failed
