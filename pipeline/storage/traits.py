"""What a file system can do, found out by trying: names that it refuses, names that it holds for one, links."""

from __future__ import annotations

import contextlib
import os
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.base.os_errors import storage_error

#: Characters that FAT, exFAT, NTFS and servers of Windows refuse, though others take them.
_TRIED = '<>:"|?*\\\x01\n'

_COMPOSED = "\u00e9"


@dataclass(frozen=True)
class Traits:
    """What a location takes: characters that it `refuses` in names, which names are one there, which links it has."""

    refuses: frozenset[str] = frozenset()
    folds_case: bool = False
    folds_unicode: bool = False
    links: frozenset[str] = frozenset({"hardlink", "symlink"})

    @property
    def plain(self) -> bool:
        """Whether every two names are two files."""
        return not (self.refuses or self.folds_case or self.folds_unicode)

    def folded(self, name: str) -> str:
        """What is equal for two names that are one file there."""
        if self.folds_unicode:
            name = unicodedata.normalize("NFC", name)
        return name.casefold() if self.folds_case else name


def traits_of(folder: str) -> Traits:
    """Try what the file system of `folder` takes, in a temporary folder there; it is there."""
    try:
        with tempfile.TemporaryDirectory(dir=folder) as here:
            first = os.path.join(here, f"k{_COMPOSED}")
            _make(first)
            links: dict[str, Callable[[str, str], None]] = {"hardlink": os.link, "symlink": os.symlink}
            return Traits(
                frozenset(c for c in _TRIED if not _can(_make, os.path.join(here, f"x{c}x"))),
                os.path.lexists(os.path.join(here, f"K{_COMPOSED}")),
                os.path.lexists(os.path.join(here, f"k{unicodedata.normalize('NFD', _COMPOSED)}")),
                frozenset(how for how, link in links.items() if _can(link, first, os.path.join(here, how))),
            )
    except OSError as error:
        raise storage_error(error, folder, "written") from None


def _make(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))


def _can(make: Callable[..., None], *paths: str) -> bool:
    with contextlib.suppress(OSError):
        make(*paths)
        return True
    return False
