"""Folders made, renamed, emptied and synced."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections.abc import Iterable, Sequence

from pipeline.base.errors import StorageError
from pipeline.base.os_errors import storage_error
from pipeline.storage.local.root import Root, is_link, leads_out, linked
from pipeline.storage.local.write import _UNDER_WAY, _delete, group, opened, write_whole
from pipeline.storage.location import Results


def delete_many(root: Root, paths: Sequence[str], scratch: Root | None = None) -> Results:
    """Delete files below `root`; one that is gone already counts as done. With `scratch` by way of that folder."""
    results = Results()
    for folder, files in group(paths):
        try:
            with opened(root, folder, scratch, "deleted", make=False) as (fd, temp_fd):
                for i, _ in files:
                    _delete(root, paths[i], fd, temp_fd, results)
        except FileNotFoundError:
            results.done += len(files)
    return results


#: A process that goes on making files in a folder that is being removed is outrun within so many seconds.
_OUTRUN_S = 20.0

#: What is made meanwhile is deleted so many files at a time: the list of it need not end.
_NAMES = 1000


def remove_folder(root: Root, folder: str) -> None:
    """Remove `folder` below `root` with all that is in it; who has it open can make nothing in it from then on.

    Raises `StorageError` where something in it cannot be deleted, or files are made as fast as that.
    """
    above, _, name = folder.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise leads_out(root.at(folder))
    with contextlib.suppress(FileNotFoundError), root.open(above, "deleted", make=False) as fd:
        if is_link(name, fd):
            raise linked(root.at(folder))
        _remove(name, fd, root.at(folder))


def _remove(name: str, fd: int, path: str) -> None:
    """Remove the folder `name` in the folder `fd`, which messages call `path`; one that is not there is removed."""
    try:
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage_error(error, path, "deleted") from None
    try:
        _empty(inner, path, None)
        until = time.monotonic() + _OUTRUN_S
        while not _drop(name, fd, path):
            if time.monotonic() > until:
                raise StorageError(f"{path}: cannot be removed: files are being made in it; stop the workers")
            _empty(inner, path, _NAMES)
    finally:
        os.close(inner)


def _empty(fd: int, path: str, most: int | None) -> None:
    """Delete what is in the folder `fd`, `most` files of it (None: all)."""
    with os.scandir(fd) as found:
        some = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in itertools.islice(found, most)]
    for name, is_folder in some:
        at = os.path.join(path, name)
        if is_folder:
            _remove(name, fd, at)
            continue
        try:
            os.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise storage_error(error, at, "deleted") from None


def _drop(name: str, fd: int, path: str) -> bool:
    """Remove the folder `name` in the folder `fd` where it is empty; whether it is gone."""
    try:
        os.rmdir(name, dir_fd=fd)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise storage_error(error, path, "deleted") from None
        return False
    return True


def make_folders(root: Root, folders: Sequence[str]) -> None:
    """Make `folders` below `root`, as far as they are not there."""
    for folder in folders:
        with root.open(folder, "made"):
            pass


def make_private(path: str) -> bool:
    """Make the folder `path`, for its user alone, where it is not there; whether nobody else may write to it."""
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.stat(path)
    except OSError as error:
        raise storage_error(error, path, "made") from None
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022


def rename(root: Root, name: str, to: str) -> bool:
    """Give a file right in `root` the name `to`, which nobody else gives one; whether it has it now.

    Of several who do this to one file at once, each to a name of their own, it is done for one. A file server's answer
    can be lost: then a rename fails that was done.
    """
    try:
        with root.open("", "renamed", make=False) as fd:
            try:
                os.rename(name, to, src_dir_fd=fd, dst_dir_fd=fd)
            except FileNotFoundError:
                return to in os.listdir(fd)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(error, root.at(name), "renamed") from None
    return True


def publish_folders(staging: Root, root: Root, folders: Sequence[str]) -> None:
    """Move `folders` from below `staging` to below `root`, in this order, each in one step.

    Missing ones are left out. Raises `StorageError` where a target exists.
    """
    for folder in folders:
        try:
            _move(staging, root, folder)
        except OSError as error:
            raise storage_error(error, root.at(folder), "renamed") from None


def take_files(staging: Root, root: Root, paths: Sequence[str]) -> None:
    """Move the files `paths` from below `staging` to below `root`, each in one step; those not there are left out."""
    for path in paths:
        try:
            _move(staging, root, path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise storage_error(error, root.at(path), "renamed") from None
            write_whole(root, path, staging.read(path) or b"")  # users put folders on another disk


def _move(staging: Root, root: Root, path: str) -> None:
    """Move `path` from below `staging` to below `root` in one step; nothing is done where it is not there."""
    folder, _, name = path.rpartition("/")
    with (
        contextlib.suppress(FileNotFoundError),
        staging.open(folder, "read", make=False) as source,
        root.open(folder, "renamed") as target,
    ):
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)


def sync(folder: str, others: Sequence[str] = ()) -> None:
    """Wait until all that was written to the file system of `folder` has reached the disk; and to those of `others`.

    One call for a hundred thousand files: syncing each by itself takes a hundred times as long.
    """
    synced = set()
    for path in (folder, *filter(os.path.isdir, others)):
        device = os.stat(path).st_dev if os.path.isdir(path) else None
        if device not in synced:
            _sync_disk(path)
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


_OLD_S = 86_400


def drop_temporaries(root: Root, names: Iterable[str], *, shared: bool) -> None:
    """Delete those of the files `names` below `root` that killed runs had under way.

    Where it is `shared` with runs that are at work, those that are a day old: nothing takes that long. What cannot be
    deleted stays: it is searched for again.
    """
    paths = [name for name in names if _UNDER_WAY.fullmatch(name.rpartition("/")[2])]
    with contextlib.suppress(StorageError):
        delete_many(root, [path for path in paths if not shared or _is_old(root.at(path))])


def _is_old(path: str) -> bool:
    try:
        return time.time() - os.stat(path, follow_symlinks=False).st_mtime > _OLD_S
    except OSError:
        return False
