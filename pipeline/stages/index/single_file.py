"""Sources of which one file holds all labels of a split: read in one pass, assigned to buckets.

What is assigned are spans of the file, not bytes: a bucket's task reads its own.
"""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from pipeline import formats, storage
from pipeline.base.classes import SourceNames
from pipeline.base.memory import release_free
from pipeline.formats import AmidFormat, FileOutline, Parsed, Part, SeveralFilesFormat
from pipeline.formats._image_names import ImageNames
from pipeline.images.header import Picture
from pipeline.job.spec import IndexSpec, SplitSpec
from pipeline.runtime.engine import Engine
from pipeline.stages.index.annotations_file import AnnotationsFile, AnnotationsFiles
from pipeline.stages.index.bucket import BucketTables, BucketTask, write_bucket
from pipeline.stages.index.buckets import BucketDone
from pipeline.stages.index.image_lookup import headers
from pipeline.stages.index.image_rows import image_rows
from pipeline.stages.index.label_tables import ProblemRow, annotations_table, problem_table, states_of
from pipeline.stages.index.listed_files import files_table
from pipeline.stages.index.previous import previous_bucket
from pipeline.stages.index.reader import SourceDocument
from pipeline.stages.index.reading_ahead import stretches
from pipeline.stages.index.summary import bucket_summary
from pipeline.storage import Listing
from pipeline.tables.schema import LabelState

if TYPE_CHECKING:
    from pipeline.base.arrays import AnyInts as Spans  # of any width
    from pipeline.base.arrays import Ints

#: Bytes of a file whose objects are many enough for helpers: they start while it is read.
_LARGE = 16 << 20


@dataclass(frozen=True)
class BucketShare:
    """What one bucket has of one split, sorted by key: spans in the file, and what images are called.

    `marks` are the states in which the files were read. `image_of` is the index of each annotation's image here;
    `captions` are their file's mark, spans and indexes. `paths` are those of the images (empty: missing), `said` what
    the file calls them, `doubtful` indexes of images that may have objects or not. `labels` are the class names by what
    annotations call them, `ancestors` those of each name, `keypoints` (K, 3) for pose; with `compare` images are asked
    for their size. `problems` are what was found in the whole file; they are in the share of one bucket.
    """

    split: int
    marks: tuple[bytes, ...]
    images: Spans
    stems: pa.StringArray
    paths: pa.StringArray
    said: pa.StringArray
    annotations: Spans
    image_of: Spans
    captions: tuple[bytes, Ints, Ints] | None
    doubtful: Ints
    labels: dict[int | str, str]
    ancestors: dict[str, list[str]]
    keypoints: tuple[int, int] | None
    problems: list[tuple[str, str, str, int]]
    compare: bool


class _Names:
    """What the images of an outline are called, in a fifth of the memory that lists of text take.

    `crc` goes on from `seed`, which is that of the prefix of keys.
    """

    def __init__(self, outline: FileOutline, seed: int, *, with_paths: bool) -> None:
        stems, said = outline.stems, outline.said
        self.crc = np.fromiter((zlib.crc32(stem.encode(), seed) for stem in stems), np.uint32, len(stems))
        self.stems, outline.stems = pa.array(stems, pa.large_string()), []
        self.said, outline.said = pa.array(said, pa.large_string()), []
        paths = outline.paths if with_paths else [""] * len(outline.paths)
        self.paths, outline.paths = pa.array(paths, pa.large_string()), []

    def of(self, images: Ints) -> tuple[pa.StringArray, pa.StringArray, pa.StringArray]:
        """Stems, paths and what the file says of the images at these indexes."""
        stems, paths, said = (n.take(pa.array(images)).cast(pa.string()) for n in (self.stems, self.paths, self.said))
        return stems, paths, said


