"""Folders made, put in place, emptied and synced."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pipeline.storage.local.root import Root
from pipeline.storage.local.write import _delete, _group
from pipeline.storage.location import Results
from pipeline.storage.os_errors import storage_error


def delete_many(root: Root, paths: Sequence[str]) -> Results:
    """Delete files below `root`; one that is gone already counts as done."""
    results = Results()
    for folder, indexes in _group(paths):
        try:
            with root.open(folder, "deleted", make=False) as fd:
                for i in indexes:
                    _delete(root, paths[i], fd, results)
        except FileNotFoundError:
            results.done += len(indexes)
    return results


def make_folders(root: Root, folders: Sequence[str]) -> None:
    """Make `folders` below `root`, as far as they are not there."""
    for folder in folders:
        with root.open(folder, "made"):
            pass


def publish_folders(staging: Root, root: Root, folders: Sequence[str]) -> None:
    """Move `folders` from below `staging` to below `root`, in this order, each in one step.

    Those that are not there are left out. Raises `StorageError` where one stands in the way.
    """
    for folder in folders:
        above, _, name = folder.rpartition("/")
        try:
            with staging.open(above, "read", make=False) as source, root.open(above, "put in place") as target:
                os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise storage_error(error, root.at(folder), "put in place") from None


def sync(folder: str, others: Sequence[str] = ()) -> None:
    """Wait until all that was written to the file system of `folder` has reached the disk; and to those of `others`.

    One call for a hundred thousand files: syncing each by itself takes a hundred times as long.
    """
    synced = set()
    for place in (folder, *filter(os.path.isdir, others)):
        device = os.stat(place).st_dev if os.path.isdir(place) else None
        if device not in synced:
            _sync_disk(place)
            synced.add(device)


def _sync_disk(folder: str) -> None:
    import ctypes

    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise storage_error(error, folder, "read") from None
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "syncfs"):
            os.sync()
        elif libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise storage_error(OSError(number, os.strerror(number)), folder, "written")
    finally:
        os.close(fd)
