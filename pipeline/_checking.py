"""Part of `run`: verify a target, compare two, and tell of the last run."""

from __future__ import annotations

import functools
from typing import Any

from pipeline import _runs, exporters, manifest, storage, verify
from pipeline.engine import Engine
from pipeline.errors import ConfigError, LockError, TargetError
from pipeline.manifest import Manifest, TargetState
from pipeline.progress import Progress
from pipeline.report import Report

#: So many runs are told of.
_RECENT = 10


def open_target(root: str) -> tuple[TargetState, Manifest]:
    """State and manifest of the subset at `root`; raises `ConfigError` where none was ever finished there."""
    state = TargetState(storage.locate(root.removesuffix(f"/{manifest.FOLDER}/manifest.json")))
    if state.manifest is None and state.lost:
        raise TargetError(f"{state.folder.join('manifest.json')}: is damaged, and so is its copy; build the subset "
                          "again with its config, which makes it anew")
    if state.manifest is None:
        unfinished = "; a build there did not end, run it again" if state.intent else ""
        raise ConfigError(f"{state.root.url}: is neither a config file nor a subset that coco-diy built (it has no "
                          f"{manifest.FOLDER}/manifest.json){unfinished}")
    return state, state.manifest


def refuse_busy(target: storage.Location) -> None:
    """Raise `LockError` where a build is changing the target: what is there now is neither old nor new."""
    if holder := target.lock_holder(manifest.LOCK):
        raise LockError(f"the target {target.url} is in use by {holder}; wait for it, or stop it")


def verify_target(root: str, *, deep: bool, engine: Engine, progress: Progress) -> Report:
    """What differs at `root` from its manifest; exit code 1 where anything does."""
    state, made = open_target(root)
    refuse_busy(state.root)
    check = functools.partial(verify.verify_bucket, state, len(made.report["classes"]), deep)
    layout = exporters.load(made.report["format"]).FOLDERS
    if made.config["target"]["images"] == "none":
        layout = tuple(folder for folder in layout if folder != "images")  # whatever is there is the user's
    if made.config["target"]["archive"] == "zip":
        layout = ()
    ours: set[str] = set()
    with state.root.surveyed(), progress.stage("verify", state.base.buckets, "buckets") as step:
        differences = [*verify.damaged(state.damaged), *verify.verify_meta(state, deep=deep)]
        for found, paths in engine.map(check, [(b,) for b in range(state.base.buckets)], files=0):
            differences += found
            ours.update(paths)
            step.add(1)
        differences += verify.foreign(state.root, layout, ours)
    differences.sort(key=lambda d: d.path)
    counts: dict[str, int] = {}
    for difference in differences:
        counts[difference.reason] = counts.get(difference.reason, 0) + 1
    data: dict[str, Any] = {
        "command": "verify",
        "target": state.root.url,
        "deep": deep,
        "files": len(ours) + len(state.meta),
        "differences": counts,
        "listed": [{"path": d.path, "reason": d.reason, "detail": d.detail} for d in differences],
    }
    return Report(data, not differences)


def diff_targets(first: str, second: str) -> Report:
    """Images and objects gained and lost from `first` to `second`, class by class and split by split; files changed."""
    (before, made_before), (after, made_after) = open_target(first), open_target(second)
    a, b = made_before.report, made_after.report
    names = [*b["classes"], *(n for n in a["classes"] if n not in b["classes"])]
    splits = [s for s in ("train", "val", "test") if s in a["subset"] or s in b["subset"]]
    changes = {
        split: {name: {what: _count(b, split, what, name) - _count(a, split, what, name)
                       for what in ("images_by_class", "objects")} for name in names}
        for split in splits
    }
    files = _changed_files(before, after)
    data: dict[str, Any] = {
        "command": "diff",
        "from": before.root.url,
        "to": after.root.url,
        "classes": {"gained": [n for n in b["classes"] if n not in a["classes"]],
                    "lost": [n for n in a["classes"] if n not in b["classes"]],
                    "renumbered": [n for i, n in enumerate(b["classes"]) if n in a["classes"]
                                   and a["classes"].index(n) != i]},
        "images": {s: _images(b, s) - _images(a, s) for s in splits},
        "by_class": changes,
        "files": {key: len(paths) for key, paths in files.items()},
        "listed": files,
    }
    return Report(data)


def _count(report: dict[str, Any], split: str, what: str, name: str) -> int:
    return int(report["subset"].get(split, {}).get(what, {}).get(name, 0))


def _images(report: dict[str, Any], split: str) -> int:
    return int(report["subset"].get(split, {}).get("images", 0))


def _changed_files(before: TargetState, after: TargetState) -> dict[str, list[str]]:
    """Paths gained, lost and changed (labels by content; images by size and, where both were read, content)."""
    sides = []
    for state in (before, after):
        held: dict[str, tuple[Any, ...]] = {}
        for bucket in range(state.base.buckets):
            rows = state.rows(bucket, state.base.buckets)
            columns = (rows[c].to_pylist() for c in ("path", "kind", "size", "digest", "content_digest"))
            held |= {path: (size, digest if kind == "label" else read)
                     for path, kind, size, digest, read in zip(*columns, strict=True)}
        sides.append(held)
    old, new = sides
    return {"gained": sorted(new.keys() - old.keys()), "lost": sorted(old.keys() - new.keys()),
            "changed": sorted(p for p in old.keys() & new.keys() if _differ(old[p], new[p]))}


def _differ(old: tuple[Any, ...], new: tuple[Any, ...]) -> bool:
    """Whether (size, digest) of a file are another's, as far as both are known: links are not read."""
    return any(a is not None and b is not None and a != b for a, b in zip(old, new, strict=True))


def last_run(root: str, workdir: str | None = None) -> Report:
    """What the last runs at `root` did, newest first, and whether one is under way or was stopped.

    With `workdir` also those that failed before there was a target.
    """
    state = TargetState(storage.locate(root))
    places = [_runs.at_target(state.root), *([_runs.beside(workdir, state.root)] if workdir is not None else [])]
    records = sorted((record for place in places for record in _runs.read(place)), key=lambda r: str(r.get("time")))
    holder = state.root.lock_holder(manifest.LOCK)
    if not records and state.intent is None and holder is None:
        raise ConfigError(f"{state.root.url}: no run of coco-diy was ever begun there")
    stopped = state.intent is not None and holder is None
    data = {"command": "status", "target": state.root.url, "runs": len(records), "last": records[-1] if records else {},
            "recent": [_brief(record) for record in records[:-_RECENT - 1:-1]], "running": holder, "stopped": stopped}
    return Report(data, not stopped)


def _brief(record: dict[str, Any]) -> dict[str, Any]:
    """What a run came to, in a line."""
    report, error = record.get("report", {}), record.get("error", {})
    return {"time": record.get("time"), "host": record.get("host"), "exit_code": record.get("exit_code", 0),
            "status": report.get("status", error.get("reason")), "changes": report.get("changes"),
            "error": error.get("error")}
