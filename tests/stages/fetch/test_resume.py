"""Downloads that are stopped at any byte, by whatever: the next run fetches what is lacking, and no other file."""

from __future__ import annotations

import email.utils
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from pipeline import storage
from pipeline.base.errors import Interrupted, StorageError
from pipeline.runtime.progress import Progress
from pipeline.stages.fetch import partial
from pipeline.stages.fetch.archives import fetch
from pipeline.stages.fetch.download import Download, Wanted
from pipeline.stages.fetch.partial import PartFile, State
from pipeline.storage import Limits
from pipeline.storage.retry import TRANSFER, retry_after
from pipeline.storage.web.pace import Pace
from tests.stages.fetch.test_fetch import BLOB, MD5, config_of
from tests.support import stores
from tests.support.helpers import PROJECT, write_file
from tests.support.web import Faults, Nginx, faulty, nginx_in

KILLS = int(os.environ.get("COCO_DIY_KILLS", "3"))
SEED = int(os.environ.get("COCO_DIY_SEED", "1"))


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with nginx_in(tmp_path_factory.mktemp("nginx")) as server:
        write_file(server.www / "blob.bin", BLOB)
        yield server


@pytest.fixture(params=["server", "folder", "memory", "s3"])
def origin(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of the blob at each kind of origin."""
    if request.param == "server":
        yield f"{request.getfixturevalue('nginx').url}/blob.bin"
    elif request.param == "folder":
        yield str(write_file(tmp_path / "share/blob.bin", BLOB))
    elif request.param == "memory":
        storage.locate_writable("memory://company/share").write("blob.bin", BLOB)
        yield "memory://company/share/blob.bin"
    else:
        with stores.running(stores.s3(tmp_path / "s3")) as server:
            monkeypatch.setenv("COCO_DIY_LOCAL", str(tmp_path / "options"))
            write_file(tmp_path / "options/s3.yaml", yaml.safe_dump({"s3": server.options}))
            write_file(tmp_path / "s3/data/bucket/share/blob.bin", BLOB)
            yield "s3://bucket/share/blob.bin"


def bring(url: str, path: Path, count: Callable[[int], None] = lambda _: None) -> int:
    """Fetch the blob; `count` is told the bytes as they come. Returns those that moved."""
    one = Download(Wanted(url, str(path), len(BLOB), md5=MD5), Limits())
    one.run(lambda size, here: count)
    return one.moved


@pytest.mark.slow
def test_stopped_at_any_byte(tmp_path: Path, origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kill leaves is what lies on the disk at that moment: it is put aside at some moments, and gone on with."""
    monkeypatch.setattr(partial, "_OFTEN_S", 0)
    monkeypatch.setattr(partial, "_SHARE", 0)
    rng = random.Random(3)
    moments = sorted(rng.sample(range(len(BLOB)), 3))
    came, aside = 0, list[Path]()

    def count(size: int) -> None:
        nonlocal came
        came += size
        if len(aside) < len(moments) and came > moments[len(aside)]:
            aside.append(tmp_path / f"aside-{len(aside)}")
            shutil.copytree(tmp_path / "here", aside[-1])
            if len(aside) == len(moments):
                raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        bring(origin, tmp_path / "here/blob.bin", count)
    for folder in [*aside, tmp_path / "here"]:
        notes = folder / "blob.bin.part.json"
        here = sum(at - start for start, at, _ in json.loads(notes.read_text())["ranges"]) if notes.exists() else 0
        assert here < len(BLOB)
        assert bring(origin, folder / "blob.bin") == len(BLOB) - here
        assert (folder / "blob.bin").read_bytes() == BLOB
        assert {p.name for p in folder.iterdir()} <= {"blob.bin", "blob.bin.part.lock"}
    assert here > moments[0]  # what was stopped by a signal wrote down all that it had


@pytest.mark.racing
def test_killed_at_random_moments(tmp_path: Path, nginx: Nginx) -> None:
    config = tmp_path / "c.yaml"
    data = config_of(tmp_path, f"{nginx.url}/blob.bin", md5=MD5, fetching={"bytes_per_second": 20_000_000})
    config.write_text(yaml.safe_dump(data.model_dump(mode="json")))
    command = [sys.executable, "-m", "pipeline", "fetch", "-q", str(config)]
    rng = random.Random(SEED)
    for _ in range(KILLS):
        child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(PROJECT)})
        part, size = tmp_path / "blob.bin.part", rng.randrange(len(BLOB))
        while child.poll() is None and not (part.exists() and part.stat().st_blocks * 512 > size):
            time.sleep(0.002)
        child.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM]))
        child.wait()
        if (tmp_path / "blob.bin").exists():
            (tmp_path / "blob.bin").unlink()
    assert fetch(data, Progress()).data["moved"] <= len(BLOB)
    assert (tmp_path / "blob.bin").read_bytes() == BLOB


@pytest.mark.parametrize("sized", [True, False])
def test_without_ranges_a_stopped_fetch_begins_anew(tmp_path: Path, sized: bool) -> None:
    faults = Faults({"/blob.bin": BLOB}, ranges=False, sized=sized)
    with faulty(faults) as url:
        one = Download(Wanted(f"{url}/blob.bin", str(tmp_path / "blob.bin")), Limits())

        came = 0

        def stop(size: int) -> None:
            nonlocal came
            came += size
            if came > 5_000_000:
                raise Interrupted("stopped")

        with pytest.raises(Interrupted):
            one.run(lambda size, here: stop)
        one.run(lambda size, here: lambda _: None)
    assert (tmp_path / "blob.bin").read_bytes() == BLOB


