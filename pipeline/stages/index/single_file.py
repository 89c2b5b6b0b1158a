"""Sources of which one file holds all labels of a split: read in one pass, dealt to buckets.

What is dealt are places in the file, not bytes: a bucket's task reads what is its own. The file is read, not mapped:
one that is written anew meanwhile is noticed, where a process that has it mapped would be killed.
"""

from __future__ import annotations

import functools
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from pipeline import storage
from pipeline.base.errors import DataError
from pipeline.formats import coco
from pipeline.formats._image_names import ImageNames
from pipeline.formats._large_json import Malformed
from pipeline.formats.coco.parts import FileOutline, Part
from pipeline.images.header import Picture
from pipeline.job.spec import IndexSpec, SplitSpec
from pipeline.stages.index.bucket import BucketDone, BucketIndexer
from pipeline.stages.index.image_lookup import headers
from pipeline.stages.index.label_tables import problem_table, states_of
from pipeline.storage import Listing
from pipeline.tables.schema import LabelState

Ints = npt.NDArray[np.int64]

_PIECE = 1 << 20


@dataclass(frozen=True)
class BucketShare:
    """What one bucket has of one split, sorted by key: spans in the file, and what images are called.

    `mark` is the state in which the file was read. `image_of` is the place of each annotation's image here; `captions`
    are their file's mark, spans and places. `paths` are those of the images (empty: there is none), `said` what the
    file calls them, `doubtful` places of images that may have objects or not. `labels` are the names of the file's
    categories by id, `keypoints` (K, 3) for pose; with `compare` images are asked for their size. `problems` are
    what was found in the whole file; they are in the share of one bucket.
    """

    split: int
    mark: bytes
    images: Ints
    stems: list[str]
    paths: list[str]
    said: list[str]
    annotations: Ints
    image_of: Ints
    captions: tuple[bytes, Ints, Ints] | None
    doubtful: Ints
    labels: dict[int | str, str]
    keypoints: tuple[int, int] | None
    problems: list[tuple[str, str, str, int]]
    compare: bool


