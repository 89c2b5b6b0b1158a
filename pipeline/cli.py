"""The command line: commands, printing and exit codes; nothing else.

stdout carries the result, stderr everything else. `errors` says what a process ends with.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.errors import CocoDiyError, ConfigError, StorageError, UsageError
from pipeline.redaction import redact
from pipeline.runtime.interrupt import failure, forget_signal, note_signal
from pipeline.text import printable, printable_json
from pipeline.version import __version__

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.reports.report import Report
    from pipeline.runtime.progress import Progress


def _common(command: Callable[..., None]) -> Callable[..., None]:
    options = [
        click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="override a key (YAML)"),
        click.option("--scheduler", metavar="NAME", help="auto, sync, threads, processes or tcp://host:port"),
        click.option("--workers", type=click.IntRange(min=1), metavar="N", help="threads or processes"),
        click.option("--json", "as_json", is_flag=True, help="the result on stdout as one JSON document"),
        click.option("-v", "--verbose", is_flag=True, help="tracebacks for faults of ours"),
        click.option("-q", "--quiet", is_flag=True, help="errors, what failed, and what is lost; nothing else"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


_max_delete = click.option(
    "--max-delete", metavar="10%|N|none", help="stop before more files of the target are lost (target.max_delete)"
)

_EXIT_CODES = """\b
Exit codes:
  0    done, or nothing to do
  1    failed: bad data, files that failed, an internal error
  2    usage or config
  3    done, but rows or files were skipped (on_error: skip)
  4    stopped by the brake: much of the target would be lost
  5    the target or an index is in use by another run
  75   try again later: network, a busy server, no workers
  130  stopped by Ctrl-C (143: by SIGTERM); run again to go on"""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=_EXIT_CODES)
@click.version_option(__version__, prog_name="coco-diy")
def cli() -> None:
    """Turn a big labelled image collection into the exact training set you need."""


@cli.command()
@click.argument("src_coco", type=click.Path())
@click.argument("dst", type=click.Path())
@click.option("--src-yaml", required=True, metavar="YAML", help="class names of the collection")
@click.option("--dst-yaml", required=True, metavar="YAML", help="class names of the subset, in their new order")
@click.option("--task", type=click.Choice(["detect", "segment", "pose"]), help="default: pose or detect")
@click.option("--workdir", metavar="DIR", help="where the index is kept; default: the user's cache folder")
@_max_delete
@_common
def remake(
    src_coco: str, dst: str, src_yaml: str, dst_yaml: str, task: str | None, workdir: str | None, **common: Any
) -> None:
    """Make the subset DST of SRC_COCO (labels/{train2017,val2017}, images/…): the tutorial's four values."""
    from pipeline import storage
    from pipeline.config.class_names import read_names
    from pipeline.config.load import apply_overrides, read_text, validate

    if task is None:
        task = "pose" if read_names(read_text(src_yaml, "class names"), src_yaml).kpt_shape else "detect"
    workdir = workdir or _cache()
    src_coco = os.path.expanduser(src_coco)
    splits = {s: f"{s}2017" for s in ("train", "val") if storage.locate(f"{src_coco}/labels/{s}2017").exists()}
    if not splits:
        raise ConfigError(f"{src_coco}: has no labels/train2017 and no labels/val2017; is it the right folder?")
    data = {
        "source": {"task": task, "names": src_yaml, "root": src_coco, "splits": splits},
        "classes": dst_yaml,
        "target": {"root": dst},
        "workdir": workdir,
    }
    _build(validate(apply_overrides(data, _overrides(common)), "remake", name="remake"), common)


@cli.command()
@click.argument("src", type=click.Path())
@click.argument("dst", type=click.Path())
@click.option("--from", "from_format", required=True, metavar="FORMAT", help="format of SRC: labelme, coco or yolo")
@click.option("--to", "to_format", required=True, metavar="FORMAT", help="format of DST: coco or yolo")
@click.option("--labels", metavar="FILE", help="class names in their order: labels.txt or a YAML; default: sorted")
@click.option("--split", metavar="SHARES", help="assign anew: 0.8 is train, the rest val; or 0.7,0.2,0.1")
@click.option("--seed", type=int, default=0, metavar="N", help="another number, another assignment")
@click.option("--task", type=click.Choice(["detect", "segment", "pose"]), help="default: that of the names, or detect")
@click.option("--workdir", metavar="DIR", help="where the index is kept; default: the user's cache folder")
@_max_delete
@_common
def convert(
    src: str,
    dst: str,
    from_format: str,
    to_format: str,
    labels: str | None,
    split: str | None,
    seed: int,
    task: str | None,
    workdir: str | None,
    **common: Any,
) -> None:
    """Make DST of the folder SRC in another format: a build without a config."""
    from pipeline.config.load import apply_overrides, validate
    from pipeline.job.conversion import conversion

    data = conversion(
        src,
        dst,
        from_format=from_format,
        to_format=to_format,
        task=task,
        names=labels,
        shares=split,
        seed=seed,
        workdir=workdir or _cache(),
    )
    _build(validate(apply_overrides(data, _overrides(common)), "convert", name="convert"), common)


