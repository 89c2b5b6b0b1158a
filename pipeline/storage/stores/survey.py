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
_UNSEEN = (float("-inf"), None)

#: By the URL of a folder: when a listing of it was begun, what it gave so far, and the rest.
_BEGUN: dict[str, tuple[float, list[Sequence[Entry]], Iterator[Sequence[Entry]]]] = {}
_NOT_BEGUN: tuple[float, list[Sequence[Entry]], Iterator[Sequence[Entry]]] = (float("-inf"), [], iter(()))

_LOCK = threading.Lock()

#: Threads that ask about one folder at once wait for one listing of it.
_SURVEYING = threading.Lock()


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
    known = seen if seen is not None else peeked(url) or {}
    found: list[Numbers | None] = [known.get(path) for path in paths]
    lacking = [i for i, numbers in enumerate(found) if numbers is None] if sure or seen is None else []
    for i, entry in zip(lacking, ask([paths[i] for i in lacking]), strict=True):
        found[i] = entry.numbers if entry is not None else None
    return found


def survey(url: str, listed: Callable[[], Iterable[Sequence[Entry]]]) -> dict[str, Numbers] | None:
    """The numbers of all files that are `listed` in the folder `url`; None where they are too many."""
    with _SURVEYING:
        made, files = _SEEN.get(url, _UNSEEN)
        if _is_fresh(made):
            return files
        files = {}
        for chunk in listed():
            files.update((entry.key, entry.numbers) for entry in chunk)
            if len(files) > _MOST_FILES:
                files = None
                break
        _remember(url, files)
        return files


def peek(url: str, listing: Iterator[Sequence[Entry]]) -> bool:
    """Whether the folder `url` holds a file; `listing` is one of it that nobody has begun.

    A run asks for each folder first whether it exists, and then lists it: that goes on with what was begun here.
    """
    with _LOCK:
        made, seen, rest = _BEGUN.get(url, _NOT_BEGUN)
    if not _is_fresh(made):
        rest = listing
        seen = [chunk for chunk in itertools.islice(rest, 1) if chunk]
        with _LOCK:
            _BEGUN[url] = time.monotonic(), seen, rest
    return bool(seen)


def peeked(url: str) -> dict[str, Numbers] | None:
    """What a listing that was begun has shown so far of the folder `url`, which may be in that; None without one.

    What is there was listed; what is not may come later.
    """
    with _LOCK:
        for top, (made, seen, _) in _BEGUN.items():
            if f"{url}/".startswith(f"{top}/") and _is_fresh(made):
                below = f"{url}/"[len(top) + 1 :]
                found = (entry for chunk in seen for entry in chunk if entry.key.startswith(below))
                return {entry.key[len(below) :]: entry.numbers for entry in found}
    return None


def begin_anew() -> None:
    """Forget all: another run's listings say nothing of now."""
    with _LOCK:
        _SEEN.clear()
        _BEGUN.clear()


atexit.register(begin_anew)  # while what a listing needs to end is there still


def whole_listing(url: str, listing: Iterator[Sequence[Entry]]) -> Iterator[Sequence[Entry]]:
    """All of `listing`, of `url`, or of one that was begun, see `peek`; it is remembered as a survey."""
    with _LOCK:
        made, seen, rest = _BEGUN.pop(url, _NOT_BEGUN)
    files: dict[str, Numbers] | None = {}
    for chunk in itertools.chain(seen, rest) if _is_fresh(made) else listing:
        if files is not None:
            files.update((entry.key, entry.numbers) for entry in chunk)
            files = None if len(files) > _MOST_FILES else files
        yield chunk
    _remember(url, files)


def remembered(url: str) -> dict[str, Numbers] | None:
    """What a survey of the folder `url` found; None where there was none lately."""
    made, files = _SEEN.get(url, _UNSEEN)
    return files if _is_fresh(made) else None


def forget(url: str) -> None:
    """The folder `url` changes: what is remembered of it, of those above it and of those in it is void."""
    with _LOCK:
        for memory in (_SEEN, _BEGUN):
            for known in [u for u in memory if u.startswith(url) or url.startswith(u)]:
                del memory[known]


def _remember(url: str, files: dict[str, Numbers] | None) -> None:
    """Keep what was found, and nothing that is too old to be used."""
    with _LOCK:
        for old in [u for u, (made, _) in _SEEN.items() if not _is_fresh(made)]:
            del _SEEN[old]
        _SEEN[url] = (time.monotonic(), files)


def _is_fresh(made: float) -> bool:
    return time.monotonic() - made < _REMEMBER_S
