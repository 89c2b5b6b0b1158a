"""Folders that must be the same ones at the end of a run as at its beginning."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pipeline.base.os_errors import removed, storage_error
from pipeline.runtime.homes import held_homes, hold, inode_at, release


@contextmanager
def held(root: str, folders: Iterable[str] = ()) -> Iterator[None]:
    """Hold the folder `root`, and those of its `folders` that are links: none is made anew by this process meanwhile.

    They stay open, so that no file system gives them another inode. Raises `StorageError` where `root` is not there,
    and instead of whatever error ends what is inside once one of them went away.
    """
    paths = [root, *filter(os.path.islink, (os.path.join(root, folder) for folder in sorted(folders)))]
    opened: list[int] = []
    found: dict[str, int] = {}
    try:
        for path in paths:
            try:
                opened.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            except FileNotFoundError:
                if path == root:
                    raise removed(root) from None
                continue
            except OSError as error:
                raise storage_error(error, path, "read") from None
            found[path] = os.fstat(opened[-1]).st_ino
        hold(found)
        try:
            yield
        except Exception:
            check_homes(root)  # what is not there any more is why
            raise
        finally:
            release(found)
    finally:
        for fd in opened:
            os.close(fd)


def check_home(path: str, fd: int) -> None:
    """Raises `StorageError` where the folder `path` is held, and `fd` is another."""
    inode = inode_at(path)
    if inode is not None and os.fstat(fd).st_ino != inode:
        raise removed(path)


def check_homes(root: str) -> None:
    """Raises `StorageError` where the folder `root`, or one in it that is held, is another by now, or is gone."""
    for path, inode in held_homes().items():
        if path == root or path.startswith(root.rstrip("/") + "/"):
            try:
                there = os.stat(path).st_ino
            except FileNotFoundError:
                there = None
            except OSError as error:
                raise storage_error(error, path, "read") from None
            if there != inode:
                raise removed(path)
