"""Runs that are killed at random moments, and what must hold however they end. No test stands here.

Moments are drawn by what is on the disk, not by the clock alone: most of a small run's time is imports. So a run is
killed when it has made its n-th file, has just made or removed a file that marks a stage, or after some time.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.support.helpers import PROJECT, contents, snapshot

#: What marks a stage, below the folder that holds target and workdir: (path, whether it appears or goes).
MARKS = [
    ("work/index", True),
    ("work/plans", True),
    ("out/.coco-diy/lock", True),
    ("out/.coco-diy/intent", True),
    ("out/.coco-diy/intent.json", True),
    ("out/.coco-diy/intent.json", False),
    ("out/labels/train", True),
    ("out/labels/val", True),
    ("out/images/train", True),
    ("out/data.yaml", False),
    ("out/data.yaml", True),
    ("out/DATASET.md", True),
    ("out/.coco-diy/manifest.json", True),
    ("out/.coco-diy/new", True),
    ("out/.coco-diy/new", False),
    ("out/.coco-diy/tmp", True),
]


@dataclass
class Case:
    """One command to be killed: what it starts from, its words, and what it must end in."""

    name: str
    start: Path | None
    words: list[str]
    expected: dict[str, bytes]


def command(config: Path, folder: Path, *words: str) -> list[str]:
    """The words of a build with target and workdir below `folder`."""
    return ["build", str(config), "--set", f"target.root={folder}/out", "--set", f"workdir={folder}/work", *words]


def start(words: list[str]) -> subprocess.Popen[bytes]:
    """The command in a session of its own, so that it and its helpers can be killed at once."""
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *words],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def files_below(folder: Path) -> int:
    """How many files there are, while some come and go."""
    return sum(len(names) for _, _, names in os.walk(folder))


def moment(rng: random.Random, folder: Path, files: int, seconds: float) -> tuple[str, Callable[[], bool]]:
    """A random moment of a run in `folder`: its name, and whether it has come."""
    kind = rng.choice(("files", "files", "files", "mark", "mark", "time"))
    if kind == "files":
        count = files_below(folder) + rng.randint(1, max(files, 1))
        return f"{count} files", lambda: files_below(folder) >= count
    if kind == "time":
        until = time.monotonic() + rng.uniform(0.2, 1) * seconds
        return "time", lambda: time.monotonic() >= until
    path, appears = rng.choice(MARKS)
    seen = [(folder / path).exists()]

    def come() -> bool:
        before, seen[0] = seen[0], os.path.exists(folder / path)
        return seen[0] != before and seen[0] == appears

    return f"{path} {'appears' if appears else 'goes'}", come


def kill_at(process: subprocess.Popen[bytes], come: Callable[[], bool], later: float) -> bool:
    """Kill `process` and its helpers `later` seconds after the moment has `come`; False where it ended before."""
    while process.poll() is None and not come():
        time.sleep(0.0002)
    time.sleep(later)
    alive = process.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return alive


def place_of(folder: Path, path: str) -> Path:
    """Where the file `path` of the target is now: in place, or in a folder that is not yet."""
    staged = folder / "out/.coco-diy/new" / path
    return staged if staged.exists() else folder / "out" / path


def _facts(path: Path) -> tuple[int, int, int]:
    s = os.lstat(path)
    return s.st_ino, s.st_mtime_ns, s.st_size


def finished(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Files of buckets that a killed run had finished, with what tells whether they were made anew."""
    found: dict[str, tuple[int, int, int]] = {}
    state = folder / "out/.coco-diy"
    if not (state / "intent.json").exists():
        return found
    for done in state.glob("intent/*/done-*"):
        part = done.name.rpartition("-")[2]
        if part == "none":
            continue
        rows = pq.read_table(state / f"manifest/{part}.parquet", columns=["path"])
        for path in rows["path"].to_pylist():
            found[path] = _facts(place_of(folder, path))
    return found


def indexed(folder: Path, start: dict[Path, tuple[int, int, int]]) -> dict[Path, tuple[int, int, int]]:
    """Parts of the index that are not those of the `start`: a bucket is finished with its state."""
    parts: dict[Path, tuple[int, int, int]] = {}
    for state in folder.glob("work/index/*/states/bucket-*.json"):
        if start.get(state) == _facts(state):
            continue
        parts[state] = _facts(state)
        for table in ("files", "images", "annotations", "problems"):
            part = state.parents[1] / table / f"{state.stem}.parquet"
            parts[part] = _facts(part)
    return parts


def torture(
    case: Case, folder: Path, source: Path, rng: random.Random, files: int, seconds: float, run: Callable[..., Any]
) -> str:
    """Kill `case` once or twice, run it again, and look at everything; returns what was done to it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if case.start is not None:
        shutil.copytree(case.start, folder, dirs_exist_ok=True, symlinks=True)
    before, start_parts = snapshot(source, links=True), indexed(folder, {})
    told = []
    for _ in range(rng.choice((1, 1, 2))):
        name, come = moment(rng, folder, files, seconds)
        process = start(case.words)
        killed = kill_at(process, come, rng.choice((0, 0, rng.uniform(0, 0.05))))
        told.append(f"{name}{'' if killed else ' (it had ended)'}")
    where = f"{case.name}, killed at {' and '.join(told)}"
    assert snapshot(source, links=True) == before, where
    done, parts = finished(folder), indexed(folder, start_parts)
    run(*case.words)
    assert contents(folder / "out", record=True) == case.expected, where
    again = {path for path, facts in done.items() if path in case.expected and _facts(folder / "out" / path) != facts}
    assert not again, f"{where}: finished files were made again: {sorted(again)[:5]}"
    assert {p for p, facts in parts.items() if _facts(p) != facts} == set(), f"{where}: parts of the index"
    assert run("verify", f"{folder}/out", "--deep", "--json").json["differences"] == {}, where
    left = {p.relative_to(folder / "out").parts[1] for p in (folder / "out/.coco-diy").rglob("*") if p.is_file()}
    assert left <= {"manifest.json", "manifest", "copy", "runs", "lock"}, (where, left)
    assert snapshot(source, links=True) == before, where
    assert run(*case.words, "--json").json["status"] == "nothing to do", where
    return where
