"""Writing: every file whole or not at all, each with its own result."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from pipeline.errors import StorageError
from pipeline.stop import check_stop
from pipeline.storage._base import hits_all, storage_error
from pipeline.storage._location import Results
from pipeline.storage._root import Root
from pipeline.tally import count_file


class Digest(Protocol):
    """A digest under way, as xxhash and hashlib have it."""

    def update(self, data: bytes, /) -> object:
        """Add `data`."""


_TEMPORARY = ".coco-diy-"
#: Every name that a file under way has: of `temporary_name`, of `write_whole` and of `replace_with`.
_UNDER_WAY = re.compile(r"\.coco-diy-\d+-.+\.tmp|.+\.\d+-\d+\.tmp", re.DOTALL)
_OLD_S = 86_400
_COPY_BYTES = 1 << 20
CHANGED = "changed since the plan was made; run again"


def temporary_name() -> str:
    """A name for a file under way that no other thread or process uses."""
    return f"{_TEMPORARY}{os.getpid()}-{threading.get_ident()}.tmp"


def _group(paths: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Indexes of `paths` by folder, in order of appearance."""
    groups: dict[str, list[int]] = {}
    for i, path in enumerate(paths):
        groups.setdefault(path.rpartition("/")[0], []).append(i)
    yield from groups.items()


def _places(
    root: Root, paths: Sequence[str], scratch: Root | None, direct: bool
) -> Iterator[tuple[int, str, str, str, int, int]]:
    """Where each of `paths` is to be made, folder by folder, until a stop is asked for.

    Gives its index, folder, name and temporary name (the name itself if `direct`), and the descriptors of the folder
    and of that for temporary files.
    """
    temporary = temporary_name()
    for folder, indexes in _group(paths):
        with root.open(folder, "written") as fd, scratch_dir(scratch, fd) as temp_fd:
            shown = root.at(folder)
            for i in indexes:
                check_stop()
                count_file()
                name = paths[i].rpartition("/")[2]
                yield i, shown, name, name if direct else temporary, fd, temp_fd


def write_many(
    root: Root, paths: Sequence[str], contents: Sequence[bytes], *, scratch: Root | None = None, direct: bool = False
) -> Results:
    """Write files below `root`, each whole or not at all: a temporary file, then a rename.

    Temporary files are made in `scratch` (a folder; default: that of the file), so that no reader sees them and several
    writers do not wait for one folder's lock. With `direct` the file is made in place, which takes half the time: for
    folders that nobody reads yet.
    """
    results = Results()
    for i, folder, name, temporary, fd, temp_fd in _places(root, paths, scratch, direct):
        reason = put_whole(name, temporary, contents[i], fd, temp_fd, folder)
        if reason is None:
            results.done += 1
        else:
            results.failed[paths[i]] = reason
    return results


@contextlib.contextmanager
def scratch_dir(scratch: Root | None, fd: int) -> Iterator[int]:
    """The folder for temporary files: `scratch`, unless it is on another file system than the folder `fd`."""
    if scratch is None:
        yield fd
        return
    with scratch.open("", "written") as temp_fd:
        yield temp_fd if os.fstat(temp_fd).st_dev == os.fstat(fd).st_dev else fd


