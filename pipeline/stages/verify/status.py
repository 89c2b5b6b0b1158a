"""The last runs of a target, and who works on it now."""

from __future__ import annotations

import json

from pipeline import storage
from pipeline.errors import ConfigError, LockError
from pipeline.reports.report import Report
from pipeline.target.manifest import FOLDER, LOCK, Manifest, TargetState


def open_target(root: str) -> tuple[TargetState, Manifest]:
    """State and manifest of the subset at `root`; raises `ConfigError` where none was ever finished there."""
    state = TargetState(storage.locate(root.removesuffix(f"/{FOLDER}/manifest.json")))
    if state.manifest is None:
        unfinished = "; a build there did not end, run it again" if state.intent else ""
        raise ConfigError(
            f"{state.root.url}: is neither a config file nor a subset that coco-diy built (it has no "
            f"{FOLDER}/manifest.json){unfinished}"
        )
    return state, state.manifest


def refuse_busy(target: storage.Location) -> None:
    """Raise `LockError` where a build is changing the target: what is there now is neither old nor new."""
    if holder := target.lock_holder(LOCK):
        raise LockError(f"the target {target.url} is in use by {holder}; wait for it, or stop it")


def last_run(root: str) -> Report:
    """What the last run at `root` did, and whether one is under way or was stopped."""
    state = TargetState(storage.locate(root))
    runs = [name for name in state.folder.flat_names("runs") if name.endswith(".json")]
    holder = state.root.lock_holder(LOCK)
    if not runs and state.intent is None and holder is None:
        raise ConfigError(f"{state.root.url}: no run of coco-diy was ever begun there")
    record = json.loads(state.folder.read(f"runs/{runs[-1]}") or b"{}") if runs else {}
    data = {
        "command": "status",
        "target": state.root.url,
        "runs": len(runs),
        "last": record,
        "running": holder,
        "stopped": state.intent is not None and holder is None,
    }
    return Report(data, not data["stopped"])
