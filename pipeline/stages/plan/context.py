"""What a plan of a bucket needs to know of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline import formats
from pipeline.base.terms import Task
from pipeline.exporters import Layout
from pipeline.job.checks import keep_out_of_subsets
from pipeline.job.job import Job
from pipeline.stages.index.problems import links_out
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.select.split_table import SplitRule
from pipeline.storage.origins import Origins
from pipeline.target.manifest import TargetState

if TYPE_CHECKING:
    from pipeline.base.classes import ClassMap
    from pipeline.config.select import Select


@dataclass(frozen=True)
class PlannedSource:
    """One source of a plan: its index, its class map, and whether its rows carry the names of their classes.

    `prefix` is what all its keys begin with. `mixed`: some of its files have boxes and polygons. `sized`: its images
    were compared with the sizes in its label files when it was indexed (`SIZED` of a format). `linked`: links lead out
    of it, from its folder `root` (None: from each of its own). `partly`: ids of classes that it does not
    label everywhere.
    """

    prefix: str
    index_dir: str
    classes: ClassMap
    named: bool
    mixed: bool = False
    sized: bool = False
    linked: bool = False
    root: str | None = None
    partly: tuple[int, ...] = ()


@dataclass(frozen=True)
class PlanContext:
    """Everything that the plan of one bucket depends on, but its rows; sent to workers.

    `origins` is where images come from, `labels` where label files are; where there are `several` sources, the first
    part of the key is a folder at the target. `splits` are the subset's.
    `check_there`: files came or went at the target since the manifest was written, so all that it lists are checked.
    `check_conflicts`: the target has files, so new paths are checked in case they are somebody else's.
    `staged`: folders that are not at the target yet. `state`: what is at the target, read once for all buckets.
    `suspects`: paths whose content is not believed to be what the manifest says. `fetched`: see `plan_subset`.
    `flat`: no image is in a subfolder of its split's. `oriented`: its objects are oriented boxes.
    `archive`: all goes into one file, see `archive`. `split_rule`: how images are assigned to splits; None: as the
    source has them. `no_backgrounds`: folder of the images that are no backgrounds, see `backgrounds`; None: there are
    no such images. `left_out`: folders of the images that are left out for a reason in `steps.DECIDED`.
    """

    sources: tuple[PlannedSource, ...]
    several: bool
    buckets: int
    plan_dir: str
    root: str
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    select: Select
    images: str
    origins: Origins
    labels: Origins
    exporter: str
    layout: Layout
    flat: bool
    check_there: bool
    check_conflicts: bool
    staged: tuple[str, ...]
    state: TargetState
    keypoints: tuple[int, int] | None
    suspects: frozenset[str]
    fetched: bool
    archive: bool = False
    oriented: bool = False
    split_rule: SplitRule | None = None
    no_backgrounds: str | None = None
    left_out: tuple[str, ...] = ()


def plan_context(
    job: Job, infos: Sequence[IndexInfo], state: TargetState, suspects: frozenset[str], *, fetched: bool
) -> PlanContext:
    """What the plans of the buckets need to know of the job, its indexes and the target."""
    if job.target.local is None and state.manifest is None:
        keep_out_of_subsets(job)  # asked once: it costs requests
    folders = job.folder_times()
    before = state.manifest.folders if state.manifest and state.intent is None else {}
    wanted = {new for m in job.maps for new in m.lut}  # not those that a target has, and no source any more
    return PlanContext(
        sources=tuple(
            PlannedSource(
                f"{s.spec.name}/",
                s.index_dir,
                m,
                s.named,
                any("mixed" in totals.get("loss", {}) for totals in info.totals.values()),
                formats.load(s.spec.format).SIZED,
                bool(links_out(s, info)),
                s.source.root,
                tuple(new for new in m.not_everywhere(s.exhaustive) if new in wanted),
            )
            for s, m, info in zip(job.sources, job.maps, infos, strict=True)
        ),
        several=job.several,
        buckets=_common_buckets([info.buckets for info in infos]),
        plan_dir=job.plan_dir,
        root=job.root,
        classes=job.classes,
        splits=job.splits,
        select=job.config.select,
        images=job.config.target.images,
        origins=job.origins,
        labels=Origins(
            {s.spec.prefix(split): split.labels for s in job.sources for split in s.spec.splits}, job.workdir
        ),
        exporter=job.config.target.format,
        layout=job.layout,
        flat=job.config.target.flat,
        check_there=state.intent is not None or state.lost or folders != before or not job.target.keeps_times,
        check_conflicts=bool(folders) or not job.target.keeps_times,
        staged=_staged(job),
        state=state,
        keypoints=next((s.names.kpt_shape for s in job.sources if s.names and job.task is Task.POSE), None),
        suspects=suspects,
        fetched=fetched,
        archive=job.config.target.zipped,
        oriented=job.task is Task.OBB,
    )


def _common_buckets(counts: Sequence[int]) -> int:
    """Buckets of a plan: those of the index that has most; the others are cut finer, for all are powers of two."""
    most = max(counts)
    assert all(most % count == 0 for count in counts), counts
    return most


def _staged(job: Job) -> tuple[str, ...]:
    """Folders of the layout, each with a final /, that are not at the target yet: they are filled beside it."""
    if job.config.target.zipped:
        return ()
    folders = [folder for folder in job.layout.split_folders(job.splits) if job.target.can_stage(folder)]
    there = job.target.exist_many(folders)
    return tuple(f"{folder}/" for folder, found in zip(folders, there, strict=True) if not found)
