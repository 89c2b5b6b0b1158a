"""Which images are no backgrounds, whatever their own label file says.

One folder of images may serve several splits or sources: what one of them labels is no background of another, and an
image that nobody labels is a background once. Nor is an image a background whose label file holds anything that could
not be read, for that may be an object of a wanted class. What is found is written beside the plan, a table a bucket.
"""

from __future__ import annotations

import functools
import itertools
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline import formats, storage
from pipeline.base.humanize import plural
from pipeline.base.terms import SPLITS
from pipeline.job.job import Job, SourceJob, is_below
from pipeline.job.spec import SplitSpec
from pipeline.stages.index.parts import index_part, index_table
from pipeline.stages.index.problems import count_beyond, rows_beyond
from pipeline.stages.index.reader import IndexInfo
from pipeline.stages.select.parts import read_part
from pipeline.tables import schema
from pipeline.tables.schema import part_name

if TYPE_CHECKING:
    import pyarrow as pa

#: Counted words: another split or source labels the image; its own label file holds something that was left out.
ELSEWHERE, UNREAD = "elsewhere", "unread"


@dataclass
class BeyondBuckets:
    """What is known of images beyond their own bucket.

    `never` has the counted word of each image that is no background, by its key; `doubled` the keys of each image file
    that several label files, splits or sources label.
    """

    never: dict[str, str] = field(default_factory=dict)
    doubled: list[list[str]] = field(default_factory=list)


def beyond_buckets(job: Job, infos: Sequence[IndexInfo]) -> BeyondBuckets:
    """The images that several label files share and, where backgrounds are wanted, those that are no backgrounds."""
    found = BeyondBuckets()
    wanted = job.config.select.backgrounds != "none"
    if wanted:
        for source, info in zip(job.sources, infos, strict=True):
            found.never.update(dict.fromkeys(_unread(source, info), UNREAD))
    for keys, labelled in _shared(job, infos):
        if len(labelled) > 1:
            found.doubled.append(labelled)
        if wanted:
            others = [key for key in keys if key not in labelled]
            found.never.update(dict.fromkeys(others if labelled else others[1:], ELSEWHERE))
    found.doubled.sort()
    return found


def write_excluded(found: Mapping[str, str], folder: str, buckets: int) -> str | None:
    """Write the counted word of each key of `found` to `folder`, a table a bucket; returns it, None without any."""
    location = storage.locate_writable(folder)
    location.delete_many(sorted(location.names()))
    if not found:
        return None
    of_bucket: list[list[str]] = [[] for _ in range(buckets)]
    for key in found:
        of_bucket[zlib.crc32(key.encode()) % buckets].append(key)
    for bucket, keys in enumerate(of_bucket):
        write_excluded_part(folder, bucket, keys, [found[key] for key in keys])
    return folder


