"""The directory of an archive as a table, cached by the archive's fingerprint."""

from __future__ import annotations

import io
import json
from functools import cached_property

from pipeline.base.digest import digest_of
from pipeline.storage.archives.directory import Members
from pipeline.storage.local.read import read_whole
from pipeline.storage.local.write import write_pieces

_VERSION = 3


class Table:
    """The files of one archive: `numbers` as in `Members`, and `rows`, the row of each name."""

    def __init__(self, members: Members) -> None:
        self.numbers = members.numbers
        self.unusable = members.unusable
        self.blob = members.names

    @cached_property
    def names(self) -> list[str]:
        """Names in the archive's order."""
        return self.blob.decode().split("\0") if self.blob else []

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row by name."""
        return {name: i for i, name in enumerate(self.names)}


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
