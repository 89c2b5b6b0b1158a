"""Folders that must be the same ones at the end of a run as at its beginning."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.base.os_errors import removed, storage_error


@dataclass(frozen=True)
class Home:
    """The folder at `path` as it was: after its disk was unmounted, or it was removed, it is another.

    It goes by the inode: devices have other numbers when an automounter mounts them again. 0: there is none.
    """

    path: str
    inode: int = 0

    @staticmethod
    def of(path: str) -> Home:
        """The folder that is at `path` now, or that a link there leads to."""
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return Home(path)
        except OSError as error:
            raise storage_error(error, path, "read") from None
        return Home(path, found.st_ino)

    def check(self) -> None:
        """Raises `StorageError` where it is another by now."""
        if self.inode and Home.of(self.path) != self:
            raise removed(self.path)


def homes_of(root: str, folders: Iterable[str]) -> tuple[Home, ...]:
    """The folder `root`, and those of its `folders` that are links, as they are now."""
    paths = [os.path.join(root, folder) for folder in sorted(folders)]
    return tuple(Home.of(path) for path in (root, *filter(os.path.islink, paths)))
