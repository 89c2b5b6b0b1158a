"""Killed, failed or damaged anywhere, every kind of build ends in the bytes of one that nobody disturbed.

A kill is `SIGKILL` at a random call of the file system or at a random moment; a failure is an errno of such a call; a
damage is a bit, a cut, a deletion or a folder in the place of a file, in the workdir. After each comes a plain run.
COCO_DIY_KILLS, COCO_DIY_FAILURES and COCO_DIY_DAMAGES say how many there are of each over all kinds, COCO_DIY_SEED
which; ``make torture`` runs many, and prints what came of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage.archives import table
from tests.conftest import Run
from tests.support import kinds
from tests.support.faults import Damage, copy_tree, run_under
from tests.support.helpers import Result, settle
from tests.support.kinds import Kind, spoil
from tests.support.torture import kill_at, start

pytestmark = [pytest.mark.torture, pytest.mark.slow]

SEED = int(os.environ.get("COCO_DIY_SEED", "1"))
MAKERS: dict[str, Callable[[Path, Path], Any]] = {
    "folders": kinds.folders,
    "zip target": kinds.zip_target,
    "zip source": kinds.zip_source,
    "S3": kinds.store,
    "COCO JSON": kinds.coco_json,
    "labelme": kinds.labelme,
    "split": kinds.split,
    "fetch": kinds.fetch,
    "repair": kinds.repair,
}
NAMES = [pytest.param(name, marks=pytest.mark.servers) if name == "S3" else name for name in MAKERS]
ERRNOS = (errno.EIO, errno.ENOSPC, errno.EACCES, errno.ESTALE, errno.EBUSY, errno.EMFILE, errno.EROFS, errno.ENOENT)


def share(variable: str) -> int:
    """How many of a fault each kind gets."""
    return -(-int(os.environ.get(variable, "1")) // len(MAKERS))


class Ground:
    """A kind of build, made once without a disturbance, and put back as it was before each fault."""

    def __init__(self, kind: Kind, run: Run) -> None:
        self.kind, self._run = kind, run
        self._calls: dict[tuple[str, ...], int] = {}
        if kind.first is not None:
            self.run(kind.command(words=kind.first))
        else:
            self.run(kind.command())
        self.expected = kind.result()
        assert self.expected
        self.places = [kind.target, kind.work]
        self.saved = kind.folder.parent / f"{kind.folder.name}-saved"
        for number, place in enumerate(self.places):
            if place.exists():
                copy_tree(place, self.saved / str(number))
        self.swapped = self.expected
        if kind.swapped:
            self.run(kind.command(*kind.swapped))
            self.swapped = kind.result()
            assert self.swapped != self.expected

    def run(self, words: list[str], code: int | None = 0) -> Result:
        """A plain run; what this process remembers of archives is not to help it."""
        table._TABLES.clear()
        return self._run(*words, code=code)

    def reset(self, *, built: bool) -> None:
        """Target and workdir as they were after the first build, or gone."""
        for number, place in enumerate(self.places):
            shutil.rmtree(place, ignore_errors=True)
            if built and (self.saved / str(number)).exists():
                copy_tree(self.saved / str(number), place)
        if built:
            spoil(self.kind)
        self.kind.refresh()

    def begin(self, rng: random.Random) -> tuple[list[str], dict[str, bytes], str]:
        """Words of a run to be disturbed and what it must end in: a first one, one again, or one of other classes."""
        how = "repair" if self.kind.first else rng.choice(("first", "swapped" if self.kind.swapped else "again"))
        self.reset(built=how != "first")
        words = self.kind.command(*(self.kind.swapped if how == "swapped" else ()))
        return words, self.swapped if how == "swapped" else self.expected, f"{self.kind.name}, {how}"

    def calls(self, words: list[str], rng: random.Random, told: str) -> int:
        """One of the file calls of the run, which was begun."""
        key = (told, *words)
        if key not in self._calls:
            found = run_under(self.places, "count", 0, [*words, "-q"])
            assert found.code == 0, found.err
            self._calls[key] = int(found.out.split()[-1])
            self.reset(built=not told.endswith("first"))
        return rng.randint(1, max(self._calls[key], 1))

    def check(self, words: list[str], expected: dict[str, bytes], told: str) -> None:
        """A plain run ends as if nothing had happened, and what vouches for it says so."""
        self.kind.refresh()
        result = self.run(words, code=None)
        assert result.code == 0, (told, result)
        assert self.kind.result() == expected, told
        if self.kind.name != "fetch":
            found = self.run(["verify", words[1], "--deep", "--json"])
            assert found.json["differences"] == {}, told


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with contextlib.ExitStack() as stack:
        yield {"folder": tmp_path_factory.mktemp("faults"), "stack": stack, "made": {}}


@pytest.fixture
def ground(request: pytest.FixtureRequest, grounds: dict[str, Any], crowd: Path, run: Run) -> Iterator[Ground]:
    name = request.param
    folder: Path = grounds["folder"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COCO_DIY_LOCAL", str(folder / f"{name}-s3/options"))
        if name not in grounds["made"]:
            made = MAKERS[name](folder / name, crowd)
            kind = made if isinstance(made, Kind) else grounds["stack"].enter_context(made)
            settle()  # younger files would be read again, whatever happens
            grounds["made"][name] = Ground(kind, run)
        found: Ground = grounds["made"][name]
        found._run = run
        yield found


def tell(fault: str, survived: list[str]) -> None:
    """What was done, in one go: the runs of the command read what was printed before."""
    print("".join(f"\nseed {SEED}, {fault}: {told}: survived" for told in survived))


def sound(result: Result, told: str) -> None:
    """However a run ended, it said so in a sentence."""
    assert "Traceback" not in result.err, (told, result.err)
    assert "coco-diy's own" not in result.err, (told, result.err)


@pytest.mark.parametrize("ground", NAMES, indirect=True)
def test_killed(ground: Ground) -> None:
    survived: list[str] = []
    for number in range(share("COCO_DIY_KILLS")):
        rng = random.Random(f"{SEED}-kill-{ground.kind.name}-{number}")
        words, expected, told = ground.begin(rng)
        if rng.random() < 0.7:
            call = ground.calls(words, rng, told)
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


@pytest.mark.parametrize("ground", NAMES, indirect=True)
def test_failed(ground: Ground) -> None:
    """One call fails: the run says so or does without, and the next one ends right."""
    survived: list[str] = []
    for number in range(share("COCO_DIY_FAILURES")):
        rng = random.Random(f"{SEED}-errno-{ground.kind.name}-{number}")
        words, expected, told = ground.begin(rng)
        call, code = ground.calls(words, rng, told), rng.choice(ERRNOS)
        told += f", call {call} failed with {errno.errorcode[code]}"
        result = run_under(ground.places, str(code), call, words)
        sound(result, told)
        ground.kind.refresh()
        if result.code == 0:
            assert ground.kind.result() == expected, told
        ground.check(words, expected, told)
        survived.append(told)
    tell("failed", survived)


def kept(ground: Ground, place: str) -> list[Path]:
    """Files that we keep in the workdir or at the target, but locks and the record of runs."""
    top = ground.kind.work if place == "workdir" else ground.kind.target / ".coco-diy"
    files = [p for p in sorted(top.rglob("*")) if p.is_file() and "runs" not in p.parts]
    return [p for p in files if p.name != "lock" and p.suffix != ".lock"]


@pytest.mark.parametrize("ground", NAMES, indirect=True)
def test_damaged(ground: Ground) -> None:
    """What is damaged in the workdir is made anew, whatever the next run needs of it."""
    survived: list[str] = []
    for number in range(share("COCO_DIY_DAMAGES")):
        rng = random.Random(f"{SEED}-damage-{ground.kind.name}-{number}")
        ground.reset(built=True)
        if not (files := kept(ground, "workdir")):
            continue  # an archive that was fetched leaves nothing there
        damage = Damage.drawn(rng, files)
        damage.do(rng)
        how = rng.choice(("again", "target gone", "swapped")) if ground.kind.swapped else "again"
        if how == "target gone":
            shutil.rmtree(ground.kind.target)
        told = f"{ground.kind.name}: {damage.path.relative_to(ground.kind.work)}: {damage.how}, then {how}"
        words = ground.kind.command(*(ground.kind.swapped if how == "swapped" else ()))
        ground.check(words, ground.swapped if how == "swapped" else ground.expected, told)
        survived.append(told)
    tell("damaged", survived)
