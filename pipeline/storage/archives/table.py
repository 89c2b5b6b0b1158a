"""The directory of an archive as a table, cached by the archive's fingerprint."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from pipeline.base.digest import digest_of
from pipeline.base.memory import release_after
from pipeline.storage.archives.directory import Members
from pipeline.storage.local.read import read_whole
from pipeline.storage.local.write import write_pieces

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pipeline.base.arrays import Ints

_VERSION = 5

#: Names that are Python's at once: as objects they take three times their memory.
_STEP = 65_536


class Table:
    """The files of one archive, in its order: `numbers` as in `Members`, and their names."""

    def __init__(self, members: Members) -> None:
        self.numbers = members.numbers
        self.unusable = members.unusable
        self.blob = members.names

    @property
    def names(self) -> Iterator[str]:
        """All names."""
        return (name for _, some in self.pieces() for name in some)

    def pieces(self) -> Iterator[tuple[int, list[str]]]:
        """The names, some thousand at once, each time after the row of the first."""
        for begin in range(0, len(self._begins) - 1, _STEP):
            last = min(begin + _STEP, len(self._begins) - 1)
            yield begin, self.blob[self._begins[begin] : self._begins[last] - 1].decode().split("\0")

    @cached_property
    def _begins(self) -> Ints:
        """Where each name begins in the blob, and after a NUL one more would."""
        import numpy as np

        ends = np.flatnonzero(np.frombuffer(self.blob, np.uint8) == 0)
        return np.concatenate([[0], ends + 1, [len(self.blob) + 1]]) if self.blob else np.zeros(1, np.int64)

    @cached_property
    def _hashes(self) -> tuple[Ints, npt.NDArray[np.uint32]]:
        """The hash of each name, sorted, and the rows in that order: half of what a dictionary of them takes."""
        import numpy as np

        parts = [np.fromiter(map(hash, some), np.int64, len(some)) for _, some in self.pieces()]
        hashes = np.concatenate([np.zeros(0, np.int64), *parts])
        order = np.argsort(hashes)
        return hashes[order], order.astype(np.uint32)

    def rows(self, names: Sequence[str]) -> Ints:
        """The row of each of `names`; -1 for one that is not there."""
        import numpy as np

        hashes, order = self._hashes
        wanted = np.fromiter(map(hash, names), np.int64, len(names))
        rows = np.full(len(names), -1, np.int64)
        if not len(hashes):
            return rows
        places = np.minimum(np.searchsorted(hashes, wanted), len(hashes) - 1)
        there = np.flatnonzero(hashes[places] == wanted)
        rows[there] = order[places[there]]
        begins, ends = self._begins[rows[there]], self._begins[rows[there] + 1] - 1
        blob = self.blob
        called = [blob[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)]
        if b"\0".join(called).decode() != "\0".join([names[i] for i in there.tolist()]):
            every = dict(zip(self.names, itertools.count()))  # some name has the hash of another one
            return np.fromiter((every.get(name, -1) for name in names), np.int64, len(names))
        return rows


#: Tables that this process has read, with the identity of their archive: a task a bucket would read each of them anew.
_TABLES: dict[tuple[str, str | None], tuple[str, Table]] = {}


def known_table(archive: str, path: str | None, identity: str) -> Table | None:
    """The table of `archive` as this process has it, if it is that of `identity`."""
    found = _TABLES.get((archive, path))
    return found[1] if found and found[0] == identity else None


def know_table(archive: str, path: str | None, identity: str, members: Members) -> Table:
    """Make this process have the table of `archive`."""
    found = Table(members)
    _TABLES[archive, path] = identity, found
    release_after(2 * found.numbers.nbytes)  # reading it took that and more
    return found


def forget_tables() -> None:
    """Make this process forget the tables that no file caches: nothing shows whether their archives have changed."""
    for key in [key for key in _TABLES if key[1] is None and not _TABLES[key][0]]:
        del _TABLES[key]


def cache_table(path: str | None, identity: str, members: Members) -> None:
    """Write the table of an archive to the file `path`, after its digest; None writes nothing."""
    import numpy as np

    if path is None:
        return
    head = json.dumps([_VERSION, identity, members.unusable]).encode()
    made = io.BytesIO()
    np.savez(
        made,
        head=np.frombuffer(head, np.uint8),
        numbers=members.numbers,
        names=np.frombuffer(members.names, np.uint8),
    )
    data = made.getvalue()
    write_pieces(path, [digest_of(data), data])


def cached_table(path: str | None) -> tuple[str, Members] | None:
    """What `cache_table` wrote to `path`: identity and members; None where nothing of this version is whole."""
    import numpy as np

    content = read_whole(path) if path is not None else None
    if content is None or digest_of(content[16:]) != content[:16]:
        return None
    with np.load(io.BytesIO(content[16:]), allow_pickle=False) as arrays:
        if "head" not in arrays:
            return None
        version, identity, unusable = json.loads(arrays["head"].tobytes())
        if version != _VERSION:
            return None
        return identity, Members(arrays["names"].tobytes(), arrays["numbers"], [(n, r) for n, r in unusable])
