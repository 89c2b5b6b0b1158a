"""XML documents as small trees, by Expat; nothing of a document can make it read, expand or fill more than it holds.

What is refused, with a sentence: a DOCTYPE, which may define entities that expand to gigabytes or name other files;
elements within one another more than `MAX_DEPTH` deep; text that is no XML. No document of a label tool has any of it.
The encoding is the one that the document declares, any that Python can decode; UTF-8 without a declaration.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Callable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.parsers import expat

from pipeline.base.text import printable
from pipeline.formats._flaws import MERGE_MARKS, merge_mark, other_kind

#: Elements within one another; VOC has 4, CVAT 6.
MAX_DEPTH = 64

_DECLARED = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")

_BOM = b"\xef\xbb\xbf"

_POINTER = b"version https://git-lfs.github.com/spec/"

#: A larger document is read with an eye on how deep it is.
_SMALL = 1 << 18

_ASCII_LIKE = ("utf-8", "us-ascii", "iso-8859-1")

_DOCTYPE = "has a DOCTYPE, which may define entities and name other files; no label tool writes one: remove it"


class XmlFlaw(ValueError):  # noqa: N818 - a clause of a sentence, not an error
    """Why a document is not read: the counted word, a clause with the cure, and the line (from 1) if it is known."""

    def __init__(self, reason: str, clause: str, line: int | None = None) -> None:
        super().__init__(clause)
        self.reason, self.line = reason, line


def read(data: bytes) -> Element:
    """The first element of the document `data`, by ElementTree; raises `XmlFlaw`.

    A document that cannot hold a DOCTYPE, for it has no such bytes in an encoding that has ASCII's, goes straight to
    ElementTree's parser in C, ten times as fast as handlers in Python. All others are read by those.
    """
    if len(data) <= _SMALL and _is_plain(data):
        with contextlib.suppress(ElementTree.ParseError, ValueError, LookupError):
            return ElementTree.XML(data)
    return _read_guarded(data)[0]


def lines_of(data: bytes, tag: str) -> list[int]:
    """The lines (from 1) of the elements called `tag` right in the first element of a document that can be read."""
    root, lines = _read_guarded(data)
    return [lines[one] for one in root if one.tag == tag]


def text_of(element: Element, tag: str) -> str:
    """The text of the first element in `element` that is called `tag`, without blanks around it; empty without one."""
    return (element.findtext(tag) or "").strip()


def _is_plain(data: bytes) -> bool:
    """Whether a document holds no DOCTYPE, as far as its bytes show for certain."""
    head = data[:8].removeprefix(_BOM)
    return b"<!DOCTYPE" not in data and head.isascii() and b"\0" not in head and _declared(data) in (None, *_ASCII_LIKE)


def _read_guarded(data: bytes) -> tuple[Element, dict[Element, int]]:
    """The first element, and the line of each; raises `XmlFlaw`."""
    text, encoding = _decoded(data)
    parser = expat.ParserCreate(encoding)
    parser.buffer_text = True
    builder = ElementTree.TreeBuilder()
    lines: dict[Element, int] = {}
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep(parser.CurrentLineNumber)
        lines[builder.start(tag, attributes)] = parser.CurrentLineNumber

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    guard(parser, start, end)
    parser.CharacterDataHandler = builder.data
    feed(parser, text, data, last=True)
    return builder.close(), lines


def guard(
    parser: expat.XMLParserType, start: Callable[[str, dict[str, str]], None], end: Callable[[str], None]
) -> None:
    """Give `parser` its handlers of elements, and one that refuses a DOCTYPE, and with it all entities."""
    parser.StartElementHandler, parser.EndElementHandler = start, end

    def refuse(*_: object) -> None:
        raise XmlFlaw("doctype", _DOCTYPE, parser.CurrentLineNumber)

    parser.StartDoctypeDeclHandler = refuse


def feed(parser: expat.XMLParserType, text: bytes, document: bytes, *, last: bool) -> None:
    """Hand `text` to `parser`; raises `XmlFlaw`. `document` is what is looked at for the cause of an error."""
    try:
        parser.Parse(text, last)
    except expat.ExpatError as error:
        raise flaw_of(document, error) from None


def flaw_of(data: bytes, error: expat.ExpatError) -> XmlFlaw:
    """Why `data` is not XML, in words; `error` is Expat's."""
    if (plain := _known_flaw(data)) is not None:
        return plain
    if (line := merge_mark(data)) is not None:
        return XmlFlaw("merge_marks", MERGE_MARKS, line)
    reason, clause = _CLAUSES.get(error.code, ("not_xml", "is not XML from this line on; correct it, or get it again"))
    if error.code not in _CLAUSES and _declared(data) in (None, "utf-8") and not _is_utf8(data):
        reason, clause = "not_utf8", "is not UTF-8 text; save it as UTF-8, or declare its encoding in <?xml … ?>"
    return XmlFlaw(reason, clause, error.lineno)


