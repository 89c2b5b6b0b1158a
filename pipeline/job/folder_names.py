"""What is in folders, listed once for who tries several formats on one."""

from __future__ import annotations

from collections.abc import Set

from pipeline import storage


class FolderNames:
    """The files of folders and their subfolders; each folder is listed when it is first asked for, and remembered."""

    def __init__(self) -> None:
        self._known: dict[str, Set[str]] = {}

    def below(self, url: str) -> Set[str]:
        """Paths, relative to the folder `url`, of all files below it; empty where it does not exist."""
        for root, names in self._known.items():
            if url == root:
                return names
            if url.startswith(f"{root}/"):
                within = f"{url[len(root) + 1 :]}/"
                return {name[len(within) :] for name in names if name.startswith(within)}
        self._known[url] = found = storage.locate(url).names()
        return found
