"""Numbers as the text of label rows, by the million. Part of `formats`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_WIDTH = 9  # " 0.123456"
_AT_ONCE = 1 << 14  # numbers whose digits stay in the processor's cache: twice as fast as all at once


def tails(values: Floats, starts: Ints, numbers: str) -> pa.Array:
    """Rows of numbers as the bytes after a class id: row i has ``values[starts[i]:starts[i + 1]]``.

    Each number has a blank before it and is written as C's printf writes it by `numbers`, ``%.6f`` or ``%g``.
    """
    if numbers != "%.6f":
        texts = [(f" {numbers}" * (stop - start)) % tuple(values[start:stop].tolist())
                 for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]
        return pa.array([text.encode() for text in texts], pa.binary())
    offsets = pa.py_buffer((starts * _WIDTH).astype(np.int32))
    plain = (values >= 0) & (values < 9.9)
    made = pa.BinaryArray.from_buffers(
        pa.binary(), len(starts) - 1, [None, offsets, pa.py_buffer(_six_decimals(np.where(plain, values, 0.0)))])
    if plain.all():
        return made
    odd = np.unique(np.searchsorted(starts, np.flatnonzero(~plain), side="right") - 1)
    slow = ["".join([" %.6f" % v for v in values[starts[i] : starts[i + 1]].tolist()]).encode() for i in odd]  # noqa: UP031
    mask = np.zeros(len(made), np.bool_)
    mask[odd] = True
    return pc.replace_with_mask(made, pa.array(mask), pa.array(slow, pa.binary()))


def _six_decimals(values: Floats) -> npt.NDArray[np.uint8]:
    """Numbers from 0 to 9.9 as ``" %.6f"``, nine bytes each."""
    text = np.empty((len(values), _WIDTH), np.uint8)
    for begin in range(0, len(values), _AT_ONCE):
        text[begin : begin + _AT_ONCE] = _digits(values[begin : begin + _AT_ONCE]).T
    return text.reshape(-1)


def _digits(values: Floats) -> npt.NDArray[np.uint8]:
    """The bytes of `_six_decimals`, those of one place in the text after another: shape (9, numbers)."""
    scaled = values * 1e6
    whole = np.rint(scaled)
    # Where the product lies so near to the middle that its own error may decide, printf is asked.
    for i in np.flatnonzero(np.abs(np.abs(scaled - whole) - 0.5) < 1e-6).tolist():
        whole[i] = int(("%.6f" % values[i]).replace(".", ""))  # noqa: UP031
    rest = whole.astype(np.uint32)
    text = np.full((_WIDTH, len(values)), ord("0"), np.uint8)
    text[0], text[2] = ord(" "), ord(".")
    for place in (8, 7, 6, 5, 4, 3):
        tenth = rest // 10
        text[place] += (rest - tenth * 10).astype(np.uint8)
        rest = tenth
    text[1] += rest.astype(np.uint8)
    return text
