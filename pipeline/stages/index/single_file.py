"""Sources of which one file holds all labels of a split: read in one pass, dealt to buckets.

What is dealt are places in the file, not bytes: a bucket's task maps the file and decodes what is its own.
"""

from __future__ import annotations

import functools
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.errors import DataError
from pipeline.formats import coco
from pipeline.formats.coco.parts import Outline, Part
from pipeline.job.spec import IndexSpec
from pipeline.stages.index.bucket import BucketDone, BucketIndexer
from pipeline.stages.index.buckets import Dealt
from pipeline.stages.index.label_tables import content_marks, problem_table, states_of

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Share:
    """What one bucket has of one split, sorted by key: spans in the file, and what images are called.

    `image_of` is the place of each annotation's image here; `captions` are spans and places. `labels` are the names of
    the file's categories by id, `keypoints` (K, 3) for pose. `problems` are what was found in the whole file; they
    are in the share of one bucket.
    """

    split: int
    images: Ints
    stems: list[str]
    paths: list[str]
    annotations: Ints
    image_of: Ints
    captions: tuple[Ints, Ints] | None
    labels: dict[int | str, str]
    keypoints: tuple[int, int] | None
    problems: list[tuple[str, str, str]]


class Whole:
    """The files of a source, looked through; `digest` is theirs, None where that is uncertain."""

    def __init__(self, spec: IndexSpec, digest: str | None) -> None:
        self.spec, self._digest = spec, digest
        self._outlines: list[Outline] = []
        self._captions: list[tuple[Ints, Ints] | None] = []
        for split in spec.splits:
            self._read(split.labels, split.captions)
        marks = [content_marks(s.split, [s.folder], [memoryview(_mapped(s.labels))], {})[0] for s in spec.splits]
        self.document: dict[str, Any] = {
            "content": f"{sum(marks) % 2**64:016x}",
            "images": sum(len(o.images) for o in self._outlines),
            "splits": {s.split: o.rest.decode() for s, o in zip(spec.splits, self._outlines, strict=True)},
        }
        #: How many images and annotations there are.
        self.images: int = self.document["images"]
        self.annotations = sum(len(outline.annotations) for outline in self._outlines)

    def _read(self, path: str, captions: str | None) -> None:
        try:
            outline = coco.outline(_mapped(path), self.spec.task)
            place = path if captions is None else captions
            self._captions.append(coco.captions(_mapped(captions), outline) if captions is not None else None)
        except ValueError as error:
            raise DataError(f"{place if self._outlines else path}: {error}") from None
        outline.places.clear()
        self._outlines.append(outline)

    @property
    def names(self) -> dict[str, Any]:
        """What the source calls its classes, see `IndexInfo`: the names of all splits, in the order of the first."""
        found: dict[str, Any] = {}
        for outline in self._outlines:
            found = {
                **outline.names,
                **found,
                "names": list(dict.fromkeys([*found.get("names", ()), *outline.names["names"]])),
            }
        return found

    def deal(self, buckets: int) -> list[list[Share]]:
        """What each bucket has of each split; splits are in the order of their keys.

        What is dealt is forgotten here: it can be done once.
        """
        shares: list[list[Share]] = [[] for _ in range(buckets)]
        shape = self.names.get("kpt_shape")
        keypoints = self.spec.keypoints or ((shape[0], shape[1]) if shape else None)
        order = sorted(range(len(self.spec.splits)), key=lambda n: self.spec.prefix(self.spec.splits[n]))
        for number in order:
            outline, captions = self._outlines[number], self._captions[number]
            seed = zlib.crc32(self.spec.prefix(self.spec.splits[number]).encode())
            home = np.array([zlib.crc32(stem.encode(), seed) for stem in outline.stems], np.uint32) % buckets
            by_stem = np.array(sorted(range(len(home)), key=outline.stems.__getitem__), np.int64)
            place = np.zeros(len(home), np.int64)
            for bucket in range(buckets):
                mine = by_stem[home[by_stem] == bucket]
                place[mine] = np.arange(len(mine))
            of_annotation = home[outline.image_of]
            of_caption = home[captions[1]] if captions is not None else None
            for bucket in range(buckets):
                mine = by_stem[home[by_stem] == bucket]
                objects = np.flatnonzero(of_annotation == bucket)
                told = None
                if captions is not None:
                    some = np.flatnonzero(of_caption == bucket)
                    told = captions[0][some], place[captions[1][some]]
                shares[bucket].append(
                    Share(
                        number,
                        outline.images[mine],
                        [outline.stems[i] for i in mine],
                        [outline.paths[i] for i in mine],
                        outline.annotations[objects],
                        place[outline.image_of[objects]],
                        told,
                        outline.labels,
                        keypoints,
                        [] if bucket else outline.problems,
                    )
                )
            outline.forget()
            self._captions[number] = None
        return shares

    def index_bucket(self) -> Callable[..., BucketDone]:
        """The task that makes one bucket: of folder, number of buckets, bucket, its images and its shares."""
        return functools.partial(index_bucket, self.spec, self._digest)


