"""Rows of Open Images' CSV files in a block of whole lines, found all at once: none of their fields has a comma."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from pipeline.base.arrays import Bools, Bytes, Ints

    Texts = npt.NDArray[np.bytes_]

#: A longer field names no image and no class.
MAX_FIELD = 255


@dataclass(frozen=True)
class Lines:
    """The good lines of a block, each with as many fields as the file's first line.

    `spans`, shape (n, 2), is where they are; `images` and `classes` are their ImageID and LabelName; `begins_run[i]`:
    line i is of another image than the good line right before it, or has none there. `bad` are the numbers of the
    other lines, from 0, with how many fields each has.
    """

    spans: Ints
    images: Texts
    classes: Texts
    begins_run: Bools
    bad: list[tuple[int, int]]
    count: int


def lines_of(block: bytes, fields: int) -> Lines:
    """The lines of a `block` of a file whose lines have so many `fields`, 3 at least."""
    text = np.frombuffer(block, np.uint8)
    stops = np.flatnonzero(text == 10)
    if not block.endswith(b"\n"):
        stops = np.append(stops, len(block))
    begins = np.concatenate([[0], stops[:-1] + 1])
    ends = stops - ((stops > begins) & (text[stops - 1] == 13))
    commas = np.flatnonzero(text == 44)
    first = np.searchsorted(commas, begins)
    counts = np.searchsorted(commas, ends) - first + 1
    good = counts == fields
    good[_with_returns(text, begins, ends)] = False
    which = np.flatnonzero(good)
    first = first[which]
    lengths = np.stack([commas[first] - begins[which], commas[first + 2] - commas[first + 1] - 1])
    short = ((lengths > 0) & (lengths <= MAX_FIELD)).all(axis=0)
    which, first, lengths = which[short], first[short], lengths[:, short]
    images = _texts(text, begins[which], lengths[0])
    bad = np.ones(len(begins), np.bool_)
    bad[which] = False
    bad[ends == begins] = False
    begins_run = np.ones(len(which), np.bool_)
    begins_run[1:] = (images[1:] != images[:-1]) | (np.diff(which) > 1)
    return Lines(
        np.stack([begins[which], ends[which]], axis=1),
        images,
        _texts(text, commas[first + 1] + 1, lengths[1]),
        begins_run,
        [(int(i), int(counts[i])) for i in np.flatnonzero(bad)],
        len(begins),
    )


def _with_returns(text: Bytes, begins: Ints, ends: Ints) -> Ints:
    """The lines with a carriage return that does not end them."""
    returns = np.flatnonzero(text == 13)
    line = np.searchsorted(begins, returns, side="right") - 1
    return line[returns < ends[line]]


def _texts(text: Bytes, begins: Ints, lengths: Ints) -> Texts:
    """The bytes from each of `begins` on, of these `lengths`."""
    longest = int(lengths.max(initial=1))
    within = np.arange(longest)
    found = np.take(text, begins[:, None] + within, mode="clip")
    found[within >= lengths[:, None]] = 0
    return found.view(f"S{longest}").ravel()
