"""Bytes that wait in a file without a name, so that memory does not grow with the files that are listed."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import weakref
from typing import Any, TypeAlias

from pipeline.base.os_errors import storage_error

#: What was put into a spill: itself, while that takes little memory, or where it begins in the file and its length.
Spilled: TypeAlias = "bytes | tuple[int, int]"

#: So many bytes are kept in memory: of some ten thousand files.
IN_MEMORY = 1 << 20

#: Room that is left to others: so many bytes, and what an index takes for each byte that is spilled.
_ROOM, _INDEX = 16 << 20, 8


class Spill:
    """Bytes of this run below `folder`, beyond `IN_MEMORY` of them; all in memory where that is None, or has no room.

    The file goes with this object, or with the process, however that ends. A pickled one is the same file in a helper
    of this process, which may put bytes there and send it back, as long as this one is there and puts nothing itself.
    """

    #: The file's descriptor; -1 where there is none.
    _file = -1

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self._path, self._identity = "", (0, 0, 0)
        self._end = self._in_memory = 0
        if folder is not None:
            with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
                self._open(os.dup(file.fileno()))
                self._path, self._identity = f"/proc/{os.getpid()}/fd/{self._file}", _identity(self._file)

    def _open(self, descriptor: int) -> None:
        self._file = descriptor
        self._closing = weakref.finalize(self, os.close, descriptor)

    def close(self) -> None:
        """Give the file back: a disk that has it open cannot be unmounted. What was put there is gone."""
        if self._file >= 0:
            self._file = -1
            self._closing()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_file", "_closing")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        if self._path:
            try:
                self._open(os.open(self._path, os.O_RDWR | os.O_CLOEXEC))
                if _identity(self._file) != self._identity:  # the number is another file's by now
                    self.close()
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF), self._path)
            except OSError:  # no system with such paths: what is put here stays in memory
                if self._end:
                    raise

    def put(self, data: bytes) -> Spilled:
        """Keep `data`; what this returns is what `get` wants."""
        if self._file >= 0 and self._in_memory + len(data) > IN_MEMORY and self._has_room(len(data)):
            done = 0
            with contextlib.suppress(OSError):  # the disk is full, and nobody waits for this file
                while done < len(data):
                    done += os.pwrite(self._file, memoryview(data)[done:], self._end + done)
                self._end += len(data)
                return self._end - len(data), len(data)
        self._in_memory += len(data)
        return data

    def _has_room(self, size: int) -> bool:
        """Whether the disk has room for `size` more bytes, and for what is made of all of them."""
        with contextlib.suppress(OSError):
            disk = os.fstatvfs(self._file)
            return disk.f_bavail * disk.f_frsize > _ROOM + _INDEX * (self._end + size)
        return False

    def get(self, spilled: Spilled, begin: int = 0, end: int | None = None) -> bytes:
        """What was put, or those of its bytes from `begin` to `end`, which it has."""
        if isinstance(spilled, bytes):
            return spilled[begin:end]
        at, size = spilled
        position, left = at + begin, (size if end is None else end) - begin
        parts = []
        try:
            while left > 0:
                parts.append(os.pread(self._file, left, position))
                if not parts[-1]:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                left, position = left - len(parts[-1]), position + len(parts[-1])
        except OSError as error:
            raise storage_error(error, self.folder or "", "read") from None
        return b"".join(parts)


def _identity(descriptor: int) -> tuple[int, int, int]:
    """Device, inode, and names: of a file without a name none, so that no user's file has the same identity."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino, found.st_nlink
