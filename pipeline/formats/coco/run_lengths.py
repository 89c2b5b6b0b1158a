"""Masks as run lengths (RLE), as tools write them: a list of counts or COCO's string, perhaps as text.

A mask that no reader can decode is found here, of all annotations of a batch at once: it would go along to COCO JSON,
whether the task reads it or not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.formats._values import from_text, plain, run_lengths, shown
from pipeline.geometry import masks

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools, Ints

#: A mask of more pixels is refused: it would take gigabytes.
MAX_PIXELS = 1 << 28

#: What an annotation with run lengths has, be they right or not.
_MASK = re.compile(rb'"segmentation"\s*:[\s\["]*\{')

#: Bytes of a number in COCO's string, and pixels of a run, beyond which a mask is looked at by itself.
_MOST_BYTES, _MOST = 5, 1 << 30

#: Masks that are added up at once: of more, the arrays are larger than the processor's memory.
_AT_ONCE = 256


class _RunLengths(msgspec.Struct, gc=False):
    size: list[int]
    counts: list[int] | str


class _Masked(msgspec.Struct, gc=False):
    segmentation: _RunLengths


_masked = msgspec.json.Decoder(list[_Masked]).decode


def read_rle(given: dict[str, Any]) -> Bools | None:
    """The mask, shape (height, width), of an RLE, as a list of counts or compressed; None for anything else."""
    runs = read_runs(given)
    return masks.to_mask(runs[0], runs[1], runs[2]) if runs is not None else None


def read_runs(given: dict[str, Any]) -> tuple[Ints, int, int] | None:
    """The runs of an RLE, see `geometry.masks`, its height and its width; None for anything else."""
    found = _runs_or_flaw(given)
    return found if not isinstance(found, str) and found[1] * found[2] <= MAX_PIXELS else None


def _runs_or_flaw(given: dict[str, Any]) -> tuple[Ints, int, int] | str:
    """The runs of an RLE, its height and its width; or the clause that says why no reader can decode it."""
    if "counts" not in given:
        return f"has the segmentation {shown(given)}, which is neither polygons nor run lengths"
    given = run_lengths(given)
    counts, size = given["counts"], given.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(type(n) is int and n > 0 for n in size)):
        return f"has a mask of size {shown(size)}, which is no height and width in pixels"
    if isinstance(counts, str) and counts.startswith(("b'", 'b"')):
        return f"has a mask whose counts are bytes as Python prints them ({shown(counts)}); write counts.decode()"
    runs = _runs_in(counts)
    if runs is None:
        return f"has a mask whose counts are {shown(counts)}, no run lengths"
    height, width = size
    pixels = sum(runs.tolist())
    if pixels != height * width:
        return f"has a mask whose runs have {pixels:,} pixels, but its size {height} x {width} has {height * width:,}"
    return runs, height, width


def _runs_in(counts: Any) -> Ints | None:
    try:
        if isinstance(counts, str):
            return masks.decompress(counts)
        if isinstance(counts, list) and all(type(n) is int and n >= 0 for n in counts):
            return np.array(counts, np.int64)
    except (ValueError, OverflowError):
        pass
    return None


def damaged(raws: Sequence[bytes]) -> dict[int, str]:
    """The annotations whose mask no reader can decode, by index, each with the clause that says why."""
    some = [i for i, raw in enumerate(raws) if raw.rfind(b"{") > 0 and _MASK.search(raw) is not None]
    if not some:
        return {}
    try:
        found = [one.segmentation for one in _masked(b"[" + b",".join([raws[i] for i in some]) + b"]")]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        doubtful = some
    else:
        doubtful = [i for i, good in zip(some, _sound(found), strict=True) if not good]
    return {i: clause for i in doubtful if (clause := _damage_of(raws[i])) is not None}


def _damage_of(raw: bytes) -> str | None:
    data = plain(raw)
    given = from_text(data.get("segmentation")) if isinstance(data, dict) else None
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    found = _runs_or_flaw(given) if isinstance(given, dict) and given else None
    return found if isinstance(found, str) else None


def _sound(several: Sequence[_RunLengths]) -> list[bool]:
    """Which masks are certainly right."""
    texts = [one.counts if isinstance(one.counts, str) else "" for one in several]
    totals = [total for at in range(0, len(texts), _AT_ONCE) for total in totals_of(texts[at : at + _AT_ONCE])]
    for i, one in enumerate(several):
        if not isinstance(one.counts, str):
            totals[i] = sum(one.counts) if min(one.counts, default=0) >= 0 else -1
    return [
        len(one.size) == 2 and min(one.size) > 0 and one.size[0] * one.size[1] == total
        for one, total in zip(several, totals, strict=True)
    ]


def totals_of(texts: Sequence[str]) -> list[int]:
    """The pixels of each of several strings of COCO; -1 where that is not certain."""
    whole = [text if text.isascii() and text and not ord(text[-1]) - 48 & 32 else "" for text in texts]
    lengths = np.fromiter(map(len, whole), np.int64, len(whole))
    filled = np.flatnonzero(lengths)
    totals = np.full(len(texts), -1, np.int64)
    if not len(filled):
        return list(totals.tolist())
    low = np.frombuffer("".join(whole).encode(), np.uint8) - np.uint8(48)  # of what is below it, more than 63
    stops = np.flatnonzero(low & 32 == 0) + 1
    ends = np.cumsum(lengths[filled])
    sizes = np.diff(stops, prepend=0)
    begins = stops - sizes
    last = low[stops - 1]
    numbers = (low[begins] & 31).astype(np.int32)
    for place in range(1, min(int(sizes.max()), _MOST_BYTES)):
        longer = np.flatnonzero(sizes > place)
        numbers[longer] += (low[begins[longer] + place] & 31).astype(np.int32) << 5 * place
    below = np.flatnonzero(last & 16)
    numbers[below] -= np.int32(1) << 5 * np.minimum(sizes[below], _MOST_BYTES).astype(np.int32)
    first = np.searchsorted(begins, ends - lengths[filled])
    runs = _runs_of(numbers, first)
    sums = np.add.reduceat(runs, first, dtype=np.int64)
    doubtful = np.flatnonzero((runs < 0) | (runs > _MOST) | (sizes > _MOST_BYTES))
    sums[np.searchsorted(first, doubtful, side="right") - 1] = -1
    sums[np.searchsorted(ends, np.flatnonzero(low > 63), side="right")] = -1
    totals[filled] = sums
    return list(totals.tolist())


def _runs_of(numbers: npt.NDArray[np.int32], first: Ints) -> npt.NDArray[np.int32]:
    """The runs of masks, the numbers of each from `first` on.

    From the fourth on, a number is the difference to the run before the last: so they are sums of every second number.
    """
    sums = np.empty_like(numbers)
    for parity in (0, 1):
        np.cumsum(numbers[parity::2], dtype=np.int32, out=sums[parity::2])
    stops = np.append(first[1:], len(numbers))
    before = np.where(first > 0, sums[first - 1], 0)  # from the second number on; from the third on, without the first
    runs = sums.copy()
    for parity in (0, 1):
        base = np.where(first % 2 == parity, sums[first], before)
        runs[parity::2] -= np.repeat(base, (stops + 1 - parity) // 2 - (first + 1 - parity) // 2)
    runs[first] = numbers[first]
    return runs
