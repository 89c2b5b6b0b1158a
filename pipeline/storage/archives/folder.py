"""Zip archives read in place: a folder in an archive is a location like any other, and nothing is ever unpacked.

The archive's directory is read once and its table cached in the workdir; members are read in their order
in the archive, each bounded by its stated size and checked by its CRC-32.
"""

from __future__ import annotations

import itertools
import os
import stat
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.base.errors import ConfigError, StorageError
from pipeline.base.os_errors import storage_error
from pipeline.base.redaction import redact_url
from pipeline.runtime.counters import count_file
from pipeline.runtime.interrupt import STOP, check_stop
from pipeline.storage.archives.directory import CRC, DAMAGED, SIZE
from pipeline.storage.archives.members import in_order, opened, read_begin, read_directory, read_member
from pipeline.storage.archives.table import cache_table, cached_table, know_table, known_table
from pipeline.storage.listing import UNUSABLE, Listing, is_nobodys
from pipeline.storage.local.read import is_there
from pipeline.storage.location import (
    MAX_IMAGE_BYTES,
    Fetched,
    FileEnds,
    Fingerprint,
    Location,
    is_too_large,
    too_large,
)
from pipeline.storage.paths import local_path
from pipeline.storage.spill import Spill

if TYPE_CHECKING:
    from pipeline.base.arrays import Ints
    from pipeline.storage.archives.table import Table

SCHEME = "zip://"

ONLY_ZIP = "only zip archives are read in place; unpack this one, as by `tar xf`, and name the folder"

_OTHERS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")

#: Suffixes of one compressed file, and what unpacks it.
_COMPRESSED = {".gz": "gunzip", ".bz2": "bunzip2", ".xz": "unxz", ".zst": "unzstd"}

_STEP = 16_384


def refuse_packed(path: str) -> None:
    """Raise `ConfigError` for a file that is an archive of another kind than zip, or compressed, by its name."""
    if not os.path.isfile(os.path.expanduser(path)):
        return
    if path.lower().endswith(_OTHERS):
        raise ConfigError(f"{path}: {ONLY_ZIP}")
    tool = _COMPRESSED.get(os.path.splitext(path)[1].lower())
    if tool is not None:
        raise ConfigError(f"{path}: is compressed; unpack it, as by `{tool}`, and name what it was")


def split_url(url: str) -> tuple[str, str]:
    """Folder in the archive (without slashes around it; may be empty) and archive of ``zip://folder::archive``.

    Raises `ConfigError` where it is not of that form.
    """
    folder, sep, archive = url.removeprefix(SCHEME).partition("::")
    folder = folder.strip("/")
    if archive.lower().endswith(_OTHERS):
        raise ConfigError(f"{redact_url(archive)}: {ONLY_ZIP}")
    if not sep or not archive or any(part in ("..", ".") for part in folder.split("/")):
        raise ConfigError(
            f"{redact_url(url)}: must be zip://FOLDER::ARCHIVE, as in zip://train2017::downloads/train2017.zip"
        )
    return folder, archive


