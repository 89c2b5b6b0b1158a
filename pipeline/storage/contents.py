"""What is in one file of any location."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.storage.location import Location

#: Bytes of a file that are read through at a time.
_PIECE = 1 << 20


def pieces_of(location: Location, path: str, begin: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """The bytes of one file of a location from `begin` to `stop` (None: its end), a piece at a time."""
    stop = location.sizes([path])[0] or 0 if stop is None else stop
    parts = [(at, min(at + _PIECE, stop)) for at in range(begin, stop, _PIECE)]
    return (data for _, data in location.read_parts(path, parts, 1))


def read_image(location: Location, path: str) -> bytes:
    """The bytes of one file of `Location.fetch_many`; none where it cannot be had. Raises where its store is away."""
    return next(iter(location.fetch_many([path]))).unless_away(location.join(path)).data
