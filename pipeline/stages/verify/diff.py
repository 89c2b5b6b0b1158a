"""Two subsets compared, class by class and file by file."""

from __future__ import annotations

from typing import Any

from pipeline.base.terms import SPLITS
from pipeline.reports.report import Report
from pipeline.stages.verify.status import open_target
from pipeline.target.manifest import TargetState


def diff_targets(first: str, second: str) -> Report:
    """Images and objects gained and lost from `first` to `second`, class by class and split by split; files changed."""
    (before, made_before), (after, made_after) = open_target(first), open_target(second)
    a, b = made_before.report, made_after.report
    names = [*b["classes"], *(n for n in a["classes"] if n not in b["classes"])]
    splits = [s for s in SPLITS if s in a["subset"] or s in b["subset"]]
    changes = {
        split: {
            name: {
                what: _count(b, split, what, name) - _count(a, split, what, name)
                for what in ("images_by_class", "objects")
            }
            for name in names
        }
        for split in splits
    }
    files = _changed_files(before, after)
    data: dict[str, Any] = {
        "command": "diff",
        "from": before.root.url,
        "to": after.root.url,
        "classes": {
            "gained": [n for n in b["classes"] if n not in a["classes"]],
            "lost": [n for n in a["classes"] if n not in b["classes"]],
            "renumbered": [n for i, n in enumerate(b["classes"]) if n in a["classes"] and a["classes"].index(n) != i],
        },
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
        files: dict[str, tuple[Any, ...]] = {}
        for bucket in range(state.base.buckets):
            rows = state.rows(bucket, state.base.buckets)
            columns = (rows[c].to_pylist() for c in ("path", "kind", "size", "digest", "content_digest"))
            files |= {
                path: (size, digest if kind == "label" else read)
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
