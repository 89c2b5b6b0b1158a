"""Requests to an object store by obstore, with its errors as ours: single files, parts of large ones, listings."""

from __future__ import annotations

import datetime
import functools
import itertools
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from pipeline.runtime.counters import REQUESTS, WRITTEN, count
from pipeline.runtime.interrupt import check_stop
from pipeline.storage.address import content_type
from pipeline.storage.stores.client import Entry
from pipeline.storage.stores.in_flight import persist, taken_back
from pipeline.storage.stores.read_ahead import read_ahead
from pipeline.storage.stores.store_errors import (
    NO_CREDENTIALS,
    Missing,
    Refused,
    no_credentials,
    of_connection,
    of_status,
)

T = TypeVar("T")

_STATUS = re.compile(r"status code: (\d{3})|HTTP status (?:client|server) error \((\d{3})|\(code: (\d{3})\)")

_CODE = re.compile(r"<Code>([^<]+)</Code>|\"reason\":\s*\"(\w+)\"|\(code: ([A-Za-z]+)\)")

_MESSAGE = re.compile(r"<Message>([^<\n]*)|\"message\":\s*\"([^\"\n]*)\"")

#: What obstore says of a key that it does not take.
_ODD_KEY = re.compile(r"Path \"(.*?)\"(?: contained|: Encountered)", re.DOTALL)

_FIRST_PAGE = (
    "after {:,} objects the store begins anew: it lists no more of them, for it does not know ListObjectsV2; "
    "copy what is there to a folder, as by `rclone copy`"
)

_PART = 16 << 20

#: Files that one request lists or deletes.
AT_ONCE = 1000

#: Files of several megabytes in memory at once, whatever the number of threads.
_BIG = 8 << 20

_BIG_AT_ONCE = threading.BoundedSemaphore(4)


class big:  # noqa: N801 - a context manager, read as a word
    """Waits while several large files are in memory already."""

    def __init__(self, size: int) -> None:
        self._large = size > _BIG

    def __enter__(self) -> None:
        if self._large:
            _BIG_AT_ONCE.acquire()

    def __exit__(self, *exc: object) -> None:
        if self._large:
            _BIG_AT_ONCE.release()


def ask(call: Callable[[], T], *, writing: bool = False, goes_on: bool = False) -> T:
    """What `call` returns, its errors as ours. It is counted as a request unless it only `goes_on` with one."""
    from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError, PreconditionError

    if not goes_on:
        count(REQUESTS)
    try:
        return call()
    except (AlreadyExistsError, PreconditionError, NotSupportedError):
        raise
    except (BaseError, OSError, ValueError) as error:
        text, _, inner = str(error).partition("\n\nDebug source")
        missing = isinstance(error, FileNotFoundError)
    status, code, message = (
        next((g for g in m.groups() if g), None) if (m := pattern.search(text)) else None
        for pattern in (_STATUS, _CODE, _MESSAGE)
    )
    if missing and not writing and code not in ("NoSuchBucket", "ContainerNotFound", "notFound"):
        raise Missing
    if missing:
        code = "NoSuchBucket" if code in (None, "NoSuchKey", "notFound") else code
    if odd := _ODD_KEY.search(text):
        raise Refused(
            f"the key {odd[1]!r} has an empty, . or .. step or a control character, which stores take differently; "
            "rename that object, or delete it",
            fatal=True,
        )
    if no_credentials(text):
        raise NO_CREDENTIALS
    if status is None and (broken := of_connection(text + inner)) is not None:
        raise broken
    if not (status or code or message):  # an answer that obstore does not understand
        message = text.partition("\n")[0]
    raise of_status(status, code, (message or "").strip()[:200])


def list_entries(store: Any, prefix: str, url: str) -> Iterator[Sequence[Entry]]:
    """See `Client.list`; a request whose answer breaks off is gone on with after its last entry."""
    return _without_markers(_pages(store, prefix, url))


