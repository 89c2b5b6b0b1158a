"""Any file of a source, a workdir or a target is spoiled, and any command run: a result or a sentence, no more.

What may not change is compared before and after, to the inode. `make torture` draws new ones for every kind of build,
COCO_DIY_EXAMPLES of them, from COCO_DIY_SEED; what it found once is tested beside what it found.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.support.fuzzing import WORLDS, World, bad_words, forget, guarded, spoil
from tests.support.helpers import repeated, slow

pytestmark = pytest.mark.xdist_group("hostile files")

EXIT_CODES = {0, 1, 2, 3, 4, 5, 75}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, World]:
    """Worlds by name, each made when it is first asked for."""
    folder = tmp_path_factory.mktemp("worlds")

    class Made(dict[str, World]):
        def __missing__(self, name: str) -> World:
            self[name] = World.made(name, folder / name)
            return self[name]

    return Made()


def attempt(world: World, seed: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spoil a file or two, and run a command or two, all drawn by `seed`."""
    rng = random.Random(seed)
    world.reset(rng.choice(("whole", "whole", "half")))
    files = world.files()
    own = [path for path in files if {".coco-diy", "work"} & set(path.parts)]
    chosen = {rng.choice(own if rng.random() < 0.7 else files) for _ in range(rng.choice((1, 1, 2)))}
    told = [spoil(world, path, rng) for path in sorted(chosen)]
    before = guarded(world)
    inside = world.here / "here/a/b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    for words in [world.drawn(rng) for _ in range(rng.choice((1, 2)))]:
        forget()
        result = run(*words, code=None)
        told.append(f"{' '.join(words)} -> {result.code}: {result.err[-500:]}")
        assert result.code in EXIT_CODES, told
        assert bad_words(result.out + result.err) is None, told
        assert result.code in (0, 3) or result.err or words[0] in ("verify", "status"), told
        if "--json" in words:
            assert isinstance(result.json, dict), told
        assert guarded(world) == before, told


@pytest.mark.repeated
@pytest.mark.parametrize("number", range(repeated(15)))
def test_a_result_or_a_sentence(
    number: int, worlds: dict[str, World], run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    attempt(worlds["folders"], str(number), run, monkeypatch)


#: World and seed of what was found once: parts of an index without a column, names twice in a zip.
FOUND = [
    ("zip source", "today-721"),
    ("zip target", "today-1792"),
    *slow(("zip source", "today-748"), ("zip source", "today-750")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed"), FOUND)
def test_what_was_found_once(
    name: str, seed: str, worlds: dict[str, World], run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    attempt(worlds[name], seed, run, monkeypatch)


@pytest.mark.torture
@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_a_result_or_a_sentence_for_long(
    name: str, worlds: dict[str, World], run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for number in range(int(os.environ.get("COCO_DIY_EXAMPLES", "30"))):
        attempt(worlds[name], f"{os.environ.get('COCO_DIY_SEED', '1')}-{number}", run, monkeypatch)
