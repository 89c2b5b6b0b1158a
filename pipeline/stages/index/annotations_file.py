"""The file, or the files, that hold all labels of a split; each is read in one state, or not at all.

It is read, not mapped: one that is written anew meanwhile is noticed, where a process that has it mapped would be
killed. Objects near each other are one read, cut in memory: those of a file of 78 MB take 0.13, 0.18 and 0.28 s of CPU
in 1, 4 and 16 buckets, where a read for each takes 0.46, 0.51 and 0.58 s (145,000 objects; November 2026).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pipeline import storage
from pipeline.base.errors import DataError
from pipeline.formats import Malformed

T = TypeVar("T")

if TYPE_CHECKING:
    from pipeline.base.arrays import AnyInts as Spans  # of any width
    from pipeline.base.arrays import Ints

#: Bytes between two objects that are read with them: copying these costs what another read does.
_GAP = 8192

#: Objects that are cut at a time: what is read of them stays in the processor's cache.
_OBJECTS = 512


class AnnotationsFile:
    """The file at `path` in the state `mark`; by default in that which it has now."""

    def __init__(self, path: str, mark: bytes | None = None) -> None:
        folder, self._name = os.path.split(path)
        self._folder = storage.locate(folder)
        self.path = path
        self.mark = self._state() if mark is None else mark

    def _state(self) -> bytes:
        (found,) = self._folder.fingerprints([self._name])
        return found.mark if found is not None else b""

    def read_through(self, read: Callable[[Iterator[bytes]], T]) -> T:
        """What `read` makes of the file's bytes, which come in pieces.

        Raises `DataError` for a file that is malformed, or is written anew meanwhile.
        """
        try:
            found = read(self.pieces())
        except Malformed as error:
            raise self.refused(error) from None
        self.must_be_unchanged()
        return found

    def refused(self, error: Malformed) -> DataError:
        """The sentence for a file that is malformed. Raises `DataError` for one that is written anew meanwhile."""
        self.must_be_unchanged()  # half a file that is being written is no mistake in it
        line = f":{error.line}" if error.line else ""
        cure = "" if "; " in str(error) else "; correct it, or get it again"
        return DataError(f"{self.path}{line}: {error}{cure}")

    def size(self) -> int:
        """How large the file is, in bytes."""
        return self._folder.sizes([self._name])[0] or 0

    @property
    def is_local(self) -> bool:
        """Whether several processes read several parts of it sooner than one reads all."""
        return self._folder.local is not None

    def pieces(self, begin: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes of the file from `begin` to `stop` (None: its end), a piece at a time."""
        return storage.pieces_of(self._folder, self._name, begin, stop)

    def texts(self, spans: Spans) -> Sequence[bytes]:
        """The bytes at `spans`, shape (n, 2): begin and end. Raises `DataError` where the file changed."""
        wide = spans.astype(np.int64)
        found = [text for at in range(0, len(wide), _OBJECTS) for text in self._some_texts(wide[at : at + _OBJECTS])]
        self.must_be_unchanged()
        return found

    def _some_texts(self, spans: Ints) -> Iterator[bytes]:
        begin, stop = spans.T
        between = begin[1:] - stop[:-1]
        first = np.flatnonzero(np.concatenate([[True], (between < 0) | (between > _GAP)]))
        counts = np.diff(first, append=len(spans))
        blocks = self._folder.read_spans(
            self._name, np.stack([begin[first], stop[first + counts - 1]], axis=1).tolist()
        )
        block_of = itertools.chain.from_iterable(map(itertools.repeat, blocks, counts.tolist()))
        within = spans - np.repeat(begin[first], counts)[:, None]
        return (block[start:end] for block, (start, end) in zip(block_of, within.tolist(), strict=True))

    def must_be_unchanged(self) -> None:
        """Raise `DataError` where the file is in another state by now."""
        if self._state() != self.mark:
            raise DataError(f"{self.path}: is written anew while it is read; run again when that is done")


class AnnotationsFiles:
    """The files at `paths` in the states `marks`, by default in those which they have now.

    Spans count on from file to file: where one begins is the size of those before it.
    """

    def __init__(self, paths: Sequence[str], marks: Sequence[bytes] | None = None) -> None:
        states: Sequence[bytes | None] = [None] * len(paths) if marks is None else marks
        self._files = [AnnotationsFile(path, mark) for path, mark in zip(paths, states, strict=True)]

    @property
    def marks(self) -> tuple[bytes, ...]:
        """The states of the files."""
        return tuple(file.mark for file in self._files)

    def read_through(self, read: Callable[[Iterator[Iterator[bytes]]], T]) -> T:
        """What `read` makes of the files, each in pieces, one after the other. Raises as `AnnotationsFile` does."""
        reading = self._files[0]

        def pieces() -> Iterator[Iterator[bytes]]:
            nonlocal reading
            for file in self._files:
                reading = file
                yield file.pieces()

        try:
            found = read(pieces())
        except Malformed as error:
            raise reading.refused(error) from None
        for file in self._files:
            file.must_be_unchanged()
        return found

    def texts(self, spans: Spans) -> Sequence[bytes]:
        """The bytes at `spans`, shape (n, 2), each within one file. Raises `DataError` where a file changed."""
        if len(self._files) == 1:
            return self._files[0].texts(spans)
        spans = spans.astype(np.int64)
        begins = np.cumsum([0, *(file.size() for file in self._files[:-1])])
        file_of = np.searchsorted(begins, spans[:, 0], side="right") - 1
        found: list[bytes] = [b""] * len(spans)
        for number, file in enumerate(self._files):
            which = np.flatnonzero(file_of == number)
            for at, text in zip(which.tolist(), file.texts(spans[which] - begins[number]), strict=True):
                found[at] = text
        return found
