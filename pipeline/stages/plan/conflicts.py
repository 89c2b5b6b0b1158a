"""Files of somebody else at the target where ours must go: of a bucket, of the whole dataset, and of the layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline import storage
from pipeline.base.digest import digest_of
from pipeline.job.job import Job
from pipeline.stages.plan.meta_files import MetaFile
from pipeline.tables.schema import Action, Kind
from pipeline.target.manifest import TargetState

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.stages.plan.context import PlanContext


def conflicts_of_bucket(
    context: PlanContext, target: storage.Location, plan: pa.Table, manifest: pa.Table
) -> list[str]:
    """Paths of a bucket's `plan` that somebody else's files or links have; `manifest` lists ours."""
    import pyarrow.compute as pc

    found = _taken(target, plan, manifest) if context.check_conflicts else []
    if found and context.state.lost:
        found = sorted({*found} - _as_wanted(context, target, plan, found))
    touched = plan["path"].filter(pc.not_equal(plan["action"], Action.KEEP.value))
    # Users may leave links for the folders of splits, not for deeper ones.
    return found + target.links_among(touched.to_pylist(), beyond=context.layout.depth)


def _taken(target: storage.Location, plan: pa.Table, manifest: pa.Table) -> list[str]:
    """Paths to be made that are there already and are not ours."""
    import pyarrow as pa
    import pyarrow.compute as pc

    new = pc.is_in(plan["action"], pa.array([Action.WRITE.value, Action.COPY.value]))
    new = pc.and_(new, pc.invert(pc.is_in(plan["path"], manifest["path"].combine_chunks())))
    paths = plan["path"].filter(new).to_pylist()
    return [path for path, there in zip(paths, target.exist_many(paths), strict=True) if there]


def _as_wanted(context: PlanContext, target: storage.Location, plan: pa.Table, paths: Sequence[str]) -> set[str]:
    """Those of `paths` whose content at the target is what the `plan` has for them.

    Where the manifest is lost these are ours, as far as anybody can know: nothing is lost when they are made anew.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = plan.filter(pc.is_in(plan["path"], pa.array(paths)))
    there = dict(zip(rows["path"].to_pylist(), target.content_digests(rows["path"].to_pylist()), strict=True))
    labels = rows.filter(pc.equal(rows["kind"], Kind.LABEL.value))
    same = {
        path
        for path, digest in zip(labels["path"].to_pylist(), labels["digest"].to_pylist(), strict=True)
        if there[path] == digest
    }
    images = rows.filter(pc.equal(rows["kind"], Kind.IMAGE.value))
    keys, own = images["key"].to_pylist(), images["path"].to_pylist()
    names = context.origins.names(keys, images["source"].to_pylist())
    for location, here in context.origins.locations(keys, names):
        for fetched in location.fetch_many([names[i] for i in here]):
            at = here[fetched.index]
            came = fetched.unless_away(location.join(names[at]))
            if came.reason is None and there[own[at]] == digest_of(came.data):
                same.add(own[at])
    return same


def conflicts_of_meta(job: Job, state: TargetState, wanted: Mapping[str, MetaFile], writes: Sequence[str]) -> list[str]:
    """Those of `writes`, files that belong to no image and are to be written, that somebody else's file has.

    Where nobody knows any more what is ours, one with the very content that is `wanted` is.
    """
    paths = [path for path in writes if path not in state.meta]
    there = [path for path, found in zip(paths, job.target.exist_many(paths), strict=True) if found]
    if not state.lost or not there:
        return there
    return [
        path
        for path, digest in zip(there, job.target.content_digests(there), strict=True)
        if digest is None or digest.hex() != wanted[path].digest
    ]


def conflicts_of_layout(job: Job, state: TargetState) -> list[str]:
    """Folders of the layout that are files at the target, or links beside a manifest that this machine did not write.

    What such a manifest lists would be deleted and overwritten wherever the links lead.
    """
    links = job.target.links_among([f"{folder}/" for folder in job.folders], beyond=0)
    return _files_for_folders(job) + (links if links and not state.is_ours() else [])


def _files_for_folders(job: Job) -> list[str]:
    """Files at the target where a folder of the layout must be."""
    if job.target.local is None or job.config.target.zipped:  # stores have no folders
        return []
    wanted: dict[str, list[str]] = {}
    for path in job.layout.steps(job.splits):
        above, _, name = path.rpartition("/")
        wanted.setdefault(above, []).append(name)
    found = [
        f"{folder}/{name}".lstrip("/")
        for folder, names in wanted.items()
        for name in job.target.flat_names(folder)
        if name in names
    ]
    return [path for path in found if not job.target.below(path).exists()]  # a link may lead to a folder
