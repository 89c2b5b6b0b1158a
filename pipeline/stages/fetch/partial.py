"""A file that is under way: what of it is here, where its notes are, and what was set aside."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline import storage
from pipeline.base.digest import digest_of
from pipeline.runtime.counters import WRITTEN, count

#: Progress is noted so often, in seconds: the less often, the longer a disk takes for it.
_OFTEN_S, _SELDOM_S, _SHARE = 0.1, 1.0, 5

#: A system call takes so many pieces.
_AT_ONCE = 1000


@dataclass
class State:
    """What is known of a file under way: its size, what marks its state, and [start, next, stop] of its ranges.

    `etag` and `modified` are the server's; of a store `etag` is the mark of its fingerprint.
    """

    url: str
    size: int | None = None
    etag: str | None = None
    modified: str | None = None
    ranges: list[list[int]] = field(default_factory=list)
    #: Whether parts of it came from servers that say different things of its state: the digest decides.
    mixed: bool = False

    @property
    def here(self) -> int:
        """Bytes that are here."""
        return sum(at - start for start, at, _ in self.ranges)

    @property
    def complete(self) -> bool:
        """Whether all bytes are here."""
        return self.size is not None and self.here == self.size


class PartFile:
    """What came of the file at `path`: in ``NAME.part``, and what is known of it in ``NAME.part.json``.

    Where it turns out to be of no use it is set aside as ``NAME.part.old``, until its replacement is whole.
    """

    def __init__(self, path: str) -> None:
        self.final = path
        self.path, self.notes, self.old = (f"{path}.{end}" for end in ("part", "part.json", "part.old"))
        self._due, self._noted = 0.0, 0

    def recall(self, is_of: Callable[[State], bool]) -> State | None:
        """The state that an earlier run left, where `is_of` says that it is of this file.

        What is of no use any more is set aside.
        """
        try:
            with open(storage.open_own(self.notes, os.O_RDONLY, "read"), encoding="utf-8") as file:
                noted = json.load(file)
            if noted.pop("digest") == _digest(noted) and os.path.exists(self.path):
                state = State(**noted)
                if state.size is not None and is_of(state):
                    return state  # without a size there was no Range either, and nothing to go on with
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass
        self.set_aside()
        return None

    def open(self) -> int:
        """A descriptor of what came, to read and write."""
        self._due = time.monotonic() + _OFTEN_S
        return storage.open_own(self.path, os.O_RDWR | os.O_CREAT, "written")

    def put(self, fd: int, offset: int, pieces: Sequence[bytes]) -> int:
        """Write what came; the offset behind it. Raises `StorageError`."""
        start = offset
        try:
            for i in range(0, len(pieces), _AT_ONCE):
                offset += _write_at(fd, offset, pieces[i : i + _AT_ONCE])
        except OSError as error:
            raise storage.storage_error(error, self.path, "written") from None
        count(WRITTEN, offset - start)
        return offset

    def note(self, fd: int, state: State) -> None:
        """Write down the progress of the ranges: what is written down is on the disk, whatever happens then."""
        noted = {**vars(state), "ranges": [list(r) for r in state.ranges]}
        text = json.dumps({**noted, "digest": _digest(noted)})
        os.fdatasync(fd)
        storage.replace_with(self.notes, lambda path: _write_text(path, text))

    def note_at_times(self, fd: int, state: State) -> None:
        """Write the progress down where that is due: what came since is lost to a kill."""
        begun = time.monotonic()
        if begun < self._due or state.here == self._noted:
            return
        self._noted = state.here
        self.note(fd, state)
        now = time.monotonic()
        self._due = now + min(max(_OFTEN_S, _SHARE * (now - begun)), _SELDOM_S)

    def close(self, fd: int, state: State) -> None:
        """Close it, and remove it where nothing came."""
        os.close(fd)
        if not state.here and not state.complete:
            remove(self.path)

    def set_aside(self) -> None:
        """Make room for another beginning: what came is deleted when its replacement is whole, and not before."""
        with contextlib.suppress(OSError):
            if os.stat(self.path).st_size:
                os.replace(self.path, self.old)
        remove(self.notes)

    def finish(self) -> None:
        """Rename it to its name, durably; what was set aside is of no more use."""
        with open(self.path, "rb") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.final)
        remove(self.notes)
        remove(self.old)


def remove(path: str) -> None:
    """Delete a file, if it is there."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def _write_at(fd: int, offset: int, pieces: Sequence[bytes]) -> int:
    """Write all of `pieces` at `offset`, however little a call takes; their size."""
    done, size = os.pwritev(fd, pieces, offset), sum(map(len, pieces))
    if done < size:
        data = memoryview(b"".join(pieces))
        while done < size:
            done += os.pwrite(fd, data[done:], offset + done)
    return size


def _digest(noted: dict[str, Any]) -> str:
    """What shows that notes were damaged."""
    return digest_of(json.dumps(noted, sort_keys=True).encode()).hex()


def _write_text(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
