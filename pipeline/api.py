"""The library: the stages in order (list, index, select, plan, apply), and what commands ask beside these.

`build` is the main job, `make_index` and `make_plan` its first parts. Each returns a report, plain data as `--json`
prints it. Stages that a build with nothing to do never comes to are imported where they begin.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base.arrow import arrow_alone
from pipeline.base.errors import BrakeError, CocoDiyError, ConfigError, MissingSourceError
from pipeline.cluster.remote import remote_of
from pipeline.config.load import ConfigLike, as_config, keys_of
from pipeline.config.model import Config, EngineConfig
from pipeline.job.hooks import HookRunner
from pipeline.job.job import WORK_LINKS, Job, SourceJob
from pipeline.job.limits import limits
from pipeline.job.resolve import resolve
from pipeline.job.run_records import RunRecords
from pipeline.job.waiting import waiting
from pipeline.reports.counts import add_counts, label_files
from pipeline.reports.report import Report
from pipeline.runtime.engine import Engine
from pipeline.runtime.interrupt import failure
from pipeline.runtime.progress import Progress
from pipeline.runtime.run import running
from pipeline.stages.apply.build import break_lock as break_lock_of
from pipeline.stages.apply.build import build_subset
from pipeline.stages.index.locks import index_lock, plan_lock
from pipeline.stages.index.scan import import_for_index, import_for_plan, scanned
from pipeline.stages.verify.status import last_run, open_target, refuse_busy

if TYPE_CHECKING:
    from pipeline.stages.index.reader import Index, IndexInfo

__all__ = [
    "Report",
    "build",
    "diff",
    "fetch",
    "make_index",
    "make_plan",
    "open_index",
    "repair",
    "serve",
    "source_stats",
    "status",
    "target_stats",
    "verify",
]


def open_index(what: ConfigLike) -> Index:
    """The index of the source of a config, with names of classes; or that in a folder, see `reader.open_index`.

    A path is a config where it is a file. Raises `ConfigError` where there is no index, or where a config has several.
    """
    from pipeline.stages.index.reader import open_index as index_in

    if isinstance(what, str | Path) and not os.path.isfile(what):
        return index_in(os.fspath(what))
    job = resolve(as_config(what))
    if job.several:
        folders = ", ".join(source.index_dir for source in job.sources)
        raise ConfigError(f"source: each of several sources has an index of its own; open one of them: {folders}")
    return index_in(job.sources[0].index_dir, names=job.sources[0].file_names)


def fetch(
    config: ConfigLike,
    progress: Progress | None = None,
    names: Sequence[str] = (),
    *,
    extract: bool = False,
    into: str | None = None,
    remove_archives: bool = False,
    overwrite: bool = False,
    clean: bool = False,
) -> Report:
    """Get the archives that `config` reads, or those called `names` alone; with `extract` they are unpacked.

    The other options are as in `stages.fetch.archives.fetch`. With `clean` nothing is got: the images in the workdir
    that were fetched one by one are deleted.
    """
    from pipeline.stages.fetch import archives

    config = as_config(config)
    if clean:
        return archives.clean_fetched(config)
    return archives.fetch(
        config,
        progress or Progress(),
        names,
        extract=extract,
        into=into,
        remove_archives=remove_archives,
        overwrite=overwrite,
    )


@contextlib.contextmanager
def indexed(config: Config, progress: Progress, client: Any = None) -> Iterator[tuple[Job, list[IndexInfo], Report]]:
    """The job of `config`, which knows all names, its indexes, up to date and locked, and what is wrong with them."""
    from pipeline.stages.index.problems import source_report
    from pipeline.stages.index.sources import check_subsets, update_index

    job = resolve(config)
    with index_lock(job), _engine(job, client) as engine, contextlib.ExitStack() as stack:
        engine.begin(import_for_index)
        engine.connect()
        found = stack.enter_context(scanned(job, engine, progress))
        if engine.in_process:
            arrow_alone()
        job, infos = update_index(job, engine, progress, found, check_subsets(job))
        yield job, infos, source_report(job, infos)


def make_index(config: ConfigLike, progress: Progress | None = None, *, client: Any = None) -> Report:
    """Bring the index of `config`'s source up to date; with a Dask `client` its workers do."""
    with indexed(as_config(config), progress or Progress(), client) as (job, infos, report):
        if not report.ok:
            from pipeline.stages.plan import balance

            where = [os.path.join(source.index_dir, "problems") for source in job.sources]
            report.data["left_out"] = balance.listed(balance.problem_table(job, infos, []), ", ".join(where))
    return replace(report, data={"command": "index", **report.data})


