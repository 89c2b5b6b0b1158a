"""Counts and sizes as a person reads them."""

from __future__ import annotations

import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def plural(count: int, singular: str, many: str | None = None) -> str:
    """``1 image``, ``2 images``, ``117,266 images``: a count with its noun."""
    return f"{count:,} {noun(count, singular, many)}"


def noun(count: int, singular: str, many: str | None = None) -> str:
    """The noun, or any words that go with it, for `count` of them."""
    return singular if count == 1 else many or singular + "s"


def size(count: int) -> str:
    """A number of bytes for people: ``18.9 MB`` (powers of ten)."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def duration(text: str) -> float:
    """Seconds of ``90s``, ``10m``, ``26h``, ``2d``, ``1h30m``; a number alone is seconds. Raises `ValueError`."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(r"(\d+(\.\d+)?[smhd])+", text):
        raise ValueError(text)
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([smhd])", text))


def age(seconds: float) -> str:
    """How long something took, or is ago: ``40 s``, ``12 min``, ``26 h``, ``3 days``."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return plural(round(seconds / 86400), "day")
