"""Locations and batch verbs: the only module (beside downloads) that touches file systems.

Speed lives in batches: reading or writing some thousand small files is one call, made with names relative to an open
directory. Every file of a batch has its own result; errors that would hit every file (disk full, no permission, too
many open files) stop the batch at once as a `StorageError`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import ConfigError, LockError, StorageError

#: A file younger than this when it was listed may change again without a new timestamp, so its fingerprint is void.
SETTLE_NS = 2_000_000_000
_STEP = 16_384
_HIT_ALL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.EIO}
_CURES = {
    errno.ENOSPC: "the disk is full; free some space and run again: it goes on where it was",
    errno.EDQUOT: "the disk quota is used up; free some space and run again: it goes on where it was",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "no permission; allow it or choose another folder",
    errno.EPERM: "no permission; allow it or choose another folder",
    errno.EMFILE: "too many open files; raise the limit with `ulimit -n 1024`",
    errno.ENFILE: "too many open files on this machine; try again later",
    errno.ENOTDIR: "a file stands where a folder must be",
}


def local_path(url: str) -> str:
    """The absolute path of a local folder or file given as a path or file:// URL; other stores are refused."""
    if url.startswith("file://"):
        url = url[7:]
    if "://" in url:
        raise ConfigError(f"{redact(url)}: only folders of this machine can be a source or target yet")
    return os.path.abspath(os.path.expanduser(url))


def redact(url: str) -> str:
    """`url` without what stands before an @ of its host: that is where passwords hide."""
    scheme, sep, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{sep}{host.rpartition('@')[2]}{slash}{path}" if sep else url


def storage_error(error: OSError, path: str, doing: str) -> StorageError:
    """`error` as a sentence that names the path, what was being done and the cure."""
    cure = _CURES.get(error.errno or 0, os.strerror(error.errno) if error.errno else str(error))
    return StorageError(f"{path}: cannot be {doing}: {cure}")


def hits_all(error: OSError) -> bool:
    """Whether the error would meet every further file as well."""
    return error.errno in _HIT_ALL


# --- listing ---------------------------------------------------------------------------------------------------------


@dataclass
class Listing:
    """The files of one folder and its subfolders, in chunks of some thousand.

    A chunk is the relative paths, joined by NUL (UTF-8), and `None` or size, mtime_ns, ctime_ns, inode of each, one
    after another. `odd` are relative paths that cannot be used, with the reason.
    """

    folder: str
    chunks: list[tuple[bytes, array[int] | None]] = field(default_factory=list)
    count: int = 0
    bytes: int = 0
    settled: bool = True
    started_ns: int = field(default_factory=time.time_ns)
    odd: list[tuple[str, str]] = field(default_factory=list)

    def add_stats(self, stats: array[int]) -> None:
        """Give a listing of names the stats of all its files, in its order."""
        position = 0
        for i, (names, _) in enumerate(self.chunks):
            count = names.count(b"\0") + 1
            self.chunks[i] = (names, stats[4 * position : 4 * (position + count)])
            position += count
        self.bytes = sum(stats[0::4])
        self.settled = max(stats[2::4], default=0) <= self.started_ns - SETTLE_NS

    def digest(self) -> bytes:
        """XXH3-128 over names and stats in listing order: equal digests are equal listings."""
        import xxhash

        state = xxhash.xxh3_128()
        for names, stats in self.chunks:
            state.update(names)
            state.update(b"\0\0")
            if stats is not None:
                state.update(stats)
        return state.digest()


