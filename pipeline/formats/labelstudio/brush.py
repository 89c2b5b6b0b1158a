"""Masks as Label Studio's brush writes them: the run lengths of the four channels of an image, packed in bits.

The bits are: 32 for the count of values, 5 for the bits of a value less one, four times 4 for the bits of a run's
length less one; then, until all values are there, 1 for whether it is a run of one value, 2 for which of the four
sizes, the length less one, and one value, or as many as the length says. A pixel is inside where its alpha, each fourth
value, is not 0.

Format: ``decode_rle`` in ``label_studio_converter/brush.py``, after ``packages/rle-pack`` of thi-ng/umbrella.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools

#: Larger masks are not decoded: four values a pixel are a quarter of a gigabyte.
MAX_PIXELS = 1 << 26

_CHANNELS = 4

_ALPHA = 3


class NoMaskError(ValueError):
    """A clause that says why bytes are no mask of an image."""


def read_mask(rle: Sequence[Any], width: int, height: int) -> Bools:
    """The mask, shape (height, width), of bytes given as numbers; raises `NoMaskError`."""
    if width * height > MAX_PIXELS:
        raise NoMaskError(f"its mask of {width} x {height} pixels is larger than {MAX_PIXELS:,} pixels")
    try:
        data = bytes(rle)
    except (TypeError, ValueError):
        raise NoMaskError("its `rle` is no list of bytes") from None
    bits = _Bits(data)
    count = bits.read(32)
    if count != width * height * _CHANNELS:
        raise NoMaskError(f"its `rle` is a mask of {count // _CHANNELS:,} pixels, not of {width} x {height}")
    size = bits.read(5) + 1
    lengths = [bits.read(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.bool_)
    at = 0
    while at < count:
        run = bits.read(1)
        stop = at + 1 + bits.read(lengths[bits.read(2)])
        if run:
            values[at:stop] = bits.read(size) != 0
        else:
            values[at:stop] = bits.some(min(stop, count) - at, size)
        at = stop
    alpha: Bools = values.reshape(height, width, _CHANNELS)[:, :, _ALPHA]
    return alpha


class _Bits:
    """Whole numbers of some bits, the highest first."""

    def __init__(self, data: bytes) -> None:
        self._text = (np.unpackbits(np.frombuffer(data, np.uint8)) + ord("0")).astype(np.uint8).tobytes()
        self._at = 0

    def read(self, size: int) -> int:
        return int(self._take(size), 2)

    def some(self, count: int, size: int) -> Bools:
        """Which of `count` numbers are not 0."""
        text = np.frombuffer(self._take(count * size), np.uint8).reshape(count, size)
        return np.asarray((text != ord("0")).any(axis=1))

    def _take(self, size: int) -> bytes:
        text = self._text[self._at : self._at + size]
        if len(text) < size:
            raise NoMaskError("its `rle` ends before its mask does")
        self._at += size
        return text
