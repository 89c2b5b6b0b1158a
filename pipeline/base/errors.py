"""Every error that a user can cause or cure, and what a process ends with.

::

    CocoDiyError                 exit code 1: something is wrong with the data or the machine
    ├── UsageError               exit code 2: what was asked for cannot be meant
    │   ├── ConfigError          a config file, a `--set`, a names YAML
    │   │   └── MissingSourceError   a folder or file of the source does not exist
    │   └── UnknownNameError     a class, format, task or key that does not exist (names the nearest)
    ├── DataError                a label row, label file or image that is bad or missing
    ├── TargetError              a conflict with a foreign file, a manifest that is not ours
    ├── StorageError             the store said no: permission, space, a file that vanished
    │   └── UnavailableError     exit code 75: network, a busy server, no workers; the same run may do later
    ├── BrakeError               exit code 4: a build would lose much of the target that nobody asked to lose
    ├── LockError                exit code 5: another run uses the index or the target
    └── Interrupted              exit code 130, 143, 129: stopped by SIGINT, SIGTERM, SIGHUP; run again

Exit code 0 is done, or nothing to do; 3 is done, but rows or files were skipped (`on_error: skip`): `report.Report`.

The text of an error is one sentence that names the file (and line), what is wrong with it and the cure. It is printed
as it stands, so it never holds a secret (URLs in it lose theirs here) and never a traceback. `CocoDiyError.facts` takes
it apart for programs.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from typing import Any, Self

from pipeline.base.redaction import redact

#: Done, but rows or files were skipped (`on_error: skip`).
INCOMPLETE = 3

_SUBJECT = re.compile(r"^(?P<file>[^\n]+?)(?::(?P<line>\d+))?: ")


class CocoDiyError(Exception):
    """Root of all errors that are reported as a sentence; `exit_code` is what the process ends with.

    `reason` is a short code of the kind, for programs.
    """

    exit_code = 1
    reason = "failed"

    def __init__(self, text: str = "") -> None:
        super().__init__(redact(text))

    def saying(self, text: str) -> Self:
        """This error with another sentence."""
        self.args = (redact(text),)
        return self

    def facts(self) -> dict[str, Any]:
        """The error as plain data: the sentence and its parts (null where it has none), the reason and the exit code.

        A sentence begins with the file and the line that it is about, and its last clause is the cure.
        """
        text = str(self)
        subject = _SUBJECT.match(text)
        file, line = (subject["file"], subject["line"]) if subject else (None, None)
        if file is not None and "/" not in file and not os.path.exists(file):  # a key of the config, an option
            file = line = None
        _, semicolon, hint = text.rpartition("; ")
        return {
            "error": text,
            "reason": self.reason,
            "file": file,
            "line": int(line) if line else None,
            "hint": hint if semicolon else None,
            "exit_code": self.exit_code,
        }


class UsageError(CocoDiyError):
    """What was asked for cannot be meant; nothing was done."""

    exit_code = 2
    reason = "usage"


class ConfigError(UsageError):
    """A config file, a `--set` or a names YAML does not say what it must."""

    reason = "config"


class MissingSourceError(ConfigError):
    """A folder or file that the config names as part of a source does not exist; `location` is its path or URL."""

    reason = "missing_source"

    def __init__(self, message: str, location: str = "") -> None:
        super().__init__(message)
        self.location = location


class UnknownNameError(UsageError):
    """A name that does not exist where it is looked up."""

    reason = "unknown_name"


class DataError(CocoDiyError):
    """Label rows, label files or images that are bad or missing."""

    reason = "data"


class TargetError(CocoDiyError):
    """The target holds something that is not ours to change."""

    reason = "target"


class StorageError(CocoDiyError):
    """A store refused: permission, space, a file that vanished."""

    reason = "storage"


class UnavailableError(StorageError):
    """A network, a server or a cluster does not answer now; the same run may succeed later."""

    exit_code = 75
    reason = "unavailable"


class BrakeError(CocoDiyError):
    """A build would lose much of the target that nobody asked to lose; nothing was written.

    `cause` says which check stopped it: ``source``, ``split``, ``marker``, ``missing``, ``target``, ``other_source`` or
    ``other_recipe``; `count` files are lost of `total`, and `names` are three of them.
    """

    exit_code = 4
    reason = "brake"

    def __init__(
        self, message: str, cause: str = "", count: int = 0, total: int = 0, names: Iterable[str] = ()
    ) -> None:
        super().__init__(message)
        self.cause, self.count, self.total, self.names = cause, count, total, list(names)

    def facts(self) -> dict[str, Any]:
        """See `CocoDiyError.facts`; with what would be lost."""
        share = round(self.count / self.total, 6) if self.total else None
        return super().facts() | {
            "cause": self.cause,
            "count": self.count,
            "total": self.total,
            "share": share,
            "names": self.names,
        }


class LockError(CocoDiyError):
    """Another run uses what this one needs."""

    exit_code = 5
    reason = "in_use"


class Interrupted(CocoDiyError):  # noqa: N818 - a request from outside, not an error
    """The run was asked to stop; running it again goes on where it was."""

    exit_code = 130
    reason = "stopped"


def nearest(name: str, known: Iterable[str], *, limit: int = 3, likeness: float = 0.5) -> list[str]:
    """The `limit` known names most like `name`, best first; case and surrounding blanks do not count.

    `likeness` is the least share of common letters that counts, 0 to 1.
    """
    by_folded: dict[str, str] = {}
    for candidate in known:
        by_folded.setdefault(candidate.casefold(), candidate)
    folded = name.strip().casefold()
    if folded in by_folded:
        return [by_folded[folded]]
    matches = difflib.get_close_matches(folded, by_folded, n=limit, cutoff=likeness)
    contained = [k for k in by_folded if folded and (folded in k or k in folded) and k not in matches]
    return [by_folded[k] for k in (matches + contained)[:limit]]


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence for an unknown `what`: with the nearest names, or all of them where they are few."""
    known = list(known)
    few = len(known) <= 12
    near = nearest(name, known, likeness=0.65 if few else 0.5)
    if near:
        hint = f"did you mean {' or '.join(repr(n) for n in near)}?"
    elif few:
        hint = f"available: {', '.join(known) or 'none'}"
    else:
        hint = f"none of the {len(known)} known names is like it: {', '.join(known[:6])}, …"
    return f"unknown {what} {name!r}; {hint}"
