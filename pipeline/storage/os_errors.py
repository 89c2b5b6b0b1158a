"""What all of storage shares: local paths, and operating-system errors as sentences."""

from __future__ import annotations

import errno
import os

from pipeline.errors import StorageError

#: A file younger than this when it was listed may change again without a new timestamp, so its fingerprint is void.
SETTLE_NS = 2_000_000_000

_HIT_ALL = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EMFILE,
    errno.ENFILE,
    errno.EIO,
    errno.EFBIG,
}

_CURES = {
    errno.ENOSPC: "the disk is full; free some space and run again: it goes on where it was",
    errno.EDQUOT: "the disk quota is used up; free some space and run again: it goes on where it was",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "no permission; allow it or choose another folder",
    errno.EPERM: "no permission; allow it or choose another folder",
    errno.EMFILE: "too many open files; raise the limit with `ulimit -n 1024`",
    errno.ENFILE: "too many open files on this machine; try again later",
    errno.EFBIG: "the limit of file sizes is reached; raise it with `ulimit -f unlimited`",
    errno.ENOMEM: "memory is used up; set engine.workers to fewer",
    errno.ENODEV: "it is a pipe or a device, and such are not read",
    errno.ENOTDIR: "a file stands where a folder must be",
}


def storage_error(error: OSError, path: str, doing: str) -> StorageError:
    """`error` as a sentence that names the path, what was being done and the cure."""
    cure = _CURES.get(error.errno or 0, os.strerror(error.errno) if error.errno else str(error))
    return StorageError(f"{path}: cannot be {doing}: {cure}")


def is_of_machine(error: OSError) -> bool:
    """Whether the error says what the machine lacks or forbids, and not that we did something wrong."""
    return error.errno in _CURES


def hits_all(error: OSError) -> bool:
    """Whether the error would meet every further file as well."""
    return error.errno in _HIT_ALL
