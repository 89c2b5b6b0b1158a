"""What commands print."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import click

from pipeline.base.errors import StorageError
from pipeline.base.text import printable, printable_json
from pipeline.runtime.log import note
from pipeline.runtime.run import running

if TYPE_CHECKING:
    from pipeline.reports.documents import Failures
    from pipeline.reports.report import Report
    from pipeline.runtime.progress import Progress


def progress_of(common: dict[str, Any]) -> Progress:
    """The progress of a run, on stderr."""
    from pipeline.runtime.progress import Progress

    return Progress(sys.stderr, quiet=common["quiet"])


def put_report(report: Report, common: dict[str, Any], text: Callable[[Any], str], *, code: int | None = None) -> None:
    """Print what a command found or did, and end the process with its exit code, or `code`, where that is not 0."""
    quiet = common["quiet"]
    shown = [*report.grave, *report.once] if quiet and report.ok else report.warnings
    for warning in report.warnings:
        if warning in shown:
            say(f"warning: {warning}")
        else:
            note(logging.WARNING, warning)
    code = report.exit_code if code is None else code
    with running() as run:
        run.code = report.exit_code
        run.outcome = run.outcome or report.data
        facts = {"warnings": report.warnings, "ok": report.ok, "exit_code": code, "run": run.facts()}
    if common["as_json"]:
        put(printable_json(report.data | facts, sys.stdout.encoding))
    elif not quiet:
        put(text(report.data))
    elif not report.ok:
        from pipeline.reports.text import failure_text

        if lines := failure_text(cast("Failures", report.data)):
            click.echo("\n".join(map(printable, lines.split("\n"))), err=True)
    if code:
        sys.exit(code)


def say(sentence: str) -> None:
    """Put one line on stderr, and into the log file; whatever is quoted in it is no more than text there."""
    note(logging.WARNING if sentence.startswith("warning: ") else logging.ERROR, sentence.partition(": ")[2])
    click.echo(printable(sentence), err=True)


def remark(sentence: str, common: dict[str, Any]) -> None:
    """Put a line on stderr that is no warning: with ``--quiet`` it goes into the log file alone."""
    note(logging.INFO, sentence)
    if not common["quiet"]:
        click.echo(printable(f"coco-diy: {sentence}"), err=True)


def put(result: str) -> None:
    """Put the result on stdout."""
    _put(printable(result, lines=True))


def put_bytes(result: bytes) -> None:
    """Put a picture on stdout."""
    _put(result, nl=False)


def _put(result: str | bytes, *, nl: bool = True) -> None:
    try:
        click.echo(result, nl=nl)
    except BrokenPipeError:  # who read it wanted no more
        raise
    except OSError as error:
        sentence = f"stdout: the result cannot be written ({error.strerror}); the command itself is done"
        raise StorageError(sentence) from None
