"""What is remembered of a store's folder: where many files are asked about, one listing answers instead of each."""

from __future__ import annotations

import atexit
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from pipeline.storage.stores.client import Entry

#: From here on a listing is quicker than a question a file.
LIST_FROM = 64

#: What is remembered of a listing, and for how long (s): the stages ask about one folder a bucket at a time.
_MOST_FILES, _REMEMBER_S = 2_000_000, 60.0

Numbers = tuple[int, int, int, int]

#: By the URL of a folder: when it was listed, and the numbers of its files; None where they are too many.
_SEEN: dict[str, tuple[float, dict[str, Numbers] | None]] = {}

_LOCK = threading.Lock()


def look_up(
    url: str,
    paths: Sequence[str],
    listed: Callable[[], Iterable[Sequence[Entry]]],
    ask: Callable[[Sequence[str]], Sequence[Entry | None]],
    *,
    sure: bool,
) -> list[Numbers | None]:
    """The four numbers of each of the files `paths` of the folder `url`; None if missing.

    `listed` gives all its files, `ask` answers for single ones, which is done for those that a listing does not have
    if they must be `sure`.
    """
    seen = survey(url, listed) if len(paths) > LIST_FROM else remembered(url)
    found: list[Numbers | None] = [seen.get(path) if seen is not None else None for path in paths]
    lacking = [i for i, numbers in enumerate(found) if numbers is None] if sure or seen is None else []
    for i, entry in zip(lacking, ask([paths[i] for i in lacking]), strict=True):
        found[i] = entry.numbers if entry is not None else None
    return found


def survey(url: str, listed: Callable[[], Iterable[Sequence[Entry]]]) -> dict[str, Numbers] | None:
    """The numbers of all files that are `listed` in the folder `url`; None where they are too many."""
    with _LOCK:
        made, files = _SEEN.get(url, (0.0, None))
        if time.monotonic() - made < _REMEMBER_S and made:
            return files
        files = {}
        for chunk in listed():
            files.update((entry.key, entry.numbers) for entry in chunk)
            if len(files) > _MOST_FILES:
                files = None
                break
        _SEEN[url] = (time.monotonic(), files)
        return files


class Begun:
    """Listings of folders that were begun to see whether there is anything: whoever lists them next goes on with them.

    A run asks for each folder first whether it exists, and then lists it.
    """

    def __init__(self) -> None:
        self._begun: dict[str, tuple[float, list[Sequence[Entry]], Iterator[Sequence[Entry]]]] = {}

    def peek(self, url: str, listing: Iterator[Sequence[Entry]]) -> bool:
        """Whether the folder `url` holds a file; `listing` is one of it that nobody has begun."""
        with _LOCK:
            made, seen, rest = self._begun.get(url, (0.0, [], iter(())))
            if not made or time.monotonic() - made > _REMEMBER_S:
                rest = listing
                seen = [chunk for chunk in itertools.islice(rest, 1) if chunk]
                self._begun[url] = time.monotonic(), seen, rest
            return bool(seen)

    def take(self, url: str, listing: Iterator[Sequence[Entry]]) -> Iterator[Sequence[Entry]]:
        """All of a listing of `url`: of that which was begun, which is given once, or of the new one `listing`."""
        with _LOCK:
            made, seen, rest = self._begun.pop(url, (0.0, [], iter(())))
        if not made or time.monotonic() - made > _REMEMBER_S:
            return listing
        return itertools.chain(seen, rest)

    def drop(self, url: str) -> None:
        """The folder `url` changes."""
        with _LOCK:
            for known in [u for u in self._begun if u.startswith(url) or url.startswith(u)]:
                del self._begun[known]

    def clear(self) -> None:
        """Begin anew: another run's listings say nothing of now."""
        with _LOCK:
            self._begun.clear()
            _SEEN.clear()


BEGUN = Begun()

atexit.register(BEGUN.clear)  # while what a listing needs to end is there still


def whole_listing(url: str, listing: Iterator[Sequence[Entry]]) -> Iterator[Sequence[Entry]]:
    """All of a listing of `url`, see `Begun.take`, which is remembered as a survey."""
    files: dict[str, Numbers] | None = {}
    for chunk in BEGUN.take(url, listing):
        if files is not None:
            files.update((entry.key, entry.numbers) for entry in chunk)
            files = None if len(files) > _MOST_FILES else files
        yield chunk
    with _LOCK:
        _SEEN[url] = (time.monotonic(), files)


def remembered(url: str) -> dict[str, Numbers] | None:
    """What a survey of the folder `url` found; None where there was none lately."""
    made, files = _SEEN.get(url, (0.0, None))
    return files if time.monotonic() - made < _REMEMBER_S else None


def forget(url: str) -> None:
    """The folder `url` changes: what is remembered of it, of those above it and of those in it is void."""
    BEGUN.drop(url)
    with _LOCK:
        for known in [u for u in _SEEN if u.startswith(url) or url.startswith(u)]:
            del _SEEN[known]
