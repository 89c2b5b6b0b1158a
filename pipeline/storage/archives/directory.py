"""The directory of a zip archive as a table, read with NumPy: which members are fit to be read, and why others are not.

The layout is that of PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.12 (central directory header), 4.3.14-16 (its end) and
4.5.3 (zip64 sizes). An archive is somebody else's: whatever in it could lead out of a folder, hide a bomb or be read in
two ways is refused here, before a byte of it is unpacked.

It is read here and not by `zipfile` because that makes a Python object of each member and opens each by itself: 20,000
deflated label files take 0.12 s of processor time, with `zipfile` 0.39 s (2026-11-28, CPython 3.11, two cores), and an
archive that is on a server is read by the same code.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zlib_ng import zlib_ng

from pipeline.base.errors import StorageError
from pipeline.base.humanize import plural

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pipeline.base.arrays import Ints

#: Bytes at the end of an archive that surely hold the end of its directory: the longest comment and its neighbours.
TAIL_BYTES = 22 + 0xFFFF + 20 + 56

#: Columns of `Members.numbers`. `room` is how many bytes there are from the member's header to whatever follows it.
SIZE, PACKED, CRC, OFFSET, ROOM, METHOD = range(6)

STORED, DEFLATED = 0, 8

#: Bytes of a member's header before its name.
HEADER_BYTES = 30

_ENTRY_BYTES = 46

_LENGTHS = struct.Struct("<2H")

_MEMBER, _MARK = b"PK\x03\x04", b"PK\x01\x02"

_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"

#: Kinds of extra fields: sizes of 64 bits, and Info-ZIP's name in UTF-8 beside one in the code page of its machine.
_ZIP64, _UNICODE_PATH = b"\x01\x00", b"\x75\x70"

_BIG = 0xFFFFFFFF

#: A directory that is larger would take more memory than a bucket does: some three million members of common names.
_MOST_BYTES, _MOST_MEMBERS = 256 << 20, 4_000_000

_MAX_RATIO = 1032  # of deflate: 258 bytes for two bits

_ENTRY = [
    ("mark", "S4"), ("made", "<u2"), ("needs", "<u2"), ("flags", "<u2"), ("method", "<u2"), ("time", "<u4"),
    ("crc", "<u4"), ("packed", "<u4"), ("size", "<u4"), ("name", "<u2"), ("extra", "<u2"), ("comment", "<u2"),
    ("disk", "<u2"), ("internal", "<u2"), ("external", "<u4"), ("offset", "<u4"),
]  # fmt: skip

_ENCRYPTED, _UTF8 = 0x1, 0x800

_UNIX, _FILE_TYPE, _LINK = 3, 0o170000, 0o120000

#: In the names of files: bytes that take a closer check, and steps of a path that do.
_CHECKED_BYTES = bytes([*range(1, 0x20), *range(0x7F, 0x100), *b"\\:"])
_CHECKED_STEPS = (b"//", b"/./", b"/../")

_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]|^[A-Za-z]:|(?:^|/)\.{0,2}(?:/|$)")


@dataclass(frozen=True)
class Members:
    """Files of an archive that can be read, in its order: names joined by NUL (UTF-8), and six int64 each.

    These are size and packed size (bytes), CRC-32, offset of the member's header, `ROOM` and method. `unusable` are the
    other names, each with the reason."""

    names: bytes
    numbers: Ints
    unusable: list[tuple[str, str]]


@dataclass(frozen=True)
class Directory:
    """Where the directory of an archive is: `offset` and `size` in bytes, how many `entries` it says that it has.

    `shift` is added to every offset in it: archives with something before them count from their own beginning.
    """

    offset: int
    size: int
    entries: int
    shift: int


def find_directory(size: int, read: Callable[[int, int], bytes], name: str) -> Directory:
    """Find the directory of an archive of `size` bytes by `read(offset, count)`; `name` is for messages.

    Raises `StorageError` where no directory can be trusted.
    """
    start = max(0, size - TAIL_BYTES)
    tail = read(start, size - start)
    at = _end_in(tail)
    if at < 0:
        kind = _kind_of(read(0, min(size, 512)))
        raise StorageError(f"{name}: is {kind or 'no zip archive, or its end is missing; get it again'}")
    disk, _, here, entries, length, offset, _ = struct.unpack_from("<4H2LH", tail, at + 4)
    end = start + at
    locator = at - 20
    if locator >= 0 and tail.startswith(_LOCATOR64, locator):
        (where,) = struct.unpack_from("<Q", tail, locator + 8)
        record = read(where, 56) if where + 56 <= size else b""
        if not record.startswith(_END64):  # something comes before the archive: the record is where it always is
            where = start + locator - 56
            record = tail[locator - 56 : locator] if locator >= 56 else b""
        if not record.startswith(_END64):
            raise StorageError(f"{name}: its zip64 directory cannot be found; get it again")
        disk, _, here, entries, length, offset = struct.unpack_from("<2L4Q", record, 16)
        end = where
    if disk != 0 or here != entries:
        raise StorageError(f"{name}: is one of several parts of an archive; join them with `zip -s 0`")
    _limit(length, entries, name)
    shift = end - length - offset
    if shift < 0 or length > end:
        raise StorageError(f"{name}: its directory is outside of it: it was cut, or changed; get it again")
    if shift and not shift % (_BIG + 1):  # offsets of 32 bits, which began anew; also those of members, and sizes may
        raise StorageError(f"{name}: is larger than 4 GiB and has no zip64 directory, as macOS packs; use `zip -r`")
    if shift and read(0, 4) == _MEMBER:
        raise StorageError(f"{name}: its end is missing, and an archive that is in it was found instead; get it again")
    return Directory(offset + shift, length, entries, shift)


def _end_in(tail: bytes) -> int:
    """Where the end record is in the last bytes of an archive, negative without one.

    A comment may hold the bytes of another: the record's own comment reaches the end of the file. Where none does, as
    with bytes that came after the archive, the last record is taken.
    """
    last = at = tail.rfind(_END, 0, max(len(tail) - 18, 0))
    while at >= 0 and at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") != len(tail):
        at = tail.rfind(_END, 0, at)
    return at if at >= 0 else last


def _limit(length: int, entries: int, name: str) -> None:
    """Raise `StorageError` where the directory of an archive is larger than memory is to hold."""
    if length > _MOST_BYTES or entries > _MOST_MEMBERS:
        raise StorageError(
            f"{name}: its directory says that it has {plural(length, 'byte')} and {plural(entries, 'member')}; at most "
            f"{_MOST_BYTES >> 20} MiB and {_MOST_MEMBERS:,} are read: unpack it, or cut it into smaller "
            "archives"
        )


def is_page(head: bytes | bytearray) -> bool:
    """Whether a file that begins with `head` is a web page: that is how logins and refusals come."""
    text = head[:2048].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not text.startswith(b"<"):
        return False
    text = text.lower()
    return text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or (
        text.startswith((b"<?xml", b"<!--")) and b"<html" in text
    )


def _kind_of(head: bytes) -> str:
    """What a file is that is no zip archive, by its first bytes, with the cure; empty where nobody knows."""
    if is_page(head):
        return "a web page, perhaps a login, and no archive; get the archive with a browser, or another URL"
    kinds = (
        (b"version https://git-lfs", "a pointer of Git LFS and not the archive; run `git lfs pull`"),
        (b"\x1f\x8b", "compressed by gzip and no zip archive; unpack it"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive and no zip; unpack it"),
        (b"Rar!", "a RAR archive and no zip; unpack it"),
        (b"\xfd7zXZ", "compressed by xz and no zip; unpack it"),
        (b"<?xml", "an XML document, perhaps the refusal of a server, and no archive; get it again"),
        (b"{", "a JSON document, perhaps the refusal of a server, and no archive; get it again"),
    )
    return next((kind for mark, kind in kinds if head.startswith(mark)), "")


def parse_directory(data: bytes, where: Directory, name: str) -> Members:
    """Make a table of the directory's bytes `data`; raises `StorageError` where the archive as a whole is not sound."""
    import numpy as np

    starts, entries = _entries(data, name)
    # Zip32 archives with more members than their end can count say the count modulo 65,536.
    if len(starts) != where.entries and (where.entries > 0xFFFF or len(starts) % 0x10000 != where.entries):
        raise StorageError(
            f"{name}: its directory has {plural(len(starts), 'member')} and not {where.entries:,} as it "
            "says; get it again"
        )
    numbers = np.empty((len(starts), 6), np.int64)
    for column, field in ((SIZE, "size"), (PACKED, "packed"), (CRC, "crc"), (OFFSET, "offset"), (METHOD, "method")):
        numbers[:, column] = entries[field]
    big = (entries["size"] == _BIG) | (entries["packed"] == _BIG) | (entries["offset"] == _BIG)
    for i in np.flatnonzero(big).tolist():
        _widen(data, int(starts[i]), entries[i], numbers[i], name)
    numbers[:, OFFSET] += where.shift
    _no_overlap(numbers, entries["name"], where, name)
    return _fit(data, starts, entries, numbers)


