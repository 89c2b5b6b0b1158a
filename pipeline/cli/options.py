"""Options that commands share, and the config that an argument is."""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pipeline.base.errors import ConfigError, UsageError
from pipeline.base.humanize import duration
from pipeline.base.version import __version__
from pipeline.cli.output import say
from pipeline.runtime.log import show_log
from pipeline.runtime.run import running

if TYPE_CHECKING:
    from pipeline.config.model import Config


def _show_log(_context: click.Context, _option: click.Parameter, verbose: bool) -> bool:
    if verbose:
        show_log(logging.INFO)
    return verbose


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A time as ``10m``, ``26h`` or ``1h30m``, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds of what was written."""
        try:
            return duration(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time; write it as 90s, 10m, 26h or 2d", param, ctx)


def _change_folder(context: click.Context, _option: click.Parameter, folder: str | None) -> None:
    """Run as if started in `folder`; whoever runs a command within a program of his own is back there afterwards."""
    if folder is None or context.resilient_parsing:
        return
    before = os.getcwd()
    try:
        os.chdir(os.path.expanduser(folder))
    except OSError as error:
        raise UsageError(f"-C {folder}: is no folder to run in ({error.strerror}); correct its path") from None
    context.call_on_close(functools.partial(os.chdir, before))


def _log_to(context: click.Context, _option: click.Parameter, path: str | None) -> None:
    if path is None or context.resilient_parsing:
        return
    from pipeline.job.outputs import note_output
    from pipeline.runtime.log_file import LINE, LogFile, log_to

    (path,) = note_output("--log-file", path, LINE)
    with running() as run:
        # With the next line: what reads a source checks first that this file is not part of it.
        begins = f"{context.info_name} begins: coco-diy {__version__}, process {os.getpid()}"
        log_to(LogFile(path, context.params.get("log_format") or "text", run.id), begins)


def _watch(kind: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    """The callback of an option that names who watches the run: a class of `job.monitors`."""

    def attach(context: click.Context, _option: click.Parameter, value: str | None) -> None:
        if value is not None and not context.resilient_parsing:
            from pipeline.job import monitors

            with running() as run:
                run.attach(getattr(monitors, kind)(value))

    return attach


folder_option = click.option(
    "-C",
    "folder",
    metavar="DIR",
    is_eager=True,
    expose_value=False,
    callback=_change_folder,
    help="run as if started in DIR",
)

verbose_option = click.option(
    "-v", "--verbose", is_flag=True, callback=_show_log, help="retries, waits, skipped stages; tracebacks"
)


json_option = click.option("--json", "as_json", is_flag=True, help="the result on stdout as one JSON document")


def common_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` the options that every command has, as its argument `common`."""
    options = [
        click.option("--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="override a key (YAML)"),
        click.option(
            "--scheduler",
            metavar="NAME",
            help="auto, sync, threads, processes, tcp://host:port, a scheduler file or file://QUEUE",
        ),
        click.option("--workers", type=click.IntRange(min=1), metavar="N", help="threads or processes"),
        click.option("--performance-report", metavar="FILE", help="what a Dask scheduler saw of the run, as HTML"),
        json_option,
        verbose_option,
        click.option("-q", "--quiet", is_flag=True, help="errors, what failed, and what is lost; nothing else"),
        folder_option,
        click.option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            is_eager=True,
            help="of a line of the log file",
        ),
        click.option(
            "--log-file",
            metavar="FILE",
            expose_value=False,
            callback=_log_to,
            help="append what happens to FILE, retries and waits too",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


ping_option = click.option(
    "--ping",
    metavar="URL",
    envvar="COCO_DIY_PING",
    expose_value=False,
    callback=_watch("Ping"),
    help="notify a monitor of begin and end, as healthchecks.io has it; or COCO_DIY_PING",
)

metrics_option = click.option(
    "--metrics",
    metavar="FILE.prom",
    expose_value=False,
    callback=_watch("MetricsFile"),
    help="write metrics for Prometheus' node_exporter",
)

max_delete_option = click.option(
    "--max-delete", metavar="10%|N|none", help="stop before more files of the target are lost (target.max_delete)"
)


report_option = click.option(
    "--report", is_flag=True, help="leave the page of `coco-diy report` and a sheet in .coco-diy (target.report)"
)


def cache_folder() -> str:
    """Where commands without a config keep their indexes."""
    from pipeline.storage import user_folder

    return user_folder("cache")


def overrides_of(common: dict[str, Any]) -> list[str]:
    """The overrides of a config that the common options are, each ``key.path=value``."""
    found = list(common["overrides"])
    if common["scheduler"]:
        found.append(f"engine.scheduler={json.dumps(common['scheduler'])}")
    if common["workers"]:
        found.append(f"engine.workers={common['workers']}")
    if common.get("performance_report"):
        found.append(f"engine.performance_report={json.dumps(common['performance_report'])}")
    if common.get("max_delete") is not None:
        found.append(f"target.max_delete={json.dumps(common['max_delete'])}")
    if common.get("report"):
        found.append("target.report=true")
    return found


def engine_of(common: dict[str, Any]) -> dict[str, Any]:
    """What the common options say of the engine, for what has no config."""
    return {name: common[name] for name in ("scheduler", "workers") if common[name]}


def config_at(path: str, common: dict[str, Any]) -> Config:
    """The config in the file `path`, with the overrides of the common options; with what conf/local beside it says."""
    from pipeline.config.load import load_config
    from pipeline.job.config_file import config_file

    if passed_over := click.get_current_context().with_resource(config_file(path)):
        say(f"warning: {passed_over}")
    return load_config(path, overrides_of(common))


def dataset_of(what: str, common: dict[str, Any]) -> Config | None:
    """The config that reads the dataset in the folder `what`; None where that is a target, which has a manifest."""
    from pipeline.config.load import apply_overrides, validate
    from pipeline.job.conversion import FOLDER_OPTIONS, dataset, is_target

    if is_target(what):
        return None
    overrides = overrides_of(common)
    data = apply_overrides(dataset(what, cache_folder()), overrides)
    return validate(data, what, None, overrides, options=FOLDER_OPTIONS)


def config_of(what: str, common: dict[str, Any]) -> Config | None:
    """The config that `what` is; None for a target or a dataset, of which nothing can be set."""
    if os.path.isfile(what):
        from pipeline.config.load import is_config

        if is_config(what):
            return config_at(what, common)
    if common["overrides"]:
        raise ConfigError(f"--set {common['overrides'][0]}: sets a key of a config, but {what} is not a config")
    return None