def list_folder(folder: str, suffixes: frozenset[str], *, with_stats: bool) -> Listing:
    """List the files below `folder` whose suffix, in lower case, is one of `suffixes` (``.txt``).

    With `with_stats` also their size and times. Raises `StorageError` where the folder cannot be listed.
    """
    listing = Listing(folder)
    single = next(iter(suffixes)) if len(suffixes) == 1 else None
    young = listing.started_ns - SETTLE_NS
    names: list[str] = []
    stats: list[int] = []
    visited: set[tuple[int, int]] = set()

    def flush() -> None:
        try:
            blob = "\0".join(names).encode()
        except UnicodeEncodeError:
            _drop_undecodable(names, stats, listing, with_stats)
            blob = "\0".join(names).encode()
        listing.chunks.append((blob, array("q", stats) if with_stats else None))
        listing.count += len(names)
        listing.bytes += sum(stats[0::4])
        if with_stats and max(stats[2::4], default=0) > young:
            listing.settled = False
        names.clear()
        stats.clear()

    def walk(path: str, prefix: str) -> None:
        below: list[str] = []
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if not (name.endswith(single) if single else name[name.rfind(".") :].lower() in suffixes):
                    if entry.is_dir():
                        below.append(name)
                    continue
                if entry.is_symlink():
                    try:
                        entry.stat()
                    except OSError as error:
                        listing.odd.append((prefix + name, "link_loop" if error.errno == errno.ELOOP else "dangling"))
                        continue
                if not entry.is_file():
                    listing.odd.append((prefix + name, "not_a_file"))
                    continue
                names.append(prefix + name)
                if with_stats:
                    s = entry.stat()
                    stats.extend((s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino))
                if len(names) >= _STEP:
                    flush()
        for name in sorted(below):
            inner = os.path.join(path, name)
            info = os.stat(inner)
            if (info.st_dev, info.st_ino) not in visited:
                visited.add((info.st_dev, info.st_ino))
                walk(inner, f"{prefix}{name}/")

    try:
        walk(folder, "")
    except OSError as error:
        raise storage_error(error, error.filename or folder, "listed") from None
    if names:
        flush()
    listing.odd.sort()
    return listing


def _drop_undecodable(names: list[str], stats: list[int], listing: Listing, with_stats: bool) -> None:
    good: list[int] = []
    for i, name in enumerate(names):
        try:
            name.encode()
            good.append(i)
        except UnicodeEncodeError:
            listing.odd.append((name.encode(errors="surrogateescape").decode(errors="backslashreplace"), "not_utf8"))
    names[:] = [names[i] for i in good]
    if with_stats:
        stats[:] = [v for i in good for v in stats[4 * i : 4 * i + 4]]


def list_names(folder: str) -> set[str]:
    """Relative paths of all files below `folder`; empty where it does not exist."""
    found: set[str] = set()
    try:
        for path, _, names in os.walk(folder):
            prefix = os.path.relpath(path, folder) + "/" if path != folder else ""
            found.update(prefix + name for name in names)
    except OSError as error:
        raise storage_error(error, folder, "listed") from None
    return found


# --- reading ---------------------------------------------------------------------------------------------------------


def read_many(
    folder: str, names: Sequence[str], limit: int
) -> tuple[list[bytes], array[int], dict[int, str]]:
    """Contents of the files `names` in `folder`, in order; their stats; and by index why one could not be read.

    The stats are size (bytes), mtime_ns, ctime_ns and inode of each file, one after another, of the very file that was
    read. A file that cannot be read gives empty bytes, zeros and a reason: ``vanished``, ``changed`` (while it was
    read), ``too_large`` (more than `limit` bytes), ``unreadable``, ``not_a_file``.
    """
    contents: list[bytes] = []
    stats: list[int] = []
    failed: dict[int, str] = {}
    add, add_stat, read, close, fstat = contents.append, stats.extend, os.read, os.close, os.fstat
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise storage_error(error, folder, "read") from None
    try:
        for i, name in enumerate(names):
            try:
                fd = os.open(name, flags, dir_fd=directory)
                try:
                    s = fstat(fd)
                    size = s.st_size
                    if size > limit or not stat.S_ISREG(s.st_mode):
                        raise _Unfit("too_large" if stat.S_ISREG(s.st_mode) else "not_a_file")
                    data = read(fd, size + 1)
                    if len(data) < size:
                        data = _read_rest(fd, data, size)
                    if len(data) != size:
                        raise _Unfit("changed")
                finally:
                    close(fd)
                add(data)
                add_stat((size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino))
            except (OSError, _Unfit) as error:
                failed[i] = _why(error, os.path.join(folder, name))
                add(b"")
                add_stat((0, 0, 0, 0))
    finally:
        os.close(directory)
    return contents, array("q", stats), failed


class _Unfit(Exception):  # noqa: N818 - a reason, not a fault
    """Why a file is not taken; the one argument is the counted word."""


def _why(error: OSError | _Unfit, path: str) -> str:
    if isinstance(error, _Unfit):
        return str(error.args[0])
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.EIO):
        raise storage_error(error, path, "read") from None
    return "vanished" if error.errno == errno.ENOENT else "unreadable"


def _read_rest(fd: int, data: bytes, size: int) -> bytes:
    # A short read is a signal's doing, or the file was cut meanwhile.
    parts = [data]
    total = len(data)
    while total <= size and (more := os.read(fd, 1 << 20)):
        parts.append(more)
        total += len(more)
    return b"".join(parts)


