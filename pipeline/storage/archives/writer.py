"""Large files a piece at a time, and zip archives a member at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable

from pipeline.runtime.counters import READ, count
from pipeline.runtime.interrupt import check_stop
from pipeline.storage.local.write import replace_with


def write_zip(path: str, members: Iterable[tuple[str, bytes]]) -> tuple[int, bytes]:
    """Write a zip archive of `members` (path and content), whole or not at all; its size and XXH3-128.

    They are stored as they are, and nothing of time or machine gets in: the same members make the same bytes. Only one
    of them is in memory.
    """
    import xxhash

    state = xxhash.xxh3_128()
    size = 0

    def write(temporary: str) -> None:
        nonlocal size
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, content in members:
                check_stop()
                info = zipfile.ZipInfo(name)  # of 1980, the first day that a zip knows
                info.create_system, info.external_attr = 3, 0o100644 << 16
                archive.writestr(info, content)
        with open(temporary, "rb") as file:
            while piece := file.read(1 << 20):
                state.update(piece)
                size += len(piece)
        count(READ, size)

    replace_with(path, write)
    return size, state.digest()
