"""The result of a command: plain data, warnings, and whether it went well."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Report:
    """What a command found or did; `data` is what `--json` prints. `ok` is False where the exit code must be 1.

    `problems` is the table (`schema.problems`) of what was left out, where anything was.
    """

    data: dict[str, Any]
    ok: bool = True
    warnings: list[str] = field(default_factory=list)
    problems: pa.Table | None = None
