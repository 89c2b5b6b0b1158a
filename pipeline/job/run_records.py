"""Records of runs: one small file a run, also of one that changed nothing, failed or was stopped.

They are in ``runs/`` below the target's ``.coco-diy`` or, as long as nothing was built there, in
``runs/<target>/`` of the workdir: a build that failed makes no target. A name is time, process and exit code. A run
whose config is wrong leaves its record as well, where that says what target and workdir are.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec

from pipeline import storage
from pipeline.base.digest import fitted, seal, unseal
from pipeline.base.errors import INCOMPLETE, CocoDiyError, ConfigError, StorageError
from pipeline.base.text import whole_number
from pipeline.base.version import __version__
from pipeline.config.model import Config, Runs
from pipeline.job.job import target_name
from pipeline.runtime.log import LOG
from pipeline.runtime.run import Run, compact_stamp, stamp_of
from pipeline.storage.processes import is_gone, myself
from pipeline.storage.retry import while_wanted
from pipeline.target.manifest import FOLDER, is_subset
from pipeline.target.records import content_of

#: Exit codes of a success: done, and done but for what was skipped.
SUCCESS = frozenset({0, INCOMPLETE})

#: How the file of a run ends that has begun and left no record yet.
_BEGUN = ".begun"

#: How long a failed run waits for a store to take its record: it may be the store that failed.
_STORE_SECONDS = 3.0

#: A state of a target that a run left: ``TARGET@20261128T0317``, the name of the run or how it begins.
_STATE = re.compile(r"(?P<root>.+)@(?P<run>\d{8}(?:T[\dZ-]*)?)", re.DOTALL)

_NUMBERS = itertools.count()


class _Root(msgspec.Struct):
    root: str


class _Keep(msgspec.Struct):
    keep: Annotated[int, msgspec.Meta(ge=1)] = Runs.model_fields["keep"].default


class _Named(msgspec.Struct):
    """What is read of a config, which may be wrong in every other key."""

    target: _Root
    source: Any = None
    workdir: str = Config.model_fields["workdir"].default
    runs: _Keep = msgspec.field(default_factory=_Keep)


class _RunFacts(msgspec.Struct):
    id: str | None = None
    stage: str | None = None


class _Outcome(msgspec.Struct):
    status: str | None = None
    changes: int | None = None
    digest: str | None = None


class _Failure(msgspec.Struct):
    error: str | None = None
    reason: str | None = None


class RunRecord(msgspec.Struct):
    """What is read of the record of a run, whose `content` may have come with a folder; see `conf/run.schema.json`.

    `report` is that of a run that ended, `error` that of one that failed. Old records lack what has a default here.
    """

    time: str
    host: str | None = None
    tool: str | None = None
    seconds: float | None = None
    exit_code: int = 0
    run: _RunFacts = msgspec.field(default_factory=_RunFacts)
    report: _Outcome | None = None
    error: _Failure | None = None
    content: dict[str, Any] = msgspec.field(default_factory=dict)


class BegunRun(msgspec.Struct):
    """A run that began and left no record; `by` is what its process said of itself, see `processes.myself`."""

    id: str
    start: str
    by: dict[str, Any]

    @property
    def gone(self) -> bool:
        """Whether its process is not there any more, so that it was killed."""
        return is_gone(self.by)


def split_state(what: str) -> tuple[str, str | None]:
    """Target and run that ``TARGET@RUN`` names; a target alone, and a path that is there, is that as it is now."""
    found = None if os.path.exists(what) else _STATE.fullmatch(what)
    return (found["root"], found["run"]) if found else (what, None)


class RunRecords:
    """The records of runs of `config`, as plain data; `run` is the one that is under way.

    Raises `ConfigError` where that does not say what target and workdir are.
    """

    def __init__(self, config: Mapping[str, Any], run: Run) -> None:
        named = fitted(config, _Named)
        if named is None:
            raise ConfigError("target.root: is missing, so that nobody knows where records of its runs are")
        self._named = named
        self._target = storage.locate_writable(named.target.root)
        self._beside = beside(named.workdir, self._target)
        self._run, self._begun, self._workdir = run, False, contextlib.ExitStack()
        run.target = self._target.url

    def begin(self) -> None:
        """The config was found good, so that its workdir can be used: from now on a killed run leaves a trace there."""
        self._begun = True
        begun = {"id": self._run.id, "start": stamp_of(self._run.began), "by": myself()}
        with contextlib.suppress(CocoDiyError, OSError):
            self._beside.write_many([f"{self._run.id}{_BEGUN}"], [seal(begun)])
            self._workdir.enter_context(storage.pinned(storage.local_path(self._named.workdir)))

    def ended(self, exit_code: int, report: dict[str, Any]) -> None:
        """The run is over, and `report` says how."""
        outcome, place = {"report": report}, at_target(self._target)
        if not self._write(place, exit_code, outcome) and self._write(self._beside, exit_code, outcome):
            LOG.warning("%s: takes no record of this run, which is %s; mend that folder", place.url, self._run.record)
        self._forget_begun(exit_code)

    def failed(self, error: BaseException, facts: dict[str, Any]) -> None:
        """The run ended with `error`, which `facts` describe; a store that may be what failed takes no record."""
        ill = self._target.local is None and isinstance(error, StorageError)
        code, outcome = facts["exit_code"], {"error": facts}
        at_home = not ill and self._is_built() and self._write(at_target(self._target), code, outcome)
        if not at_home and (self._begun or self._is_apart()):
            self._write(self._beside, code, outcome)
        elif not at_home:
            self._run.outcome = self._record(code, outcome)
        self._forget_begun(code)

    def _forget_begun(self, code: int) -> None:
        """This run has a record now; and those that were killed are over with a success."""
        over = [
            name for name, begun in _begun(self._beside) if begun.id == self._run.id or (code in SUCCESS and begun.gone)
        ]
        with contextlib.suppress(CocoDiyError, OSError), self._workdir:
            self._beside.delete_many(over)

    def _is_apart(self) -> bool:
        """Whether the workdir of a config of which nothing was checked is in no folder that it names otherwise."""
        if self._named.source is None:  # where that is no YAML, say
            return False
        workdir, named = storage.local_path(self._named.workdir), (self._named.target.root, self._named.source)
        with contextlib.suppress(CocoDiyError, ValueError):
            return not any(storage.within(workdir, text) for text in _texts(named))
        return False

    def _is_built(self) -> bool:
        """Whether there is a target to keep a record at."""
        found: list[bool] = []
        return self._patiently(lambda: found.append(is_subset(self._target))) and any(found)

    def _record(self, code: int, outcome: dict[str, Any]) -> dict[str, Any]:
        now = time.time()
        return {
            "time": compact_stamp(now),
            "host": socket.gethostname(),
            "process": os.getpid(),
            "exit_code": code,
            "tool": f"coco-diy {__version__}",
            "seconds": round(now - self._run.began, 3),
            "run": self._run.facts(),
            **outcome,
        }

    def _write(self, location: storage.WritableLocation, code: int, outcome: dict[str, Any]) -> bool:
        """Write a record, and drop the oldest; whether it came to pass: no run fails for its record."""
        record = self._record(code, outcome)
        name = f"{record['time']}-{os.getpid()}.{next(_NUMBERS)}-{code}.json"
        self._run.code, self._run.outcome = code, record

        def put() -> None:
            seen = location.begun()
            location.write(name, seal(record))
            self._run.record = location.join(name)
            there = names(location) if seen is None else [*_records(seen), name]
            over = surplus(there, self._named.runs.keep)
            if location.local is not None or 3 * len(over) >= self._named.runs.keep:
                location.delete_many(over)  # at a store some at once: a request each night is spared

        return self._patiently(put)

    def _patiently(self, work: Callable[[], None]) -> bool:
        """Do `work` at the target or beside it, with little patience for a store; whether it was done."""
        done: list[bool] = []
        given_up = threading.Event()

        def attempt() -> None:
            with contextlib.suppress(CocoDiyError, OSError), while_wanted(given_up.is_set):
                work()
                done.append(True)

        if self._target.local is not None:
            attempt()
        else:
            thread = threading.Thread(target=attempt, daemon=True)
            thread.start()
            thread.join(_STORE_SECONDS)
            given_up.set()
        return bool(done)


def _texts(value: object) -> Iterator[str]:
    """All texts in a value of a config."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def at_target(target: storage.WritableLocation) -> storage.WritableLocation:
    """Where records are at a target."""
    return target.own(f"{FOLDER}/runs")


