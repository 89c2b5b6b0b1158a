"""Every error that a user can cause or cure.

::

    CocoDiyError                 exit code 1: something is wrong with the data or the machine
    ├── UsageError               exit code 2: what was asked for cannot be meant
    │   ├── ConfigError          a config file, a `--set`, a names YAML
    │   └── UnknownNameError     a class, format, task or key that does not exist (tells the nearest)
    ├── DataError                a label row, label file or image that is bad or missing
    ├── TargetError              a foreign file in the way, a manifest that is not ours
    ├── StorageError             the store said no: permission, space, connection
    ├── LockError                another run holds the index or the target
    └── Interrupted              stopped by a signal; running again goes on

The text of an error is one sentence that names the file (and line), what is wrong with it and the cure. It is printed
as it stands, so it never holds a secret and never a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CocoDiyError(Exception):
    """Root of all errors that are reported as a sentence; `exit_code` is what the process ends with."""

    exit_code = 1


class UsageError(CocoDiyError):
    """What was asked for cannot be meant; nothing was done."""

    exit_code = 2


class ConfigError(UsageError):
    """A config file, a `--set` or a names YAML does not say what it must."""


class UnknownNameError(UsageError):
    """A name that does not exist where it is looked up."""


class DataError(CocoDiyError):
    """Label rows, label files or images that are bad or missing."""


class TargetError(CocoDiyError):
    """The target holds something that is not ours to change."""


class StorageError(CocoDiyError):
    """A store refused: permission, space, connection, a file that vanished."""


class LockError(CocoDiyError):
    """Another run holds what this one needs."""


class Interrupted(CocoDiyError):  # noqa: N818 - a request from outside, not a fault
    """The run was told to stop; running it again goes on where it was."""


def nearest(name: str, known: Iterable[str], *, limit: int = 3) -> list[str]:
    """The `limit` known names most like `name`, best first; case and surrounding blanks do not count."""
    by_folded: dict[str, str] = {}
    for candidate in known:
        by_folded.setdefault(candidate.casefold(), candidate)
    folded = name.strip().casefold()
    if folded in by_folded:
        return [by_folded[folded]]
    matches = difflib.get_close_matches(folded, by_folded, n=limit, cutoff=0.5)
    contained = [k for k in by_folded if folded and (folded in k or k in folded) and k not in matches]
    return [by_folded[k] for k in (matches + contained)[:limit]]


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence for an unknown `what`: with the nearest names, or all of them where they are few."""
    known = list(known)
    near = nearest(name, known)
    if near:
        hint = f"did you mean {' or '.join(repr(n) for n in near)}?"
    elif len(known) <= 20:
        hint = f"available: {', '.join(known)}"
    else:
        hint = f"none of the {len(known)} known names is like it: {', '.join(known[:6])}, …"
    return f"unknown {what} {name!r}; {hint}"
