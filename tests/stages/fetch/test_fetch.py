"""Downloads: whole and checked or not at all, and continued wherever they broke off."""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import http.server
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.base.errors import ConfigError, DataError, StorageError
from pipeline.config.load import load_config, validate
from pipeline.config.model import Config, SplitFolders
from pipeline.config.templates import available
from pipeline.runtime.progress import Progress
from pipeline.stages.fetch.archives import fetch, needed
from pipeline.stages.fetch.download import Download, Wanted
from pipeline.storage import Limits, Traits, retry
from tests.conftest import Run
from tests.support.archives import pack
from tests.support.helpers import PROJECT, contents, snapshot, write_file
from tests.support.web import Faults, Nginx, Silent, faulty, free_port, nginx_in, serving

RNG = random.Random(4)
BLOB = RNG.randbytes(30 << 20)
MD5 = hashlib.md5(BLOB).hexdigest()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with nginx_in(tmp_path_factory.mktemp("nginx")) as server:
        yield server


def config_of(
    folder: Path, url: str, name: str = "blob.bin", /, fetching: dict[str, Any] | None = None, **archive: Any
) -> Config:
    """A config that fetches one file to `folder`/`name`."""
    return validate(
        {
            "source": {"names": "n.yaml", "splits": {"train": {"labels": f"zip://x::{folder}/{name}"}}},
            "target": {"root": str(folder / "t")},
            "workdir": str(folder / "w"),
            "fetch": {"archives": {name: {"url": url, **archive}}, **(fetching or {})},
        },
        "here",
    )


def get(config: Config) -> dict[str, Any]:
    return fetch(config, Progress()).data


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("where", ["", "whole/"])
def test_a_file_by_ranges_and_whole(tmp_path: Path, nginx: Nginx, where: str) -> None:
    write_file(nginx.www / "blob.bin", BLOB)
    nginx.log()
    config = config_of(
        tmp_path, f"{nginx.url}/{where}blob.bin", size=len(BLOB), md5=MD5, sha256=hashlib.sha256(BLOB).hexdigest()
    )
    assert get(config)["moved"] == len(BLOB)
    assert (tmp_path / "blob.bin").read_bytes() == BLOB
    asked = nginx.log()
    assert (len(asked) > 3) is (where == "")
    assert left(tmp_path) == ["blob.bin"]
    assert get(config)["files"][0]["status"] == "there"
    assert nginx.log() == []


@pytest.mark.parametrize(
    ("url", "packed", "name", "refused"),
    [
        ("by_proxy/a.json", False, "a.json", True),
        ("as_gzip/a.json", True, "a.json", True),
        ("as_gzip/a.tgz", True, "a.json", True),
        ("as_gzip/a.json", False, "a.json", False),  # it is said, and is not so
        ("as_gzip/a.tgz", True, "a.tgz", False),
        ("as_gzip/a", True, "a.json.GZ", False),
        ("a.json", False, "a.json", False),
        ("a.json.gz", True, "a.json.gz", False),
    ],
)
def test_what_a_server_compresses(
    tmp_path: Path, nginx: Nginx, url: str, name: str, *, packed: bool, refused: bool
) -> None:
    """A file is never its gzip; a gzip is one, whatever a server says of it."""
    content = b'{"images": []}' * 1000
    content = gzip.compress(content) if packed else content
    write_file(nginx.www / Path(url).name, content)
    path = tmp_path / name
    download = Download(Wanted(f"{nginx.url}/{url}", str(path)), Limits())
    if refused:
        with pytest.raises(StorageError, match=r"sends the file compressed \(Content-Encoding: gzip\)"):
            download.run(lambda size, here: lambda more: None)
        assert not path.exists()
    else:
        download.run(lambda size, here: lambda more: None)
        assert path.read_bytes() == content


@pytest.mark.parametrize("origin", ["server", "folder"])
def test_a_killed_fetch_goes_on(tmp_path: Path, nginx: Nginx, origin: str) -> None:
    write_file(nginx.www / "blob.bin", BLOB)
    config = tmp_path / "c.yaml"
    url = f"{nginx.url}/blob.bin" if origin == "server" else str(nginx.www / "blob.bin")
    data = config_of(tmp_path, url, fetching={"bytes_per_second": 6_000_000})
    config.write_text(yaml.safe_dump(data.model_dump(mode="json")))
    nginx.log()
    command = [sys.executable, "-m", "pipeline", "fetch", str(config)]
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    notes = tmp_path / "blob.bin.part.json"
    deadline = time.monotonic() + 60
    while not (notes.exists() and sum(a - s for s, a, _ in yaml.safe_load(notes.read_text())["ranges"]) > 6 << 20):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    here = sum(a - s for s, a, _ in yaml.safe_load(notes.read_text())["ranges"])
    assert not (tmp_path / "blob.bin").exists()
    done = get(load_config(config, ["fetch.bytes_per_second=null"]))
    assert (tmp_path / "blob.bin").read_bytes() == BLOB
    assert done["moved"] == len(BLOB) - here


