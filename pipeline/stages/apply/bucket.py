"""Stage 4: plan -> outcomes. The only stage with side effects at the target.

A bucket is carried out in an order that never leaves an image without its label: images that go, labels that go,
labels, images; each file whole or not at all. Its part of the manifest is written when it is done; that it is done is
said by who asked for it, when all of it is durable. Folders that are not at the target yet are filled beside it and put
in place when all buckets are done, labels before images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline import storage
from pipeline.base.memory import release_after
from pipeline.stages.plan.compare import as_manifest
from pipeline.stages.select.parts import read_part
from pipeline.storage.origins import Origins
from pipeline.tables import schema
from pipeline.tables.rows import rows_where, slices
from pipeline.tables.schema import Action, Kind
from pipeline.target.intent import write_part
from pipeline.target.manifest import FOLDER, SCRATCH, STAGING, staged_path

if TYPE_CHECKING:
    import pyarrow as pa

#: Bytes of label files that are made of a table at a time: so much of it is in memory twice.
_TEXT = 8 << 20


@dataclass(frozen=True)
class ApplyContext:
    """What all buckets share.

    `root` is the target's, `images` is copy, hardlink, symlink or none; `staged` are the folders (each with a final /)
    that are filled in the staging folder; `origins` is where images come from; `layout` are the folders that may be
    links. `fence` is a folder of this run below the target, through which alone anything gets there: who has it open
    can do nothing more once it is removed. None: nobody outlives the run.
    """

    root: str
    images: str
    staged: tuple[str, ...]
    origins: Origins
    layout: frozenset[str] = frozenset()
    fence: str | None = None

    @property
    def target(self) -> storage.WritableLocation:
        """The target."""
        return storage.locate_writable(self.root, links=self.layout)

    @property
    def scratch(self) -> storage.WritableLocation:
        """The folder for files under way."""
        return self.target.own(SCRATCH) if self.fence is None else self.target.own(self.fence).sealed()


@dataclass
class Outcome:
    """What became of one bucket: of its files, and its part of the manifest."""

    bucket: int
    results: storage.Results = field(default_factory=storage.Results)
    part: str | None = None


def apply_bucket(context: ApplyContext, plan_dir: str, bucket: int) -> Outcome:
    """Carry out the plan of a bucket in `plan_dir`; raises `StorageError` for what would hit every file."""
    outcome, size = _apply(context, plan_dir, bucket)
    release_after(size)  # otherwise each process keeps what its largest bucket took
    return outcome


def _apply(context: ApplyContext, plan_dir: str, bucket: int) -> tuple[Outcome, int]:
    """Carry out the plan of a bucket; also returns its bytes."""
    plan = read_part(plan_dir, bucket, schema.plan())
    outcome = Outcome(bucket)
    results = outcome.results
    target, scratch = context.target, context.scratch
    fenced = scratch if context.fence is not None else None
    for kind in (Kind.IMAGE, Kind.LABEL):
        paths = _of(plan, Action.DELETE, kind)["path"].to_pylist()
        results.add(target.delete_many([staged_path(p, context.staged) for p in paths], scratch=fenced))
    _put(context, results, scratch, _of(plan, Action.WRITE, Kind.LABEL))
    _put(context, results, scratch, _of(plan, Action.COPY, Kind.IMAGE))
    state_folder = target.own(FOLDER)
    outcome.part = write_part(state_folder, as_manifest(plan, set(results.failed), results.digests), fenced)
    if context.fence is not None:
        target.sync(sorted(context.layout))  # on the machine that wrote it
    results.digests.clear()  # they are in the part now, and need not travel
    return outcome, int(plan.nbytes)


def _put(context: ApplyContext, results: storage.Results, scratch: storage.WritableLocation, files: pa.Table) -> None:
    """Write or copy `files` (rows of `schema.plan` of one kind), by way of `scratch`; adds to `results`."""
    import pyarrow as pa

    target = context.target
    staged = [path.startswith(context.staged) for path in files["path"].to_pylist()]
    for beside in (True, False):
        part = rows_where(files, pa.array([s is beside for s in staged], pa.bool_()))
        if not part.num_rows:
            continue
        root = target.own(STAGING) if beside else target
        direct = beside and context.fence is None
        by_way = None if direct else scratch
        if part["content"][0].is_valid:
            for some in slices(part, part["size"].to_numpy(), _TEXT):
                paths, contents = some["path"].to_pylist(), some["content"].to_pylist()
                results.add(root.write_many(paths, contents, scratch=by_way, direct=direct))
            continue
        keys = part["key"].to_pylist()
        names = context.origins.names(keys, part["source"].to_pylist())
        for origin, here in context.origins.by_origin(keys):
            location = origin.location
            for source, some in storage.image_locations(location, [names[i] for i in here]):
                these = part.take([here[i] for i in some])
                how = context.images if source is location else "copy"  # an image in a label file cannot be linked to
                paths, sizes = these["path"].to_pylist(), these["size"].to_pylist()
                copies = storage.Copies(paths, source, [names[here[i]] for i in some], sizes, how)
                results.add(root.copy_many(copies, scratch=by_way, direct=direct))


def publish(target: storage.WritableLocation, staged: tuple[str, ...]) -> None:
    """Put the folders that were filled in the staging folder at the target, labels before images."""
    if staged:
        target.publish_folders(target.own(STAGING), [folder.rstrip("/") for folder in staged])


def _of(plan: pa.Table, action: Action, kind: Kind) -> pa.Table:
    import pyarrow.compute as pc

    return rows_where(plan, pc.and_(pc.equal(plan["action"], action.value), pc.equal(plan["kind"], kind.value)))
