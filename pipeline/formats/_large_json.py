"""A JSON object whose arrays have millions of elements, read a piece at a time.

Elements are found, not decoded: a chunk of text that ends between two of them is one call of the decoder, which says
where each is. Text that the decoder refuses (NaN, as Python writes it, or a mistake in one element) is cut by its
brackets and strings alone, so that what is wrong with one element is reported of that element.

`json.load` of a COCO JSON of 458 MB takes 3.0 GB; the whole index of it is made in 0.4 times its time and in 0.33 GB
(``tests/bench/bench_coco.py``).
"""

from __future__ import annotations

import codecs
import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from pipeline.formats import Malformed
from pipeline.formats._flaws import AFTER_END, MERGE_MARKS, known_flaw, merge_mark, no_object, placed_slip, slip_of
from pipeline.formats._json_text import (
    AFTER_BLANKS,
    elements,
    first_end,
    last_boundary,
    spans_of,
    spans_of_objects,
    stop_of,
)

if TYPE_CHECKING:
    from pipeline.base.arrays import Ints
    from pipeline.formats._stretches import Ahead

#: Bytes of one element, or of a member that is no array of ours.
MAX_VALUE = 256 << 20

#: Bytes of what does not end in which a mistake is searched.
_LOOKED_AT = 16 << 20

_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True)
class Chunk:
    """Elements of the array `member`, one after another; the first of them is number `first`.

    `text` is a JSON list of them; `spans`, shape (n, 2), are begin and end in the file, which holds `text` from byte
    `base` on (but for its first and last byte). `line` is that of the first element, with `indent` bytes before it.
    `found` is what the decoder of the array made of `text`; None where it has none, or refuses it.
    """

    member: str
    first: int
    text: bytes
    base: int
    spans: Ints
    line: int
    found: list[Any] | None = None
    indent: int = 0

    def __len__(self) -> int:
        return len(self.spans)

    def element(self, number: int) -> bytes:
        """The text of element `number` of this chunk."""
        begin, stop = (self.spans[number] - self.base).tolist()
        return self.text[begin:stop]

    def no_object(self, number: int) -> str | None:
        """Why element `number` of this chunk is no JSON object, with its line; None for one."""
        return no_object(self.element(number), self.line_of(number), functools.partial(self._before, number))

    def slip(self) -> tuple[int, str] | None:
        """The line of the first mistake in an element, and the clause; None where all are JSON."""
        for number in range(len(self)):
            slip = placed_slip(self.element(number), self.line_of(number), functools.partial(self._before, number))
            if slip is not None:
                return slip[0], f"is not JSON: {self.member}[{self.first + number}] ({slip[1]})"
        return None

    def _before(self, number: int) -> bytes:
        """What is on the line of element `number` before it."""
        at = int(self.spans[number, 0]) - self.base
        begin = self.text.rfind(b"\n", 1, at) + 1
        return self.text[begin:at] if begin else b" " * self.indent + self.text[1:at]

    def line_of(self, number: int) -> int:
        """The line (from 1) on which element `number` of this chunk begins."""
        return self.line + int(np.searchsorted(self._line_ends, int(self.spans[number, 0]) - self.base))

    @functools.cached_property
    def _line_ends(self) -> Ints:
        """Where the line feeds are in `text`: counting them for each of many bad elements takes the square of them."""
        return np.flatnonzero(np.frombuffer(self.text, np.uint8) == ord("\n"))