def _entries(data: bytes, name: str) -> tuple[Ints, npt.NDArray[np.void]]:
    """The offset of each entry, and the entries. Where the marks found all fit together, no loop is needed."""
    import numpy as np

    octets = np.frombuffer(data, np.uint8)
    found = np.flatnonzero(octets[: -_ENTRY_BYTES + 1] == _MARK[0]) if len(data) >= _ENTRY_BYTES else np.zeros(0, int)
    for i in (1, 2, 3):
        found = found[octets[found + i] == _MARK[i]]
    starts = found.astype(np.int64)
    if len(starts):
        entries = _entries_at(data, starts)
        ends = _ends(entries, starts)
        if starts[0] == 0 and (ends[:-1] == starts[1:]).all() and ends[-1] == len(data):
            return starts, entries
    followed, at = [], 0  # a name or comment holds the mark too, or the directory is damaged: go from one to the next
    while at < len(data):
        if not data.startswith(_MARK, at) or at + _ENTRY_BYTES > len(data):
            raise StorageError(f"{name}: its directory is damaged at byte {at:,}; get it again")
        followed.append(at)
        at += _ENTRY_BYTES + sum(struct.unpack_from("<3H", data, at + 28))
    if at != len(data):
        raise StorageError(f"{name}: its directory is cut; get it again")
    starts = np.array(followed, np.int64)
    return starts, _entries_at(data, starts)


