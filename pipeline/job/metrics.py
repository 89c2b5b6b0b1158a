"""A run as metrics that Prometheus' node_exporter reads from a file (its collector `textfile`). Pure.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/, the text-based one, version 0.0.4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: Name after ``coco_diy_``, and help; all are gauges with the label ``target``.
_METRICS = {
    "last_run_timestamp_seconds": "When the last run ended, in seconds since 1970.",
    "last_success_timestamp_seconds": "When the last run ended that was done or had nothing to do (exit code 0 or 3).",
    "exit_code": "Exit code of the last run: 0 done or nothing to do, 3 done but for what was skipped.",
    "duration_seconds": "How long the last run took.",
    "images": "Images of the subset.",
    "objects": "Objects of the subset.",
    "files_written": "Files that the last run wrote or copied at the target.",
    "files_deleted": "Files that the last run deleted at the target.",
    "written_bytes": "Bytes of the files that the last run wrote or copied at the target.",
    "skipped_rows": "Rows, label files and images that the last run left out because they are bad (on_error: skip).",
}

#: What stays as it was after a run that failed, for such a run says nothing of it.
_STAY = ("last_success_timestamp_seconds", "images", "objects")

#: What a file of metrics has.
METRIC = rb"^# HELP coco_diy_"

_LINE = re.compile(r'^coco_diy_(\w+)\{target="((?:[^"\\]|\\.)*)"\} (\S+)$', re.MULTILINE)


def metrics_text(
    target: str, code: int, report: Mapping[str, Any] | None, *, ended: float, seconds: float, before: str = ""
) -> str:
    """The metrics of a run of `target` that came to the exit code `code`, `ended` in seconds since 1970.

    `report` is what a build found, None where it failed; `before` is what was written of the run before, of which
    what a failed run says nothing of stays, if it was of the same target. A run that ended before its target was known
    is of the one that was known then.
    """
    found = _LINE.findall(before)
    label = _escaped(target) if target else next((known for _, known, _ in found), "")
    old = {name: value for name, known, value in found if known == label}
    values: dict[str, float | str] = {name: old[name] for name in _STAY if name in old}
    values |= {"last_run_timestamp_seconds": round(ended, 3), "exit_code": code, "duration_seconds": round(seconds, 3)}
    values |= _counts(report)
    if report is not None:
        values["last_success_timestamp_seconds"] = round(ended, 3)
    lines = []
    for name, help_text in _METRICS.items():
        if name in values:
            full = f"coco_diy_{name}"
            lines += [
                f"# HELP {full} {help_text}",
                f"# TYPE {full} gauge",
                f'{full}{{target="{label}"}} {values[name]}',
            ]
    return "\n".join([*lines, ""])


def _counts(report: Mapping[str, Any] | None) -> dict[str, float | str]:
    """Files, images and objects by a build's report; nothing of a run that failed."""
    if report is None:
        return {}
    splits, plan = report.get("subset", {}).values(), report.get("plan", {})
    made = [kind for action in ("write", "copy") for kind in plan.get(action, {}).values()]
    return {
        "images": sum(split["images"] for split in splits),
        "objects": sum(sum(split["objects"].values()) for split in splits),
        "files_written": sum(kind["files"] for kind in made),
        "files_deleted": sum(kind["files"] for kind in plan.get("delete", {}).values()),
        "written_bytes": sum(kind["bytes"] for kind in made),
        "skipped_rows": sum(report.get("left_out", {}).get("counts", {}).values()),
    }


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
