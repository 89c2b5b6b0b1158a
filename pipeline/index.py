"""Stage 1: source to index. Lists the source, deals its files to buckets, and makes each bucket's tables.

An index is a folder of four tables (`files`, `images`, `annotations`, `problems`, see `schema`), one Parquet file a
bucket, and `index.json`. A bucket's `files` part is written last and carries what made it, so that a killed run loses
only the buckets under way. An existing bucket re-reads only label files whose fingerprint changed.
"""

from __future__ import annotations

import functools
import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline import formats, storage
from pipeline.classes import NO_CLASS
from pipeline.engine import Engine
from pipeline.errors import ConfigError, DataError
from pipeline.frames import to_pandas
from pipeline.progress import Progress
from pipeline.schema import VERSION, part_name
from pipeline.spec import IMAGE_SUFFIXES, LEFT_OUT_FILES, LEFT_OUT_FOLDERS, Dealt, IndexSpec
from pipeline.storage import Listing

if TYPE_CHECKING:

    from pipeline._bucket import BucketDone
    from pipeline._whole import Whole

#: A bucket costs some 10 ms of overhead a stage, and its rows are in memory at once: both count.
IMAGES_PER_BUCKET = 8192
TABLES = ("files", "images", "annotations", "problems")


@dataclass
class Scan:
    """Listings of every split: labels, and images where the split has them."""

    splits: list[tuple[Listing, Listing | None]]
    with_stats: bool

    def digest(self, spec: IndexSpec) -> str | None:
        """Equal digests mean an unchanged source; None while a file is too young to tell."""
        import xxhash

        settled = all(listing.settled for pair in self.splits for listing in pair if listing is not None)
        if not self.with_stats or not settled:
            return None
        state = xxhash.xxh3_128(spec.digest().encode())
        for labels, images in self.splits:
            state.update(labels.digest())
            state.update(images.digest() if images else b"")
        return str(state.hexdigest())

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


@dataclass
class IndexInfo:
    """The content of `index.json`: `totals` by split, see `_summary`.

    `names` is what the source calls its classes itself, if it does (the fields of `classes.Names`); `document` is what
    belongs to a label file as a whole, by split. `left_out` counts the files of folders that nobody wants. `content` is
    a digest of the label files' names and contents, the same on every machine. `links` are the folders that links in a
    folder lead to, with their number and one of them.
    """

    spec: dict[str, Any]
    spec_digest: str
    buckets: int
    source_digest: str | None
    totals: dict[str, Any]
    names: dict[str, Any] | None = None
    document: dict[str, Any] = field(default_factory=dict)
    odd: list[list[str]] = field(default_factory=list)
    links: list[tuple[str, str, int, str]] = field(default_factory=list)
    content: str | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    version: int = VERSION

    @staticmethod
    def read(directory: str) -> IndexInfo | None:
        """The index at `directory`, or None where there is none that this version can read."""
        data = storage.locate(directory).read("index.json")
        if data is None:
            return None
        try:
            info = IndexInfo(**json.loads(data))
        except (ValueError, TypeError):
            return None
        return info if info.version == VERSION else None


def scan(
    spec: IndexSpec, *, with_stats: bool, keep: str | None = None,
    engine: Engine | None = None, meanwhile: Callable[[], None] | None = None,
) -> Scan:
    """List the source. With an `engine` in a helper process, while this one does `meanwhile`.

    `with_stats` asks for size and times of the label files; where all of them are read anyway, that is not needed.
    `keep` is as in `storage.locate`.
    """
    format_ = formats.load(spec.format)
    with_stats = with_stats or format_.WHOLE  # those are few files
    jobs: list[tuple[str, frozenset[str] | None, bool]] = []
    for split in spec.splits:
        if format_.WHOLE:
            jobs.append(("\0".join(filter(None, (split.labels, split.captions))), None, True))
        else:
            jobs.append((split.labels, frozenset({format_.SUFFIX}), with_stats))
        if split.images is not None and split.suffix is None:
            # Names only: a copy asks for size and time of the images that it takes, often 3 of a hundred. But where
            # the size of an image decides about rows, a changed one must be seen.
            jobs.append((split.images, frozenset(IMAGE_SUFFIXES), format_.SIZED))
    if engine is None:
        listings = _list_all(jobs, keep)
    else:
        result = engine.background(_list_all, jobs, keep)
        if meanwhile is not None:
            meanwhile()
        listings = result()
    for listing in listings:
        listing.leave_out(LEFT_OUT_FOLDERS, LEFT_OUT_FILES)
    found = iter(listings)
    pairs = [(next(found), next(found) if split.images is not None and split.suffix is None else None)
             for split in spec.splits]
    for _, images in pairs if format_.SIZED else ():
        if images is not None:
            images.forget_links()
    return Scan(pairs, with_stats)