def _entries_at(data: bytes, starts: Ints) -> npt.NDArray[np.void]:
    """The fixed parts of the entries that begin at `starts`."""
    import numpy as np

    fixed = np.dtype(_ENTRY)
    anywhere = np.ndarray((max(len(data) - fixed.itemsize + 1, 0),), fixed, data, strides=(1,))
    entries: npt.NDArray[np.void] = anywhere[starts]
    return entries


def _ends(entries: npt.NDArray[np.void], starts: Ints) -> Ints:
    import numpy as np

    lengths = sum(entries[field].astype(np.int64) for field in ("name", "extra", "comment"))
    return np.asarray(starts + _ENTRY_BYTES + lengths, np.int64)


def _extra_fields(data: bytes, at: int, stop: int) -> Iterator[tuple[bytes, bytes]]:
    """Kind (two bytes) and value of each extra field from `at` on, as far as it is before `stop`."""
    while at + 4 <= stop:
        end = at + 4 + int.from_bytes(data[at + 2 : at + 4], "little")
        yield data[at : at + 2], data[at + 4 : min(end, stop)]
        at = end


def _widen(data: bytes, start: int, entry: np.void, numbers: Ints, name: str) -> None:
    """Take those of size, packed size and offset that need 64 bits from the extra field."""
    at = start + _ENTRY_BYTES + int(entry["name"])
    for kind, value in _extra_fields(data, at, at + int(entry["extra"])):
        if kind == _ZIP64:
            wanted = [c for c in (SIZE, PACKED, OFFSET) if numbers[c] == _BIG]
            if 8 * len(wanted) > len(value):
                break
            values = struct.unpack_from(f"<{len(wanted)}Q", value)
            if max(values) >= 1 << 62:
                break
            numbers[wanted] = values
            return
    raise StorageError(f"{name}: the zip64 sizes of a member are damaged; get it again")


