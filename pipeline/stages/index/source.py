"""Stage 1: source to index. Lists the source, assigns its files to buckets, and makes each bucket's tables.

An index is a folder of four tables (`files`, `images`, `annotations`, `problems`, see `schema`), one Parquet file a
bucket, their `states`, and `index.json`. A state is written last, says what made the bucket and has the digests
of its parts, so that a killed run loses only the buckets under way. An existing bucket re-reads only label files whose
fingerprint changed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline import formats, storage
from pipeline.base.classes import SourceNames
from pipeline.base.terms import NO_CLASS, Task
from pipeline.job.spec import IndexSpec
from pipeline.reports.counts import add_counts
from pipeline.runtime.engine import Engine
from pipeline.runtime.log import LOG
from pipeline.runtime.progress import Progress
from pipeline.stages.index.buckets import BucketDone, BucketListing, bucket_count
from pipeline.stages.index.parts import drop_foreign_parts, made_of, unchanged
from pipeline.stages.index.reader import IndexInfo, SourceDocument

#: Reasons why a label file was not read that may be gone a moment later.
PASSING = {"unreadable", "changed", "vanished"}

if TYPE_CHECKING:
    from pipeline.reports.documents import SourceTotals
    from pipeline.stages.index.assignment import Assignment, BucketFiles
    from pipeline.stages.index.scan import Scan
    from pipeline.stages.index.single_file import BucketShare, ParsedSource


def update(
    spec: IndexSpec,
    directory: str,
    found: Scan,
    *,
    buckets: int | str,
    engine: Engine,
    progress: Progress,
    keep: str | None = None,
) -> IndexInfo:
    """Bring the index at `directory` up to date with `found`; returns what `index.json` then says."""
    from pipeline.stages.index.assignment import assign, unclaimed_images

    existing = IndexInfo.read(directory)
    digest, spec_digest = found.digest(spec), spec.digest()
    usable = existing if existing is not None and existing.spec_digest == spec_digest else None
    whole_format = formats.load(spec.format).WHOLE
    if usable is not None and digest is not None and usable.source_digest == digest:
        images = usable.document.get("images", 0) if whole_format else found.images
        text = usable.document.get("text", 0)
        if bucket_count(buckets, images, usable.buckets, text) == usable.buckets and usable.is_sound(directory):
            LOG.info("%s: the index is up to date; no label file is read", directory)
            return usable
    before = usable.buckets if usable is not None else None
    if whole_format:
        from pipeline.stages.index.single_file import ParsedSource

        whole = ParsedSource(spec, digest, [pictures for _, pictures in found.splits], engine)
        count = bucket_count(buckets, whole.images, before, whole.document["text"])
        return _update_whole(whole, directory, found, count, engine, progress, keep)
    count = bucket_count(buckets, found.images, before)
    assigned = assign(spec, found, count)
    function = functools.partial(index_bucket, spec, directory, count, keep, unclaimed_images(spec, found, assigned))
    drop_foreign_parts(directory, count)
    summaries: dict[int, dict[str, SourceTotals]] = {}
    with progress.stage("index", found.label_files) as step:
        if usable is not None and found.with_stats:
            summaries |= _unchanged(directory, made_of(spec_digest, count), assigned)
            step.add(sum(int(assigned.labels[bucket]) for bucket in summaries))
        tasks = [(bucket, assigned.files_of(bucket)) for bucket in range(count) if bucket not in summaries]
        labels = sum(int(assigned.labels[bucket]) for bucket, _ in tasks)
        # Of a bucket that is there few files are read, and its tables: a third of the work.
        for done in engine.map(function, tasks, files=labels if usable is None else labels // 4):
            summaries[done.bucket] = done.summary
            if not found.with_stats:
                assigned.keep_stats(done.bucket, done.stats)
            step.add(done.files)
    if not found.with_stats:
        assigned.add_stats(found)
        digest = found.digest(spec)
    assigned.spill.close()
    totals = _sum(summaries)
    if _any_passing(totals):
        digest = None
    names = _with_keypoints(_names(totals), spec) if formats.load(spec.format).NAMED else None
    document: SourceDocument = {"notes": found.lists.notes, "grave": found.lists.grave}
    return _finish(IndexInfo(asdict(spec), spec_digest, count, digest, totals, names, document), directory, found)


def _unchanged(directory: str, made_by: dict[str, Any], assigned: Assignment) -> dict[int, dict[str, SourceTotals]]:
    """The counts of the buckets that need not be opened, see `parts.unchanged`."""
    found = {
        bucket: unchanged(directory, bucket, made_by, assigned.listing(bucket).digest())
        for bucket in range(assigned.buckets)
    }
    return {bucket: summary for bucket, summary in found.items() if summary is not None}


def _any_passing(totals: Mapping[str, SourceTotals]) -> bool:
    """Whether a file could not be read for now: that is no fact about it, and the next run tries again."""
    return any(reason in PASSING for counts in totals.values() for reason in counts["problems"])


def _sum(summaries: Mapping[int, dict[str, SourceTotals]]) -> dict[str, SourceTotals]:
    totals: dict[str, SourceTotals] = {}
    for bucket in sorted(summaries):
        add_counts(totals, summaries[bucket])
    return totals


def _update_whole(
    whole: ParsedSource,
    directory: str,
    found: Scan,
    count: int,
    engine: Engine,
    progress: Progress,
    keep: str | None,
) -> IndexInfo:
    """`update` for a format of which one file holds all labels of a split."""
    spec = whole.spec
    drop_foreign_parts(directory, count)
    with progress.stage("index", whole.images, "images") as step:
        tasks = list(enumerate(whole.assign(count)))
        function = functools.partial(index_share, spec, directory, count, keep, whole.digest)
        summaries = {}
        for done in engine.map(function, tasks, files=whole.annotations):
            summaries[done.bucket] = done.summary
            step.add(done.files)
    totals, names = _sum(summaries), _with_keypoints(whole.names, spec)
    info = IndexInfo(asdict(spec), spec.digest(), count, found.digest(spec), totals, names, whole.document)
    return _finish(info, directory, found)


def _finish(info: IndexInfo, directory: str, found: Scan) -> IndexInfo:
    """Write ``index.json``, the last of all."""
    info.odd = [
        [storage.locate(listing.folder).join(path), reason]
        for pair in found.splits
        for listing in pair
        if listing is not None
        for path, reason in listing.unusable
    ]
    for pair in found.splits:
        for listing in pair:
            if listing is not None:
                add_counts(info.left_out, listing.left_out)
    info.links = [
        (listing.folder, home, count, name)
        for pair in found.splits
        for listing in pair
        if listing is not None
        for home, (count, name) in sorted(listing.links.items())
    ]
    content = sum(counts.pop("content", 0) for counts in info.totals.values())
    info.content = info.document.get("content", f"{content % 2**64:016x}")
    info.write(directory)
    return info


def _names(totals: Mapping[str, SourceTotals]) -> SourceNames:
    """The names of classes that rows carry, sorted; what only lines and points are called is no class."""
    return {"names": sorted({name for counts in totals.values() for name in counts.get("drawn", ())} - set(NO_CLASS))}


def _with_keypoints(names: SourceNames, spec: IndexSpec) -> SourceNames:
    """`names` with the keypoints that the options name, if they do, for every class."""
    points = json.loads(spec.options).get("keypoints") if spec.task is Task.POSE else None
    if not points:
        return names
    return {**names, "kpt_shape": (len(points), 3), "kpt_names": {str(i): points for i in range(len(names["names"]))}}


def index_bucket(
    spec: IndexSpec,
    directory: str,
    buckets: int,
    keep: str | None,
    unclaimed: tuple[bytes, ...],
    bucket: int,
    payload: BucketFiles | BucketListing,
) -> BucketDone:
    """Make or update one bucket of these files; `keep` is as in `storage.locate`, `unclaimed` as `unclaimed_images`."""
    from pipeline.stages.index.bucket import BucketTask, update_bucket

    return update_bucket(BucketTask(spec, directory, buckets, keep, bucket), payload.listing(), unclaimed)


def index_share(
    spec: IndexSpec,
    directory: str,
    buckets: int,
    keep: str | None,
    digest: str | None,
    bucket: int,
    shares: list[BucketShare],
) -> BucketDone:
    """Make one bucket of a source of single files, whose digest is `digest`; `keep` is as in `storage.locate`."""
    from pipeline.base.memory import release_free
    from pipeline.stages.index.bucket import BucketTask
    from pipeline.stages.index.single_file import make_bucket

    done = make_bucket(BucketTask(spec, directory, buckets, keep, bucket), digest, shares)
    release_free()  # of its tables' size, and the next bucket's are made elsewhere
    return done
