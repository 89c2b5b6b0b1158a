"""Whether a disk has room for what is to come."""

from __future__ import annotations

import contextlib
import os
import sys

from pipeline.base.errors import StorageError
from pipeline.base.humanize import size as shown_size


def refuse_without_room(path: str, needed: int, cure: str = "set another folder") -> None:
    """Raise `StorageError` where `needed` bytes more, for `path`, do not fit on its disk: before the first is there.

    `cure` is what helps beside making room.
    """
    folder = os.path.dirname(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free = free_bytes(folder)
    if needed > free:
        raise StorageError(
            f"{path}: takes {shown_size(needed)}, and its disk has {shown_size(free)} free; make room, or {cure}"
        )


def free_bytes(folder: str) -> int:
    """Bytes that are free on the disk of `folder`; more than any disk has where it does not say how large it is."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize if disk.f_blocks else sys.maxsize  # a FUSE need not know


def bytes_there(path: str) -> int:
    """Bytes of the file at `path`, or of what is there of it, that are on the disk."""
    for name in (path, f"{path}.part"):
        with contextlib.suppress(OSError):
            return os.stat(name).st_blocks * 512
    return 0