class _Window:
    """The part of a text in `pieces` that is at hand, and where in it a reader is; its first `added` bytes are in no
    file.
    """

    def __init__(self, pieces: Iterable[bytes], added: int) -> None:
        self._pieces = iter(pieces)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at, self._base, self._line = b"", 0, 0, 1
        self._doubtful: Chunk | None = None  # the last one whose elements no decoder has seen
        self._line_begin = added  # of the line on which `_text` begins

    def _value(self) -> bytes:
        """The value that begins here, which ends before a comma or a bracket."""
        self._next()
        while (stop := stop_of(self._text, self._at)) < 0 or stop == len(self._text):
            if not self._more():
                if stop > 0:
                    break
                raise self._wrong("is not JSON (cut short: its last value does not end)")
        if stop == self._at:
            raise self._wrong("is not JSON: a value is missing")
        value = self._text[self._at : stop]
        self._at = stop
        return value

    def _next(self, otherwise: str = "is not JSON (cut short: its last bracket is missing)") -> bytes:
        """The next byte that is no blank, which is then the one at hand."""
        while (found := AFTER_BLANKS.search(self._text, self._at)) is None:
            self._at = len(self._text)
            if not self._more():
                raise self._wrong(otherwise)
        self._at = found.start()
        return found[0]

    def _more(self) -> bool:
        """Double what is at hand beyond the current position; False at the end of the file."""
        rest = len(self._text) - self._at
        if rest > MAX_VALUE:
            raise self._slip("a value") or self._wrong(f"has a value of more than {MAX_VALUE >> 20} MiB")
        parts: list[bytes] = []
        while sum(map(len, parts)) <= rest and (piece := next(self._pieces, None)) is not None:
            self._check(piece, parts)
            parts.append(piece)
        if not parts:
            self._check(b"", parts, final=True)
            return False
        if b"\n" in self._text:  # most files are one line, and that is found faster than counted
            self._line += self._text.count(b"\n", 0, self._at)
            self._line_begin = self._base + self._at - self._indent()
        self._base += self._at
        self._text = b"".join([memoryview(self._text)[self._at :], *parts])
        self._at = 0
        return True

    def _check(self, piece: bytes, before: list[bytes], *, final: bool = False) -> None:
        """Raise `Malformed` for what is not UTF-8."""
        if piece.isascii() and not final and not self._decoder.getstate()[0]:
            return
        try:
            self._decoder.decode(piece, final)
        except UnicodeDecodeError as error:
            if not self._base and not before and not self._text and piece.startswith(_WIDE):
                raise Malformed("is UTF-16 text; save it as UTF-8") from None
            lines = sum(part.count(b"\n") for part in (self._text, *before, piece[: error.start]))
            raise Malformed("is not UTF-8 text; save it as UTF-8", self._line + lines) from None

    def _pass_over(self, stop: int) -> None:
        """Go on at byte `stop` of the file."""
        while self._base + len(self._text) < stop:
            self._at = len(self._text)
            if not self._more():
                return
        self._at = stop - self._base

    def _indent(self) -> int:
        """How many bytes of its line are before what is here."""
        begin = self._text.rfind(b"\n", 0, self._at) + 1
        return self._at - begin if begin else self._base + self._at - self._line_begin

    def _here(self) -> int:
        return self._line + (self._text.count(b"\n", 0, self._at) if self._at else 0)

    def _slip(self, what: str) -> Malformed | None:
        """The error of what begins here and does not end, where a mistake in it is the cause; what it is: `what`."""
        text = self._text[self._at : self._at + _LOOKED_AT]
        slip = slip_of(text)
        if slip is None or slip.cut or slip.reason == AFTER_END:
            return None
        placed = placed_slip(text, self._here(), lambda: b" " * self._indent())
        assert placed is not None
        return Malformed(f"is not JSON: {what} ({placed[1]})", placed[0] if placed[0] > 1 else None)

    def _wrong(self, clause: str) -> Malformed:
        """The error of what is here; the marks of a merge are its cause where there are any."""
        here = self._here()
        line = merge_mark(self._text)
        for _ in range(8):  # the mark may have begun only
            if line is not None or not self._more():
                break
            line = merge_mark(self._text)
        if line is not None:
            return Malformed(MERGE_MARKS, self._line + line - 1)
        if (slip := self._doubtful.slip() if self._doubtful is not None else None) is not None:
            here, clause = slip
        return Malformed(clause, here if here > 1 else None)  # most files are one line


