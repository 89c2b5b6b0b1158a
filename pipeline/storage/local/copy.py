"""Many files copied or linked at once."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Sequence
from typing import Protocol

from pipeline.base.errors import Interrupted, StorageError
from pipeline.base.os_errors import hits_all, storage_error
from pipeline.runtime.counters import READ, count
from pipeline.runtime.interrupt import STOPPED, check_stop
from pipeline.storage.local.root import Root
from pipeline.storage.local.write import (
    CHANGED,
    clean,
    create,
    opened,
    put_whole,
    rename_temporary,
    temporaries,
    temporary_name,
    write_all,
)
from pipeline.storage.location import Fetched, Location, Results

#: So many folders stay open; a file of a further one opens it for itself.
_OPEN_FOLDERS = 32

#: Descriptors of a folder and of that for temporary files, its path, and what closes both where it does not stay open.
_Folder = tuple[int, int, str, contextlib.ExitStack | None]


def copy_from(
    root: Root,
    paths: Sequence[str],
    origin: Location,
    names: Sequence[str],
    sizes: Sequence[int | None],
    *,
    scratch: Root | None = None,
    direct: bool = False,
) -> Results:
    """Write files `names` of `origin` at `paths` below `root` as they come, in whatever order.

    The rest is as in `Location.copy_many`.
    """
    import xxhash

    folders = _Folders(root, scratch)

    def keep(one: Fetched) -> tuple[int, str | None, bytes]:
        reason, size = one.reason, sizes[one.index]
        if reason is None and size is not None and len(one.data) != size:
            reason = CHANGED
        if reason is None:
            below, _, name = paths[one.index].rpartition("/")
            taken = folders.take(below)
            try:
                reason = put_whole(name, name if direct else temporary_name(), one.data, *taken[:3])
            finally:
                folders.give(taken)
        return one.index, reason, b"" if reason else xxhash.xxh3_128_digest(one.data)

    results = Results()
    with folders:
        for i, reason, digest in origin.fetch_each(names, keep):
            check_stop()
            if reason is None:
                results.done += 1
                results.digests[paths[i]] = digest
            else:
                results.failed[paths[i]] = f"{origin.join(names[i])}: {reason}"
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


class Digest(Protocol):
    """A digest under way, as xxhash and hashlib have it."""

    def update(self, data: bytes, /) -> object:
        """Add `data`."""


_COPY_BYTES = 1 << 20


def copy_many(
    root: Root,
    paths: Sequence[str],
    sources: Sequence[str],
    sizes: Sequence[int | None],
    how: str,
    *,
    scratch: Root | None = None,
    direct: bool = False,
) -> Results:
    """Put `sources` (absolute paths) at `paths` below `root` by `how`: copy, hardlink or symlink; each whole or not.

    `scratch` and `direct` are as in `write_many`.

    `sizes`, in bytes, are what the plan saw: a source of another size has changed since and fails.
    """
    import xxhash

    digest = xxhash.xxh3_128()
    put = {"copy": _copy_one, "hardlink": _hardlink_one, "symlink": _symlink_one}[how]
    results = Results()
    for i, folder, name, temporary, fd, temp_fd in temporaries(root, paths, scratch, direct):
        digest.reset()
        try:
            reason = put(sources[i], temporary, temp_fd, sizes[i], digest)
            if reason is None and not direct:
                rename_temporary(temporary, name, temp_fd, fd)
                if how == "hardlink":  # renaming one link of a file onto another leaves both
                    clean(temporary, temp_fd)
        except OSError as error:
            clean(temporary, temp_fd)
            if error.errno == errno.EXDEV:
                raise StorageError(
                    f"{sources[i]}: cannot be hard-linked into {folder}: it is another file "
                    "system; set target.images to copy or symlink"
                ) from None
            if hits_all(error) and not _source_refused(sources[i]):
                raise storage_error(error, os.path.join(folder, name), "written") from None
            _raise_if_gone(sources[i])
            reason = os.strerror(error.errno or 0)
        except BaseException:
            clean(temporary, temp_fd)
            raise
        if reason is None:
            results.done += 1
            if how == "copy":
                results.digests[paths[i]] = digest.digest()
        else:
            clean(temporary, temp_fd)
            results.failed[paths[i]] = f"{sources[i]}: {reason}"
    return results


def link_cached(
    root: Root,
    paths: Sequence[str],
    origin: Location,
    names: Sequence[str],
    sizes: Sequence[int | None],
    how: str,
    *,
    scratch: Root | None = None,
    direct: bool = False,
) -> Results:
    """Put files that `origin.gather` brought to this machine at `paths` below `root`: they take no room twice.

    With `how` copy they are linked where the file system can, and copied elsewhere; what was brought is never written
    to again. What is not there, or not whole, fails with its reason. The rest is as in `copy_many`.
    """
    folder, found = origin.cached_files(names)
    whole: list[tuple[int, tuple[str, bytes]]] = []
    for i, cached in enumerate(found):
        if cached is None:
            continue
        if how == "copy" and not whole and not _can_link(folder.join(cached[0]), root, scratch):
            break  # all are copied: what is cached is read once
        whole.append((i, cached))
    linked = copy_many(
        root,
        [paths[i] for i, _ in whole],
        [folder.join(name) for _, (name, _) in whole],
        [sizes[i] for i, _ in whole],
        "hardlink",
        scratch=scratch,
        direct=direct,
    )
    if how == "copy":
        linked.digests.update({paths[i]: digest for i, (_, digest) in whole if paths[i] not in linked.failed})
    done = {i for i, _ in whole}
    rest = [i for i in range(len(names)) if i not in done]
    if rest:
        copied = copy_from(
            root,
            [paths[i] for i in rest],
            origin,
            [names[i] for i in rest],
            [sizes[i] for i in rest],
            scratch=scratch,
            direct=direct,
        )
        linked.done += copied.done
        linked.failed.update(copied.failed)
        linked.digests.update(copied.digests)
    return linked


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


def _copy_one(source: str, temporary: str, fd: int, size: int | None, digest: Digest) -> str | None:
    inp = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait
    try:
        if size is None:
            size = os.fstat(inp).st_size
        # One byte more than there should be: a file that grew is seen, and a small one needs no second read.
        data = os.read(inp, min(size + 1, _COPY_BYTES))
        copied = len(data)
        digest.update(data)
        out = create(temporary, fd)
        try:
            write_all(out, data)
            while size >= _COPY_BYTES and (data := os.read(inp, _COPY_BYTES)):
                write_all(out, data)
                digest.update(data)
                copied += len(data)
        finally:
            os.close(out)
    finally:
        os.close(inp)
    count(READ, copied)
    return None if copied == size else CHANGED


def _hardlink_one(source: str, temporary: str, fd: int, size: int | None, _digest: Digest) -> str | None:
    clean(temporary, fd)
    os.link(os.path.realpath(source), temporary, dst_dir_fd=fd)
    if size is not None and os.stat(temporary, dir_fd=fd).st_size != size:
        return CHANGED
    return None


def _symlink_one(source: str, temporary: str, fd: int, size: int | None, _digest: Digest) -> str | None:
    clean(temporary, fd)
    if size is not None and os.stat(source).st_size != size:
        return CHANGED
    os.symlink(source, temporary, dir_fd=fd)
    return None
