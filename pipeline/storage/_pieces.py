"""Writing a large file a piece at a time."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.stop import check_stop
from pipeline.storage._writing import replace_with


def write_pieces(path: str, pieces: Iterable[bytes]) -> tuple[int, bytes]:
    """Write a file of `pieces`, whole or not at all; its size and the XXH3-128 of its content."""
    import xxhash

    state = xxhash.xxh3_128()
    size = 0

    def write(temporary: str) -> None:
        nonlocal size
        with open(temporary, "wb") as file:
            for piece in pieces:
                check_stop()
                file.write(piece)
                state.update(piece)
                size += len(piece)

    replace_with(path, write)
    return size, state.digest()
