"""One file to fetch: by ranges or whole, continued where it broke off, checked, put in place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pipeline import storage
from pipeline.errors import DataError, StorageError
from pipeline.runtime.interrupt import STOP, check_stop
from pipeline.storage import Limits, Transfer, Web
from pipeline.storage.local.disk_space import refuse_without_room

#: The first request also tells the size; what is left is then dealt to the connections in pieces.
_FIRST_BYTES = 4 << 20

_LEAST_PIECE, _MOST_PIECE = 8 << 20, 256 << 20

_NOTE_EVERY_S = 1.0

_TRIES = 3

_CHUNK = 4 << 20

_PART = 8 << 20


class _Changed(Exception):  # noqa: N818 - a reason to begin anew
    """The file on the server is another one than that of which a part is here."""


class _Whole(_Changed):
    """The connection broke, and the server gives a file only from its start."""


@dataclass
class _State:
    """What is known of a file under way: its size, what tells its state, and [start, next, stop] of its ranges."""

    url: str
    size: int | None = None
    validator: str | None = None
    ranges: list[list[int]] = field(default_factory=list)

    @property
    def here(self) -> int:
        """Bytes that are here."""
        return sum(at - start for start, at, _ in self.ranges)


@dataclass(frozen=True)
class Wanted:
    """A file to fetch: from `url` to `path`, checked by what is known of it."""

    url: str
    path: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None


Started = Callable[[int | None, int], Callable[[int], None]]


class Download:
    """Brings one file here. `run` may be called again after any end whatever, also of the process."""

    def __init__(self, wanted: Wanted, limits: Limits) -> None:
        self.wanted, self.limits = wanted, limits
        self.part, self.notes = f"{wanted.path}.part", f"{wanted.path}.part.json"
        self.moved = 0

    def there(self) -> bool:
        """Whether the file is in place: only a whole and checked one ever is."""
        try:
            found = os.stat(self.wanted.path).st_size
        except OSError:
            return False
        if self.wanted.size is not None and found != self.wanted.size:
            raise DataError(
                f"{self.wanted.path}: has {found:,} bytes, and {shown(self.wanted.url)} should have "
                f"{self.wanted.size:,}; move it away, or correct fetch.archives"
            )
        return True

    def run(self, started: Started) -> None:
        """Fetch, check, put in place. Raises `StorageError`, `DataError` and, when stopped, `Interrupted`.

        `started(size, here)` is told the sizes in bytes as soon as they are known, and gives what counts on.
        """
        self.started = started
        folder, name = os.path.split(self.wanted.path)
        with storage.locate(folder).lock(f"{name}.part.lock", f"the download {self.wanted.path}") as ours:
            try:
                ours()
                if not self.there():  # another run may just have brought it
                    self._run()
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(f"{self.part}.lock")

    def _run(self) -> None:
        for attempt in range(_TRIES):
            try:
                self._get()
                break
            except _Changed as why:
                self._forget()
                if attempt == _TRIES - 1:
                    told = (
                        "the connection broke, and the server gives no parts of files (no Range) to go on with; "
                        "run again, or name another place with fetch.mirror"
                        if isinstance(why, _Whole)
                        else "changes while it is fetched; try again later"
                    )
                    raise StorageError(f"{shown(self.wanted.url)}: {told}") from None
        self._check()
        with open(self.part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(self.part, self.wanted.path)
        self._forget()

    def _get(self) -> None:
        state = self._recall()
        fd = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if self.wanted.url.startswith(storage.WEB_SCHEMES):
                self._from_web(fd, state)
            else:
                self._from_store(fd, state)
            os.ftruncate(fd, state.size or 0)
        finally:
            os.close(fd)

    # What is here already

    def _recall(self) -> _State:
        """The state that an earlier run left, where it is of this file."""
        try:
            with open(self.notes, encoding="utf-8") as file:
                state = _State(**json.load(file))
            if state.url == shown(self.wanted.url) and os.path.exists(self.part) and state.size is not None:
                return state  # without a size there was no Range either, and nothing to go on with
        except (OSError, ValueError, TypeError):
            pass
        self._forget()
        return _State(shown(self.wanted.url))

    def _note(self, fd: int, state: _State) -> None:
        """Write down how far the ranges are: what is written down is on the disk, whatever happens then."""
        noted = json.dumps(
            {
                "url": state.url,
                "size": state.size,
                "validator": state.validator,
                "ranges": [list(r) for r in state.ranges],
            }
        )
        os.fdatasync(fd)
        storage.replace_with(self.notes, lambda path: _write_text(path, noted))

    def _forget(self) -> None:
        for path in (self.part, self.notes):
            with contextlib.suppress(OSError):
                os.unlink(path)

    # From a web server

    def _from_web(self, fd: int, state: _State) -> None:
        web = Web(self.limits)
        try:
            if state.size is None:
                self._first(web, fd, state)
            else:
                self._expect(state)
                refuse_without_room(self.part, state.size - state.here)
                self._count = self.started(state.size, state.here)
            if state.here < (state.size or 0):
                self._rest(web, fd, state)
        finally:
            self.moved += web.received
            if state.here:
                self._note(fd, state)
            else:
                self._forget()

    def _first(self, web: Web, fd: int, state: _State) -> None:
        """The first bytes, which tell size and state; or the whole file, from a server without ranges."""

        def sink(offset: int, data: bytes) -> None:
            if not state.ranges:
                self._learn(first, state)
            self._put(fd, offset, data)
            state.ranges[0][1] = offset + len(data)

        first = Transfer(self.wanted.url, 0, _FIRST_BYTES, sink=sink, whole_too=True)
        for transfer in web.run([first]):
            if transfer.reason and transfer.status == 200 and state.ranges:  # no ranges here: from the start again
                raise _Whole
            if transfer.reason:
                raise StorageError(transfer.reason)
        if not state.ranges:  # not a byte came
            self._learn(first, state)
        if first.status == 200:  # where a server tells no size, it is what came
            state.size = first.at
            state.ranges = [[0, first.at, first.at]]

    def _learn(self, first: Transfer, state: _State) -> None:
        headers = first.headers
        if first.status == 206:
            state.size = storage.parse_range(headers.get("content-range", ""))[2]
            if state.size is None:
                raise StorageError(f"{shown(self.wanted.url)}: the server does not tell the size of the file")
        else:
            length = headers.get("content-length", "")
            state.size = int(length) if length.isdecimal() else None
        state.validator = storage.validator(headers)
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
            self._forget()
            raise DataError(
                f"{shown(wanted.url)}: has {state.size:,} bytes and not {wanted.size:,} as fetch.archives "
                "says; correct that, or the URL"
            )

    def _rest(self, web: Web, fd: int, state: _State) -> None:
        open_ranges = [r for r in state.ranges if r[1] < r[2]]
        weak = (state.validator or "").startswith("W/")  # not for an If-Range (RFC 9110, 13.1.5); answers have it, too

        def transfers() -> Iterator[Transfer]:
            for one in open_ranges:

                def sink(offset: int, data: bytes, one: list[int] = one) -> None:
                    self._put(fd, offset, data)
                    one[1] = offset + len(data)

                yield Transfer(self.wanted.url, one[1], one[2], sink=sink, validator=None if weak else state.validator)

        noted = time.monotonic()

        def poll() -> None:
            nonlocal noted
            if time.monotonic() - noted >= _NOTE_EVERY_S:
                self._note(fd, state)
                noted = time.monotonic()

        for transfer in web.run(transfers(), poll=poll):
            size = storage.parse_range(transfer.headers.get("content-range", ""))[2]
            told = storage.validator(transfer.headers)
            another = size not in (None, state.size) or (told and state.validator and told != state.validator)
            if transfer.status in (200, 416) or (transfer.status == 206 and another):
                raise _Changed
            if transfer.reason:
                raise StorageError(transfer.reason)

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
            raise StorageError(f"{shown(self.wanted.url)}: is not there; check the URL, or fetch.mirror")
        told = found.mark.hex()
        if state.size is None:
            state.size, state.validator = found.size, told
            state.ranges = [[at, at, min(at + _PART, found.size)] for at in range(0, found.size, _PART)]
            self._expect(state)
            refuse_without_room(self.part, found.size)
        elif (state.size, state.validator) != (found.size, told):
            raise _Changed
        self._count = self.started(state.size, state.here)
        try:
            self._parts(fd, state, place, name)
        finally:
            self._note(fd, state)
        after = place.fingerprints([name])[0]
        if after is None or (after.size, after.mark.hex()) != (state.size, told):
            raise _Changed

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
            due = max(
                self.moved / bytes_a_second if bytes_a_second else 0.0,
                count / parts_a_second if parts_a_second else 0.0,
            )
            if due:
                STOP.wait(began + due - time.monotonic())
                check_stop()

    # Checks

    def _check(self) -> None:
        """Size, digest and, of an archive, its directory."""
        try:
            for name in ("sha256", "md5"):
                expected = getattr(self.wanted, name)
                if expected and (found := _digest(self.part, name)) != expected.lower():
                    raise DataError(
                        f"{shown(self.wanted.url)}: its {name} is {found} and not {expected} as "
                        "fetch.archives says: it is damaged, or another file; run again to get it anew, or "
                        "correct the digest"
                    )
            if self.wanted.path.lower().endswith(".zip"):
                storage.check_zip(self.part)
        except (DataError, StorageError):
            self._forget()
            raise


def _digest(path: str, name: str) -> str:
    digest = hashlib.new(name, usedforsecurity=False)
    with open(path, "rb", buffering=0) as file:
        while data := file.read(_CHUNK):
            check_stop()
            digest.update(data)
    return digest.hexdigest()


def _write_text(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def shown(url: str) -> str:
    """A URL without what may be secret in it: a login, and everything after a question mark."""
    return storage.redact(url).split("?")[0]
