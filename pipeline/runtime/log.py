"""What a run reports beside its result and its warnings: retries, waits, connections opened again, skipped stages.

The command line shows it on stderr with `-v`, and writes it to the file of `--log-file` with the warnings and errors;
whoever imports the package has it from the logger `coco-diy`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import stat
import sys
from dataclasses import dataclass

from pipeline.base.errors import ConfigError
from pipeline.base.redaction import redact
from pipeline.base.text import printable, printable_json
from pipeline.runtime.progress import write_line
from pipeline.runtime.run import stamp_of

LOG = logging.getLogger("coco-diy")

#: Lines of a log file that stderr has in another form.
_FILE_ONLY = logging.getLogger("coco-diy.file")
_FILE_ONLY.propagate = False


class _Lines(logging.Handler):
    """Lines on stderr, as it is when they are written."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one; like all of `logging`, a stream that takes none ends no run."""
        try:
            write_line(sys.stderr, printable(f"coco-diy: {record.getMessage()}"))
        except Exception:  # noqa: BLE001 - see above
            self.handleError(record)


@dataclass(frozen=True)
class LogFile:
    """A file that lines are appended to: its path, whether a line is text or JSON, and the run that they are of."""

    path: str
    form: str
    run: str


class _File(logging.handlers.WatchedFileHandler):
    """Appends lines to a log file, also to a new one of its name where that was rotated. UTF-8.

    `first` is a line that is written before any other, together with that.
    """

    def __init__(self, target: LogFile, first: str | None) -> None:
        self.made = not os.path.exists(target.path)
        super().__init__(target.path, encoding="utf-8", errors="backslashreplace")
        self.target = target
        self._first = LOG.makeRecord(LOG.name, logging.INFO, "", 0, first, (), None) if first is not None else None
        self._refused = False

    def emit(self, record: logging.LogRecord) -> None:
        """Append a line."""
        if self._first is not None:
            first, self._first, self.made = self._first, None, False
            super().emit(first)
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """One line: time (UTC), run, level and message."""
        stamp = stamp_of(record.created)
        message = redact(record.getMessage())
        if self.target.form == "json":
            line = {"time": stamp, "run": self.target.run, "level": record.levelname.lower(), "message": message}
            return printable_json(json.dumps(line, ensure_ascii=False))
        return f"{stamp} {self.target.run} {record.levelname.lower()} {printable(message)}"

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - the base's name
        """No run ends because its log takes no line (a full disk); it is said once."""
        if not self._refused:
            self._refused = True
            reason = getattr(sys.exc_info()[1], "strerror", None) or "it takes no line"
            write_line(sys.stderr, printable(f"coco-diy: --log-file {self.target.path}: cannot be written ({reason})"))


def show_log(level: int) -> None:
    """Show what is logged from `level` on (of `logging`) on this process's stderr."""
    shown = next((handler for handler in LOG.handlers if isinstance(handler, _Lines)), None)
    if shown is None:
        shown = _Lines()
        LOG.addHandler(shown)
    shown.setLevel(level)
    LOG.setLevel(min(level, logging.INFO) if log_file() else level)


def log_to(target: LogFile, first: str | None = None) -> None:
    """Append what is logged, from INFO on, to a file too, after the line `first`.

    Raises `ConfigError` where it cannot be opened, or has a second name: that may be a file of somebody's.
    """
    try:
        handler = _File(target, first)
    except OSError as error:
        raise ConfigError(f"--log-file {target.path}: cannot be written ({error.strerror}); name another") from None
    assert handler.stream is not None
    status = os.fstat(handler.stream.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        handler.close()
        raise ConfigError(f"--log-file {target.path}: is a hard link, and its other name is written to; name another")
    end_log_file()
    LOG.addHandler(handler)
    _FILE_ONLY.addHandler(handler)
    for logger in (LOG, _FILE_ONLY):
        logger.setLevel(logging.INFO)


def end_log_file() -> None:
    """Write to no log file any more."""
    for handler in [h for h in LOG.handlers if isinstance(h, _File)]:
        LOG.removeHandler(handler)
        _FILE_ONLY.removeHandler(handler)
        with contextlib.suppress(OSError):  # lines that it never took: that was said
            handler.close()


def withdraw_log_file() -> str | None:
    """Write to no log file any more; returns where one was made that has nothing, which is to be deleted."""
    made = next((h.target.path for h in LOG.handlers if isinstance(h, _File) and h.made), None)
    end_log_file()
    return made


def note(level: int, text: str) -> None:
    """Write a line to the log file, where there is one: what stderr or stdout has in another form."""
    if log_file() is not None:
        _FILE_ONLY.log(level, "%s", text)


def log_file() -> LogFile | None:
    """Where lines are appended to; None where nobody asked for it."""
    return next((handler.target for handler in LOG.handlers if isinstance(handler, _File)), None)


def shown_level() -> int:
    """From what level on lines are shown on stderr; 0 where none are."""
    return next((handler.level for handler in LOG.handlers if isinstance(handler, _Lines)), 0)
