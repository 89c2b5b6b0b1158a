"""The result of a command: plain data, warnings, and whether it went well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import INCOMPLETE, UnavailableError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(repr=False)
class Report:
    """What a command found or did; `data` is what `--json` prints.

    `ok` is False where something failed or, with `incomplete`, where all was done but for what was skipped; with
    `later` the same run may do what failed, as where a store did not answer. `once` are those of the `warnings` that
    say what this very run takes away or moves, `grave` those about a whole class or split that is lacking: quiet or
    not, they are said. `problems` is the table (`schema.problems`) of what was left out, where anything was. Printed,
    it says what the command does.
    """

    data: dict[str, Any]
    ok: bool = True
    warnings: list[str] = field(default_factory=list)
    problems: pa.Table | None = None
    incomplete: bool = False
    later: bool = False
    once: list[str] = field(default_factory=list)
    grave: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """What a process ends with, see `errors`."""
        failed = UnavailableError.exit_code if self.later else 1
        return 0 if self.ok else INCOMPLETE if self.incomplete else failed

    def __str__(self) -> str:
        from pipeline.reports.printed import printed

        return "\n".join([*(f"warning: {warning}" for warning in self.warnings), printed(self.data)])

    def __repr__(self) -> str:
        return f"<Report of {self.data.get('command')}: exit code {self.exit_code}>"

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"

    def warn_once(self, warnings: Sequence[str]) -> None:
        """Add `warnings` of this very run."""
        self.warnings += warnings
        self.once += warnings

    def warn_gravely(self, warnings: Sequence[str]) -> None:
        """Add `warnings` of a class or split that is lacking."""
        self.warnings += warnings
        self.grave += warnings
