"""Addresses of locations that are no folder of this machine, and the keys in them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from pipeline.base.errors import ConfigError, StorageError
from pipeline.base.redaction import is_signed, redact_url

#: Names of one protocol: the first is what we call it.
_ALIASES = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az", "ssh": "sftp"}

#: Protocols of object stores that obstore speaks.
OBJECT_STORES = frozenset({"s3", "gs", "az"})

_TYPES = {
    ".txt": "text/plain; charset=utf-8",
    ".yaml": "application/yaml",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".zip": "application/zip",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".jp2": "image/jp2",
    ".dng": "image/x-adobe-dng",
    ".mpo": "image/mpo",
}


@dataclass(frozen=True)
class Address:
    """An address: `protocol` (``s3``), `host` (a bucket, a container, a server) and `path` (no / at either end).

    `url` is what the user calls it, without a / at its end.
    """

    url: str
    protocol: str
    host: str
    path: str

    def key(self, name: str) -> str:
        """The key in the store of the file `name` below this location."""
        return f"{self.path}/{name}" if self.path and name else self.path or name

    def sound_key(self, name: str) -> str:
        """See `key`; raises `StorageError` for one that stores take differently."""
        key = self.key(name)
        if why := why_invalid(key):
            raise StorageError(f"{self.url}/{name}: {why}")
        return key

    def below(self, folder: str) -> Address:
        """The address of a folder below this location."""
        return replace(self, url=f"{self.url}/{folder}", path=self.key(folder))


def protocol_of(url: str) -> str | None:
    """The protocol of a URL; None for a path of this machine."""
    scheme, sep, _ = url.partition("://")
    if not sep or "/" in scheme or scheme.lower() in ("file", "local"):
        return None
    return _ALIASES.get(scheme.lower(), scheme.lower())


def parse(url: str) -> Address:
    """The address that `url` is.

    Raises `ConfigError` for one with a password or a signature in it, and for keys that stores take differently.
    """
    protocol = protocol_of(url)
    assert protocol is not None
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    shown = redact_url(url)
    if is_signed(url.partition("?")[0]):
        raise ConfigError(
            f"{shown}: a password is in the URL, where it would reach logs and manifests; put it "
            f"into conf/local/, as password below the key {protocol}"
        )
    if shown != url:
        raise ConfigError(f"{shown}: options are in the URL; put them into conf/local/ below the key {protocol}")
    if not host and protocol in OBJECT_STORES:
        raise ConfigError(f"{url}: names no bucket; as in {scheme}://bucket/folder")
    path = path.rstrip("/")
    if path and (why := why_invalid(path)):
        raise ConfigError(f"{url}: {why}")
    return Address(url.rstrip("/"), protocol, host, path)


def bucket_of(address: Address) -> tuple[str, str]:
    """Bucket or container, and the account where it is named: ``abfs://container@account.dfs.core.windows.net``."""
    bucket, _, server = address.host.partition("@")
    return bucket, server.partition(".")[0]


def why_invalid(key: str) -> str | None:
    """Why `key` cannot be used, as a clause; None where it can.

    An empty, ``.`` or ``..`` step is a file of its own to some stores, another file's name to others and an error to
    the rest, so it is refused everywhere.
    """
    steps = key.split("/")
    for step, what in (("", "an empty step (//)"), (".", "the step ."), ("..", "the step ..")):
        if step in steps:
            return f"the name has {what}, which stores take differently; rename it"
    return None


def content_type(key: str) -> str:
    """The content type of the file `key`, for browsers."""
    return _TYPES.get(os.path.splitext(key)[1].lower(), "application/octet-stream")


def is_web(url: str) -> bool:
    """Whether `url` is that of a web server."""
    return url.startswith(("http://", "https://"))
