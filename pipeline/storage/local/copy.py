"""Many files copied or linked at once."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.base.errors import Interrupted, StorageError
from pipeline.base.os_errors import hits_all, storage_error
from pipeline.runtime.interrupt import STOP, STOPPED, check_stop
from pipeline.runtime.spare import spare_processors
from pipeline.storage.local.file_copy import FileCopier
from pipeline.storage.local.read import link_digest
from pipeline.storage.local.root import Root
from pipeline.storage.local.write import (
    CHANGED,
    clean,
    group,
    opened,
    put_whole,
    rename_temporary,
    temporary_name,
)
from pipeline.storage.location import Copies, Fetched, Results

#: From so many files, of so many bytes each on the average, a second thread pays (tmpfs, 2026-11-29, two cores: 5,000
#: of 150 KB in 0.32 instead of 0.56 s, 8,000 of 64 KB 0.28 instead of 0.32, 10,000 of 32 KB 0.29 and 0.28).
_MANY, LARGE = 16, 64 << 10

#: Files that are counted together: each waits for a lock otherwise.
_COUNTED = 32

#: So many folders stay open; a file of a further one opens it for itself.
_OPEN_FOLDERS = 32

#: `Copies.how` of what `gather` brought.
_CACHED = "cached"

#: What hard links meet that the file system, or who may make them, does not allow.
_NO_LINK = {
    errno.EXDEV: "it is another file system",
    errno.EPERM: "this system allows no link to a file of another user's, or its file system has none",
    errno.EOPNOTSUPP: "its file system has none",
    errno.ENOSYS: "its file system has none",
}

_COPY = "set target.images to copy or symlink"

_Put = Callable[[str, str, int, int | None], tuple[str | None, bytes]]

#: Descriptors of a folder and of that for temporary files, its path, and what closes both where it does not stay open.
_Folder = tuple[int, int, str, contextlib.ExitStack | None]


def copy_from(root: Root, copies: Copies, *, scratch: Root | None = None, direct: bool = False) -> Results:
    """Write files at their paths below `root` as they come, in whatever order; the rest is as in `write_many`."""
    import xxhash

    folders, paths, names = _Folders(root, scratch), copies.paths, copies.names

    def keep(one: Fetched) -> tuple[Fetched, bytes]:
        reason, size = one.reason, copies.sizes[one.index]
        if reason is None and size is not None and len(one.data) != size:
            reason = CHANGED
        if reason is None:
            below, _, name = paths[one.index].rpartition("/")
            taken = folders.take(below)
            try:
                reason = put_whole(name, name if direct else temporary_name(), one.data, *taken[:3])
            finally:
                folders.give(taken)
        digest = b"" if reason else xxhash.xxh3_128_digest(one.data)
        return Fetched(one.index, reason=reason, away=one.away), digest

    results = Results()
    with folders:
        for one, digest in copies.origin.fetch_each(names, keep):
            check_stop()
            path = paths[one.index]
            if one.reason is None:
                results.done += 1
                results.digests[path] = digest
                continue
            results.failed[path] = f"{copies.origin.join(names[one.index])}: {one.reason}"
            if one.away:
                results.passing.add(path)
    return results


class _Folders:
    """Folders below `root`, opened when they are first needed, with that for temporary files.

    Threads may still be under way when nobody wants their files any more: those that write now are waited for, so that
    no descriptor is closed under them, and later ones are sent away.
    """

    def __init__(self, root: Root, scratch: Root | None) -> None:
        self._root, self._scratch = root, scratch
        self._folders: dict[str, _Folder] = {}
        self._stack = contextlib.ExitStack()
        self._free = threading.Condition(threading.Lock())
        self._users, self._closed = 0, False

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        with self._free:
            self._closed = True
            self._free.wait_for(lambda: not self._users)
        self._stack.close()

    def take(self, below: str) -> _Folder:
        """The folder `below`, open until it is given back."""
        with self._free:
            if self._closed:
                raise Interrupted(STOPPED)
            taken = self._folders.get(below)
            if taken is None:
                taken = self._open(below)
                if len(self._folders) < _OPEN_FOLDERS:
                    self._stack.push(taken[3])
                    taken = self._folders[below] = (*taken[:3], None)
            self._users += 1
        return taken

    def give(self, taken: _Folder) -> None:
        """Give back what was taken."""
        if taken[3] is not None:
            taken[3].close()
        with self._free:
            self._users -= 1
            if self._closed:
                self._free.notify_all()

    def _open(self, below: str) -> tuple[int, int, str, contextlib.ExitStack]:
        with contextlib.ExitStack() as stack:
            fds = stack.enter_context(opened(self._root, below, self._scratch))
            return *fds, self._root.at(below), stack.pop_all()


def copy_many(root: Root, copies: Copies, *, scratch: Root | None = None, direct: bool = False) -> Results:
    """Put files of another folder of this machine at their paths below `root`; the rest is as in `write_many`."""
    sources, results = [*map(copies.origin.join, copies.names)], Results()
    for folder, files in group(copies.paths):
        with opened(root, folder, scratch) as fds:
            one = _OneFolder(root.at(folder), copies, sources, direct)
            if copies.how == "copy" and spare_processors() and one.pays_threads(files):
                one.put_by_two(_Files(files), fds, results)
            else:
                one.put(iter(files), fds, results)
    return results


class _Files:
    """Indexes and names of files that two threads take, until none are left or one of them `ended` it."""

    def __init__(self, files: Sequence[tuple[int, str]]) -> None:
        self._files, self.ended = iter(files), False

    def __iter__(self) -> _Files:
        return self

    def __next__(self) -> tuple[int, str]:
        if self.ended:
            raise StopIteration
        return next(self._files)


@dataclass(frozen=True)
class _OneFolder:
    """What goes into one folder, of which messages have the path; `sources` are where the files are."""

    folder: str
    copies: Copies
    sources: Sequence[str]
    direct: bool

    def pays_threads(self, files: Sequence[tuple[int, str]]) -> bool:
        """Whether a second thread makes copies sooner: of small files most of the time is one folder's lock."""
        return len(files) >= _MANY and sum(self.copies.sizes[i] or 0 for i, _ in files) >= LARGE * len(files)

    def put_by_two(self, files: _Files, fds: tuple[int, int], results: Results) -> None:
        """As `put`, together with a second thread; that ends its file first where this one is to end."""
        others, errors = Results(), list[BaseException]()
        own = tuple(map(os.dup, fds))  # a thread that nobody waits for must not find another folder by that number

        def help_out() -> None:
            try:
                self.put(files, (own[0], own[1]), others)
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                files.ended = True
                errors.append(error)
            finally:
                for fd in own:
                    os.close(fd)

        thread = threading.Thread(target=help_out, daemon=True)
        thread.start()
        try:
            self.put(files, fds, results)
        finally:
            files.ended = True
            thread.join()
        if errors:
            raise errors[0]
        results.add(others)

    def put(self, files: Iterator[tuple[int, str]], fds: tuple[int, int], results: Results) -> None:
        """Put `files` into the folder, see `opened` for its `fds`, and note each in `results`."""
        fd, temp_fd = fds
        copier, temporary = FileCopier(temp_fd), temporary_name()
        put = {"copy": copier.copy, "hardlink": _hardlink_one, "symlink": _symlink_one, _CACHED: _cached_by(copier)}[
            self.copies.how
        ]
        sources, direct, stopped = self.sources, self.direct, STOP.is_set
        paths, sizes = self.copies.paths, self.copies.sizes
        digests, done = results.digests, 0
        try:
            for i, name in files:
                if stopped():
                    check_stop()
                copier.files += 1
                under_way = name if direct else temporary
                try:
                    reason, digest = put(sources[i], under_way, temp_fd, sizes[i])
                    if reason is None and not direct:
                        self._rename(under_way, name, temp_fd, fd)
                except BaseException as error:
                    clean(under_way, temp_fd)
                    if not isinstance(error, OSError):
                        raise
                    reason = self._reason(error, sources[i], name)
                if reason is not None:
                    clean(under_way, temp_fd)
                    results.failed[paths[i]] = f"{sources[i]}: {reason}"
                    continue
                done += 1
                if digest:
                    digests[paths[i]] = digest
                if copier.files >= _COUNTED:
                    copier.count()
        finally:
            results.done += done
            copier.count()

    def _rename(self, temporary: str, name: str, temp_fd: int, fd: int) -> None:
        rename_temporary(temporary, name, temp_fd, fd)
        if self.copies.how in ("hardlink", _CACHED):  # renaming one link of a file onto another leaves both
            clean(temporary, temp_fd)

    def _reason(self, error: OSError, source: str, name: str) -> str:
        """Why `source` was not put there under its `name`; raises what hits all files."""
        linked = self.copies.how == "hardlink" and os.path.lexists(source)
        if linked and error.errno in _NO_LINK:
            raise StorageError(f"{source}: cannot be hard-linked into {self.folder}: {_NO_LINK[error.errno]}; {_COPY}")
        if linked and error.errno == errno.EMLINK:
            return f"has as many hard links as its file system can count; {_COPY}"
        if hits_all(error) and not _source_refused(source):
            raise storage_error(error, os.path.join(self.folder, name), "written") from None
        _raise_if_gone(source)
        return os.strerror(error.errno or 0)