def make_plan(config: ConfigLike, progress: Progress | None = None, *, client: Any = None, keep: Any = None) -> Report:
    """What a build would write, copy, keep and delete; nothing is changed at the target.

    With a Dask `client` its workers do the work. `keep` is as in `build`.
    """
    config = _with_chosen(as_config(config), keep)
    try:
        return _make_plan(_resolve(config), progress or Progress(), client)
    except BrakeError as error:  # a build would not even index; nor does a plan
        from pipeline.stages.plan.brake import braked

        return Report(dict(braked(config, error)))


def _with_chosen(config: Config, keep: Any) -> Config:
    if keep is None:
        return config
    from pipeline.stages.select.chosen import with_chosen

    return with_chosen(config, keep)


def engine_of(options: EngineConfig, workdir: str, urls: Iterable[str], client: Any = None) -> Engine:
    """What runs tasks as ``engine`` of a config says, or the workers of a Dask `client`; it is to be closed.

    Workers elsewhere exchange files with the run below `workdir`, and must see all `urls`, folders or files.
    """
    remote = remote_of(options, workdir, urls, links=WORK_LINKS, client=client)
    return Engine(options.scheduler, options.workers, remote)


def serve(url: str, wait: float = 300.0) -> int:
    """Do tasks of all builds whose ``engine.scheduler`` is the queue at `url`; returns how many.

    It ends when there was none for `wait` seconds.
    """
    from pipeline.cluster import queue

    return queue.serve(url, wait)


def _engine(job: Job, client: Any) -> Engine:
    """What runs the tasks of `job`: as its config says, or the workers of a Dask `client`."""
    return engine_of(job.config.engine, job.workdir, _seen_by_workers(job), client)


def _seen_by_workers(job: Job) -> Iterator[str]:
    """What workers elsewhere must see: the folders and files of the sources, and the target where it is there."""
    for split in (split for source in job.sources for split in source.spec.splits):
        yield from filter(None, (*split.label_files, split.images))
    if job.target.local is not None and job.target.exists():
        yield job.root


def _make_plan(job: Job, progress: Progress, client: Any) -> Report:
    from pipeline.stages.index.problems import source_report
    from pipeline.stages.index.sources import check_subsets, update_index
    from pipeline.stages.plan.brake import check_source
    from pipeline.stages.plan.report import fetch_cost
    from pipeline.stages.plan.subset import judge, plan_subset

    refuse_busy(job.target)
    with plan_lock(job), index_lock(job), _engine(job, client) as engine, contextlib.ExitStack() as stack:
        engine.begin(import_for_plan)
        engine.connect()
        found = stack.enter_context(scanned(job, engine, progress))
        state = job.state()
        subsets = check_subsets(job)
        check_source(job, state, found)
        job, infos = update_index(job, engine, progress, found, subsets)
        job = job.keep_numbers(state.manifest)
        source = source_report(job, infos)
        planned = plan_subset(job, infos, state, engine, progress)
        report, brake = judge(job, infos, state, source, planned)
        if report.data["fetch"]["bytes"] is None:
            report.data["fetch"] = fetch_cost(job, planned, limits(job.config))
    report.data["command"] = "plan"
    report.data["brake"] = brake.facts() if brake is not None else None
    return report


def source_stats(config: ConfigLike, progress: Progress | None = None) -> Report:
    """Counts of the source of `config` by class and split, all classes."""
    from pipeline.stages.index.problems import without_image

    with indexed(as_config(config), progress or Progress()) as (job, infos, report):
        names = job.names
        subset: dict[str, Any] = {}
        for source, info in zip(job.sources, infos, strict=True):
            for split, counts in info.totals.items():
                add_counts(
                    subset.setdefault(split, {}),
                    {
                        "images": counts["images"] + counts["no_image"],
                        "labels": label_files(counts["labels"]),
                        "objects": _by_name(source, counts["objects"], names),
                        "images_by_class": _by_name(source, counts["class_images"], names),
                    },
                )
        data = {"command": "stats", "of": "source", "classes": list(names), "subset": subset}
        return Report(data, report.ok, [*report.warnings, *without_image(infos)], incomplete=report.incomplete)


def _by_name(source: SourceJob, counts: dict[str, int], names: tuple[str, ...]) -> dict[str, int]:
    """The index's counts by class as counts by name, of all `names`."""
    assert source.names is not None
    keys = {name: name if source.named else str(i) for i, name in enumerate(source.names.names)}
    return {name: counts.get(keys.get(name, ""), 0) for name in names}


def target_stats(root: str) -> Report:
    """Counts of the subset at `root` by class and split, as its manifest has them."""
    state, made = open_target(root)
    facts = made.report
    return Report(
        {
            "command": "stats",
            "of": "target",
            "target": state.root.url,
            "classes": facts["classes"],
            "subset": facts["subset"],
        }
    )


def diff(first: str, second: str) -> Report:
    """What the subset at `second` has more or less than that at `first`; either may be a state, ``TARGET@RUN``."""
    from pipeline.stages.verify.diff import diff_targets

    return diff_targets(first, second)


