"""Why a JSON document, or a file of rows, cannot be read: its cause where that is plain, and its line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.formats._values import shown

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


AFTER_END = "more after its end"

#: What Python's reader says of JSON, in plain words; its sentences begin with these.
_SLIPS = {
    "Expecting ',' delimiter": "a comma or a bracket is missing",
    "Expecting ':' delimiter": "a colon is missing",
    "Expecting property name": "a key in double quotes is missing",
    "Expecting value": "a value is missing, or none of JSON",
    "Illegal trailing comma": "a comma is followed by nothing",
    "Invalid control character": "a tab or a line break in a text, which JSON writes as \\t or \\n",
    "Invalid \\": "a backslash that stands for nothing, which JSON writes twice",
    "Unterminated string": "a text does not end",
    "Extra data": AFTER_END,
}


@dataclass(frozen=True)
class Flaw:
    """The counted word, a clause with the cure, and the line (from 1) where that is known."""

    reason: str
    detail: str
    line: int | None = None


@dataclass(frozen=True)
class Slip:
    """Why a text is no JSON, at which character (from 0) of it; `cut`: it ends too early, if it is whole."""

    reason: str
    at: int
    cut: bool = False


def slip_of(data: bytes) -> Slip | None:
    """The first mistake in `data` as JSON; None for what Python's reader takes."""
    text = data.decode(errors="replace")
    try:
        json.loads(text, parse_constant=float)
    except json.JSONDecodeError as error:
        reason = next((plain for begin, plain in _SLIPS.items() if error.msg.startswith(begin)), "")
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        if error.pos >= len(text.rstrip()):
            reason = "it is cut short"
        return Slip(reason or "not as JSON has it", error.pos, cut)
    except RecursionError:
        return Slip("nested too deep", 0)
    except ValueError:
        return Slip("a number that is too long to be one", 0)
    return None


def placed_slip(data: bytes, line: int, before: Callable[[], bytes]) -> tuple[int, str] | None:
    """The line of the first mistake in `data`, and the character on that line with what it is; None for JSON.

    `data` begins on `line` of its file, behind the text that `before` gives, which begins on that line or earlier.
    """
    slip = slip_of(data)
    if slip is None:
        return None
    text = before().decode(errors="replace")
    begin, at = len(text), len(text) + slip.at
    text += data.decode(errors="replace")
    return line + text.count("\n", begin, at), f"character {at - text.rfind(chr(10), 0, at)}: {slip.reason}"


def no_object(data: bytes, line: int | None = None, before: Callable[[], bytes] = bytes) -> str | None:
    """The clause that says why `data` is no JSON object; None for one. See `placed_slip`; None: its line is known."""
    if (slip := placed_slip(data, line or 1, before)) is not None:
        return f"is not JSON (line {slip[0]}, {slip[1]})" if line else f"is not JSON ({slip[1]})"
    try:
        value = json.loads(data.decode(), parse_constant=float)
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    clause = f"is {shown(value)}, no object"
    return None if isinstance(value, dict) else f"{clause} (line {line})" if line else clause


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