def put_many(root: Root, copies: Copies, *, scratch: Root | None = None, direct: bool = False) -> Results:
    """Put files of any location at their paths below `root`, see `WritableLocation.copy_many`."""
    origin, how = copies.origin, copies.how
    if origin.local is not None:
        put = copy_many
    elif how in ("copy", "hardlink") and origin.remote:
        put = link_cached
    elif how == "copy":
        put = copy_from
    else:
        raise StorageError(f"{origin.url}: files there cannot be linked; set target.images to copy")
    return put(root, copies, scratch=scratch, direct=direct)


def link_cached(root: Root, copies: Copies, *, scratch: Root | None = None, direct: bool = False) -> Results:
    """Put files that `origin.gather` brought to this machine at their paths below `root`: they take no room twice.

    Copies are links where the file system can, and true ones elsewhere; what was brought is never written to again.
    What is not there, or not whole, fails with its reason. The rest is as in `copy_many`.
    """
    folder, found = copies.origin.cached_files(copies.names)
    whole: dict[int, tuple[str, bytes]] = {}
    for i, cached in enumerate(found):
        if cached is None:
            continue
        if copies.how == "copy" and not whole and not _can_link(folder.join(cached[0]), root, scratch):
            break  # all are copied: what is cached is read once
        whole[i] = cached
    how = "hardlink" if copies.how == "hardlink" else _CACHED
    here = replace(copies.some([*whole]), origin=folder, names=[name for name, _ in whole.values()], how=how)
    results = copy_many(root, here, scratch=scratch, direct=direct)
    if copies.how == "copy":
        digests = zip(here.paths, (digest for _, digest in whole.values()), strict=True)
        results.digests.update({path: digest for path, digest in digests if path not in results.failed})
    rest = [i for i in range(len(copies.names)) if i not in whole]
    if rest:
        results.add(copy_from(root, copies.some(rest), scratch=scratch, direct=direct))
    return results


