"""Files of lines that come in pieces, a block of whole lines at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from pipeline.formats import Malformed
from pipeline.formats._flaws import known_flaw
from pipeline.formats._large_json import MAX_VALUE

T = TypeVar("T")

_BOM = b"\xef\xbb\xbf"


def blocks(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Where a block of whole lines begins, and its bytes; blanks stand for a byte order mark.

    Raises `Malformed` for what is certainly no text of lines, and for a line longer than any that is read.
    """
    waiting: list[bytes] = []
    size = begin = 0
    for piece in itertools.chain(pieces, [None]):
        cut = piece.rfind(b"\n") + 1 if piece is not None else 0
        if piece is not None and not cut:
            waiting.append(piece)
            size += len(piece)
            if size > MAX_VALUE:
                raise Malformed(f"has a line of more than {MAX_VALUE >> 20} MiB")
            continue
        block = b"".join([*waiting, memoryview(piece)[:cut] if piece is not None else b""])
        waiting = [piece[cut:]] if piece is not None else []
        size = len(waiting[0]) if waiting else 0
        if not begin:
            if (flaw := known_flaw(block)) is not None:
                raise Malformed(flaw.detail)
            if block.startswith(_BOM):
                block = b" " * len(_BOM) + block[len(_BOM) :]
        if block:
            yield begin, block
            begin += len(block)


def line_blocks(pieces: Iterable[bytes]) -> Iterator[tuple[int, int, list[bytes]]]:
    """Number (from 1) of the first line, where it begins, and the lines of each of the `blocks`."""
    number = 1
    for begin, block in blocks(pieces):
        texts = block.split(b"\n")
        texts = texts[:-1] if not texts[-1] else texts
        yield number, begin, texts
        number += len(texts)


def spans_of(texts: list[bytes], begin: int) -> list[tuple[int, int]]:
    """Where lines are, the first of which is at `begin`."""
    spans = []
    for text in texts:
        spans.append((begin, begin + len(text)))
        begin += len(text) + 1
    return spans


def decoded_lines(texts: Sequence[bytes], decode: Callable[[bytes], Sequence[T]], one: Callable[[bytes], T]) -> list[T]:
    """What lines of JSON say, by `decode` of all of them as a list; where one of them is bad, each by `one`."""
    try:
        found = [*decode(b"[" + b",".join(texts) + b"]")]
        if len(found) == len(texts):
            return found
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return [one(text) for text in texts]