class ParsedSource:
    """The files of a source, read through; `digest` is theirs, None where that is uncertain.

    `listed` are the images of each split, None where nobody lists them. `warm_up` is called while the
    first large file is read.
    """

    def __init__(self, spec: IndexSpec, digest: str | None, listed: list[Listing | None], engine: Engine) -> None:
        self.spec, self.digest, self._listed, self._engine = spec, digest, listed, engine
        self._warm_up: Callable[[], None] | None = functools.partial(
            engine.warm_up, functools.partial(import_for_buckets, spec)
        )
        self._outlines: list[FileOutline] = []
        self._called: list[_Names] = []
        self._marks: list[tuple[bytes, ...]] = []
        self._captions: list[tuple[bytes, Ints, Ints] | None] = []
        self.document = self._read_through()
        #: How many images and annotations there are.
        self.images: int = self.document["images"]
        self.annotations = sum(len(outline.annotations) for outline in self._outlines)

    def _read_through(self) -> SourceDocument:
        """Read all files; returns what the index says of them."""
        splits = self.spec.splits
        contents = [self._read(split, images) for split, images in zip(splits, self._listed, strict=True)]
        return {
            "content": f"{sum(contents) % 2**64:016x}",
            "images": sum(len(o.images) for o in self._outlines),
            "text": sum(_text_of(spans) for o in self._outlines for spans in (o.images, o.annotations)),
            "splits": {s.split: o.rest.decode() for s, o in zip(splits, self._outlines, strict=True)},
            "notes": [
                f"{split.labels}: {note}"
                for split, outline in zip(splits, self._outlines, strict=True)
                for note in outline.notes
            ],
        }

    def _read(self, split: SplitSpec, images: Listing | None) -> int:
        """Read the files of a split through; returns a number that changes with the content."""
        format_, task = formats.load_single_file(self.spec.format), self.spec.task
        names = ImageNames(images.names()) if images is not None else None
        state = xxhash.xxh3_64(seed=zlib.crc32(split.folder.encode(), zlib.crc32(f"{split.split}/".encode())))
        files = AnnotationsFiles((split.labels, *split.further))

        def read(given: Iterator[Iterator[bytes]]) -> FileOutline:
            hashed = (self._hashed(pieces, state) for pieces in given)
            if format_.SEVERAL_FILES:
                return cast("SeveralFilesFormat", format_).outline_of_files(hashed, task, names, split.split)
            if ahead := stretches(self.spec, split.labels, files.marks[0], self._engine):
                return cast("AmidFormat", format_).outline(next(hashed), task, names, split.split, ahead)
            return format_.outline(next(hashed), task, names, split.split)

        outline = files.read_through(read)
        captions = None
        if split.captions is not None:
            other = AnnotationsFile(split.captions)
            captions = (other.mark, *other.read_through(lambda pieces: format_.captions(pieces, outline)))
        outline.index_of_id.clear()
        seed = zlib.crc32(self.spec.prefix(split).encode())
        self._called.append(_Names(outline, seed, with_paths=split.images is not None))
        self._outlines.append(outline)
        self._marks.append(files.marks)
        self._captions.append(captions)
        release_free()
        return state.intdigest()

    def _hashed(self, pieces: Iterator[bytes], state: xxhash.xxh3_64) -> Iterator[bytes]:
        size = 0
        for piece in pieces:
            state.update(piece)
            size += len(piece)
            if size > _LARGE and (warm_up := self._warm_up) is not None:
                self._warm_up = None
                warm_up()
            yield piece

    @property
    def names(self) -> SourceNames:
        """What the source calls its classes, see `IndexInfo`: the names of all splits, in the order of the first."""
        found: SourceNames = {"names": []}
        for outline in self._outlines:
            names = list(dict.fromkeys([*found["names"], *outline.names["names"]]))
            above = {**outline.names.get("supercategories", {}), **found.get("supercategories", {})}
            kinds = {**outline.names.get("ancestors", {}), **found.get("ancestors", {})}
            found = {**outline.names, **found, "names": names, "supercategories": above}
            if kinds:
                found["ancestors"] = kinds
        return found

    def assign(self, buckets: int) -> list[list[BucketShare]]:
        """What each bucket has of each split; splits are in the order of their keys.

        What is assigned is forgotten here: it can be done once.
        """
        if not self._outlines:  # the index was up to date, but is to be cut anew
            self._read_through()
        shares: list[list[BucketShare]] = [[] for _ in range(buckets)]
        shape = self.names.get("kpt_shape")
        keypoints = self.spec.keypoints or ((shape[0], shape[1]) if shape else None)
        order = sorted(range(len(self.spec.splits)), key=lambda n: self.spec.prefix(self.spec.splits[n]))
        for number in order:
            for bucket, share in enumerate(self._shares(number, buckets, keypoints)):
                shares[bucket].append(share)
            self._outlines[number].forget()
            self._captions[number] = None
        self._called.clear()
        release_free()
        return shares

    def _shares(self, number: int, buckets: int, keypoints: tuple[int, int] | None) -> Iterator[BucketShare]:
        """The share of each bucket in the split `number`."""
        outline, called, captions = self._outlines[number], self._called[number], self._captions[number]
        bucket_of = called.crc % np.uint32(buckets)
        by_stem = pc.sort_indices(called.stems).to_numpy().astype(np.int64)
        by_bucket = by_stem[np.argsort(bucket_of[by_stem], kind="stable")]
        images_of = np.split(by_bucket, np.cumsum(np.bincount(bucket_of, minlength=buckets))[:-1])
        index = np.zeros(len(bucket_of), np.int64)
        for images in images_of:
            index[images] = np.arange(len(images))
        edges, annotations, image_of = in_buckets(outline, bucket_of, index, buckets)
        outline.annotations, outline.image_of = annotations[:0], image_of[:0]
        compare = (listed := self._listed[number]) is not None and formats.load_single_file(
            self.spec.format
        ).asks_sizes(json.loads(self.spec.options), listed.count)
        doubtful = np.unique(np.array(outline.doubtful, np.int64))
        for bucket, images in enumerate(images_of):
            objects = slice(edges[bucket], edges[bucket + 1])
            own_captions = None
            if captions is not None:
                mark, spans, owner = captions
                some = np.flatnonzero(bucket_of[owner] == bucket)
                own_captions = mark, spans[some], index[owner[some]]
            stems, paths, said = called.of(images)
            yield BucketShare(
                number,
                self._marks[number],
                outline.images[images],
                stems,
                paths,
                said,
                annotations[objects],
                image_of[objects],
                own_captions,
                index[doubtful[bucket_of[doubtful] == bucket]],
                outline.labels,
                outline.names.get("ancestors", {}),
                keypoints,
                [] if bucket else outline.problems,
                compare,
            )


