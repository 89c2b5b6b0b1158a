"""Text from outside: names as they look and, in what we write for a terminal, Markdown, JSON and Python, as data."""

from __future__ import annotations

import codecs
import json
import re
import unicodedata

#: What a terminal would obey or hide: control characters (C0, DEL, C1), line and paragraph separators, marks of the
#: direction of writing, invisible characters but for those that join letters, and halves of surrogate pairs.
_UNPRINTABLE = (
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)

_ANY = re.compile(_UNPRINTABLE)

_BUT_LINE_ENDS = re.compile(f"(?!\n){_UNPRINTABLE}")

#: What may mean something in a line of Markdown. An underscore between letters does not, and is in many a name.
_MARKUP = re.compile(r"[\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.|@|^\s|\s$")


#: Characters that nobody sees, which copying leaves at the ends of a name.
_UNSEEN = "\u200b\u200e\u200f\u2060\ufeff"


#: More digits are no number of anything, and Python refuses to read some thousands of them.
_MOST_DIGITS = 18


def whole_number(text: str) -> int | None:
    """The number that `text` is: decimal digits alone, 18 at most; None for any other text."""
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None


def composed(path: str) -> str:
    """`path` with each letter that can be written in two ways of Unicode as one (NFC): file systems differ there."""
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def plain_name(name: str) -> str:
    """`name` as it looks: composed (Unicode NFC), without blanks at its ends, single ones within."""
    if name.isascii() and "  " not in name and name.strip() == name and name.isprintable():
        return name
    return " ".join(unicodedata.normalize("NFC", name).strip(_UNSEEN).split()).strip(_UNSEEN)


def printable(text: str, *, lines: bool = False) -> str:
    r"""`text` for one line of a terminal, or with `lines` for as many as it has: what else would act there is escaped.

    An escape sequence becomes ``\x1b[2J``, a byte of a name that is no UTF-8 ``\xff``.
    """
    return (_BUT_LINE_ENDS if lines else _ANY).sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8
        code -= 0xDC00
    return (
        found[0].encode("unicode_escape").decode()
        if code > 0xFF
        else {9: "\\t", 10: "\\n", 13: "\\r"}.get(code, f"\\x{code:02x}")
    )


def terminal_columns(text: str) -> int:
    """How many columns of a terminal `text` takes: a Chinese letter two, a mark on the letter before it none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def printable_json(data: object, encoding: str | None = None) -> str:
    """`data` as JSON for a stream in `encoding`; strings hold nothing that a terminal would obey.

    Unicode's encodings (None: UTF-8) take all there is to say; for others each character beyond ASCII is escaped.
    """
    document = json.dumps(data, ensure_ascii=not codecs.lookup(encoding or "utf-8").name.startswith("utf"))
    return _BUT_LINE_ENDS.sub(lambda found: json.dumps(found[0])[1:-1], document)


def markdown(text: str) -> str:
    """`text` within a line or a table's cell of Markdown, shown as it is: no markup, no HTML, no link."""
    return _MARKUP.sub(lambda found: "".join(f"&#{ord(c)};" for c in found[0]), printable(text))


def python_literal(text: str) -> str:
    """`text` as a literal of Python that holds no brace, for some readers fill in what is in ``{{ }}``."""
    return repr(text).replace("{", "\\x7b").replace("}", "\\x7d")
