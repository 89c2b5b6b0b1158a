"""Records of runs: one small file a run, also of one that changed nothing, failed or was stopped.

They are in ``runs/`` below the target's ``.coco-diy`` or, as long as nothing was built there, in
``runs/<target>/`` of the workdir: a build that failed makes no target. A name is time, process and exit code.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from pipeline import storage
from pipeline.base.digest import seal
from pipeline.base.errors import INCOMPLETE, CocoDiyError, StorageError
from pipeline.base.version import __version__
from pipeline.config.model import Config
from pipeline.job.job import target_name
from pipeline.target.manifest import FOLDER, is_subset
from pipeline.target.records import content_of

_SUCCESS = {0, INCOMPLETE}

#: How long a failed run waits for a store to take its record: it may be the store that failed.
_STORE_SECONDS = 3.0

_NUMBERS = itertools.count()


class RunRecords:
    """The records of runs of `config`. `begun` says that the config was found good, so that its workdir can be used."""

    def __init__(self, config: Config) -> None:
        self.begun = False
        self._keep = config.runs.keep
        self._target = storage.locate_writable(config.target.root)
        self._workdir = config.workdir
        self._started = time.time()

    def ended(self, exit_code: int, report: dict[str, Any]) -> None:
        """The run is over, and `report` says how."""
        self._write(at_target(self._target), exit_code, {"report": report})

    def failed(self, error: BaseException, facts: dict[str, Any]) -> None:
        """The run ended with `error`, which `facts` describe; a store that may be what failed takes no record."""
        ill = self._target.local is None and isinstance(error, StorageError)
        if not ill and self._is_built() and self._write(at_target(self._target), facts["exit_code"], {"error": facts}):
            return
        if self.begun:
            self._write(beside(self._workdir, self._target), facts["exit_code"], {"error": facts})

    def _is_built(self) -> bool:
        """Whether there is a target to keep a record at."""
        found: list[bool] = []
        return self._patiently(lambda: found.append(is_subset(self._target))) and any(found)

    def _write(self, location: storage.WritableLocation, code: int, outcome: dict[str, Any]) -> bool:
        """Write a record, and drop the oldest; whether it came to pass: no run fails for its record."""
        now = time.time()
        stamp = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}{int(now * 1000) % 1000:03d}Z"
        record = {
            "time": stamp,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "exit_code": code,
            "tool": f"coco-diy {__version__}",
            "seconds": round(now - self._started, 3),
            **outcome,
        }
        data = seal(record)

        def put() -> None:
            location.write(f"{stamp}-{os.getpid()}.{next(_NUMBERS)}-{code}.json", data)
            location.delete_many(surplus(names(location), self._keep))

        return self._patiently(put)

    def _patiently(self, work: Callable[[], None]) -> bool:
        """Do `work` at the target or beside it, with little patience for a store; whether it was done."""
        done: list[bool] = []

        def attempt() -> None:
            with contextlib.suppress(CocoDiyError, OSError):
                work()
                done.append(True)

        if self._target.local is not None:
            attempt()
        else:
            thread = threading.Thread(target=attempt, daemon=True)
            thread.start()
            thread.join(_STORE_SECONDS)
        return bool(done)


def at_target(target: storage.WritableLocation) -> storage.WritableLocation:
    """Where records are at a target."""
    return target.own(f"{FOLDER}/runs")


def beside(workdir: str, target: storage.Location) -> storage.WritableLocation:
    """Where the workdir has the records of a target that was not built yet."""
    return storage.locate_writable(storage.local_path(workdir)).below(f"runs/{target_name(target.url)}")


def names(location: storage.Location) -> list[str]:
    """Names of the records in `location`, oldest first."""
    return sorted(name for name in location.flat_names("") if name.endswith(".json"))


def surplus(found: Sequence[str], keep: int) -> list[str]:
    """Which of the records `found` (oldest first) go: all but the last `keep`, the last success and last failure."""
    good = [name for name in found if _code(name) in _SUCCESS]
    bad = [name for name in found if _code(name) not in _SUCCESS]
    stay = {*good[-1:], *bad[-1:]}
    for name in reversed(found):
        if len(stay) >= keep:
            break
        stay.add(name)
    return [name for name in found if name not in stay]


def _code(name: str) -> int:
    """The exit code in a record's name; of records that have none, success."""
    code = name.removesuffix(".json").split("-")[2:]
    return int(code[0]) if code and code[0].isdecimal() else 0


def read(location: storage.Location) -> list[dict[str, Any]]:
    """The records at `location`, oldest first; one that is damaged, or another's by its name, is left out."""
    found = [(name, content_of(location.read(name) or b"")) for name in names(location)]
    return [record for name, record in found if record is not None and name.startswith(str(record.get("time")))]
