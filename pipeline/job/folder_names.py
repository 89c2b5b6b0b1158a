"""What is in folders, listed once for who tries several formats on one."""

from __future__ import annotations

from collections.abc import Set

from pipeline import storage


class FolderNames:
    """The files of folders and their subfolders; each folder is listed when it is first asked for, and remembered."""

    def __init__(self) -> None:
        self._known: dict[str, Set[str]] = {}

    def below(self, url: str) -> Set[str]:
        """Paths, relative to the folder `url`, of all files below it, links followed; empty where it does not exist."""
        if url in self._known:
            return self._known[url]
        location = storage.locate(url)
        for root, names in self._known.items():
            if url.startswith(f"{root}/"):
                within = f"{url[len(root) + 1 :]}/"
                found = {name[len(within) :] for name in names if name.startswith(within)}
                if found or not location.on_disk:  # what two links lead to is in `names` by one of them
                    return found
        found = location.names() if location.local is None else storage.list_linked(location.local)
        self._known[url] = found
        return found
