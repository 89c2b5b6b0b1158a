"""Servers of SFTP: killed, silent, full, refusing, with links; and what a kill leaves there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import storage
from pipeline.base.errors import ConfigError, StorageError
from pipeline.runtime.log import LOG
from tests.conftest import MakeSubset, Run
from tests.support import stores
from tests.support.helpers import PROJECT, write_file

pytestmark = pytest.mark.timeout(60)


def names(count: int) -> tuple[list[str], list[bytes]]:
    return [f"{i} ü#.txt" for i in range(count)], [b"content %d" % i for i in range(count)]


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COCO_DIY_LOCAL", str(tmp_path / "options"))
    return lambda data: write_file(tmp_path / "options" / "sftp.yaml", yaml.safe_dump({"sftp": data}))


@pytest.mark.slow
def test_a_server_of_sftp_that_is_killed_and_comes_back(tmp_path: Path, local: Any) -> None:
    with stores.running(stores.sftp(tmp_path / "sftp")) as server:
        local(server.options)
        place = storage.locate_writable(f"{server.url}/subset")
        paths, data = names(200)
        folder = server.folder / "data" / "subset"

        def blow() -> None:
            while not folder.is_dir() or len(list(folder.iterdir())) < 40:
                time.sleep(0.005)
            killed.append(len(list(folder.iterdir())))
            server.kill()
            time.sleep(0.5)
            server.start()

        killed: list[int] = []
        blower = threading.Thread(target=blow, daemon=True)
        blower.start()
        results = place.write_many(paths, data)
        blower.join()
        assert killed[0] < 200
        assert (results.done, results.failed) == (200, {})
        assert {paths[f.index]: f.data for f in place.fetch_many(paths)} == dict(zip(paths, data, strict=True))


@pytest.mark.slow
def test_a_yaml_that_kept_size_and_time_is_seen_at_sftp(
    tmp_path: Path, make_subset: MakeSubset, town: Path, local: Any
) -> None:
    """A server of SFTP shows no more, and numbers of classes hang by it."""
    with stores.running(stores.sftp(tmp_path / "sftp")) as server:
        local(server.options)
        at = ["--set", f"target.root={server.url}/out"]
        subset = make_subset(town)
        subset.build(*at)
        path = server.folder / "data/out/data.yaml"
        before, times = path.read_bytes(), path.stat()
        path.write_bytes(before.swapcase())
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        subset.build(*at)
        assert path.read_bytes() == before
        assert subset.command("build", "--json", *at).json["status"] == "nothing to do"


@pytest.mark.slow
def test_a_server_of_sftp_that_falls_silent(tmp_path: Path, local: Any) -> None:
    with stores.running(stores.sftp(tmp_path / "sftp")) as server:
        local({**server.options, "keepalive_interval": 0.1})
        place = storage.locate_writable(f"{server.url}/subset")
        place.write("first.txt", b"1")
        silent = server.children()
        for child in silent:
            os.kill(child, signal.SIGSTOP)
        try:
            paths, data = names(20)
            results = place.write_many(paths, data)
            assert (results.done, results.failed) == (20, {})
        finally:
            for child in silent:
                os.kill(child, signal.SIGKILL)


@pytest.mark.slow
def test_links_at_a_server_of_sftp(tmp_path: Path, local: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It lists the link itself: its size is that of a path, and its time stays when the file changes."""
    with stores.running(stores.sftp(tmp_path / "sftp")) as server:
        local(server.options)
        place, here = storage.locate(server.url), Path(server.url.removeprefix("sftp://127.0.0.1"))
        write_file(here / "away/c.txt", "content")
        for number in range(70):  # so many that a listing answers for all
            os.symlink("away/c.txt", here / f"{number}.txt")
        os.symlink("away", here / "folder")
        os.symlink("..", here / "away/loop")
        os.symlink("nowhere", here / "dangling.txt")
        names = [f"{number}.txt" for number in range(70)]
        storage.begin_listings()
        listing = place.listing(frozenset({".txt"}), with_stats=True)
        assert list(listing.names()) == sorted([*names, "away/c.txt", "dangling.txt"])
        assert place.sizes(names) == [7] * 70
        before = place.fingerprints(names)
        os.utime(here / "away/c.txt", (1e9, 1e9))
        storage.begin_listings()
        assert not set(place.fingerprints(names)) & set(before)
    named = [message for message in caplog.messages if "is a link to a folder, which is not followed" in message]
    assert sorted({message.partition(":")[0].rpartition("/data/")[2] for message in named}) == ["away/loop", "folder"]


def test_a_server_of_sftp_whose_disk_is_full(tmp_path: Path, local: Any) -> None:
    server = stores.sftp(tmp_path / "sftp")
    disk = server.folder / "data" / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=False, capture_output=True, timeout=60
    )
    if mounted.returncode != 0:
        pytest.skip("may not mount a small disk")
    try:
        with stores.running(server):
            local(server.options)
            paths = [f"{i}.txt" for i in range(1000)]
            with pytest.raises(
                StorageError,
                match=r"cannot be written: the server says no more than that it failed "
                r"\(SFTPFailure: Failure\); its disk may be full",
            ):
                storage.locate_writable(f"{server.url}/disk/x").write_many(paths, [b"x" * 9000] * 1000)
    finally:
        subprocess.run(["umount", "-l", disk], check=True, timeout=60)


