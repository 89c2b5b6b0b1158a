"""Plans of buckets that need not be made again: nothing that they depend on has changed since they were carried out.

A plan compares the files that a bucket wants with those that the target's manifest lists. The wanted ones depend on the
recipe, on the bucket's parts of the indexes, and on its images as they are. Once a plan is carried out the manifest
lists just these, so with the same of all three and the same part of the manifest a new plan would keep every file. What
it comes to is known without a table: it was written down, a record a bucket, beside the plan.

A record is a fact, whenever it was written: it names all that it depends on by digests, also the part of the plan that
later readers take for the bucket's. It is never written for a bucket with a problem, of which the cause may be gone.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline import exporters, storage
from pipeline.base.digest import digest_of, fitted, seal, unseal
from pipeline.base.version import __version__
from pipeline.job.job import Job
from pipeline.job.recipe import recipe
from pipeline.reports.counts import ActionCounts, FileCount
from pipeline.stages.index.parts import state_name, stated
from pipeline.stages.index.reader import index_at
from pipeline.stages.plan.bucket import write_plan
from pipeline.stages.plan.compare import Loss, image_digests
from pipeline.stages.plan.summary import BucketSummary, PlanCounts
from pipeline.stages.select.parts import read_part
from pipeline.tables import schema
from pipeline.tables.schema import Action, part_name

if TYPE_CHECKING:
    from pipeline.stages.plan.context import PlanContext

#: The tables of an index that a plan reads.
_READ = ("annotations", "images")


def kept_folder(plan_dir: str) -> str:
    """Folder beside that of a plan: by bucket the record of a plan that was carried out."""
    return f"{plan_dir}.kept"


@dataclass(frozen=True)
class KeptPlan:
    """The record of one bucket: what its plan depended on, and what it came to once it was carried out.

    `facts` is the digest of what it has in common with all buckets, `index` those of its parts of the indexes, `target`
    that of its part of the manifest (None: it has no file there), `part` that of its part of the plan, which says that
    all its files are kept once it is `settled`. `content` and `counts` are as in `BucketSummary`.
    """

    facts: str
    index: list[str]
    target: str | None
    part: str
    settled: bool
    content: int
    counts: PlanCounts

    def summary(self, bucket: int) -> BucketSummary:
        """What a plan made now would come to."""
        files = sum(count.files for count in self.counts.plan.get(Action.KEEP, {}).values())
        return BucketSummary(
            bucket, self.content, 0, stale=False, lost=False, counts=self.counts, loss=Loss(total=files), part=self.part
        )


@dataclass(frozen=True)
class KeptPlans:
    """The records of a plan's buckets; without `facts` its buckets depend on more than a record names."""

    context: PlanContext
    facts: str | None

    @staticmethod
    def of(job: Job, context: PlanContext) -> KeptPlans:
        """Those for `job`, whose plan has been decided on but for its buckets."""
        return KeptPlans(context, _facts(job, context) if _stands_alone(context) else None)

    @functools.cached_property
    def found(self) -> dict[int, BucketSummary]:
        """What the buckets come to that need no plan; it is known before the first one is planned."""
        context, state = self.context, self.context.state
        if self.facts is None or state.manifest is None or state.intent is not None or state.lost or state.renamed:
            return {}
        if context.check_there or context.suspects or state.base.buckets != context.buckets:
            return {}
        lacking = state.lacking_parts()
        found: dict[int, BucketSummary] = {}
        for bucket, target in enumerate(state.base.parts):
            kept = self._read(bucket) if target not in lacking else None
            if kept is None or kept.facts != self.facts or kept.target != target:
                continue
            if kept.index == self._index(bucket) and self._has_part(bucket, kept) and self._same_images(bucket):
                settled = kept if kept.settled else self._settled(bucket, kept)
                found |= {bucket: settled.summary(bucket)} if settled is not None else {}
        return found

    def keep(self, summaries: Sequence[BucketSummary], parts: Sequence[str | None]) -> None:
        """Write the records of a plan that was carried out; `parts` are the digests of the manifest's."""
        for summary, target in zip(summaries, parts, strict=True):
            if summary.bucket not in self.found and (kept := self._record(summary, target)) is not None:
                self._write(summary.bucket, kept)

    def _read(self, bucket: int) -> KeptPlan | None:
        folder = storage.locate(kept_folder(self.context.plan_dir))
        return fitted(unseal(folder.read(state_name(bucket))), KeptPlan)

    def _write(self, bucket: int, kept: KeptPlan) -> None:
        record = seal(kept)
        path = os.path.join(kept_folder(self.context.plan_dir), state_name(bucket))
        storage.write_with(path, lambda file: file.write(record))

    def _record(self, summary: BucketSummary, target: str | None) -> KeptPlan | None:
        index = self._index(summary.bucket)
        if self.facts is None or index is None or not summary.sound:
            return None
        counts = replace(summary.counts, plan=_all_kept(summary.counts.plan))
        return KeptPlan(self.facts, index, target, summary.part, not summary.changes, summary.content, counts)

    def _settled(self, bucket: int, kept: KeptPlan) -> KeptPlan | None:
        """The record once the bucket has the part that a plan made now would have, not the one that was carried out."""
        import pyarrow as pa
        import pyarrow.compute as pc

        fitting, context = schema.plan(), self.context
        plan = read_part(context.plan_dir, bucket, fitting, [name for name in fitting.names if name != "content"])
        plan = plan.filter(pc.not_equal(plan["action"], Action.DELETE.value))
        listed = context.state.rows(bucket, context.buckets)
        if not plan["path"].combine_chunks().equals(listed["path"].combine_chunks()):
            return None
        values = {
            "action": pa.repeat(pa.scalar(Action.KEEP.value, pa.string()), plan.num_rows),
            "content": pa.nulls(plan.num_rows, pa.binary()),
            "content_digest": listed["content_digest"],
        }
        columns = [values[name] if name in values else plan[name] for name in fitting.names]
        _, part = write_plan(context, bucket, pa.Table.from_arrays(columns, schema=fitting))
        settled = replace(kept, part=part, settled=True)
        self._write(bucket, settled)
        return settled

    def _index(self, bucket: int) -> list[str] | None:
        """Digests of the bucket's parts of the indexes; None where nothing vouches for one."""
        digests: list[str] = []
        for source in self.context.sources:
            state = stated(source.index_dir, bucket % index_at(source.index_dir).info.buckets)
            if state is None:
                return None
            digests += [state.parts[table] for table in _READ]
        return digests

    def _has_part(self, bucket: int, kept: KeptPlan) -> bool:
        """Whether the bucket's part of the plan is the one that was carried out: `coco-diy plan` makes others."""
        [digest] = storage.locate(self.context.plan_dir).content_digests([part_name(bucket)])
        return digest is not None and digest.hex() == kept.part

    def _same_images(self, bucket: int) -> bool:
        """Whether the images of the bucket are as its part of the plan has them."""
        import pyarrow.compute as pc

        context = self.context
        if context.images == "none":
            return True
        plan = read_part(context.plan_dir, bucket, schema.plan(), ["key", "source", "action", "digest"])
        plan = plan.filter(pc.and_(plan["source"].is_valid(), pc.not_equal(plan["action"], Action.DELETE.value)))
        keys, digests = plan["key"].to_pylist(), plan["digest"].to_pylist()
        names = context.origins.names(keys, plan["source"].to_pylist())
        for location, here in context.origins.locations(keys, names):
            found = image_digests(context.images, location, [names[i] for i in here])
            if None in found or found != [digests[i] for i in here]:
                return False
        return True


