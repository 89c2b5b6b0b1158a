"""Members of a zip archive of this machine: its directory read, and their contents, each checked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.base.os_errors import hits_all, storage_error
from pipeline.runtime.counters import READ, count
from pipeline.storage.archives.directory import (
    HEADER_BYTES,
    OFFSET,
    PACKED,
    ROOM,
    Members,
    find_directory,
    lead_of,
    parse_directory,
    unpack,
    unpack_begin,
)

if TYPE_CHECKING:
    from pipeline.base.arrays import Ints

#: Header, name and extra field of a member are read together with what follows them up to this size.
_SMALL = 65_536

_SLACK = 128


@contextlib.contextmanager
def opened(archive: str) -> Iterator[int]:
    """A descriptor of the file `archive` for reading. Raises `StorageError`."""
    try:
        fd = os.open(archive, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise storage_error(error, archive, "read") from None
    try:
        yield fd
    finally:
        os.close(fd)


def read_directory(archive: str, name: str | None = None) -> Members:
    """The directory of the file `archive`, called `name` in messages. Raises `StorageError` where it is not sound."""
    name = name or archive
    with opened(archive) as fd:
        size = os.fstat(fd).st_size
        where = find_directory(size, lambda at, length: read_exactly(fd, length, at), name)
        return parse_directory(read_exactly(fd, where.size, where.offset), where, name)


def in_order(rows: Ints, numbers: Ints) -> Iterator[tuple[int, list[int] | None]]:
    """Index and numbers of each of the members `rows` in the archive's order; None for -1, which comes first."""
    import numpy as np

    if not len(numbers):
        yield from ((i, None) for i in range(len(rows)))
        return
    offsets = np.where(rows >= 0, numbers[rows, OFFSET], -1)
    order = np.argsort(offsets, kind="stable")
    for i, row, entry in zip(order.tolist(), rows[order].tolist(), numbers[rows[order]].tolist(), strict=True):
        yield i, entry if row >= 0 else None


def read_member(fd: int, entry: list[int], archive: str) -> bytes | None:
    """The content of a member, checked; None where it is damaged. `archive` is for messages."""
    offset, packed, room = entry[OFFSET], entry[PACKED], entry[ROOM]
    try:
        if packed > _SMALL:  # read apart, so that the content of a stored member is not moved once more
            head = read_exactly(fd, HEADER_BYTES, offset)
            lead = lead_of(head)
            data: bytes | memoryview = read_exactly(fd, packed, offset + lead) if lead else b""
        else:
            span = read_exactly(fd, min(room, packed + HEADER_BYTES + _SLACK), offset)
            lead = lead_of(span)
            if lead + packed > len(span):
                span = read_exactly(fd, lead + packed, offset)
            data = memoryview(span)[lead : lead + packed]
    except OSError as error:
        if hits_all(error):
            raise storage_error(error, archive, "read") from None
        return None
    return unpack(data, entry) if lead and lead + packed <= room else None


def read_begin(fd: int, entry: list[int], octets: int, archive: str) -> bytes | None:
    """The first `octets` bytes of a member, which nothing checks; None where it is damaged."""
    try:
        span = read_exactly(fd, min(entry[ROOM], octets + HEADER_BYTES + _SLACK), entry[OFFSET])
        lead = lead_of(span)
        data = (
            read_exactly(fd, min(entry[PACKED], octets), entry[OFFSET] + lead)
            if lead + octets > len(span)
            else span[lead:]
        )
    except OSError as error:
        if hits_all(error):
            raise storage_error(error, archive, "read") from None
        return None
    return unpack_begin(data[: entry[PACKED]], entry, octets) if lead and lead + entry[PACKED] <= entry[ROOM] else None


def read_exactly(fd: int, octets: int, offset: int) -> bytes:
    """`octets` bytes at `offset`, or fewer where the file ends."""
    data = os.pread(fd, octets, offset)
    while len(data) < octets and (more := os.pread(fd, octets - len(data), offset + len(data))):
        data += more
    count(READ, len(data))
    return data