def _no_overlap(numbers: Ints, name_bytes: npt.NDArray[np.uint16], where: Directory, name: str) -> None:
    """Fill the column `ROOM`; members that share bytes are a bomb (David Fifield, 2019), or the archive was changed."""
    import numpy as np

    offsets = np.ascontiguousarray(numbers[:, OFFSET])
    if (offsets[1:] >= offsets[:-1]).all():
        numbers[:, ROOM] = np.diff(offsets, append=where.offset)
    else:
        order = np.argsort(offsets, kind="stable")
        numbers[order, ROOM] = np.diff(offsets[order], append=where.offset)
    needed = HEADER_BYTES + name_bytes.astype(np.int64) + numbers[:, PACKED]
    if (numbers[:, ROOM] < needed).any() or (numbers[:, OFFSET] < 0).any():
        raise StorageError(f"{name}: members overlap, as no honest archive's do: it is damaged, or made to do harm")


def _fit(data: bytes, starts: Ints, entries: npt.NDArray[np.void], numbers: Ints) -> Members:
    """Those members that are files and can be read, under their names; the others with a reason."""
    import numpy as np

    raw = _with_slashes(_names(data, starts, entries))
    unix = entries["made"] >> 8 == _UNIX
    link = unix & ((entries["external"] >> 16 & _FILE_TYPE) == _LINK)
    size, packed, method = numbers[:, SIZE], numbers[:, PACKED], numbers[:, METHOD]
    false = (method == STORED) & (size != packed)
    bomb = (method == DEFLATED) & (size > packed * _MAX_RATIO)
    reasons: dict[int, str] = {}
    for reason, marked in (
        ("bomb", false | bomb),
        ("method", (method != STORED) & (method != DEFLATED)),
        ("encrypted", entries["flags"] & _ENCRYPTED != 0),
        ("link", link),
    ):
        reasons |= dict.fromkeys(np.flatnonzero(marked).tolist(), reason)
    files, names, joined = list(range(len(raw))), raw, b"\0".join(raw)
    if b"/\0" in joined or joined.endswith(b"/"):
        files = [i for i, name in enumerate(raw) if name[-1:] != b"/"]
        names = [raw[i] for i in files]
        joined = b"\0".join(names)
    unusable: list[tuple[str, str]] = []
    if reasons or len(set(names)) != len(names) or joined.count(b"\0") != len(names) - 1 or _suspicious(joined):
        files, joined, unusable = _judge(files, names, entries["flags"], reasons)
    return Members(joined, np.ascontiguousarray(numbers[files]), unusable)


def _names(data: bytes, starts: Ints, entries: npt.NDArray[np.void]) -> list[bytes]:
    """The names of all members: in UTF-8 where an extra field has that of the very name (APPNOTE 4.6.9)."""
    begins = starts + _ENTRY_BYTES
    ends = begins + entries["name"]
    raw = [data[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)]
    if _UNICODE_PATH not in data:
        return raw
    for i, (at, length) in enumerate(zip(ends.tolist(), entries["extra"].tolist(), strict=True)):
        for kind, value in _extra_fields(data, at, at + length):
            if kind == _UNICODE_PATH and value[:1] == b"\1" and value[1:5] == zlib.crc32(raw[i]).to_bytes(4, "little"):
                raw[i] = value[5:] or raw[i]
    return raw


