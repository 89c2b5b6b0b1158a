"""One view of anything that holds labelled images: what a config would make, what a target holds, what a folder holds.

All three are read from an index (`stages.index`), a bucket at a time: a folder and a target are indexed as a source of
their own; of a config the plan says which images the source gives, and in which split they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.api import indexed, make_plan
from pipeline.base.classes import ClassMap, made_of
from pipeline.base.errors import ConfigError
from pipeline.config.load import validate
from pipeline.config.model import Config, EngineConfig
from pipeline.job.conversion import FOLDER_OPTIONS, dataset, unasked
from pipeline.job.job import Job
from pipeline.job.made_subset import joined, made_from, made_of_target, subset
from pipeline.job.resolve import resolve
from pipeline.runtime.progress import Progress
from pipeline.stages.index.problems import without_image
from pipeline.stages.index.reader import IndexInfo, index_at
from pipeline.stages.index.sources import names_of
from pipeline.stages.verify.status import FoundTarget, last_run, target_at
from pipeline.storage.origins import Origins


@dataclass(frozen=True)
class ViewedSource:
    """One index of a view: where it is, in how many buckets, and which of its classes are those of the view."""

    prefix: str
    index_dir: str
    buckets: int
    classes: ClassMap
    named: bool


@dataclass(frozen=True)
class View:
    """What there is to see; a value that is sent to helper processes.

    `what` is how the user calls it, `kind` config, target or folder. `classes` are names, the position is the id.
    `origins` is where images are, by what keys begin with. `keypoints` is (K, D) of rows that have such. Of a config
    `plan_dir` is the folder of its plan, `gathers` says that images are in its records, and `unique`, `of_task` and
    `limited` what else its selection leaves out. `engine` is who counts. `images` is about how many there are. `facts`
    are for people: see `look.page`.
    """

    what: str
    kind: str
    classes: tuple[str, ...]
    sources: tuple[ViewedSource, ...]
    origins: Origins
    keypoints: tuple[int, int] | None
    workdir: str
    splits: tuple[str, ...]
    engine: EngineConfig
    plan_dir: str | None = None
    gathers: bool = False
    unique: bool = False
    of_task: bool = False
    limited: bool = False
    images: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def buckets(self) -> int:
        """Buckets of the view: as many as the index has that has most."""
        return max(source.buckets for source in self.sources)


def open_view(
    what: str | Config, workdir: str, progress: Progress | None = None, engine: Mapping[str, Any] | None = None
) -> View:
    """The view of a config, of a target (folder or URL) or of any dataset folder.

    Indexes of targets and folders, which have no config of their own, are made or brought up to date below `workdir`,
    by ``engine`` of a config.

    Raises `CocoDiyError`s: `ConfigError` for a folder that no format's layout fits.
    """
    progress = progress or Progress()
    if isinstance(what, Config):
        return _of_config(what, progress)
    if (target := target_at(what)) is not None:
        return _of_target(what, target, workdir, progress, engine or {})
    return _of_folder(what, workdir, progress, engine or {})


def _of_config(config: Config, progress: Progress) -> View:
    """What a build of `config` would make; its plan is made, and its indexes are up to date then."""
    report = make_plan(config, progress)
    if "plan_files" not in report.data:
        raise ConfigError(f"{config.target.root}: {report.data['brake']['error']}")
    job = resolve(config)
    infos = [index_at(source.index_dir).info for source in job.sources]
    state = job.state()
    job = job.with_names([names_of(info) for info in infos]).keep_numbers(state.manifest)
    options = config.select
    return _view(
        config.name or config.target.root,
        "config",
        job,
        infos,
        splits=tuple(report.data["subset"]),
        plan_dir=report.data["plan_files"],
        gathers=job.exporter.GATHERS,
        unique=options.duplicates == "drop",
        of_task=job.exporter.OF_TASK,
        limited=options.objects.any,
        facts={
            "target": job.root,
            "made_of": made_of(job.maps, [source.named for source in job.sources]),
            "report": report.data,
            "digest": report.data["digest"],
            "warnings": report.warnings,
        },
    )


def _of_target(what: str, found: FoundTarget, workdir: str, progress: Progress, engine: Mapping[str, Any]) -> View:
    """What a target holds, by its manifest."""
    root, made = found.state.root.url, found.made
    config = validate(unasked({**subset(*found, workdir), "engine": dict(engine)}), root)
    runs = last_run(root).data
    return _of_source(
        what,
        "target",
        config,
        progress,
        {
            "target": root,
            "made_of": made_of_target(made),
            "made_from": made_from(made),
            "report": made.report,
            "digest": made.report.get("digest"),
            "tool": made.tool,
            "time": runs["last"].get("time") if runs["last"] else None,
            "warnings": made.report.get("warnings", []),
        },
    )


def _of_folder(what: str, workdir: str, progress: Progress, engine: Mapping[str, Any]) -> View:
    """What any folder of a dataset holds, by the layout that fits it."""
    config = validate(unasked({**dataset(what, workdir), "engine": dict(engine)}), what, options=FOLDER_OPTIONS)
    return _of_source(what, "folder", config, progress, {"made_of": {}})


def _of_source(what: str, kind: str, config: Config, progress: Progress, facts: dict[str, Any]) -> View:
    """The view of all that a source holds."""
    with indexed(config, progress) as (job, infos, report):
        if not any(counts["images"] + counts["no_image"] for info in infos for counts in info.totals.values()):
            raise ConfigError(f"{what}: has no image and no label file")
        warnings = [*report.warnings, *without_image(infos)]
        facts = {"fingerprint": "+".join(str(info.content) for info in infos), "warnings": warnings, **facts}
        return _view(what, kind, job, infos, splits=job.splits, facts=facts)


def _view(what: str, kind: str, job: Job, infos: Sequence[IndexInfo], **more: Any) -> View:
    sources = tuple(
        ViewedSource(f"{s.spec.name}/", s.index_dir, info.buckets, classes, s.named)
        for s, info, classes in zip(job.sources, infos, job.maps, strict=True)
    )
    keypoints = next((s.names.kpt_shape for s in job.sources if s.names and s.spec.task == "pose"), None)
    images = sum(c["images"] + c["no_image"] for info in infos for c in info.totals.values())
    more["facts"] |= {
        "sources": [
            {
                "root": s.source.root or joined(split.labels for split in s.spec.splits),
                "format": s.source.format,
                "task": s.spec.task.value,
            }
            for s in job.sources
        ],
        "problems": _problems(infos),
    }
    return View(
        what,
        kind,
        job.classes,
        sources,
        job.origins,
        keypoints,
        job.workdir,
        engine=job.config.engine,
        images=images,
        **more,
    )


def _problems(infos: Sequence[IndexInfo]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for info in infos:
        for totals in info.totals.values():
            counts.update(totals["problems"])
    return counts