def _create(name: str, fd: int) -> int:
    """Open a new file `name` in the folder `fd` for writing.

    Whatever a killed run left there is removed, never opened: it may be a hard link to a file of the source.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(name, flags, 0o666, dir_fd=fd)
    except FileExistsError:
        os.unlink(name, dir_fd=fd)
        return os.open(name, flags, 0o666, dir_fd=fd)


def _put_in_place(temporary: str, name: str, temp_fd: int, fd: int) -> None:
    """Rename a file that is whole to its name; an empty folder of that name holds nothing, and makes room."""
    try:
        os.rename(temporary, name, src_dir_fd=temp_fd, dst_dir_fd=fd)
    except IsADirectoryError:
        os.rmdir(name, dir_fd=fd)
        os.rename(temporary, name, src_dir_fd=temp_fd, dst_dir_fd=fd)


def _write_all(fd: int, data: bytes | bytearray) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def _clean(name: str, fd: int) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=fd)


def copy_many(
    root: Root, paths: Sequence[str], sources: Sequence[str], sizes: Sequence[int | None], how: str, *,
    scratch: Root | None = None, direct: bool = False,
) -> Results:
    """Put `sources` (absolute paths) at `paths` below `root` by `how`: copy, hardlink or symlink; each whole or not.

    `scratch` and `direct` are as in `write_many`.

    `sizes`, in bytes, are what the plan saw: a source of another size has changed since and fails.
    """
    import xxhash

    digest = xxhash.xxh3_128()
    put = {"copy": _copy_one, "hardlink": _hardlink_one, "symlink": _symlink_one}[how]
    results = Results()
    for i, folder, name, temporary, fd, temp_fd in _places(root, paths, scratch, direct):
        digest.reset()
        try:
            reason = put(sources[i], temporary, temp_fd, sizes[i], digest)
            if reason is None and not direct:
                _put_in_place(temporary, name, temp_fd, fd)
                if how == "hardlink":  # renaming one link of a file onto another leaves both
                    _clean(temporary, temp_fd)
        except OSError as error:
            _clean(temporary, temp_fd)
            if error.errno == errno.EXDEV:
                raise StorageError(f"{sources[i]}: cannot be hard-linked into {folder}: it is another file "
                                   "system; set target.images to copy or symlink") from None
            if hits_all(error) and not _source_refused(sources[i]):
                raise storage_error(error, os.path.join(folder, name), "written") from None
            _raise_if_gone(sources[i])
            reason = os.strerror(error.errno or 0)
        if reason is None:
            results.done += 1
            if how == "copy":
                results.digests[paths[i]] = digest.digest()
        else:
            _clean(temporary, temp_fd)
            results.failed[paths[i]] = f"{sources[i]}: {reason}"
    return results


def _raise_if_gone(source: str) -> None:
    """Without its folder no further image of it can be had: that stops the run, and is told once."""
    folder = os.path.dirname(source)
    if not os.path.isdir(folder):
        raise StorageError(f"{folder}: the folder of the source is gone while images are copied from it; bring it back "
                           "and run again: it goes on where it was")


def put_whole(name: str, temporary: str, data: bytes | bytearray, fd: int, temp_fd: int, folder: str) -> str | None:
    """Write one file by way of `temporary` (in place where that is its name); returns why it was not, or None."""
    try:
        out = _create(temporary, temp_fd)
        try:
            _write_all(out, data)
        finally:
            os.close(out)
        if temporary != name:
            _put_in_place(temporary, name, temp_fd, fd)
    except OSError as error:
        _clean(temporary, temp_fd)
        if hits_all(error):
            raise storage_error(error, os.path.join(folder, name), "written") from None
        return os.strerror(error.errno or 0)
    return None


def _source_refused(source: str) -> bool:
    return not os.access(source, os.R_OK)


def _copy_one(source: str, temporary: str, fd: int, size: int | None, digest: Digest) -> str | None:
    inp = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait
    try:
        if size is None:
            size = os.fstat(inp).st_size
        # One byte more than there should be: a file that grew is seen, and a small one needs no second read.
        data = os.read(inp, min(size + 1, _COPY_BYTES))
        copied = len(data)
        digest.update(data)
        out = _create(temporary, fd)
        try:
            _write_all(out, data)
            while size >= _COPY_BYTES and (data := os.read(inp, _COPY_BYTES)):
                _write_all(out, data)
                digest.update(data)
                copied += len(data)
        finally:
            os.close(out)
    finally:
        os.close(inp)
    return None if copied == size else CHANGED


def _hardlink_one(source: str, temporary: str, fd: int, size: int | None, _digest: Digest) -> str | None:
    _clean(temporary, fd)
    os.link(os.path.realpath(source), temporary, dst_dir_fd=fd)
    if size is not None and os.stat(temporary, dir_fd=fd).st_size != size:
        return CHANGED
    return None


def _symlink_one(source: str, temporary: str, fd: int, size: int | None, _digest: Digest) -> str | None:
    _clean(temporary, fd)
    if size is not None and os.stat(source).st_size != size:
        return CHANGED
    os.symlink(source, temporary, dir_fd=fd)
    return None


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


def _delete(root: Root, path: str, fd: int, results: Results) -> None:
    """Delete the file `path` below `root`, whose folder is `fd`, and note what became of it."""
    try:
        os.unlink(path.rpartition("/")[2], dir_fd=fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        if hits_all(error):
            raise storage_error(error, root.at(path), "deleted") from None
        results.failed[path] = os.strerror(error.errno or 0)
        return
    results.done += 1


def write_whole(root: Root, path: str, data: bytes) -> None:
    """Write the file `path` below `root` whole, durably or not at all: temporary name, fsync, rename."""
    folder, _, name = path.rpartition("/")
    with root.open(folder, "written") as fd:
        temporary = f"{_TEMPORARY}{os.getpid()}-{name}.tmp"
        try:
            out = _create(temporary, fd)
            try:
                _write_all(out, data)
                os.fsync(out)
            finally:
                os.close(out)
            _put_in_place(temporary, name, fd, fd)
            os.fsync(fd)  # the name, too
        except OSError as error:
            _clean(temporary, fd)
            raise storage_error(error, root.at(path), "written") from None


def replace_with(path: str, write: Callable[[str], None]) -> None:
    """Let `write` make a file under a temporary name beside `path`, then put it there whole."""
    temporary = f"{path}.{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # whatever stands there may be a link, or another's second name
            os.unlink(temporary)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise storage_error(error, path, "written") from None


def drop_temporaries(root: Root, names: Iterable[str], *, shared: bool) -> None:
    """Delete those of the files `names` below `root` that killed runs had under way.

    Where it is `shared` with runs that are at work, those that are a day old: nothing takes that long. What cannot be
    deleted stays: it is looked for again.
    """
    paths = [name for name in names if _UNDER_WAY.fullmatch(name.rpartition("/")[2])]
    with contextlib.suppress(StorageError):
        delete_many(root, [path for path in paths if not shared or _is_old(root.at(path))])


def _is_old(path: str) -> bool:
    try:
        return time.time() - os.stat(path, follow_symlinks=False).st_mtime > _OLD_S
    except OSError:
        return False


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
