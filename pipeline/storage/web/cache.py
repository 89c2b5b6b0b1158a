"""Images that were fetched one by one and kept in the workdir, so that nothing is fetched twice.

A file is called as the image, with the XXH3-128 of its content behind: what a crash or a disk did to it is seen when it
is read, and it is then fetched again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence

import xxhash

from pipeline.errors import StorageError
from pipeline.storage.local.read import read_whole
from pipeline.storage.local.walk import list_names
from pipeline.storage.local.write import open_dir, put_whole, temporary_name, write_whole
from pipeline.storage.os_errors import storage_error
from pipeline.storage.paths import local_path
from pipeline.tables.digest import seal, unseal

_FOLDER = "fetched"

_FAILURES = "failures.json"

_HEX = 32

_OPEN_FOLDERS = 32


class Kept:
    """What is kept of one place, in the workdir `workdir`."""

    def __init__(self, workdir: str, place: str) -> None:
        host = "".join(c if c.isalnum() or c in ".-" else "-" for c in place.split("://", 1)[-1])[-60:]
        self.top = os.path.join(workdir, _FOLDER, f"{host}-{xxhash.xxh3_64_hexdigest(place.encode())}")
        self.folder = os.path.join(self.top, "images")
        self._held: dict[str, str] | None = None
        self._stack, self._opened = contextlib.ExitStack(), dict[str, int]()

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.clear()
        self._stack.close()

    @property
    def held(self) -> dict[str, str]:
        """Path of each image that is kept: path of its file."""
        if self._held is None:
            names = list_names(self.folder)
            self._held = {name[: -_HEX - 1]: name for name in names if len(name) > _HEX and name[-_HEX - 1] == "."}
        return self._held

    def sizes(self, paths: Sequence[str]) -> list[int | None]:
        """Bytes of each image; None for one that is not kept."""
        held = self.held
        found: list[int | None] = []
        for path in paths:
            try:
                found.append(os.stat(os.path.join(self.folder, held[path])).st_size)
            except (KeyError, OSError):
                found.append(None)
        return found

    def put(self, path: str, data: bytes | bytearray) -> None:
        """Keep an image, inside of a `with` of this; raises `StorageError` where it cannot be written."""
        name = f"{path}.{xxhash.xxh3_128_hexdigest(data)}"
        folder, _, last = os.path.join(self.folder, name).rpartition("/")
        fd = self._opened.get(folder)
        if fd is None:
            if len(self._opened) >= _OPEN_FOLDERS:
                self.__exit__()
            fd = self._opened[folder] = self._stack.enter_context(open_dir(folder, "written"))
        if reason := put_whole(last, temporary_name(), data, fd, fd, folder):
            raise StorageError(f"{folder}/{last}: cannot be written: {reason}")
        self.held[path] = name

    def get(self, path: str) -> bytes | None:
        """An image as it was kept, checked; None where it is not, or not whole, there."""
        name = self.held.get(path)
        if name is None:
            return None
        full = os.path.join(self.folder, name)
        try:
            with open(full, "rb") as file:
                data = file.read()
        except OSError:
            return None
        if xxhash.xxh3_128_hexdigest(data) == name[-_HEX:]:
            return data
        with contextlib.suppress(OSError):
            os.unlink(full)
        del self.held[path]
        return None

    def note_failures(self, reasons: dict[str, str]) -> None:
        """Write down why images could not be had: those who copy them say so."""
        write_whole(os.path.join(self.top, _FAILURES), seal({"reasons": reasons}))

    def failures(self) -> dict[str, str]:
        """What `note_failures` wrote last."""
        found = unseal(read_whole(os.path.join(self.top, _FAILURES)))
        return dict(found["reasons"]) if found is not None else {}


def drop_kept(workdir: str) -> tuple[int, int]:
    """Delete all that is kept in `workdir`; returns how many images it was, and their bytes."""
    top = os.path.join(local_path(workdir), _FOLDER)
    files = size = 0
    for folder, _, names in os.walk(top):
        for name in names:
            if name != _FAILURES:
                files += 1
                size += os.lstat(os.path.join(folder, name)).st_size
    try:
        if os.path.isdir(top):
            shutil.rmtree(top)
    except OSError as error:
        raise storage_error(error, top, "deleted") from None
    return files, size