@cli.command()
@click.argument("config", metavar="CONFIG")
@click.option("--break-lock", is_flag=True, help="take the target from a run that is not running any more (stores)")
@_max_delete
@_common
def build(config: str, break_lock: bool, **common: Any) -> None:
    """Make the subset: index, select, plan, apply. A second run does nothing."""
    _build(_load(config, common), common, break_lock=break_lock)


@cli.command()
@click.argument("config", metavar="CONFIG")
@_max_delete
@_common
def plan(config: str, **common: Any) -> None:
    """Say what a build would write, copy, keep and delete; nothing is changed at the target."""
    from pipeline.api import make_plan
    from pipeline.reports.text import plan_text

    _tell(make_plan(_load(config, common), _progress(common)), common, plan_text)


@cli.command()
@click.argument("config", metavar="CONFIG")
@_common
def index(config: str, **common: Any) -> None:
    """Read the label files into the Parquet index; only what changed is read again."""
    from pipeline.api import make_index
    from pipeline.reports.text import index_text

    _tell(make_index(_load(config, common), _progress(common)), common, index_text)


@cli.command()
@click.argument("config", metavar="CONFIG")
@click.argument("names", metavar="[ARCHIVE]...", nargs=-1)
@click.option("--extract", is_flag=True, help="unpack the archives below source.root")
@click.option("--overwrite", is_flag=True, help="with --extract: replace files that are not as in the archives")
@click.option("--remove-archives", is_flag=True, help="with --extract: delete each archive that was unpacked")
@click.option("--clean", is_flag=True, help="delete the images in the workdir that were fetched one by one")
@_common
def fetch(
    config: str,
    names: tuple[str, ...],
    extract: bool,
    overwrite: bool,
    remove_archives: bool,
    clean: bool,
    **common: Any,
) -> None:
    """Get the archives that CONFIG reads, and further ones by name; a fetch that was stopped goes on where it was."""
    from pipeline.reports.report import Report
    from pipeline.reports.text import fetch_text
    from pipeline.stages.fetch import archives

    if remove_archives and not extract:
        raise click.UsageError("--remove-archives needs --extract: otherwise nothing would be left")
    if overwrite and not extract:
        raise click.UsageError("--overwrite needs --extract: a download never replaces a file")
    loaded = _load(config, common)
    told = (
        archives.clean(loaded)
        if clean
        else archives.fetch(
            loaded, _progress(common), names, extract=extract, remove_archives=remove_archives, overwrite=overwrite
        )
    )
    _tell(Report(told, warnings=told.pop("warnings", [])), common, fetch_text)


@cli.command()
@click.argument("what", metavar="CONFIG|TARGET")
@_common
def stats(what: str, **common: Any) -> None:
    """Counts by class and split: of the source of a CONFIG, or of a TARGET that was built."""
    from pipeline.api import source_stats, target_stats
    from pipeline.reports.text import subset_text

    config = _config_of(what, common)
    report = target_stats(what) if config is None else source_stats(config, _progress(common))
    _tell(report, common, subset_text)


@cli.command()
@click.argument("what", metavar="CONFIG|TARGET")
@click.option("--deep", is_flag=True, help="read contents and compare digests")
@click.option("--repair", is_flag=True, help="put right what differs")
@_max_delete
@_common
def verify(what: str, deep: bool, repair: bool, **common: Any) -> None:
    """Compare what is at a target with its manifest: missing, foreign, size, content, class ids."""
    from pipeline import api
    from pipeline.reports.text import verify_text

    config = _config_of(what, common)
    root = config.target.root if config else what
    progress = _progress(common)
    if repair:
        report = api.repair(root, config, progress, deep=deep, max_delete=common["max_delete"])
    else:
        report = api.verify(root, progress, deep=deep)
    _tell(report, common, verify_text)


@cli.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@_common
def diff(first: str, second: str, **common: Any) -> None:
    """Compare two subsets, class by class and file by file: what B has more or less than A."""
    from pipeline.reports.text import diff_text
    from pipeline.stages.verify.diff import diff_targets

    configs = [(what, _config_of(what, common)) for what in (first, second)]
    _tell(diff_targets(*(config.target.root if config else what for what, config in configs)), common, diff_text)


@cli.command()
@click.argument("what", metavar="CONFIG|TARGET")
@_common
def status(what: str, **common: Any) -> None:
    """Tell of the last runs at a target, also those that failed, and whether one is under way or was stopped."""
    from pipeline.reports.text import status_text
    from pipeline.stages.verify.status import last_run

    config = _config_of(what, common)
    _tell(last_run(config.target.root, config.workdir) if config else last_run(what), common, status_text)


