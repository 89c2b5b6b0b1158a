"""Real servers for tests: object stores, SFTP, HTTP. Each listens on this machine only, and ends with its `Server`.

`make servers` installs what can be had from package indexes; sshd and nginx are the system's.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import hmac
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.google import Front
from tests.support.helpers import PROJECT
from tests.support.web import free_port

#: Where `make servers` puts them.
TOOLS = PROJECT / ".servers"
KEY, SECRET = "AKTEST0123456789", "SKTEST-secret-0123456789"
#: The account that every azurite has; it is no secret.
AZURITE = (
    "devstoreaccount1",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
)


def tool(name: str) -> str:
    """The path of a program; the test is skipped where there is none, or fails where all must be there."""
    for folder in (
        TOOLS / "venv" / "bin",
        TOOLS / "node_modules" / ".bin",
        *map(Path, os.get_exec_path()),
        Path("/usr/sbin"),
        *TOOLS.glob("venv/lib/python3*/site-packages/fake_gcs*/vendor/*/bin"),
    ):
        if (found := folder / name).is_file():
            return str(found)
    return lacking(f"there is no {name}; `make servers` installs it")


def openssl(folder: Path, *words: str) -> None:
    """Run ``openssl WORDS`` in `folder`."""
    subprocess.run([tool("openssl"), *words], check=True, cwd=folder, capture_output=True, timeout=60)


def lacking(reason: str) -> str:
    if os.environ.get("COCO_DIY_REQUIRE_SERVERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass
class Server:
    """A server process: what it is called, its port, fsspec's options for it, and how it is started again."""

    protocol: str
    port: int
    command: list[str]
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    host: str = "bucket"
    front: Front | None = None
    end_by: signal.Signals = signal.SIGKILL
    #: What a server that was killed does not do by itself when it starts again.
    recover: Callable[[], None] = lambda: None

    @property
    def door(self) -> int:
        """The port that clients are to use."""
        return self.front.port if self.front else self.port

    @property
    def url(self) -> str:
        """What its bucket, or its folder, is called."""
        return f"{self.protocol}://{self.host}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.recover()
        log = (self.folder / f"log-{self.port}").open("ab")
        env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "AZURE_", "GOOGLE_"))}
        self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=env)
        log.close()
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self.process.poll() is None, (self.folder / f"log-{self.port}").read_text()
            time.sleep(0.05)
        raise AssertionError(f"{self.command[0]} does not answer")

    def kill(self) -> None:
        """As if the machine had lost power; with those that it left its connections to."""
        if self.process is not None:
            children = self.children()
            self.process.send_signal(self.end_by)
            self.process.wait()
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            self.process = None

    def stall(self, stalls: bool) -> None:
        """Let it answer nobody any more, as a machine that hangs; or again."""
        assert self.process is not None
        for one in (self.process.pid, *self.children()):
            with contextlib.suppress(ProcessLookupError):  # one of a connection ends with that
                os.kill(one, signal.SIGSTOP if stalls else signal.SIGCONT)

    def children(self) -> list[int]:
        """Processes that it started, and what these started."""
        parents = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parents[int(path.parent.name)] = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
        found = [self.process.pid] if self.process else []
        for one in found:
            found += [child for child, its in parents.items() if its == one]
        return found[1:]

    def end(self) -> None:
        """End it for good."""
        self.kill()
        if self.front is not None:
            self.front.close()
            self.front = None


def killing(server: Server, number: int, seconds: float = 0.5, of: str = "PUT") -> Callable[[str, str, int], None]:
    """What a `Proxy` before `server` calls a fault: at the request of that number it is killed, for some `seconds`."""
    seen = itertools.count(1)

    def back() -> None:
        time.sleep(seconds)
        server.start()

    def fault(method: str, _path: str, _time: int) -> None:
        if method == of and next(seen) == number:
            server.kill()
            threading.Thread(target=back, daemon=True).start()

    return fault


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.end()


def s3(folder: Path, *buckets: str) -> Server:
    """`rclone serve s3`: S3 as many small stores speak it; it knows no conditions."""
    for bucket in buckets or ("bucket",):
        (folder / "data" / bucket).mkdir(parents=True)
    port = free_port()
    command = [
        tool("rclone"),
        "--config",
        os.devnull,
        "serve",
        "s3",
        "--auth-key",
        f"{KEY},{SECRET}",
        "--addr",
        f"127.0.0.1:{port}",
        str(folder / "data"),
    ]
    options = {"key": KEY, "secret": SECRET, "endpoint_url": f"http://127.0.0.1:{port}"}
    return Server("s3", port, command, folder, options)


def gs(folder: Path, *buckets: str) -> Server:
    """fake-gcs-server, and before it what translates Google's XML interface, which obstore speaks, to its JSON one."""
    for bucket in buckets or ("bucket",):
        (folder / "data" / bucket).mkdir(parents=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        tool("fake-gcs-server-linux-amd64"),
        "-scheme",
        "http",
        "-host",
        "127.0.0.1",
        "-port",
        str(port),
        "-backend",
        "filesystem",
        "-filesystem-root",
        str(folder / "data"),
        "-external-url",
        url,
        "-public-host",
        f"127.0.0.1:{port}",
    ]
    front = Front(port)
    options = {"token": "anon", "endpoint_url": f"http://127.0.0.1:{front.port}"}
    return Server("gs", port, command, folder, options, front=front, recover=lambda: _drop_half_made(folder / "data"))