def index_bucket(
    spec: IndexSpec, digest: str | None, directory: str, buckets: int, bucket: int, dealt: Dealt, shares: list[Share]
) -> BucketDone:
    """Make one bucket, unless the same files made it before; `digest` is theirs, None where that is uncertain."""
    return _Indexer(spec, directory, buckets, bucket, digest).make(dealt, shares)


class _Indexer(BucketIndexer):
    def __init__(self, spec: IndexSpec, directory: str, buckets: int, bucket: int, digest: str | None) -> None:
        super().__init__(spec, directory, buckets, bucket, None)
        self.made_by |= {"source": digest}
        self._known = digest is not None

    def make(self, dealt: Dealt, shares: list[Share]) -> BucketDone:
        _, old_summary = self._old_files() if self._known else (None, None)
        count = sum(len(share.images) for share in shares)
        if old_summary is not None:
            return BucketDone(self.bucket, count, old_summary, b"")
        self.stats = np.zeros((0, 4), np.int64)
        labels = self._entries(shares)
        pictures = _exact(self._of_kind(self._listed(dealt), 1), labels)
        rows, states, problems = self._parse_shares(shares)
        with_named = self._with_named(labels, pictures, labels["path"].combine_chunks())
        images = self._images(labels, with_named, states)
        here = pc.is_in(problems["key"], images["key"].combine_chunks())
        self.contents = np.zeros(labels.num_rows, np.uint64)
        summary = self._summary(images, rows, problems.filter(here), labels)
        for row in problems.filter(pc.invert(here)).to_pylist():
            split = next(s.split for s in self.spec.splits if row["key"].startswith(self.spec.prefix(s)))
            counts = summary[split]["problems"]
            counts[row["reason"]] = counts.get(row["reason"], 0) + 1
            summary[split]["bad_rows"] += row["rows"]
        self.contents = self.contents[:0]
        self._write_tables(rows, images, problems, self._files(labels.slice(0, 0), pictures), summary)
        pa.default_memory_pool().release_unused()  # of its tables' size, and the next bucket's are made elsewhere
        return BucketDone(self.bucket, count, summary, b"")

    def _entries(self, shares: list[Share]) -> pa.Table:
        """The images of the files as if each had a label file of its own: its path is the image's."""
        numbers = np.repeat([share.split for share in shares], [len(share.images) for share in shares])
        stems = [stem for share in shares for stem in share.stems]
        prefixes = [self.spec.prefix(split) for split in self.spec.splits]
        return pa.table(
            {
                "path": pa.array([path for share in shares for path in share.paths], pa.string()),
                "split": pa.array(numbers, pa.int64()),
                "size": pa.array(np.zeros(len(stems), np.int64)),
                "key": pa.array(
                    [prefixes[n] + stem for n, stem in zip(numbers.tolist(), stems, strict=True)], pa.string()
                ),
                "stem": pa.array(stems, pa.string()),
            }
        )

    def _parse_shares(self, shares: list[Share]) -> tuple[pa.Table, pa.Table, pa.Table]:
        options = json.loads(self.spec.options)
        rows, states = [], []
        problems: list[tuple[str, str, int | None, str, str, int]] = []
        for share in shares:
            split = self.spec.splits[share.split]
            prefix = self.spec.prefix(split)
            captions = None
            if share.captions is not None and split.captions is not None:
                captions = (_mapped(split.captions), *share.captions)
            part = Part(_mapped(split.labels), share.images, share.annotations, share.image_of, share.labels, captions)
            parsed = coco.parse(part, self.spec.task, share.keypoints, options)
            keys = pa.array([prefix + stem for stem in share.stems], pa.string())
            rows.append(parsed.rows.append_column("key", keys.take(parsed.rows["file"])))
            states.append(states_of(parsed))
            problems += [
                (keys[p.file].as_py(), split.labels, None, p.reason, p.detail, p.rows) for p in parsed.problems
            ]
            problems += [
                (prefix + stem, split.labels, None, reason, detail, int(reason == "no_such_image"))
                for stem, reason, detail in share.problems
            ]
        problems.sort(key=lambda problem: problem[0])
        return self._annotations(rows), pa.concat_tables(states).combine_chunks(), problem_table(problems)


def _exact(pictures: pa.Table, labels: pa.Table) -> pa.Table:
    """`pictures` (with key and path) without those of a stem whose exact path, as the file has it, is there."""
    if not pictures.num_rows:
        return pictures
    wanted = labels["path"].take(pc.index_in(pictures["key"], labels["key"].combine_chunks()))
    exact = pc.fill_null(pc.equal(pictures["path"], wanted), False)
    there = pc.is_in(pictures["key"], pictures["key"].filter(exact).combine_chunks())
    return pictures.filter(pc.or_(exact, pc.invert(there))).combine_chunks()


def _mapped(path: str) -> storage.Buffer:
    folder, name = os.path.split(path)
    return storage.locate(folder).mapped(name)