@cli.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="replace a file that is there")
def init(name: str, force: bool) -> None:
    """Copy the ready config NAME (and the class names it needs) to conf/; without a match, tell which there are."""
    from pipeline.config.templates import copy_ready

    for path, written in copy_ready(name, force=force):
        _print(f"{path}{'' if written else ' (is there already)'}")


@cli.command()
def schema() -> None:
    """Print the JSON Schema of the config, for editors."""
    from pipeline.config.model import Config

    _print(json.dumps(Config.model_json_schema(), indent=2))


def _cache() -> str:
    """Where commands without a config keep their indexes."""
    import platformdirs

    return platformdirs.user_cache_dir("coco-diy", appauthor=False)


def _overrides(common: dict[str, Any]) -> list[str]:
    found = list(common["overrides"])
    if common["scheduler"]:
        found.append(f"engine.scheduler={json.dumps(common['scheduler'])}")
    if common["workers"]:
        found.append(f"engine.workers={common['workers']}")
    if common.get("max_delete") is not None:
        found.append(f"target.max_delete={json.dumps(common['max_delete'])}")
    return found


def _load(path: str, common: dict[str, Any]) -> Config:
    from pipeline.config.load import load_config
    from pipeline.storage import options_beside

    if not Path(path).is_file():
        raise ConfigError(f"{path}: no such config file; `coco-diy init NAME` makes one to start from")
    if passed_over := click.get_current_context().with_resource(options_beside(path)):
        click.echo(f"warning: {passed_over}", err=True)
    return load_config(path, _overrides(common))


def _config_of(what: str, common: dict[str, Any]) -> Config | None:
    """The config that `what` is; None for a target, of which nothing can be set."""
    if os.path.isfile(what) and os.path.basename(what) != "manifest.json":
        return _load(what, common)
    if common["overrides"]:
        raise ConfigError(f"--set {common['overrides'][0]}: sets a key of a config, but {what} is none")
    return None


def _progress(common: dict[str, Any]) -> Progress:
    from pipeline.runtime.progress import Progress

    return Progress(sys.stderr, quiet=common["quiet"])


def _build(config: Config, common: dict[str, Any], *, break_lock: bool = False) -> None:
    from pipeline.api import build as build_subset
    from pipeline.reports.text import build_text

    _tell(build_subset(config, _progress(common), break_lock=break_lock), common, build_text)


def _tell(report: Report, common: dict[str, Any], text: Callable[[dict[str, Any]], str]) -> None:
    """Print what a command found or did, and end the process with its exit code where that is not 0."""
    quiet = common["quiet"]
    for warning in [*report.grave, *report.once] if quiet and report.ok else report.warnings:
        _say(f"warning: {warning}")
    if common["as_json"]:
        facts = {"warnings": report.warnings, "ok": report.ok, "exit_code": report.exit_code}
        _print(printable_json(json.dumps(report.data | facts, ensure_ascii=False)))
    elif not quiet:
        _print(text(report.data))
    elif not report.ok:
        from pipeline.reports.text import failure_text

        if lines := failure_text(report.data):
            click.echo("\n".join(map(printable, lines.split("\n"))), err=True)
    if report.exit_code:
        sys.exit(report.exit_code)


def _say(sentence: str) -> None:
    """Put one line on stderr; whatever is quoted in it is no more than text there."""
    click.echo(printable(sentence), err=True)


def _print(result: str) -> None:
    """Put the result on stdout."""
    try:
        click.echo(printable(result, lines=True))
    except BrokenPipeError:  # who read it wanted no more
        raise
    except OSError as error:
        told = f"stdout: the result cannot be written ({error.strerror}); what it tells of is done"
        raise StorageError(told) from None


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
    except MemoryError:
        raise StorageError("memory is used up; set engine.workers to fewer, or index.buckets to more") from None
    except OSError as error:
        from pipeline.storage import is_of_machine, storage_error

        if is_of_machine(error):
            raise storage_error(error, str(error.filename or "a file"), "used") from None
        raise


def run_cli(arguments: list[str] | None = None) -> int:  # noqa: PLR0911 - one return an exit code
    """Run a command; the one place where exceptions become a sentence. Returns the exit code."""
    forget_signal()
    with contextlib.suppress(ValueError):  # a thread of somebody's may call this too: then signals are theirs
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)
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
        from pipeline.storage.os_errors import any_os_error

        return _fail(any_os_error(error), as_json="--json" in words)
    except Exception as error:  # noqa: BLE001 - here every exception becomes text
        told = isinstance(error, CocoDiyError | click.ClickException | click.Abort)
        if not told and {"-v", "--verbose"} & set(words):
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
    else:
        facts = failure(error)
        _say(f"coco-diy: {facts['error']}")
    if as_json:
        with contextlib.suppress(OSError):
            click.echo(printable_json(json.dumps(facts, ensure_ascii=False)))
    return int(facts["exit_code"])
