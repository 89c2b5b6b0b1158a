"""Faults at the n-th file call of a run: the process is killed there, or the call fails with an errno. No test here.

``python -m tests.support.faults FOLDERS KIND N WORDS…`` runs ``coco-diy WORDS…`` and counts the calls (those that
Python tells of before it makes them) of files below FOLDERS, which are joined by ``:``. KIND is ``count`` (which prints
their number), ``kill``, or the number of an errno. The call is failed once: what comes after it works again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.support.helpers import PROJECT, Result

#: Calls by their names in Python's audit events, and how many of their first arguments are paths.
CALLS = {
    "open": 1,
    "os.rename": 2,
    "os.remove": 1,
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.link": 2,
    "os.symlink": 2,
    "os.scandir": 1,
    "os.listdir": 1,
    "os.truncate": 1,
}


class _Hook:
    def __init__(self, folders: list[str], kind: str, number: int) -> None:
        self.folders, self.kind, self.number, self.seen = folders, kind, number, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CALLS or not any(map(self._ours, arguments[: CALLS[event]])):
            return
        self.seen += 1
        if self.seen == self.number and self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.seen == self.number and self.kind != "count":
            raise OSError(int(self.kind), os.strerror(int(self.kind)), arguments[0])

    def _ours(self, path: object) -> bool:
        # A relative one is below a folder that was opened: for labels, images, and what is written in batches.
        text = os.fsdecode(path) if isinstance(path, str | bytes) else ""
        return bool(text) and (not os.path.isabs(text) or text.startswith(tuple(self.folders)))


def main(folders: str, kind: str, number: str, *words: str) -> None:
    """Run the command under a fault."""
    import pipeline.cli

    hook = _Hook(folders.split(":"), kind, int(number))
    sys.addaudithook(hook)
    code = pipeline.cli.run_cli(list(words))
    if kind == "count":
        print(hook.seen)
    sys.stdout.flush()
    os._exit(code)


def run_under(folders: list[Path], kind: str, number: int, words: list[str]) -> Result:
    """The command under a fault, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.faults", ":".join(map(str, folders)), kind, str(number), *words],
        cwd=PROJECT,
        text=True,
        capture_output=True,
        check=False,
        timeout=300,
    )
    return Result(done.returncode, done.stdout, done.stderr)


#: What may happen to one file: ``other`` is that it is replaced by one of its kind of another build.
DAMAGES = ("bit", "cut", "empty", "deleted", "folder", "other")


@dataclass(frozen=True)
class Damage:
    """What happens to one file that we keep; `donor` is the file that takes its place, if one does."""

    path: Path
    how: str
    donor: Path | None = None

    @staticmethod
    def drawn(rng: Random, files: list[Path], donors: dict[Path, list[Path]], hows: tuple[str, ...]) -> Damage:
        """One of `hows`, to one of `files`; `donors` are files of other builds by the file that they are akin to."""
        path, how = rng.choice(files), rng.choice(hows)
        others = [other for other in donors.get(path, []) if other.read_bytes() != path.read_bytes()]
        if how != "other":
            return Damage(path, how)
        return Damage(path, "other", rng.choice(others)) if others else Damage(path, "bit")

    def do(self, rng: Random) -> None:
        """Do it; what fingerprints a file by its times sees nothing."""
        before = self.path.stat()
        data = bytearray(self.path.read_bytes())
        self.path.unlink()
        if self.how == "bit" and data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif self.how in ("cut", "empty"):
            del data[rng.randrange(len(data)) if data and self.how == "cut" else 0 :]
        elif self.donor is not None:
            data[:] = self.donor.read_bytes()
        if self.how == "folder":
            self.path.mkdir()
        elif self.how != "deleted":
            self.path.write_bytes(data)
        if self.path.exists():
            os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))


def copy_tree(source: Path, into: Path) -> None:
    """`source` as it is, with its times, in place of whatever is there."""
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(source, into, symlinks=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
