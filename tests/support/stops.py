"""Runs that are stopped by a signal, or whose store is away for a while, and what must hold. No test stands here."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from random import Random
from typing import IO

from tests.support.ground import Ground, sound
from tests.support.helpers import PROJECT, Result

#: A run that is not over so long after it was stopped hangs: thirty times what it may take, for a busy machine.
_HANGS_S = 75.0

#: A run whose store was away for a minute tries again for minutes.
_OUTAGE_S = 900.0

_ENGINES: tuple[tuple[str, ...], ...] = (
    ("--scheduler", "sync"),
    ("--scheduler", "threads", "--workers", "2"),
    ("--scheduler", "processes", "--workers", "2"),
)


def _begun(words: list[str], told: IO[str]) -> subprocess.Popen[str]:
    """The command in a session of its own, once it listens to signals."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *words],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.DEVNULL,
        stderr=told,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            caught = next((line for line in status.splitlines() if line.startswith("SigCgt")), "0 0").split()[1]
            if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
                break
        time.sleep(0.01)
    return process


def _of_session(session: int) -> list[str]:
    """The processes of a session that are alive, by what they are called."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = path.read_text(errors="replace").rpartition(")")
            fields = rest.split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(name)
    return found


class Stops:
    """Stops of a kind of build."""

    def __init__(self, ground: Ground) -> None:
        self.ground, self.kind = ground, ground.kind
        self._seconds: dict[str, float] = {}

    def _begin(self, rng: Random) -> tuple[list[str], dict[str, bytes], str, float]:
        """As `Ground.begin`; with how long such a run takes once it listens."""
        words, expected, told = self.ground.begin(rng)
        if told not in self._seconds:
            with tempfile.TemporaryFile("w+") as err:
                process = _begun([*words, "-q"], err)
                started = time.monotonic()
                assert process.wait(_OUTAGE_S) == 0
            self._seconds[told] = time.monotonic() - started
            self.ground.reset(self.ground.state)
        return words, expected, told, self._seconds[told]

    def do_one(self, rng: Random) -> str:
        """Stop a run at a random moment, and check; returns what was done, and how long the run took to end."""
        words, expected, told, seconds = self._begin(rng)
        number, stalls = rng.choice((signal.SIGINT, signal.SIGTERM)), self.kind.stall is not None and rng.random() < 0.6
        engine = rng.choice(_ENGINES) if words[0] == "build" else ()
        after, alone = rng.uniform(0, seconds), rng.random() < 0.3
        told += (
            f", {number.name}{' alone' if alone else ''} after {after:.2f} s{', stalled' if stalls else ''} {engine}"
        )
        with tempfile.TemporaryFile("w+") as err:
            process = _begun([*words, *engine], err)
            time.sleep(after)
            try:
                if stalls and self.kind.stall is not None:
                    self.kind.stall(True)
                    time.sleep(rng.uniform(0, 1))
                ended = process.poll() is not None
                with contextlib.suppress(ProcessLookupError):  # a terminal stops helpers as well
                    os.kill(process.pid, number) if alone else os.killpg(process.pid, number)
                stopped = time.monotonic()
                process.wait(_HANGS_S)
                took = time.monotonic() - stopped
                while (left := _of_session(process.pid)) and time.monotonic() - stopped < _HANGS_S:
                    time.sleep(0.01)
                assert not left, (told, left)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if stalls and self.kind.stall is not None:
                    self.kind.stall(False)
            err.seek(0)
            result = Result(process.returncode, "", err.read())
        self._check_end(result, number, told, ended=ended)
        self.ground.check(words, expected, told)
        return f"{told}: {'it had ended' if result.code == 0 else f'over in {took:.2f} s'}"

    def _check_end(self, result: Result, number: int, told: str, *, ended: bool) -> None:
        sound(result, told)
        if ended or result.code == 0:  # the signal came when all was done
            assert result.code == 0, (told, result)
            return
        assert result.code == 128 + number, (told, result)
        assert "coco-diy: stopped; run the same command again to go on" in result.err, (told, result)

    def do_outage(self, rng: Random, away: float) -> str:
        """Let the store hang, or be gone, for `away` seconds at a random moment, and check; returns what was done."""
        words, expected, told, seconds = self._begin(rng)
        server, hangs, after = self.kind.server, rng.random() < 0.5, rng.uniform(0, seconds)
        assert server is not None
        told += f", {'hangs' if hangs else 'is gone'} for {away:.0f} s after {after:.2f} s"
        with tempfile.TemporaryFile("w+") as err:
            process = _begun(words, err)
            time.sleep(after)
            server.stall(True) if hangs else server.kill()
            back = threading.Timer(away, lambda: server.stall(False) if hangs else server.start())
            back.start()
            try:
                process.wait(_OUTAGE_S)
            finally:
                back.join()
                process.kill()
            err.seek(0)
            result = Result(process.returncode, "", err.read())
        sound(result, told)
        assert result.code in (0, 75), (told, result)
        if result.code == 0:
            assert self.kind.result() == expected, told
        self.ground.check(words, expected, told)
        self._check_leftovers(told)
        return f"{told}: {'went on' if result.code == 0 else 'exit code 75'}"

    def _check_leftovers(self, told: str) -> None:
        """Below ``.coco-diy`` are no files under way, and no parts but those that the manifest names."""
        state = self.kind.target / ".coco-diy"
        left = {path.relative_to(state).parts[0] for path in state.rglob("*") if path.is_file()}
        assert left <= {"manifest.json", "manifest", "copy", "runs", "lock"}, (told, left)
        parts = {path.name for path in state.glob("manifest/*")}
        assert parts == {path.name for path in state.glob("copy/manifest/*")}, told
        manifest = (state / "manifest.json").read_text()
        assert all(name.removesuffix(".parquet") in manifest for name in parts), told
