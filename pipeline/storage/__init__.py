"""Locations and batch verbs: the only package (beside downloads) that touches file systems.

A `Location` is a place that holds files; `locate` makes one of what the user calls it. Speed lives in batches: reading
or writing some thousand small files is one call, made with names relative to an open directory. Every file of a batch
has its own result; errors that would hit every file (disk full, no permission, too many open files) stop the batch at
once as a `StorageError`.
"""

from __future__ import annotations

import os

from pipeline.errors import ConfigError
from pipeline.redaction import redact_url
from pipeline.storage._address import parse, protocol_of
from pipeline.storage._base import SETTLE_NS, is_of_machine, local_path, same_place, storage_error, within
from pipeline.storage._embedded import embedded_name, image_places
from pipeline.storage._endpoints import refuse_plain
from pipeline.storage._http import HttpFolder, RemoteZip, is_web
from pipeline.storage._kept import drop_kept
from pipeline.storage._listing import ODD, Listing
from pipeline.storage._local import LocalFolder
from pipeline.storage._location import Asked, Fetched, Fingerprint, Location, Peeked, Results
from pipeline.storage._members import is_page
from pipeline.storage._options import options_beside
from pipeline.storage._pieces import write_pieces, write_zip
from pipeline.storage._root import Root
from pipeline.storage._traits import Traits
from pipeline.storage._unpacking import DIFFERENT, SAME, compare_unpacked
from pipeline.storage._web import SCHEMES as WEB_SCHEMES
from pipeline.storage._web import Limits, Transfer, Web, lost, parse_range, validator
from pipeline.storage._writing import replace_with
from pipeline.storage._zip import ONLY_ZIP, ZipFolder, check_zip, split_url
from pipeline.storage._zip import SCHEME as _ZIP

__all__ = [
    "DIFFERENT",
    "ODD",
    "SAME",
    "SETTLE_NS",
    "WEB_SCHEMES",
    "Asked",
    "Fetched",
    "Fingerprint",
    "Limits",
    "Listing",
    "LocalFolder",
    "Location",
    "Peeked",
    "Results",
    "Traits",
    "Transfer",
    "Web",
    "ZipFolder",
    "archive_of",
    "check_zip",
    "compare_unpacked",
    "drop_kept",
    "embedded_name",
    "image_places",
    "is_of_machine",
    "is_page",
    "local_path",
    "locate",
    "locate_below",
    "lost",
    "open_own",
    "options_beside",
    "parse_range",
    "refuse_plain",
    "replace_with",
    "same_place",
    "storage_error",
    "validator",
    "within",
    "write_pieces",
    "write_zip",
]


def locate(url: str, keep: str | None = None, links: frozenset[str] = frozenset()) -> Location:
    """The place that the user calls `url`: a path, or a URL such as ``zip://folder::archive``.

    `keep` is a folder, that of a job's work, where a place that is slow to ask keeps what it learned. `links` are
    folders in a folder of this machine through which may be written where they are links.

    Raises `ConfigError` for a kind of place that is not known.
    """
    if url.startswith(_ZIP):
        return RemoteZip(url, keep) if is_web(split_url(url)[1]) else ZipFolder(url, keep)
    if url.startswith("tar://"):
        raise ConfigError(f"{redact_url(url)}: {ONLY_ZIP}")
    if is_web(url):
        return HttpFolder(url, keep)
    if protocol_of(url) is None:
        return LocalFolder(url, links)
    from pipeline.storage._remote import RemoteFolder

    return RemoteFolder(parse(url))


def locate_below(root: str | None, path: str) -> Location:
    """The place that `path` is below the place `root`, or by itself where it is absolute or a URL."""
    if root is None or "://" in path or os.path.isabs(path) or path.startswith("~"):
        return locate(path)
    return locate(root).below(path)


def open_own(path: str, flags: int, doing: str) -> int:
    """The descriptor of our own file `path`, opened with `flags`: no link is followed, no pipe or second name taken.

    Raises `StorageError` where something else is there, `FileNotFoundError` where nothing is and `flags` make none.
    """
    folder, name = os.path.split(path)
    return Root(folder).open_file(name, flags, doing)


def archive_of(url: str) -> str | None:
    """Path of the archive of this machine that ``zip://folder::archive`` names; None for any other place."""
    place = locate(url) if url.startswith(_ZIP) else None
    return place.archive if isinstance(place, ZipFolder) and not place.far else None
