"""The directory of an archive as a table, cached by the archive's fingerprint."""

from __future__ import annotations

import json
import zlib
from functools import cached_property

from pipeline.storage.archives.directory import Members
from pipeline.storage.local.write import replace_with

_VERSION = 1


class Table:
    """The files of one archive: `numbers` as in `Members`, and `rows`, the row of each name."""

    def __init__(self, members: Members) -> None:
        self.numbers = members.numbers
        self.odd = members.odd
        self.blob = members.names

    @cached_property
    def names(self) -> list[str]:
        """Names in the archive's order."""
        return self.blob.decode().split("\0") if self.blob else []

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row by name."""
        return {name: i for i, name in enumerate(self.names)}


#: Tables that this process has read, with what told their archive: a task a bucket would read each of them anew.
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


def keep_table(path: str | None, identity: str, members: Members) -> None:
    """Keep the table of an archive in the file `path`; None keeps nothing."""
    import numpy as np

    if path is None:
        return
    told = json.dumps([_VERSION, identity, members.odd]).encode()

    def write(temporary: str) -> None:
        with open(temporary, "wb") as file:
            np.savez(
                file,
                told=np.frombuffer(told, np.uint8),
                numbers=members.numbers,
                names=np.frombuffer(members.names, np.uint8),
            )

    replace_with(path, write)


def kept_table(path: str | None) -> tuple[str, Members] | None:
    """What `keep_table` left in `path`: identity and members; None where this version can read nothing there."""
    import numpy as np

    if path is None:
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            version, identity, odd = json.loads(kept["told"].tobytes())
            if version != _VERSION:
                return None
            return identity, Members(kept["names"].tobytes(), kept["numbers"], [(n, r) for n, r in odd])
    except (OSError, ValueError, KeyError, EOFError, zlib.error):
        return None
    except Exception as error:
        if type(error).__name__ == "BadZipFile":  # NumPy's own files are such archives too
            return None
        raise
