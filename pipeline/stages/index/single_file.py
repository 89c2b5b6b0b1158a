"""Sources of which one file holds all labels of a split: read in one pass, assigned to buckets.

What is assigned are spans of the file, not bytes: a bucket's task reads its own.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from pipeline import formats, storage
from pipeline.base.classes import SourceNames
from pipeline.formats import FileOutline, Parsed, Part, SeveralFilesFormat
from pipeline.formats._image_names import ImageNames
from pipeline.images.header import Picture
from pipeline.job.spec import IndexSpec, SplitSpec
from pipeline.stages.index.annotations_file import AnnotationsFile, AnnotationsFiles
from pipeline.stages.index.bucket import BucketTables, BucketTask, write_bucket
from pipeline.stages.index.buckets import BucketDone
from pipeline.stages.index.image_lookup import headers
from pipeline.stages.index.image_rows import image_rows
from pipeline.stages.index.label_tables import ProblemRow, annotations_table, problem_table, states_of
from pipeline.stages.index.listed_files import files_table
from pipeline.stages.index.previous import previous_bucket
from pipeline.stages.index.reader import SourceDocument
from pipeline.stages.index.summary import bucket_summary
from pipeline.storage import Listing
from pipeline.tables.schema import LabelState

Ints = npt.NDArray[np.int64]


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
    images: Ints
    stems: list[str]
    paths: list[str]
    said: list[str]
    annotations: Ints
    image_of: npt.NDArray[np.uint32]
    captions: tuple[bytes, Ints, Ints] | None
    doubtful: Ints
    labels: dict[int | str, str]
    ancestors: dict[str, list[str]]
    keypoints: tuple[int, int] | None
    problems: list[tuple[str, str, str, int]]
    compare: bool


class ParsedSource:
    """The files of a source, read through; `digest` is theirs, None where that is uncertain.

    `listed` are the images of each split, None where nobody lists them.
    """

    def __init__(self, spec: IndexSpec, digest: str | None, listed: list[Listing | None]) -> None:
        self.spec, self.digest, self._listed = spec, digest, listed
        self._outlines: list[FileOutline] = []
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
            hashed = (_hashed(pieces, state) for pieces in given)
            if format_.SEVERAL_FILES:
                return cast("SeveralFilesFormat", format_).outline_of_files(hashed, task, names, split.split)
            return format_.outline(next(hashed), task, names, split.split)

        outline = files.read_through(read)
        captions = None
        if split.captions is not None:
            other = AnnotationsFile(split.captions)
            captions = (other.mark, *other.read_through(lambda pieces: format_.captions(pieces, outline)))
        outline.index_of_id.clear()
        if split.images is None:
            outline.paths = [""] * len(outline.paths)
        self._outlines.append(outline)
        self._marks.append(files.marks)
        self._captions.append(captions)
        return state.intdigest()

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
        return shares

    def _shares(self, number: int, buckets: int, keypoints: tuple[int, int] | None) -> Iterator[BucketShare]:
        """The share of each bucket in the split `number`."""
        outline, captions = self._outlines[number], self._captions[number]
        seed = zlib.crc32(self.spec.prefix(self.spec.splits[number]).encode())
        bucket_of = np.array([zlib.crc32(stem.encode(), seed) for stem in outline.stems], np.uint32) % buckets
        by_stem = np.array(sorted(range(len(bucket_of)), key=outline.stems.__getitem__), np.int64)
        images_of = [by_stem[bucket_of[by_stem] == bucket] for bucket in range(buckets)]
        index = np.zeros(len(bucket_of), np.int64)
        for images in images_of:
            index[images] = np.arange(len(images))
        of_annotation = bucket_of[outline.image_of].astype(np.uint16 if buckets < 1 << 16 else np.uint32)
        order = np.argsort(of_annotation, kind="stable")
        edges = np.concatenate([[0], np.cumsum(np.bincount(of_annotation, minlength=buckets))])
        del of_annotation
        for column in outline.annotations.T:  # in place: of ten million objects each array has 80 MB
            column[:] = column[order]
        image_of = index[outline.image_of[order]].astype(np.uint32)
        outline.image_of = np.zeros(0, np.int64)
        del order
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
            stems, paths, said = ([names[i] for i in images] for names in (outline.stems, outline.paths, outline.said))
            yield BucketShare(
                number,
                self._marks[number],
                outline.images[images],
                stems,
                paths,
                said,
                outline.annotations[objects],
                image_of[objects],
                own_captions,
                index[doubtful[bucket_of[doubtful] == bucket]],
                outline.labels,
                outline.names.get("ancestors", {}),
                keypoints,
                [] if bucket else outline.problems,
                compare,
            )


def _hashed(pieces: Iterator[bytes], state: xxhash.xxh3_64) -> Iterator[bytes]:
    for piece in pieces:
        state.update(piece)
        yield piece


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
    images = image_rows(spec, bucket, entries, listed, states)
    summary = _summary(spec, images, rows, problems, entries)
    no_files = entries.slice(0, 0), listed, (pa.array([], pa.binary()), None), np.zeros(0, np.uint64)
    write_bucket(task, made_by, BucketTables(files_table(bucket, *no_files), images, rows, problems), summary)
    pa.default_memory_pool().release_unused()  # of its tables' size, and the next bucket's are made elsewhere
    return BucketDone(bucket, count, summary, b"")


def _entries(spec: IndexSpec, shares: list[BucketShare]) -> pa.Table:
    """The images of the files as if each had a label file of its own: its path is the image's."""
    numbers = np.repeat([share.split for share in shares], [len(share.images) for share in shares])
    stems = [stem for share in shares for stem in share.stems]
    prefixes = [spec.prefix(split) for split in spec.splits]
    keys = [prefixes[number] + stem for number, stem in zip(numbers.tolist(), stems, strict=True)]
    return pa.table(
        {
            "path": pa.array([path for share in shares for path in share.paths], pa.string()),
            "split": pa.array(numbers, pa.int64()),
            "size": pa.array(np.zeros(len(stems), np.int64)),
            "key": pa.array(keys, pa.string()),
            "stem": pa.array(stems, pa.string()),
        }
    )


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
        keys = pa.array([prefix + stem for stem in share.stems], pa.string())
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
    pictures = _pictures(split, share.paths, task.keep)
    texts = files.texts(share.images), files.texts(share.annotations)
    part = Part(
        *texts, share.image_of.astype(np.int64), share.labels, captions, pictures, share.compare, share.ancestors
    )
    format_, options = formats.load_single_file(task.spec.format), json.loads(task.spec.options)
    parsed = format_.parse(part, task.spec.task, share.keypoints, options)
    for index in share.doubtful.tolist():
        if parsed.states[index] == LabelState.EMPTY:
            parsed.states[index] = LabelState.CORRUPT
    said = pa.array(share.said, pa.string())
    images = parsed.images
    parsed.images = images.append_column("image_said", said) if images is not None else pa.table({"image_said": said})
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
