"""Folders made, put in place, emptied and synced."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from pipeline.storage.location import Results
from pipeline.storage.os_errors import hits_all, storage_error


def delete_many(root: str, paths: Sequence[str]) -> Results:
    """Delete files below `root`; one that is gone already counts as done."""
    results = Results()
    for path in paths:
        full = os.path.join(root, path)
        try:
            os.unlink(full)
        except FileNotFoundError:
            pass
        except OSError as error:
            if hits_all(error):
                raise storage_error(error, full, "deleted") from None
            results.failed[path] = os.strerror(error.errno or 0)
            continue
        results.done += 1
    return results


def drop_empty_folders(folder: str) -> None:
    """Remove `folder` and its subfolders where they are empty."""
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def make_folders(root: str, folders: Sequence[str]) -> None:
    """Make `folders` below `root`, as far as they are not there."""
    for folder in folders:
        path = os.path.join(root, folder)
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            raise storage_error(error, path, "made") from None


def publish_folders(staging: str, root: str, folders: Sequence[str]) -> None:
    """Move `folders` from below `staging` to below `root`, in this order, each in one step.

    Those that are not there are left out. Raises `StorageError` where one stands in the way.
    """
    for folder in folders:
        source, target = os.path.join(staging, folder), os.path.join(root, folder)
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.rename(source, target)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise storage_error(error, target, "put in place") from None


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