class ParsedSource:
    """The files of a source, looked through; `digest` is theirs, None where that is uncertain.

    `listed` are the images of each split, None where nobody lists them.
    """

    def __init__(self, spec: IndexSpec, digest: str | None, listed: list[Listing | None]) -> None:
        self.spec, self._digest, self._listed = spec, digest, listed
        self._outlines: list[FileOutline] = []
        self._marks: list[bytes] = []
        self._captions: list[tuple[bytes, Ints, Ints] | None] = []
        self.document = self._look_through()
        #: How many images and annotations there are.
        self.images: int = self.document["images"]
        self.annotations = sum(len(outline.annotations) for outline in self._outlines)

    def _look_through(self) -> dict[str, Any]:
        """Read all files; returns what the index keeps of them."""
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
        """Look through the files of a split; returns a number that changes with the content."""
        names = ImageNames(_names(images)) if images is not None else None
        state = xxhash.xxh3_64(seed=zlib.crc32(split.folder.encode(), zlib.crc32(f"{split.split}/".encode())))
        file = _JsonFile(split.labels)
        outline = file.looked_through(lambda pieces: coco.outline(_hashed(pieces, state), self.spec.task, names))
        captions = None
        if split.captions is not None:
            other = _JsonFile(split.captions)
            captions = (other.mark, *other.looked_through(lambda pieces: coco.captions(pieces, outline)))
        outline.places.clear()
        if split.images is None:
            outline.paths = [""] * len(outline.paths)
        self._outlines.append(outline)
        self._marks.append(file.mark)
        self._captions.append(captions)
        return state.intdigest()

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

    def deal(self, buckets: int) -> list[list[BucketShare]]:
        """What each bucket has of each split; splits are in the order of their keys.

        What is dealt is forgotten here: it can be done once.
        """
        if not self._outlines:  # the index was up to date, but is to be cut anew
            self._look_through()
        shares: list[list[BucketShare]] = [[] for _ in range(buckets)]
        shape = self.names.get("kpt_shape")
        keypoints = self.spec.keypoints or ((shape[0], shape[1]) if shape else None)
        order = sorted(range(len(self.spec.splits)), key=lambda n: self.spec.prefix(self.spec.splits[n]))
        for number in order:
            for bucket, share in enumerate(self._dealt(number, buckets, keypoints)):
                shares[bucket].append(share)
            self._outlines[number].forget()
            self._captions[number] = None
        return shares

    def _dealt(self, number: int, buckets: int, keypoints: tuple[int, int] | None) -> Iterator[BucketShare]:
        """The share of each bucket in the split `number`."""
        outline, captions = self._outlines[number], self._captions[number]
        seed = zlib.crc32(self.spec.prefix(self.spec.splits[number]).encode())
        home = np.array([zlib.crc32(stem.encode(), seed) for stem in outline.stems], np.uint32) % buckets
        by_stem = np.array(sorted(range(len(home)), key=outline.stems.__getitem__), np.int64)
        of_bucket = [by_stem[home[by_stem] == bucket] for bucket in range(buckets)]
        place = np.zeros(len(home), np.int64)
        for mine in of_bucket:
            place[mine] = np.arange(len(mine))
        of_annotation = home[outline.image_of]
        of_caption = home[captions[2]] if captions is not None else None
        listed = self._listed[number]
        compare = listed is not None and coco.asks_sizes(json.loads(self.spec.options), listed.count)
        doubtful = np.unique(np.array(outline.doubtful, np.int64))
        for bucket, mine in enumerate(of_bucket):
            objects = np.flatnonzero(of_annotation == bucket)
            told = None
            if captions is not None:
                some = np.flatnonzero(of_caption == bucket)
                told = captions[0], captions[1][some], place[captions[2][some]]
            stems, paths, said = ([names[i] for i in mine] for names in (outline.stems, outline.paths, outline.said))
            yield BucketShare(
                number,
                self._marks[number],
                outline.images[mine],
                stems,
                paths,
                said,
                outline.annotations[objects],
                place[outline.image_of[objects]],
                told,
                place[doubtful[home[doubtful] == bucket]],
                outline.labels,
                keypoints,
                [] if bucket else outline.problems,
                compare,
            )

    def index_bucket(self) -> Callable[..., BucketDone]:
        """The task that makes one bucket: of folder, number of buckets, bucket and its shares."""
        return functools.partial(index_bucket, self.spec, self._digest)


class _JsonFile:
    """One JSON file; it is read in the state `mark`, or not at all."""

    def __init__(self, path: str, mark: bytes | None = None) -> None:
        folder, self._name = os.path.split(path)
        self._place = storage.locate(folder)
        self.path = path
        self.mark = self._state() if mark is None else mark

    def _state(self) -> bytes:
        (found,) = self._place.fingerprints([self._name])
        return found.mark if found is not None else b""

    def looked_through(self, look: Callable[[Iterator[bytes]], Any]) -> Any:
        """What `look` makes of the file's bytes."""
        try:
            found = look(self._pieces())
        except Malformed as error:
            self._unchanged()  # half a file that is being written is no mistake in it
            line = f":{error.line}" if error.line else ""
            raise DataError(f"{self.path}{line}: {error}") from None
        self._unchanged()
        return found

    def _pieces(self) -> Iterator[bytes]:
        (size,) = self._place.sizes([self._name])
        parts = [(begin, min(begin + _PIECE, size or 0)) for begin in range(0, size or 0, _PIECE)]
        return (data for _, data in self._place.read_parts(self._name, parts, 1))

    def texts(self, spans: Ints) -> Sequence[bytes]:
        """The bytes at `spans`, shape (n, 2)."""
        found = self._place.read_spans(self._name, spans.tolist()) if len(spans) else []
        self._unchanged()
        return found

    def _unchanged(self) -> None:
        if self._state() != self.mark:
            raise DataError(f"{self.path}: is written anew while it is read; run again when that is done")


