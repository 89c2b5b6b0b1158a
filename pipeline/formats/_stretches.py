"""Elements of a large JSON array that another process reads ahead, from amid the text.

Where a reader that begins anywhere in a text finds ``}``, a comma and ``{``, that may be a boundary of two elements of
the array, or in a string, a list within an element, or another array. What follows is decoded as if it were one, and
handed on with its edge. Whoever reads from the beginning takes it only if an element of the array ends at that very
edge: what a text means from there on depends on nothing else. Otherwise he reads on as if nothing were there.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from pipeline.formats._json_text import first_end, last_boundary, spans_of_objects

if TYPE_CHECKING:
    from pipeline.base.arrays import Ints

#: Bytes without a boundary of two elements after which none is searched any more.
_MOST = 64 << 20

_BOUNDARY = re.compile(rb"\}[ \t\r\n]*+,[ \t\r\n]*+\{")


@dataclass(frozen=True)
class Stretch:
    """`count` elements of an array, if one ends at byte `edge` of the file; the last of them ends at `stop`."""

    edge: int
    stop: int
    count: int
    found: Any


#: Where the search for a stretch begins, and who to ask for it: None where no boundary was found.
Read = tuple[int, Callable[[], Stretch | None]]


class Ahead:
    """Stretches of the array `member` that are read elsewhere; `join` gets what is found in those that can be used."""

    def __init__(self, member: str, stretches: Sequence[Read], join: Callable[[Any], None]) -> None:
        self._member, self._stretches, self._join = member, [*stretches], join
        self._next: Stretch | None = None

    def edge(self, member: str, begin: int, stop: int) -> int | None:
        """Where an element should end that begins at byte `begin` or later, of which the text until `stop` is known."""
        if member != self._member:
            return None
        while self._next is None or self._next.edge <= begin:
            if not self._stretches or self._stretches[0][0] >= stop:
                return None
            self._next = self._stretches.pop(0)[1]()
        return self._next.edge if self._next.edge <= stop else None

    def after(self, member: str, edge: int) -> Stretch | None:
        """The stretch after an element of `member` that ends at `edge`, if there is one; it is handed on."""
        stretch = self._next
        if stretch is None or member != self._member or stretch.edge != edge:
            return None
        self._next = None
        self._join(stretch.found)
        return stretch


def read_stretch(
    pieces: Iterable[bytes],
    begin: int,
    decode: Callable[[bytes], list[Any]],
    take: Callable[[list[Any], Ints], None],
) -> Stretch | None:
    """The elements after the first boundary in the text in `pieces`, which begins at byte `begin` of its file.

    `take` gets them, decoded, with their spans in the file, some at a time, until the array or the text ends, or one is
    not as usual.
    """
    text, stretch = b"", None
    for piece in pieces:
        text += piece
        if stretch is None:
            if (boundary := _BOUNDARY.search(text)) is not None:
                edge, first = begin + boundary.start() + 1, boundary.end() - 1
                stretch, text, begin = Stretch(edge, edge, 0, None), text[first:], begin + first
            elif len(text) > _MOST:
                return None
            else:
                continue
        stop = last_boundary(text, 0)
        if not stop and len(text) <= _MOST:
            continue
        found = _objects(text, stop, decode) if stop else None
        ended = found is None
        if found is None and (stop := first_end(text, 0)):
            found = _objects(text, stop, decode)
        if found is not None:
            take(found[0], found[1] + begin)
            stretch = replace(stretch, stop=begin + stop, count=stretch.count + len(found[0]))
        if ended:
            break
        following = text.index(b"{", stop)
        text, begin = text[following:], begin + following
    return stretch if stretch is not None and stretch.count else None


def _objects(text: bytes, stop: int, decode: Callable[[bytes], list[Any]]) -> tuple[list[Any], Ints] | None:
    """The objects that `text` until `stop` is made of, and their spans in it; None where it is anything else."""
    text = b"".join((b"[", memoryview(text)[:stop], b"]"))
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = decode(text)
        if (spans := spans_of_objects(text, len(found))) is not None:
            return found, spans - 1
    return None