def fingerprints(folder: str, names: Sequence[str]) -> list[tuple[int, bytes] | None]:
    """Size in bytes and fingerprint of each file; None for one that is not there (or is no file)."""
    import struct

    pack = struct.Struct("<4q").pack
    young = time.time_ns() - SETTLE_NS
    result: list[tuple[int, bytes] | None] = []
    try:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return [None] * len(names)
    except OSError as error:
        raise storage_error(error, folder, "read") from None
    try:
        for name in names:
            try:
                s = os.stat(name, dir_fd=directory)
            except OSError:
                result.append(None)
                continue
            if not stat.S_ISREG(s.st_mode):
                result.append(None)
                continue
            mark = pack(s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)
            result.append((s.st_size, mark if s.st_ctime_ns <= young else mark + b"young"))
    finally:
        os.close(directory)
    return result


# --- writing ---------------------------------------------------------------------------------------------------------


@dataclass
class Results:
    """What became of a batch: how many files were done, and path: reason for those that were not."""

    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)


_TEMPORARY = ".coco-diy-"


def _temporary() -> str:
    return f"{_TEMPORARY}{os.getpid()}-{threading.get_ident()}.tmp"


def _group(root: str, paths: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Indexes of `paths` by folder (absolute), in order of appearance."""
    groups: dict[str, list[int]] = {}
    for i, path in enumerate(paths):
        groups.setdefault(path.rpartition("/")[0], []).append(i)
    for folder, indexes in groups.items():
        yield os.path.join(root, folder) if folder else root, indexes


@contextlib.contextmanager
def _open_dir(folder: str, doing: str) -> Iterator[int]:
    try:
        os.makedirs(folder, exist_ok=True)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise storage_error(error, folder, doing) from None
    try:
        yield fd
    finally:
        os.close(fd)


def write_many(root: str, paths: Sequence[str], contents: Sequence[bytes], scratch: str | None = None) -> Results:
    """Write files below `root`, each whole or not at all: a temporary file, then a rename.

    Temporary files are made in `scratch` (a folder below `root`; default: `root`), so that no reader sees them and
    several writers do not wait for one folder's lock.
    """
    results = Results()
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    temporary = _temporary()
    for folder, indexes in _group(root, paths):
        with _open_dir(folder, "written") as fd, _scratch(root, scratch, fd) as temp_fd:
            for i in indexes:
                name = paths[i].rpartition("/")[2]
                try:
                    out = os.open(temporary, flags, 0o666, dir_fd=temp_fd)
                    try:
                        _write_all(out, contents[i])
                    finally:
                        os.close(out)
                    os.rename(temporary, name, src_dir_fd=temp_fd, dst_dir_fd=fd)
                except OSError as error:
                    _clean(temporary, temp_fd)
                    if hits_all(error):
                        raise storage_error(error, os.path.join(folder, name), "written") from None
                    results.failed[paths[i]] = os.strerror(error.errno or 0)
                else:
                    results.done += 1
    return results


@contextlib.contextmanager
def _scratch(root: str, scratch: str | None, fd: int) -> Iterator[int]:
    """The folder for temporary files: `scratch`, unless it is on another file system than the folder `fd`."""
    if scratch is None:
        yield fd
        return
    with _open_dir(os.path.join(root, scratch), "written") as temp_fd:
        yield temp_fd if os.fstat(temp_fd).st_dev == os.fstat(fd).st_dev else fd


def _write_all(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def _clean(name: str, fd: int) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=fd)


def copy_many(
    root: str, paths: Sequence[str], sources: Sequence[str], sizes: Sequence[int | None], how: str,
    scratch: str | None = None,
) -> Results:
    """Put `sources` (absolute paths) at `paths` below `root` by `how`: copy, hardlink or symlink; each whole or not.

    `scratch` is as in `write_many`.

    `sizes`, in bytes, are what the plan saw: a source of another size has changed since and fails.
    """
    put = {"copy": _copy_one, "hardlink": _hardlink_one, "symlink": _symlink_one}[how]
    results = Results()
    temporary = _temporary()
    for folder, indexes in _group(root, paths):
        with _open_dir(folder, "written") as fd, _scratch(root, scratch, fd) as temp_fd:
            for i in indexes:
                name = paths[i].rpartition("/")[2]
                try:
                    reason = put(sources[i], temporary, temp_fd, sizes[i])
                    if reason is None:
                        os.rename(temporary, name, src_dir_fd=temp_fd, dst_dir_fd=fd)
                        if how == "hardlink":  # renaming one link of a file onto another leaves both
                            _clean(temporary, temp_fd)
                except OSError as error:
                    _clean(temporary, temp_fd)
                    if error.errno == errno.EXDEV:
                        raise StorageError(f"{sources[i]}: cannot be hard-linked into {folder}: it is another file "
                                           "system; set target.images to copy or symlink") from None
                    if hits_all(error) and not _source_refused(sources[i]):
                        raise storage_error(error, os.path.join(folder, name), "written") from None
                    reason = os.strerror(error.errno or 0)
                if reason is None:
                    results.done += 1
                else:
                    _clean(temporary, temp_fd)
                    results.failed[paths[i]] = f"{sources[i]}: {reason}"
    return results


def _source_refused(source: str) -> bool:
    return not os.access(source, os.R_OK)


def _copy_one(source: str, temporary: str, fd: int, size: int | None) -> str | None:
    inp = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        out = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666, dir_fd=fd)
        try:
            copied = 0
            while data := os.read(inp, 1 << 20):
                _write_all(out, data)
                copied += len(data)
                if size is not None and copied == size and len(data) < 1 << 20:
                    break
        finally:
            os.close(out)
        if size is not None and (copied != size or os.fstat(inp).st_size != size):
            return "changed since the plan was made; run again"
    finally:
        os.close(inp)
    return None


def _hardlink_one(source: str, temporary: str, fd: int, size: int | None) -> str | None:
    _clean(temporary, fd)
    os.link(os.path.realpath(source), temporary, dst_dir_fd=fd)
    if size is not None and os.stat(temporary, dir_fd=fd).st_size != size:
        return "changed since the plan was made; run again"
    return None


def _symlink_one(source: str, temporary: str, fd: int, size: int | None) -> str | None:
    _clean(temporary, fd)
    if size is not None and os.stat(source).st_size != size:
        return "changed since the plan was made; run again"
    os.symlink(source, temporary, dir_fd=fd)
    return None


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


def write_whole(path: str, data: bytes) -> None:
    """Write one file whole, durably or not at all: temporary name, fsync, rename."""
    folder, name = os.path.split(path)
    with _open_dir(folder, "written") as fd:
        temporary = f"{_TEMPORARY}{os.getpid()}-{name}.tmp"
        try:
            out = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666, dir_fd=fd)
            try:
                _write_all(out, data)
                os.fsync(out)
            finally:
                os.close(out)
            os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
        except OSError as error:
            _clean(temporary, fd)
            raise storage_error(error, path, "written") from None


def read_whole(path: str) -> bytes | None:
    """The bytes of one file, or None where it is not there."""
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise storage_error(error, path, "read") from None


def replace_with(path: str, write: Callable[[str], None]) -> None:
    """Let `write` make a file under a temporary name beside `path`, then put it there whole."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise storage_error(error, path, "written") from None


# --- locks -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def lock(path: str, what: str) -> Iterator[None]:
    """Hold the lock file `path` while inside; it is the operating system's, so it dies with its holder.

    Raises `LockError`, naming host, process and since when, where another run holds it.
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
        yield
        os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def exist_many(root: str, paths: Sequence[str]) -> list[bool]:
    """Whether each of `paths` below `root` is there (a dangling link is)."""
    return [os.path.lexists(os.path.join(root, path)) for path in paths]


def drop_empty_folders(folder: str) -> None:
    """Remove `folder` and its subfolders where they are empty."""
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def folder_times(root: str, folders: Sequence[str]) -> dict[str, int]:
    """Change times (ns) of `folders` below `root` and their subfolders, as far as they exist."""
    found: dict[str, int] = {}

    def visit(path: str, name: str) -> None:
        try:
            info = os.stat(path)
            found[name] = info.st_mtime_ns
            if info.st_nlink == 2:  # its own name and ".": no subfolder; file systems that do not count say 1
                return
            with os.scandir(path) as entries:
                below = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        except OSError:
            return
        for inner in below:
            visit(os.path.join(path, inner), f"{name}/{inner}")

    for folder in folders:
        visit(os.path.join(root, folder), folder)
    return found


def make_folders(root: str, folders: Sequence[str]) -> None:
    """Make `folders` below `root`, as far as they are not there."""
    for folder in folders:
        path = os.path.join(root, folder)
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            raise storage_error(error, path, "made") from None


def list_flat(folder: str) -> list[str]:
    """Names of the files right in `folder`; none where it does not exist."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if not e.is_dir(follow_symlinks=False))
    except OSError:
        return []
