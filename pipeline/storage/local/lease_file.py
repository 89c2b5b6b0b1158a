"""The file of a lease, where a file system has no locks."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from pipeline.base.os_errors import storage_error
from pipeline.storage.local.folders import delete_many
from pipeline.storage.local.root import Root
from pipeline.storage.local.write import write_whole
from pipeline.storage.stores import lease
from pipeline.storage.stores.client import Version


class LeaseFile:
    """The file of a lease below `root`, see `stores.lease.Keeper`; times are by the clock of the file server."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def version(self, key: str) -> Version | None:
        """See `stores.lease.Keeper`."""
        try:
            fd = self._root.open_file(key, os.O_RDONLY, "read")
        except FileNotFoundError:
            return None
        try:
            return Version(os.pread(fd, 4096, 0), os.fstat(fd).st_mtime_ns)
        except OSError as error:
            raise storage_error(error, self._root.at(key), "read") from None
        finally:
            os.close(fd)

    def put(self, key: str, data: bytes) -> None:
        """See `stores.lease.Keeper`."""
        write_whole(self._root, key, data)

    def create(self, key: str, data: bytes) -> bool:
        """See `stores.lease.Keeper`; who reads it before it is written sees a holder without a name."""
        try:
            fd = self._root.open_file(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, "written")
        except FileExistsError:
            return False
        try:
            os.write(fd, data)
        except OSError as error:
            raise storage_error(error, self._root.at(key), "written") from None
        finally:
            os.close(fd)
        return True

    def replace(self, key: str, data: bytes, was: Version) -> bool:
        """See `stores.lease.Keeper`. No file system compares and swaps: of two that replace a file, the later's stays.

        So it is checked again after a while.
        """
        found = self.version(key)
        if found is None or found.data != was.data:
            return False
        self.put(key, data)
        time.sleep(lease.CLAIM_S)
        found = self.version(key)
        return found is not None and found.data == data

    def delete(self, keys: Sequence[str]) -> object:
        """See `stores.lease.Keeper`."""
        return delete_many(self._root, keys)
