"""What comes is taken while more comes: by a thread that does nothing else."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

#: So many lots of pieces may wait to be taken.
_AHEAD = 1

_Sink = Callable[[int, Sequence[bytes]], None]


class Sinks:
    """Calls sinks in the order in which pieces came; what one raises is raised by `check` and `settle`."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[tuple[_Sink, int, Sequence[bytes]] | None] = queue.Queue(_AHEAD)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def put(self, sink: _Sink, offset: int, pieces: Sequence[bytes]) -> None:
        """Have `pieces` taken by `sink`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._take, daemon=True)
            self._thread.start()
        self._waiting.put((sink, offset, pieces))

    def settle(self) -> None:
        """Return when all is taken."""
        self._waiting.join()
        self.check()

    def close(self) -> None:
        """Take what waits, unless a sink failed, and end the thread."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def check(self) -> None:
        """Raise what a sink raised."""
        if self._error is not None:
            raise self._error

    def _take(self) -> None:
        while True:
            found = self._waiting.get()
            try:
                if found is None:
                    return
                sink, offset, pieces = found
                if self._error is None:
                    sink(offset, pieces)
            except BaseException as error:  # noqa: BLE001 - raised where the pieces come
                self._error = error
            finally:
                self._waiting.task_done()
            del found  # its memory is not held until the next lot comes