def _hashed(pieces: Iterator[bytes], state: xxhash.xxh3_64) -> Iterator[bytes]:
    for piece in pieces:
        state.update(piece)
        yield piece


def _names(images: Listing) -> Iterator[str]:
    return (name for blob, _ in images.chunks for name in blob.decode().split("\0"))


def index_bucket(
    spec: IndexSpec,
    digest: str | None,
    directory: str,
    buckets: int,
    keep: str | None,
    bucket: int,
    shares: list[BucketShare],
) -> BucketDone:
    """Make one bucket, unless the same files made it before; `digest` is theirs, None where that is uncertain.

    `keep` is as in `storage.locate`.
    """
    return _Indexer(spec, directory, buckets, bucket, keep, digest).make(shares)


class _Indexer(BucketIndexer):
    def __init__(
        self, spec: IndexSpec, directory: str, buckets: int, bucket: int, keep: str | None, digest: str | None
    ) -> None:
        super().__init__(spec, directory, buckets, bucket, keep)
        self.made_by |= {"source": digest}
        self._known = digest is not None

    def make(self, shares: list[BucketShare]) -> BucketDone:
        _, old_summary = self._old_files() if self._known else (None, None)
        count = sum(len(share.images) for share in shares)
        if old_summary is not None:
            return BucketDone(self.bucket, count, old_summary, b"")
        self.stats = np.zeros((0, 4), np.int64)
        labels = self._entries(shares)
        pictures = labels.filter(pc.not_equal(labels["path"], "")).combine_chunks()
        rows, states, problems = self._parse_shares(shares)
        images = self._images(labels, pictures, states)
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

    def _entries(self, shares: list[BucketShare]) -> pa.Table:
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

    def _parse_shares(self, shares: list[BucketShare]) -> tuple[pa.Table, pa.Table, pa.Table]:
        options = json.loads(self.spec.options)
        rows, states = [], []
        problems: list[tuple[str, str, int | None, str, str, int]] = []
        for share in shares:
            split = self.spec.splits[share.split]
            prefix = self.spec.prefix(split)
            file = _JsonFile(split.labels, share.mark)
            captions = None
            if share.captions is not None and split.captions is not None:
                mark, spans, owner = share.captions
                captions = _JsonFile(split.captions, mark).texts(spans), owner
            part = Part(
                file.texts(share.images),
                file.texts(share.annotations),
                share.image_of,
                share.labels,
                captions,
                self._pictures(split, share.paths),
                compare=share.compare,
            )
            parsed = coco.parse(part, self.spec.task, share.keypoints, options)
            for place in share.doubtful.tolist():
                if parsed.states[place] == LabelState.EMPTY:
                    parsed.states[place] = LabelState.CORRUPT
            keys = pa.array([prefix + stem for stem in share.stems], pa.string())
            rows.append(parsed.rows.append_column("key", keys.take(parsed.rows["file"])))
            assert parsed.images is not None
            parsed.images = parsed.images.append_column("image_said", pa.array(share.said, pa.string()))
            states.append(states_of(parsed))
            problems += [
                (keys[p.file].as_py(), split.labels, None, p.reason, p.detail, p.rows) for p in parsed.problems
            ]
            problems += [
                (prefix + path, split.labels, None, reason, detail, rows_lost)
                for path, reason, detail, rows_lost in share.problems
            ]
        problems.sort(key=lambda problem: problem[0])
        return self._annotations(rows), pa.concat_tables(states).combine_chunks(), problem_table(problems)

    def _pictures(
        self, split: SplitSpec, paths: list[str]
    ) -> Callable[[Sequence[int]], Sequence[Picture | None]] | None:
        """The images at places of `paths`, as their first bytes tell of them; None where they cannot be asked."""
        if split.images is None:
            return None
        origin = storage.locate(split.images, self.keep)

        def pictures(places: Sequence[int]) -> Sequence[Picture | None]:
            found = headers(origin, [paths[place] for place in places if paths[place]])
            return [found.get(paths[place]) for place in places]

        return pictures
