"""From what the user calls a location to the `Location`."""

from __future__ import annotations

import os
import re
import sys

from pipeline.base.errors import ConfigError
from pipeline.base.redaction import redact_url
from pipeline.storage.address import is_web, parse, protocol_of
from pipeline.storage.archives.folder import ONLY_ZIP, ZipFolder, split_url
from pipeline.storage.archives.folder import SCHEME as _ZIP
from pipeline.storage.archives.table import forget_tables
from pipeline.storage.local.folder import LocalFolder
from pipeline.storage.location import Location, WritableLocation


def locate(url: str, keep: str | None = None) -> Location:
    """The location that the user calls `url`: a path, or a URL such as ``zip://folder::archive``.

    `keep` is a folder, that of a job's work, where one that is slow to ask caches what it learned.

    Raises `ConfigError` for a kind of location that is not known.
    """
    if url.startswith(_ZIP):
        return _zip(url, keep)
    if url.startswith("tar://"):
        raise ConfigError(f"{redact_url(url)}: {ONLY_ZIP}")
    if is_web(url):
        from pipeline.storage.web.folder import HttpFolder

        return HttpFolder(url, keep)
    return _writable(url)


def _zip(url: str, keep: str | None) -> Location:
    archive = split_url(url)[1]
    if is_web(archive):
        from pipeline.storage.web.archive import WebZip

        return WebZip(url, keep)
    if protocol_of(archive) is None:
        return ZipFolder(url, keep)
    from pipeline.storage.stores.archive import StoreZip

    return StoreZip(url, keep)


def locate_writable(url: str, links: frozenset[str] = frozenset()) -> WritableLocation:
    """The location that the user calls `url`, for who writes to it.

    `links` are folders in a folder of this machine through which may be written where they are links. Raises
    `ConfigError` where nothing can be written.
    """
    if url.startswith((_ZIP, "tar://")) or is_web(url):
        raise ConfigError(f"{redact_url(url)}: files there can only be read; name a folder or a store")
    return _writable(url, links)


def _writable(url: str, links: frozenset[str] = frozenset()) -> WritableLocation:
    if protocol_of(url) is None:
        _refuse_misspelled(url)
        return LocalFolder(url, links)
    from pipeline.storage.stores.folder import RemoteFolder

    return RemoteFolder(parse(url))


#: A URL with a slash or two too few, as in ``s3:/bucket``; and a path of Windows.
_MISSPELLED = re.compile(r"(s3a?|gcs|gs|az|abfss?|sftp|ssh|https?|zip|tar|file|[A-Za-z]):([/\\]?[^/].*)", re.DOTALL)


def _refuse_misspelled(path: str) -> None:
    """Raise `ConfigError` for what would be a folder of this machine with a name that nobody wants."""
    match = _MISSPELLED.fullmatch(path)
    if match is None or os.path.lexists(path):
        return
    scheme, rest = match[1], match[2].lstrip("/")
    if len(scheme) > 1:
        raise ConfigError(f"{redact_url(path)}: is neither a path nor a URL; write {scheme}://{redact_url(rest)}")
    if match[2][:1] in ("\\", "/"):
        rest = match[2].replace("\\", "/").lstrip("/")
        raise ConfigError(f"{path}: is a path of Windows; in WSL it is /mnt/{scheme.lower()}/{rest}")


def begin_listings() -> None:
    """A run begins: what stores and archives there listed for another one says nothing of now."""
    forget_tables()
    survey = sys.modules.get("pipeline.storage.stores.survey")  # not imported: nothing was listed
    if survey is not None:
        survey.begin_anew()


def locate_below(root: str | None, path: str) -> Location:
    """The location that `path` is below the location `root`, or by itself where it is absolute or a URL.

    Of ``zip://folder::archive`` it is the archive that is below `root`, where that is a folder of this machine.
    ``.`` is `root` itself.
    """
    if root is None:
        return locate(path)
    path = path.removeprefix("./")
    if path in (".", ""):
        return locate(root)
    if path.startswith(_ZIP) and protocol_of(root) is None:
        folder, archive = split_url(path)
        return locate(f"{_ZIP}{folder}::{archive if _is_whole(archive) else os.path.join(root, archive)}")
    return locate(path) if _is_whole(path) else locate(root).below(path)


def locate_file(url: str) -> tuple[Location, str]:
    """The location that holds the file `url`, and the file's name there."""
    if url.startswith(_ZIP):
        path, archive = split_url(url)
        folder, _, name = path.rpartition("/")
        return locate(f"{_ZIP}{folder}::{archive}"), name
    folder, slash, name = url.rpartition("/")
    return locate(folder or slash or "."), name


def _is_whole(path: str) -> bool:
    return "://" in path or os.path.isabs(path) or path.startswith("~")


def archive_of(url: str, root: str | None = None) -> str | None:
    """Path of the archive of this machine that ``zip://folder::archive`` names, which may be below `root`.

    None for any other location.
    """
    location = locate_below(root, url) if url.startswith(_ZIP) else None
    return location.archive if isinstance(location, ZipFolder) and not location.remote else None
