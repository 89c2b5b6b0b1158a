"""Locations and batch verbs: the only package (beside downloads) that touches file systems.

Speed lives in batches: reading or writing some thousand small files is one call, made with names relative to an open
directory. Every file of a batch has its own result; errors that would hit every file (disk full, no permission, too
many open files) stop the batch at once as a `StorageError`.
"""

from pipeline.storage._base import SETTLE_NS, local_path, redact
from pipeline.storage._listing import Listing, folder_times, list_flat, list_folder, list_names
from pipeline.storage._locks import lock, lock_holder
from pipeline.storage._reading import (
    Fingerprint,
    content_digest,
    exist_many,
    fingerprints,
    read_many,
    read_whole,
    same_disk,
    sizes,
)
from pipeline.storage._writing import (
    Results,
    copy_many,
    delete_many,
    drop_empty_folders,
    make_folders,
    publish_folders,
    replace_with,
    sync,
    write_many,
    write_whole,
)

__all__ = [
    "SETTLE_NS",
    "Fingerprint",
    "Listing",
    "Results",
    "content_digest",
    "copy_many",
    "delete_many",
    "drop_empty_folders",
    "exist_many",
    "fingerprints",
    "folder_times",
    "list_flat",
    "list_folder",
    "list_names",
    "local_path",
    "lock",
    "lock_holder",
    "make_folders",
    "publish_folders",
    "read_many",
    "read_whole",
    "redact",
    "replace_with",
    "same_disk",
    "sizes",
    "sync",
    "write_many",
    "write_whole",
]
