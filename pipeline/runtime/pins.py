"""Folders that runs of this process have pinned: where one goes away, with its disk, say, none is made in its place.

A disk that is unmounted amid a run leaves the folder that it was mounted on, empty or with another's files. What has
the path of a pinned folder must be the very folder, which goes by its inode: devices have other numbers when an
automounter mounts them again. Helper processes have pinned what this process had when their pool was made.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

_LOCK = threading.Lock()

#: By path the inodes, one of each who pinned it; the first decides.
_PINS: dict[str, list[int]] = {}


def pin(found: Mapping[str, int]) -> None:
    """Pin folders, by path with their inodes, until they are unpinned as often."""
    with _LOCK:
        for path, inode in found.items():
            _PINS.setdefault(path, []).append(inode)


def unpin(found: Mapping[str, int]) -> None:
    """Undo a `pin` of the same; what was forgotten since is left."""
    with _LOCK:
        for path, inode in found.items():
            inodes = _PINS.get(path, [])
            if inode in inodes:
                inodes.remove(inode)
            if not inodes:
                _PINS.pop(path, None)


def forget_pins(path: str) -> None:
    """The folder `path` is pinned by nobody any more: this process removes it itself."""
    with _LOCK:
        _PINS.pop(path, None)


def pins() -> dict[str, int]:
    """All pinned folders, by path with their inodes."""
    with _LOCK:
        return {path: inodes[0] for path, inodes in _PINS.items()}


def pinned_inode(path: str) -> int | None:
    """The inode that the folder `path` must have; None where it is not pinned."""
    inodes = _PINS.get(path)
    return inodes[0] if inodes else None


def pinned_above(path: str) -> str | None:
    """The innermost pinned folder that is `path`, or has it in it; None without one."""
    while _PINS:
        if path in _PINS:
            return path
        above = os.path.dirname(path)
        if above == path:
            break
        path = above
    return None
