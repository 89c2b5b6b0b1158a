"""Large files a piece at a time, and zip archives a member at a time."""

from __future__ import annotations

import queue
import threading
import zipfile
from collections.abc import Iterable, Iterator

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
                told = zipfile.ZipInfo(name)  # of 1980, the first day that a zip knows
                told.create_system, told.external_attr = 3, 0o100644 << 16
                archive.writestr(told, content)
        with open(temporary, "rb") as file:
            while piece := file.read(1 << 20):
                state.update(piece)
                size += len(piece)

    replace_with(path, write)
    return size, state.digest()


def read_ahead(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same `pieces`, taken by a thread of its own, a few at a time; what it raises is raised here."""
    taken: queue.Queue[bytes | BaseException | None] = queue.Queue(2)
    left = threading.Event()

    def offer(what: bytes | BaseException | None) -> bool:
        while not left.is_set():
            try:
                taken.put(what, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def take() -> None:
        try:
            if all(offer(piece) for piece in pieces):
                offer(None)
        except BaseException as error:  # noqa: BLE001 - raised where the pieces go
            offer(error)

    threading.Thread(target=take, daemon=True).start()
    try:
        while (found := taken.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        left.set()
