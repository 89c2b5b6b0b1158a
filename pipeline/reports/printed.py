"""What a report is printed as: each command has its text."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pipeline.reports import class_table, text

_TEXTS: dict[str, Callable[[Any], str]] = {
    "build": text.build_text,
    "plan": text.plan_text,
    "index": text.index_text,
    "fetch": text.fetch_text,
    "stats": class_table.stats_text,
    "verify": text.verify_text,
    "diff": text.diff_text,
    "status": text.status_text,
    "init": text.init_text,
}


def printed(data: dict[str, Any]) -> str:
    """The data of a report as its command prints it; of a command without a text of its own as JSON."""
    shown = _TEXTS.get(data.get("command", ""))
    return shown(data) if shown is not None else json.dumps(data, indent=2, ensure_ascii=False, default=str)