def in_buckets(
    outline: FileOutline, bucket_of: npt.NDArray[np.uint32], index: Ints, buckets: int, at_a_time: int = 1 << 20
) -> tuple[Ints, Spans, Spans]:
    """The annotations of an outline in the order of their buckets: where each begins, spans, and indexes of images.

    `bucket_of` and `index` are those of images. Some are put in their order at a time: of ten million each array of as
    many whole numbers has 40 or 80 MB.
    """
    count = len(outline.annotations)
    homes = bucket_of.astype(np.uint16 if buckets <= 1 << 16 else np.uint32)  # NumPy sorts the former by radix
    steps = [slice(at, at + at_a_time) for at in range(0, count, at_a_time)]
    counts = [np.bincount(homes[outline.image_of[step]], minlength=buckets) for step in steps]
    edges = np.concatenate([[0], np.cumsum(np.sum([np.zeros(buckets, np.int64), *counts], axis=0))])
    spans = np.empty((count, 2), outline.annotations.dtype)
    image_of = np.empty(count, np.min_scalar_type(int(index.max(initial=0))))
    begin = edges[:-1].copy()
    for step, here in zip(steps, counts, strict=True):
        owner = outline.image_of[step]
        order = np.argsort(homes[owner], kind="stable")
        to = np.arange(len(order)) + np.repeat(begin - np.cumsum(here) + here, here)
        spans[to] = outline.annotations[step].take(order, axis=0)
        image_of[to] = index[owner[order]]
        begin += here
    return edges, spans, image_of


def _text_of(spans: Spans) -> int:
    """How many bytes they span."""
    begin, stop = spans.sum(axis=0, dtype=np.int64).tolist()
    return int(stop - begin)


def import_for_buckets(spec: IndexSpec) -> None:
    """Import what `make_bucket` uses, also what the format imports when it first parses something."""
    format_, nothing = formats.load_single_file(spec.format), Part([], [], np.zeros(0, np.int64), {})
    format_.parse(nothing, spec.task, spec.keypoints, json.loads(spec.options))


def make_bucket(task: BucketTask, digest: str | None, shares: list[BucketShare]) -> BucketDone:
    """Make one bucket of its `shares`, unless the same files made it before.

    `digest` is that of the files, None where it is uncertain.
    """
    spec, bucket, count = task.spec, task.bucket, sum(len(share.images) for share in shares)
    made_by = task.made_by | {"source": digest}
    previous = previous_bucket(task.directory, bucket, made_by) if digest is not None else None
    if previous is not None:
        return BucketDone(bucket, count, previous.summary, b"")
    entries = _entries(spec, shares)
    listed = entries.filter(pc.not_equal(entries["path"], "")).combine_chunks()
    rows, states, problems = _parse_shares(task, shares)
    release_free()  # the texts
    images = image_rows(spec, bucket, entries, listed, states)
    summary = _summary(spec, images, rows, problems, entries)
    no_files = entries.slice(0, 0), listed, (pa.array([], pa.binary()), None), np.zeros(0, np.uint64)
    write_bucket(task, made_by, BucketTables(files_table(bucket, *no_files), images, rows, problems), summary)
    return BucketDone(bucket, count, summary, b"")


