"""Counts and sizes as a person reads them."""

from __future__ import annotations


def plural(count: int, singular: str, many: str | None = None) -> str:
    """``1 image``, ``2 images``, ``117,266 images``: a count with its noun."""
    return f"{count:,} {singular if count == 1 else many or singular + 's'}"


def size(count: int) -> str:
    """A number of bytes for people: ``18.9 MB`` (powers of ten)."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