_CUT_SHORT = ("not_xml", "ends before its XML does: it was cut short; get it again")

_ENCODING = ("encoding", "is not in the encoding that it declares; save it as UTF-8")

#: What Expat's errors mean that have a cause of their own.
_CLAUSES = {
    expat.errors.codes[getattr(expat.errors, f"XML_ERROR_{name}")]: meaning
    for name, meaning in (
        ("NO_ELEMENTS", _CUT_SHORT),
        ("UNCLOSED_TOKEN", _CUT_SHORT),
        ("UNCLOSED_CDATA_SECTION", _CUT_SHORT),
        ("PARTIAL_CHAR", _CUT_SHORT),
        ("UNKNOWN_ENCODING", _ENCODING),
        ("INCORRECT_ENCODING", _ENCODING),
        ("UNDEFINED_ENTITY", ("not_xml", "names an entity that XML does not define; write the character itself")),
    )
}


def _too_deep(line: int) -> XmlFlaw:
    return XmlFlaw("not_xml", f"has elements more than {MAX_DEPTH} deep; no label tool writes that: correct it", line)


def _known_flaw(data: bytes) -> XmlFlaw | None:
    """What the first bytes show."""
    start = data[:512].removeprefix(_BOM).lstrip()
    if not data.strip(b"\0 \t\r\n"):
        return XmlFlaw("not_xml", "is empty; get it again, or delete it")
    if (clause := other_kind(data)) is not None:
        return XmlFlaw("not_xml", clause)
    if start.startswith(_POINTER):
        return XmlFlaw("not_xml", "is a pointer of Git LFS, not the file; get it with `git lfs pull`")
    if start[:1] in (b"{", b"["):
        return XmlFlaw("not_xml", "is JSON, not XML; move it elsewhere")
    return None


def _declared(data: bytes) -> str | None:
    """The encoding that a document declares, in lower case; None where it declares none."""
    found = _DECLARED.match(data[:256].removeprefix(_BOM))
    return found[1].decode().lower() if found is not None else None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


#: What Expat decodes itself; UTF-16 declares itself by its first two bytes.
_EXPATS = frozenset({None, "utf-16", *_ASCII_LIKE})


def _decoded(data: bytes) -> tuple[bytes, str | None]:
    """A document as Expat can read it, and the encoding to overrule the declared one with; raises `XmlFlaw`."""
    declared = _declared(data)
    if declared in _EXPATS:
        return data, None
    try:
        info = codecs.lookup(declared or "")
        if not info._is_text_encoding:  # such as base64
            raise LookupError
        return data.decode(info.name).encode(), "utf-8"
    except LookupError:
        shown = printable(declared or "")
        raise XmlFlaw("encoding", f"declares the encoding {shown}, which is unknown; save it as UTF-8", 1) from None
    except ValueError as error:
        at = getattr(error, "start", 0)
        line = data.count(b"\n", 0, at) + 1
        raise XmlFlaw(
            "encoding", f"is not in the encoding {declared}, which it declares; save it as UTF-8", line
        ) from None