def write_excluded_part(folder: str, bucket: int, keys: Sequence[str], words: Sequence[str]) -> None:
    """Write the part of one bucket, see `write_excluded`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"key": keys, "reason": words}, schema.excluded())
    write = functools.partial(pq.write_table, table, use_dictionary=["reason"], write_statistics=False)
    storage.replace_with(os.path.join(folder, part_name(bucket)), write)


def excluded_from(folder: str | None, bucket: int) -> dict[str, pa.Array]:
    """The keys of a bucket that are in `folder`, by the counted word."""
    import pyarrow.compute as pc

    if folder is None:
        return {}
    table = read_part(folder, bucket, schema.excluded())
    words = table["reason"]
    return {
        word: table["key"].filter(pc.equal(words, word)).combine_chunks()
        for word in pc.unique(words).sort().to_pylist()
    }


def doubled_warning(doubled: Sequence[Sequence[str]]) -> list[str]:
    """The sentence for images that the subset has several times, if there are any."""
    if not doubled:
        return []
    shown = "; ".join(" and ".join(keys) for keys in doubled[:3])
    more = "; …" if len(doubled) > 3 else ""
    return [
        f"{plural(len(doubled), 'image file is', 'image files are')} labelled by several label files, and the subset "
        f"has a copy of each ({shown}{more}); a trainer that trains and validates on one image measures too much: "
        "remove all but one"
    ]


def _unread(source: SourceJob, info: IndexInfo) -> Iterator[str]:
    """Keys of images whose label file, or some of it, was left out."""

    if any(counts["problems"] for counts in info.totals.values()):
        yield from index_table(source.index_dir, "problems", info.buckets, ["key"])["key"].to_pylist()
    if count_beyond(source, info):
        yield from rows_beyond(source, info)["key"].to_pylist()
    for split in source.spec.splits if not formats.load(source.spec.format).WHOLE else ():
        location = storage.locate(split.labels)
        for path, _ in info.odd:
            name = location.name_of(path)
            if path == location.join(name):
                yield source.spec.prefix(split) + name.rpartition(".")[0]


def _shared(job: Job, infos: Sequence[IndexInfo]) -> Iterator[tuple[list[str], list[str]]]:
    """The keys of each image file that has several, by split, and those of them that have a label file."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = [_images(source, info, split) for source, info, split in _overlapping(job, infos)]
    if not parts:
        return
    table = pa.concat_tables(parts)
    counts = table["path"].value_counts()
    several = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    table = table.filter(pc.is_in(table["path"], several)).sort_by(
        [("path", "ascending"), ("rank", "ascending"), ("key", "ascending")]
    )
    columns = zip(*(table[name].to_pylist() for name in ("path", "key", "labelled")), strict=True)
    for _, rows in itertools.groupby(columns, key=lambda row: row[0]):
        group = list(rows)
        yield [key for _, key, _ in group], [key for _, key, labelled in group if labelled]


def _overlapping(job: Job, infos: Sequence[IndexInfo]) -> list[tuple[SourceJob, IndexInfo, SplitSpec]]:
    """The splits that may have images in common with another, or several label files for one image."""
    everywhere = [
        (source, info, split)
        for source, info in zip(job.sources, infos, strict=True)
        for split in source.spec.splits
        if split.images is not None
    ]
    found = [
        one
        for number, one in enumerate(everywhere)
        if any(_overlap(one[2], other[2]) for n, other in enumerate(everywhere) if n != number)
    ]
    rest = [one for one in everywhere if one not in found]
    left = {source.spec.name: (source, info) for source, info, _ in rest}
    borrowing = {name for name, (source, info) in left.items() if _borrows(source, info)}
    return found + [one for one in rest if one[0].spec.name in borrowing]


def _overlap(one: SplitSpec, other: SplitSpec) -> bool:
    assert one.images is not None
    assert other.images is not None
    a, b = storage.locate(one.images), storage.locate(other.images)
    return storage.is_same_location(a.url, b.url) or is_below(a, b) or is_below(b, a)


def _borrows(source: SourceJob, info: IndexInfo) -> bool:
    """Whether label files of the source say themselves where their image is: then two may say the same."""
    parts = (index_part(source.index_dir, "images", bucket, ["image_said"]) for bucket in range(info.buckets))
    return any(part["image_said"].null_count < part.num_rows for part in parts)


def _images(source: SourceJob, info: IndexInfo, split: SplitSpec) -> pa.Table:
    """Path (as it is on the disk), key, and whether there is a label file, of each image of a split."""
    import pyarrow as pa
    import pyarrow.compute as pc

    assert split.images is not None
    location = storage.locate(split.images)
    before, after = location.join("\0").split("\0")
    if location.local is not None:
        before, after = f"{os.path.realpath(location.local)}/", ""
    columns = ["key", "split", "image_path", "label_path"]
    rows = index_table(source.index_dir, "images", info.buckets, columns)
    rows = rows.filter(pc.and_(pc.equal(rows["split"], split.split), rows["image_path"].is_valid()))
    paths = pc.binary_join_element_wise(before, rows["image_path"], after, "")
    rank = pa.array([SPLITS.index(split.split)] * rows.num_rows, pa.int32())
    return pa.table({"path": paths, "rank": rank, "key": rows["key"], "labelled": rows["label_path"].is_valid()})