def status(root: str, workdir: str | None = None, *, max_age: float | None = None) -> Report:
    """What the last runs at `root` did, see `last_run`; not ok where the last success is `max_age` seconds old."""
    return last_run(root, workdir, max_age=max_age)


def verify_dataset(config: Config, progress: Progress | None = None, *, deep: bool = False) -> Report:
    """What a build of all of a source would stumble over: bad labels, images that are missing or damaged.

    `config` is that of `conversion.dataset`. Each image is checked, with `deep` all of it: it is decoded.
    """
    lacking = [split for source in resolve(config).sources for split in source.spec.splits if split.images is None]
    select = config.select.model_copy(update={"background": "all", "check_images": "full" if deep else "header"})
    target = config.target.model_copy(update={"images": "none"} if lacking else {})
    report = make_plan(config.model_copy(update={"select": select, "target": target}), progress)
    listed = report.data.get("left_out", {}).get("listed", [])
    data = {
        "command": "verify",
        "of": "folder",
        "target": config.sources[0].root,
        "deep": deep,
        "files": report.data["images"]["source"],
        "differences": report.data.get("left_out", {}).get("counts", {}),
        "listed": listed,
    }
    return Report(data, not listed, [f"{split.labels}: has no folder of images beside it" for split in lacking])


def verify(root: str, progress: Progress | None = None, *, deep: bool = False) -> Report:
    """What differs at the subset `root` from its manifest; with `deep` contents are read."""
    from pipeline.stages.verify.subset import verify_target

    with Engine() as engine:
        return verify_target(root, deep=deep, engine=engine, progress=progress or Progress())


def repair(
    root: str,
    config: Config | None = None,
    progress: Progress | None = None,
    *,
    deep: bool = False,
    max_delete: str | None = None,
) -> Report:
    """Verify the subset at `root` and put right what differs: a build for which those files count as unknown.

    Without `config` the one that the manifest remembers is used, with `max_delete` for its ``target.max_delete``, if
    this machine wrote that; else it is a `ConfigError`. Foreign files are left alone. The report is that of the second
    verification, with ``repaired``, the number of files that were put right.
    """
    before = verify(root, progress, deep=deep)
    suspects = frozenset(d["path"] for d in before.data["listed"] if d["reason"] != "foreign")
    if not suspects:
        return Report(before.data | {"repaired": 0}, before.ok)
    if config is None:
        from pipeline.job.made_subset import remembered_config

        config = remembered_config(root, *open_target(root), "--repair", max_delete=max_delete)
    done = build(config, progress, suspects=suspects)
    after = verify(root, progress, deep=deep)
    put_right = suspects - {d["path"] for d in after.data["listed"]}
    return Report(
        after.data | {"repaired": len(put_right)},
        after.ok and done.ok,
        done.warnings,
        incomplete=after.ok and done.incomplete,
        once=done.once,
        grave=done.grave,
    )


def build(
    config: ConfigLike,
    progress: Progress | None = None,
    *,
    suspects: frozenset[str] = frozenset(),
    break_lock: bool = False,
    wait_lock: float = 0.0,
    client: Any = None,
    keep: Any = None,
) -> Report:
    """Make the subset: index, select, plan and apply. Where nothing changed, nothing is done. Leaves a run record.

    The files `suspects` (paths below the target) are made anew, whatever the manifest says of them. With `break_lock`
    the lock at the target is taken from whoever holds it; one that is in use is waited for `wait_lock` seconds. The
    hooks of the config are run. With a Dask `client` its workers do the work. Of the images those in `keep` are taken:
    a frame with a column key, such as a part of an index, or names, stems or keys; see `stages.select.chosen`.

    Raises `CocoDiyError`s; a run that ends early is continued by running it again.
    """
    config = _with_chosen(as_config(config), keep)
    with running() as run:
        records = RunRecords(config.model_dump(), run)
        run.attach(HookRunner(config.hooks))
        try:
            job = _resolve(config)
            records.begin()
            if break_lock:
                break_lock_of(job)
            report = waiting(
                wait_lock,
                lambda: build_subset(job, progress or Progress(), suspects, functools.partial(_engine, job, client)),
                lambda: refuse_busy(job.target),
            )
        except BaseException as error:
            records.failed(error, failure(error))
            raise
        records.ended(report.exit_code, report.data)
    return report


def record_refusal(path: str, overrides: Sequence[str], error: Exception) -> None:
    """Leave the record of a build whose config at `path`, with `overrides`, is no config because of `error`.

    That takes a config which says what its target is.
    """
    with running() as run, contextlib.suppress(CocoDiyError):
        RunRecords(keys_of(path, overrides), run).failed(error, failure(error))


def _resolve(config: Config) -> Job:
    try:
        return resolve(config)
    except MissingSourceError as error:
        from pipeline.stages.plan.brake import missing

        raise missing(config, error) or error from None
