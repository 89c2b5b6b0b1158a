"""A connection to a file system of fsspec: its options, its errors as ours, opened again where it broke."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pipeline.base.errors import ConfigError, unknown
from pipeline.runtime.counters import REQUESTS, count
from pipeline.runtime.log import LOG
from pipeline.storage.address import OBJECT_STORES, Address
from pipeline.storage.retry import CONNECTION, retried, wanted
from pipeline.storage.stores.credentials import fsspec_options
from pipeline.storage.stores.options import scrub
from pipeline.storage.stores.store_errors import Missing, Refused, of_connection, of_status

T = TypeVar("T")

_EXTRAS = {"sftp": "sshfs", "s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "smb": "smbprotocol"}

#: Protocols with a connection that is opened once and can break, which their file systems do not mend.
_CONNECTED = frozenset({"sftp", "ftp", "smb"})


class Connection:
    """The file system `fs` of fsspec that `address` names; another one after the connection broke."""

    def __init__(self, address: Address, options: dict[str, Any]) -> None:
        self.address = address
        self.options = {k: v for k, v in options.items() if k not in ("driver", "in_flight")}
        if address.protocol in OBJECT_STORES:
            self.options = fsspec_options(address, self.options)
        self.scheme = address.url.partition("://")[0]
        self.url = f"{self.scheme}://{address.host}"
        self._opening = threading.Lock()
        self.fs = self._open()

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
            return _asked(lambda: url_to_fs(self.url, **options)[0], writing=False)
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

            raise ConfigError(
                f"{self.address.url}: {unknown('protocol', self.scheme, available_protocols())}"
            ) from None

    def ask(self, call: Callable[[], T], *, writing: bool = False) -> T:
        """What `call` returns, its errors as ours; where the connection broke, there is a new one afterwards."""
        fs = self.fs
        count(REQUESTS)
        try:
            return _asked(call, writing=writing)
        except Refused as refused:
            if refused.passing and self.address.protocol in _CONNECTED and wanted():
                self._reopen(fs)
            raise

    def _reopen(self, broken: Any) -> None:
        """Make a new connection, unless another thread has done so; raises `Refused` where the server stays away."""
        with self._opening:
            if self.fs is not broken:
                return
            LOG.info("%s: the connection broke, and is opened again", self.url)
            self.fs = retried(
                lambda: self._open(skip_instance_cache=True),
                CONNECTION,
                lambda e: isinstance(e, Refused),
                lambda: self.url,
            )


def _asked(call: Callable[[], T], *, writing: bool) -> T:
    try:
        return call()
    except (Refused, Missing, ImportError, ConfigError):
        raise
    except FileNotFoundError:
        if not writing:
            raise Missing from None
        refused = Refused("the folder to write to does not exist; create it, or correct the URL", fatal=True)
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
                "the server is not in ~/.ssh/known_hosts; connect once with ssh and check its key", fatal=True
            )
        return of_status("403", None, text)
    if number in (errno.ENOSPC, errno.EDQUOT) or "NoSpace" in text or "QuotaExceeded" in text:
        return of_status("507", None, text)
    if text.startswith("SFTPFailure"):  # all that OpenSSH says, of a full disk, too
        return Refused(
            f"the server says no more than that it failed ({text}); its disk may be full, or a folder has the "
            "name of a file: check there, then run again: it goes on where it was",
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
