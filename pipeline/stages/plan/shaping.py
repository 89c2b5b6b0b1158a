"""What is decided of all buckets before one is planned: lists, near duplicates, caps, the share of backgrounds.

Each bucket leaves a small table of its candidates; from these one decision is made, and written as the images that are
left out, a table a bucket. Keys stay in the tables: what is decided on are numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline import storage
from pipeline.base.errors import ConfigError, unknown
from pipeline.base.humanize import noun, plural
from pipeline.config.select import Background
from pipeline.job.job import Job
from pipeline.runtime.engine import Engine
from pipeline.runtime.progress import Progress
from pipeline.stages.index.parts import index_part
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.plan import frame
from pipeline.stages.plan.backgrounds import write_excluded, write_excluded_part
from pipeline.stages.plan.candidates import Candidates, candidates_bucket
from pipeline.stages.plan.context import PlanContext
from pipeline.stages.select.caps import Limits, capped
from pipeline.stages.select.draw import drawn, near_misses
from pipeline.stages.select.lists import NameList, read_names
from pipeline.stages.select.near_duplicates import duplicates_dropped

if TYPE_CHECKING:
    from pipeline.base.arrays import AnyInts
    from pipeline.reports.counts import SplitCounts
    from pipeline.reports.documents import ListReport


@dataclass
class Shape:
    """What was decided, for the report: of each list that the config names what it named, by its key.

    `waits_for` remote images that must be fetched before near duplicates and caps can be decided on.
    """

    lists: dict[str, ListReport] = field(default_factory=dict)
    waits_for: int = 0

    def warnings(self) -> list[str]:
        """Sentences about entries of lists that name nothing, and about what is not decided yet."""
        found = []
        if self.waits_for:
            images = plural(self.waits_for, "image is", "images are")
            found.append(
                f"select: near duplicates and caps are decided on once {images} fetched; until then all are taken"
            )
        for key, one in self.lists.items():
            if count := len(one["unmatched"]):
                of = plural(one["entries"], "entry", "entries")
                shown = ", ".join(one["unmatched"][:3])
                none = noun(count, "names no image", "name no image")
                found.append(f"select.{key}: {count:,} of {of} {none} of the source, such as {shown}")
        return found


def obey_lists(job: Job, infos: Sequence[IndexInfo], context: PlanContext) -> tuple[PlanContext, Shape]:
    """The context that knows which images the lists of the config leave out."""
    select, shape = job.config.select, Shape()
    lists = {
        key: NameList(read_names(path, f"select.{key}"))
        for key, path in (("images", select.images), ("exclude_images", select.exclude_images))
        if path is not None
    }
    asked, excluded = lists.get("images"), lists.get("exclude_images")
    left: dict[str, str] = {}
    if lists and job.several:
        for key in _keys(job, infos):
            for one in lists.values():
                one.add_key(key)
    for key in _keys(job, infos) if lists else ():
        listed = asked.names(key) if asked is not None else True
        if excluded is not None and excluded.names(key):
            left[key] = "excluded"
        elif not listed:
            left[key] = "not_listed"
    for name, one in lists.items():
        shape.lists[name] = {"entries": len(one.entries), "unmatched": one.unmatched}
    folder = write_excluded(left, f"{job.plan_dir}.lists", context.buckets)
    return (replace(context, left_out=(folder,)) if folder is not None else context), shape


def _keys(job: Job, infos: Sequence[IndexInfo]) -> Iterator[str]:
    """The keys of all images of the sources."""
    for source, info in zip(job.sources, infos, strict=True):
        for bucket in range(info.buckets):
            yield from index_part(source.index_dir, "images", bucket, ["key"])["key"].to_pylist()


def shaped(job: Job, context: PlanContext, shape: Shape, engine: Engine, progress: Progress) -> PlanContext:
    """The context that knows which images near duplicates, the caps and the share of backgrounds leave out.

    As long as remote images that decide are not fetched, all are taken: one that a cap leaves out may be needed once
    others turn out to be too small. `shape` notes it. Raises `ConfigError` for a class that the subset has not.
    """
    if not job.config.select.decides:
        return context
    limits = limits_of(job)
    with progress.stage("select", context.buckets, "buckets") as step:
        lazily = replace(context, fetched=context.fetched and not job.config.select.has_caps)
        not_fetched = sum(frame.compute(lazily, candidates_bucket, engine, step.add))
    if not_fetched and not context.fetched:
        shape.waits_for, limits = not_fetched, Limits({}, {})
        if job.config.select.dedup is not None:
            return context
    found = Candidates.read(context)
    reasons = _decide(job, found, limits)
    folder = f"{job.plan_dir}.left_out"
    location = storage.locate_writable(folder)
    location.delete_many(sorted(location.names()))
    for bucket, keys, part in found.by_bucket(reasons):
        at = part.nonzero()[0]
        write_excluded_part(folder, bucket, keys.take(at).to_pylist(), [_REASONS[code] for code in part[at].tolist()])
    return replace(context, left_out=(*context.left_out, folder))


def _decide(job: Job, found: Candidates, limits: Limits) -> AnyInts:
    """For each candidate the position in `_REASONS` of why it is left out; 0: it is not."""
    import numpy as np

    reasons = np.zeros(len(found.background), np.int8)
    if (dedup := job.config.select.dedup) is not None:
        dropped = duplicates_dropped(found.hashes(), dedup.across, dedup.keep, dedup.bits)
        for reason in ("near_duplicate", "equal_image"):
            reasons[found.marked(key for key, why in dropped.items() if why == reason)] = _REASONS.index(reason)
    out = capped(limits, found.cap_rank, found.image, found.class_id, found.count, before=reasons > 0)
    reasons[out & (reasons == 0)] = _REASONS.index("capped")
    share = job.config.select.background
    if isinstance(share, Background):
        weight = None
        if found.others is not None:
            families = {k: v for one in job.sources if one.names for k, v in one.names.supercategories.items()}
            weight = near_misses(found.others, found.background, wanted_names(job), families)
        taken = drawn(found.rank, found.split, found.background, share.ratio, share.max, weight, reasons == 0)
        reasons[found.background & ~taken & (reasons == 0)] = _REASONS.index("not_drawn")
    return reasons


#: Why a candidate is left out, by the code that it gets.
_REASONS = ("", "near_duplicate", "equal_image", "capped", "not_drawn")


def limits_of(job: Job) -> Limits:
    """The caps of the config by class id; raises `ConfigError` for a class that the subset does not have."""
    caps = job.config.select.per_class
    found = []
    for key, cap in (("max_images", caps.max_images), ("max_objects", caps.max_objects)):
        if isinstance(cap, dict):
            for name in cap:
                if name not in job.classes:
                    raise ConfigError(f"select.per_class.{key}: {unknown('class', name, job.classes)}")
            found.append({job.classes.index(name): most for name, most in cap.items()})
        else:
            found.append({} if cap is None else dict.fromkeys(range(len(job.classes)), cap))
    return Limits(*found)


def overshoots(job: Job, subset: Mapping[str, SplitCounts]) -> list[str]:
    """Sentences for classes of which the subset has more than their cap, and why."""
    limits, found = limits_of(job), []
    for what, most in (("images", limits.images), ("objects", limits.objects)):
        for number, cap in sorted(most.items()):
            name = job.classes[number]
            has = sum((c.images_by_class if what == "images" else c.objects)[name] for c in subset.values())
            if has > cap:
                found.append(
                    f"class {name!r} has {has:,} {noun(has, what[:-1])}, {has - cap:,} above its cap of {cap:,}: "
                    "images taken for rarer classes hold them"
                )
    return found


def wanted_names(job: Job) -> frozenset[str]:
    """What the sources call the classes of the subset."""
    return frozenset(name for one in job.maps for name in one.wanted_names)
