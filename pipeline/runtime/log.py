"""What a run reports beside its result and its warnings: retries, waits, connections opened again, skipped stages.

The command line shows it on stderr with `-v`, and writes it to the file of `--log-file` with the warnings and errors;
whoever imports the package has it from the logger `coco-diy`.
"""

from __future__ import annotations

import contextlib
import logging
import sys

from pipeline.base.text import printable
from pipeline.runtime.progress import write_line

LOG = logging.getLogger("coco-diy")

#: Lines of a log file that stderr has in another form; it has the handler of that file, see `log_file`, and no other.
FILE_ONLY = logging.getLogger("coco-diy.file")
FILE_ONLY.propagate = False


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
    shown = next((handler for handler in LOG.handlers if isinstance(handler, _Lines)), None)
    if shown is None:
        shown = _Lines()
        LOG.addHandler(shown)
    shown.setLevel(level)
    LOG.setLevel(min(level, logging.INFO) if FILE_ONLY.handlers else level)


def end_log_file() -> None:
    """Write to no log file any more."""
    for handler in list(FILE_ONLY.handlers):
        LOG.removeHandler(handler)
        FILE_ONLY.removeHandler(handler)
        with contextlib.suppress(OSError):  # lines that it never took: that was said
            handler.close()


def note(level: int, text: str) -> None:
    """Write a line to the log file, where there is one: what stderr or stdout has in another form."""
    if FILE_ONLY.handlers:
        FILE_ONLY.log(level, "%s", text)


def shown_level() -> int:
    """From what level on lines are shown on stderr; 0 where none are."""
    return next((handler.level for handler in LOG.handlers if isinstance(handler, _Lines)), 0)