def test_a_fetch_that_is_killed_while_it_notes_its_progress_leaves_nothing(tmp_path: Path) -> None:
    write_file(tmp_path / "share/blob.bin", BLOB)
    config, here = tmp_path / "c.yaml", tmp_path / "here"
    data = config_of(here, str(tmp_path / "share/blob.bin"), fetching={"bytes_per_second": 6_000_000})
    config.write_text(yaml.safe_dump(data.model_dump(mode="json")))
    dying = (
        "import os, sys\nfrom pipeline.__main__ import main\nreplace = os.replace\n"
        "os.replace = lambda a, b: os._exit(9) if str(b).endswith('.part.json') else replace(a, b)\nmain()"
    )
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    killed = subprocess.run([sys.executable, "-c", dying, "fetch", str(config)], check=False, env=env)
    assert (killed.returncode, len(left(here))) == (9, 3)  # what came, its lock, and half a note
    get(load_config(config, ["fetch.bytes_per_second=null"]))
    assert left(here) == ["blob.bin"]


def test_a_server_that_restarts_is_waited_for(tmp_path: Path, nginx: Nginx) -> None:
    write_file(nginx.www / "blob.bin", BLOB)
    config = tmp_path / "c.yaml"
    data = config_of(tmp_path, f"{nginx.url}/blob.bin", md5=MD5, fetching={"bytes_per_second": 10_000_000})
    config.write_text(yaml.safe_dump(data.model_dump(mode="json")))
    child = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "fetch", str(config)],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    while not (tmp_path / "blob.bin.part.json").exists():
        assert child.poll() is None
        time.sleep(0.02)
    nginx.stop()
    time.sleep(0.5)
    nginx.start()
    assert child.wait(60) == 0
    assert (tmp_path / "blob.bin").read_bytes() == BLOB


@pytest.mark.slow
def test_connections_that_break(tmp_path: Path) -> None:
    faults = Faults({"/blob.bin": BLOB}, cut=1_000_000, times=6)
    with faulty(faults) as url:
        assert get(config_of(tmp_path, f"{url}/blob.bin", md5=MD5))["moved"] == len(BLOB)
    assert faults.times == 0


def test_without_ranges_a_broken_connection_begins_anew(tmp_path: Path) -> None:
    faults = Faults({"/blob.bin": BLOB}, cut=1_000_000, times=1, ranges=False)
    with faulty(faults) as url:
        get(config_of(tmp_path, f"{url}/blob.bin", md5=MD5))
    assert (tmp_path / "blob.bin").read_bytes() == BLOB


@pytest.mark.parametrize("tags", [('"one"', '"two"'), ('W/"one"', 'W/"two"')])
def test_a_file_that_changed_in_between_begins_anew(tmp_path: Path, tags: tuple[str, str]) -> None:
    other = BLOB[::-1]
    faults = Faults({"/blob.bin": BLOB}, etag=tags[0])
    with faulty(faults) as url:
        config = config_of(tmp_path, f"{url}/blob.bin")
        faults.cut, faults.times = 100_000, 99  # the first part comes, the rest does not
        faults.answers = []
        broken = config_of(tmp_path, f"{url}/blob.bin", size=len(BLOB))
        faults.files["/blob.bin"] = BLOB
        _break_off(broken, faults)
        faults.files["/blob.bin"], faults.etag, faults.times = other, tags[1], 0
        get(config)
    assert (tmp_path / "blob.bin").read_bytes() == other


@pytest.mark.parametrize("tags", [('"one"', '"two"'), ('"one"', None), (None, None)])
def test_a_first_answer_that_breaks_goes_on_with_no_other_file(
    tmp_path: Path, tags: tuple[str | None, str | None]
) -> None:
    """It is small, so that it is whole with the second answer, and nothing else compares the two."""
    files, asked = (b"A" * 100_000, b"B" * 100_000), itertools.count()

    class Changing(Silent, http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            number, ranged = next(asked), self.headers["Range"]
            begin, end = map(int, re.findall(r"\d+", ranged or "0-100000"))
            data, tag = files[number > 0][begin : end + 1], tags[number > 0]
            self.send_response(206 if ranged else 200)
            self.send_header("Content-Range", f"bytes {begin}-{begin + len(data) - 1}/100000")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Last-Modified", email.utils.formatdate(1e9 + (number > 0), usegmt=True))
            if tag is not None:
                self.send_header("ETag", tag)
            self.end_headers()
            self.wfile.write(data[:60_000] if number == 0 else data)

    with serving(Changing) as port:
        get(config_of(tmp_path, f"http://127.0.0.1:{port}/blob.bin"))
    assert (tmp_path / "blob.bin").read_bytes() == files[1]


def _break_off(config: Config, faults: Faults, path: str = "/blob.bin") -> None:
    """Fetch until the first part is here, then be refused."""
    faults.times, faults.cut = 0, None
    original = dict(faults.files)

    class Vanishing(dict[str, bytes]):
        count = 0

        def get(self, key: str, default: Any = None) -> Any:
            self.count += 1
            return original[path] if self.count == 1 else default

    faults.files = Vanishing()
    with pytest.raises(StorageError, match="404"):
        get(config)
    faults.files = original


@pytest.mark.slow
def test_busy_servers_are_given_the_time_they_ask_for(tmp_path: Path) -> None:
    faults = Faults({"/blob.bin": b"small"}, answers=[(503, {"Retry-After": "1"}), (429, {}), (500, {})])
    with faulty(faults) as url:
        get(config_of(tmp_path, f"{url}/blob.bin"))
    assert (tmp_path / "blob.bin").read_bytes() == b"small"
    assert len(faults.at) == 4
    assert faults.at[1] - faults.at[0] >= 1


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_told_at_once(tmp_path: Path, status: int) -> None:
    faults = Faults(answers=[(status, {})])
    with faulty(faults) as url, pytest.raises(StorageError, match=rf"/blob.bin: the server says {status}: .*mirror"):
        get(config_of(tmp_path, f"{url}/blob.bin?token=geheim"))
    assert len(faults.asked) == 1


@pytest.mark.parametrize(("location", "asked"), [("file:///etc/hostname", 1), ("/blob.bin", 11)])
def test_what_no_second_try_changes_is_told_at_once(tmp_path: Path, location: str, asked: int) -> None:
    faults = Faults(answers=[(302, {"Location": location})] * 50)
    with faulty(faults) as url, pytest.raises(StorageError, match=r"/blob.bin: .*: check the URL"):
        get(config_of(tmp_path, f"{url}/blob.bin"))
    assert len(faults.asked) == asked
    assert left(tmp_path) == []


@pytest.mark.slow
def test_a_server_that_never_answered_is_given_up_sooner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "TRANSFER", replace(retry.TRANSFER, first_s=0.01))
    with pytest.raises(StorageError, match=r"/blob.bin: no server answers .*, 5 times in a row; run again later"):
        get(config_of(tmp_path, f"http://127.0.0.1:{free_port()}/blob.bin"))