def _list_all(jobs: list[tuple[str, frozenset[str] | None, bool]], keep: str | None) -> list[Listing]:
    """Listings of folders; of single files, joined by NUL, where there are no suffixes to look for."""
    found = []
    for path, suffixes, stats in jobs:
        if suffixes is None:
            found.append(storage.locate("/").listing_of([one.removeprefix("/") for one in path.split("\0")]))
            continue
        place = storage.locate(path, keep)
        # Elsewhere than in a folder sizes come along, and batches of label files are cut by them.
        found.append(place.listing(suffixes, with_stats=stats or (len(suffixes) == 1 and place.local is None)))
    return found


def bucket_count(wanted: int | str, images: int, existing: int | None) -> int:
    """Buckets for `images`: a power of two with a few thousand each; an `existing` count that still fits is kept."""
    if wanted != "auto":
        return int(wanted)
    count = 1
    while count * IMAGES_PER_BUCKET < images:
        count *= 2
    if existing is not None and count // 4 < existing <= count * 4 and existing & (existing - 1) == 0:
        return existing
    return count


def update(
    spec: IndexSpec, directory: str, found: Scan, *, buckets: int | str, engine: Engine, progress: Progress,
    keep: str | None = None, meanwhile: Callable[[], None] | None = None,
) -> IndexInfo:
    """Bring the index at `directory` up to date with `found`; returns what `index.json` then says.

    `meanwhile` is done in this process while helpers, if any, are at work.
    """
    import numpy as np

    from pipeline._dealing import add_stats, deal

    existing = IndexInfo.read(directory)
    digest, spec_digest = found.digest(spec), spec.digest()
    usable = existing is not None and existing.spec_digest == spec_digest
    whole = None
    images = found.images
    if formats.load(spec.format).WHOLE:
        from pipeline._whole import Whole

        same = existing is not None and usable and digest is not None and existing.source_digest == digest
        whole = Whole(spec, digest, existing.document if same and existing else None,
                      [pictures for _, pictures in found.splits])
        images = whole.images
    count = bucket_count(buckets, images, existing.buckets if existing and usable else None)
    if (existing and usable and existing.buckets == count and digest is not None
            and existing.source_digest == digest and _is_whole(directory, count)):
        return existing
    if whole is not None:
        return _update_whole(whole, directory, found, count, engine, progress, keep, meanwhile)
    # Where most of the index stands, few files are read, and processes are not worth their start.
    changed = found.label_files if not usable else 0
    payloads, order = deal(spec, found, count)
    function = functools.partial(index_bucket, spec, directory, count, keep)
    _drop_foreign_parts(directory, count)
    summaries: dict[int, dict[str, Any]] = {}
    stats = np.zeros((found.files, 4), np.int64)
    with progress.stage("index", found.label_files) as step:
        tasks = [(bucket, payload) for bucket, payload in enumerate(payloads)]
        for done in engine.map(function, tasks, files=changed, first=meanwhile):
            summaries[done.bucket] = done.summary
            stats[order[done.bucket]] = np.frombuffer(done.stats, np.int64).reshape(-1, 4)
            step.add(done.files)
    if not found.with_stats:
        add_stats(found, stats)
        digest = found.digest(spec)
    totals = _sum(summaries)
    names = _names(totals) if formats.load(spec.format).NAMED else None
    return _finish(IndexInfo(asdict(spec), spec_digest, count, digest, totals, names), directory, found)