class LargeObject(_Window):
    """A JSON object in `pieces`; of its members `arrays` are handed on in chunks, all others are small and kept.

    `rest` has the other members, each as it is written, once all `chunks` were taken. `decoders` are those of lists of
    objects, by array. The first `added` bytes are in no file. What `ahead` has is handed on to who it says.
    """

    def __init__(
        self,
        pieces: Iterable[bytes],
        arrays: Collection[str],
        decoders: Mapping[str, Callable[[bytes], list[Any]]] | None = None,
        added: int = 0,
        ahead: Ahead | None = None,
    ) -> None:
        super().__init__(pieces, added)
        self._arrays, self._decoders, self._ahead = arrays, decoders or {}, ahead
        self.rest: dict[str, bytes] = {}
        #: The arrays that were found.
        self.found: set[str] = set()

    def chunks(self) -> Iterator[Chunk]:
        """All elements of the arrays, in order; an array that comes again begins with element 0 again.

        Raises `Malformed` for what is no JSON object in UTF-8.
        """
        self._more()
        self._at = len(codecs.BOM_UTF8) if self._text.startswith(codecs.BOM_UTF8) else 0
        begin = self._next("is empty; get it again, or delete it")
        if begin != b"{" and (flaw := known_flaw(self._text)) is not None:
            raise Malformed(flaw.detail)
        if begin != b"{":
            raise self._wrong(
                "is JSON, but no COCO dataset: it is a list, as detectors, Label Studio and CreateML write; "
                "export it as COCO"
                if begin == b"["
                else "is not JSON"
            )
        self._at += 1
        following = self._next()
        while following != b"}":
            yield from self._member()
            following = self._next()
            if following == b",":
                self._at += 1
                if self._next() != b'"':
                    raise self._wrong("is not JSON: a comma is followed by no key")
            elif following != b"}":
                raise self._wrong("is not JSON: a comma is missing")
        self._at += 1
        while self._more():
            pass
        if (more := AFTER_BLANKS.search(self._text, self._at)) is not None:
            self._at = more.start()
            raise self._wrong("has more after the end of its JSON")

    def _member(self) -> Iterator[Chunk]:
        key = self._value()
        try:
            name = msgspec.json.decode(key, type=str)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._wrong("is not JSON: a key is no text") from None
        if self._next() != b":":
            raise self._wrong(f"is not JSON: the key {name!r} is followed by no colon")
        self._at += 1
        if name in self._arrays and self._next() == b"[":
            self._at += 1
            self.found.add(name)
            yield from self._array(name)
        else:
            self.rest[name] = self._value()

    def _array(self, name: str) -> Iterator[Chunk]:
        count = 0
        if self._next() == b"]":
            self._at += 1
            yield Chunk(name, 0, b"[]", self._base + self._at, np.zeros((0, 2), np.int64), self._here())
            return
        while True:
            chunk = self._some(name, count)
            count += len(chunk)
            yield chunk
            if self._ahead is not None and (stretch := self._ahead.after(name, self._base + self._at)) is not None:
                count += stretch.count
                self._pass_over(stretch.stop)
            following = self._next()
            self._at += 1
            if following == b"]":
                return
            if following != b",":
                self._at -= 1
                raise self._wrong(f"is not JSON: {name}[{count - 1}] is followed by neither a comma nor a bracket")

    def _some(self, name: str, count: int) -> Chunk:
        """As many whole elements from here on as are at hand, one at least."""
        while True:
            self._next()
            begin = self._at
            for edge in (functools.partial(self._meeting, name), last_boundary, first_end):
                stop = edge(self._text, begin)
                if stop == begin:
                    continue
                text = b"".join((b"[", memoryview(self._text)[begin:stop], b"]"))
                decoded = self._decoded(name, text)
                if decoded is None:
                    continue  # the array ends before, the edge is one of a nested list, or there is a mistake
                found, spans = decoded
                base = self._base + begin - 1
                made = Chunk(name, count, text, base, spans + base, self._here(), found, self._indent())
                self._at = stop
                return made
            edges = list(elements(self._text, begin))
            if edges:
                base = self._base + begin - 1
                text = b"[" + self._text[begin : edges[-1][1]] + b"]"
                here = np.array(edges, np.int64) + self._base
                made = Chunk(name, count, text, base, here, self._here(), indent=self._indent())
                self._doubtful = made
                self._at = edges[-1][1]
                return made
            if self._text[begin : begin + 1] in (b",", b"]", b"}", b":"):
                raise self._wrong(f"is not JSON: {name}[{count}] is missing")
            if not self._more():
                raise self._slip(f"{name}[{count}]") or self._wrong(
                    f"is not JSON (cut short: {name}[{count}] does not end)"
                )

    def _meeting(self, name: str, text: bytes, begin: int) -> int:
        """Where the element ends that is followed by what was read ahead; `begin` where it is not at hand."""
        edge = self._ahead.edge(name, self._base + begin, self._base + len(text)) if self._ahead is not None else None
        return begin if edge is None else edge - self._base

    def _decoded(self, name: str, text: bytes) -> tuple[list[Any] | None, Ints] | None:
        """What the decoder of an array makes of a list, and where its elements are; None for what is no list."""
        found = None
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if name in self._decoders:
                found = self._decoders[name](text)
                if (spans := spans_of_objects(text, len(found))) is not None:
                    return found, spans
            return found, spans_of(_raws(text), text)
        return None
