"""Locations and batch verbs: the only package (beside downloads) that touches file systems.

A `Location` is what holds files; `locate` makes one of what the user calls it. Speed lives in batches:
reading or writing some thousand small files is one call, made with names relative to an open directory. Every file of a
batch has its own result; errors that would hit every file (disk full, no permission, too many open files) stop the
batch at once as a `StorageError`."""

from __future__ import annotations

import os

from pipeline.base.os_errors import is_of_machine, storage_error
from pipeline.storage.archives.directory import is_page
from pipeline.storage.archives.folder import ZipFolder, check_zip, refuse_packed
from pipeline.storage.archives.unpacking import DIFFERENT, SAME, compare_unpacked
from pipeline.storage.archives.writer import write_zip
from pipeline.storage.contents import pieces_of, read_image
from pipeline.storage.embedded import embedded_name, image_locations
from pipeline.storage.listing import UNREAD, UNUSABLE, Listing
from pipeline.storage.local.folder import LocalFolder
from pipeline.storage.local.pin import pinned
from pipeline.storage.local.read import link_digests, out_of, written_since
from pipeline.storage.local.root import Root
from pipeline.storage.local.walk import any_name, folder_time, list_linked
from pipeline.storage.local.write import replace_with, write_pieces, write_with
from pipeline.storage.location import (
    RUNNING,
    Copies,
    FetchCost,
    Fetched,
    FileEnds,
    Fingerprint,
    Limits,
    Location,
    Results,
    WritableLocation,
    is_packed,
)
from pipeline.storage.outputs import output_path
from pipeline.storage.paths import is_in, is_same_location, local_path, real_path, user_folder, within
from pipeline.storage.registry import archive_of, begin_listings, locate, locate_below, locate_file, locate_writable
from pipeline.storage.settling import settle_ns
from pipeline.storage.spill import Spill
from pipeline.storage.stores.endpoints import refuse_plain
from pipeline.storage.stores.options import options_beside
from pipeline.storage.traits import Traits
from pipeline.storage.web.cache import drop_cached
from pipeline.storage.web.client import SCHEMES as WEB_SCHEMES
from pipeline.storage.web.client import Web
from pipeline.storage.web.transfer import Transfer, lost, parse_range, validator

__all__ = [
    "DIFFERENT",
    "RUNNING",
    "SAME",
    "UNREAD",
    "UNUSABLE",
    "WEB_SCHEMES",
    "Copies",
    "FetchCost",
    "Fetched",
    "FileEnds",
    "Fingerprint",
    "Limits",
    "Listing",
    "LocalFolder",
    "Location",
    "Results",
    "Spill",
    "Traits",
    "Transfer",
    "Web",
    "WritableLocation",
    "ZipFolder",
    "any_name",
    "archive_of",
    "begin_listings",
    "check_zip",
    "compare_unpacked",
    "drop_cached",
    "embedded_name",
    "folder_time",
    "image_locations",
    "is_in",
    "is_of_machine",
    "is_packed",
    "is_page",
    "is_same_location",
    "link_digests",
    "list_linked",
    "local_path",
    "locate",
    "locate_below",
    "locate_file",
    "locate_writable",
    "lost",
    "open_own",
    "options_beside",
    "out_of",
    "output_path",
    "parse_range",
    "pieces_of",
    "pinned",
    "read_image",
    "real_path",
    "refuse_packed",
    "refuse_plain",
    "replace_with",
    "settle_ns",
    "storage_error",
    "user_folder",
    "validator",
    "within",
    "write_pieces",
    "write_with",
    "write_zip",
    "written_since",
]


def open_own(path: str, flags: int, doing: str) -> int:
    """The descriptor of our own file `path`, opened with `flags`: no link is followed, no pipe or second name taken.

    Raises `StorageError` where something else is there, `FileNotFoundError` where nothing is and `flags` make none.
    """
    folder, name = os.path.split(path)
    return Root(folder).open_file(name, flags, doing)
