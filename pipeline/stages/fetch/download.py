"""One file to fetch: by ranges or whole, continued where it broke off, checked, renamed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline import storage
from pipeline.base.errors import DataError, StorageError
from pipeline.base.humanize import plural
from pipeline.base.redaction import is_signed, redact_url
from pipeline.base.text import whole_number
from pipeline.runtime.counters import READ, count
from pipeline.runtime.interrupt import STOP, check_stop
from pipeline.stages.fetch.partial import PartFile, State, remove
from pipeline.storage import Limits, Transfer, Web
from pipeline.storage.local.disk_space import refuse_without_room
from pipeline.storage.retry import FILE, retried

#: The first request also gives the size; the rest is then assigned to the connections in pieces.
_FIRST_BYTES = 4 << 20

_LEAST_PIECE, _MOST_PIECE = 8 << 20, 256 << 20

_CHUNK = 4 << 20

_PART = 8 << 20


class _Changed(Exception):  # noqa: N818 - a reason to begin anew
    """The file on the server is another one than that of which a part is here, as far as anybody knows."""

    def __str__(self) -> str:
        return "changes while it is fetched; try again later"


class _Whole(_Changed):
    """The connection broke, and the server gives a file only from its start."""

    def __str__(self) -> str:
        return (
            "the connection broke, and the server gives no parts of files (no Range) to go on with; run again, or name "
            "another mirror with fetch.mirror"
        )


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
    """Brings one file here. `run` may be called again after any end whatever, also of the process."""

    def __init__(self, wanted: Wanted, limits: Limits) -> None:
        self.wanted, self.limits = wanted, limits
        self.part = PartFile(wanted.path)
        self.moved = 0
        self.warnings: list[str] = []

    def there(self) -> bool:
        """Whether the file is there: only a whole and checked one ever is."""
        try:
            found = os.stat(self.wanted.path).st_size
        except OSError:
            return False
        if self.wanted.size is not None and found != self.wanted.size:
            raise DataError(
                f"{self.wanted.path}: has {plural(found, 'byte')}, and {self.wanted.shown} should have "
                f"{self.wanted.size:,}; move it away, or correct fetch.archives"
            )
        return True

    def run(self, started: Started) -> None:
        """Fetch, check, rename. Raises `StorageError`, `DataError` and, when stopped, `Interrupted`.

        `started(size, here)` gets the sizes in bytes as soon as they are known, and gives what counts on.
        """
        self.started = started
        if is_signed(self.wanted.url):
            storage.refuse_plain(self.wanted.url, self.wanted.shown)
        folder, name = os.path.split(self.wanted.path)
        with storage.locate_writable(folder).lock(f"{name}.part.lock", f"the download {self.wanted.path}") as ours:
            try:
                ours()
                self._clear(folder, name)
                if not self.there():  # another run may just have brought it
                    self._run()
            finally:
                remove(f"{self.part.path}.lock")

    @staticmethod
    def _clear(folder: str, name: str) -> None:
        """Delete notes that killed runs had under way: nobody else is at work on this file."""
        location = storage.locate_writable(folder)
        names = location.flat_names("")
        location.delete_many([one for one in names if one.startswith(f"{name}.part.json.") and one.endswith(".tmp")])

    def _run(self) -> None:
        try:
            if not self._is_here_already():
                self._get_whole()
            self.part.finish()
        except FileNotFoundError:
            raise StorageError(
                f"{self.wanted.shown}: what came of it, {self.part.path}, was removed meanwhile; run again"
            ) from None

    def _is_here_already(self) -> bool:
        """Whether all came in an earlier run, which may have been given a wrong digest to check it by."""
        state = self.part.recall(self._is_of)
        if state is None or not state.complete:
            return False
        try:
            self._check(state)
        except (DataError, StorageError, _Changed):
            self.part.set_aside()
            return False
        return True

    def _get_whole(self) -> None:
        """Fetch and check it."""
        in_parts = True

        def get() -> None:
            nonlocal in_parts
            try:
                self._check(self._get(in_parts=in_parts))
            except _Changed:
                in_parts = False
                self.part.set_aside()
                raise

        try:
            retried(get, FILE, lambda error: isinstance(error, _Changed), lambda: self.wanted.shown)
        except _Changed as why:
            raise StorageError(f"{self.wanted.shown}: {why}") from None

    def _get(self, *, in_parts: bool) -> State:
        state = self.part.recall(self._is_of) or State(self.wanted.shown)
        kind = _FromWeb if self.wanted.url.startswith(storage.WEB_SCHEMES) else _FromStore
        bringing = kind(self.wanted, self.limits, self.part, self.started)
        fd = self.part.open()
        try:
            bringing.bring(fd, state, in_parts=in_parts)
            os.ftruncate(fd, state.size or 0)
        finally:
            self.part.close(fd, state)
            self.moved += bringing.moved
            self.warnings += bringing.warnings
        return state

    def _is_of(self, state: State) -> bool:
        """Whether what is here is of the wanted file: of its size, and of its URL unless the digest decides."""
        if self.wanted.size not in (None, state.size):
            return False
        return state.url == self.wanted.shown or (self.wanted.has_digest and self.wanted.size is not None)

    def _check(self, state: State) -> None:
        """Digest and, of an archive, its directory. What does not pass stays: the digest may be wrong."""
        for name in ("sha256", "md5"):
            expected = getattr(self.wanted, name)
            if expected and (found := _digest(self.part.path, name)) != expected.lower():
                if state.mixed:  # of parts of two files
                    raise _Changed
                raise DataError(
                    f"{self.wanted.shown}: its {name} is {found} and not {expected} as fetch.archives "
                    "says: it is damaged, or another file; run again to get it anew, or correct the digest"
                )
        if self.wanted.path.lower().endswith(".zip"):
            storage.check_zip(self.part.path, self.wanted.shown)


class _Transport:
    """What brings a file here, from wherever it is: `bring` writes to what came so far, and knows its progress."""

    def __init__(self, wanted: Wanted, limits: Limits, part: PartFile, started: Started) -> None:
        self.wanted, self.limits, self.part, self.started = wanted, limits, part, started
        self.moved = 0
        self.warnings: list[str] = []

    def bring(self, fd: int, state: State, *, in_parts: bool) -> None:
        """Fetch what is lacking; not `in_parts`, all comes by one answer, of which one server makes all."""
        raise NotImplementedError

    def _expect(self, state: State) -> None:
        wanted = self.wanted
        if wanted.size is not None and state.size is not None and state.size != wanted.size:
            raise DataError(
                f"{wanted.shown}: has {plural(state.size, 'byte')} and not {wanted.size:,} as fetch.archives "
                "says; correct that, or the URL"
            )

    def _put(self, fd: int, offset: int, pieces: Sequence[bytes]) -> int:
        behind = self.part.put(fd, offset, pieces)
        self._count(behind - offset)
        return behind

    def _begin(self, state: State) -> None:
        """The size is known: say so, and see that there is room."""
        refuse_without_room(self.part.path, (state.size or 0) - state.here)
        self._count = self.started(state.size, state.here)


class _FromWeb(_Transport):
    """From a web server."""

    def bring(self, fd: int, state: State, *, in_parts: bool) -> None:
        """See `_Transport.bring`."""
        web = Web(self.limits)
        try:
            if state.size is None:
                self._first(web, fd, state, in_parts=in_parts)
            else:
                self._begin(state)
            if not state.complete:
                self._rest(web, fd, state)
        finally:
            self.moved += web.received
            if state.here:
                self.part.note(fd, state)

    def _first(self, web: Web, fd: int, state: State, *, in_parts: bool) -> None:
        """The first bytes, which show size and state; or the whole file, from a server without ranges."""

        def sink(offset: int, pieces: Sequence[bytes]) -> None:
            if offset == 0 and state.ranges:
                raise _Whole  # it broke, and comes from the start again
            if offset == 0:
                self._refuse_other(first.headers, b"".join(pieces[:2]))
            if not state.ranges:
                self._learn(first, state)
            elif not self._is_same(state, first.headers):  # it broke, and goes on with another file
                raise _Changed
            if self.wanted.size is not None and offset + sum(map(len, pieces)) > self.wanted.size:
                raise DataError(
                    f"{self.wanted.shown}: has more than the {plural(self.wanted.size, 'byte')} that "
                    "fetch.archives says; correct that, or the URL"
                )
            state.ranges[0][1] = self._put(fd, offset, pieces)

        first = Transfer(self.wanted.url, 0, _FIRST_BYTES if in_parts else None, sink=sink, whole_too=True)
        for transfer in web.run([first]):
            if transfer.reason and transfer.status == 200 and state.ranges:  # no ranges here: from the start again
                raise _Whole
            if transfer.reason:
                raise storage.lost(transfer)
        if not state.ranges:  # not a byte came
            self._learn(first, state)
        if first.status == 200:
            self._end_of(first, state)

    def _end_of(self, first: Transfer, state: State) -> None:
        """The file came by one answer: where its server gave no size, it is what came, if that is what is wanted."""
        unsized = state.size is None
        state.size = first.at
        state.ranges = [[0, first.at, first.at]]
        if self.wanted.size is not None and first.at < self.wanted.size:
            raise _Whole
        self._expect(state)
        if unsized and self.wanted.size is None and not self.wanted.has_digest:
            self.warnings.append(
                f"{self.wanted.shown}: the server does not report its size, so {plural(first.at, 'byte')} may "
                "not be all of it; set size or sha256 in fetch.archives"
            )

    def _refuse_other(self, headers: dict[str, str], head: bytes) -> None:
        """Raise `StorageError` where the server sends the gzip of the file, or a web page, as for a login, instead.

        What is called NAME.gz, or NAME.tgz, is a gzip, though servers that go by names call it a compressed NAME.
        """
        name = self.wanted.path.lower()
        if storage.is_packed(head, headers.get("content-encoding")) and not name.endswith("gz"):
            raise StorageError(
                f"{self.wanted.shown}: the server sends the file compressed (Content-Encoding: gzip), though it was "
                f"not asked to; get it to {self.wanted.path} with `curl --compressed`, or name another mirror with "
                "fetch.mirror"
            )
        if name.endswith((".html", ".htm")):
            return
        if headers.get("content-type", "").lower().startswith("text/html") or storage.is_page(head):
            raise StorageError(
                f"{self.wanted.shown}: the server sends a web page, perhaps a login, and not the file; "
                "get it with a browser, or name another mirror with fetch.mirror"
            )

    def _learn(self, first: Transfer, state: State) -> None:
        headers = first.headers
        if first.status == 206:
            state.size = storage.parse_range(headers.get("content-range", ""))[2]
            if state.size is None:
                raise StorageError(f"{self.wanted.shown}: the server does not report the size of the file")
        else:
            state.size = whole_number(headers.get("content-length", ""))
        state.etag, state.modified = headers.get("etag"), headers.get("last-modified")
        self._expect(state)
        self._begin(state)
        room = state.size or 0
        stop = min(_FIRST_BYTES, room) if first.status == 206 else room or 1 << 62
        state.ranges = [[0, 0, stop]]
        if first.status == 206 and room > stop:
            pieces = 4 * self.limits.connections
            step = min(max((room - stop) // pieces + 1, _LEAST_PIECE), _MOST_PIECE)
            state.ranges += [[at, at, min(at + step, room)] for at in range(stop, room, step)]

    def _is_same(self, state: State, headers: dict[str, str]) -> bool:
        """Whether an answer with these `headers` is about the file of which parts are here.

        Machines of one mirror may give the same bytes different ETags: size and digest decide or, without a digest, the
        time of the last change does.
        """
        size = storage.parse_range(headers.get("content-range", ""))[2]
        if size not in (None, state.size):
            return False
        etag, modified = headers.get("etag"), headers.get("last-modified")
        if (etag and etag == state.etag) or (modified and modified == state.modified):
            return True
        differs = bool((etag and state.etag) or (modified and state.modified))
        state.mixed |= differs
        return self.wanted.has_digest or not differs

    def _rest(self, web: Web, fd: int, state: State) -> None:
        transfers = (self._range(fd, state, one) for one in [r for r in state.ranges if r[1] < r[2]])
        for transfer in web.run(transfers, poll=lambda: self.part.note_at_times(fd, state)):
            if transfer.status in (200, 416) or (transfer.status == 206 and not self._is_same(state, transfer.headers)):
                raise _Changed
            if transfer.reason:
                raise storage.lost(transfer)

    def _range(self, fd: int, state: State, one: list[int]) -> Transfer:
        """What brings the range `one`; nothing of an answer about another file is written."""

        def sink(offset: int, pieces: Sequence[bytes]) -> None:
            if not self._is_same(state, transfer.headers):
                raise _Changed
            one[1] = self._put(fd, offset, pieces)

        transfer = Transfer(self.wanted.url, one[1], one[2], sink=sink)
        return transfer


class _FromStore(_Transport):
    """From a folder, a share, a store."""

    def bring(self, fd: int, state: State, *, in_parts: bool) -> None:
        """See `_Transport.bring`; a store has one answer for everybody."""
        del in_parts
        folder, _, name = self.wanted.url.rpartition("/")
        location = storage.locate(folder or "/")
        found = location.fingerprints([name])[0]
        if found is None or found.size is None:
            raise StorageError(f"{self.wanted.shown}: is not there; check the URL, or fetch.mirror")
        if state.size is None:
            state.size, state.etag = found.size, found.mark.hex()
            state.ranges = [[at, at, min(at + _PART, found.size)] for at in range(0, found.size, _PART)]
            self._expect(state)
        elif not self._is_still(found, state):
            raise _Changed
        self._begin(state)
        try:
            self._parts(fd, state, location, name)
        finally:
            self.part.note(fd, state)
        after = location.fingerprints([name])[0]
        if not self._is_still(after, state):
            raise _Changed

    def _is_still(self, found: storage.Fingerprint | None, state: State) -> bool:
        """Whether what is `found` in a store is the file of which parts are here."""
        if found is None or found.size != state.size:
            return False
        state.mixed |= found.mark.hex() != state.etag
        return self.wanted.has_digest or not state.mixed

    def _parts(self, fd: int, state: State, location: storage.Location, name: str) -> None:
        lacking = [r for r in state.ranges if r[1] < r[2]]
        began = time.monotonic()
        bytes_a_second, parts_a_second = self.limits.bytes_per_second, self.limits.requests_per_second
        parts = location.read_parts(name, [(at, stop) for _, at, stop in lacking], self.limits.connections)
        for number, (i, data) in enumerate(parts, 1):
            self._put(fd, lacking[i][1], [data])
            lacking[i][1] = lacking[i][2]
            self.moved += len(data)
            self.part.note_at_times(fd, state)
            due = max(
                self.moved / bytes_a_second if bytes_a_second else 0.0,
                number / parts_a_second if parts_a_second else 0.0,
            )
            if due:
                STOP.wait(began + due - time.monotonic())
                check_stop()


def _digest(path: str, name: str) -> str:
    digest = hashlib.new(name, usedforsecurity=False)
    with open(path, "rb", buffering=0) as file:
        while data := file.read(_CHUNK):
            check_stop()
            count(READ, len(data))
            digest.update(data)
    return digest.hexdigest()
