"""Locks: one run at a time at an index or a target."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator

from pipeline.errors import LockError, StorageError
from pipeline.storage.os_errors import storage_error


@contextlib.contextmanager
def lock(path: str, what: str) -> Iterator[Callable[[], None]]:
    """Hold the lock file `path` while inside; it is the operating system's, so it dies with its holder.

    Gives a function that raises `StorageError` where the file is not there any more. Raises `LockError`, naming host,
    process and since when, where another run holds it.
    """
    import datetime
    import fcntl
    import socket

    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise storage_error(error, path, "written") from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 400, 0).decode(errors="replace").strip() or "another process"
            raise LockError(f"{what} is in use by {holder}; wait for it, or stop it") from None
        os.ftruncate(fd, 0)
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()} since {now}".encode(), 0)
        yield functools.partial(_still_there, fd, path, what)
        os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def _still_there(fd: int, path: str, what: str) -> None:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        there = None
    except OSError as error:
        raise storage_error(error, path, "read") from None
    if there is None or not os.path.samestat(there, os.fstat(fd)):
        raise StorageError(f"{what} was removed while this run was at work; run again")


def lock_holder(path: str) -> str | None:
    """Who holds the lock file `path`, as it says of itself; None where nobody does."""
    import fcntl

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(fd, 400, 0).decode(errors="replace").strip() or "another process"
    finally:
        os.close(fd)
    return None