def _entries(spec: IndexSpec, shares: list[BucketShare]) -> pa.Table:
    """The images of the files as if each had a label file of its own: its path is the image's."""
    numbers = np.repeat([share.split for share in shares], [len(share.images) for share in shares])
    return pa.table(
        {
            "path": pa.concat_arrays([share.paths for share in shares]),
            "split": pa.array(numbers, pa.int64()),
            "size": pa.array(np.zeros(len(numbers), np.int64)),
            "key": pa.concat_arrays([_keys(spec, share) for share in shares]),
            "stem": pa.concat_arrays([share.stems for share in shares]),
        }
    )


def _keys(spec: IndexSpec, share: BucketShare) -> pa.StringArray:
    """The keys of the images of a share."""
    return pc.binary_join_element_wise(spec.prefix(spec.splits[share.split]), share.stems, "")


def _summary(
    spec: IndexSpec, images: pa.Table, rows: pa.Table, problems: pa.Table, entries: pa.Table
) -> dict[str, Any]:
    """The counts of the bucket; problems of images that were left out are counted in their split."""
    here = pc.is_in(problems["key"], images["key"].combine_chunks())
    contents = np.zeros(entries.num_rows, np.uint64)  # a file's content is no bucket's, see `ParsedSource.document`
    summary = bucket_summary(spec, images, rows, problems.filter(here), entries, contents)
    for row in problems.filter(pc.invert(here)).to_pylist():
        split = next(s.split for s in spec.splits if row["key"].startswith(spec.prefix(s)))
        counts = summary[split]["problems"]
        counts[row["reason"]] = counts.get(row["reason"], 0) + 1
        summary[split]["bad_rows"] += row["rows"]
    return summary


def _parse_shares(task: BucketTask, shares: list[BucketShare]) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Rows, states and problems of the images of a bucket, see `LabelReading`."""
    rows, states = [], []
    problems: list[ProblemRow] = []
    for share in shares:
        split = task.spec.splits[share.split]
        prefix = task.spec.prefix(split)
        parsed = _parse_share(task, share, split)
        keys = _keys(task.spec, share)
        rows.append(parsed.rows.append_column("key", keys.take(parsed.rows["file"])))
        states.append(states_of(parsed))
        problems += [(keys[p.file].as_py(), split.labels, None, p.reason, p.detail, p.rows) for p in parsed.problems]
        problems += [
            (prefix + path, split.labels, None, reason, detail, lost) for path, reason, detail, lost in share.problems
        ]
    problems.sort(key=lambda problem: problem[0])
    return annotations_table(task.bucket, rows), pa.concat_tables(states).combine_chunks(), problem_table(problems)


def _parse_share(task: BucketTask, share: BucketShare, split: SplitSpec) -> Parsed:
    """What a file has of the images of a share, and what it calls them."""
    files = AnnotationsFiles((split.labels, *split.further), share.marks)
    captions = None
    if share.captions is not None and split.captions is not None:
        mark, spans, owner = share.captions
        captions = AnnotationsFile(split.captions, mark).texts(spans), owner
    pictures = _pictures(split, share.paths.to_pylist(), task.keep)
    texts = files.texts(share.images), files.texts(share.annotations)
    part = Part(
        *texts, share.image_of.astype(np.int64), share.labels, captions, pictures, share.compare, share.ancestors
    )
    format_, options = formats.load_single_file(task.spec.format), json.loads(task.spec.options)
    parsed = format_.parse(part, task.spec.task, share.keypoints, options)
    for index in share.doubtful.tolist():
        if parsed.states[index] == LabelState.EMPTY:
            parsed.states[index] = LabelState.CORRUPT
    said = pa.table({"image_said": share.said})
    parsed.images = parsed.images.append_column("image_said", share.said) if parsed.images is not None else said
    return parsed


def _pictures(
    split: SplitSpec, paths: list[str], keep: str | None
) -> Callable[[Sequence[int]], Sequence[Picture | None]] | None:
    """The images at indexes of `paths`, as their first bytes describe them; None where they cannot be asked."""
    if split.images is None:
        return None
    origin = storage.locate(split.images, keep)

    def pictures(indexes: Sequence[int]) -> Sequence[Picture | None]:
        found = headers(origin, [paths[index] for index in indexes if paths[index]])
        return [found.get(paths[index]) for index in indexes]

    return pictures