def _pages(store: Any, prefix: str, url: str) -> Iterator[list[Entry]]:
    import obstore
    from obstore.store import S3Store

    listing: Iterator[Any] | None = None
    first = True
    last: str | None = None
    resumed: str | None = None

    def next_chunk() -> Any:
        nonlocal listing, first, resumed
        if listing is None:
            listing = iter(obstore.list(store, prefix or None, offset=last, chunk_size=AT_ONCE))
            first, resumed = True, last
        try:
            found = ask(functools.partial(next, listing, None), goes_on=True)
        except Refused:
            listing = None
            raise
        count(REQUESTS, int(first or found is not None))  # an empty folder takes one, too
        first = False
        return found

    listed = again = 0
    while True:
        chunk = persist(next_chunk, lambda: url)
        if chunk:
            entries = [entry_of(meta) for meta in chunk]
            if resumed is not None:
                if entries[0].key < resumed:
                    raise Refused(_FIRST_PAGE.format(listed), fatal=True)
                entries = [entry for entry in entries if entry.key != resumed]  # a marker, see below
                resumed = None
            last = entries[-1].key if entries else last
            listed += len(entries)
            yield entries
        elif chunk is None:
            if listed == again or listed % AT_ONCE or not isinstance(store, S3Store):
                return
            # Full pages alone: a server that does not know ListObjectsV2 gives one, as if that were all.
            listing, again = None, listed


def _without_markers(pages: Iterable[list[Entry]]) -> Iterator[Sequence[Entry]]:
    """`pages` without the empty objects that stand for folders: obstore takes the ``/`` off the end of their keys."""
    held: list[Entry] = []
    for page in pages:
        entries = held + page
        held = [entries.pop()] if entries and not entries[-1].size else []  # what follows it is on the next page
        yield [
            entry
            for entry, after in itertools.zip_longest(entries, [*entries, *held][1:])
            if entry.size or after is None or not after.key.startswith(f"{entry.key}/")
        ]
    if held:
        yield held


def put_object(store: Any, key: str, data: bytes, mode: Any = None) -> str | None:
    """Write a small file, if the condition `mode` of obstore is met; its etag."""
    import obstore

    kind = {"Content-Type": content_type(key)}
    found = ask(lambda: obstore.put(store, key, data, attributes=kind, use_multipart=False, mode=mode), writing=True)
    count(WRITTEN, len(data))
    tag: str | None = found["e_tag"]
    return tag


def put_pieces(store: Any, key: str, pieces: Iterator[bytes], size: int) -> None:
    """See `Client.put_stream`."""
    import obstore

    failed: list[BaseException] = []

    def watched() -> Iterator[bytes]:
        try:
            # Not in this thread, where obstore is at work already: pieces of another store ask it, too.
            for piece in read_ahead(pieces):
                check_stop()  # what was sent of it is then taken back
                yield piece
        except BaseException as error:
            failed.append(error)
            raise

    part = max(_PART, -(-size // 9000))  # at most 10,000 parts
    try:
        with _BIG_AT_ONCE, taken_back():
            ask(
                lambda: obstore.put(
                    store,
                    key,
                    watched(),
                    attributes={"Content-Type": content_type(key)},
                    use_multipart=True,
                    chunk_size=part,
                    max_concurrency=2,
                ),
                writing=True,
            )
    except (Refused, Missing):
        if failed:
            raise failed[0] from None
        raise
    count(WRITTEN, size)


def entry_of(meta: Any) -> Entry:
    """The entry of an object by what obstore says of it."""
    import xxhash

    tag = (meta.get("e_tag") or "").strip('"')
    if not tag:
        return Entry(meta["path"], meta["size"], 0, nanoseconds(meta["last_modified"]))
    number = int.from_bytes(xxhash.xxh3_64_digest(tag.encode()), "big", signed=True)
    return Entry(meta["path"], meta["size"], number, 0)


def nanoseconds(time: datetime.datetime) -> int:
    """A moment in nanoseconds since 1970, to the microsecond."""
    return int(time.timestamp() * 1_000_000) * 1000
