"""Locations and batch verbs: the only package (beside downloads) that touches file systems.

A `Location` is a place that holds files; `locate` makes one of what the user calls it. Speed lives in batches: reading
or writing some thousand small files is one call, made with names relative to an open directory. Every file of a batch
has its own result; errors that would hit every file (disk full, no permission, too many open files) stop the batch at
once as a `StorageError`.
"""

from __future__ import annotations

from pipeline.storage.archives.folder import check_zip
from pipeline.storage.archives.writer import write_zip
from pipeline.storage.listing import ODD, Listing
from pipeline.storage.local.folder import LocalFolder
from pipeline.storage.local.write import replace_with, write_pieces, write_with
from pipeline.storage.location import Asked, Buffer, Fetched, Fingerprint, Limits, Location, Peeked, Results
from pipeline.storage.os_errors import SETTLE_NS, storage_error
from pipeline.storage.paths import local_path, redact, same_place, within
from pipeline.storage.registry import archive_of, locate, locate_below
from pipeline.storage.web.cache import drop_kept
from pipeline.storage.web.client import SCHEMES as WEB_SCHEMES
from pipeline.storage.web.client import Transfer, Web, parse_range, validator

__all__ = [
    "ODD",
    "SETTLE_NS",
    "WEB_SCHEMES",
    "Asked",
    "Buffer",
    "Fetched",
    "Fingerprint",
    "Limits",
    "Listing",
    "LocalFolder",
    "Location",
    "Peeked",
    "Results",
    "Transfer",
    "Web",
    "archive_of",
    "check_zip",
    "drop_kept",
    "local_path",
    "locate",
    "locate_below",
    "parse_range",
    "redact",
    "replace_with",
    "same_place",
    "storage_error",
    "validator",
    "within",
    "write_pieces",
    "write_with",
    "write_zip",
]
