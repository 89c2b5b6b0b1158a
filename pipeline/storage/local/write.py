"""Writing: every file whole or not at all, each with its own result."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import IO, Any, cast

from pipeline.base.os_errors import hits_all, removed, storage_error
from pipeline.runtime.counters import WRITTEN, count, count_file
from pipeline.runtime.interrupt import check_stop
from pipeline.storage.local.outbox import redirected
from pipeline.storage.local.root import Root, make_way
from pipeline.storage.location import Results

_TEMPORARY = ".coco-diy-"

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

#: Every name that a file under way has: of `temporary_name` and of `replace_with`.
_UNDER_WAY = re.compile(r"\.coco-diy-\d+-.+\.tmp|.+\.\d+-\d+(-[\w.-]+)?\.tmp", re.DOTALL)

CHANGED = "changed since the plan was made; run again"


def temporary_name() -> str:
    """A name for a file under way that no other thread or process uses, on whatever machine."""
    return f"{_TEMPORARY}{_maker()}.tmp"


def _maker() -> str:
    """Who makes a file: process, thread and machine. In containers all processes may have the number 1."""
    return f"{os.getpid()}-{threading.get_ident()}-{_HOST}"


_HOST = re.sub(r"[^\w.-]", "_", os.uname().nodename, flags=re.ASCII)[:40] or "host"


def group(paths: Sequence[str]) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """Indexes and names of `paths` by folder, in order of appearance."""
    groups: dict[str, list[tuple[int, str]]] = {}
    for i, path in enumerate(paths):
        folder, _, name = path.rpartition("/")
        groups.setdefault(folder, []).append((i, name))
    yield from groups.items()


def temporaries(
    root: Root, paths: Sequence[str], scratch: Root | None, direct: bool
) -> Iterator[tuple[int, str, str, str, int, int]]:
    """Where each of `paths` is to be made, folder by folder, until a stop is asked for.

    Gives its index, folder, name and temporary name (the name itself if `direct`), and the descriptors of the folder
    and of that for temporary files.
    """
    temporary = temporary_name()
    for folder, files in group(paths):
        with opened(root, folder, scratch) as (fd, temp_fd):
            shown = root.at(folder)
            for i, name in files:
                check_stop()
                count_file()
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
    for i, folder, name, temporary, fd, temp_fd in temporaries(root, paths, scratch, direct):
        reason = put_whole(name, temporary, contents[i], fd, temp_fd, folder)
        if reason is None:
            results.done += 1
        else:
            results.failed[paths[i]] = reason
    return results


@contextlib.contextmanager
def opened(
    root: Root, folder: str, scratch: Root | None, doing: str = "written", *, make: bool = True
) -> Iterator[tuple[int, int]]:
    """The descriptors of `folder` in `root` and of the folder for temporary files.

    That is `scratch`, unless it is on another file system. It is opened first: where it is sealed and gone, nothing is
    made in `root`, and both ways begin at one descriptor: a disk may come or go between the two. Without `make` a
    `folder` that is not there is a `FileNotFoundError`.
    """
    if scratch is None:
        with root.open(folder, doing, make=make) as fd:
            yield fd, fd
        return
    with contextlib.ExitStack() as stack:
        top = stack.enter_context(replace(scratch, below="").open("", doing))
        temp_fd = stack.enter_context(scratch.open("", doing, top=top))
        fd = stack.enter_context(root.open(folder, doing, make=make, top=top if root.path == scratch.path else None))
        yield fd, temp_fd if os.fstat(temp_fd).st_dev == os.fstat(fd).st_dev else fd


def create(name: str, fd: int) -> int:
    """Open a new file `name` in the folder `fd` for writing.

    Whatever a killed run left there is removed, never opened: it may be a hard link to a file of the source.
    """
    try:
        return os.open(name, _NEW, 0o666, dir_fd=fd)
    except FileExistsError:
        os.unlink(name, dir_fd=fd)
        return os.open(name, _NEW, 0o666, dir_fd=fd)


def rename_temporary(temporary: str, name: str, temp_fd: int, fd: int) -> None:
    """Rename a file that is whole to its name; an empty folder of that name holds nothing, and makes room."""
    try:
        os.rename(temporary, name, src_dir_fd=temp_fd, dst_dir_fd=fd)
    except IsADirectoryError:
        os.rmdir(name, dir_fd=fd)
        os.rename(temporary, name, src_dir_fd=temp_fd, dst_dir_fd=fd)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data`, however little a call takes, and count it."""
    write_part(fd, data)
    count(WRITTEN, len(data))


