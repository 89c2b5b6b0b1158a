"""Where values are in JSON text, by brackets, strings and blanks, or by where a decoder found them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

if TYPE_CHECKING:
    from pipeline.base.arrays import Bytes, Ints

_BLANKS = b" \t\r\n"

#: A string, a bracket, or the beginning of a string that does not end here.
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]|"', re.DOTALL)

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)

_SCALAR = re.compile(rb'[^\s,:"\[\]{}]+')

_END = re.compile(rb"\}[ \t\r\n]*+\]")

AFTER_BLANKS = re.compile(rb"[^ \t\r\n]")

#: Where there are more blanks between two objects, the time that they take is that of another way.
_BLANKS_BETWEEN = 64

_IS_BLANK = np.isin(np.arange(256), list(_BLANKS))


def last_boundary(text: bytes, begin: int) -> int:
    """Where the last object ends that is followed by a comma and another object; `begin` where none is."""
    at = len(text)
    for _ in range(64):
        at = text.rfind(b"{", begin + 1, at)
        if at < 0:
            return begin
        comma = _last_of(text, begin, at)
        if text[comma : comma + 1] == b",":
            brace = _last_of(text, begin, comma)
            if text[brace : brace + 1] == b"}":
                return brace + 1
    return begin


def first_end(text: bytes, begin: int) -> int:
    """Where the first object ends that is followed by the bracket of an array; `begin` where none is."""
    found = _END.search(text, begin)
    return found.start() + 1 if found is not None else begin


def _last_of(text: bytes, begin: int, stop: int) -> int:
    """The position of the last byte before `stop` that is no blank."""
    stop -= 1
    while stop > begin and text[stop] in _BLANKS:
        stop -= 1
    return stop


def elements(text: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each element from `at` on that is whole, by brackets and strings alone."""
    while True:
        stop = stop_of(text, at)
        if stop <= at or stop == len(text):  # what ends with the text may go on
            return
        yield at, stop
        comma = AFTER_BLANKS.search(text, stop)
        if comma is None or comma[0] != b",":
            return
        following = AFTER_BLANKS.search(text, comma.end())
        if following is None:
            return
        at = following.start()


def stop_of(text: bytes, at: int) -> int:
    """Where the value that begins at `at` ends; -1 where it does not."""
    if text[at] in b"[{":
        depth = 0
        for found in _STRUCTURE.finditer(text, at):
            first = text[found.start()]
            if first in b"[{":
                depth += 1
            elif first in b"]}":
                depth -= 1
                if not depth:
                    return found.end()
            elif found.end() - found.start() == 1:
                return -1
        return -1
    pattern = _STRING if text[at] == 34 else _SCALAR
    value = pattern.match(text, at)
    return value.end() if value is not None else -1 if text[at] == 34 else at


def spans_of_objects(text: bytes, count: int) -> Ints | None:
    """Begin and end of the `count` objects of the list `text`; None where it is not certain.

    Any two objects have a closing brace, a comma and an opening brace between them. Where there are no more of these,
    as strings and lists in objects may have them, they are all.
    """
    whole = np.frombuffer(text, np.uint8)
    opening = np.flatnonzero(whole == ord("{"))[1:]
    comma = _last_before(whole, opening)
    closing = _last_before(whole, comma)
    between = (whole[comma] == ord(",")) & (whole[closing] == ord("}"))
    if np.count_nonzero(between) != count - 1 or whole[1] != ord("{") or whole[-2] != ord("}"):
        return None
    spans = np.empty((count, 2), np.int64)
    spans[0, 0], spans[1:, 0] = 1, opening[between]
    spans[:-1, 1], spans[-1, 1] = closing[between] + 1, len(text) - 1
    return spans


def _last_before(whole: Bytes, at: Ints) -> Ints:
    """The position of the last byte before each position `at` that is no blank, or of one of many blanks."""
    at = at - 1
    for _ in range(_BLANKS_BETWEEN):
        blank = _IS_BLANK[whole[at]]
        if not blank.any():
            break
        at = at - blank
    return at


def spans_of(raws: list[msgspec.Raw], text: bytes) -> Ints:
    """Begin and end in `text` of the values that were found in it."""
    base = _address(text)
    lengths = np.fromiter([len(memoryview(raw)) for raw in raws], np.int64, len(raws))
    first = _address(raws[0]) - base
    if len(raws) > 1:
        # Nearly all files have the same bytes between any two values. That is checked, and saves asking each of them.
        gap = _address(raws[1]) - base - first - int(lengths[0])
        begin = first + np.cumsum(lengths + gap) - lengths - gap
        if int(begin[-1]) == _address(raws[-1]) - base and _all_apart(text, begin, lengths, gap):
            return np.stack([begin, begin + lengths], axis=1)
    begin = np.fromiter((_address(raw) for raw in raws), np.int64, len(raws)) - base
    return np.stack([begin, begin + lengths], axis=1)


def _all_apart(data: bytes, begin: Ints, lengths: Ints, gap: int) -> bool:
    """Whether every value is followed by the same `gap` bytes: a comma and blanks."""
    text = np.frombuffer(data, np.uint8)
    first_stop = int(begin[0] + lengths[0])
    between = text[first_stop : first_stop + gap]
    stops = (begin + lengths)[:-1]
    return all(bool((text[stops + i] == between[i]).all()) for i in range(gap)) and bool(
        (text[begin] == text[begin[0]]).all()
    )


def _address(value: Any) -> int:
    return int(np.frombuffer(value, np.uint8).__array_interface__["data"][0])