def _can_link(source: str, root: Root, scratch: Root | None) -> bool:
    """Whether a hard link to the file `source` can be made below `root`: found out by making one."""
    name = temporary_name()
    with (scratch or root).open("", "written") as fd:
        try:
            os.link(source, name, dst_dir_fd=fd)
        except OSError:
            return False
        clean(name, fd)
    return True


def _raise_if_gone(source: str) -> None:
    """Without its folder no further image of it can be had: that stops the run, and is reported once."""
    folder = os.path.dirname(source)
    if not os.path.isdir(folder):
        raise StorageError(
            f"{folder}: the folder of the source is gone while images are copied from it; bring it back "
            "and run again: it goes on where it was"
        )


def _source_refused(source: str) -> bool:
    return not os.access(source, os.R_OK)


def _cached_by(copier: FileCopier) -> _Put:
    """What puts a file that was brought to this machine elsewhere: by a link, or a copy where there can be none."""

    def put(source: str, temporary: str, fd: int, size: int | None) -> tuple[str | None, bytes]:
        try:
            return _hardlink_one(source, temporary, fd, size)
        except OSError:
            return copier.copy(source, temporary, fd, size)

    return put


def _hardlink_one(source: str, temporary: str, fd: int, size: int | None) -> tuple[str | None, bytes]:
    clean(temporary, fd)
    os.link(os.path.realpath(source), temporary, dst_dir_fd=fd)
    made = os.stat(temporary, dir_fd=fd)
    return None if size in (None, made.st_size) else CHANGED, link_digest(made.st_ino)


def _symlink_one(source: str, temporary: str, fd: int, size: int | None) -> tuple[str | None, bytes]:
    clean(temporary, fd)
    if size is not None and os.stat(source).st_size != size:
        return CHANGED, b""
    os.symlink(source, temporary, dir_fd=fd)
    return None, link_digest(source)