def _with_slashes(raw: list[bytes]) -> list[bytes]:
    """The names of an archive, with ``/`` for backslashes where none has a ``/`` and all are UTF-8.

    That is how PowerShell 5 and .NET before 4.6.1 write folders. In the codes of East Asia a backslash may be half of
    a letter. What leads out is judged as in any archive. Where all begin with ``./``, as bsdtar (``tar`` of macOS and
    Windows) packs a folder from within, it is left out.
    """
    if raw and all(name.startswith(b"./") for name in raw):
        return [name[2:] or name for name in raw]
    joined = b"\0".join(raw)
    if b"\\" not in joined or b"/" in joined or joined.count(b"\0") != len(raw) - 1:
        return raw
    try:
        joined.decode()
    except UnicodeDecodeError:
        return raw
    return joined.replace(b"\\", b"/").split(b"\0")


def _suspicious(joined: bytes) -> bool:
    """Whether one of the names, joined by NUL, takes a closer check: a regular expression takes nine times as long."""
    steps = b"/" + joined.replace(b"\0", b"/") + b"/"
    return len(joined.translate(None, _CHECKED_BYTES)) < len(joined) or any(step in steps for step in _CHECKED_STEPS)


def _judge(
    files: list[int], raw: list[bytes], flags: npt.NDArray[np.uint16], reasons: dict[int, str]
) -> tuple[list[int], bytes, list[tuple[str, str]]]:
    """Check each name: which `files` are good, their names joined, and the unusable ones."""
    decoded = [_decode(name, utf8=bool(flags[i] & _UTF8)) for i, name in zip(files, raw, strict=True)]
    count = Counter(name for name, _ in decoded)
    good: list[int] = []
    names: list[str] = []
    unusable: list[tuple[str, str]] = []
    for i, (name, valid) in zip(files, decoded, strict=True):
        reason = None
        if not valid:
            reason = "not_utf8"
        elif _UNSAFE.search(name):
            reason = "unsafe_name"
        elif count[name] > 1:
            reason = "twice"
        reason = reason or reasons.get(i)
        if reason is None:
            good.append(i)
            names.append(name)
        elif (name, reason) not in unusable[-1:]:
            unusable.append((name, reason))
    return good, "\0".join(names).encode(), unusable


def _decode(name: bytes, *, utf8: bool) -> tuple[str, bool]:
    """The text of a name, and whether it is what it says: many tools write UTF-8 without the flag, old ones cp437."""
    try:
        return name.decode(), True
    except UnicodeDecodeError:
        return (name.decode(errors="backslashreplace"), False) if utf8 else (name.decode("cp437"), True)


#: Why a member whose bytes are not what the directory says is not taken.
DAMAGED = "is damaged in the archive (wrong CRC-32 or length); get the archive again"


def lead_of(head: bytes) -> int:
    """Bytes of a member's header before its content; 0 where `head` is no such header."""
    if len(head) < HEADER_BYTES or not head.startswith(_MEMBER):
        return 0
    name, extra = _LENGTHS.unpack_from(head, 26)
    return int(HEADER_BYTES + name + extra)


def unpack(data: bytes | memoryview, entry: Sequence[int]) -> bytes | None:
    """The content of a member from its packed bytes: never more than its stated size, None where anything is wrong.

    zlib-ng's CRC-32 is five times as fast as zlib's, which would take a fifth of the time of a copy.
    """
    size = entry[SIZE]
    if len(data) != entry[PACKED]:
        return None
    if entry[METHOD] == STORED:
        content = bytes(data)
    else:
        inflate = zlib.decompressobj(-15)
        try:
            content = inflate.decompress(data, size + 1)
        except zlib.error:
            return None
        if not inflate.eof:
            return None
    return content if len(content) == size and zlib_ng.crc32(content) == entry[CRC] else None


def unpack_begin(data: bytes, entry: Sequence[int], count: int) -> bytes | None:
    """At most `count` bytes of a member's content, from its first packed bytes; None where these are not sound."""
    try:
        content = data if entry[METHOD] == STORED else zlib.decompressobj(-15).decompress(data, count)
    except zlib.error:
        return None
    return content[: min(count, entry[SIZE])]