def test_secrets_of_a_url_are_not_shown(tmp_path: Path) -> None:
    with faulty(Faults()) as url, pytest.raises(StorageError) as caught:
        get(config_of(tmp_path, f"{url.replace('//', '//me:geheim@')}/blob.bin?token=geheim"))
    assert "geheim" not in str(caught.value)


def test_a_wrong_size_or_archive_is_not_put_in_place(tmp_path: Path) -> None:
    with faulty(Faults({"/blob.bin": b"small", "/x.zip": b"no archive"})) as url:
        with pytest.raises(DataError, match="has 5 bytes and not 6"):
            get(config_of(tmp_path, f"{url}/blob.bin", size=6))
        assert left(tmp_path) == []
        with pytest.raises(StorageError, match=rf"^{url}/x.zip: is no zip archive"):
            get(config_of(tmp_path, f"{url}/x.zip", "x.zip"))
    assert not (tmp_path / "x.zip").exists()


def test_a_wrong_digest_costs_no_second_download_once_it_is_corrected(tmp_path: Path) -> None:
    with faulty(Faults({"/blob.bin": BLOB})) as url:
        with pytest.raises(DataError, match="its md5 is"):
            get(config_of(tmp_path, f"{url}/blob.bin", md5="0" * 32))
        assert not (tmp_path / "blob.bin").exists()
        assert get(config_of(tmp_path, f"{url}/blob.bin", md5=MD5))["moved"] == 0
    assert (tmp_path / "blob.bin").read_bytes() == BLOB
    assert left(tmp_path) == ["blob.bin"]


def test_what_came_damaged_stays_until_its_replacement_is_whole(tmp_path: Path) -> None:
    other = b"damaged" * 1000
    faults = Faults({"/blob.bin": other})
    with faulty(faults) as url:
        config = config_of(tmp_path, f"{url}/blob.bin", md5=MD5)
        with pytest.raises(DataError, match="its md5 is"):
            get(config)
        faults.broken["/blob.bin"] = 403
        with pytest.raises(StorageError, match="403"):
            get(config)
        assert (tmp_path / "blob.bin.part.old").read_bytes() == other
        faults.broken.clear()
        faults.files["/blob.bin"] = BLOB
        get(config)
    assert (tmp_path / "blob.bin").read_bytes() == BLOB
    assert left(tmp_path) == ["blob.bin"]


@pytest.mark.slow
def test_notes_that_are_damaged_are_not_believed(tmp_path: Path) -> None:
    faults = Faults({"/blob.bin": BLOB}, cut=3_000_000, times=10**6)
    with faulty(faults) as url:
        config = config_of(tmp_path, f"{url}/blob.bin", sha256=hashlib.sha256(BLOB).hexdigest())
        with pytest.raises(DataError, match="its sha256"):
            get(config_of(tmp_path, f"{url}/blob.bin", sha256="0" * 64))
        notes = tmp_path / "blob.bin.part.json"
        noted = json.loads(notes.read_text())
        noted["ranges"][-1][1] = noted["ranges"][-1][0]  # says that the end is lacking
        notes.write_text(json.dumps(noted))
        faults.cut = None
        assert get(config)["moved"] == len(BLOB)
    assert (tmp_path / "blob.bin").read_bytes() == BLOB


class Machines(dict[str, bytes]):
    """The files of a mirror whose machines take turns, and give the same bytes ETags of their own."""

    def __init__(self, faults: Faults, files: dict[str, bytes]) -> None:
        super().__init__(files)
        self._faults, self._turn = faults, 0

    def get(self, key: str, default: Any = None) -> Any:
        self._turn += 1
        self._faults.etag = f'"machine {self._turn % 3}"'
        return super().get(key, default)


