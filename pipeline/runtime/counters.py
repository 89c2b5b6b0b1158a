"""Counting: how many files the batches of this process and its helpers have gone through, for progress to read.

A bucket is thousands of files, and a helper's results come back a bucket at a time: without this count nothing would be
seen to move for minutes. Each process has a counter of its own, so nobody waits for a lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

#: Name of the thread that reads the count.
WATCHING = "coco-diy-progress"


class SharedNumber(Protocol):
    """A sequence of one number."""

    def __getitem__(self, index: int, /) -> int:
        """The number."""

    def __setitem__(self, index: int, value: int, /) -> None:
        """Change it."""


#: Where this process counts: one number.
_MINE: list[SharedNumber] = [[0]]

#: Where helpers of this process count.
_HELPERS: list[Iterable[int]] = []


def count_file() -> None:
    """One more file was read, written or copied."""
    _MINE[0][0] += 1


def count_files(count: int) -> None:
    """`count` more files were listed."""
    _MINE[0][0] += count


def files_counted() -> int:
    """Files that this process and its helpers have gone through so far."""
    return _MINE[0][0] + sum(sum(counts) for counts in _HELPERS)


def count_in(slot: SharedNumber) -> None:
    """Count in `slot`, which the parent of this process reads."""
    _MINE[0] = slot


def add_helpers(counts: Iterable[int]) -> None:
    """Add what helpers count in `counts` to this process's own count."""
    _HELPERS.append(counts)
