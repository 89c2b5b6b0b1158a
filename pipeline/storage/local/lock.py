"""Locks: one run at a time at an index or a target.

A lock is the operating system's where the file system has such a thing. Some have not: Lustre as it is mounted by
default, NFS without lockd, some FUSE. There a run keeps the same lease as on a store, see `stores.lease`.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from pipeline.base.errors import LockError
from pipeline.base.os_errors import removed, storage_error
from pipeline.runtime.log import LOG
from pipeline.storage.local.folders import delete_many
from pipeline.storage.local.pin import pinned
from pipeline.storage.local.root import Root
from pipeline.storage.processes import myself, shown

#: What a file system without locks answers; 524 is the kernel's own ENOTSUPP, which some let out. Our call is valid, so
#: EINVAL is the mount's answer as well.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF, 524}

#: Where a lock file is a lease, the file beside it with this behind its name.
_LEASE = ".lease"

_WARNED: set[int] = set()


@contextlib.contextmanager
def lock(root: Root, path: str, what: str) -> Iterator[Callable[[], None]]:
    """Hold the lock file `path` below `root` while inside; it is the operating system's, so it dies with its holder.

    Meanwhile the folder of `root` is `pinned`. Gives a function that raises `StorageError` where lock file or folder is
    not there any more. Raises `LockError`, naming host, process and since when, where another run holds it.
    """
    fd = root.open_file(path, os.O_RDWR | os.O_CREAT, "written")
    try:
        if not _flock(fd, root.at(path), what):
            from pipeline.storage.local.lease_file import LeaseFile
            from pipeline.storage.stores.lease import lease

            there = LeaseFile(replace(root, sealed=True))  # where the lock file is
            with lease(there, path + _LEASE, root.at(path), what) as check, pinned(root.path, root.links) as found:
                yield functools.partial(_call_all, check, found)
            return
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, shown(myself()).encode(), 0)
        except OSError as error:
            raise storage_error(error, root.at(path), "written") from None
        with pinned(root.path, root.links) as found:
            yield functools.partial(_call_all, functools.partial(_still_there, fd, root, path, what), found)
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def _flock(fd: int, path: str, what: str) -> bool:
    """Lock `fd`; False where the file system knows no locks, which is said once for each.

    Raises `LockError` where another run holds it.
    """
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LockError(f"{what} is in use by {_content(fd) or 'another process'}; wait for it, or stop it") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise storage_error(error, path, "locked") from None
        device = os.fstat(fd).st_dev
        if device not in _WARNED:
            from pipeline.storage.stores.lease import BEAT_S

            _WARNED.add(device)
            LOG.warning(
                "%s: its file system has no locks; a file that is written anew every %.0f s keeps other runs away",
                path,
                BEAT_S,
            )
        return False
    return True


def _content(fd: int) -> str:
    return os.pread(fd, 400, 0).decode(errors="replace").strip()


def _call_all(*checks: Callable[[], None]) -> None:
    for check in checks:
        check()


def _still_there(fd: int, root: Root, path: str, what: str) -> None:
    try:
        there = os.stat(root.at(path), follow_symlinks=False)
    except FileNotFoundError:
        there = None
    except OSError as error:
        raise storage_error(error, root.at(path), "read") from None
    if there is None or not os.path.samestat(there, os.fstat(fd)):
        raise removed(what)


def lock_holder(root: Root, path: str) -> str | None:
    """Who holds the lock file `path` below `root`, as it says of itself; None where nobody does."""
    import fcntl

    try:
        fd = root.open_file(path, os.O_RDONLY, "read")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _content(fd) or "another process"
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise storage_error(error, root.at(path), "locked") from None
        from pipeline.storage.local.lease_file import LeaseFile
        from pipeline.storage.stores.lease import holder

        return holder(LeaseFile(root), path + _LEASE)
    finally:
        os.close(fd)
    return None


def break_lease(root: Root, path: str) -> None:
    """Take the lock file `path` below `root` from whoever holds it as a lease; the system's own locks are left."""
    delete_many(root, [path + _LEASE])