@pytest.mark.slow
def test_a_connection_that_always_breaks_without_ranges(tmp_path: Path) -> None:
    faults = Faults({"/blob.bin": BLOB}, ranges=False, cut=5_000_000, times=99)
    with faulty(faults) as url, pytest.raises(StorageError, match=r"/blob.bin: the connection broke, .*no Range"):
        bring(f"{url}/blob.bin", tmp_path / "blob.bin")
    assert len(faults.asked) < 9


@pytest.mark.slow
def test_connections_that_are_reset(tmp_path: Path) -> None:
    faults = Faults({"/blob.bin": BLOB}, cut=1_000_000, times=3, reset=True)
    with faulty(faults) as url:
        assert bring(f"{url}/blob.bin", tmp_path / "blob.bin") == len(BLOB)
    assert faults.times == 0


def test_a_change_is_told_by_the_date_where_there_is_no_etag(tmp_path: Path) -> None:
    old, new = (email.utils.formatdate(at, usegmt=True) for at in (1_500_000_000, 1_600_000_000))
    faults = Faults({"/blob.bin": BLOB[::-1]}, etag="", modified=old)
    with faulty(faults) as url:

        def change(_: int) -> None:
            faults.files, faults.modified = {"/blob.bin": BLOB}, new

        assert bring(f"{url}/blob.bin", tmp_path / "blob.bin", change) > len(BLOB)
    assert (tmp_path / "blob.bin").read_bytes() == BLOB


def test_what_another_run_brought_meanwhile_is_not_fetched(tmp_path: Path) -> None:
    with faulty(Faults({"/blob.bin": BLOB})) as url:
        write_file(tmp_path / "blob.bin", BLOB)
        assert bring(f"{url}/blob.bin", tmp_path / "blob.bin") == 0


# How long is waited


def test_the_wait_that_a_server_asks_for() -> None:
    assert retry_after("120") == 120
    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert 55 < (retry_after(in_a_minute) or 0) <= 60
    assert (retry_after("Wed, 21 Oct 2015 07:28:00 GMT") or 0) < 0
    for nothing in (None, "", "soon", "²", "-5", "Wed, 99 Oct 2015"):
        assert retry_after(nothing) is None


@pytest.mark.slow
def test_a_date_to_wait_for_holds_for_all(tmp_path: Path) -> None:
    until = int(time.time()) + 2
    answers: list[tuple[int, dict[str, str]]] = [(503, {"Retry-After": email.utils.formatdate(until, usegmt=True)})]
    faults = Faults({f"/i/{i}.jpg": b"x" for i in range(30)}, answers=answers)
    with faulty(faults) as url:
        begun = time.time() - time.monotonic()
        place = storage.locate(f"{url}/i", str(tmp_path))
        assert place.gather([f"{i}.jpg" for i in range(30)], Limits(connections=2), lambda _: None) == {}
    assert len(faults.asked) == 31
    assert sum(begun + at < until for at in faults.at) < 9  # before the answer was here


def test_waits_grow_and_differ() -> None:
    pace = Pace(None)
    waits = [[pace.back_off(100.0, TRANSFER, attempts, None) - 100 for _ in range(20)] for attempts in range(1, 12)]
    assert all(len(set(some)) > 10 for some in waits)
    means = [sum(some) / len(some) for some in waits]
    assert means[4] > 4 * means[1] > 4 * means[0]
    assert max(map(max, waits)) <= 90
    assert pace.wait(100.0) == 0  # one that waits for itself keeps no other
    pace.back_off(100.0, TRANSFER, 1, "7")
    assert 7 <= pace.wait(100.0) <= 7.7


def test_a_busy_server_is_asked_less_often_and_then_more_often() -> None:
    def gap(pace: Pace) -> float:
        pace.began(1000.0)
        return pace.wait(1000.0)

    pace = Pace(None)
    assert gap(pace) == 0
    for now in range(1, 9):
        pace.busy(now, now - 0.5)
        pace.busy(now, now - 0.6)
    assert 0.01 < gap(pace) < 0.05
    for _ in range(1000):
        pace.answered()
    fast = Pace(None)
    fast.busy(1, 0.5)
    for _ in range(1000):
        fast.answered()
    assert gap(fast) == 0
    limited = Pace(10)
    limited.busy(1, 0.5)
    for _ in range(1000):
        limited.answered()
    assert gap(limited) == pytest.approx(0.1)


@pytest.mark.parametrize(("takes", "until"), [(0.0, 0.1), (0.01, 0.1), (0.1, 0.5), (3.0, 1.0)])
def test_progress_is_noted_the_less_often_the_longer_it_takes(
    takes: float, until: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, notes = 100.0, list[int]()

    def note(_part: PartFile, _fd: int, state: State) -> None:
        nonlocal now
        notes.append(state.here)
        now += takes

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(PartFile, "note", note)
    part, state = PartFile(str(tmp_path / "x")), State("", 1000, ranges=[[0, 10, 1000]])
    fd = part.open()

    def pass_by(seconds: float, come: int) -> list[int]:
        nonlocal now
        now += seconds
        state.ranges[0][1] += come
        notes.clear()
        part.note_at_times(fd, state)
        return [*notes]

    assert pass_by(0.09, 1) == []
    assert pass_by(0.02, 1) == [12]
    assert pass_by(until - 0.01, 1) == []
    assert pass_by(0.02, 1) == [14]
    assert pass_by(5, 0) == []  # nothing came: nothing is noted
    assert pass_by(0, 1) == [15]
    os.close(fd)
