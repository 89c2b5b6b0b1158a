"""Killed, failed or damaged anywhere, every kind of build ends in the bytes of one that nobody disturbed.

A kill is `SIGKILL` at a random call of the file system or at a random moment; a stop is Ctrl-C or SIGTERM at one; a
failure is an errno of a call; an outage is a store that hangs, or is gone, for a while; a damage is a bit, a cut, an
empty file, a deletion, a folder or another build's file in the place of any file that we keep. After each comes a plain
run. COCO_DIY_KILLS, _STOPS, _FAILURES, _OUTAGES and _DAMAGES say how many there are of each over all kinds,
COCO_DIY_SEED which; ``make torture`` runs many, and prints what came of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run
from tests.support import kinds
from tests.support.damages import HOWS, Damages
from tests.support.faults import run_under
from tests.support.ground import Ground, sound
from tests.support.helpers import settle
from tests.support.kinds import Kind
from tests.support.stops import Stops
from tests.support.torture import kill_at, start

pytestmark = [pytest.mark.torture, pytest.mark.slow]

SEED = int(os.environ.get("COCO_DIY_SEED", "1"))
MAKERS: dict[str, Callable[[Path, Path], Any]] = {
    "folders": kinds.folders,
    "zip target": kinds.zip_target,
    "zip source": kinds.zip_source,
    "S3": kinds.store,
    "SFTP": kinds.sftp,
    "web": kinds.web,
    "COCO JSON": kinds.coco_json,
    "labelme": kinds.labelme,
    "split": kinds.split,
    "shaped": kinds.shaped,
    "fetch": kinds.fetch,
    "repair": kinds.repair,
}
STORES = ["S3", "SFTP"]
NAMES = [*STORES, "web", *(name for name in MAKERS if name not in (*STORES, "web"))]
#: `make test` stops few kinds of build, `make torture` all.
STOPPED = NAMES if "COCO_DIY_STOPS" in os.environ else ["web", "folders", "fetch"]
ERRNOS = (errno.EIO, errno.ENOSPC, errno.EACCES, errno.ESTALE, errno.EBUSY, errno.EMFILE, errno.EROFS, errno.ENOENT)


def on(names: list[str]) -> pytest.MarkDecorator:
    """For each kind of build in `names`; one process makes what is expected of a kind, not each."""
    marks = {name: [pytest.mark.xdist_group(f"faults of {name}")] for name in names}
    for name in {*STORES, "web"}.intersection(names):
        marks[name].append(pytest.mark.servers)
    return pytest.mark.parametrize("ground", [pytest.param(n, marks=m) for n, m in marks.items()], indirect=True)


def share(variable: str) -> int:
    """How many of a fault each kind gets."""
    return -(-int(os.environ.get(variable, "1")) // len(MAKERS))


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with contextlib.ExitStack() as stack:
        yield {"folder": tmp_path_factory.mktemp("faults"), "stack": stack, "made": {}}


@pytest.fixture
def ground(request: pytest.FixtureRequest, grounds: dict[str, Any], crowd: Path, run: Run) -> Iterator[Ground]:
    name = request.param
    folder: Path = grounds["folder"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COCO_DIY_LOCAL", str(folder / f"{name}-{name.lower()}/options"))
        patch.setenv("COCO_DIY_STATE", str(state := folder / f"{name}-state"))
        if name not in grounds["made"]:
            made = MAKERS[name](folder / name, crowd)
            kind = made if isinstance(made, Kind) else grounds["stack"].enter_context(made)
            settle()  # younger files would be read again, whatever happens
            grounds["made"][name] = Ground(kind, state, run)
        found: Ground = grounds["made"][name]
        found._run = run
        yield found


def tell(fault: str, survived: list[str]) -> None:
    """What was done, in one go: the runs of the command read what was printed before."""
    print("".join(f"\nseed {SEED}, {fault}: {told}: survived" for told in survived))


@on(NAMES)
def test_killed(ground: Ground) -> None:
    survived: list[str] = []
    for number in range(share("COCO_DIY_KILLS")):
        rng = random.Random(f"{SEED}-kill-{ground.kind.name}-{number}")
        words, expected, told = ground.begin(rng)
        if rng.random() < 0.7:
            call = ground.calls(words, rng)
            told += f", killed at call {call}"
            run_under(ground.places, "kill", call, [*words, "-q"])
        else:
            seconds = rng.uniform(0.2, 3)
            until = time.monotonic() + seconds
            told += f", killed after {seconds:.3f} s"
            kill_at(start(words), lambda until=until: time.monotonic() >= until, 0)  # type: ignore[misc]
        ground.check(words, expected, told)
        survived.append(told)
    tell("killed", survived)


@on(STOPPED)
def test_stopped(ground: Ground) -> None:
    """By a terminal or a scheduler, also while a server or store answers nobody: soon, and nothing of it stays."""
    stops, told = Stops(ground), list[str]()
    for number in range(share("COCO_DIY_STOPS")):
        told.append(stops.do_one(random.Random(f"{SEED}-stop-{ground.kind.name}-{number}")))
    tell("stopped", told)


@on(STORES)
def test_a_store_that_is_away(ground: Ground) -> None:
    """For two seconds or a minute at any moment: the run goes on or says to try again, and the next ends right."""
    told = list[str]()
    for number in range(-(-int(os.environ.get("COCO_DIY_OUTAGES", "1")) // len(STORES))):
        rng = random.Random(f"{SEED}-outage-{ground.kind.name}-{number}")
        told.append(Stops(ground).do_outage(rng, 60 if number % 4 == 3 else 2))
    tell("away", told)


@on(NAMES)
def test_failed(ground: Ground) -> None:
    """One call fails: the run says so or does without, and the next one ends right."""
    survived: list[str] = []
    for number in range(share("COCO_DIY_FAILURES")):
        rng = random.Random(f"{SEED}-errno-{ground.kind.name}-{number}")
        words, expected, told = ground.begin(rng)
        call, code = ground.calls(words, rng), rng.choice(ERRNOS)
        told += f", call {call} failed with {errno.errorcode[code]}"
        result = run_under(ground.places, str(code), call, words)
        sound(result, told)
        ground.kind.refresh()
        if result.code == 0:
            assert ground.kind.result() == expected, told
        ground.check(words, expected, told)
        survived.append(told)
    tell("failed", survived)


@on(NAMES)
def test_damaged(ground: Ground) -> None:
    """What is damaged of all that we keep is made anew, or named with what mends it, whatever the next command is."""
    damages, survived, failed = Damages(ground), list[str](), list[str]()
    for number in range(share("COCO_DIY_DAMAGES")):
        rng = random.Random(f"{SEED}-damage-{ground.kind.name}-{number}")
        try:
            survived.append(damages.do_one(rng, HOWS[number % len(HOWS)]))
        except AssertionError as error:
            failed.append(str(error))
    tell("damaged", survived)
    assert not failed, "\n".join(failed)
