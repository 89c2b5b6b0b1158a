"""Folders that must be the same ones at the end of a run as at its beginning."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping

from pipeline.base.errors import Interrupted
from pipeline.base.os_errors import removed, storage_error
from pipeline.runtime.pins import pin, pinned_inode, unpin

#: What is said of a path whose folder is not there any more; a file server's own answer is ESTALE.
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}


@contextlib.contextmanager
def pinned(root: str, folders: Iterable[str] = ()) -> Iterator[Callable[[], None]]:
    """Pin the folder `root`, and those of its `folders` that are links: none is made anew by this process meanwhile.

    They stay open, so that no file system gives them another inode. Gives a function that raises `StorageError` where
    one of them went away. Raises that where `root` is not there, and instead of whatever error but a stop ends what is
    inside once one went away.
    """
    paths = [root, *filter(os.path.islink, (os.path.join(root, folder) for folder in sorted(folders)))]
    with contextlib.ExitStack() as stack:
        found = {}
        for path in paths:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                if path == root:
                    raise removed(root) from None
                continue
            except OSError as error:
                raise storage_error(error, path, "read") from None
            stack.callback(os.close, fd)
            found[path] = os.fstat(fd).st_ino
        pin(found)
        stack.callback(unpin, found)
        try:
            yield functools.partial(_check, found)
        except Interrupted:
            raise
        except Exception:
            _check({path: inode for path, inode in found.items() if pinned_inode(path) is not None})
            raise


def check_pin(path: str, fd: int) -> None:
    """Raises `StorageError` where the folder `path` is pinned, and `fd` is another."""
    inode = pinned_inode(path)
    if inode is not None and os.fstat(fd).st_ino != inode:
        raise removed(path)


def _check(found: Mapping[str, int]) -> None:
    for path, inode in found.items():
        try:
            there = os.stat(path).st_ino == inode
        except OSError as error:
            there = error.errno not in _GONE
        if not there:
            raise removed(path)
