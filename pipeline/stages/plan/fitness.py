"""Whether the file system of the target can hold what is planned."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.base.errors import TargetError
from pipeline.base.humanize import plural
from pipeline.job.job import Job
from pipeline.stages.plan.planned import Planned
from pipeline.stages.select.parts import read_part
from pipeline.tables import schema
from pipeline.tables.schema import Action
from pipeline.target.manifest import SCRATCH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.storage import Traits


def refuse_unfit(job: Job, planned: Planned) -> None:
    """Raise `TargetError` for names that the target's file system refuses or takes for one, and links it lacks."""
    if not planned.changes or job.config.target.zipped:
        return
    traits = job.target.traits(SCRATCH)
    how = job.config.target.images
    if how in ("hardlink", "symlink") and how not in traits.links:
        raise TargetError(f"{job.root}: its file system has no {how}s; set target.images to copy")
    if not traits.plain:
        _refuse_names(job, planned, traits)


def _refuse_names(job: Job, planned: Planned, traits: Traits) -> None:
    elsewhere = f"choose another {job.config.written.name_of('target.root')}"
    refused = [path for path, _ in _paths(planned) if traits.refuses & set(path)]
    if refused:
        name = os.path.basename(refused[0])
        letter = next(c for c in name if c in traits.refuses)
        raise TargetError(
            f"{job.root}: its file system takes no {letter!r} in names ({name!r}, total "
            f"{plural(len(refused), 'file')}); rename them in the source, or {elsewhere}"
        )
    known: dict[str, tuple[str, bool]] = {}
    for path, stays in _paths(planned):
        other, other_stays = known.setdefault(traits.folded(path), (path, stays))
        if path == other:
            continue
        if stays and other_stays:
            raise TargetError(
                f"{job.root}: its file system takes {other!r} and {path!r} for one name, differing in "
                f"case or Unicode form; rename one in the source, or {elsewhere}"
            )
        # What goes might go last, and take what came with it.
        raise TargetError(
            f"{job.root}: {other!r} is renamed to {path!r}, which is one name on its file system; delete "
            f"{(path if other_stays else other)!r} there and build again"
        )


def _paths(planned: Planned) -> Iterator[tuple[str, bool]]:
    """Every path of the plan, and whether it is there afterwards."""
    for bucket in range(planned.buckets):
        table = read_part(planned.folder, bucket, schema.plan(), ["path", "action"])
        for path, action in zip(table["path"].to_pylist(), table["action"].to_pylist(), strict=True):
            yield path, action != Action.DELETE.value