def _sum(summaries: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    totals: dict[str, Any] = {}
    for bucket in sorted(summaries):
        add_counts(totals, summaries[bucket])
    return totals


def _update_whole(
    whole: Whole, directory: str, found: Scan, count: int, engine: Engine, progress: Progress, keep: str | None,
    meanwhile: Callable[[], None] | None,
) -> IndexInfo:
    """`update` for a format of which one file holds all labels of a split."""
    spec = whole.spec
    _drop_foreign_parts(directory, count)
    with progress.stage("index", whole.images, "images") as step:
        tasks = list(enumerate(whole.deal(count)))
        function = functools.partial(whole.index_bucket(), directory, count, keep)
        summaries = {}
        for done in engine.map(function, tasks, files=whole.annotations, first=meanwhile):
            summaries[done.bucket] = done.summary
            step.add(done.files)
    totals = _sum(summaries)
    info = IndexInfo(asdict(spec), spec.digest(), count, found.digest(spec), totals, whole.names, whole.document)
    return _finish(info, directory, found)


def _finish(info: IndexInfo, directory: str, found: Scan) -> IndexInfo:
    """Write ``index.json``, the last of all."""
    info.odd = [[storage.locate(listing.folder).join(path), reason]
                for pair in found.splits for listing in pair if listing is not None for path, reason in listing.odd]
    for pair in found.splits:
        for listing in pair:
            if listing is not None:
                add_counts(info.left_out, listing.left_out)
    info.links = [(listing.folder, home, count, name) for pair in found.splits for listing in pair
                  if listing is not None for home, (count, name) in sorted(listing.links.items())]
    content = sum(counts.pop("content", 0) for counts in info.totals.values())
    info.content = info.document.get("content", f"{content % 2**64:016x}")
    text = json.dumps(asdict(info), indent=1, sort_keys=True, ensure_ascii=False)
    place = storage.locate(directory)
    place.sync()  # what index.json vouches for must outlive a power cut
    place.write("index.json", text.encode())
    return info


def _names(totals: dict[str, Any]) -> dict[str, Any]:
    """The names of classes that rows carry, sorted; what only lines and points are called is no class."""
    return {"names": sorted({name for counts in totals.values() for name in counts.get("drawn", ())} - set(NO_CLASS))}


def has_parts(directory: str) -> bool:
    """Whether there is any part of an index at `directory`: then the stats of a listing tell what is unchanged."""
    return bool(storage.locate(directory).names("files"))


def _is_whole(directory: str, buckets: int) -> bool:
    parts = {part_name(b) for b in range(buckets)}
    return all(storage.locate(directory).names(table) >= parts for table in TABLES)


def add_counts(total: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add nested counts in place."""
    for key, value in more.items():
        if isinstance(value, Mapping):
            add_counts(total.setdefault(key, {}), value)
        else:
            total[key] = total.get(key, 0) + value


def _drop_foreign_parts(directory: str, buckets: int) -> None:
    """Parts beyond the last bucket are of an older count: they must not be read as part of a table."""
    keep = {part_name(b) for b in range(buckets)}
    for table in TABLES:
        place = storage.locate(directory).own(table)
        place.delete_many(sorted(place.names() - keep))


def index_bucket(
    spec: IndexSpec, directory: str, buckets: int, keep: str | None, bucket: int, payload: Dealt
) -> BucketDone:
    """Make or update one bucket; `keep` is as in `storage.locate`."""
    from pipeline._bucket import BucketIndexer

    return BucketIndexer(spec, directory, buckets, bucket, keep).run(payload)


def open_index(path: str) -> Index:
    """The index at `path` (the folder that holds `index.json`, or a workdir with one index, or its URL); see `Index`.

    Raises `ConfigError` where there is none.
    """
    candidates = [path, *sorted(_below(path))]
    found = [(p, info) for p in candidates if (info := IndexInfo.read(p)) is not None]
    if not found:
        raise ConfigError(f"{path}: holds no index; make one with `coco-diy index CONFIG`")
    if len(found) > 1:
        raise ConfigError(f"{path}: holds {len(found)} indexes; open one of them: {', '.join(p for p, _ in found)}")
    return Index(*found[0])


def _below(path: str) -> list[str]:
    root = storage.locate(path).below("index")
    return [root.join(name) for name in sorted({n.split("/")[0] for n in root.names()})]


class Index:
    """An index on disk or in a store.

    `annotations`, `images`, `files` and `problems` are Dask frames: partition i is bucket i.
    """

    def __init__(self, directory: str, info: IndexInfo) -> None:
        self.directory = directory
        self.info = info

    @property
    def annotations(self) -> Any:
        """One row an object, see `schema.annotations`."""
        return self.frame("annotations")

    @property
    def images(self) -> Any:
        """One row an image, see `schema.images`."""
        return self.frame("images")

    @property
    def files(self) -> Any:
        """One row a listed file, see `schema.files`."""
        return self.frame("files")

    @property
    def problems(self) -> Any:
        """One row for each row or file that could not be taken, see `schema.problems`."""
        return self.frame("problems")

    def frame(
        self, table: str, columns: Sequence[str] | None = None, classes: Sequence[int | str] | None = None,
        buckets: int | None = None,
    ) -> Any:
        """A Dask frame over one table; `columns` and the class filter are passed down to the Parquet read.

        `classes` are class ids or, of a source whose rows carry names, names. `buckets`, a multiple of the index's,
        cuts the frame finer, as another source is cut.

        `dask.dataframe.read_parquet` would fuse small files, and a partition would no longer be a bucket.
        """
        import dask
        import dask.dataframe as dd

        own = self.info.buckets
        read = functools.partial(read_part, self.directory, table, columns=columns, classes=classes,
                                 cut=None if buckets in (None, own) else (own, buckets))
        with dask.config.set({"dataframe.convert-string": False}):  # the columns are Arrow's already
            return dd.from_map(read, range(buckets or own), meta=_meta(table, columns))


def read_part(
    directory: str, table: str, bucket: int, columns: Sequence[str] | None = None,
    classes: Sequence[int | str] | None = None, cut: tuple[int, int] | None = None,
) -> Any:
    """One bucket of a table as a pandas frame with Arrow-backed columns; `classes` keeps rows of these classes.

    They are ids or names, see `Index.frame`. With `cut` = (n, m) it is bucket `bucket` of m, where m is a multiple of
    the n that are there: bucket i of m is a part of bucket i % n of n. `columns` then has the key.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    filters = None
    if classes is not None:
        filters = [("label" if any(isinstance(c, str) for c in classes) else "class_id", "in", list(classes))]
    place, path = storage.locate(directory), f"{table}/{part_name(bucket % cut[0] if cut else bucket)}"
    file: Any = os.path.join(place.local, path) if place.local is not None else pa.BufferReader(place.read(path))
    try:
        found = pq.read_table(file, columns=columns, filters=filters, memory_map=True, use_threads=False)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{place.join(path)}: this part of the index cannot be read ({str(error).splitlines()[0]}); "
                        f"delete {directory}: the next run makes it anew") from None
    if cut:
        found = found.filter(pa.array([zlib.crc32(k.encode()) % cut[1] == bucket for k in found["key"].to_pylist()],
                                      pa.bool_()))
    return to_pandas(found)


def _meta(table: str, columns: Sequence[str] | None) -> Any:
    from pipeline import schema

    arrow = {"annotations": schema.annotations, "images": schema.images, "files": schema.files,
             "problems": schema.problems}[table]()
    empty = arrow.empty_table()
    return to_pandas(empty.select(list(columns)) if columns is not None else empty)
