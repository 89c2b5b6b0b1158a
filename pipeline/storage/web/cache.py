"""Images that were fetched one by one and cached in the workdir, so that nothing is fetched twice.

A file is called as the image, with the XXH3-128 of its content behind: what a crash or a disk did to it is seen when it
is read, and it is then fetched again. While images come, a mark says that a power cut may take them: whoever finds it
checks all that came since.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Sequence

import xxhash

from pipeline.base.digest import seal, unseal
from pipeline.base.errors import StorageError
from pipeline.base.os_errors import storage_error
from pipeline.runtime.counters import READ, count
from pipeline.storage.local.folders import delete_many, drop_temporaries, sync
from pipeline.storage.local.read import read_whole
from pipeline.storage.local.root import Root
from pipeline.storage.local.write import put_whole, temporary_name, write_whole
from pipeline.storage.paths import local_path

_FOLDER = "fetched"

_FAILURES = "failures.json"

#: There while images are fetched, until they are durable.
_COMING = "coming"

#: What the folder of a location is called: by its address, and the XXH3-64 of that.
_OURS = re.compile(r"[\w.-]{0,60}-[0-9a-f]{16}")

_HEX = 32

_OPEN_FOLDERS = 32


class ImageCache:
    """The cached images of one location, in the workdir `workdir`."""

    def __init__(self, workdir: str, location: str) -> None:
        host = "".join(c if c.isalnum() or c in ".-" else "-" for c in location.split("://", 1)[-1])[-60:]
        name = f"{host}-{xxhash.xxh3_64_hexdigest(location.encode())}"
        self._root = Root(workdir, links=frozenset({_FOLDER})).inner(f"{_FOLDER}/{name}")
        self.top, self.folder = self._root.at(), self._root.at("images")
        self._files: dict[str, str] | None = None
        self._stack, self._opened = contextlib.ExitStack(), dict[str, tuple[int, str]]()
        self._temporary = ""

    def __enter__(self) -> ImageCache:
        """While inside, images are put; what a run left that was killed or cut off is checked first."""
        self._temporary = temporary_name()  # images are put one after another, by this thread
        coming = os.path.join(self.top, _COMING)
        if os.path.exists(coming):
            self._drop_damaged(os.stat(coming).st_mtime_ns)
        else:
            write_whole(self._root, _COMING, b"")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._close_folders()
        if kind is None:
            sync(self.top)
            delete_many(self._root, [_COMING])

    def _close_folders(self) -> None:
        self._opened.clear()
        self._stack.close()

    def _drop_damaged(self, since_ns: int) -> None:
        """Delete the images that came after `since_ns` (by their mtime) and are not whole."""
        for path, name in list(self.files.items()):
            try:
                young = os.stat(os.path.join(self.folder, name)).st_mtime_ns >= since_ns
            except OSError:
                continue
            if young:
                self.get(path)

    @property
    def files(self) -> dict[str, str]:
        """Path of each cached image: path of its file."""
        if self._files is None:
            names = self._root.names("images")
            drop_temporaries(self._root.inner("images"), names, shared=True)
            self._files = {name[: -_HEX - 1]: name for name in names if len(name) > _HEX and name[-_HEX - 1] == "."}
        return self._files

    def sizes(self, paths: Sequence[str]) -> list[int | None]:
        """Bytes of each image; None for one that is not cached."""
        files = self.files
        found: list[int | None] = []
        for path in paths:
            try:
                found.append(os.stat(os.path.join(self.folder, files[path])).st_size)
            except (KeyError, OSError):
                found.append(None)
        return found

    def put(self, path: str, data: bytes | bytearray | memoryview) -> None:
        """Cache an image, inside of a `with` of this; raises `StorageError` where it cannot be written."""
        name = f"{path}.{xxhash.xxh3_128_hexdigest(data)}"
        folder, _, last = f"images/{name}".rpartition("/")
        fd, shown = self._opened.get(folder) or self._open(folder)
        if reason := put_whole(last, self._temporary, data, fd, fd, shown):
            raise StorageError(f"{shown}/{last}: cannot be written: {reason}")
        self.files[path] = name

    def _open(self, folder: str) -> tuple[int, str]:
        """The descriptor of a folder below the root, open while images are put, and its path."""
        if len(self._opened) >= _OPEN_FOLDERS:
            self._close_folders()
        fd = self._stack.enter_context(self._root.open(folder, "written"))
        self._opened[folder] = fd, self._root.at(folder)
        return self._opened[folder]

    def get(self, path: str) -> bytes | None:
        """A cached image, checked; None where it is missing or not whole."""
        name = self.files.get(path)
        if name is None:
            return None
        full = os.path.join(self.folder, name)
        try:
            with open(full, "rb") as file:
                data = file.read()
        except OSError:
            return None
        count(READ, len(data))
        if xxhash.xxh3_128_hexdigest(data) == name[-_HEX:]:
            return data
        with contextlib.suppress(OSError):
            os.unlink(full)
        del self.files[path]
        return None

    def whole(self, path: str) -> tuple[str, bytes] | None:
        """The name and the XXH3-128 of an image's file, its content checked; None where it is not, or not whole."""
        if self.get(path) is None:
            return None
        return self.files[path], bytes.fromhex(self.files[path][-_HEX:])

    def note_failures(self, reasons: dict[str, str]) -> None:
        """Write down why images could not be had: those who copy them say so. Nothing, where nothing is to be said."""
        if not reasons and not os.path.exists(os.path.join(self.top, _FAILURES)):
            return
        write_whole(self._root, _FAILURES, seal({"reasons": reasons}))

    def failures(self) -> dict[str, str]:
        """What `note_failures` wrote last."""
        found = unseal(read_whole(os.path.join(self.top, _FAILURES)))
        return dict(found["reasons"]) if found is not None else {}


def drop_cached(workdir: str) -> tuple[int, int]:
    """Delete all cached images in `workdir`; returns their number and their bytes.

    Their folder may be a link to another disk, which may hold other things: what is not called as ours stays.
    """
    top = os.path.join(local_path(workdir), _FOLDER)
    files = size = 0
    try:
        for name in filter(_OURS.fullmatch, os.listdir(top) if os.path.isdir(top) else ()):
            ours = os.path.join(top, name)
            for folder, _, names in os.walk(ours):
                found = [os.path.join(folder, one) for one in names if one not in (_FAILURES, _COMING)]
                files += len(found)
                size += sum(os.lstat(one).st_size for one in found)
            shutil.rmtree(ours)
        if not os.path.islink(top):
            with contextlib.suppress(OSError):
                os.rmdir(top)
    except OSError as error:
        raise storage_error(error, top, "deleted") from None
    return files, size
