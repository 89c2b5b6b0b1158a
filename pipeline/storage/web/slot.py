"""Handles of libcurl: how one asks for a transfer, and what becomes of the bytes that come."""

from __future__ import annotations

import io
import os
import time
from typing import TYPE_CHECKING

from pipeline.base.redaction import redact_url
from pipeline.storage.certificates import certificates
from pipeline.storage.web.pace import Flow
from pipeline.storage.web.sinks import Sinks
from pipeline.storage.web.transfer import Transfer, misfit, note_header, note_headers, refuse_too_large, request_headers

if TYPE_CHECKING:
    from pipeline.storage.location import Limits

_CONNECT_S = 30

#: Bytes that a connection, and that all of them take at a time: libcurl reads up to ten times as much before it
#: returns. With a limit, all of them together take some tenths of a second's share.
_BUFFER, _BUFFERS, _LEAST_BUFFER, _SHARES = 512 * 1024, 4 << 20, 1024, 20

#: A body of more bytes is large: its memory is not used again for the next one.
LARGE = 1 << 20

#: From this version on libcurl itself ends an answer of unknown length that grows too large.
_ENDS_TOO_LARGE = 0x080400


class Session:
    """What all handles of one client have in common."""

    def __init__(self, limits: Limits) -> None:
        import pycurl

        self.limits, self.curl = limits, pycurl
        self.buffer = _buffer_size(limits)
        self.bundle = certificates().path
        self.flow = Flow(limits.bytes_per_second)
        #: Bytes that came of what was asked for.
        self.received = 0
        #: Of the batch that is under way.
        self.sinks = Sinks()