@pytest.mark.parametrize("known", [{"md5": MD5}, {"size": len(BLOB)}, {}])
@pytest.mark.parametrize("modified", ["", "Sat, 28 Nov 2026 04:39:31 GMT"])
def test_machines_of_a_mirror_may_give_other_etags(tmp_path: Path, known: dict[str, Any], modified: str) -> None:
    faults = Faults(modified=modified)
    faults.files = Machines(faults, {"/blob.bin": BLOB})
    with faulty(faults) as url:
        moved = get(config_of(tmp_path, f"{url}/blob.bin", **known))["moved"]
    assert (tmp_path / "blob.bin").read_bytes() == BLOB
    assert left(tmp_path) == ["blob.bin"]
    if modified or "md5" in known:  # nothing came twice
        assert moved == len(BLOB)


def test_a_fetch_goes_on_from_another_mirror_where_the_digest_decides(tmp_path: Path) -> None:
    faults = Faults({"/a/blob.bin": BLOB, "/b/blob.bin": BLOB}, broken={})
    known: dict[str, Any] = {"size": len(BLOB), "md5": MD5}
    with faulty(faults) as url:
        _break_off(config_of(tmp_path, f"{url}/a/blob.bin", **known), faults, "/a/blob.bin")
        here = sum(at - start for start, at, _ in json.loads((tmp_path / "blob.bin.part.json").read_text())["ranges"])
        assert here > 0
        assert get(config_of(tmp_path, f"{url}/b/blob.bin", **known))["moved"] == len(BLOB) - here
    assert (tmp_path / "blob.bin").read_bytes() == BLOB


@pytest.mark.parametrize("known", [{}, {"size": len(BLOB)}, {"md5": MD5}])
def test_an_answer_without_a_length_that_is_cut_is_not_all(tmp_path: Path, known: dict[str, Any]) -> None:
    faults = Faults({"/blob.bin": BLOB}, ranges=False, sized=False, cut=1_000_000, times=99)
    with faulty(faults) as url:
        config = config_of(tmp_path, f"{url}/blob.bin", **known)
        if known:
            with pytest.raises((StorageError, DataError), match=r"(the connection broke|its md5 is)"):
                get(config)
            assert not (tmp_path / "blob.bin").exists()
        else:
            (told,) = fetch(config, Progress()).warnings
            assert "1,000,000 bytes may not be all" in told


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><title>Sign in</title>", b"\xef\xbb\xbf \n<HTML><body>no</body>"])
@pytest.mark.parametrize("by_type", [True, False])
@pytest.mark.parametrize("name", ["blob.bin", "x.zip"])
def test_a_login_page_is_called_that(tmp_path: Path, page: bytes, by_type: bool, name: str) -> None:
    path = f"/{name}"
    faults = Faults({path: page}, pages={path} if by_type else set())
    with faulty(faults) as url, pytest.raises(StorageError, match="sends a web page, perhaps a login"):
        get(config_of(tmp_path, f"{url}{path}", name))
    assert left(tmp_path) == []
    write_file(tmp_path / "mirror" / name, page)
    if name.endswith(".zip"):
        with pytest.raises(StorageError, match="is a web page, perhaps a login, and no archive"):
            get(config_of(tmp_path, "http://x.invalid/", name, {"mirror": str(tmp_path / "mirror")}))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_redirect_never_takes_a_login_along(tmp_path: Path, host: str) -> None:
    """Neither to another host nor to another port of the same: that may be another user's."""
    there = Faults({"/blob.bin": b"small"})
    with faulty(there) as other:
        first = Faults(answers=[(302, {"Location": f"{other.replace('127.0.0.1', host)}/blob.bin"})])
        with faulty(first) as url:
            get(config_of(tmp_path, f"{url.replace('//', '//me:geheim@')}/blob.bin?sig=geheim"))
    assert "Basic" in first.headers[0]["Authorization"]
    assert there.headers
    assert "Authorization" not in there.headers[0]
    assert "geheim" not in str(there.headers) + str(there.asked)


def test_credentials_do_not_go_unencrypted_over_a_network(tmp_path: Path) -> None:
    for url in ("http://me:geheim@mirror.example/blob.bin", "http://mirror.example/blob.bin?sig=geheim"):
        with pytest.raises(ConfigError, match="readable on the way") as caught:
            get(config_of(tmp_path, url))
        assert "geheim" not in str(caught.value)


def test_an_answer_of_more_than_was_asked_for_is_given_up(tmp_path: Path) -> None:
    faults = Faults({"/blob.bin": BLOB}, sized=False, more=1 << 20)
    with faulty(faults) as url, pytest.raises(StorageError, match="more than was asked for"):
        get(config_of(tmp_path, f"{url}/blob.bin"))


def test_a_disk_too_small_is_told_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.statvfs(tmp_path)
    facts = list(full)
    facts[4] = 1
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(facts))
    with faulty(Faults({"/blob.bin": BLOB})) as url, pytest.raises(StorageError, match=r"takes 31.5 MB, .* free"):
        get(config_of(tmp_path, f"{url}/blob.bin"))
    assert not (tmp_path / "blob.bin").exists()


