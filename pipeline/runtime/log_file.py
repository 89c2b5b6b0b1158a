"""The file of `--log-file`: what is logged, with warnings and errors, a line each."""

from __future__ import annotations

import logging.handlers
import os
import stat
import sys
from dataclasses import dataclass

from pipeline.base.errors import ConfigError
from pipeline.base.redaction import redact
from pipeline.base.text import printable, printable_json
from pipeline.runtime.log import FILE_ONLY, LOG, end_log_file
from pipeline.runtime.progress import write_line
from pipeline.runtime.run import stamp_of

#: What a line of a log file begins with, in either form.
LINE = rb'^(\d{4}-\d\d-\d\dT[\d:.]+Z \S+ [a-z]+ |{"time": "\d{4}-\d\d-\d\dT[\d:.]+Z", "run": )'


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
            return printable_json(line)
        return f"{stamp} {self.target.run} {record.levelname.lower()} {printable(message)}"

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - the base's name
        """No run ends because its log takes no line (a full disk); it is said once."""
        if not self._refused:
            self._refused = True
            reason = getattr(sys.exc_info()[1], "strerror", None) or "it takes no line"
            write_line(sys.stderr, printable(f"coco-diy: --log-file {self.target.path}: cannot be written ({reason})"))


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
    FILE_ONLY.addHandler(handler)
    for logger in (LOG, FILE_ONLY):
        logger.setLevel(logging.INFO)


def log_file() -> LogFile | None:
    """Where lines are appended to; None where nobody asked for it."""
    return next((handler.target for handler in FILE_ONLY.handlers if isinstance(handler, _File)), None)


def withdraw_log_file() -> str | None:
    """Write to no log file any more; returns where one was made that has nothing, which is to be deleted."""
    made = next((h.target.path for h in FILE_ONLY.handlers if isinstance(h, _File) and h.made), None)
    end_log_file()
    return made
