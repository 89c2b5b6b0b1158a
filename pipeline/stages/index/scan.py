"""What a source holds now: its listings, compared with those of the index."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from pipeline import formats, storage
from pipeline.base.terms import IMAGE_SUFFIXES
from pipeline.job.job import Job, SourceJob
from pipeline.job.named_splits import forget_lists
from pipeline.job.spec import LEFT_OUT_FILES, LEFT_OUT_FOLDERS, IndexSpec
from pipeline.runtime.engine import FILES_WORTH_HELPERS, Engine
from pipeline.runtime.progress import Progress
from pipeline.stages.index.image_lists import ListedSplits, obey_lists
from pipeline.stages.index.nested_splits import ListedSplit, leave_to_narrower
from pipeline.storage import Listing

#: A folder, the suffixes of files in it, and whether to ask for their size and times, perhaps by how many there are.
_ListingJob = tuple[str, frozenset[str] | None, bool | Callable[[int], bool]]


@dataclass
class Scan:
    """Listings of every split: labels, and images where the split has them."""

    splits: list[tuple[Listing, Listing | None]]
    with_stats: bool
    lists: ListedSplits
    _further: list[storage.Spill] = field(default_factory=list)

    def digest(self, spec: IndexSpec) -> str | None:
        """Equal digests mean an unchanged source; None while a file is too young."""
        import xxhash

        settled = all(listing.settled for pair in self.splits for listing in pair if listing is not None)
        if not self.with_stats or not settled:
            return None
        state = xxhash.xxh3_128(spec.digest().encode() + self.lists.marks)
        for labels, images in self.splits:
            state.update(labels.digest())
            state.update(images.digest() if images else b"")
        return str(state.hexdigest())

    @property
    def spill(self) -> storage.Spill:
        """Where the listings are."""
        return self.splits[0][0].spill

    def new_spill(self) -> storage.Spill:
        """Another one beside that, for what is made of the listings; it ends with this at the latest."""
        self._further.append(storage.Spill(self.spill.folder))
        return self._further[-1]

    def close(self) -> None:
        """Give back the files in which names and stats are; nothing can be asked any more."""
        listings = [listing for pair in self.splits for listing in pair if listing is not None]
        for spill in (*(listing.spill for listing in listings), *self._further):
            spill.close()

    @property
    def files(self) -> int:
        """Files listed, labels and images."""
        return sum(labels.count + (images.count if images else 0) for labels, images in self.splits)

    @property
    def images(self) -> int:
        """Images, roughly: the more of label files and image files in each split."""
        return sum(max(labels.count, images.count if images else 0) for labels, images in self.splits)

    @property
    def label_files(self) -> int:
        """Label files listed."""
        return sum(labels.count for labels, _ in self.splits)


@contextmanager
def scanned(job: Job, engine: Engine | None, progress: Progress) -> Iterator[list[Scan]]:
    """List the sources: in a helper process while this one does what `engine` has begun, or right here.

    Without any part of an index every label file is read, and its stats come with that: then only names are listed. The
    listings end with what is inside.
    """
    if engine is not None and any(_many_files(job, source) for source in job.sources):
        engine.warm_up()
    with ExitStack() as stack:
        found: list[Scan] = []
        with progress.stage("list", 0):
            for source in job.sources:
                found.append(_listed(job, source, engine))
                stack.callback(found[-1].close)
        forget_lists()
        keep_splits_apart([(source.spec, listed) for source, listed in zip(job.sources, found, strict=True)])
        yield found


def _listed(job: Job, source: SourceJob, engine: Engine | None) -> Scan:
    if engine is None:
        return scan_source(source.spec, with_stats=True, keep=job.workdir)
    from pipeline.stages.index.reader import has_parts

    if not has_parts(source.index_dir):
        return scan_source(source.spec, with_stats=False, keep=job.workdir)
    return scan_source(source.spec, with_stats=True, keep=job.workdir, engine=engine)


def _many_files(job: Job, source: SourceJob) -> bool:
    """Whether this run is likely to read or write more files than this process does alone: a guess from the index."""
    from pipeline.stages.index.reader import IndexInfo

    info = IndexInfo.read(source.index_dir)
    if info is None or not job.maps:
        return True
    classes = job.maps[job.sources.index(source)]
    wanted = set(classes.wanted_names) if source.named else {str(i) for i in classes.wanted_ids}
    counts = [n for split in info.totals.values() for i, n in split["class_images"].items() if i in wanted]
    return int(sum(counts)) > FILES_WORTH_HELPERS


def scan_source(
    spec: IndexSpec,
    *,
    with_stats: bool,
    keep: str | None = None,
    engine: Engine | None = None,
) -> Scan:
    """List the source. With an `engine` in a helper process, while this one does what was begun.

    `with_stats` asks for size and times of the label files; where all of them are read anyway, that is not needed.
    `keep` is as in `storage.locate`.
    """
    format_ = formats.load(spec.format)
    with_stats = with_stats or format_.WHOLE  # those are few files
    jobs: list[_ListingJob] = []
    sized: bool | Callable[[int], bool] = format_.SIZED
    if format_.WHOLE:
        sized = functools.partial(formats.load_single_file(spec.format).asks_sizes, json.loads(spec.options))
    for split in spec.splits:
        if format_.WHOLE:
            jobs.append(("\0".join(split.label_files), None, True))
        else:
            jobs.append((split.labels, frozenset({format_.SUFFIX}), with_stats))
        if split.images is not None and split.suffix is None:
            # Names only: a copy asks for size and time of the images that it takes, often 3 of a hundred. But where
            # the size of an image decides about rows, a changed one must be seen.
            jobs.append((split.images, frozenset(IMAGE_SUFFIXES), sized))
    spill = storage.Spill(keep)
    try:
        listings = _list_all(jobs, keep, spill) if engine is None else engine.background(_list_all, jobs, keep, spill)()
    except BaseException:
        spill.close()
        raise
    for listing in listings:
        listing.leave_out(LEFT_OUT_FOLDERS, LEFT_OUT_FILES)
    found = iter(listings)
    pairs = [
        (next(found), next(found) if split.images is not None and split.suffix is None else None)
        for split in spec.splits
    ]
    for labels, images in pairs:
        if not format_.WHOLE:
            labels.one_of_each_stem(format_.SUFFIX)
        if images is not None and (sized(images.count) if callable(sized) else sized):
            images.forget_links()
    return Scan(pairs, with_stats, obey_lists(spec.splits, pairs))


def keep_splits_apart(found: Sequence[tuple[IndexSpec, Scan]]) -> None:
    """Take out of the listings of each source what belongs to a narrower split, see `leave_to_narrower`."""
    splits = [
        ListedSplit(spec, split, *pair)
        for spec, scan in found
        for split, pair in zip(spec.splits, scan.splits, strict=True)
        if not formats.load(spec.format).WHOLE
    ]
    notes = {spec.name: scan.lists.notes for spec, scan in found}
    for spec, note in leave_to_narrower(splits):
        notes[spec.name].append(note)


def _list_all(jobs: list[_ListingJob], keep: str | None, spill: storage.Spill) -> list[Listing]:
    """Listings of folders, kept in `spill`; of single files, joined by NUL, where there are no suffixes."""
    found = []
    for path, suffixes, stats in jobs:
        if suffixes is None:
            found.append(storage.locate("/").listing_of([one.removeprefix("/") for one in path.split("\0")]))
            continue
        location = storage.locate(path, keep)
        if callable(stats):
            listing = location.listing(suffixes, with_stats=False, spill=spill)
            stats = stats(listing.count)  # noqa: PLW2901
            if not stats:
                found.append(listing)
                continue
        # Elsewhere than in a folder sizes come along, and batches of label files are cut by them.
        stats = stats or (len(suffixes) == 1 and location.local is None)  # noqa: PLW2901
        found.append(location.listing(suffixes, with_stats=stats, spill=spill))
    return found


def source_digest(digests: Sequence[str | None]) -> str | None:
    """One digest of the listings of all sources; None while that of one is not certain."""
    if any(digest is None for digest in digests):
        return None
    return "+".join(str(digest) for digest in digests)


def import_for_index() -> None:
    """Import what the index stage needs: done while a helper lists or reads."""
    import dask.delayed
    import pyarrow.parquet

    assert dask.delayed
    assert pyarrow.parquet


def import_for_plan() -> None:
    """Import what the selection needs: done while a helper lists or reads."""
    import dask.dataframe

    assert dask.dataframe
