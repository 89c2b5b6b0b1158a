"""The quick proof that a subset is what its config wants: nothing is read but listings."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline import storage
from pipeline.base.digest import digest_of, seal, unseal
from pipeline.base.errors import CocoDiyError
from pipeline.job.job import Job
from pipeline.job.recipe import recipe
from pipeline.reports.report import Report
from pipeline.stages.index.scan import Scan, source_digest
from pipeline.stages.plan.compare import all_actions, image_digests
from pipeline.stages.plan.meta_files import still_there
from pipeline.tables import schema
from pipeline.tables.parquet import Misfit, of_parquet
from pipeline.target import split_copy
from pipeline.target.manifest import PROBLEMS, TargetState

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.stages.plan.planned import Planned


def is_current_recipe(job: Job, state: TargetState) -> bool:
    """Whether the subset was made, and done, by what the config says now."""
    certain = state.manifest is not None and state.intent is None and not state.lost
    return certain and state.manifest is not None and state.manifest.recipe == recipe(job)


def nothing_to_do(job: Job, state: TargetState, found: Sequence[Scan]) -> Report | None:
    """The report of a build that changes nothing, if that is certain without reading a table.

    At a store such a build makes two requests at the target, however large that is: one page of a listing, which shows
    that the dataset's files, the copies and the records are as they were, and the write of the run's own record. Where
    the page differs from the one that is remembered, see `memory`, the manifest is read and the intent asked for.
    """
    manifest = state.manifest
    digest = source_digest([scan.digest(s.spec) for s, scan in zip(job.sources, found, strict=True)])
    if manifest is None or digest is None or manifest.source != digest or manifest.folders != job.folder_times():
        return None
    if still_there(job, state) != manifest.meta or not _has_split_table(job, state):
        return None
    left_out = _left_out(state, manifest.left_out) if manifest.left_out is not None else None
    if left_out is None and (manifest.left_out is not None or not manifest.report["ok"]):
        return None
    if job.need_image and (manifest.images is None or _images_digest(job) != manifest.images):
        return None
    remembered = dict(manifest.report)
    remembered.pop("made_of", None)  # it is for who looks at the target
    ok, warnings, keep = remembered.pop("ok"), remembered.pop("warnings"), remembered.pop("held", None)
    if keep is None:
        return None
    data = {
        "command": "build",
        "status": "nothing to do",
        "target": job.root,
        **remembered,
        "plan": all_actions({}) | {"keep": keep},
        "changes": 0,
        "warnings": warnings,
    }
    if left_out is not None:
        from pipeline.stages.plan.balance import listed

        data["left_out"] = listed(left_out, state.folder.join(PROBLEMS))
    return Report(data, ok, warnings, incomplete=not ok)  # of a build that failed the manifest names no source


def remember_target(job: Job, state: TargetState) -> None:
    """Keep the manifest of a subset that needs nothing, so that the next check need not read it."""
    if state.recalled is None and not state.damaged:
        job.memory.keep(state.folder.begun(), state.manifest)


def remember_build(job: Job) -> None:
    """Keep the manifest of a subset at a store that a build has made whole; its lock is held still."""
    with contextlib.suppress(CocoDiyError, OSError):  # the next check asks again
        job.target.begin_listing()
        state = job.state()
        if state.intent is None and not state.damaged:
            job.memory.keep(state.folder.begun(), state.manifest, locked=True)


def _has_split_table(job: Job, state: TargetState) -> bool:
    """Whether the target has its copy of the split table, if it is to have one."""
    split = job.config.split
    return split is None or not split.stratify or split_copy.is_sound(state.folder)


def _images_file(job: Job) -> str:
    return f"{os.path.relpath(job.plan_dir, job.workdir)}.images"


def remember_images(job: Job, planned: Planned) -> str | None:
    """Write down the images in the subset, so that a later run can check them without the tables.

    Returns the digest of their digests; None without images.
    """
    if not job.need_image:
        return None
    from pipeline.stages.plan.planned import image_sources

    names, digests = image_sources(planned.sources, planned.buckets, job.origins, planned.left_out)
    storage.locate_writable(job.workdir).write(_images_file(job), seal({"images": names}))
    return digest_of(digests).hex()


def _images_digest(job: Job) -> str | None:
    """What `remember_images` returned, of the images as they are now; None where one is gone."""
    remembered = unseal(storage.locate(job.workdir).read(_images_file(job)))
    if remembered is None:
        return None
    how = job.config.target.images
    digests: list[bytes] = []
    for url, names in remembered["images"].items():
        found: dict[int, bytes] = {}
        for origin, some in storage.image_locations(storage.locate(url, job.workdir), names):
            for i, digest in zip(some, image_digests(how, origin, [names[i] for i in some]), strict=True):
                if digest is None:
                    return None
                found[i] = digest
        digests += [found[i] for i in range(len(names))]
    return digest_of(b"".join(digests)).hex()


def _left_out(state: TargetState, digest: str) -> pa.Table | None:
    """The table of what was left out, of that digest; None where it is not as it was written."""
    data = state.folder.read(PROBLEMS)
    if data is None or digest_of(data).hex() != digest:
        return None
    with contextlib.suppress(Misfit):
        return of_parquet(data, schema.problems())
    return None
