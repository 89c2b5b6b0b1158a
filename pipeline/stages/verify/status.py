"""The last runs of a target, and who works on it now."""

from __future__ import annotations

import datetime
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from pipeline import storage
from pipeline.base.errors import ConfigError, LockError, TargetError
from pipeline.job.run_records import SUCCESS, RunRecord, at_target, beside, read, under_way
from pipeline.reports.report import Report
from pipeline.storage.processes import shown
from pipeline.target.manifest import LOCK, MANIFEST_PATH, MANIFESTS, Manifest, TargetState, home

if TYPE_CHECKING:
    from pipeline.reports.documents import RunLine, StatusReport, SuccessLine


class FoundTarget(NamedTuple):
    """A subset that is there: its state, and its manifest."""

    state: TargetState
    made: Manifest


def target_at(what: str) -> FoundTarget | None:
    """State and manifest of the target `what`, see `manifest.home`; None for other folders and for files.

    Raises `TargetError` where the manifest is damaged with its copy.
    """
    root = home(what)
    if os.path.isfile(os.path.expanduser(root)):
        return None
    return open_target(root) if any(storage.locate(root).exist_many(MANIFESTS)) else None


def open_target(root: str) -> FoundTarget:
    """State and manifest of the subset at `root`; raises `ConfigError` where none was ever finished there."""
    state = _state_at(root)
    if state.manifest is None and state.lost:
        raise TargetError(
            f"{state.root.join(MANIFEST_PATH)}: is damaged, and so is its copy; build the subset "
            "again with its config, which makes it anew"
        )
    if state.manifest is None:
        if not state.root.exists():
            raise ConfigError(f"{state.root.url}: does not exist; name a config, or the folder of a subset")
        unfinished = "; a build there did not end, run it again" if state.intent else ""
        raise ConfigError(
            f"{state.root.url}: is neither a config file nor a subset that coco-diy built (it has no "
            f"{MANIFEST_PATH}){unfinished}"
        )
    return FoundTarget(state, state.manifest)


def _state_at(what: str) -> TargetState:
    """The state of the target `what`, see `manifest.home`; raises `ConfigError` for another file."""
    root = home(what)
    path = os.path.expanduser(root)
    if os.path.exists(path) and not os.path.isdir(path):
        raise ConfigError(
            f"{what}: is a file that is no subset of coco-diy's; name a config, the folder of a subset, or its zip file"
        )
    return TargetState(storage.locate_writable(root))


def refuse_busy(target: storage.WritableLocation) -> None:
    """Raise `LockError` where a build is changing the target: what is there now is neither old nor new."""
    if holder := target.lock_holder(LOCK):
        raise LockError(f"the target {target.url} is in use by {holder}; wait for it, or stop it")


def last_run(root: str, workdir: str | None = None, *, max_age: float | None = None) -> Report:
    """What the last runs at `root` did, newest first, and whether one is under way or was stopped.

    With `workdir` also those that failed before there was a target, and those that were killed. It is not ok where one
    was stopped, or where the last success is older than `max_age` seconds.
    """
    state = _state_at(root)
    locations = [at_target(state.root), *([beside(workdir, state.root)] if workdir is not None else [])]
    records = sorted((record for location in locations for record in read(location)), key=lambda r: r.time)
    holder = state.root.lock_holder(LOCK)
    begun = under_way(workdir, state.root) if workdir is not None else []
    if not records and not begun and state.manifest is None and state.intent is None and holder is None:
        there = "no run of coco-diy was ever begun there" if state.root.exists() else "does not exist"
        raise ConfigError(f"{state.root.url}: {there}; name a config, or the folder of a subset")
    success = next((record for record in reversed(records) if record.exit_code in SUCCESS), None)
    since = _seconds_since(success) if success is not None else None
    killed = [] if holder is not None else [run for run in begun if run.gone or state.root.local is not None]
    at_work = [run for run in begun if run not in killed]
    last_success: SuccessLine | None = None
    if success is not None and since is not None:
        last_success = {**_brief(success), "age": round(since, 3)}
    data: StatusReport = {
        "command": "status",
        "target": state.root.url,
        "runs": len(records),
        "last": records[-1].content if records else {},
        "recent": [_brief(record) for record in records[: -_RECENT - 1 : -1]],
        "running": holder or (shown(at_work[-1].by) if at_work else None),
        "stopped": holder is None and (state.intent is not None or bool(killed)),
        "killed": [{"run": run.id, "start": run.start, "by": shown(run.by), "where": _where(state)} for run in killed],
        "last_success": last_success,
        "max_age": max_age,
        "late": max_age is not None and (since is None or since > max_age),
    }
    return Report(dict(data), not data["stopped"] and not data["late"])


#: So many runs are reported.
_RECENT = 10


def _brief(record: RunRecord) -> RunLine:
    """What a run came to, in a line."""
    report, error = record.report, record.error
    status = report.status if report is not None else None
    return {
        "time": record.time,
        "run": record.run.id,
        "host": record.host,
        "tool": record.tool,
        "seconds": record.seconds,
        "exit_code": record.exit_code,
        "status": status or (error.reason if error is not None else None),
        "changes": report.changes if report is not None else None,
        "digest": report.digest if report is not None else None,
        "error": error.error if error is not None else None,
        "stage": record.run.stage,
    }


def _seconds_since(record: RunRecord) -> float | None:
    """How long ago the run of a record ended; None where its time is not one."""
    try:
        ended = datetime.datetime.strptime(f"{record.time}+0000", "%Y%m%dT%H%M%S%fZ%z")
    except ValueError:
        return None
    return time.time() - ended.timestamp()


def _where(state: TargetState) -> str:
    """What the last run that was killed was about: only one that changes the target leaves an intent."""
    return "apply" if state.intent is not None else "before apply"
