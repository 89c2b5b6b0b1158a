"""Reading: batches of small files, and single ones whole."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
import struct
import time
from array import array
from collections.abc import Callable, Iterator, Sequence

from pipeline.base.digest import digest_of
from pipeline.base.errors import StorageError
from pipeline.base.os_errors import says_nothing_of_a_file, storage_error
from pipeline.base.stale import with_new_handle
from pipeline.runtime.counters import READ, count, count_file
from pipeline.runtime.interrupt import STOP, check_stop
from pipeline.storage.location import Fetched, FileEnds, Fingerprint, is_too_large, too_large
from pipeline.storage.settling import settle_ns

#: What a file that is not there, or can never be, is answered with; anything else may be otherwise a moment later.
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


NOT_READ = "is a pipe or a device, and such are not read"

#: Without waiting for whoever writes to a pipe.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK

#: Spans that are read between two checks whether the run is to stop.
_SPANS = 4096


def is_there(path: str, is_kind: Callable[[int], bool] = stat.S_ISDIR) -> bool:
    """Whether a folder (or another kind, see `stat.S_ISREG`) is at `path`.

    Raises `StorageError` where nobody knows: of a server that does not answer nothing is lost.
    """
    try:
        return is_kind(with_new_handle(lambda: os.stat(path)).st_mode)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return False
        raise storage_error(error, path, "read") from None


def read_many(
    folder: str, names: Sequence[str], limit: int, room: int | None = None
) -> tuple[list[bytes], array[int], dict[int, str]]:
    """Contents of the files `names` in `folder`, in order; their stats; and by index why one could not be read.

    The stats are size (bytes), mtime_ns, ctime_ns and inode of each file, one after another, of the very file that was
    read. A file that cannot be read gives empty bytes, zeros and a reason: ``vanished``, ``changed`` (while it was
    read), ``too_large`` (more than `limit` bytes), ``stale`` (NFS lost it, twice), ``unreadable``, ``not_a_file``. With
    `room` (bytes) only the first are read, one or more, until they fill it.
    """
    left = math.inf if room is None else room
    contents: list[bytes] = []
    stats: list[int] = []
    failed: dict[int, str] = {}
    add, add_stat = contents.append, stats.extend
    try:
        directory = with_new_handle(lambda: os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
    except OSError as error:
        raise storage_error(error, folder, "read") from None
    try:
        for i, name in enumerate(names):
            if STOP.is_set():
                check_stop()
            count_file()
            try:
                try:
                    data, s = _read_one(name, directory, limit)
                except OSError as error:
                    if error.errno != errno.ESTALE:
                        raise
                    data, s = _read_one(os.path.join(folder, name), None, limit)  # NFS gives a new handle
                add(data)
                add_stat((s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino))
                left -= s.st_size
                if left <= 0:
                    break
            except (OSError, _Skipped) as error:
                failed[i] = _why(error, os.path.join(folder, name))
                add(b"")
                add_stat((0, 0, 0, 0))
    finally:
        os.close(directory)
    count(READ, sum(map(len, contents)))
    return contents, array("q", stats), failed


def open_file(path: str) -> int:
    """A descriptor of a file for reading; raises OSError, too, for a pipe or a device, which could keep us waiting."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.ENODEV, NOT_READ)
    return fd


def _read_one(name: str, directory: int | None, limit: int) -> tuple[bytes, os.stat_result]:
    """Content and stats of the file `name` in the folder `directory`; raises `_Skipped` where it is not taken."""
    fd = os.open(name, _READ, dir_fd=directory)
    try:
        s = os.fstat(fd)
        size = s.st_size
        if size > limit or not stat.S_ISREG(s.st_mode):
            raise _Skipped("too_large" if stat.S_ISREG(s.st_mode) else "not_a_file")
        data = os.read(fd, size + 1)
        if len(data) < size:
            data = _read_rest(fd, data, size)
        if len(data) != size:
            raise _Skipped("changed")
    finally:
        os.close(fd)
    return data, s


class _Skipped(Exception):  # noqa: N818 - a reason, not an error
    """Why a file is not taken; the one argument is the counted word."""


