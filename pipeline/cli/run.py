"""A command run: exceptions become a sentence and an exit code here, and nowhere else."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import sys
import traceback

import click

from pipeline.base.errors import CocoDiyError, ConfigError, Interrupted, UsageError
from pipeline.base.redaction import redact
from pipeline.base.text import printable_json
from pipeline.cli.commands import cli
from pipeline.cli.output import say
from pipeline.runtime.interrupt import STOP, STOPPED, failure, forget_signal, note_signal, on_stop, unbound_stop
from pipeline.runtime.log import end_log_file, note, show_log
from pipeline.runtime.run import running


def _stop(number: int, _frame: object) -> None:
    # The flag first: an exception alone can fall into a callback of the interpreter's own and be lost there.
    note_signal(number)
    raise KeyboardInterrupt


def _main(arguments: list[str] | None) -> None:
    """Run a command; what the machine lacks is a sentence, wherever it is met."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise ConfigError("the working folder was removed; change to one that is there") from None
    try:
        cli.main(arguments, prog_name="coco-diy", standalone_mode=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        from pipeline.base.os_errors import is_of_machine, storage_error

        if error.errno == errno.EIO and STOP.is_set():  # its terminal closed, and does not take what click says of it
            raise Interrupted(STOPPED) from None
        if is_of_machine(error):
            raise storage_error(error, str(error.filename or "a file"), "used") from None
        raise


def run_cli(arguments: list[str] | None = None) -> int:
    """Run a command; exceptions become a sentence here and nowhere else. Returns the exit code."""
    forget_signal()
    with running() as run:
        code = _exit_code(arguments)
        run.code = code if run.code is None else run.code
        note(logging.INFO, f"ends with exit code {code} ({run.status}) after {run.facts()['seconds']:.1f} s")
        unbound_stop()  # what those who are notified do has a bound of its own
    end_log_file()
    return code


def _exit_code(arguments: list[str] | None) -> int:  # noqa: PLR0911 - one return an exit code
    with contextlib.suppress(ValueError):  # a thread of somebody's may call this too: then signals are theirs
        on_stop(_stop)
    show_log(logging.WARNING)  # until an option says otherwise
    words = sys.argv[1:] if arguments is None else arguments
    try:
        _main(arguments)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        from pipeline.base.os_errors import any_os_error

        return _fail(any_os_error(error), as_json="--json" in words)
    except Exception as error:  # noqa: BLE001 - here every exception becomes text
        expected = isinstance(error, CocoDiyError | click.ClickException | click.Abort)
        if not expected and {"-v", "--verbose"} & set(words):
            click.echo(redact(traceback.format_exc()), err=True)
            if "--json" not in words:
                return 1
        return _fail(error, as_json="--json" in words)
    return 0


def _fail(error: Exception, *, as_json: bool) -> int:
    """Say what ended a command, also as the one JSON document; returns the exit code."""
    if isinstance(error, click.ClickException):
        shown = io.StringIO()
        error.show(shown)
        click.echo(redact(shown.getvalue()), err=True, nl=False)
        facts = UsageError(error.format_message()).facts()
        note(logging.ERROR, facts["error"])
    else:
        facts = failure(error)
        with contextlib.suppress(OSError):  # of a terminal that closed; the log file and the record have it
            say(f"coco-diy: {facts['error']}")
    with running() as run:
        run.code = int(facts["exit_code"])
        run.outcome = run.outcome or facts
        document = facts | {"run": run.facts()}
    if as_json:
        with contextlib.suppress(OSError):
            click.echo(printable_json(document, sys.stdout.encoding))
    return int(facts["exit_code"])
