"""The images of a subset: each is checked once, and the results are cached beside the index."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline import storage
from pipeline.images import integrity
from pipeline.images.integrity import ImageCheck
from pipeline.images.origins import Origins
from pipeline.tables import schema
from pipeline.tables.digest import digest_of
from pipeline.tables.schema import part_name

if TYPE_CHECKING:
    import pyarrow as pa


#: Not cached: a file that is allowed to be read is no other file.
_UNREAD = "image_unread"


@dataclass(frozen=True)
class UnusableImage:
    """An image that cannot be used.

    What its key begins with, its name, the digest of its state, the counted word, and a clause.
    """

    prefix: str
    name: str
    digest: bytes
    reason: str
    detail: str


def check_images(
    index_dir: str, bucket: int, level: str, origins: Origins, images: pa.Table
) -> dict[str, UnusableImage]:
    """Check `images` by `level` (header or full); returns those that cannot be used, by key.

    Remote images that were not fetched yet are not checked.

    `images` has `schema.images` and the columns mark (what decides whether it is copied again) and state (its
    fingerprint; null while it is too young to be trusted). An image that was checked before in the same state is not
    checked again; what is new is written to the table `schema.checks` of the index.
    """
    checks = storage.locate_writable(os.path.join(index_dir, "checks"))
    before = _read(checks, part_name(bucket))
    # What is in order when decoded has a header in order; of what is not, the header may be.
    seen = {
        row["key"]: row
        for row in before.to_pylist()
        if row["level"] == level or (level == "header" and row["reason"] is None)
    }
    wanted = images.select(["key", "image_path", "mark", "state"]).to_pylist()
    new = [
        row
        for row in wanted
        if row["state"] is None or row["key"] not in seen or seen[row["key"]]["mark"] != row["state"]
    ]
    fresh: dict[str, ImageCheck] = {}
    for location, some in origins.locations([row["key"] for row in new], [row["image_path"] for row in new]):
        cached = location.at_hand([new[i]["image_path"] for i in some])
        asked = [new[i] for i, there in zip(some, cached, strict=True) if there]
        for i, check in _check(location, [row["image_path"] for row in asked], level):
            fresh[asked[i]["key"]] = check
    if fresh:
        _write(checks, part_name(bucket), before, new, fresh, level)
    bad = {}
    unseen = {row["key"] for row in new} - fresh.keys()
    for row in wanted:
        key = row["key"]
        if key in unseen:
            continue
        reason, detail = (
            (fresh[key].reason, fresh[key].detail) if key in fresh else (seen[key]["reason"], seen[key]["detail"])
        )
        if reason is not None:
            prefix = origins.of(key).prefix
            bad[key] = UnusableImage(prefix, row["image_path"], digest_of(row["mark"]), reason, detail or "")
    return bad


def check_linked(
    index_dir: str, bucket: int, root: str | None, origins: Origins, images: pa.Table
) -> dict[str, UnusableImage]:
    """Those of `images` that a link leads out of the source for, to no image: a key of the user's, say; by key.

    The source is below `root` (None: each of its folders stands for itself); the rest is as in `check_images`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    outside: list[str] = []
    names = images["image_path"].to_pylist()
    for origin, here in origins.by_origin(images["key"].to_pylist()):
        if origin.url is not None:
            outside += storage.locate(origin.url).out_of(root or origin.url, [names[i] for i in here])
    images = images.filter(pc.is_in(images["image_path"], pa.array(outside, pa.string()))).combine_chunks()
    found = check_images(index_dir, bucket, "header", origins, images)
    detail = "is a link that leads out of the source, and to no image"
    return {key: replace(one, detail=detail) for key, one in found.items() if one.reason == "image_unreadable"}


def _check(location: storage.Location, names: Sequence[str], level: str) -> Iterator[tuple[int, ImageCheck]]:
    """The check of each of `names`, with its index."""
    whole = list(range(len(names)))
    if level == "header":
        whole = []
        for peeked in location.peek_many(names, integrity.HEAD_BYTES, integrity.TAIL_BYTES):
            if peeked.reason is not None:
                yield peeked.index, _unread(peeked.reason)
            elif (check := integrity.by_header(peeked.size, peeked.head, peeked.tail)) is not None:
                yield peeked.index, check
            else:
                whole.append(peeked.index)
    check_of = integrity.by_decoding if level == "full" else _by_all
    for fetched in location.fetch_many([names[i] for i in whole]):
        yield whole[fetched.index], check_of(fetched.data) if fetched.reason is None else _unread(fetched.reason)


def _by_all(data: bytes) -> ImageCheck:
    check = integrity.by_header(len(data), data, data[-integrity.TAIL_BYTES :])
    assert check is not None
    return check


def _unread(reason: str) -> ImageCheck:
    return ImageCheck(_UNREAD, f"cannot be read: {reason}")


def _read(place: storage.Location, name: str) -> pa.Table:
    """What was seen before; what lies there is its digest and a Parquet file. Nothing, where that is not whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = place.read(name)
    if data is not None and digest_of(data[16:]) == data[:16]:
        table = pq.read_table(pa.BufferReader(data[16:]), use_threads=False)
        if table.schema.names == schema.checks().names:
            return table
    return schema.checks().empty_table()


def _write(
    place: storage.WritableLocation,
    name: str,
    before: pa.Table,
    new: list[dict[str, object]],
    fresh: dict[str, ImageCheck],
    level: str,
) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    from pipeline.tables.parquet import to_parquet

    rows = [
        {"key": row["key"], "mark": row["state"], "level": level, **vars(fresh[str(row["key"])])}
        for row in new
        if row["state"] is not None and row["key"] in fresh and fresh[str(row["key"])].reason != _UNREAD
    ]
    added = pa.Table.from_pylist(rows, schema.checks())
    kept = before.filter(pc.invert(pc.is_in(before["key"], added["key"].combine_chunks())))
    table = pa.concat_tables([kept.cast(schema.checks()), added]).sort_by("key")
    data = to_parquet(table)
    place.write_many([name], [digest_of(data) + data]).must(place)
