"""Polygons as nearly all files write them: lists of plain numbers, which are read by the million.

What is left of a text without its digits is its shape, and says how many numbers each polygon has: many objects are of
few shapes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_BLANKS = b" \t\r\n"

#: What numbers are made of but for exponents: those may be too large for a float, and are reported by who decodes them.
_DIGITS = b"0123456789-." + _BLANKS

_SHAPE = re.compile(rb"\[\[,+\](?:,\[,+\])*\]")

#: The text of numbers with commas between them, and brackets; how many of them each polygon has, and whether no polygon
#: is left out.
Plain = tuple[bytes, list[int], bool]


def shapes_of(texts: Sequence[bytes]) -> list[bytes]:
    """JSON without digits and blanks, of each of `texts`."""
    return b"\0".join(texts).translate(None, _DIGITS).split(b"\0") if texts else []  # which is in no JSON


def counts_of(shape: bytes) -> list[int] | None:
    """How many numbers each polygon has of a text of that shape; None for any other, or with a polygon of below two."""
    if _SHAPE.fullmatch(shape) is None:
        return None
    return [len(commas) + 1 for commas in shape[2:-2].split(b"],[")]


def plain_polygons(texts: Sequence[bytes]) -> list[Plain | None]:
    """The polygons of 3 points and more of each of `texts`; None for one that is anything else, or has exponents."""
    known: dict[bytes, list[int] | None] = {}
    plain: list[Plain | None] = []
    for text, shape in zip(texts, shapes_of(texts), strict=True):
        if shape in known:
            counts = known[shape]
        else:
            counts = counts_of(shape)
            if counts is not None and len(counts) > 2 and set(counts) == {2}:  # points in pairs
                counts = [2 * len(counts)]
            elif counts is not None and any(count < 6 or count % 2 for count in counts):
                counts = None
            known[shape] = counts
        plain.append((text, counts, True) if counts is not None else _plain(text))
    return plain


def _plain(text: bytes) -> Plain | None:
    """The same of one text, of which polygons may be left out."""
    text = bytes(text).translate(None, _BLANKS)  # it may be a part of a decoder's
    if text[:2] != b"[[" or text[-2:] != b"]]":
        return None
    parts = text[2:-2].split(b"],[")
    commas = [part.translate(None, _DIGITS) for part in parts]
    if any(rest.strip(b",") for rest in commas):
        return None
    counts = [len(rest) + 1 for rest in commas]
    good = [i for i, count in enumerate(counts) if count >= 6 and not count % 2]
    return b",".join([parts[i] for i in good]), [counts[i] for i in good], len(good) == len(parts)
