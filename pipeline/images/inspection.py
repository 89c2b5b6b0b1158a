"""The images of a subset: each is looked at once, and what was seen is kept beside the index."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline import storage
from pipeline.images import integrity
from pipeline.images.integrity import ImageCheck
from pipeline.tables import schema
from pipeline.tables.digest import digest_of
from pipeline.tables.schema import part_name

if TYPE_CHECKING:
    import pyarrow as pa


#: Not kept: a file that is allowed to be read is no other file.
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
    index_dir: str,
    bucket: int,
    level: str,
    origins: dict[str, str | None],
    images: pa.Table,
    keep: str,
    root: str | None = None,
) -> dict[str, UnusableImage]:
    """Look at `images` by `level` (linked, header or full); returns those that cannot be used, by key.

    ``linked`` is the header of those that a link leads to out of the source, below `root` (None: each folder of it
    stands for itself): what is no image must not come by it, a key of the user's, say.

    `origins` is where they come from, by what their keys begin with; `keep` is as in `storage.locate`. Images that lie
    far away and were not fetched yet are not looked at.

    `images` has `schema.images` and the columns mark (what decides whether it is copied again) and state (its
    fingerprint; null while it is too young to be trusted). What was seen before of an image in the same state is not
    looked at again; what is new is kept in the table `schema.checks` of the index.
    """
    if level != "linked":
        return _check(index_dir, bucket, level, origins, images, keep)
    found = _check(index_dir, bucket, "header", origins, _linked(origins, images, root), keep)
    detail = "is a link that leads out of the source, and to no image"
    return {key: replace(one, detail=detail) for key, one in found.items() if one.reason == "image_unreadable"}


def _check(
    index_dir: str, bucket: int, level: str, origins: dict[str, str | None], images: pa.Table, keep: str
) -> dict[str, UnusableImage]:
    """See `check_images`."""
    checks = storage.locate(os.path.join(index_dir, "checks"))
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
    for prefix, folder in origins.items():
        here = [row for row in new if row["key"].startswith(prefix)]
        if not here:
            continue
        place = storage.locate(folder or "", keep)
        for origin, some in storage.image_places(place, [row["image_path"] for row in here]):
            at_hand = origin.at_hand([here[i]["image_path"] for i in some])
            asked = [here[i] for i, there in zip(some, at_hand, strict=True) if there]
            for i, look in _look(origin, [row["image_path"] for row in asked], level):
                fresh[asked[i]["key"]] = look
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
            prefix = next(prefix for prefix in origins if key.startswith(prefix))
            bad[key] = UnusableImage(prefix, row["image_path"], digest_of(row["mark"]), reason, detail or "")
    return bad


def _linked(origins: dict[str, str | None], images: pa.Table, root: str | None) -> pa.Table:
    """Those of `images` that a link leads to out of `root`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    led: list[str] = []
    for prefix, folder in origins.items():
        if folder is not None and (local := storage.locate(folder).local) is not None:
            names = images["image_path"].filter(pc.starts_with(images["key"], prefix)).to_pylist()
            led += storage.out_of(local, storage.local_path(root) if root else local, names)
    return images.filter(pc.is_in(images["image_path"], pa.array(led, pa.string()))).combine_chunks()


def _look(origin: storage.Location, names: Sequence[str], level: str) -> Iterator[tuple[int, ImageCheck]]:
    """What is seen of each of `names`, by its index."""
    whole = list(range(len(names)))
    if level == "header":
        whole = []
        for peeked in origin.peek_many(names, integrity.HEAD_BYTES, integrity.TAIL_BYTES):
            if peeked.reason is not None:
                yield peeked.index, _unread(peeked.reason)
            elif (look := integrity.by_header(peeked.size, peeked.head, peeked.tail)) is not None:
                yield peeked.index, look
            else:
                whole.append(peeked.index)
    look_at = integrity.by_decoding if level == "full" else _by_all
    for fetched in origin.fetch_many([names[i] for i in whole]):
        yield whole[fetched.index], look_at(fetched.data) if fetched.reason is None else _unread(fetched.reason)


def _by_all(data: bytes) -> ImageCheck:
    look = integrity.by_header(len(data), data, data[-integrity.TAIL_BYTES :])
    assert look is not None
    return look


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
    place: storage.Location,
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


#: An image says how large it is before that, but for rare ones with much else in front.
_HEAD_BYTES = 1 << 16
