"""Operating-system errors as sentences: what failed, and the cure."""

from __future__ import annotations

import errno
import os

from pipeline.base.errors import StorageError, UnavailableError

#: What a mount says (NFS, CIFS, FUSE) whose server does not answer, or whose process has died.
_AWAY = {
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ESHUTDOWN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
}

#: What says nothing about the file that was to be read.
_OF_NO_FILE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO} | _AWAY

_HIT_ALL = _AWAY | {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EMFILE,
    errno.ENFILE,
    errno.EIO,
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
    errno.ENOTDIR: "a file is where a folder must be; delete it",
    errno.EEXIST: "a file is where a folder must be; delete it",
    errno.EISDIR: "a folder is where a file must be; delete it",
    errno.ENOTEMPTY: "a folder is where a file must be; delete it",
    errno.ESTALE: "the server no longer knows it (stale file handle); run again: it goes on where it was",
    errno.EIO: "the disk or server failed (input/output error); run again, and check the disk if it persists",
}


def storage_error(error: OSError, path: str, doing: str) -> StorageError:
    """`error` as a sentence that names the path, what was being done and the cure."""
    if error.errno in _AWAY:
        why = f"the server or process behind its mount does not answer ({os.strerror(error.errno)})"
        return UnavailableError(f"{path}: cannot be {doing}: {why}; run again: it goes on where it was")
    cure = _CURES.get(error.errno or 0, os.strerror(error.errno) if error.errno else str(error))
    return StorageError(f"{path}: cannot be {doing}: {cure}")


def removed(what: str) -> StorageError:
    """What is said of a folder of ours that was there when the run began."""
    return StorageError(f"{what}: was removed, or its disk was unmounted, while this run was at work; run again")


def run_ended(path: str, so: str = ", or the folder is not mounted here") -> StorageError:
    """What is said of a worker's write after its run: `path` was there as long as the run was under way."""
    return StorageError(f"{path}: is gone: its run has ended{so}")


def is_of_machine(error: OSError) -> bool:
    """Whether the error says what the machine lacks or forbids, and not that we did something wrong."""
    return error.errno in _CURES


def any_os_error(error: OSError) -> StorageError:
    """`error`, of a call that nobody expected to fail, as a sentence: the file as far as it is known, and the cause."""
    cause = _CURES.get(error.errno or 0, error.strerror or str(error) or type(error).__name__)
    named = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "a file or folder"
    return StorageError(f"{named}: cannot be used: {cause}; mend that and run again: it goes on where it was")


def says_nothing_of_a_file(error: OSError) -> bool:
    """Whether a file that could not be read for `error` may be as good as any: the machine or its mount is ill."""
    return error.errno in _OF_NO_FILE


def hits_all(error: OSError) -> bool:
    """Whether the error would meet every further file as well."""
    return error.errno in _HIT_ALL
