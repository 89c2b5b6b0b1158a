"""A bounded window of work in flight: many requests at a time, each file with its own result.

The threads are our own: a window of 32 kept full with `ThreadPoolExecutor` and `wait` takes 30 µs of processor time a
request, this one 13 (2026-11-28, CPython 3.11, two cores, 20,000 waits of 0.2 ms), which is what a small upload has.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from pipeline.runtime.counters import count_file
from pipeline.runtime.interrupt import STOP, STOP_SECONDS, check_stop
from pipeline.storage.retry import REQUEST, retried, while_wanted
from pipeline.storage.stores.store_errors import Missing, Refused

T = TypeVar("T")

R = TypeVar("R")

#: Requests in flight. Stores on this machine need 8; one that is 30 ms away needs 32 for 1,000 small files a second.
WIDTH = 32

#: So many files in a row that fail for a passing reason: the store is not going to mend while we go on.
_GIVE_UP = 32

#: Files that are being sent in parts, each as an object; and who waits for them.
_UPLOADS: set[object] = set()

_UPLOADS_CHANGE = threading.Condition()


def in_flight(
    work: Callable[[T], R], items: Iterable[T], *, name: Callable[[T], str], doing: str, width: int = WIDTH
) -> Iterator[tuple[T, R | Refused]]:
    """``(item, work(item))`` for all `items` as they are done, with at most `width` under way and as many waiting.

    What is refused for this one file is given as its `Refused`, after some tries where it may pass. Raises
    `StorageError`, with the item's `name` and `doing`, at the first refusal that would meet every file, and where many
    files in a row are refused. `items` is read as results are taken, by one thread at a time.
    """
    if width <= 1:
        yield from _one_by_one(work, items, name, doing)
        return
    crew = _Crew(work, items, name, width)
    row = 0
    try:
        for item, result in crew.results():
            row = _judge(result, row, name(item), doing) if isinstance(result, Refused) else 0
            count_file()
            yield item, result
    finally:
        crew.close()


def _one_by_one(
    work: Callable[[T], R], items: Iterable[T], name: Callable[[T], str], doing: str
) -> Iterator[tuple[T, R | Refused]]:
    row = 0
    for item in items:
        check_stop()
        try:
            result: R | Refused = persist(functools.partial(work, item), functools.partial(name, item))
            row = 0
        except Refused as refused:
            result, row = refused, _judge(refused, row, name(item), doing)
        count_file()
        yield item, result


def _judge(refused: Refused, row: int, url: str, doing: str) -> int:
    row = row + 1 if refused.passing else 0
    if refused.fatal or row >= _GIVE_UP:
        raise refused.error(url, doing) from None
    return row


@contextlib.contextmanager
def taken_back() -> Iterator[None]:
    """While inside, a file is sent in parts: a run that is stopped waits a moment for the store to drop these."""
    mark = object()
    with _UPLOADS_CHANGE:
        _UPLOADS.add(mark)
    try:
        yield
    finally:
        with _UPLOADS_CHANGE:
            _UPLOADS.discard(mark)
            _UPLOADS_CHANGE.notify_all()


def persist(ask: Callable[[], R], name: Callable[[], str], pause: Callable[[float], object] = time.sleep) -> R:
    """What `ask` returns, tried again where it is refused for a passing reason, see `retried`."""
    return retried(ask, REQUEST, _passes, name, pause)


def insist(ask: Callable[[], R], url: str, doing: str) -> R:
    """What `ask` returns, see `persist`; a refusal is raised as the `StorageError` that `url` cannot be `doing`."""
    try:
        return persist(ask, lambda: url)
    except Refused as refused:
        raise refused.error(url, doing) from None


def _passes(error: Exception) -> bool:
    return isinstance(error, Refused) and error.passing


class _Crew:
    """Threads that take items and leave results. They are daemons: a stopped run does not wait for a silent store.

    Results go by queues without a time limit, whose waits are the interpreter's own: those of `queue.Queue` cost more
    than a request. A result waits where there is `_room`, a token for each.
    """

    def __init__(
        self, work: Callable[[Any], Any], items: Iterable[Any], name: Callable[[Any], str], width: int
    ) -> None:
        self._work, self._items, self._name = work, iter(items), name
        self._closed = threading.Event()
        self._taking = threading.Lock()
        self._done: queue.SimpleQueue[tuple[Any, Any] | BaseException | None] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(width)]
        self._make_room(width)

    def close(self) -> None:
        """Nobody waits for results any more: whoever wants to leave one ends."""
        self._closed.set()
        self._make_room(len(self._threads))
        if STOP.is_set():
            with _UPLOADS_CHANGE:
                _UPLOADS_CHANGE.wait_for(lambda: not _UPLOADS, STOP_SECONDS)

    def _make_room(self, count: int) -> None:
        for _ in range(count):
            self._room.put(None)

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Each item with its result, or the `Refused` in its stead, as they are done; starts the threads."""
        for number, thread in enumerate(self._threads):
            with self._taking:  # few items need few threads
                if number and self._items is _NOTHING:
                    self._threads = self._threads[:number]
                    break
            thread.start()
        left = len(self._threads)
        while left:
            check_stop()
            try:
                found = self._done.get(timeout=0.1)
            except queue.Empty:
                continue
            if found is None:
                left -= 1
            elif isinstance(found, BaseException):
                raise found
            else:
                self._room.put(None)
                yield found

    def _run(self) -> None:
        try:
            with while_wanted(self._closed.is_set):
                while (taken := self._take()) is not None:
                    item = taken[0]
                    try:
                        ask, name = functools.partial(self._work, item), functools.partial(self._name, item)
                        result = persist(ask, name, self._closed.wait)
                    except Refused as refused:
                        result = refused
                    self._room.get()
                    self._done.put((item, result))
            self._done.put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            self._done.put(error)

    def _take(self) -> tuple[Any] | None:
        with self._taking:
            if self._closed.is_set():
                return None
            try:
                return (next(self._items),)
            except StopIteration:
                self._items = _NOTHING
                return None


_NOTHING: Iterator[Any] = iter(())


def delete_each(remove: Callable[[str], object], keys: Sequence[str], top: str, width: int) -> dict[str, Refused]:
    """Delete each of `keys` by `remove`, many at a time; one that is gone counts as done.

    Returns refusals by key of those that stay; `top` comes before a key in messages. Raises `StorageError` for what
    would meet every file. A single file is deleted also in a run that is being stopped: it may be its lock.
    """

    def gone(key: str) -> None:
        with contextlib.suppress(Missing):
            remove(key)

    if len(keys) == 1:
        try:
            gone(keys[0])
        except Refused as refused:
            if refused.fatal:
                raise
            return {keys[0]: refused}
        return {}
    results = in_flight(gone, keys, name=lambda key: f"{top}/{key}", doing="deleted", width=min(width, len(keys)))
    return {key: result for key, result in results if isinstance(result, Refused)}