def beside(workdir: str, target: storage.Location) -> storage.WritableLocation:
    """Where the workdir has the records of a target that was not built yet."""
    return storage.locate_writable(storage.local_path(workdir)).below(f"runs/{target_name(target.url)}")


def under_way(workdir: str, target: storage.Location) -> list[BegunRun]:
    """Runs that began and left no record."""
    return [begun for _, begun in _begun(beside(workdir, target))]


def _begun(location: storage.Location) -> list[tuple[str, BegunRun]]:
    """The runs that began, each with the name of its file; one that is damaged is left out."""
    found = []
    for name in location.flat_names(""):
        begun = fitted(unseal(location.read(name)), BegunRun) if name.endswith(_BEGUN) else None
        if begun is not None:
            found.append((name, begun))
    return found


def names(location: storage.Location) -> list[str]:
    """Names of the records in `location`, oldest first."""
    return _records(location.flat_names(""))


def _records(found: Iterable[str]) -> list[str]:
    return sorted(name for name in found if name.endswith(".json"))


def surplus(found: Sequence[str], keep: int) -> list[str]:
    """Which of the records `found` (oldest first) go: all but the last `keep`, the last success and last failure."""
    good = [name for name in found if _code(name) in SUCCESS]
    bad = [name for name in found if _code(name) not in SUCCESS]
    stay = {*good[-1:], *bad[-1:]}
    for name in reversed(found):
        if len(stay) >= keep:
            break
        stay.add(name)
    return [name for name in found if name not in stay]


def _code(name: str) -> int:
    """The exit code in a record's name; of records that have none, success."""
    code = name.removesuffix(".json").split("-")[2:]
    return (whole_number(code[0]) if code else None) or 0


def read(location: storage.Location) -> list[RunRecord]:
    """The records at `location`, oldest first; one that is damaged, or another's by its name, is left out."""
    found = []
    for name in names(location):
        content = content_of(location.read(name) or b"")
        record = fitted(content, RunRecord)
        if content is not None and record is not None and name.startswith(record.time):
            record.content = content
            found.append(record)
    return found
