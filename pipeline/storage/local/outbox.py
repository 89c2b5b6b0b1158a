"""Files that a worker elsewhere makes for a folder that only the driver of a run may change.

A worker may be cut off from its run and go on with what it was doing, and may be stopped amid a call and wake up days
later. What such a one writes must not be where anybody reads. So in a task `replace_with` makes files below the run's
own folder, and who asked for the task moves them into place once it believes the outcome.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar

from pipeline.base.os_errors import run_ended, storage_error


class Outbox:
    """Makes in `folder` what a task writes below `root`; `files` are their paths, relative to both.

    `folder` is made, the folder that it is in must be there.
    """

    def __init__(self, root: str, folder: str) -> None:
        self._root, self._folder = root, folder
        self.files: list[str] = []

    def takes(self, path: str) -> str | None:
        """Where the file `path` is to be made, whose folder is there now; None where it is not below the root."""
        path = os.path.abspath(path)
        if not path.startswith(self._root + os.sep):
            return None
        relative = path[len(self._root) + 1 :]
        folder = self._folder
        try:
            for step in ("", *relative.split(os.sep)[:-1]):
                folder = os.path.join(folder, step).rstrip(os.sep)
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder)
        except FileNotFoundError:
            raise run_ended(folder) from None
        except OSError as error:
            raise storage_error(error, folder, "written") from None
        if relative not in self.files:
            self.files.append(relative)
        return os.path.join(self._folder, relative)

    def sync(self) -> None:
        """Wait until all files have reached the disk."""
        paths = {os.path.join(self._folder, file) for file in self.files}
        for path in sorted(paths | {os.path.dirname(path) for path in paths}):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
            except OSError as error:
                raise storage_error(error, path, "written") from None


_OPEN: ContextVar[Outbox | None] = ContextVar("outbox", default=None)


@contextlib.contextmanager
def collected(root: str, folder: str) -> Iterator[Outbox]:
    """While inside, what `replace_with` makes in this thread below `root` is made in `folder`, see `Outbox`."""
    outbox = Outbox(root, folder)
    token = _OPEN.set(outbox)
    try:
        yield outbox
    finally:
        _OPEN.reset(token)


def redirected(path: str) -> str | None:
    """Where this thread is to make the file `path` instead; None: right there."""
    outbox = _OPEN.get()
    return outbox.takes(path) if outbox is not None else None
