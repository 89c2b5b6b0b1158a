"""Records that are whole, but not ours: each value in turn is one of another kind, and every command says a sentence.

The files of a target come with a folder that somebody downloaded. Those of a workdir are sealed as well, so that only a
program changes one of them; they are checked when they are read all the same.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.digest import seal, unseal
from pipeline.target import provenance
from tests.conftest import Run
from tests.support import kinds
from tests.support.kinds import Kind

#: What stands in the place of a value.
OTHERS: tuple[Any, ...] = (None, True, -1, 1.5, "x", "../x", [], [1], [["x"]], {}, {"a": 1})
#: Of lists and of mappings from names to equals, so many entries are tried.
FEW = 3
#: So many of them are passed over at a time; `COCO_DIY_STEP=1` tries all.
STEP = int(os.environ.get("COCO_DIY_STEP", "7"))
#: Commands by what they read; TARGET@RUN is the state that the record speaks of.
OF_TARGET = (
    "status TARGET",
    "status TARGET --json",
    "diff TARGET@RUN TARGET",
    "diff TARGET TARGET@RUN",
    "stats TARGET",
    "verify TARGET",
    "verify CONFIG --repair",
    "plan CONFIG",
    "build CONFIG",
    "show TARGET -n 1 -o SHEET",
)
CHANGING = ("build", "index", "plan", "verify")
OF_WORKDIR = ("status CONFIG", "stats CONFIG", "plan CONFIG", "build CONFIG", "index CONFIG")


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in plain data, of some entries where there are many."""
    if at:
        yield at
    if isinstance(value, dict):
        for key in list(value)[: FEW if len(value) > 4 * FEW else None]:
            yield from _places(value[key], (*at, key))
    elif isinstance(value, list):
        for number in range(min(len(value), FEW)):
            yield from _places(value[number], (*at, number))


def _altered(content: dict[str, Any], at: tuple[Any, ...], value: Any) -> bytes:
    """The record with another value `at` a path, sealed."""
    made = inner = copy.deepcopy(content)
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return seal(made)


def _records(kind: Kind) -> dict[str, Path]:
    """Every kind of record that a build leaves, by name."""
    state = kind.target / ".coco-diy"
    return {
        "manifest": state / "manifest.json",
        "run": next(state.glob("runs/*.json")),
        "index": next(kind.work.glob("index/*/index.json")),
        "bucket": next(kind.work.glob("index/*/states/*.json")),
        "begun": next(kind.work.glob("runs/*/*.begun")),
    }


def _built(kind: Kind, run: Run) -> str:
    """Build it, and leave the trace of a run that was killed; returns the name of the run."""
    name: str = run(*kind.command("--json")).json["run"]["id"]
    begun = {"id": "20261128T000000000Z-1", "start": "2026-11-28T00:00:00.000Z", "by": {"process": 1, "host": "other"}}
    (next(kind.work.glob("runs/*")) / f"{begun['id']}.begun").write_bytes(seal(begun))
    return name


@pytest.mark.slow
@pytest.mark.parametrize("made", [kinds.folders, kinds.coco_json], ids=["folders", "JSON"])
@pytest.mark.parametrize("which", ["manifest", "run", "index", "bucket", "begun"])
def test_a_record_that_is_not_ours(
    crowd: Path, run: Run, tmp_path: Path, which: str, made: Callable[[Path, Path], Kind]
) -> None:
    kind = made(tmp_path / "now", crowd)
    name = _built(kind, run)
    path = _records(kind)[which]
    content = unseal(path.read_bytes())
    assert content is not None
    shutil.copytree(tmp_path / "now", tmp_path / "whole", symlinks=True)
    words = {
        "TARGET": str(kind.target),
        "CONFIG": kind.command()[1],
        "TARGET@RUN": f"{kind.target}@{name}",
        "SHEET": str(tmp_path / "sheet.jpg"),
    }
    commands = OF_TARGET if which in ("manifest", "run") else OF_WORKDIR
    cases = [(at, value) for at in _places(content) for value in OTHERS][::STEP]
    assert len(cases) > 5
    for number, (at, value) in enumerate(cases):
        altered = _altered(content, at, value)
        for there in (path, path.parent / "copy" / path.name):
            if there.exists():
                there.write_bytes(altered)
        if number % 2:
            provenance.remember(altered)
        command = commands[number % len(commands)]
        done = run(*(words.get(word, word) for word in command.split()), code=None)
        assert "internal error" not in done.out + done.err, (command, at, value)
        assert "Traceback" not in done.err, (command, at, value)
        assert done.code in (0, 1, 2, 3, 4), (command, at, value, done.err)
        if command.split()[0] in CHANGING:
            shutil.rmtree(tmp_path / "now")
            shutil.copytree(tmp_path / "whole", tmp_path / "now", symlinks=True)
