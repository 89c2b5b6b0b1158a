"""One file to fetch: by ranges or whole, continued where it broke off, checked, put in place. Part of `fetch`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipeline import storage
from pipeline.digest import digest_of
from pipeline.errors import DataError, StorageError
from pipeline.redaction import is_signed, redact_url
from pipeline.report import size as shown_size
from pipeline.stop import STOP, check_stop
from pipeline.storage import Limits, Transfer, Web

#: The first request also tells the size; what is left is then dealt to the connections in pieces.
_FIRST_BYTES = 4 << 20
_LEAST_PIECE, _MOST_PIECE = 8 << 20, 256 << 20
_NOTE_EVERY_S = 1.0
_TRIES = 3
_CHUNK = 4 << 20
_PART = 8 << 20


class _Changed(Exception):  # noqa: N818 - a reason to begin anew
    """The file on the server is another one than that of which a part is here, as far as anybody can tell."""


class _Whole(_Changed):
    """The connection broke, and the server gives a file only from its start."""


@dataclass
class _State:
    """What is known of a file under way: its size, what tells its state, and [start, next, stop] of its ranges.

    `etag` and `modified` are the server's; of a store `etag` is the mark of its fingerprint.
    """

    url: str
    size: int | None = None
    etag: str | None = None
    modified: str | None = None
    ranges: list[list[int]] = field(default_factory=list)

    @property
    def here(self) -> int:
        """Bytes that are here."""
        return sum(at - start for start, at, _ in self.ranges)

    @property
    def complete(self) -> bool:
        """Whether all bytes are here."""
        return self.size is not None and self.here == self.size


@dataclass(frozen=True)
class Wanted:
    """A file to fetch: from `url` to `path`, checked by what is known of it."""

    url: str
    path: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @property
    def shown(self) -> str:
        """The URL as it may be read by anybody."""
        return redact_url(self.url)

    @property
    def has_digest(self) -> bool:
        """Whether its content is known, so that it does not matter who says what of its state."""
        return bool(self.sha256 or self.md5)


Started = Callable[[int | None, int], Callable[[int], None]]


class Download:
    """Brings one file here. `run` may be called again after any end whatever, also of the process.

    What came is in ``NAME.part``, and what is known of it in ``NAME.part.json``. Where it turns out to be of no use it
    is set aside as ``NAME.part.old`` until its replacement is whole.
    """

    def __init__(self, wanted: Wanted, limits: Limits) -> None:
        self.wanted, self.limits = wanted, limits
        self.part, self.notes, self.old = (f"{wanted.path}.{end}" for end in ("part", "part.json", "part.old"))
        self.moved = 0
        self.warnings: list[str] = []

    def there(self) -> bool:
        """Whether the file is in place: only a whole and checked one ever is."""
        try:
            found = os.stat(self.wanted.path).st_size
        except OSError:
            return False
        if self.wanted.size is not None and found != self.wanted.size:
            raise DataError(f"{self.wanted.path}: has {found:,} bytes, and {self.wanted.shown} should have "
                            f"{self.wanted.size:,}; move it away, or correct fetch.archives")
        return True

    def run(self, started: Started) -> None:
        """Fetch, check, put in place. Raises `StorageError`, `DataError` and, when stopped, `Interrupted`.

        `started(size, here)` is told the sizes in bytes as soon as they are known, and gives what counts on.
        """
        self.started = started
        if is_signed(self.wanted.url):
            storage.refuse_plain(self.wanted.url, self.wanted.shown)
        folder, name = os.path.split(self.wanted.path)
        with storage.locate(folder).lock(f"{name}.part.lock", f"the download {self.wanted.path}") as ours:
            try:
                ours()
                if not self.there():  # another run may just have brought it
                    self._run()
            finally:
                _remove(f"{self.part}.lock")

    def _run(self) -> None:
        if not self._is_here_already():
            self._get_whole()
            self._check()
        with open(self.part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(self.part, self.wanted.path)
        _remove(self.notes)
        _remove(self.old)

    def _is_here_already(self) -> bool:
        """Whether all came in an earlier run, which may have been given a wrong digest to check it by."""
        state = self._recall()
        if not state.complete:
            return False
        try:
            self._check()
        except (DataError, StorageError):
            self._set_aside()
            return False
        return True

    def _get_whole(self) -> None:
        for attempt in range(_TRIES):
            try:
                self._get(in_parts=attempt == 0)
                return
            except _Changed as why:
                self._set_aside()
                if attempt == _TRIES - 1:
                    told = ("the connection broke, and the server gives no parts of files (no Range) to go on with; "
                            "run again, or name another mirror with fetch.mirror" if isinstance(why, _Whole)
                            else "changes while it is fetched; try again later")
                    raise StorageError(f"{self.wanted.shown}: {told}") from None

    def _get(self, *, in_parts: bool) -> None:
        """Fetch what is lacking; not `in_parts`, the file comes by one answer, of which one server makes all."""
        state = self._recall()
        fd = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if self.wanted.url.startswith(storage.WEB_SCHEMES):
                self._from_web(fd, state, in_parts=in_parts)
            else:
                self._from_store(fd, state)
            os.ftruncate(fd, state.size or 0)
        finally:
            os.close(fd)
            if not state.here and not state.complete:
                _remove(self.part)

    # What is here already

    def _recall(self) -> _State:
        """The state that an earlier run left, where it is of this file; what is of no use any more is set aside."""
        try:
            with open(self.notes, encoding="utf-8") as file:
                noted = json.load(file)
            if noted.pop("digest") == _digest_of_notes(noted) and os.path.exists(self.part):
                state = _State(**noted)
                if state.size is not None and self._is_of(state):
                    return state  # without a size there was no Range either, and nothing to go on with
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass
        self._set_aside()
        return _State(self.wanted.shown)

    def _is_of(self, state: _State) -> bool:
        """Whether what is here is of the wanted file: of its size, and of its URL unless the digest decides."""
        if self.wanted.size not in (None, state.size):
            return False
        return state.url == self.wanted.shown or (self.wanted.has_digest and self.wanted.size is not None)

    def _note(self, fd: int, state: _State) -> None:
        """Write down how far the ranges are: what is written down is on the disk, whatever happens then."""
        noted = {**vars(state), "ranges": [list(r) for r in state.ranges]}
        text = json.dumps({**noted, "digest": _digest_of_notes(noted)})
        os.fdatasync(fd)
        storage.replace_with(self.notes, lambda path: _write_text(path, text))

    def _set_aside(self) -> None:
        """Make room for another beginning: what came is deleted when its replacement is whole, and not before."""
        with contextlib.suppress(OSError):
            if os.stat(self.part).st_size:
                os.replace(self.part, self.old)
        _remove(self.notes)

    # From a web server

    def _from_web(self, fd: int, state: _State, *, in_parts: bool) -> None:
        web = Web(self.limits)
        try:
            if state.size is None:
                self._first(web, fd, state, in_parts=in_parts)
            else:
                self._expect(state)
                refuse_without_room(self.part, state.size - state.here)
                self._count = self.started(state.size, state.here)
            if not state.complete:
                self._rest(web, fd, state)
        finally:
            self.moved += web.received
            if state.here:
                self._note(fd, state)

    def _first(self, web: Web, fd: int, state: _State, *, in_parts: bool) -> None:
        """The first bytes, which tell size and state; or the whole file, from a server without ranges."""
        def sink(offset: int, data: bytes) -> None:
            if offset == 0:
                self._refuse_page(first.headers, data)
            if not state.ranges:
                self._learn(first, state)
            if self.wanted.size is not None and offset + len(data) > self.wanted.size:
                raise DataError(f"{self.wanted.shown}: has more than the {self.wanted.size:,} bytes that "
                                "fetch.archives says; correct that, or the URL")
            self._put(fd, offset, data)
            state.ranges[0][1] = offset + len(data)

        first = Transfer(self.wanted.url, 0, _FIRST_BYTES if in_parts else None, sink=sink, whole_too=True)
        for transfer in web.run([first]):
            if transfer.reason and transfer.status == 200 and state.ranges:  # no ranges here: from the start again
                raise _Whole
            if transfer.reason:
                raise StorageError(transfer.reason)
        if not state.ranges:  # not a byte came
            self._learn(first, state)
        if first.status == 200:
            self._end_of(first, state)

    def _end_of(self, first: Transfer, state: _State) -> None:
        """The file came by one answer: where its server told no size, it is what came, if that is what is wanted."""
        unsized = state.size is None
        state.size = first.at
        state.ranges = [[0, first.at, first.at]]
        if self.wanted.size is not None and first.at < self.wanted.size:
            raise _Whole
        self._expect(state)
        if unsized and self.wanted.size is None and not self.wanted.has_digest:
            self.warnings.append(f"{self.wanted.shown}: the server does not tell its size, so {first.at:,} bytes may "
                                 "not be all of it; set size or sha256 in fetch.archives")

    def _refuse_page(self, headers: dict[str, str], data: bytes) -> None:
        """Raise `StorageError` where the server sends a web page, as for a login, in the place of the file."""
        if self.wanted.path.lower().endswith((".html", ".htm")):
            return
        if headers.get("content-type", "").lower().startswith("text/html") or storage.is_page(data):
            raise StorageError(f"{self.wanted.shown}: the server sends a web page, perhaps a login, and not the file; "
                               "get it with a browser, or name another mirror with fetch.mirror")

    def _learn(self, first: Transfer, state: _State) -> None:
        headers = first.headers
        if first.status == 206:
            state.size = storage.parse_range(headers.get("content-range", ""))[2]
            if state.size is None:
                raise StorageError(f"{self.wanted.shown}: the server does not tell the size of the file")
        else:
            length = headers.get("content-length", "")
            state.size = int(length) if length.isdecimal() else None
        state.etag, state.modified = headers.get("etag"), headers.get("last-modified")
        self._expect(state)
        room = state.size or 0
        refuse_without_room(self.part, room)
        self._count = self.started(state.size, 0)
        stop = min(_FIRST_BYTES, room) if first.status == 206 else room or 1 << 62
        state.ranges = [[0, 0, stop]]
        if first.status == 206 and room > stop:
            pieces = 4 * self.limits.connections
            step = min(max((room - stop) // pieces + 1, _LEAST_PIECE), _MOST_PIECE)
            state.ranges += [[at, at, min(at + step, room)] for at in range(stop, room, step)]

    def _expect(self, state: _State) -> None:
        wanted = self.wanted
        if wanted.size is not None and state.size is not None and state.size != wanted.size:
            raise DataError(f"{wanted.shown}: has {state.size:,} bytes and not {wanted.size:,} as fetch.archives "
                            "says; correct that, or the URL")

    def _is_same(self, state: _State, headers: dict[str, str]) -> bool:
        """Whether an answer with these `headers` is about the file of which parts are here.

        Machines of one mirror may give the same bytes different ETags: size and digest decide or, without a digest, the
        time of the last change does.
        """
        size = storage.parse_range(headers.get("content-range", ""))[2]
        if size not in (None, state.size):
            return False
        etag, modified = headers.get("etag"), headers.get("last-modified")
        if self.wanted.has_digest or (etag and etag == state.etag) or (modified and modified == state.modified):
            return True
        return not (etag and state.etag) and not (modified and state.modified)

    def _rest(self, web: Web, fd: int, state: _State) -> None:
        noted = time.monotonic()

        def poll() -> None:
            nonlocal noted
            if time.monotonic() - noted >= _NOTE_EVERY_S:
                self._note(fd, state)
                noted = time.monotonic()

        transfers = (self._range(fd, state, one) for one in [r for r in state.ranges if r[1] < r[2]])
        for transfer in web.run(transfers, poll=poll):
            if transfer.status in (200, 416) or (transfer.status == 206 and not self._is_same(state, transfer.headers)):
                raise _Changed
            if transfer.reason:
                raise StorageError(transfer.reason)

    def _range(self, fd: int, state: _State, one: list[int]) -> Transfer:
        """What brings the range `one`; nothing of an answer about another file is written."""
        def sink(offset: int, data: bytes) -> None:
            if not self._is_same(state, transfer.headers):
                raise _Changed
            self._put(fd, offset, data)
            one[1] = offset + len(data)

        transfer = Transfer(self.wanted.url, one[1], one[2], sink=sink)
        return transfer

    def _put(self, fd: int, offset: int, data: bytes) -> None:
        try:
            done = os.pwrite(fd, data, offset)
            while done < len(data):
                done += os.pwrite(fd, memoryview(data)[done:], offset + done)
        except OSError as error:
            raise storage.storage_error(error, self.part, "written") from None
        self._count(len(data))

    # From a folder, a share, a store

    def _from_store(self, fd: int, state: _State) -> None:
        folder, _, name = self.wanted.url.rpartition("/")
        place = storage.locate(folder or "/")
        found = place.fingerprints([name])[0]
        if found is None or found.size is None:
            raise StorageError(f"{self.wanted.shown}: is not there; check the URL, or fetch.mirror")
        if state.size is None:
            state.size, state.etag = found.size, found.mark.hex()
            state.ranges = [[at, at, min(at + _PART, found.size)] for at in range(0, found.size, _PART)]
            self._expect(state)
            refuse_without_room(self.part, found.size)
        elif not self._is_still(found, state):
            raise _Changed
        self._count = self.started(state.size, state.here)
        try:
            self._parts(fd, state, place, name)
        finally:
            self._note(fd, state)
        after = place.fingerprints([name])[0]
        if not self._is_still(after, state):
            raise _Changed

    def _is_still(self, found: storage.Fingerprint | None, state: _State) -> bool:
        """Whether what is `found` in a store is the file of which parts are here."""
        return found is not None and found.size == state.size and (
            self.wanted.has_digest or found.mark.hex() == state.etag)

    def _parts(self, fd: int, state: _State, place: storage.Location, name: str) -> None:
        lacking = [r for r in state.ranges if r[1] < r[2]]
        began = noted = time.monotonic()
        bytes_a_second, parts_a_second = self.limits.bytes_per_second, self.limits.requests_per_second
        parts = place.read_parts(name, [(at, stop) for _, at, stop in lacking], self.limits.connections)
        for count, (i, data) in enumerate(parts, 1):
            self._put(fd, lacking[i][1], data)
            lacking[i][1] = lacking[i][2]
            self.moved += len(data)
            if time.monotonic() - noted >= _NOTE_EVERY_S:
                self._note(fd, state)
                noted = time.monotonic()
            due = max(self.moved / bytes_a_second if bytes_a_second else 0.0,
                      count / parts_a_second if parts_a_second else 0.0)
            if due:
                STOP.wait(began + due - time.monotonic())
                check_stop()

    # Checks

    def _check(self) -> None:
        """Size, digest and, of an archive, its directory. What does not pass stays: the digest may be wrong."""
        for name in ("sha256", "md5"):
            expected = getattr(self.wanted, name)
            if expected and (found := _digest(self.part, name)) != expected.lower():
                raise DataError(f"{self.wanted.shown}: its {name} is {found} and not {expected} as fetch.archives "
                                "says: it is damaged, or another file; run again to get it anew, or correct the digest")
        if self.wanted.path.lower().endswith(".zip"):
            storage.check_zip(self.part)


def refuse_without_room(path: str, needed: int) -> None:
    """Raise `StorageError` where `needed` bytes more, for `path`, do not fit on its disk: before the first is there."""
    folder = os.path.dirname(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if needed > free:
        raise StorageError(f"{path}: takes {shown_size(needed)}, and its disk has {shown_size(free)} free; make room, "
                           "or set another folder")


def bytes_there(path: str) -> int:
    """Bytes of the file at `path`, or of what is there of it, that are on the disk."""
    for name in (path, f"{path}.part"):
        with contextlib.suppress(OSError):
            return os.stat(name).st_blocks * 512
    return 0


def _digest(path: str, name: str) -> str:
    digest = hashlib.new(name, usedforsecurity=False)
    with open(path, "rb", buffering=0) as file:
        while data := file.read(_CHUNK):
            check_stop()
            digest.update(data)
    return digest.hexdigest()


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _digest_of_notes(noted: dict[str, Any]) -> str:
    """What tells that notes were damaged."""
    return digest_of(json.dumps(noted, sort_keys=True).encode()).hex()


def _write_text(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)