def test_a_file_takes_few_requests_however_deep_it_is(
    tmp_path: Path, local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asyncssh.sftp import SFTPClientHandler

    ask, asked = SFTPClientHandler._make_request, list[int]()

    async def counted(self: Any, kind: int, *args: Any) -> Any:
        asked.append(kind)
        return await ask(self, kind, *args)

    monkeypatch.setattr(SFTPClientHandler, "_make_request", counted)
    with stores.running(stores.sftp(tmp_path / "sftp")) as server:
        local(server.options)
        place = storage.locate_writable(f"{server.url}/a/b/c/d/e/f")
        paths, data = names(100)
        place.write(paths[0], data[0])
        asked.clear()
        assert place.write_many(paths, data).done == 100
        assert len(asked) <= 100 * 5
        assert {paths[f.index]: f.data for f in place.fetch_many(paths)} == dict(zip(paths, data, strict=True))


@pytest.mark.parametrize("large", [False, True])
def test_a_folder_that_was_removed_is_made_again(
    tmp_path: Path, local: Any, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    """As by hand, between two builds of one process."""
    monkeypatch.setattr("pipeline.storage.stores.filesystem.FsspecClient.LARGE", 10 if large else 64 << 20)
    write_file(tmp_path / "from/a.bin", b"x" * 1000)
    with stores.running(stores.sftp(tmp_path / "sftp")) as server:
        local(server.options)
        place = storage.locate_writable(f"{server.url}/subset")
        for _ in range(2):
            copies = storage.Copies(["in/a.bin"], storage.locate(str(tmp_path / "from")), ["a.bin"], [1000])
            results = place.copy_many(copies)
            assert (results.done, results.failed) == (1, {})
            assert (server.folder / "data/subset/in/a.bin").read_bytes() == b"x" * 1000
            shutil.rmtree(server.folder / "data/subset")


@pytest.mark.slow
@pytest.mark.parametrize("dies_at", ["/labels/", "/.coco-diy/manifest.json"])
def test_what_a_killed_build_was_writing_is_no_longer_there(
    tmp_path: Path, town: Path, local: Any, run: Run, dies_at: str
) -> None:
    """At a server of files it has another name until it is whole; another's file of such a name stays."""
    with stores.running(stores.sftp(tmp_path / "sftp")) as server:
        local(server.options)
        home = server.folder / "data/out"
        config = {
            "source": {"root": str(town), "names": str(town / "coco.yaml"), "splits": {"train": "train2017"}},
            "classes": ["person", "bicycle"],
            "target": {"root": f"{server.url}/out"},
            "workdir": str(tmp_path / "work"),
        }
        path = write_file(tmp_path / "c.yaml", yaml.safe_dump(config))
        dying = (
            "import os, sshfs\nfrom pipeline.__main__ import main\nmove = sshfs.SSHFileSystem.mv\n"
            f"dies = lambda self, a, b, **k: os._exit(9) if {dies_at!r} in b else move(self, a, b, **k)\n"
            "sshfs.SSHFileSystem.mv = dies\nmain()"
        )
        killed = subprocess.run([sys.executable, "-c", dying, "build", str(path)], check=False, cwd=PROJECT)
        halves = [*home.rglob(".coco-diy-*")]
        assert (killed.returncode, bool(halves)) == (9, True)
        own = write_file(home / "labels/.coco-diy-notes.tmp", "mine")
        run("build", path)
        assert [*home.rglob(".coco-diy-*")] == [own]


def test_sftp_that_refuses(tmp_path: Path, local: Any) -> None:
    with stores.running(stores.sftp(tmp_path / "sftp", "internal-sftp -R")) as server:
        paths, data = names(300)
        local(server.options)
        place = storage.locate_writable(f"{server.url}/subset")
        with pytest.raises(StorageError, match="cannot be written: no permission; "):
            place.write_many(paths, data)
        log = server.folder / f"log-{server.port}"
        other = tmp_path / "sftp" / "host"  # a key, but not of a user
        for change, clause in (
            ({"client_keys": [str(other)]}, "no permission; check the credentials"),
            ({"known_hosts": str(write_file(tmp_path / "none", ""))}, "the server is not in ~/.ssh/known_hosts"),
            ({"client_keys": [str(tmp_path / "none-such")]}, "a file that the options for sftp in conf/local/ name is"),
            ({"port": 9}, "no server answers there; check the endpoint"),
        ):
            local({**server.options, **change})
            before = log.read_text().count("Connection from") + log.read_text().count("Connection closed")
            with pytest.raises((StorageError, ConfigError), match=clause) as told:
                storage.locate_writable(f"{server.url}/subset").write_many(paths, data)
            assert str(told.value).startswith(f"{server.url}/subset: ")
            after = log.read_text().count("Connection from") + log.read_text().count("Connection closed")
            assert after - before <= 2


def test_what_was_given_up_is_not_asked_again_when_the_server_is_gone(
    tmp_path: Path, local: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Threads that had files under way end with them: they would tell of their tries amid the next run's log."""
    with stores.running(stores.sftp(tmp_path / "sftp", "internal-sftp -R")) as server:
        local(server.options)
        paths, data = names(300)
        with pytest.raises(StorageError, match="no permission"):
            storage.locate_writable(f"{server.url}/subset").write_many(paths, data)
    with caplog.at_level("INFO", LOG.name):
        time.sleep(2.0)
    assert [text for text in caplog.messages if "; try " in text] == []
