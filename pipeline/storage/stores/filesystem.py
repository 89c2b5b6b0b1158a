"""Everything else that fsspec knows: SFTP, memory, HDFS, and, with the option ``driver: fsspec``, object stores."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pipeline.base.errors import ConfigError
from pipeline.runtime.log import LOG
from pipeline.storage.address import OBJECT_STORES, Address
from pipeline.storage.retry import CONNECTION, retried
from pipeline.storage.stores.client import Client, Entry, Version
from pipeline.storage.stores.credentials import fsspec_options
from pipeline.storage.stores.in_flight import delete_each, persist
from pipeline.storage.stores.options import scrub
from pipeline.storage.stores.store_errors import Missing, Refused, must_be_whole, of_connection, of_status

T = TypeVar("T")

#: Protocols with real folders, where a file under way can be seen: it is made under another name, then renamed.
_RENAMING = frozenset({"sftp", "ftp", "smb", "hdfs", "webhdfs", "arrow_hdfs", "local", "file"})

_EXTRAS = {"sftp": "sshfs", "s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "smb": "smbprotocol"}

#: Protocols with a connection that is opened once and can break, which their file systems do not mend.
_CONNECTED = frozenset({"sftp", "ftp", "smb"})

_TEMPORARY = ".coco-diy-"

_WIDTH = 16


class FsspecClient(Client):
    """A file system of fsspec."""

    LARGE = 64 << 20

    def __init__(self, address: Address, options: dict[str, Any]) -> None:
        self.address = address
        self.options = {k: v for k, v in options.items() if k not in ("driver", "in_flight")}
        if address.protocol in OBJECT_STORES:
            self.options = fsspec_options(address, self.options)
        self.width = int(options.get("in_flight", _WIDTH))
        self._renames = address.protocol in _RENAMING
        self._scheme = address.url.partition("://")[0]
        self._opening = threading.Lock()
        self._fs = self._open()
        # Keys are put below it as they are: as part of a URL, a ? or # in them would mean something.
        self._top: str = self._fs._strip_protocol(f"{self._scheme}://{self.address.host}/").rstrip("/")
        self._made: set[str] = set()
        self._making = threading.Lock()

    def _open(self, **more: Any) -> Any:
        from fsspec.core import url_to_fs

        options: dict[str, Any] = {**self.options, **more}
        if self.address.protocol == "sftp":
            options.setdefault("known_hosts", ())  # ~/.ssh/known_hosts: the library would trust any server
            options.setdefault("connect_timeout", 10)
            options.setdefault("keepalive_interval", 15)  # else a server that falls silent is waited for without end
        elif self.address.protocol in OBJECT_STORES:
            options.setdefault("use_listings_cache", False)
        try:
            return _asked(lambda: url_to_fs(f"{self._scheme}://{self.address.host}", **options)[0], writing=False)
        except Missing:
            raise ConfigError(
                f"{self.address.url}: a file that the options for {self.address.protocol} in conf/local/ "
                "name is not there; correct them"
            ) from None
        except ImportError:
            package = _EXTRAS.get(self.address.protocol, f"that fsspec wants for {self.address.protocol}")
            raise ConfigError(f"{self.address.url}: needs the package {package}; install it with pip") from None
        except ValueError:
            from fsspec import available_protocols

            from pipeline.base.errors import unknown

            raise ConfigError(
                f"{self.address.url}: {unknown('protocol', self._scheme, available_protocols())}"
            ) from None

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
        must_be_whole(len(data), entry.size)
        return data, entry

    def stream(self, key: str) -> tuple[Entry, Iterator[bytes]]:
        """See `Client.stream`."""
        path = self._path(key)
        entry = self._ask(lambda: _entry(key, self._fs.info(path)))
        if entry is None:
            raise Missing

        def pieces() -> Iterator[bytes]:
            came = 0
            with self._ask(lambda: self._fs.open(path, "rb")) as file:
                while piece := self._ask(lambda: file.read(4 << 20)):
                    came += len(piece)
                    yield bytes(piece)
            must_be_whole(came, entry.size)

        return entry, pieces()

    def part(self, key: str, start: int, stop: int) -> bytes:
        """See `Client.part`."""
        path = self._path(key)

        def read() -> bytes:  # not `cat_file`: sshfs leaves out where to begin
            with self._fs.open(path, "rb") as file:
                file.seek(start)
                return bytes(file.read(stop - start))

        data = self._ask(read)
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

    # Writing

    def put(self, key: str, data: bytes) -> None:
        """See `Client.put`."""
        self._whole(key, lambda path: self._ask(lambda: self._fs.pipe_file(path, data), writing=True))

    def put_stream(self, key: str, pieces: Iterator[bytes], size: int) -> None:
        """See `Client.put_stream`."""
        del size

        def write(path: str) -> None:
            file = self._ask(lambda: self._fs.open(path, "wb"), writing=True)
            try:
                for piece in pieces:
                    self._ask(lambda piece=piece: file.write(piece), writing=True)  # type: ignore[misc]
            except BaseException:
                # Closing it would commit what has come so far.
                discard = getattr(file, "discard", None)
                if discard is not None and not self._renames:
                    discard()
                else:
                    file.close()
                raise
            self._ask(file.close, writing=True)

        self._whole(key, write)

    def _whole(self, key: str, write: Callable[[str], object]) -> None:
        """Let `write` make the file `key`, so that it is never seen in part."""
        path = self._path(key)
        if not self._renames:
            write(path)
            return
        folder, _, _ = path.rpartition("/")
        self._make(folder)
        temporary = f"{folder}/{_TEMPORARY}{uuid.uuid4().hex}.tmp"
        try:
            write(temporary)
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

    def delete(self, keys: Sequence[str]) -> dict[str, str]:
        """See `Client.delete`."""
        return delete_each(
            lambda key: self._ask(lambda: self._fs.rm_file(self._path(key))),
            keys,
            f"{self._scheme}://{self.address.host}",
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
        try:
            data, entry = self.get(key)
        except Missing:
            return None
        return Version(data, entry.stamp)

    def create(self, key: str, data: bytes) -> bool:
        """See `Client.create`: fsspec has no such thing for most of its file systems, so it is written."""
        self.put(key, data)
        return True

    def replace(self, key: str, data: bytes, was: Version) -> bool:
        """See `Client.replace`: written."""
        del was
        self.put(key, data)
        return True

    def _ask(self, call: Callable[[], T], *, writing: bool = False) -> T:
        """What `call` returns, its errors as ours; where the connection broke, there is a new one afterwards."""
        fs = self._fs
        try:
            return _asked(call, writing=writing)
        except Refused as refused:
            if refused.passing and self.address.protocol in _CONNECTED:
                self._reopen(fs)
            raise

    def _reopen(self, broken: Any) -> None:
        """Make a new connection, unless another thread has done so; raises `Refused` where the server stays away."""
        with self._opening:
            if self._fs is not broken:
                return
            url = f"{self._scheme}://{self.address.host}"
            LOG.info("%s: the connection broke, and is opened again", url)
            self._fs = retried(
                lambda: self._open(skip_instance_cache=True), CONNECTION, lambda e: isinstance(e, Refused), lambda: url
            )


def _asked(call: Callable[[], T], *, writing: bool) -> T:
    try:
        return call()
    except (Refused, Missing, ImportError, ConfigError):
        raise
    except FileNotFoundError:
        if not writing:
            raise Missing from None
        refused = Refused(
            "the place that it is to be written to does not exist; create it, or correct the URL", fatal=True
        )
    except Exception as error:  # every file system has errors of its own
        if isinstance(error, ValueError) and "rotocol" in str(error):
            raise
        refused = _refused(error)
    raise refused


def _refused(error: Exception) -> Refused:  # noqa: PLR0911 - one return a kind
    status = next(
        (getattr(error, n) for n in ("status_code", "status", "code") if isinstance(getattr(error, n, None), int)), None
    )
    text = scrub(f"{type(error).__name__}: {error}".splitlines()[0])[:200]
    number = getattr(error, "errno", None)
    if isinstance(error, PermissionError) or "PermissionDenied" in text or "HostKeyNotVerifiable" in text:
        if "HostKey" in text:
            return Refused(
                "the server is not in ~/.ssh/known_hosts; connect once with ssh and look at its key", fatal=True
            )
        return of_status("403", None, text)
    if number in (errno.ENOSPC, errno.EDQUOT) or "NoSpace" in text or "QuotaExceeded" in text:
        return of_status("507", None, text)
    if text.startswith("SFTPFailure"):  # all that OpenSSH says, of a full disk, too
        return Refused(
            f"the server says no more than that it failed ({text}); its disk may be full, or a folder stand "
            "in the way: look there, then run again: it goes on where it was",
            passing=True,
        )
    if isinstance(error, ConnectionRefusedError):
        return of_connection("connection refused") or Refused(text)
    if isinstance(status, int) and 300 <= status < 600:
        return of_status(str(status), None, text)
    if isinstance(error, TimeoutError) or "Timeout" in text:
        return of_connection("timed out") or Refused(text)
    if isinstance(error, ConnectionError):
        return of_connection("connection reset") or Refused(text)
    if number:
        return of_connection(text) or Refused(os.strerror(number) if number > 0 else text)
    return of_connection(text) or Refused(text)


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
    return Entry(key, size, 0, int(float(time) * 1_000_000) * 1000 if not isinstance(time, str) else 0)