def write_part(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data`, however little a call takes; it is counted elsewhere."""
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def clean(name: str, fd: int) -> None:
    """Remove a temporary file, if it is still there."""
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=fd)


def _put(
    name: str, temporary: str, data: bytes | bytearray | memoryview, fd: int, temp_fd: int, *, durable: bool = False
) -> None:
    """Write one file, whole or not at all, whatever ends this, also an interrupt; with `durable` it is on the disk."""
    try:
        _fill(temporary, data, temp_fd, durable=durable)
        if temporary != name:
            rename_temporary(temporary, name, temp_fd, fd)
        if durable:
            os.fsync(fd)  # the name, too
    except BaseException:
        clean(temporary, temp_fd)
        raise


def _fill(name: str, data: bytes | bytearray | memoryview, fd: int, *, durable: bool) -> None:
    out = create(name, fd)
    try:
        write_all(out, data)
        if durable:
            os.fsync(out)
    finally:
        os.close(out)


def put_whole(
    name: str, temporary: str, data: bytes | bytearray | memoryview, fd: int, temp_fd: int, folder: str
) -> str | None:
    """Write one file by way of `temporary` (in place where that is its name); returns why it was not, or None."""
    try:
        _put(name, temporary, data, fd, temp_fd)
    except OSError as error:
        if hits_all(error):
            raise storage_error(error, os.path.join(folder, name), "written") from None
        return os.strerror(error.errno or 0)
    return None


def _delete(root: Root, path: str, fd: int, temp_fd: int, results: Results) -> None:
    """Delete the file `path` below `root`, whose folder is `fd`, and note what became of it.

    Where temporary files have another folder, by way of that. An empty folder of that name holds nothing, and goes.
    """
    name = path.rpartition("/")[2]
    try:
        try:
            if temp_fd != fd and not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                temporary = temporary_name()
                os.rename(name, temporary, src_dir_fd=fd, dst_dir_fd=temp_fd)
                os.unlink(temporary, dir_fd=temp_fd)
            else:
                os.unlink(name, dir_fd=fd)
        except IsADirectoryError:
            os.rmdir(name, dir_fd=fd)
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
        try:
            _put(name, temporary_name(), data, fd, fd, durable=True)
        except OSError as error:
            raise storage_error(error, root.at(path), "written") from None


def replace_with(path: str, write: Callable[[str], None]) -> None:
    """Let `write` make a file under a temporary name beside `path`, then put it there whole.

    Whatever ends this, also an interrupt, nothing is left of one that is not whole.
    """
    if (elsewhere := redirected(path)) is not None:
        path = elsewhere
    temporary = f"{path}.{_maker()}.tmp"
    try:
        if elsewhere is None:
            make_way(os.path.dirname(path))
        with contextlib.suppress(FileNotFoundError):  # what is there may be a link, or another's second name
            os.unlink(temporary)
        write(temporary)
        count(WRITTEN, os.stat(temporary).st_size)
        with contextlib.suppress(OSError):
            os.rmdir(path)  # an empty folder of that name holds nothing, and makes room
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, FileNotFoundError) and not os.path.isdir(os.path.dirname(path)):
            raise removed(os.path.dirname(path)) from None
        if isinstance(error, OSError):
            raise storage_error(error, path, "written") from None
        raise


class _Digesting(io.RawIOBase):
    """What is written to `file`, with its size and digest."""

    def __init__(self, file: IO[bytes]) -> None:
        import xxhash

        self._file, self.size, self.state = file, 0, xxhash.xxh3_128()

    def writable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def write(self, data: Any) -> int:
        """Write `data`, any buffer; its length in bytes."""
        self.state.update(data)
        with memoryview(data) as view:
            self.size += view.nbytes
        return self._file.write(data)


def write_with(path: str, write: Callable[[IO[bytes]], object]) -> tuple[int, bytes]:
    """Let `write` fill a new file, whole or not at all; returns its size and the XXH3-128 of its content."""
    found = (0, b"")

    def fill(temporary: str) -> None:
        nonlocal found
        with open(temporary, "wb") as file:
            sink = _Digesting(file)
            write(cast(IO[bytes], sink))
            found = sink.size, sink.state.digest()

    replace_with(path, fill)
    return found


def write_pieces(path: str, pieces: Iterable[bytes]) -> tuple[int, bytes]:
    """Write a file of `pieces`, whole or not at all; its size and the XXH3-128 of its content."""

    def write(file: IO[bytes]) -> None:
        for piece in pieces:
            check_stop()
            file.write(piece)

    return write_with(path, write)
