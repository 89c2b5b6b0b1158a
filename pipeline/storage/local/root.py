"""Folders and files of our own below a root, opened step by step, so that no link leads out of it.

What is below a target or a workdir may have come with a download: a link, a pipe or a second name of somebody's
file where one of ours must be. Nothing is read, written or deleted through such a thing.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.base.errors import StorageError
from pipeline.base.os_errors import removed, run_ended, storage_error
from pipeline.runtime.counters import READ, count
from pipeline.runtime.pins import forget_pins, pinned_above
from pipeline.storage.local.pin import check_pin
from pipeline.storage.local.walk import unless_gone

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True)
class Root:
    """The folder `below` in the folder `path`, which the user named: it may be a link, and lead through some.

    Of what is in it only `links`, folders relative to `path`, may be links: users put them on another disk. Where it is
    `sealed`, no folder is made, neither `path` nor any in it. What is pinned (see `pin.pinned`) is not made anew.
    """

    path: str
    below: str = ""
    links: frozenset[str] = frozenset()
    sealed: bool = False

    def at(self, path: str = "") -> str:
        """The absolute path of `path`, for messages."""
        return (
            os.path.join(self.path, self.below, path)
            if path
            else os.path.join(self.path, self.below).rstrip("/") or "/"
        )

    def inner(self, folder: str) -> Root:
        """The folder `folder` in this one."""
        return replace(self, below=f"{self.below}/{folder}" if self.below and folder else self.below or folder)

    @contextlib.contextmanager
    def open(self, folder: str, doing: str, *, make: bool = True, top: int | None = None) -> Iterator[int]:
        """The descriptor of `folder` in this one, which is made (unless `make` is False) where it is not there.

        The way to it begins at `top`, the descriptor of `path` (default: whatever has that name by now). Raises
        `StorageError` where a link or a file has the name of a folder, or it cannot be `doing`; without `make` a
        `FileNotFoundError` where it is not there.
        """
        fd = self._walk(folder, doing, make, top)
        try:
            yield fd
        finally:
            os.close(fd)

    def _walk(self, folder: str, doing: str, make: bool, top: int | None) -> int:
        below = "/".join(filter(None, (self.below, folder)))
        at = self.path
        makes = make and not self.sealed
        try:
            if top is None and makes:
                make_way(self.path)
            fd = _checked(self.path, os.open(self.path, _FOLDER) if top is None else os.dup(top))
            passed = ""
            for step in filter(None, below.split("/")):
                passed = f"{passed}/{step}" if passed else step
                at = os.path.join(self.path, passed)
                fd = self._step(fd, step, passed, makes)
        except FileNotFoundError:
            if make and self.sealed:
                raise run_ended(at) from None
            if make:
                raise removed(at) from None
            raise
        except OSError as error:
            raise storage_error(error, at, doing) from None
        return fd

    def _step(self, fd: int, step: str, passed: str, make: bool) -> int:
        """Open the folder `step` in the folder `fd`, which is closed."""
        flags = _FOLDER if passed in self.links else _FOLDER | os.O_NOFOLLOW
        try:
            if step == "..":
                raise leads_out(os.path.join(self.path, passed))
            try:
                found = os.open(step, flags, dir_fd=fd)
            except FileNotFoundError:
                if not make:
                    raise
                with contextlib.suppress(FileExistsError):
                    os.mkdir(step, dir_fd=fd)
                found = os.open(step, flags, dir_fd=fd)
            return _checked(os.path.join(self.path, passed), found) if passed in self.links else found
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR) and is_link(step, fd):
                raise linked(os.path.join(self.path, passed)) from None
            raise
        finally:
            os.close(fd)

    def open_file(self, path: str, flags: int, doing: str) -> int:
        """The descriptor of our own file `path`, which is not made in another's: no link, no pipe, no second name.

        An empty folder of that name holds nothing, and makes room for a file that `flags` make. Raises `StorageError`
        where it is something else, `FileNotFoundError` where it is not there, or is a folder, and `flags` do not make
        it, `FileExistsError` where they must and it is.
        """
        folder, _, name = path.rpartition("/")
        with self.open(folder, doing, make=bool(flags & os.O_CREAT)) as at:
            if flags & os.O_CREAT:
                with contextlib.suppress(OSError):
                    os.rmdir(name, dir_fd=at)
            try:
                fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666, dir_fd=at)
            except (FileNotFoundError, FileExistsError):
                raise
            except OSError as error:
                if error.errno == errno.ELOOP or is_link(name, at):
                    raise linked(self.at(path)) from None
                if error.errno in (errno.EISDIR, errno.ENXIO):
                    raise _no_file(self.at(path)) from None
                raise storage_error(error, self.at(path), doing) from None
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.at(path))
        if not stat.S_ISREG(found.st_mode) or (found.st_nlink > 1 and flags & os.O_ACCMODE != os.O_RDONLY):
            os.close(fd)
            raise _no_file(self.at(path))
        return fd

    def read(self, path: str) -> bytes | None:
        """The bytes of our own file `path`; None where it is not there. Raises `StorageError` as `open_file` does."""
        try:
            fd = self.open_file(path, os.O_RDONLY, "read")
        except FileNotFoundError:
            return None
        try:
            with open(fd, "rb") as file:
                data = file.read()
        except OSError as error:
            raise storage_error(error, self.at(path), "read") from None
        count(READ, len(data))
        return data

    def names(self, folder: str, *, deep: bool = True) -> set[str]:
        """Relative paths of all files and links below `folder`; empty where it is not there. No link is followed.

        Unless `deep`, the names of what is right in it, folders too.
        """
        found: set[str] = set()
        try:
            with self.open(folder, "listed", make=False) as fd:
                if not deep:
                    return set(os.listdir(fd))
                refuse = functools.partial(unless_gone, folder=self.at(folder))
                for path, folders, files, inner in os.fwalk(".", onerror=refuse, dir_fd=fd):
                    prefix = f"{path[2:]}/" if path != "." else ""
                    links = [name for name in folders if is_link(name, inner)]
                    found.update(prefix + name for name in (*files, *links))
        except FileNotFoundError:
            return set()
        return found

    def links_among(self, paths: Sequence[str], beyond: int) -> list[str]:
        """Folders of the files `paths` that are links, but for the first `beyond` steps of each; sorted."""
        found: set[str] = set()
        for folder in {path.rpartition("/")[0] for path in paths}:
            steps = folder.split("/")
            found.update("/".join(steps[:n]) for n in range(beyond + 1, len(steps) + 1))
        return sorted(folder for folder in found if is_link(self.at(folder)))

    def drop_empty_folders(self, folder: str) -> None:
        """Remove `folder` (that of this root itself where it is empty) and its subfolders where they are empty."""
        above, _, name = "/".join(filter(None, (self.below, folder))).rpartition("/")
        outer = Root(self.path, links=self.links) if name else Root(os.path.dirname(self.path))
        name = name or os.path.basename(self.path)
        with contextlib.suppress(FileNotFoundError), outer.open(above, "deleted", make=False) as fd:
            if is_link(name, fd):  # a folder that is elsewhere stays: it may be another's
                return
            for path, _, _, inner in os.fwalk(name, topdown=False, dir_fd=fd):
                del inner
                with contextlib.suppress(OSError):
                    os.rmdir(path, dir_fd=fd)
                    forget_pins(os.path.join(outer.at(above), path))


def is_link(name: str, fd: int | None = None) -> bool:
    """Whether `name`, in the folder `fd`, is a symbolic link."""
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    except OSError:
        return False


def make_way(path: str) -> None:
    """Make the folder `path`, as far as it is not there; what it is in and is pinned is not made anew, but missed.

    Raises an `OSError`, and `StorageError` where another folder has the path of one that is pinned.
    """
    home = pinned_above(path)
    if home is None:
        os.makedirs(path, exist_ok=True)
        return
    fd = _checked(home, os.open(home, _FOLDER))
    try:
        for step in filter(None, path[len(home) :].split("/")):
            with contextlib.suppress(FileExistsError):
                os.mkdir(step, dir_fd=fd)
            above, fd = fd, os.open(step, _FOLDER, dir_fd=fd)
            os.close(above)
    finally:
        os.close(fd)


def _checked(path: str, fd: int) -> int:
    """`fd`, the folder `path`; where another one is pinned, a `StorageError`, and `fd` is closed."""
    try:
        check_pin(path, fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def leads_out(path: str) -> StorageError:
    """What is said of a path that is not of a folder below another."""
    return StorageError(f"{path}: leads out of its folder; nothing is done there")


def linked(path: str) -> StorageError:
    """What is said of a link where a folder or file of our own must be."""
    return StorageError(f"{path}: is a link, and coco-diy follows none among its own files; remove the link")


def _no_file(path: str) -> StorageError:
    return StorageError(f"{path}: is not a plain file with one name, as coco-diy makes it; move it away")