class ZipFolder(Location):
    """A folder in a zip archive of this machine; `keep` is a folder where its table is cached."""

    on_disk = True

    def __init__(self, url: str, keep: str | None = None) -> None:
        self.folder, archive = split_url(url)
        self.archive = self._locate_archive(archive)
        self.prefix = f"{self.folder}/" if self.folder else ""
        self._keep = keep
        super().__init__(f"{SCHEME}{self.folder}::{self.archive}")

    @staticmethod
    def _locate_archive(archive: str) -> str:
        return local_path(archive)

    @property
    def key_path(self) -> str:
        """See `Location.key_path`; an archive counts as a folder of its name."""
        stem = os.path.splitext(self.archive)[0]
        return f"{stem}/{self.folder}" if self.folder else stem

    @property
    def archive_name(self) -> str:
        """What the archive is called in messages."""
        return self.archive

    def join(self, path: str) -> str:
        """See `Location.join`: ``zip://folder/path::archive``."""
        return f"{SCHEME}{self.prefix}{path}::{self.archive}" if path else self.url

    def name_of(self, joined: str) -> str:
        """See `Location.name_of`."""
        return joined[len(SCHEME) + len(self.prefix) : -len(self.archive) - 2]

    def below(self, folder: str) -> Location:
        """See `Location.below`."""
        return type(self)(f"{SCHEME}{self.prefix}{folder}::{self.archive}", self._keep)

    def exists(self) -> bool:
        """See `Location.exists`; whether the archive has the folder is known when it is listed."""
        return is_there(self.archive, stat.S_ISREG)

    def has_files(self) -> bool:
        """See `Location.has_files`."""
        return self.exists() and self._holds(self.table())

    def _holds(self, table: Table) -> bool:
        return any(name.startswith(self.prefix) for name in table.names)

    # The table

    def table_file(self) -> str | None:
        """The file that caches the archive's table."""
        import xxhash

        if self._keep is None:
            return None
        stem = os.path.splitext(os.path.basename(self.archive))[0]
        return os.path.join(self._keep, "members", f"{stem}-{xxhash.xxh3_64_hexdigest(self.archive.encode())}.table")

    def table(self) -> Table:
        """The archive's files: as this process has them, as they were cached, or read anew."""
        identity, path = _identity(self.archive), self.table_file()
        known = known_table(self.archive, path, identity)
        if known is not None:
            return known
        cached = cached_table(path)
        if cached is not None and cached[0] == identity:
            members = cached[1]
        else:
            members = read_directory(self.archive)
            cache_table(path, identity, members)
        return know_table(self.archive, path, identity, members)

    def _rows(self, paths: Sequence[str]) -> Ints:
        """Row of each path in the table; -1 for one that is not there."""
        return self.table().rows([self.prefix + path for path in paths] if self.prefix else paths)

    # What is there

    def unusable_names(self) -> list[tuple[str, str]]:
        """Names in this folder that cannot be used, with the reason."""
        return [(name, reason) for name, reason in self.table().unusable if name.startswith(self.prefix)]

    def listing(self, suffixes: frozenset[str], *, with_stats: bool, spill: Spill | None = None) -> Listing:
        """See `Location.listing`; the numbers are size, CRC-32, 0 and 1."""
        table, prefix = self.table(), self.prefix
        found = Listing(self.url, spill or Spill())
        found.unusable = sorted(
            (name.removeprefix(prefix), reason)
            for name, reason in table.unusable
            if name.startswith(prefix) and _suffix(name) in suffixes and not is_nobodys(name)
        )
        _fill(found, table, prefix, suffixes, with_stats=with_stats)
        if not found.count and not found.unusable and self.folder and not self._holds(table):
            raise _no_folder(self.archive_name, self.folder, table)
        return found

    def names(self, folder: str = "") -> set[str]:
        """See `Location.names`."""
        prefix = f"{self.prefix}{folder}/" if folder else self.prefix
        return {name[len(prefix) :] for name in self.table().names if name.startswith(prefix)}

    def exist_many(self, paths: Sequence[str], *, sure: bool = False) -> Sequence[bool]:
        """See `Location.exist_many`."""
        del sure
        return [row >= 0 for row in self._rows(paths).tolist()]

    def sizes(self, paths: Sequence[str]) -> Sequence[int | None]:
        """See `Location.sizes`."""
        numbers = self.table().numbers
        return [int(numbers[row, SIZE]) if row >= 0 else None for row in self._rows(paths).tolist()]

    def checksums(self, paths: Sequence[str]) -> Sequence[tuple[int, int]]:
        """Size and CRC-32 of each of `paths`, which are in the archive."""
        sizes_and_sums = self.table().numbers[self._rows(paths)][:, [SIZE, CRC]].tolist() if paths else []
        return [(size, crc) for size, crc in sizes_and_sums]

    def fingerprints(self, paths: Sequence[str]) -> Sequence[Fingerprint | None]:
        """See `Location.fingerprints`; the mark is size and CRC-32, wherever the archive is."""
        numbers, pack = self.table().numbers, struct.Struct("<2q").pack
        rows = self._rows(paths)
        some = numbers[rows][:, [SIZE, CRC]].tolist() if len(rows) and len(numbers) else [(0, 0)] * len(rows)
        return [
            Fingerprint(size, pack(size, crc), True) if row >= 0 else None
            for row, (size, crc) in zip(rows.tolist(), some, strict=True)
        ]

    # Reading

    def read(self, path: str) -> bytes | None:
        """See `Location.read`."""
        contents, _, failed = self.read_many([path], MAX_IMAGE_BYTES)
        if failed and failed[0] != "vanished":
            raise StorageError(f"{self.join(path)}: cannot be read: {failed[0]}")
        return None if failed else contents[0]

    def read_many(
        self, paths: Sequence[str], limit: int, room: int | None = None
    ) -> tuple[Sequence[bytes], array[int], dict[int, str]]:
        """See `Location.read_many`; the numbers are those of `listing`."""
        paths = within(paths, self.sizes, room)
        contents = [b""] * len(paths)
        stats = array("q", bytes(32 * len(paths)))
        failed: dict[int, str] = {}
        with opened(self.archive) as fd:
            for i, entry in self._in_order(paths):
                if STOP.is_set():
                    check_stop()
                count_file()
                if entry is None:
                    failed[i] = "vanished"
                elif entry[SIZE] > limit:
                    failed[i] = "too_large"
                elif (data := read_member(fd, entry, self.archive)) is None:
                    failed[i] = "damaged"
                else:
                    contents[i] = data
                    stats[4 * i : 4 * i + 4] = array("q", (entry[SIZE], entry[CRC], 0, 1))
        return contents, stats, failed

    def fetch_many(self, paths: Sequence[str]) -> Iterator[Fetched]:
        """See `Location.fetch_many`; in the archive's order."""
        with opened(self.archive) as fd:
            for i, entry in self._in_order(paths):
                check_stop()
                if entry is None:
                    yield Fetched(i, reason="is not in the archive any more; run again")
                elif is_too_large(entry[SIZE]):
                    yield Fetched(i, reason=too_large())
                elif (data := read_member(fd, entry, self.archive)) is None:
                    yield Fetched(i, reason=DAMAGED)
                else:
                    yield Fetched(i, data)

    def peek_many(self, paths: Sequence[str], head: int, tail: int) -> Iterator[FileEnds]:
        """See `Location.peek_many`; where only the beginning is asked for, that alone is read, and not checked."""
        begins = not tail and not self.remote
        return _begins(self.archive, self._in_order(paths), head) if begins else super().peek_many(paths, head, tail)

    def content_digests(self, paths: Sequence[str]) -> Sequence[bytes | None]:
        """See `Location.content_digests`."""
        import xxhash

        found: list[bytes | None] = [None] * len(paths)
        for one in self.fetch_many(paths):
            found[one.index] = None if one.reason else bytes(xxhash.xxh3_128_digest(one.data))
        return found

    def _in_order(self, paths: Sequence[str]) -> Iterator[tuple[int, list[int] | None]]:
        """Index and numbers of each path, in the archive's order; None for those not there, which come first."""
        return in_order(self._rows(paths), self.table().numbers)


