"""A document read a piece at a time: where its images are, by their bytes; all between them goes through Expat.

An ``<image>`` is found, not read: nothing that XML allows has ``<image`` anywhere but a comment, a CDATA section or
such an element, and those are distinguished. A document of 200 MB is so read at the speed of its disk, in the memory of
one image; that an image is well-formed shows when its objects are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

from pipeline.formats import Malformed
from pipeline.formats._values import category_name
from pipeline.formats._xml import MAX_DEPTH, XmlFlaw, feed, guard

#: Bytes of one image, or of what is between two.
MAX_VALUE = 256 << 20

#: What is searched between images.
_MARK = re.compile(rb"<(?:image(?=[\s/>])|track(?=[\s/>])|!--|!\[CDATA\[)")

_LONGEST_MARK = 10

#: Bytes that show of what kind a file is.
_FIRST = 512

_START = re.compile(rb"""<image(?:[^<>"']++|"[^"<]*+"|'[^'<]*+')*+>""")

_END = re.compile(rb"<!--.*?-->|<!\[CDATA\[.*?\]\]>|(</image\s*>)", re.DOTALL)

_CUT_SHORT = "ends before its XML does: it was cut short; get it again"

_TRACKS = (
    "holds tracks of a video (CVAT for video 1.1), which say where objects are on few of the frames; export the task "
    "again as 'CVAT for images 1.1'"
)

#: The texts of ``<meta>`` that are read, as the last two steps to them.
_TEXTS = frozenset({("label", "name"), ("label", "parent"), ("task", "name"), ("project", "name")})

#: Letters of a text in ``<meta>`` that are kept.
_MOST_LETTERS = 10_000

_UTF8 = frozenset({None, "utf-8", "utf8", "us-ascii", "ascii"})


@dataclass
class Meta:
    """What is said before the images: labels in their order, those below a skeleton by its name; a name of it all."""

    labels: list[str] = field(default_factory=list)
    keypoints: dict[str, list[str]] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class ImageText:
    """An image at `begin` of the document: its `text`, the start tag of which is `head` bytes long, and its line."""

    begin: int
    line: int
    head: int
    text: bytes


class Document:
    """An export in `pieces`; `meta` is what was said of it so far."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = _Surroundings()
        #: What is at hand: the document from byte `_base` on, of which all before `_at` is done.
        self._text = b""
        self._base = self._at = 0
        #: The line in which `_at` is.
        self._line = 1
        self._ended = False

    @property
    def meta(self) -> Meta:
        """What is said before the images."""
        return self._rest.meta

    def images(self) -> Iterator[ImageText]:
        """All images. Raises `Malformed` for what is no such document."""
        while len(self._text) < _FIRST and self._more():
            pass
        self._rest.first = self._text[:_FIRST]
        found_any = False
        if self._text[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise Malformed("is UTF-16 text; save it as UTF-8")
        while (mark := self._next_mark()) is not None:
            if mark == b"<track":
                raise Malformed(_TRACKS, self._line)
            if mark != b"<image":
                self._pass_over(self._end_of(b"-->" if mark == b"<!--" else b"]]>", len(mark)))
                continue
            if not self._rest.within:
                raise Malformed("has an <image> outside of <annotations>; correct it", self._line)
            head = self._head()
            length = head if self._text[self._at + head - 2] == ord("/") else self._length(head)
            text = self._text[self._at : self._at + length]
            found = ImageText(self._base + self._at, self._line, head, text)
            lines = text.count(b"\n")
            self._at += length
            self._line += lines
            self._rest.pass_lines(lines)
            found_any = True
            yield found
        self._rest.read(b"", last=True)
        if not found_any:
            raise Malformed("holds no <image>; export the task as 'CVAT for images 1.1'")

    def _more(self) -> bool:
        """Have as much again of the document at hand, without what is done; whether there was more."""
        if self._ended:
            return False
        waiting = [self._text[self._at :]]
        have = len(waiting[0])
        if have > MAX_VALUE:
            raise Malformed(f"has an element of more than {MAX_VALUE >> 20} MiB", self._line)
        wanted = max(2 * have, 4)
        while have < wanted and not self._ended:
            piece = next(self._pieces, None)
            self._ended = piece is None
            waiting.append(piece or b"")
            have += len(waiting[-1])
        self._text = b"".join(waiting)
        self._base, self._at = self._base + self._at, 0
        return have > len(waiting[0])

    def _pass_over(self, count: int) -> None:
        """Go on behind `count` bytes that are of no image."""
        text = self._text[self._at : self._at + count]
        lines = text.count(b"\n")
        self._at += count
        self._line += lines
        if text.isspace() and self._rest.within:
            self._rest.pass_lines(lines)
        elif text:
            self._rest.read(text)

    def _next_mark(self) -> bytes | None:
        """The next mark, at which the rest of the text then begins; None at the end."""
        while True:
            found = _MARK.search(self._text, self._at)
            if found is not None:
                self._pass_over(found.start() - self._at)
                return found[0]
            rest = len(self._text) - self._at
            self._pass_over(rest if self._ended else max(rest - _LONGEST_MARK, 0))
            if not self._more():
                self._pass_over(len(self._text) - self._at)
                return None

    def _end_of(self, what: bytes, begin: int) -> int:
        """How far it is to the end of `what`; to that of the document, of which Expat then says what is wrong."""
        while (at := self._text.find(what, self._at + begin)) < 0:
            begin = max(begin, len(self._text) - self._at - len(what))
            if not self._more():
                return len(self._text) - self._at
        return at + len(what) - self._at

    def _head(self) -> int:
        """How long the start tag of the image is."""
        while (found := _START.match(self._text, self._at)) is None:
            if self._text.find(b"<", self._at + 1) >= 0:
                raise Malformed("has an <image> whose attributes are no XML; correct it", self._line)
            if not self._more():
                raise Malformed(_CUT_SHORT)
        return found.end() - self._at

    def _length(self, head: int) -> int:
        """How long the image is whose start tag has `head` bytes."""
        done = head
        while True:
            begin, at = self._at + head, self._text.find(b"</image", self._at + done)
            if at >= 0:
                commented = self._text.find(b"<!", begin, at) >= 0
                stop = self._commented_stop(begin) if commented else self._text.find(b">", at) + 1
                if stop:
                    if not commented and self._text.find(b"<image ", begin, at) >= 0:
                        raise Malformed("has an <image> that does not end before the next one; correct it", self._line)
                    return stop - self._at
            done = (at if at >= 0 else max(begin, len(self._text) - _LONGEST_MARK)) - self._at
            if not self._more():
                raise Malformed(_CUT_SHORT)

    def _commented_stop(self, begin: int) -> int:
        """Where an image with comments ends; 0 where that is not at hand."""
        return next((found.end() for found in _END.finditer(self._text, begin) if found[1]), 0)


class _Surroundings:
    """What is around the images, read by Expat: it is well-formed, and of CVAT."""

    def __init__(self) -> None:
        self.meta = Meta()
        #: The first bytes of the document, for the cause of an error.
        self.first = b""
        self._steps: list[str] = []
        self._texts: list[str] = []
        self._letters = self._lines = 0
        self._label: dict[str, str] = {}
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        guard(self._parser, self._start, self._end)
        self._parser.CharacterDataHandler = self._data
        self._parser.XmlDeclHandler = self._declared

    @property
    def within(self) -> bool:
        """Whether an element is open in which images may be."""
        return bool(self._steps)

    def pass_lines(self, count: int) -> None:
        """Count lines that are not read."""
        self._lines += count

    def read(self, text: bytes, *, last: bool = False) -> None:
        """Read on. Raises `Malformed`."""
        if self._lines and self._steps:
            text, self._lines = b"\n" * self._lines + text, 0
        try:
            feed(self._parser, text, self.first, last=last)
        except XmlFlaw as flaw:
            raise Malformed(str(flaw), flaw.line) from None

    def _declared(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if (encoding.lower() if encoding is not None else None) not in _UTF8:
            raise Malformed(f"declares the encoding {encoding!a}; save it as UTF-8", 1)

    def _start(self, tag: str, _attributes: dict[str, str]) -> None:
        if not self._steps and tag != "annotations":
            self._refuse(tag)
        if len(self._steps) >= MAX_DEPTH:
            line = self._parser.CurrentLineNumber
            raise Malformed(f"has elements more than {MAX_DEPTH} deep; no label tool writes that: correct it", line)
        self._steps.append(tag)
        self._texts, self._letters = [], 0

    def _refuse(self, tag: str) -> NoReturn:
        what = (
            "Pascal VOC's, one file an image; name the folder of all of them"
            if tag == "annotation"
            else f"with <{tag[:40]!a}> as its first element, not CVAT's (<annotations>); name another file"
        )
        raise Malformed(f"is XML, but {what}", self._parser.CurrentLineNumber)

    def _data(self, text: str) -> None:
        if tuple(self._steps[-2:]) in _TEXTS and self._letters < _MOST_LETTERS:
            self._letters += len(text)
            self._texts.append(text)

    def _end(self, tag: str) -> None:
        above = self._steps[-2] if len(self._steps) > 1 else ""
        if (above, tag) in _TEXTS:
            text = "".join(self._texts)
            if above == "label":
                self._label[tag] = category_name({"name": text}) or ""
            elif not self.meta.name:
                self.meta.name = text.strip()
        elif tag == "label" and above == "labels":
            self._add_label()
        self._steps.pop()
        self._texts, self._letters = [], 0

    def _add_label(self) -> None:
        name, parent = self._label.get("name", ""), self._label.get("parent", "")
        self._label = {}
        if name:
            several = self.meta.keypoints.setdefault(parent, []) if parent else self.meta.labels
            if name not in several:
                several.append(name)