def _why(error: OSError | _Skipped, path: str) -> str:
    if isinstance(error, _Skipped):
        return str(error.args[0])
    if says_nothing_of_a_file(error):
        raise storage_error(error, path, "read") from None
    return {errno.ENOENT: "vanished", errno.ESTALE: "stale"}.get(error.errno or 0, "unreadable")


def _read_rest(fd: int, data: bytes, size: int) -> bytes:
    # A short read is a signal's doing, or the file was cut meanwhile.
    parts = [data]
    total = len(data)
    while total <= size and (more := os.read(fd, 1 << 20)):
        parts.append(more)
        total += len(more)
    return b"".join(parts)


def fingerprints(folder: str, names: Sequence[str]) -> list[Fingerprint | None]:
    """The fingerprint of each image; None for one that is not there, or is no file.

    The mark is size, mtime_ns and inode, not the ctime: each hard link to an image changes that, and one subset with
    links would make every other subset copy its images again.
    """
    pack = struct.Struct("<3q").pack
    now, settle = time.time_ns(), settle_ns()
    result: list[Fingerprint | None] = []
    try:
        directory = with_new_handle(lambda: os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
    except FileNotFoundError:
        return [None] * len(names)
    except OSError as error:
        raise storage_error(error, folder, "read") from None
    try:
        for name in names:
            try:
                s = os.stat(name, dir_fd=directory)
            except OSError as error:
                if error.errno not in _NOT_THERE:  # what cannot be asked now is no file that has gone
                    raise storage_error(error, os.path.join(folder, name), "read") from None
                result.append(None)
                continue
            if not stat.S_ISREG(s.st_mode):
                result.append(None)
                continue
            mark = pack(s.st_size, s.st_mtime_ns, s.st_ino)
            result.append(Fingerprint(s.st_size, mark, abs(now - s.st_mtime_ns) >= settle))
    finally:
        os.close(directory)
    return result


def read_whole(path: str) -> bytes | None:
    """The bytes of one file, or None where it, or any file, is not there."""
    try:
        with open(open_file(path), "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise storage_error(error, path, "read") from None
    count(READ, len(data))
    return data


def sizes(root: str, paths: Sequence[str]) -> list[int | None]:
    """Size in bytes of each file below `root`, links followed; None for one that is not there."""
    found: list[int | None] = []
    for path in paths:
        try:
            found.append(os.stat(os.path.join(root, path)).st_size)
        except OSError:
            found.append(None)
    return found


def fetch_many(root: str, paths: Sequence[str]) -> Iterator[Fetched]:
    """Contents of the files `paths` below `root`, in order."""
    for i, path in enumerate(paths):
        check_stop()
        full = os.path.join(root, path)
        try:
            with open(open_file(full), "rb") as file:
                fitting = not is_too_large(os.fstat(file.fileno()).st_size)
                data = file.read() if fitting else b""
        except OSError as error:
            yield Fetched(i, reason=_reason(error, full))
        else:
            count(READ, len(data))
            yield Fetched(i, data, None if fitting else too_large())


def _reason(error: OSError, path: str) -> str:
    """Why one file cannot be read; what would meet every file is raised."""
    if says_nothing_of_a_file(error):
        raise storage_error(error, path, "read") from None
    return NOT_READ if error.errno == errno.ENODEV else os.strerror(error.errno or 0)


def read_spans(path: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    """See `Location.read_spans`."""
    pread, found = os.pread, []
    try:
        with open(open_file(path), "rb", buffering=0) as file:
            fd = file.fileno()
            for begin in range(0, len(spans), _SPANS):
                check_stop()
                found += [pread(fd, stop - start, start) for start, stop in spans[begin : begin + _SPANS]]
    except OSError as error:
        raise storage_error(error, path, "read") from None
    size = sum(map(len, found))
    if size != sum(stop - start for start, stop in spans):  # no read gives more than was asked for
        raise StorageError(f"{path}: became shorter while it was read; run again")
    count(READ, size)
    return found


def peek_many(root: str, paths: Sequence[str], head: int, tail: int) -> Iterator[FileEnds]:
    """The first `head` and the last `tail` bytes of the files `paths` below `root`, in order."""
    for i, path in enumerate(paths):
        check_stop()
        full = os.path.join(root, path)
        try:
            fd = open_file(full)
            try:
                size = os.fstat(fd).st_size
                first = os.pread(fd, head, 0)
                more = os.pread(fd, tail, max(size - tail, 0)) if tail and len(first) < size else b""
                last = more or (first[-tail:] if tail else b"")
            finally:
                os.close(fd)
        except OSError as error:
            yield FileEnds(i, reason=_reason(error, full))
        else:
            count(READ, len(first) + len(more))
            yield FileEnds(i, size, first, last)


def read_parts(path: str, parts: Sequence[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """Parts of one file, in order; raises `StorageError` where it cannot be read, or ends before the last."""
    try:
        with open(open_file(path), "rb", buffering=0) as file:
            for i, (start, stop) in enumerate(parts):
                check_stop()
                data = os.pread(file.fileno(), stop - start, start)
                while len(data) < stop - start:
                    more = os.pread(file.fileno(), stop - start - len(data), start + len(data))
                    if not more:
                        raise StorageError(f"{path}: became shorter while it was read; run again")
                    data += more
                count(READ, len(data))
                yield i, data
    except OSError as error:
        raise storage_error(error, path, "read") from None


def content_digest(path: str) -> bytes | None:
    """XXH3-128 (16 bytes) of a file's content, read in pieces; None where it cannot be read."""
    import xxhash

    state = xxhash.xxh3_128()
    try:
        with open(open_file(path), "rb") as file:
            while data := file.read(1 << 20):
                check_stop()
                count(READ, len(data))
                state.update(data)
    except OSError:
        return None
    return state.digest()


def link_digest(where: str | int) -> bytes:
    """What is recorded of a link: XXH3-128 of `where` a symbolic one leads, or of the inode that a hard one is."""
    return digest_of(os.fsencode(str(where)))


def link_digests(root: str, paths: Sequence[str]) -> list[bytes | None]:
    """`link_digest` of each of `paths` below `root`, as they are now; None for one that is not there."""
    found: list[bytes | None] = []
    for path in paths:
        full = os.path.join(root, path)
        try:
            s = os.lstat(full)
            found.append(link_digest(os.readlink(full) if stat.S_ISLNK(s.st_mode) else s.st_ino))
        except OSError:
            found.append(None)
    return found


def out_of(folder: str, root: str, paths: Sequence[str]) -> list[str]:
    """Those of the files `paths` below `folder` that a link leads to out of the folder `root`.

    Where `folder` itself is a link, what it leads to counts as inside.
    """
    inside = tuple(f"{os.path.realpath(path)}/" for path in (root, folder))
    return [path for path in paths if not os.path.realpath(os.path.join(folder, path)).startswith(inside)]


def written_since(root: str, paths: Sequence[str], since: str) -> set[str]:
    """Those of the files `paths` below `root` whose content was written after the file `since`.

    Both times must say so: content may bear a time of the future, and another hard link changes the state alone.
    """
    try:
        then = os.stat(os.path.join(root, since)).st_mtime_ns
    except OSError as error:
        raise storage_error(error, os.path.join(root, since), "read") from None
    found = set()
    for path in paths:
        with contextlib.suppress(OSError):
            s = os.stat(os.path.join(root, path))
            if min(s.st_mtime_ns, s.st_ctime_ns) > then:
                found.add(path)
    return found


def same_disk(root: str, folder: str) -> bool:
    """Whether `folder` below `root` is on the same file system as `root`, as far as both exist."""
    try:
        return os.stat(os.path.join(root, folder)).st_dev == os.stat(root).st_dev
    except OSError:
        return True


def exist_many(root: str, paths: Sequence[str]) -> list[bool]:
    """Whether each of `paths` below `root` is there (a dangling link is)."""
    return [os.path.lexists(os.path.join(root, path)) for path in paths]
