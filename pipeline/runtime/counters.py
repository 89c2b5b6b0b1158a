"""Counting: files, bytes and requests of this process and its helpers, for progress and for what is said of a run.

A bucket is thousands of files, and a helper's results come back a bucket at a time: without this count nothing would be
seen to move for minutes. Each process has a slot of its own, so nobody waits for another. What workers on other
machines do is not in it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

#: Name of the thread that reads the count.
WATCHING = "coco-diy-progress"

#: What is counted, by its place in a slot: files gone through; bytes read from disks (but for our own tables, which are
#: mapped into memory), written (also to stores) and fetched from stores and servers; requests to these, without those
#: that the client of an object store repeats by itself. A link and a copy that a store makes by itself move no byte.
FILES, READ, WRITTEN, FETCHED, REQUESTS = range(5)

#: Numbers of a slot.
WIDTH = 5


class Slot(Protocol):
    """Numbers of one process."""

    def __getitem__(self, index: int, /) -> int:
        """One of them."""

    def __setitem__(self, index: int, value: int, /) -> None:
        """Change one."""


#: Where this process counts.
_MINE: list[Slot] = [[0] * WIDTH]

#: Where helpers of this process count, slot after slot.
_HELPERS: list[Sequence[int]] = []

_LOCK = threading.Lock()


def count_file() -> None:
    """One more file was read, written or copied."""
    _MINE[0][FILES] += 1


def count_files(count: int) -> None:
    """`count` more files were listed."""
    _MINE[0][FILES] += count


def count(what: int, number: int = 1) -> None:
    """Add `number` to what is counted; from any thread."""
    with _LOCK:
        _MINE[0][what] += number


def files_counted() -> int:
    """Files that this process and its helpers have gone through so far."""
    return counted(FILES)


def counted(what: int) -> int:
    """What this process and its helpers have counted so far."""
    return _MINE[0][what] + sum(sum(slots[what::WIDTH]) for slots in _HELPERS)


def count_in(slot: Slot) -> None:
    """Count in `slot`, which the parent of this process reads."""
    _MINE[0] = slot


def add_helpers(slots: Sequence[int]) -> None:
    """Add what helpers count in `slots` to this process's own count."""
    _HELPERS.append(slots)