def test_a_disk_that_does_not_say_how_large_it_is_takes_what_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a FUSE without `statfs` answers."""
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result([512, 0, 0, 0, 0, 0, 0, 0, 0, 255]))
    with faulty(Faults({"/blob.bin": BLOB})) as url:
        get(config_of(tmp_path, f"{url}/blob.bin"))
    assert (tmp_path / "blob.bin").read_bytes() == BLOB


def test_the_disk_must_hold_all_that_comes(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    data = config_of(tmp_path, "http://host.invalid/blob.bin", size=free * 2 // 3).model_dump()
    data["fetch"]["folder"] = str(tmp_path)
    data["fetch"]["archives"]["more.bin"] = data["fetch"]["archives"]["blob.bin"]
    with pytest.raises(StorageError, match=r"takes .* free; make room"):
        fetch(validate(data, "here"), Progress(), ["blob.bin", "more.bin"])


@pytest.mark.parametrize("after", ["before the end of one", "between two"])
def test_where_the_disk_goes_away_nothing_is_fetched_to_the_system_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    here, replace = tmp_path / "disk", os.replace
    data = config_of(here, "x", "one.bin", fetching={"folder": str(here)}).model_dump()
    data["fetch"] |= {"mirror": str(tmp_path / "share"), "folder": str(here)}
    data["fetch"]["archives"]["two.bin"] = {"url": "x"}
    for name in ("one.bin", "two.bin"):
        write_file(tmp_path / "share" / name, BLOB)

    def swapping(*args: Any) -> None:
        replace(*args)
        wanted = ".part.json" if after == "before the end of one" else "one.bin"
        if str(args[1]).endswith(wanted) and not (tmp_path / "away").exists():
            here.rename(tmp_path / "away")
            here.mkdir()

    monkeypatch.setattr(os, "replace", swapping)
    with pytest.raises(StorageError, match=f"{here}: was removed, or its disk was unmounted"):
        fetch(validate(data, "here"), Progress(), ["one.bin", "two.bin"])
    assert left(here) == []
    assert (tmp_path / "away").is_dir()


def test_where_nothing_is_unpacked_no_folder_is_made(tmp_path: Path) -> None:
    write_file(tmp_path / "share/blob.bin", BLOB)
    config = config_of(tmp_path / "here", "x", fetching={"mirror": str(tmp_path / "share")})
    fetch(config, Progress(), extract=True, into=str(tmp_path / "into"), names=["blob.bin"])
    assert not (tmp_path / "into").exists()


def test_limits_hold(tmp_path: Path, nginx: Nginx) -> None:
    write_file(nginx.www / "small.bin", BLOB[: 6 << 20])
    began = time.monotonic()
    get(config_of(tmp_path, f"{nginx.url}/small.bin", fetching={"bytes_per_second": 6 << 20, "connections": 2}))
    assert time.monotonic() - began > 0.7


def test_requests_to_a_folder_are_limited_too(tmp_path: Path) -> None:
    write_file(tmp_path / "share/blob.bin", BLOB)
    began = time.monotonic()
    get(config_of(tmp_path, str(tmp_path / "share/blob.bin"), fetching={"requests_per_second": 8}))
    assert time.monotonic() - began >= 4 / 8  # parts of 8 MiB


def test_the_proxy_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults({"/blob.bin": b"by proxy"})
    with faulty(faults) as url:
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        get(config_of(tmp_path, "http://host.invalid/blob.bin"))
    assert (tmp_path / "blob.bin").read_bytes() == b"by proxy"


def test_a_mirror_by_any_url(tmp_path: Path) -> None:
    write_file(tmp_path / "share/blob.bin", BLOB)
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem().pipe("/company/share/blob.bin", BLOB)
    for mirror in (f"file://{tmp_path}/share", str(tmp_path / "share"), "memory://company/share"):
        config = config_of(tmp_path / "here", "http://host.invalid/blob.bin", md5=MD5, fetching={"mirror": mirror})
        assert get(config)["moved"] == len(BLOB)
        (tmp_path / "here/blob.bin").unlink()
    gone = config_of(tmp_path / "here", "x", fetching={"mirror": "memory://nothing"})
    with pytest.raises(StorageError, match="is not there"):
        get(gone)


@pytest.mark.slow
def test_progress_is_told_for_each_file_and_for_all(tmp_path: Path) -> None:
    from tests.runtime.test_progress import Terminal

    write_file(tmp_path / "share/one.bin", BLOB)
    write_file(tmp_path / "share/two.bin", BLOB[: 10 << 20])
    data = config_of(tmp_path, "x", "one.bin", size=len(BLOB)).model_dump()
    data["fetch"] |= {"bytes_per_second": 16 << 20, "mirror": str(tmp_path / "share"), "folder": str(tmp_path)}
    data["fetch"]["archives"]["two.bin"] = {"url": "x"}
    shown = Terminal()
    fetch(validate(data, "here"), Progress(shown, quiet=False), ["one.bin", "two.bin"])
    last = [line for line in shown.getvalue().split("\r") if "all 2 files" in line][-1]
    assert "all 2 files: 100%" in last
    assert "41.9M/41.9M" in last
    assert "one.bin (1 of 2)" in shown.getvalue()


# What a config needs, and unpacking


def test_what_is_needed_follows_from_the_config(tmp_path: Path) -> None:
    known = {
        "boxes.zip": {"url": "u", "task": "detect"},
        "polygons.zip": {"url": "u", "task": "segment"},
        "train.zip": {"url": "u", "split": "train"},
        "val.zip": {"url": "u", "split": "val"},
        "more.zip": {"url": "u"},
    }
    data: dict[str, Any] = {
        "source": {"names": "n.yaml", "root": str(tmp_path), "splits": {"train": "train2017"}},
        "target": {"root": "t"},
        "fetch": {"archives": known},
    }
    assert [n.name for n in needed(validate(data, "here"))] == ["boxes.zip", "train.zip"]
    data["source"]["task"], data["target"]["images"] = "segment", "none"
    assert [n.name for n in needed(validate(data, "here"))] == ["polygons.zip"]
    assert [n.name for n in needed(validate(data, "here"), ["more.zip"])] == ["more.zip"]
    data["source"]["splits"] = {"train": {"labels": "zip://a::in/boxes.zip", "images": "zip://b::in/train.zip"}}
    assert [n.path for n in needed(validate(data, "here"))] == [str(tmp_path / "in/boxes.zip")]
    data["source"]["splits"]["train"]["labels"] = "zip://a::in/unknown.zip"
    with pytest.raises(ConfigError, match=r"does not say where to get 'unknown.zip'"):
        needed(validate(data, "here"))


def test_no_folder_is_made_that_is_called_as_a_variable(tmp_path: Path, run: Run) -> None:
    config = config_of(tmp_path, "https://example.org/a.zip")
    labels = "zip://x::$HOME/blob.bin"
    config = validate(config.model_dump() | {"source": {"splits": {"train": {"labels": labels}}}}, "here")
    with pytest.raises(
        ConfigError, match=r"source.splits.train: zip://x::\$HOME/blob.bin: \$HOME is not expanded here"
    ):
        needed(config)
    path = write_file(tmp_path / "c.yaml", yaml.safe_dump(config.model_dump(mode="json")))
    told = run("fetch", path, "--extract", "--into", "~nobody-is-called-so/x", code=2).err
    assert "--into ~nobody-is-called-so/x: no user of this machine is called 'nobody-is-called-so'" in told


def test_the_ready_config_knows_the_tutorials_archives(tmp_path: Path) -> None:
    config = load_config(PROJECT / "conf/coco2017.yaml")
    assert [n.name for n in needed(config)] == ["coco2017labels.zip", "train2017.zip", "val2017.zip"]
    assert {"test2017.zip", "coco2017labels-segments.zip", "annotations_trainval2017.zip"} <= set(config.fetch.archives)
    assert [n.name for n in needed(config, as_folders=True)] == ["coco2017labels.zip", "train2017.zip", "val2017.zip"]


def test_the_ready_config_for_a_small_disk_reads_images_from_the_same_archives() -> None:
    whole, small = (load_config(PROJECT / f"conf/{name}.yaml") for name in ("coco2017", "coco2017-small"))
    assert [n.name for n in needed(small)] == ["coco2017labels.zip"]
    assert small.fetch.archives["coco2017labels.zip"] == whole.fetch.archives["coco2017labels.zip"]
    urls = {split: archive.url for archive in whole.fetch.archives.values() if (split := archive.split)}
    for split, place in small.sources[0].splits.items():
        assert isinstance(place, SplitFolders)
        assert place.images == f"zip://{split}2017::{urls[split]}"
    assert len({load_config(PROJECT / f"conf/{name}.yaml").target.root for name in available()}) == len(available())


def test_extract_makes_the_tutorials_folders(tmp_path: Path, town: Path, run: Run) -> None:
    www = tmp_path / "www"
    pack(town / "labels", www / "labels.zip", "coco/labels")
    pack(town / "images/train2017", www / "train2017.zip", "train2017")
    config = write_file(
        tmp_path / "c.yaml",
        yaml.safe_dump(
            {
                "source": {
                    "names": str(town / "coco.yaml"),
                    "root": str(tmp_path / "coco"),
                    "splits": {"train": "train2017"},
                },
                "target": {"root": str(tmp_path / "t")},
                "workdir": str(tmp_path / "w"),
                "fetch": {
                    "folder": str(tmp_path / "d"),
                    "mirror": str(www),
                    "archives": {
                        "labels.zip": {"url": "x", "task": "detect", "unpack": {"coco": ""}},
                        "train2017.zip": {"url": "x", "split": "train", "unpack": {"train2017": "images/train2017"}},
                        "notes.txt": {"url": "x"},
                    },
                },
            }
        ),
    )
    write_file(www / "notes.txt", "nothing to unpack")
    run("fetch", config, "--remove-archives", code=2)
    done = run("fetch", config, "notes.txt", "--json").json
    assert [(f["name"], f["status"]) for f in done["files"]] == [("notes.txt", "fetched")]
    done = run("fetch", config, "--extract", "--remove-archives", "--json").json
    assert [f["status"] for f in done["files"]] == ["unpacked", "unpacked"]
    expected = {p: d for p, d in contents(town).items() if p.startswith(("labels/", "images/train2017"))}
    found = {p: d for p, d in contents(tmp_path / "coco").items() if not p.startswith(".")}
    assert found == expected
    assert left(tmp_path / "d") == ["notes.txt"]
    assert run("fetch", config, "--extract", "--json").json["moved"] == 0
    run("build", config)
    splits = (
        "source.splits={train: {labels: 'zip://coco/labels::d/labels.zip', images: 'zip://train2017::d/train2017.zip'}}"
    )
    assert "--into DIR" in run("fetch", config, "--set", splits, "--extract", code=2).err
    run("fetch", config, "--set", splits, "--into", tmp_path / "other")
    assert {p: d for p, d in contents(tmp_path / "other").items() if not p.startswith(".")} == expected


class Moody(dict[str, bytes]):
    """A file at a server that cuts, says other ETags, forgets lengths and ranges, as dice fall at each request."""

    def __init__(self, faults: Faults, files: dict[str, bytes], dice: random.Random) -> None:
        super().__init__(files)
        self._faults, self._dice, self.well = faults, dice, False

    def get(self, key: str, default: Any = None) -> Any:
        faults, dice = self._faults, self._dice
        ill = not self.well
        faults.etag = f'"{dice.choice("aab")}"' if ill and dice.random() < 0.6 else '"a"'
        faults.ranges = not (ill and dice.random() < 0.2)
        faults.sized = not (ill and dice.random() < 0.2)
        faults.cut, faults.times = (dice.randrange(1, 60_000), 1) if ill and dice.random() < 0.4 else (None, 0)
        faults.reset = dice.random() < 0.5
        if ill and dice.random() < 0.1:
            faults.answers.append((503, {}))
        return super().get(key, default)


@pytest.mark.parametrize("seed", range(24))
def test_whatever_a_server_does_a_file_is_right_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    for name, value in (("_FIRST_BYTES", 4096), ("_LEAST_PIECE", 8192), ("_MOST_PIECE", 65_536)):
        monkeypatch.setattr(f"pipeline.stages.fetch.download.{name}", value)
    monkeypatch.setattr(retry, "TRANSFER", replace(retry.TRANSFER, first_s=0.001))
    dice = random.Random(seed)
    content = BLOB[: dice.randrange(1, 400_000)]
    known: dict[str, Any] = dice.choice([{"md5": hashlib.md5(content).hexdigest()}, {"size": len(content)}, {}])
    faults = Faults()
    files = faults.files = Moody(faults, {"/blob.bin": content}, dice)
    path = tmp_path / "blob.bin"
    with faulty(faults) as url:
        config = config_of(tmp_path, f"{url}/blob.bin", **known)
        for attempt in range(6):
            files.well = attempt == 5
            try:
                warned = fetch(config, Progress()).warnings
            except (StorageError, DataError):
                assert not path.exists()
                assert not files.well
                continue
            assert path.read_bytes() == content or warned
            assert not (known and warned)
            break
    assert left(tmp_path) == ["blob.bin"]


@dataclass
class Unpacked:
    """A config whose archives are unpacked below `root`, and what is right there."""

    config: Path
    root: Path
    files: dict[str, bytes]
    mirror: Path

    def now(self) -> dict[str, bytes]:
        return {p: d for p, d in contents(self.root).items() if not p.startswith(".")} if self.root.exists() else {}


@pytest.fixture
def unpacked(tmp_path: Path, town: Path) -> Unpacked:
    pack(town / "labels", tmp_path / "www/labels.zip", "coco/labels")
    pack(town / "images/train2017", tmp_path / "www/train2017.zip", "train2017")
    config = write_file(
        tmp_path / "c.yaml",
        yaml.safe_dump(
            {
                "source": {
                    "names": str(town / "coco.yaml"),
                    "root": str(tmp_path / "coco"),
                    "splits": {"train": "train2017"},
                },
                "target": {"root": str(tmp_path / "t")},
                "workdir": str(tmp_path / "w"),
                "fetch": {
                    "folder": str(tmp_path / "d"),
                    "mirror": str(tmp_path / "www"),
                    "archives": {
                        "labels.zip": {"url": "x", "task": "detect", "unpack": {"coco": ""}},
                        "train2017.zip": {"url": "x", "split": "train", "unpack": {"train2017": "images/train2017"}},
                    },
                },
            }
        ),
    )
    right = {p: d for p, d in contents(town).items() if p.startswith(("labels/", "images/train2017"))}
    return Unpacked(config, tmp_path / "coco", right, tmp_path / "www")


def _edit(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"0 0.5 0.5 0.1 0.1\n")


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    "change",
    [_edit, _zeros, _flip, _folder, _pipe, _dangling, _empty],
    ids=["edited", "zeros", "flipped", "folder", "pipe", "dangling", "emptied"],
)
@pytest.mark.parametrize("name", ["labels/train2017/b.txt", "images/train2017/a.jpg"])
def test_extract_writes_over_nothing_that_differs(
    unpacked: Unpacked, run: Run, name: str, change: Callable[[Path], object]
) -> None:
    run("fetch", unpacked.config, "--extract")
    assert unpacked.now() == unpacked.files
    gone = unpacked.root / "labels/train2017/sub/e.txt"
    gone.unlink()
    change(unpacked.root / name)
    before = snapshot(unpacked.root)
    told = run("fetch", unpacked.config, "--extract", code=1).err
    assert str(unpacked.root / name) in told
    assert "--overwrite" in told
    assert snapshot(unpacked.root) == before
    if change is _folder:
        return  # a folder is not replaced
    assert run("fetch", unpacked.config, "--extract", "--overwrite").err == ""
    assert unpacked.now() == unpacked.files
    assert not list(unpacked.root.glob(".unpacking*"))


def test_extract_adds_what_is_lacking_and_leaves_the_rest(unpacked: Unpacked, run: Run) -> None:
    own = write_file(unpacked.root / "labels/train2017/mine.txt", "0 0.5 0.5 0.1 0.1\n")
    same = write_file(unpacked.root / "labels/train2017/b.txt", unpacked.files["labels/train2017/b.txt"])
    before = same.stat()
    run("fetch", unpacked.config, "--extract")
    assert unpacked.now() == {**unpacked.files, "labels/train2017/mine.txt": own.read_bytes()}
    assert (same.stat().st_ino, same.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_extract_where_two_files_are_one_name(
    unpacked: Unpacked, run: Run, own_town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS, which no machine of the tests is: only what the folder says of itself is another."""
    write_file(own_town / "labels/train2017/B.txt", "0 0.5 0.5 0.1 0.1\n")
    pack(own_town / "labels", unpacked.mirror / "labels.zip", "coco/labels")
    monkeypatch.setattr("pipeline.storage.LocalFolder.traits", lambda *_: Traits(folds_case=True))
    told = run("fetch", unpacked.config, "--extract", code=1).err
    assert "'labels/train2017/B.txt' and 'labels/train2017/b.txt' are one name on the file system" in told
    assert not [path for path in unpacked.now() if path.startswith("labels/")]
    assert not list(unpacked.root.glob(".unpacking*"))