def _buffer_size(limits: Limits) -> int:
    most = min(_BUFFER, _BUFFERS // limits.connections)
    if not limits.bytes_per_second:
        return most
    return min(max(limits.bytes_per_second // (_SHARES * limits.connections), _LEAST_BUFFER), most)


class Slot:
    """A handle and the transfer that it carries out, whose pieces are checked and taken as they come.

    libcurl calls back for every 16 KB. No line of Python is run then: what came is looked at each time that libcurl
    returns.
    """

    def __init__(self, session: Session) -> None:
        self.session, self.curl, self.handle = session, session.curl, session.curl.Curl()
        self.transfer = Transfer("")
        self._came: list[bytes] = []

    def begin(self, transfer: Transfer) -> None:
        """Get ready to ask for `transfer`."""
        self.transfer = transfer
        transfer.begin()
        self._set_up(transfer.url, request_headers(transfer))
        self.handle.setopt(self.curl.HEADERFUNCTION, lambda line: note_header(transfer, line))
        self._came.clear()
        self.handle.setopt(self.curl.WRITEFUNCTION, self._came.append)
        self.handle.setopt(self.curl.URL, transfer.url)

    def drain(self) -> bool:
        """Check and take what came since the last time: whether the transfer may go on."""
        if not self._came:
            return True
        pieces = self._came[:]
        self._came.clear()
        return self._take(self.transfer, pieces, sum(map(len, pieces)))

    def end(self, code: int) -> int:
        """The transfer ended with this code of libcurl; the code that it counts as."""
        if self.transfer.sink is not None:
            self.session.sinks.settle()
        return code

    def give(self) -> None:
        """Somebody is given the transfer that ended: its body lasts until `release`, or longer where it is `kept`."""

    def release(self) -> None:
        """See `give`."""

    def _set_up(self, url: str, headers: list[str]) -> None:
        """Set what requests to the server of `url` have in common; nothing that another one was sent stays."""
        c, session = self.curl, self.session
        self.handle.reset()
        web = c.PROTO_HTTP | c.PROTO_HTTPS
        # A login is for its own host, which libcurl sees to; and nobody on the way may take the s off https.
        onward = c.PROTO_HTTPS if url.lower().startswith("https:") else web
        for option, value in (
            (c.HTTPHEADER, headers),
            (c.FOLLOWLOCATION, True),
            (c.MAXREDIRS, 10),
            (c.PROTOCOLS, web),
            (c.REDIR_PROTOCOLS, onward),
            (c.NOSIGNAL, True),
            (c.UNRESTRICTED_AUTH, False),
            (c.USERAGENT, "coco-diy"),
            (c.BUFFERSIZE, session.buffer),
            (c.CONNECTTIMEOUT, _CONNECT_S),
            (c.LOW_SPEED_LIMIT, 1),
            (c.LOW_SPEED_TIME, max(1, round(session.limits.timeout))),
        ):
            self.handle.setopt(option, value)
        self.handle.setopt(c.CAPATH if os.path.isdir(session.bundle) else c.CAINFO, session.bundle)

    def _take(self, transfer: Transfer, pieces: list[bytes], size: int) -> bool:
        """Take `pieces` of an answer, of `size` bytes; whether it may go on."""
        self.session.flow.came(size, time.monotonic())
        if not transfer.fits and (answer := misfit(transfer)) is not None:
            return answer
        if transfer.most is not None and transfer.at + size > transfer.start + transfer.most:
            return refuse_too_large(transfer)
        if transfer.stop is not None and transfer.status == 206 and transfer.at + size > transfer.stop:
            transfer.reason = f"{redact_url(transfer.url)}: the server sends more than was asked for; try again later"
            return False
        self.session.received += size
        if transfer.sink is None:
            transfer.gathered += b"".join(pieces)
        else:
            self.session.sinks.put(transfer.sink, transfer.at, pieces)
        transfer.at += size
        return True


class WholeSlot(Slot):
    """A handle for files that come whole into memory: small ones, whose cost is that of each call.

    libcurl calls back for every line of the headers, too, twenty times for an image of 150 KB. Here no line of Python
    is run then: the bytes go to memory that is used again, the lines to a list, and both are judged when all came.
    Options are set once for a server. With the file written by the same thread, an image costs 0.55 of the processor
    time that it takes with `Slot` and a thread that hands it on (2026-11-29, without start-up).
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._lines: list[bytes] = []
        self._memory = io.BytesIO()
        self._ready: tuple[object, ...] = ()

    def begin(self, transfer: Transfer) -> None:
        """See `Slot.begin`."""
        self.transfer = transfer
        transfer.begin()
        transfer.at = transfer.start
        self._lines.clear()
        self._memory.seek(0)
        ready = (*transfer.url.split("/", 3)[:3], transfer.most)
        if ready != self._ready:
            self._set_up(transfer.url, request_headers(transfer))
            self.handle.setopt(self.curl.MAXFILESIZE_LARGE, transfer.most or 0)
            self.handle.setopt(self.curl.HEADERFUNCTION, self._lines.append)
            self.handle.setopt(self.curl.WRITEFUNCTION, self._memory.write)
            self._ready = ready
        self.handle.setopt(self.curl.URL, transfer.url)

    def drain(self) -> bool:
        """See `Slot.drain`: all is taken at the end."""
        return True

    def end(self, code: int) -> int:
        """See `Slot.end`: what `Slot` sees as it comes is judged here."""
        transfer, size = self.transfer, self._memory.seek(0, os.SEEK_CUR)
        note_headers(transfer, self._lines)
        self.session.flow.came(size, time.monotonic())
        if code == self.curl.E_WRITE_ERROR:
            raise MemoryError
        larger = code == self.curl.E_FILESIZE_EXCEEDED
        if transfer.status >= 400:
            return 0 if larger else code
        if transfer.status != 200:
            return int(self.curl.E_WRITE_ERROR) if larger or (size and not code) else code
        if larger:
            refuse_too_large(transfer)
            return int(self.curl.E_WRITE_ERROR)
        self.session.received += size
        transfer.at = transfer.start + size
        return code

    def give(self) -> None:
        """See `Slot.give`."""
        self.transfer.view = self._memory.getbuffer()[: self.transfer.at - self.transfer.start]

    def release(self) -> None:
        """See `Slot.release`."""
        transfer, view = self.transfer, self.transfer.view
        if view is None:
            return
        if transfer.kept or len(view) > LARGE:
            self._memory, self._ready = io.BytesIO(), ()
        if not transfer.kept:
            transfer.view = None
            view.release()


def ends_too_large() -> bool:
    """Whether libcurl ends an answer that grows too large, which `WholeSlot` leaves to it."""
    import pycurl

    return int(pycurl.version_info()[2]) >= _ENDS_TOO_LARGE
