"""What of an archive is in a folder already, and whether it is the same: by size and CRC-32."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from zlib_ng import zlib_ng

from pipeline.base.os_errors import storage_error
from pipeline.runtime.counters import READ, count
from pipeline.runtime.interrupt import check_stop
from pipeline.storage.archives.folder import ZipFolder

#: What a file of an archive is in a folder.
LACKING, SAME, DIFFERENT = "lacking", "same", "different"

_CHUNK = 1 << 20


def compare_unpacked(archive: ZipFolder, folder: str, paths: Sequence[str]) -> Iterator[str]:
    """Of each file of `archive`: whether it is lacking below `folder`, the same there, or different.

    A file of another size is not read. Raises `StorageError` where one cannot be.
    """
    for path, (size, crc) in zip(paths, archive.checksums(paths), strict=True):
        check_stop()
        yield _compare(os.path.join(folder, path), size, crc)


def _compare(path: str, size: int, crc: int) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe is not waited for
    except (FileNotFoundError, NotADirectoryError):
        return LACKING if not os.path.lexists(path) else DIFFERENT
    except OSError as error:
        raise storage_error(error, path, "read") from None
    try:
        there = os.fstat(fd)
        if not stat.S_ISREG(there.st_mode) or there.st_size != size:
            return DIFFERENT
        found = 0
        while data := os.read(fd, _CHUNK):
            count(READ, len(data))
            found = zlib_ng.crc32(data, found)
    except OSError as error:
        raise storage_error(error, path, "read") from None
    finally:
        os.close(fd)
    return SAME if found == crc else DIFFERENT