def _drop_half_made(folder: Path) -> None:
    """Remove objects and temporary files that fake-gcs-server was killed before it described.

    It writes an object first, and then what it lists of it, as an attribute of the file or in a file beside it; of one
    without that each of its listings fails, as no real store's does.
    """
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".metadata" and not Path(f"{path}.metadata").exists():
            try:
                os.getxattr(path, "user.metadata")
            except OSError:
                path.unlink()


def az(folder: Path) -> Server:
    """azurite; its container must be made, see `make_container`."""
    port = free_port()
    command = [
        tool("node"),
        tool("azurite-blob"),
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
        str(port),
        "--location",
        str(folder),
        "--silent",
        "--disableTelemetry",
        "--skipApiVersionCheck",
    ]
    account, key = AZURITE
    options = {"account_name": account, "account_key": key, "endpoint": f"http://127.0.0.1:{port}/{account}"}
    # Killed at once it would forget its container, which no real store does: what it knows it writes as it ends.
    return Server("az", port, command, folder, options, end_by=signal.SIGTERM)


def make_container(server: Server, name: str = "bucket") -> None:
    account, key = AZURITE
    date = email.utils.formatdate(usegmt=True)
    headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
    to_sign = "PUT" + "\n" * 12 + f"{headers}/{account}/{account}/{name}\nrestype:container"
    signed = base64.b64encode(hmac.new(base64.b64decode(key), to_sign.encode(), hashlib.sha256).digest()).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/{account}/{name}?restype=container",
        method="PUT",
        headers={"x-ms-date": date, "x-ms-version": "2021-08-06", "Authorization": f"SharedKey {account}:{signed}"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 201


def azure_pass(permissions: str, until: str, container: str = "bucket") -> str:
    """A shared access signature for a container: what may be done with it (``rl``: read and list), and until when."""
    account, key = AZURITE
    version = "2020-12-06"
    to_sign = [permissions, "", until, f"/blob/{account}/{container}", "", "", "", version, "c", *[""] * 7]
    signed = hmac.new(base64.b64decode(key), "\n".join(to_sign).encode(), hashlib.sha256).digest()
    return urllib.parse.urlencode(
        {"sv": version, "sr": "c", "sp": permissions, "se": until, "sig": base64.b64encode(signed).decode()}
    )


def sftp(folder: Path, subsystem: str = "internal-sftp") -> Server:
    """sshd with a key of its own; files lie in the folder's ``data``."""
    try:
        import sshfs  # type: ignore[import-untyped] # noqa: F401
    except ImportError:
        lacking("there is no package sshfs; it is in the extra sftp")
    sshd, keygen = tool("sshd"), tool("ssh-keygen")
    (folder / "data").mkdir(parents=True)
    for name in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True, timeout=60)
    shutil.copy(folder / "user.pub", folder / "authorized")
    port = free_port()
    host = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}\n")
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile none\nStrictModes no\nPasswordAuthentication no\nUsePAM no\nSubsystem sftp {subsystem}\n"
        "MaxStartups 100\nMaxSessions 100\nPermitRootLogin prohibit-password\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # it wants it
    import getpass

    options = {
        "username": getpass.getuser(),
        "client_keys": [str(folder / "user")],
        "known_hosts": str(folder / "known_hosts"),
        "port": port,
    }
    server = Server("sftp", port, [sshd, "-D", "-e", "-f", str(folder / "config")], folder, options)
    server.host = f"127.0.0.1{folder}/data"
    return server


def bucket_on(server: Server, bucket: str, **options: Any) -> None:
    """Make a bucket at an S3 store: a PUT of nothing at its name."""
    import obstore
    from obstore.exceptions import GenericError
    from obstore.store import S3Store

    top = S3Store(
        "",
        endpoint=server.options["endpoint_url"],
        virtual_hosted_style_request=True,
        access_key_id=server.options["key"],
        secret_access_key=server.options["secret"],
        client_options={"allow_http": True},
        **options,
    )
    try:
        obstore.put(top, bucket, b"", use_multipart=False)
    except GenericError as error:  # a bucket has no etag, and some servers give none
        if "ETag Header missing" not in str(error):
            raise


def empty(server: Server, bucket: str) -> None:
    """Delete all objects of a bucket at an S3 store."""
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        bucket,
        endpoint=server.options["endpoint_url"],
        access_key_id=server.options["key"],
        secret_access_key=server.options["secret"],
        client_options={"allow_http": True},
    )
    for chunk in obstore.list(store, chunk_size=1000):
        obstore.delete(store, [meta["path"] for meta in chunk])


MAKERS: dict[str, Callable[[Path], Server]] = {"s3": s3, "gs": gs, "az": az, "sftp": sftp}


def python_server(code: str, *args: str) -> list[str]:
    """The command of a server that is a few lines of Python."""
    return [sys.executable, "-c", code, *args]
