"""One request to a web server: what it asks for, and what its answer says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.base.errors import StorageError, UnavailableError
from pipeline.base.redaction import redact_url
from pipeline.base.text import whole_number
from pipeline.storage.location import too_large


@dataclass(eq=False, slots=True)
class Transfer:
    """One request: `url` whole, or its bytes from `start` up to `stop` where `stop` is not None.

    `sink(offset, pieces)` takes what comes, in one thread for all of a batch; without one it is gathered in `body`.
    `validator` is an ETag or a date: an answer about another state of the file then has `status` 200 instead of 206,
    and nothing of it is taken. An answer of more than `most` bytes is given up. What the caller may check when it is
    done: `reason` (None: all came), `status`, `headers` (names in lower case), and `at`, the offset that comes next.
    """

    url: str
    start: int = 0
    stop: int | None = None
    sink: Callable[[int, Sequence[bytes]], None] | None = None
    validator: str | None = None
    whole_too: bool = False
    most: int | None = None
    tag: Any = None
    gathered: bytearray = field(default_factory=bytearray)
    #: All that came, where it is not gathered here.
    view: memoryview | None = None
    #: Whether `view` is to last, though the next transfer goes on.
    kept: bool = False
    at: int = 0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    #: Whether the empty line that ends the headers of the answer has come.
    headed: bool = False
    reason: str | None = None
    #: Whether there was no answer, or none but that the server is busy, so that other requests need not be tried.
    lost: bool = False
    #: Whether it was given up because the server is busy, ill or away: the same request may do later.
    later: bool = False
    attempts: int = 0
    asked: int = 0
    begun: float = 0.0
    #: Whether the answer that comes now was checked, and is what was asked for.
    fits: bool = False

    def __post_init__(self) -> None:
        self.at = self.start

    @property
    def body(self) -> bytearray | memoryview:
        """What came without a sink."""
        return self.gathered if self.view is None else self.view

    def begin(self) -> None:
        """Forget the last answer, and note from where on it is asked for now."""
        self.status, self.headers, self.headed, self.fits = 0, {}, False, False
        self.asked = self.at

    @property
    def ends_unseen(self) -> bool:
        """Whether the answer ended with its connection, so that nobody knows whether all of it came."""
        return not {"content-length", "transfer-encoding"} & self.headers.keys()


def request_headers(transfer: Transfer) -> list[str]:
    """The headers that ask for what is lacking; of a file that only comes whole, all is lacking again."""
    headers = ["Accept: */*"]
    if transfer.stop is not None:
        last = transfer.stop - 1
        headers.append(f"Range: bytes={transfer.at}-{last}" if transfer.at >= 0 else f"Range: bytes={transfer.at}")
        if transfer.validator:
            headers.append(f"If-Range: {transfer.validator}")
    else:
        transfer.gathered.clear()
        transfer.at = transfer.start
    return headers


def misfit(transfer: Transfer) -> bool | None:
    """Check an answer whose first bytes came: None where it is what was asked for, else whether it may go on."""
    expected = 200 if transfer.stop is None else 206
    if transfer.status != expected and not (transfer.whole_too and transfer.status == 200 and transfer.asked == 0):
        return transfer.status >= 400
    if expected == 206 and transfer.status == 206:
        first, _, size = parse_range(transfer.headers.get("content-range", ""))
        if size is not None and transfer.stop:
            transfer.stop = min(transfer.stop, size)
        if first is not None and size is not None and transfer.asked < 0:
            transfer.asked = transfer.at = transfer.start = first
            transfer.stop = size
        elif first != transfer.asked:
            return False
    length = whole_number(transfer.headers.get("content-length", ""))
    if transfer.most is not None and length is not None and length > transfer.most:
        return refuse_too_large(transfer)
    transfer.fits = True
    return None


def refuse_too_large(transfer: Transfer) -> bool:
    """Say that more came, or would come, than may: False, it may not go on."""
    transfer.reason = f"{redact_url(transfer.url)}: {too_large(transfer.most)}"
    return False


def note_headers(transfer: Transfer, lines: Sequence[bytes]) -> None:
    """Note all lines that came, as `note_header` does one after another."""
    texts = [line.decode("latin-1").strip() for line in lines]
    for i in reversed(range(len(texts))):
        if texts[i].startswith("HTTP/"):  # of several answers the last one counts
            note_header(transfer, lines[i])
            del texts[: i + 1]
            break
    transfer.headed = transfer.headed or "" in texts
    found = [text.partition(":") for text in texts]
    transfer.headers.update({name.strip().lower(): value.strip() for name, colon, value in found if colon})


def note_header(transfer: Transfer, line: bytes) -> None:
    """Note the status line of an answer, a line of its headers, or the empty line at their end."""
    text = line.decode("latin-1").strip()
    if text.startswith("HTTP/"):  # a new answer: after a redirection, or a proxy's
        words = text.split(None, 2)
        transfer.status = (whole_number(words[1]) if len(words) > 1 else None) or 0
        transfer.headers, transfer.headed = {}, False
    elif not text:
        transfer.headed = True
    elif ":" in text:
        name, _, value = text.partition(":")
        transfer.headers[name.strip().lower()] = value.strip()


def parse_range(text: str) -> tuple[int | None, int | None, int | None]:
    """First byte, last byte and size of ``bytes 0-99/1234`` (RFC 9110, 14.4); None for what it does not say."""
    unit, _, rest = text.partition(" ")
    span, _, size = rest.partition("/")
    first, _, last = span.partition("-")
    numbers = [whole_number(n) if unit == "bytes" else None for n in (first, last, size)]
    return numbers[0], numbers[1], numbers[2]


def validator(headers: dict[str, str]) -> str | None:
    """What shows a changed file in the `headers` of an answer: its ETag, or the date of the last change."""
    return headers.get("etag") or headers.get("last-modified")


def lost(transfer: Transfer) -> StorageError:
    """The error of a transfer that was given up."""
    return (UnavailableError if transfer.later else StorageError)(transfer.reason or "")
