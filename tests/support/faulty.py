"""Commands in processes of their own that are killed at any call, or whose calls are logged. No test stands here.

`tests/support/shim.c` is preloaded into one process, which imports the package once and forks a child for each
command: so a command costs a tenth of a second, and every call of it can be the last.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.helpers import PROJECT

_CONTROL = struct.Struct("qqq256s1024s1024s")
_SHIM = Path(__file__).parent / "shim.c"
#: Reads a line of words, runs them in a child, and answers with its exit code (of a signal: negative).
_ZYGOTE = """
import json, os, sys
import dask.dataframe, pyarrow.parquet
from pipeline.cli import run_cli
for line in sys.stdin:
    child = os.fork()
    if not child:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        os._exit(run_cli(json.loads(line)))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Call:
    """One call: what it did (a letter, see `shim.c`), to which path, and of a rename from where."""

    what: str
    path: str
    source: str = ""


class Faulty:
    """Runs commands below `folder`, under the shim."""

    def __init__(self, folder: Path, shim: Path) -> None:
        self._control, self._log = folder / "control", folder / "log"
        self._set(b"")
        env = {**os.environ, "PYTHONPATH": str(PROJECT), "LD_PRELOAD": str(shim), "COCO_DIY_SHIM": str(self._control)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ZYGOTE], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _set(self, prefix: bytes, kill_at: int = 0, undeletable: tuple[str, int] = ("", 0)) -> None:
        name, number = undeletable
        data = _CONTROL.pack(0, kill_at, number, name.encode(), prefix, str(self._log).encode())
        with open(self._control, "r+b" if self._control.exists() else "wb") as file:
            file.write(data)

    def run(
        self, words: Sequence[str | Path], below: Path, kill_at: int = 0, undeletable: tuple[str, int] = ("", 0)
    ) -> tuple[int, list[Call]]:
        """Exit code and calls below a folder of a command, which is killed at the call of number `kill_at`.

        Deleting files of the name `undeletable` fails with that errno.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._log.write_bytes(b"")
        self._set(str(below).encode(), kill_at, undeletable)
        words = [*map(str, words), *(["--scheduler", "sync"] if words[0] == "build" else [])]
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        self._set(b"")
        lines = [line.split("\t") for line in self._log.read_text().splitlines()]
        return code, [Call(line[0], line[-1], line[1] if len(line) == 3 else "") for line in lines]

    def end(self) -> None:
        """End the process."""
        self._process.communicate()


@contextlib.contextmanager
def faulty_in(folder: Path) -> Iterator[Faulty]:
    """A `Faulty`; skips where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler, and Linux")
    shim = folder / "shim.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(shim), str(_SHIM), "-ldl"], check=True)
    faulty = Faulty(folder, shim)
    try:
        yield faulty
    finally:
        faulty.end()


def not_durable(calls: Sequence[Call]) -> set[str]:
    """Files whose content a power cut would take after these calls: they were written and not synced since."""
    dirty: set[str] = set()
    for call in calls:
        if call.what == "W":
            dirty.add(call.path)
        elif call.what == "S":
            dirty.clear()
        elif call.what in "FU":
            dirty.discard(call.path)
        elif call.what == "R":
            moved = {p for p in dirty if p == call.source or p.startswith(call.source + "/")}
            dirty = {p for p in dirty - moved if p != call.path} | {call.path + p[len(call.source) :] for p in moved}
    return dirty