def test_extract_of_an_archive_of_something_else(unpacked: Unpacked, run: Run, tmp_path: Path) -> None:
    pack(write_file(tmp_path / "other/readme.txt", "x").parent, unpacked.mirror / "labels.zip", "other")
    told = run("fetch", unpacked.config, "--extract", code=1).err
    assert "labels.zip: has no file below 'coco'; correct `unpack` of labels.zip" in told
    assert unpacked.now() == {}


def test_what_has_gone_since_is_unpacked_again(unpacked: Unpacked, run: Run) -> None:
    run("fetch", unpacked.config, "--extract")
    shutil.rmtree(unpacked.root / "images/train2017")
    (unpacked.root / "images/train2017").mkdir()
    run("fetch", unpacked.config, "--extract")
    assert unpacked.now() == unpacked.files


def test_what_is_corrected_after_its_archive_was_deleted_stays(unpacked: Unpacked, run: Run) -> None:
    run("fetch", unpacked.config, "--extract", "--remove-archives")
    edited = write_file(unpacked.root / "labels/train2017/b.txt", "0 0.5 0.5 0.1 0.1\n")
    assert run("fetch", unpacked.config, "--extract", "--json").json["moved"] == 0
    assert unpacked.now() == {**unpacked.files, "labels/train2017/b.txt": edited.read_bytes()}


