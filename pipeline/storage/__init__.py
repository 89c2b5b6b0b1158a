"""Locations and batch verbs: the only package (beside downloads) that touches file systems.

A `Location` is a place that holds files; `locate` makes one of what the user calls it. Speed lives in batches: reading
or writing some thousand small files is one call, made with names relative to an open directory. Every file of a batch
has its own result; errors that would hit every file (disk full, no permission, too many open files) stop the batch at
once as a `StorageError`.
"""

from __future__ import annotations

from pipeline.storage._base import SETTLE_NS, local_path, redact
from pipeline.storage._listing import Listing
from pipeline.storage._local import LocalFolder
from pipeline.storage._location import Fetched, Fingerprint, Location, Peeked, Results
from pipeline.storage._writing import replace_with

__all__ = [
    "SETTLE_NS",
    "Fetched",
    "Fingerprint",
    "Listing",
    "LocalFolder",
    "Location",
    "Peeked",
    "Results",
    "local_path",
    "locate",
    "redact",
    "replace_with",
]


def locate(url: str) -> Location:
    """The place that the user calls `url`: a path, or a URL.

    Raises `ConfigError` for a kind of place that is not known.
    """
    return LocalFolder(url)
