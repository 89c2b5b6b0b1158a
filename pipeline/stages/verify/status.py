"""The last runs of a target, and who works on it now."""

from __future__ import annotations

from typing import Any

from pipeline import storage
from pipeline.base.errors import ConfigError, LockError, TargetError
from pipeline.job.run_records import at_target, beside, read
from pipeline.reports.report import Report
from pipeline.target.manifest import LOCK, MANIFEST_PATH, Manifest, TargetState


def open_target(root: str) -> tuple[TargetState, Manifest]:
    """State and manifest of the subset at `root`; raises `ConfigError` where none was ever finished there."""
    state = TargetState(storage.locate_writable(root.removesuffix(f"/{MANIFEST_PATH}")))
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
    return state, state.manifest


def refuse_busy(target: storage.WritableLocation) -> None:
    """Raise `LockError` where a build is changing the target: what is there now is neither old nor new."""
    if holder := target.lock_holder(LOCK):
        raise LockError(f"the target {target.url} is in use by {holder}; wait for it, or stop it")


def last_run(root: str, workdir: str | None = None) -> Report:
    """What the last runs at `root` did, newest first, and whether one is under way or was stopped.

    With `workdir` also those that failed before there was a target.
    """
    state = TargetState(storage.locate_writable(root))
    locations = [at_target(state.root), *([beside(workdir, state.root)] if workdir is not None else [])]
    records = sorted((record for location in locations for record in read(location)), key=lambda r: str(r.get("time")))
    holder = state.root.lock_holder(LOCK)
    if not records and state.manifest is None and state.intent is None and holder is None:
        there = "no run of coco-diy was ever begun there" if state.root.exists() else "does not exist"
        raise ConfigError(f"{state.root.url}: {there}; name a config, or the folder of a subset")
    stopped = state.intent is not None and holder is None
    data = {
        "command": "status",
        "target": state.root.url,
        "runs": len(records),
        "last": records[-1] if records else {},
        "recent": [_brief(record) for record in records[: -_RECENT - 1 : -1]],
        "running": holder,
        "stopped": stopped,
    }
    return Report(data, not stopped)


#: So many runs are reported.
_RECENT = 10


def _brief(record: dict[str, Any]) -> dict[str, Any]:
    """What a run came to, in a line."""
    report, error = record.get("report", {}), record.get("error", {})
    return {
        "time": record.get("time"),
        "host": record.get("host"),
        "exit_code": record.get("exit_code", 0),
        "status": report.get("status", error.get("reason")),
        "changes": report.get("changes"),
        "error": error.get("error"),
    }
