"""The commands, in order of use: each reads its arguments, has its work done, and prints what came of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from pipeline.base.errors import BrakeError, ConfigError
from pipeline.base.humanize import plural
from pipeline.base.version import __version__
from pipeline.cli.help import EPILOG, Commands, Name, ready_configs, sources, targets
from pipeline.cli.options import (
    Duration,
    cache_folder,
    common_options,
    config_at,
    config_of,
    dataset_of,
    engine_of,
    folder_option,
    json_option,
    max_delete_option,
    metrics_option,
    overrides_of,
    ping_option,
    report_option,
    verbose_option,
)
from pipeline.cli.output import progress_of, put, put_report, remark

if TYPE_CHECKING:
    from pipeline.config.model import Config


#: What `plan --exit-code` ends with where a build would change something.
_CHANGES = 10


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=EPILOG
)
@click.version_option(__version__, prog_name="coco-diy")
@folder_option
def cli() -> None:
    """Turn a big labelled image collection into the exact training set you need."""


@cli.command()
@click.argument("src", type=click.Path())
@click.argument("dst", type=click.Path())
@click.option("--src-yaml", metavar="YAML", help="class names of the collection; default: its data.yaml")
@click.option("--dst-yaml", required=True, metavar="YAML", help="class names of the subset, in their new order")
@click.option("--task", type=click.Choice(["detect", "segment", "pose", "obb"]), help="default: pose or detect")
@click.option("--workdir", metavar="DIR", help="folder of the index; default: the user's cache folder")
@max_delete_option
@metrics_option
@ping_option
@common_options
def remake(
    src: str, dst: str, src_yaml: str | None, dst_yaml: str, task: str | None, workdir: str | None, **common: Any
) -> None:
    """Make a subset from two names YAMLs.

    SRC is a folder with labels/train2017, images/train2017 and so on, or as another tool lays them out; DST gets the
    classes of --dst-yaml, in their order.
    """
    from pipeline.config.load import apply_overrides, validate
    from pipeline.job.conversion import REMAKE_OPTIONS, conversion

    workdir = workdir or cache_folder()
    data = conversion(
        src,
        dst,
        from_format="yolo",
        to_format="yolo",
        task=task,
        names=src_yaml,
        workdir=workdir,
        names_option="--src-yaml",
    )
    data |= {"classes": dst_yaml, "select": {}}  # a subset is of images with an object of its classes
    overrides = overrides_of(common)
    data = apply_overrides(data, overrides)
    _build(validate(data, "remake", None, overrides, name="remake", options=REMAKE_OPTIONS), common)


@cli.command()
@click.argument("src", type=click.Path())
@click.argument("dst", type=click.Path())
@click.option("--from", "from_format", type=Name(sources), help="format of SRC; default: the one that fits it")
@click.option("--to", "to_format", type=Name(targets), required=True, help="format of DST")
@click.option("--labels", metavar="FILE", help="class names in their order: labels.txt or a YAML; default: sorted")
@click.option("--split", metavar="SHARES", help="assign anew: 0.8 is train, the rest val; or 0.7,0.2,0.1")
@click.option("--seed", type=int, default=0, metavar="N", help="another number, another assignment")
@click.option(
    "--task", type=click.Choice(["detect", "segment", "pose", "obb"]), help="default: that of the names, or detect"
)
@click.option("--workdir", metavar="DIR", help="folder of the index; default: the user's cache folder")
@max_delete_option
@metrics_option
@ping_option
@common_options
def convert(
    src: str,
    dst: str,
    from_format: str | None,
    to_format: str,
    labels: str | None,
    split: str | None,
    seed: int,
    task: str | None,
    workdir: str | None,
    **common: Any,
) -> None:
    """Make another format of a dataset folder.

    SRC is a folder as labelme, ISAT, VOC, DOTA, Ultralytics, Roboflow, CVAT or Label Studio leave it, or a file of COCO
    JSON, NDJSON, Label Studio's JSON or CVAT's XML; DST is new.
    """
    from pipeline.config.load import apply_overrides, validate
    from pipeline.job.conversion import CONVERT_OPTIONS, conversion, fitting_format

    if from_format is None:
        from_format = fitting_format(src, workdir or cache_folder())
        remark(f"{src}: is read as format {from_format}; if it is another, name that with --from", common)
    data = conversion(
        src,
        dst,
        from_format=from_format,
        to_format=to_format,
        task=task,
        names=labels,
        shares=split,
        seed=seed,
        workdir=workdir or cache_folder(),
    )
    overrides = overrides_of(common)
    data = apply_overrides(data, overrides)
    _build(validate(data, "convert", None, overrides, name="convert", options=CONVERT_OPTIONS), common)


@cli.command()
@click.argument("config", metavar="CONFIG", type=click.Path())
@click.option("--break-lock", is_flag=True, help="take the target from a run that is not running any more (stores)")
@click.option("--wait-lock", type=Duration(), default=0.0, metavar="10m", help="wait so long for what is in use")
@click.option("--unchanged-exit", type=click.IntRange(0, 255), metavar="N", help="exit code where nothing was to do")
@report_option
@max_delete_option
@metrics_option
@ping_option
@common_options
def build(config: str, break_lock: bool, wait_lock: float, unchanged_exit: int | None, **common: Any) -> None:
    """Make the subset; a second run does nothing.

    It indexes, selects, plans and applies; what was stopped goes on when it is run again.
    """
    try:
        found = config_at(config, common)
    except ConfigError as error:
        from pipeline.api import record_refusal

        record_refusal(config, overrides_of(common), error)
        raise
    _build(found, common, break_lock=break_lock, wait_lock=wait_lock, unchanged_exit=unchanged_exit)


@cli.command()
@click.argument("config", metavar="CONFIG", type=click.Path())
@click.option("--exit-code", is_flag=True, help="end with 10 where a build would change anything, with 4 if braked")
@max_delete_option
@common_options
def plan(config: str, exit_code: bool, **common: Any) -> None:
    """Say what a build would do; nothing is changed.

    Counts by class and split, and the files that would be written, copied, kept and deleted.
    """
    from pipeline.api import make_plan
    from pipeline.reports.text import plan_text

    report = make_plan(config_at(config, common), progress_of(common))
    code = BrakeError.exit_code if report.data["brake"] else _CHANGES if report.data["changes"] else 0
    put_report(report, common, plan_text, code=code if exit_code and report.ok else None)


@cli.command()
@click.argument("config", metavar="CONFIG", type=click.Path())
@common_options
def index(config: str, **common: Any) -> None:
    """Read the label files into the index, and count.

    The index is Parquet in the workdir; only what changed is read again.
    """
    from pipeline.api import make_index
    from pipeline.reports.text import index_text

    put_report(make_index(config_at(config, common), progress_of(common)), common, index_text)


@cli.command()
@click.argument("config", metavar="CONFIG", type=click.Path())
@click.argument("names", metavar="[ARCHIVE]...", nargs=-1)
@click.option("--extract", is_flag=True, help="unpack the archives below source.root")
@click.option("--into", metavar="DIR", help="unpack them below DIR: labels/…, images/…")
@click.option("--overwrite", is_flag=True, help="with --extract: replace files that are not as in the archives")
@click.option("--remove-archives", is_flag=True, help="with --extract: delete each archive that was unpacked")
@click.option("--clean", is_flag=True, help="delete the images in the workdir that were fetched one by one")
@ping_option
@common_options
def fetch(
    config: str,
    names: tuple[str, ...],
    extract: bool,
    into: str | None,
    overwrite: bool,
    remove_archives: bool,
    clean: bool,
    **common: Any,
) -> None:
    """Get the archives that a config reads.

    With names of fetch.archives: those alone. A fetch that was stopped goes on where it was.
    """
    from pipeline import api
    from pipeline.reports.text import fetch_text

    extract = extract or into is not None
    if remove_archives and not extract:
        raise click.UsageError("--remove-archives needs --extract: otherwise nothing would be left")
    if overwrite and not extract:
        raise click.UsageError("--overwrite needs --extract: a download never replaces a file")
    report = api.fetch(
        config_at(config, common),
        progress_of(common),
        names,
        extract=extract,
        into=into,
        remove_archives=remove_archives,
        overwrite=overwrite,
        clean=clean,
    )
    put_report(report, common, fetch_text)


@cli.command()
@click.argument("what", metavar="CONFIG|TARGET|FOLDER", type=click.Path())
@click.option("--deep", is_flag=True, help="read contents and compare digests")
@click.option("--repair", is_flag=True, help="put right what differs")
@click.option("--leaks", is_flag=True, help="find images, equal or near, that are in two splits or sources")
@max_delete_option
@ping_option
@common_options
def verify(what: str, deep: bool, repair: bool, leaks: bool, **common: Any) -> None:
    """Compare a subset with what was built.

    Of a CONFIG or TARGET: files that are missing, foreign, of another size or, with --deep, of other content. Of the
    FOLDER of any dataset: bad labels, and images that are missing. With --leaks also images that are in two splits or
    sources; of a CONFIG that was not built yet, those alone.
    """
    from pipeline import api
    from pipeline.job.conversion import is_target
    from pipeline.reports.report import Report
    from pipeline.reports.text import verify_text

    config = config_of(what, common)
    root = config.target.root if config else what
    progress = progress_of(common)
    if config is None and (dataset := dataset_of(what, common)):
        if repair:
            raise ConfigError(f"--repair: {what} was not built by coco-diy, which repairs only what it made")
        report = api.verify_dataset(dataset, progress, deep=deep)
    elif repair:
        report = api.repair(root, config, progress, deep=deep, max_delete=common["max_delete"])
    elif leaks and config is not None and not is_target(root):
        report = Report(
            {
                "command": "verify",
                "of": "config",
                "target": root,
                "deep": deep,
                "files": 0,
                "differences": {},
                "listed": [],
            }
        )
    else:
        report = api.verify(root, progress, deep=deep)
    if leaks:
        from pipeline.look.leaks import leaks as leaks_of

        workdir = config.workdir if config else cache_folder()
        found = leaks_of(config or what, workdir, progress, engine_of(common))
        report.data["leaks"] = found
        report.ok = report.ok and not found["listed"]
        report.incomplete = report.incomplete and not found["listed"]
    put_report(report, common, verify_text)


@cli.command()
@click.argument("first", metavar="A", type=click.Path())
@click.argument("second", metavar="B", type=click.Path())
@common_options
def diff(first: str, second: str, **common: Any) -> None:
    """Compare two subsets, class by class.

    What B has more or less than A, also file by file. TARGET@RUN is what a run left, by its record: counts alone.
    """
    from pipeline import api
    from pipeline.job.run_records import split_state
    from pipeline.reports.text import diff_text

    sides = []
    for what in (first, second):
        root, run = split_state(what)
        config = config_of(root, common)
        root = config.target.root if config else root
        sides.append(root if run is None else f"{root}@{run}")
    put_report(api.diff(sides[0], sides[1]), common, diff_text)


@cli.command()
@click.argument("what", metavar="CONFIG|TARGET", type=click.Path())
@click.option("--max-age", type=Duration(), metavar="26h", help="end with 1 where the last success is older")
@common_options
def status(what: str, max_age: float | None, **common: Any) -> None:
    """Show the last runs at a target.

    Also those that failed, and whether one is under way or was stopped.
    """
    from pipeline import api
    from pipeline.reports.text import status_text

    config = config_of(what, common)
    root, workdir = (config.target.root, config.workdir) if config else (what, None)
    put_report(api.status(root, workdir, max_age=max_age), common, status_text)


@cli.command()
@click.argument("name", metavar="[NAME]", required=False, type=Name(ready_configs))
@click.option("--force", is_flag=True, help="replace a file that is there")
@json_option
@folder_option
def init(name: str | None, force: bool, as_json: bool) -> None:
    """Copy a ready config to conf/; without NAME, list them.

    The names YAML that it needs comes along. What is called cluster/… runs a config on a cluster.
    """
    from pipeline.config.templates import copy_ready, described
    from pipeline.reports.report import Report
    from pipeline.reports.text import init_text

    found: dict[str, Any] = {"command": "init"}
    if name is None:
        found["ready"] = described()
    else:
        found["files"] = [{"path": str(path), "written": new} for path, new in copy_ready(name, force=force)]
    put_report(Report(found), {"as_json": as_json, "quiet": False}, init_text)


@cli.command()
@click.argument("queue", type=click.Path())
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=300,
    metavar="SECONDS",
    help="end when no build is there for so long",
)
@verbose_option
def worker(queue: str, wait: float, verbose: bool) -> None:  # noqa: ARG001 - the option's callback uses it
    """Do the work of builds elsewhere.

    They are those whose engine.scheduler is file://QUEUE, a folder. Start one for each core, on any machines that see
    it and source, workdir and target at the same paths; they need no ports.
    """
    from pipeline.api import serve

    put(f"{plural(serve(queue, wait), 'task')} done")


@cli.command()
def schema() -> None:
    """Print the JSON Schema of the config.

    Editors complete and check configs with it: coco-diy schema > schema.json, and as the first line of the config
    # yaml-language-server: $schema=../schema.json
    """
    from pipeline.config.model import Config

    put(json.dumps(Config.model_json_schema(), indent=2))


def _build(
    config: Config,
    common: dict[str, Any],
    *,
    break_lock: bool = False,
    wait_lock: float = 0.0,
    unchanged_exit: int | None = None,
) -> None:
    from pipeline.api import build as build_subset
    from pipeline.reports.text import build_text

    report = build_subset(config, progress_of(common), break_lock=break_lock, wait_lock=wait_lock)
    if config.target.report and (report.ok or report.incomplete):
        from pipeline.look.page import leave_page

        leave_page(config, report, progress_of(common))
    unchanged = report.ok and report.data["status"] == "nothing to do"
    put_report(report, common, build_text, code=unchanged_exit if unchanged else None)