def _stands_alone(context: PlanContext) -> bool:
    """Whether the wanted files of a bucket depend on nothing but recipe, index and images: on no other bucket, say."""
    select, exporter = context.select, exporters.load(context.exporter)
    if exporter.GATHERS or context.archive or context.flat or select.decides or select.objects.any:
        return False
    if context.split_rule is not None or context.no_backgrounds is not None or context.left_out:
        return False
    return context.images == "none" or not (context.origins.remote().urls or any(s.linked for s in context.sources))


def _facts(job: Job, context: PlanContext) -> str:
    """The digest of what all buckets of a plan depend on."""
    sources = [[s.prefix, s.index_dir, s.named, s.mixed, s.sized, s.linked, s.partly] for s in context.sources]
    origins = [dict(context.origins.urls), dict(context.labels.urls)]
    whole = [__version__, recipe(job), job.numbers(), job.root, context.splits, context.buckets, context.keypoints]
    return digest_of(json.dumps([*whole, sources, origins], sort_keys=True).encode()).hex()


def _all_kept(plan: ActionCounts) -> ActionCounts:
    """The counts of a plan made after one with the counts `plan` was carried out: it keeps all that was not deleted."""
    kept: dict[str, FileCount] = {}
    for action in (Action.WRITE, Action.COPY, Action.KEEP):
        for kind, count in plan.get(action, {}).items():
            own = kept.setdefault(kind, FileCount())
            own.files += count.files
            own.bytes += count.bytes
    return {Action.KEEP.value: kept} if kept else {}
