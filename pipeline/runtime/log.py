"""What a run reports beside its result and its warnings: retries, waits, connections opened again, skipped stages.

The command line shows it on stderr with `-v`; whoever imports the package has it from the logger `coco-diy`.
"""

from __future__ import annotations

import logging
import sys

from pipeline.base.text import printable
from pipeline.runtime.progress import write_line

LOG = logging.getLogger("coco-diy")


class _Lines(logging.Handler):
    """Lines on stderr, as it is when they are written."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one; like all of `logging`, a stream that takes none ends no run."""
        try:
            write_line(sys.stderr, printable(f"coco-diy: {record.getMessage()}"))
        except Exception:  # noqa: BLE001 - see above
            self.handleError(record)


def show_log(level: int) -> None:
    """Show what is logged from `level` on (of `logging`) on this process's stderr."""
    if not any(isinstance(handler, _Lines) for handler in LOG.handlers):
        LOG.addHandler(_Lines())
    LOG.setLevel(level)
