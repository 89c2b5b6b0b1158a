"""Folders of this machine."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from pipeline.storage.listing import Listing
from pipeline.storage.local.copy import put_many
from pipeline.storage.local.folders import (
    delete_many,
    drop_temporaries,
    make_folders,
    publish_folders,
    remove_folder,
    sync,
    take_files,
)
from pipeline.storage.local.lock import break_lease, lock, lock_holder
from pipeline.storage.local.read import (
    content_digest,
    exist_many,
    fetch_many,
    fingerprints,
    is_there,
    peek_many,
    read_many,
    read_parts,
    read_spans,
    read_whole,
    same_disk,
    sizes,
)
from pipeline.storage.local.root import Root
from pipeline.storage.local.walk import folder_times, list_files, list_flat, list_folder, list_names
from pipeline.storage.local.write import write_many, write_whole
from pipeline.storage.location import Copies, Fetched, FileEnds, Fingerprint, Results, WritableLocation
from pipeline.storage.paths import local_path
from pipeline.storage.spill import Spill
from pipeline.storage.traits import Traits, traits_of


class LocalFolder(WritableLocation):
    """A folder of this machine; it need not exist. Nothing is written through a link below it, but for `links`."""

    local: str
    keeps_times = on_disk = True

    def __init__(self, path: str, links: frozenset[str] = frozenset()) -> None:
        self.root, self._own = Root(local_path(path), links=links), False
        self.local = self.root.path
        super().__init__(self.local)

    @property
    def key_path(self) -> str:
        """See `Location.key_path`."""
        return self.local

    def _at(self, path: str) -> str:
        return os.path.join(self.local, path) if path else self.local

    def below(self, folder: str) -> LocalFolder:
        """See `Location.below`."""
        inner = self.own(folder)
        inner._own = self._own
        return inner

    def own(self, folder: str) -> LocalFolder:
        """See `WritableLocation.own`."""
        inner = LocalFolder(self._at(folder))
        inner.root, inner._own = self.root.inner(folder), True
        return inner

    def exists(self) -> bool:
        """See `Location.exists`."""
        return is_there(self.local)

    def listing(self, suffixes: frozenset[str], *, with_stats: bool, spill: Spill | None = None) -> Listing:
        """See `Location.listing`; the numbers are size, mtime_ns, ctime_ns and inode."""
        return list_folder(self.local, suffixes, with_stats=with_stats, spill=spill)

    def listing_of(self, paths: Sequence[str]) -> Listing:
        """See `Location.listing_of`."""
        return list_files(self.local, paths)

    def names(self, folder: str = "") -> set[str]:
        """See `Location.names`."""
        return self.root.names(folder) if self._own else list_names(self._at(folder))

    def flat_names(self, folder: str) -> Sequence[str]:
        """See `Location.flat_names`."""
        return list_flat(self._at(folder))

    def exist_many(self, paths: Sequence[str], *, sure: bool = False) -> Sequence[bool]:
        """See `Location.exist_many`."""
        del sure
        return exist_many(self.local, paths)

    def sizes(self, paths: Sequence[str]) -> Sequence[int | None]:
        """See `Location.sizes`."""
        return sizes(self.local, paths)

    def fingerprints(self, paths: Sequence[str]) -> Sequence[Fingerprint | None]:
        """See `Location.fingerprints`; the mark is size, mtime_ns and inode."""
        return fingerprints(self.local, paths)

    def folder_times(self, folders: Sequence[str]) -> dict[str, int]:
        """See `Location.folder_times`."""
        return folder_times(self.local, folders)

    def links_among(self, paths: Sequence[str], *, beyond: int) -> list[str]:
        """See `Location.links_among`."""
        return self.root.links_among(paths, beyond)

    def read(self, path: str) -> bytes | None:
        """See `Location.read`."""
        return self.root.read(path) if self._own else read_whole(self._at(path))

    def read_many(
        self, paths: Sequence[str], limit: int, room: int | None = None
    ) -> tuple[Sequence[bytes], array[int], dict[int, str]]:
        """See `Location.read_many`; the numbers are those of the very file that was read."""
        return read_many(self.local, paths, limit, room)

    def read_spans(self, path: str, spans: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """See `Location.read_spans`."""
        return read_spans(self._at(path), spans)

    def fetch_many(self, paths: Sequence[str]) -> Iterator[Fetched]:
        """See `Location.fetch_many`; in the given order."""
        return fetch_many(self.local, paths)

    def peek_many(self, paths: Sequence[str], head: int, tail: int) -> Iterator[FileEnds]:
        """See `Location.peek_many`; in the given order."""
        return peek_many(self.local, paths, head, tail)

    def read_parts(self, path: str, parts: Sequence[tuple[int, int]], width: int) -> Iterator[tuple[int, bytes]]:
        """See `Location.read_parts`; one by one."""
        del width
        return read_parts(self._at(path), parts)

    def content_digests(self, paths: Sequence[str]) -> Sequence[bytes | None]:
        """See `Location.content_digests`."""
        return [content_digest(self._at(path)) for path in paths]

    def write(self, path: str, data: bytes) -> None:
        """See `WritableLocation.write`."""
        write_whole(self.root, path, data)

    def write_many(
        self,
        paths: Sequence[str],
        contents: Sequence[bytes],
        *,
        scratch: WritableLocation | None = None,
        direct: bool = False,
    ) -> Results:
        """See `WritableLocation.write_many`."""
        return write_many(self.root, paths, contents, scratch=_root_of(scratch), direct=direct)

    def copy_many(self, copies: Copies, *, scratch: WritableLocation | None = None, direct: bool = False) -> Results:
        """See `WritableLocation.copy_many`."""
        return put_many(self.root, copies, scratch=_root_of(scratch), direct=direct)

    def delete_many(self, paths: Sequence[str], *, scratch: WritableLocation | None = None) -> Results:
        """See `WritableLocation.delete_many`."""
        return delete_many(self.root, paths, _root_of(scratch))

    def remove_folder(self, folder: str) -> None:
        """See `WritableLocation.remove_folder`."""
        remove_folder(self.root, folder)

    def sealed(self) -> LocalFolder:
        """See `WritableLocation.sealed`."""
        inner = self.own("")
        inner.root = replace(inner.root, sealed=True)
        return inner

    def drop_temporaries(self, folder: str = "", *, shared: bool = False) -> None:
        """See `WritableLocation.drop_temporaries`."""
        root = self.root.inner(folder)
        drop_temporaries(root, root.names("", deep=not shared), shared=shared)

    def make_folders(self, folders: Sequence[str]) -> None:
        """See `WritableLocation.make_folders`."""
        make_folders(self.root, folders)

    def drop_empty_folders(self, folder: str) -> None:
        """See `WritableLocation.drop_empty_folders`."""
        self.root.drop_empty_folders(folder)

    def can_stage(self, folder: str) -> bool:
        """See `WritableLocation.can_stage`: one on another disk cannot be renamed in one step."""
        return same_disk(self.local, os.path.dirname(folder))

    def publish_folders(self, staging: WritableLocation, folders: Sequence[str]) -> None:
        """See `WritableLocation.publish_folders`."""
        assert isinstance(staging, LocalFolder)
        publish_folders(staging.root, self.root, folders)

    def take_files(self, staging: WritableLocation, paths: Sequence[str]) -> None:
        """See `WritableLocation.take_files`."""
        assert isinstance(staging, LocalFolder)
        take_files(staging.root, self.root, paths)

    def traits(self, scratch: str) -> Traits:
        """See `WritableLocation.traits`."""
        with self.root.open(scratch, "written"):  # it is no link to somewhere else
            return traits_of(self._at(scratch))

    def sync(self, folders: Sequence[str] = ()) -> None:
        """See `WritableLocation.sync`."""
        sync(self.local, [self._at(folder) for folder in folders])

    def lock(self, path: str, what: str) -> AbstractContextManager[Callable[[], None]]:
        """See `WritableLocation.lock`; it is the operating system's, so it dies with its holder."""
        return lock(self.root, path, what)

    def lock_holder(self, path: str) -> str | None:
        """See `WritableLocation.lock_holder`."""
        return lock_holder(self.root, path)

    def break_lock(self, path: str) -> None:
        """See `WritableLocation.break_lock`."""
        break_lease(self.root, path)


def _root_of(location: WritableLocation | None) -> Root | None:
    assert location is None or isinstance(location, LocalFolder)
    return location.root if location is not None else None
