"""Everything else that fsspec knows: SFTP, memory, HDFS, and, with the option ``driver: fsspec``, object stores."""

from __future__ import annotations

import contextlib
import datetime
import functools
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pipeline.runtime.counters import FETCHED, WRITTEN, count
from pipeline.runtime.log import LOG
from pipeline.storage.address import OBJECT_STORES, Address
from pipeline.storage.stores.client import Client, Entry, Version, counted_pieces
from pipeline.storage.stores.connection import Connection
from pipeline.storage.stores.in_flight import delete_each, in_flight, persist
from pipeline.storage.stores.store_errors import Missing, Refused, must_be_whole

T = TypeVar("T")

#: Protocols with real folders, where a file under way can be seen: it is made under another name, then renamed.
_RENAMING = frozenset({"sftp", "ftp", "smb", "hdfs", "webhdfs", "arrow_hdfs", "local", "file"})

_TEMPORARY = ".coco-diy-"

_HALF = re.compile(re.escape(_TEMPORARY) + r"[0-9a-f]{32}\.tmp")

_WIDTH = 16


class FsspecClient(Client):
    """A file system of fsspec."""

    LARGE = 64 << 20
    PAGES = False

    def __init__(self, address: Address, options: dict[str, Any]) -> None:
        self.address = address
        self.width = int(options.get("in_flight", _WIDTH))
        self._renames = address.protocol in _RENAMING
        self._connection = Connection(address, options)
        self._ask = self._connection.ask
        # Keys are put below it as they are: as part of a URL, a ? or # in them would mean something.
        self._top: str = self._fs._strip_protocol(f"{self._connection.url}/").rstrip("/")
        self._made: set[str] = set()
        self._making = threading.Lock()

    @property
    def _fs(self) -> Any:
        return self._connection.fs

    def _path(self, key: str) -> str:
        return f"{self._top}/{key}" if key else self._top or "/"

    # Reading

    def get(self, key: str, limit: int | None = None) -> tuple[bytes, Entry]:
        """See `Client.get`; the size is checked."""
        path = self._path(key)
        entry = self._ask(lambda: _entry(key, self._fs.info(path)))
        if entry is None:
            raise Missing
        if limit is not None and entry.size > limit:
            return b"", entry
        data = bytes(self._ask(lambda: self._fs.cat_file(path)))
        count(FETCHED, len(data))
        must_be_whole(len(data), entry.size)
        return data, entry

    def stream(self, key: str) -> tuple[Entry, Iterator[bytes]]:
        """See `Client.stream`."""
        path = self._path(key)
        entry = self._ask(lambda: _entry(key, self._fs.info(path)))
        if entry is None:
            raise Missing

        def pieces() -> Iterator[bytes]:
            with self._ask(lambda: self._fs.open(path, "rb")) as file:
                while piece := self._ask(lambda: file.read(4 << 20)):
                    yield bytes(piece)

        return entry, counted_pieces(pieces(), entry.size)

    def part(self, key: str, start: int, stop: int) -> bytes:
        """See `Client.part`."""
        path = self._path(key)

        def read() -> bytes:  # not `cat_file`: sshfs leaves out where to begin
            with self._fs.open(path, "rb") as file:
                file.seek(start)
                return bytes(file.read(stop - start))

        data = self._ask(read)
        count(FETCHED, len(data))
        must_be_whole(len(data), stop - start)
        return data

    def head(self, key: str) -> Entry | None:
        """See `Client.head`."""
        try:
            return self._ask(lambda: _entry(key, self._fs.info(self._path(key))))
        except Missing:
            return None

    def list(self, prefix: str) -> Iterator[Sequence[Entry]]:
        """See `Client.list`."""
        root = self._path(prefix)
        try:
            found = persist(lambda: self._ask(lambda: self._fs.find(root, detail=True)), lambda: root)
        except Missing:
            return
        _follow_links(found, lambda path: self._ask(lambda: self._fs.info(path)), self.width)
        entries = [
            _entry(path.removeprefix(f"{self._top}/"), info)
            for path, info in sorted(found.items())
            if not path.rpartition("/")[2].startswith(_TEMPORARY)
        ]
        yield [entry for entry in entries if entry is not None]

    def flat(self, prefix: str) -> Sequence[str]:
        """See `Client.flat`."""
        try:
            found = self._ask(lambda: self._fs.ls(self._path(prefix), detail=True))
        except Missing:
            return []
        return sorted(i["name"].rstrip("/").rpartition("/")[2] for i in found if i["type"] != "directory")

    def halves(self, prefix: str) -> Sequence[str]:
        """See `Client.halves`; no listing of ours has them."""
        with contextlib.suppress(Missing):
            found = self._ask(lambda: self._fs.find(self._path(prefix))) if self._renames else ()
            return [path.removeprefix(f"{self._top}/") for path in found if _HALF.fullmatch(path.rpartition("/")[2])]
        return ()

    # Writing

    def put(self, key: str, data: bytes) -> None:
        """See `Client.put`."""
        if self._renames:  # `pipe_file` of sshfs asks twice for each folder above: some 20 requests where 4 do
            self.put_stream(key, iter([data]), len(data))
            return
        self._ask(lambda: self._fs.pipe_file(self._path(key), data), writing=True)
        count(WRITTEN, len(data))

    def put_stream(self, key: str, pieces: Iterator[bytes], size: int) -> None:
        """See `Client.put_stream`."""

        def write(path: str, sure: bool) -> None:
            file = self._ask(lambda: self._fs.open(path, "wb"), writing=sure)
            _fill(file, pieces, lambda call: self._ask(call, writing=True), discards=not self._renames)

        self._whole(key, write)
        count(WRITTEN, size)

    def _whole(self, key: str, write: Callable[[str, bool], object]) -> None:
        """Let `write` make the file `key`, so that it is never seen in part.

        It raises `Missing` where its folder is not there, unless that is `sure`.
        """
        path = self._path(key)
        if not self._renames:
            write(path, True)
            return
        folder, _, _ = path.rpartition("/")
        temporary = f"{folder}/{_TEMPORARY}{uuid.uuid4().hex}.tmp"
        self._make(folder)
        try:
            try:
                write(temporary, False)
            except Missing:  # somebody removed it since it was made
                self._made.discard(folder)
                self._make(folder)
                write(temporary, True)
            self._ask(lambda: self._fs.mv(temporary, path), writing=True)
        except (Refused, Missing):
            with contextlib.suppress(Refused, Missing):
                self._ask(lambda: self._fs.rm_file(temporary))
            raise

    def _make(self, folder: str) -> None:
        with self._making:
            if folder not in self._made:
                self._ask(lambda: self._fs.makedirs(folder, exist_ok=True), writing=True)
                self._made.add(folder)

    def delete(self, keys: Sequence[str]) -> dict[str, Refused]:
        """See `Client.delete`."""
        return delete_each(
            lambda key: self._ask(lambda: self._fs.rm_file(self._path(key))),
            keys,
            self._connection.url,
            self.width,
        )

    def can_copy(self, other: Client) -> bool:
        """See `Client.can_copy`: object stores can."""
        return isinstance(other, FsspecClient) and self._fs is other._fs and self.address.protocol in OBJECT_STORES

    def copy(self, other: Client, source: str, key: str, size: int | None) -> None:
        """See `Client.copy`."""
        found = other.head(source)
        if found is None:
            raise Missing
        if size is not None and found.size != size:
            raise Refused("changed since the plan was made; run again")
        assert isinstance(other, FsspecClient)
        self._ask(lambda: self._fs.cp_file(other._path(source), self._path(key)))

    # Locks

    def version(self, key: str) -> Version | None:
        """See `Client.version`."""
        path = self._path(key)
        try:
            data = self.get(key)[0]
            return Version(data, self._ask(lambda: _modified_ns(self._fs.info(path))))
        except Missing:
            return None

    def create(self, key: str, data: bytes) -> bool:
        """See `Client.create`: fsspec has no such thing for most of its file systems, so it is written."""
        self.put(key, data)
        return True

    def replace(self, key: str, data: bytes, was: Version) -> bool:
        """See `Client.replace`: written."""
        del was
        self.put(key, data)
        return True