def test_many_that_differ_are_counted(unpacked: Unpacked, run: Run) -> None:
    for name in unpacked.files:
        write_file(unpacked.root / name, "other")
    told = run("fetch", unpacked.config, "--extract", code=1).err
    assert f"({len(unpacked.files)} files): not as in labels.zip, train2017.zip; nothing is unpacked" in told


def test_overwrite_checks_what_counts_as_unpacked(unpacked: Unpacked, run: Run) -> None:
    run("fetch", unpacked.config, "--extract")
    _zeros(unpacked.root / "images/train2017/a.jpg")
    run("fetch", unpacked.config, "--extract", "--overwrite")
    assert unpacked.now() == unpacked.files
    marker = unpacked.root / ".labels.zip.unpacked"
    marker.unlink()
    marker.mkdir()  # it says nothing
    run("fetch", unpacked.config, "--extract")
    assert marker.is_file()
    assert "--overwrite needs --extract" in run("fetch", unpacked.config, "--overwrite", code=2).err


@pytest.mark.slow
def test_a_killed_unpacking_leaves_nothing_among_the_files(unpacked: Unpacked, run: Run, tmp_path: Path) -> None:
    with zipfile.ZipFile(unpacked.mirror / "train2017.zip", "a") as archive:
        for i in range(3000):
            archive.writestr(f"train2017/more/{i}.jpg", RNG.randbytes(20_000))
    for wait in (0.0, 0.02, 0.05, 0.1):
        child = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "fetch", str(unpacked.config), "--extract"],
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        more = unpacked.root / "images/train2017/more"
        deadline = time.monotonic() + 60
        while not more.exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(wait)
        child.kill()
        child.wait()
        assert not [p for p in unpacked.now() if ".coco-diy" in p or p.endswith(".tmp")]
    run("fetch", unpacked.config, "--extract")
    assert len(unpacked.now()) == len(unpacked.files) + 3000
    assert not list(unpacked.root.glob(".unpacking*"))
