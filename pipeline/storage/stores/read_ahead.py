"""Objects fetched ahead of who reads them, in order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator


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
