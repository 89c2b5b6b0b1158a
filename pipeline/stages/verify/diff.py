"""Two subsets compared, class by class and file by file."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from pipeline import storage
from pipeline.base.digest import fitted
from pipeline.base.errors import ConfigError
from pipeline.base.terms import SPLITS
from pipeline.job.run_records import at_target, read, split_state
from pipeline.reports.counts import held_after
from pipeline.reports.documents import Actions, DiffReport, FileTotals, SplitTotals
from pipeline.reports.report import Report
from pipeline.stages.verify.status import open_target
from pipeline.target.manifest import TargetState, home

_BY_CLASS: tuple[Literal["images_by_class", "objects"], ...] = ("images_by_class", "objects")


def diff_targets(first: str, second: str) -> Report:
    """Images and objects gained and lost from `first` to `second`, class by class and split by split; files changed.

    Either may be ``TARGET@RUN``. Records of runs have counts, and no contents: then files are counted by kind.
    """
    roots = [split_state(what) for what in (first, second)]
    if any(run is not None for _, run in roots):
        (before, a), (after, b) = (_recorded(root, run) for root, run in roots)
        held = _more(a.held or {}, b.held or {})
        data = _report_of(before, a, after, b, None) | {"held": held}
    else:
        (from_, made_before), (to, made_after) = open_target(first), open_target(second)
        a, b = (msgspec.convert(made.report, _State) for made in (made_before, made_after))
        data = _report_of(from_.root.url, a, to.root.url, b, _changed_files(from_, to))
    return Report(dict(data))


class _State(msgspec.Struct):
    """What is read of the report of a build: `held` is what is there by kind, or follows from the `plan`."""

    classes: list[str]
    subset: dict[str, SplitTotals]
    status: str | None = None
    held: dict[str, FileTotals] | None = None
    plan: Actions = msgspec.field(default_factory=dict)


def _recorded(root: str, run: str | None) -> tuple[str, _State]:
    """What a state of a target is called, and its report.

    Raises `ConfigError` where no run, or several, or one that failed is called `run`.
    """
    if run is None:
        state, made = open_target(root)
        return state.root.url, msgspec.convert(made.report, _State)
    target = storage.locate_writable(home(root))
    found = {record.run.id: record for record in read(at_target(target)) if record.run.id is not None}
    fitting = [name for name in found if name.startswith(run)]
    if len(fitting) != 1:
        which = "several runs are called so" if fitting else "no record of such a run is there"
        raise ConfigError(f"{target.url}@{run}: {which}; `coco-diy status {root}` lists them")
    report = fitted(found[fitting[0]].content.get("report"), _State)
    if report is None or report.status == "failed":
        raise ConfigError(f"{target.url}@{run}: this run failed, and says nothing of a state; name one that did not")
    report.held = held_after(report.plan)
    return f"{target.url}@{fitting[0]}", report


def _more(a: dict[str, FileTotals], b: dict[str, FileTotals]) -> dict[str, FileTotals]:
    """Files and bytes that `b` has more than `a`, by kind."""
    nothing: FileTotals = {"files": 0, "bytes": 0}
    pairs = {kind: (a.get(kind, nothing), b.get(kind, nothing)) for kind in a | b}
    return {
        kind: {"files": y["files"] - x["files"], "bytes": y["bytes"] - x["bytes"]} for kind, (x, y) in pairs.items()
    }


def _report_of(before: str, a: _State, after: str, b: _State, listed: dict[str, list[str]] | None) -> DiffReport:
    """What `b` has more than `a`: classes; images by split; images and objects by class. `listed` are changed paths."""
    names = [*b.classes, *(n for n in a.classes if n not in b.classes)]
    splits = [s for s in SPLITS if s in a.subset or s in b.subset]
    return {
        "command": "diff",
        "from": before,
        "to": after,
        "classes": {
            "gained": [n for n in b.classes if n not in a.classes],
            "lost": [n for n in a.classes if n not in b.classes],
            "renumbered": [n for i, n in enumerate(b.classes) if n in a.classes and a.classes.index(n) != i],
        },
        "images": {s: _totals(b, s)["images"] - _totals(a, s)["images"] for s in splits},
        "by_class": {
            split: {
                name: {
                    what: _totals(b, split)[what].get(name, 0) - _totals(a, split)[what].get(name, 0)
                    for what in _BY_CLASS
                }
                for name in names
            }
            for split in splits
        },
        "files": None if listed is None else {key: len(paths) for key, paths in listed.items()},
        "listed": listed,
    }


def _totals(state: _State, split: str) -> SplitTotals:
    return state.subset.get(split) or {"images": 0, "backgrounds": 0, "objects": {}, "images_by_class": {}}


def _changed_files(before: TargetState, after: TargetState) -> dict[str, list[str]]:
    """Paths gained, lost and changed (labels by content; images by size and, where both were read, content)."""
    sides = []
    for state in (before, after):
        files: dict[str, tuple[Any, ...]] = {}
        copied = state.manifest is not None and state.manifest.config["target"].get("images", "copy") == "copy"
        for bucket in range(state.base.buckets):
            rows = state.rows(bucket, state.base.buckets)
            columns = (rows[c].to_pylist() for c in ("path", "kind", "size", "digest", "content_digest"))
            files |= {
                path: (size, digest if kind == "label" else read if copied else None)
                for path, kind, size, digest, read in zip(*columns, strict=True)
            }
        sides.append(files)
    old, new = sides
    return {
        "gained": sorted(new.keys() - old.keys()),
        "lost": sorted(old.keys() - new.keys()),
        "changed": sorted(p for p in old.keys() & new.keys() if _differ(old[p], new[p])),
    }


def _differ(old: tuple[Any, ...], new: tuple[Any, ...]) -> bool:
    """Whether (size, digest) of a file are another's, as far as both are known: links are not read."""
    return any(a is not None and b is not None and a != b for a, b in zip(old, new, strict=True))
