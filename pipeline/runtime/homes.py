"""Folders that runs of this process hold: where one goes away, with its disk, say, none is made in its place.

A disk that is unmounted amid a run leaves the folder that it was mounted on, empty or with another's files. What has
the path of a folder that is held must be the very folder, which goes by its inode: devices have other numbers when an
automounter mounts them again. Helper processes hold what the process does that starts them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

_LOCK = threading.Lock()

#: By path the inode, and how many hold it.
_HELD: dict[str, tuple[int, int]] = {}


def hold(found: Mapping[str, int]) -> None:
    """Hold folders, by path with their inodes, until they are released as often; the first who holds one decides."""
    with _LOCK:
        for path, inode in found.items():
            known, times = _HELD.get(path, (inode, 0))
            _HELD[path] = known, times + 1


def release(found: Mapping[str, int]) -> None:
    """Let go of folders that were held."""
    with _LOCK:
        for path in found:
            inode, times = _HELD.get(path, (0, 0))
            if times > 1:
                _HELD[path] = inode, times - 1
            else:
                _HELD.pop(path, None)


def let_go(path: str) -> None:
    """Nobody holds the folder `path` any more: this process removes it itself."""
    with _LOCK:
        _HELD.pop(path, None)


def held_homes() -> dict[str, int]:
    """All folders that are held, by path with their inodes."""
    with _LOCK:
        return {path: inode for path, (inode, _) in _HELD.items()}


def inode_at(path: str) -> int | None:
    """The inode that the folder `path` must have; None of one that nobody holds."""
    held = _HELD.get(path)
    return held[0] if held is not None else None


def home_of(path: str) -> str | None:
    """The innermost folder that is held and is `path`, or has it in it; None without one."""
    while _HELD and path not in _HELD:
        above = os.path.dirname(path)
        if above == path:
            return None
        path = above
    return path if _HELD else None