def within(
    paths: Sequence[str], sizes: Callable[[Sequence[str]], Iterable[int | None]], room: int | None
) -> Sequence[str]:
    """The first of `paths`, one or more, whose `sizes` fill `room` bytes; all without it."""
    if room is None:
        return paths
    filled = itertools.accumulate(size or 0 for size in sizes(paths))
    return paths[: 1 + sum(1 for _ in itertools.takewhile(lambda size: size < room, filled))]


def _identity(archive: str) -> str:
    try:
        s = os.stat(archive)
    except OSError as error:
        raise storage_error(error, archive, "read") from None
    return f"{s.st_size} {s.st_mtime_ns} {s.st_ino}"


def _fill(found: Listing, table: Table, prefix: str, suffixes: frozenset[str], *, with_stats: bool) -> None:
    """Add the files of `table` below `prefix` that have one of the `suffixes` to the listing `found`."""
    rows: list[int] = []
    names: list[str] = []

    def take(count: int) -> None:
        stats = _stats(table, rows[:count]) if with_stats else array("q")
        found.take(names[:count], stats, with_stats=with_stats)
        del rows[:count], names[:count]

    for begin, every in table.pieces():
        some = _rows_of(every, prefix, suffixes)
        rows += [begin + i for i in some]
        names += [every[i][len(prefix) :] for i in some]
        while len(rows) >= _STEP:
            take(_STEP)
    if rows:
        take(len(rows))


def _rows_of(names: list[str], prefix: str, suffixes: frozenset[str]) -> list[int]:
    """Which of `names` are below `prefix` and have one of the `suffixes`."""
    endings = tuple(suffixes)
    below: Sequence[int] = range(len(names))
    if prefix:  # a mapping of methods takes a fifth of the time of an expression for each name
        below = list(itertools.compress(below, map(str.startswith, names, itertools.repeat(prefix))))
    ends = list(map(str.endswith, map(names.__getitem__, below), itertools.repeat(endings)))
    if all(ends):
        return list(below)
    return [i for i, good in zip(below, ends, strict=True) if good or _suffix(names[i]) in suffixes]


def _suffix(name: str) -> str:
    return name[name.rfind(".") :].lower()


def _begins(archive: str, entries: Iterator[tuple[int, list[int] | None]], count: int) -> Iterator[FileEnds]:
    """The first `count` bytes of members, by index, as `entries` come."""
    with opened(archive) as fd:
        for i, entry in entries:
            if entry is None:
                yield FileEnds(i, reason="is not in the archive any more; run again")
            elif (data := read_begin(fd, entry, count, archive)) is None:
                yield FileEnds(i, reason=DAMAGED)
            else:
                yield FileEnds(i, entry[SIZE], data)


def _no_folder(archive: str, folder: str, table: Table) -> ConfigError:
    tops = sorted({"/".join(name.split("/")[:-1]) for name in table.names})
    if not tops and table.unusable:
        name, reason = table.unusable[0]
        return ConfigError(f"{archive}: holds no file that can be read: {name!r} {UNUSABLE[reason]}")
    return ConfigError(f"{archive}: holds no folder {folder!r}; its folders are {', '.join(tops[:10]) or '(none)'}")


def check_zip(path: str, name: str) -> None:
    """Raise `StorageError` where the file `path`, called `name`, is no archive, or its directory is not sound."""
    read_directory(path, name)


def _stats(table: Table, rows: list[int]) -> array[int]:
    import numpy as np

    stats = np.zeros((len(rows), 4), np.int64)
    stats[:, 0], stats[:, 1], stats[:, 3] = table.numbers[rows, SIZE], table.numbers[rows, CRC], 1
    return array("q", stats.tobytes())
