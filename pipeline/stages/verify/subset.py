"""Verify a target, compare two, and report the last run."""

from __future__ import annotations

import functools
from collections import Counter

from pipeline.job.made_subset import layout_of
from pipeline.reports.documents import VerifyReport
from pipeline.reports.report import Report
from pipeline.runtime.engine import Engine
from pipeline.runtime.progress import Progress
from pipeline.stages.verify.bucket import damaged, foreign, verify_bucket, verify_meta
from pipeline.stages.verify.status import open_target, refuse_busy
from pipeline.target import split_copy
from pipeline.target.manifest import FOLDER, Manifest, TargetState


def verify_target(root: str, *, deep: bool, engine: Engine, progress: Progress) -> Report:
    """What differs at `root` from its manifest; exit code 1 where anything does."""
    state, made = open_target(root)
    refuse_busy(state.root)
    check = functools.partial(verify_bucket, state, len(made.report["classes"]), deep)
    layout = layout_of(made)
    without = made.config["target"]["images"] == "none"  # whatever is there is the user's
    folders = layout.roots([kind for kind in layout.folders if kind != "images" or not without])
    if made.config["target"]["archive"] == "zip":
        folders = ()
    ours: set[str] = set()
    with state.root.surveyed(), progress.stage("verify", state.base.buckets, "buckets") as step:
        differences = [*damaged([*state.damaged, *_split_copy(state, made)]), *verify_meta(state, deep=deep)]
        for found, paths in engine.map(check, [(b,) for b in range(state.base.buckets)], files=0):
            differences += found
            ours.update(paths)
            step.add(1)
        differences += foreign(state.root, folders, ours | state.meta.keys())
    differences.sort(key=lambda d: d.path)
    data: VerifyReport = {
        "command": "verify",
        "target": state.root.url,
        "deep": deep,
        "files": len(ours) + len(state.meta),
        "differences": Counter(difference.reason for difference in differences),
        "listed": [{"path": d.path, "reason": d.reason, "detail": d.detail} for d in differences],
    }
    return Report(dict(data), not differences)


def _split_copy(state: TargetState, made: Manifest) -> list[str]:
    """The path of the split table, where a build wrote one that is not there as it was written."""
    split = made.config.get("split")
    stratified = isinstance(split, dict) and split.get("stratify") is True
    return [f"{FOLDER}/{split_copy.COPY}"] if stratified and not split_copy.is_sound(state.folder) else []
