"""Why a JSON document, or a file of rows, cannot be read: its cause where that is plain, and its line."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

#: The marks of a merge, as Git and Mercurial write them; whoever reads in pieces may meet the second first.
_MERGE = re.compile(rb"^(?:<<<<<<<|=======|>>>>>>>)(?=[ \r\n]|$)", re.MULTILINE)

MERGE_MARKS = "holds the marks of a merge (<<<<<<<, =======, >>>>>>>); resolve it, or check the file out again"

#: What files begin with that are no text, and what they are then.
_OTHER_KINDS = (
    (b"\x1f\x8b", "is compressed (gzip); unpack it"),
    (b"PK\x03\x04", "is a zip archive; unpack it"),
    (b"\xff\xd8\xff", "is an image (JPEG) of another suffix; move it elsewhere"),
    (b"\x89PNG", "is an image (PNG) of another suffix; move it elsewhere"),
)

_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Flaw:
    """The counted word, a clause with the cure, and the line (from 1) where that is known."""

    reason: str
    detail: str
    line: int | None = None


def merge_mark(data: bytes) -> int | None:
    """The line (from 1) of the first mark that a merge left in `data`; None if missing."""
    found = _MERGE.search(data)
    return None if found is None else data.count(b"\n", 0, found.start()) + 1


def flaw_of(data: bytes) -> Flaw | None:
    """What is wrong with `data` as JSON text in UTF-8; None for what Python's reader takes."""
    plain = known_flaw(data)
    if plain is not None:
        return plain
    if (line := merge_mark(data)) is not None:
        return Flaw("merge_marks", MERGE_MARKS, line)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Flaw(
            "not_utf8",
            "is not UTF-8 text (old tools wrote the encoding of their Windows); save it as UTF-8",
            data.count(b"\n", 0, error.start) + 1,
        )
    return _flaw_of_text(text)


def _flaw_of_text(text: str) -> Flaw | None:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            return Flaw("not_json", "ends before its JSON does: it was cut short; get it again", error.lineno)
        return Flaw("not_json", "is not JSON from this line on; correct it, or get it again", error.lineno)
    except (RecursionError, ValueError):
        return Flaw("not_json", "is JSON too deep or with numbers too long to be read; move it elsewhere")
    return None


def known_flaw(data: bytes) -> Flaw | None:
    """What the first bytes show."""
    start = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
    if not data.strip(b"\0 \t\r\n"):
        return Flaw("not_json", "is empty; get it again, or delete it")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return Flaw("not_utf8", "is UTF-16 text; save it as UTF-8")
    if (clause := other_kind(data)) is not None:
        return Flaw("not_json", clause)
    if start.startswith(_POINTER):
        return Flaw("not_json", "is a pointer of Git LFS, not the file; get it with `git lfs pull`")
    if start[:1] == b"<" and re.match(rb"<(!doctype|html|\?xml|head|body)", start, re.IGNORECASE):
        return Flaw("not_json", "is a web page or XML; get the file again")
    return None


def other_kind(data: bytes) -> str | None:
    """What a file is that is no text at all, with the cure; None for any other."""
    return next((clause for begin, clause in _OTHER_KINDS if data.startswith(begin)), None)


def cause_of_rows(data: bytes) -> str | None:
    """What a file is whose rows have something else than numbers; None where that may be a slip in a row."""
    if merge_mark(data) is not None:
        return MERGE_MARKS
    if (flaw := known_flaw(data)) is not None:
        return flaw.detail
    is_json = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
    return "is JSON, and no rows of numbers; name the format that it is of" if is_json else None