def _follow_links(found: dict[str, Any], ask: Callable[[str], dict[str, Any]], width: int) -> None:
    """Have the links among what was `found` be the files that they lead to; folders that they lead to are named."""
    links = [path for path, info in found.items() if info["type"] == "link"]

    def follow(path: str) -> dict[str, Any]:
        try:
            return ask(path)
        except Missing:
            return dict(found[path])  # it leads nowhere, which is found out when it is read

    for path, info in in_flight(follow, links, name=str, doing="listed", width=min(width, len(links))):
        if isinstance(info, Refused):
            raise info
        found[path] = info
        if info["type"] == "directory":
            LOG.warning("%s: is a link to a folder, which is not followed there; name what it leads to", path)


def _fill(file: Any, pieces: Iterator[bytes], ask: Callable[[Callable[[], Any]], Any], *, discards: bool) -> None:
    """Write `pieces` to `file` and close it; where that fails, and it `discards` what came, none of it is kept."""
    try:
        for piece in pieces:
            ask(functools.partial(file.write, piece))
    except BaseException:
        # Closing it would commit what has come so far.
        discard = getattr(file, "discard", None)
        if discard is not None and discards:
            discard()
        else:
            file.close()
        raise
    ask(file.close)


def _entry(key: str, info: dict[str, Any]) -> Entry | None:
    """An entry of fsspec's info; None for a folder."""
    import xxhash

    if info["type"] == "directory":
        return None
    tag = info.get("ETag") or info.get("etag") or info.get("md5Hash")
    size = int(info.get("size") or 0)
    if tag:
        mark = int.from_bytes(xxhash.xxh3_64_digest(str(tag).strip('"').encode()), "big", signed=True)
        return Entry(key, size, mark, 0)
    return Entry(key, size, 0, _modified_ns(info))


def _modified_ns(info: dict[str, Any]) -> int:
    """When a file changed last by fsspec's info, to the microsecond; 0 where it does not say."""
    time = next(
        (
            info[n]
            for n in ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
            if info.get(n) is not None
        ),
        0,
    )
    if isinstance(time, datetime.datetime):
        time = time.timestamp()
    return int(float(time) * 1_000_000) * 1000 if not isinstance(time, str) else 0
