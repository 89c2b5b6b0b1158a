"""What images are, as their files say it: each is read once, and what was found is cached in the index.

Two tables, `schema.checks` (whether an image can be used) and `schema.headers` (how large it is), have one file a
bucket and a row an image in the state in which it was read; an image whose fingerprint is another is read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline import storage
from pipeline.base.digest import digest_of
from pipeline.images import integrity
from pipeline.images.cached import add_cached, read_cached, rows_of
from pipeline.images.header import HEAD_BYTES, Picture, picture_of
from pipeline.images.integrity import ImageCheck
from pipeline.storage.origins import Origins
from pipeline.tables import schema

if TYPE_CHECKING:
    import pyarrow as pa


#: Most images say within these how large they are.
_FIRST_BYTES = 4 << 10

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
    before = read_cached(index_dir, "checks", bucket, schema.checks())
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
    fresh = _checked(origins, new, level)
    if fresh:
        rows = [
            {"key": row["key"], "mark": row["state"], "level": level, **vars(fresh[row["key"]])}
            for row in new
            if row["state"] is not None and row["key"] in fresh and fresh[row["key"]].reason != _UNREAD
        ]
        add_cached(index_dir, "checks", bucket, before, rows)
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


def _checked(origins: Origins, rows: Sequence[dict[str, Any]], level: str) -> dict[str, ImageCheck]:
    """What is found of the images of `rows` that are at hand, by key."""
    found: dict[str, ImageCheck] = {}
    for location, some in origins.locations([row["key"] for row in rows], [row["image_path"] for row in rows]):
        cached = location.at_hand([rows[i]["image_path"] for i in some])
        asked = [rows[i] for i, there in zip(some, cached, strict=True) if there]
        for i, check in _check(location, [row["image_path"] for row in asked], level):
            found[asked[i]["key"]] = check
    return found


def check_linked(
    index_dir: str, bucket: int, root: str | None, origins: Origins, images: pa.Table
) -> dict[str, UnusableImage]:
    """Those of `images` that a link leads out of the source for, to no image: a key of the user's, say; by key.

    The source is below `root` (None: each of its folders by itself); the rest is as in `check_images`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    outside: list[str] = []
    names = images["image_path"].to_pylist()
    for origin, here in origins.by_origin(images["key"].to_pylist()):
        if origin.url is not None and (folder := origin.location.local) is not None:
            outside += storage.out_of(folder, storage.local_path(root) if root else folder, [names[i] for i in here])
    images = images.filter(pc.is_in(images["image_path"], pa.array(outside, pa.string()))).combine_chunks()
    found = check_images(index_dir, bucket, "header", origins, images)
    detail = "is a link that leads out of the source, and to no image"
    return {key: replace(one, detail=detail) for key, one in found.items() if one.reason == "image_unreadable"}


def _check(location: storage.Location, names: Sequence[str], level: str) -> Iterator[tuple[int, ImageCheck]]:
    """The check of each of `names`, with its index."""
    whole = list(range(len(names)))
    if level == "header":
        whole = []
        for peeked in location.peek_many(names, HEAD_BYTES, integrity.TAIL_BYTES):
            if peeked.reason is not None:
                yield peeked.index, _unread(peeked.reason)
            elif (check := integrity.by_header(peeked.size, peeked.head, peeked.tail)) is not None:
                yield peeked.index, check
            else:
                whole.append(peeked.index)
    check_of = integrity.by_decoding if level == "full" else _by_all
    for fetched in location.fetch_many([names[i] for i in whole]):
        i = whole[fetched.index]
        reason = fetched.unless_away(location.join(names[i])).reason
        yield i, check_of(fetched.data) if reason is None else _unread(reason)


def _by_all(data: bytes) -> ImageCheck:
    check = integrity.by_header(len(data), data, data[-integrity.TAIL_BYTES :])
    assert check is not None
    return check


def _unread(reason: str) -> ImageCheck:
    return ImageCheck(_UNREAD, f"cannot be read: {reason}")


def read_pictures(location: storage.Location, names: Sequence[str]) -> Iterator[tuple[int, Picture | None]]:
    """What each of `names`, images that are at hand, says of itself, with its index; None for what is no image.

    A few of its first bytes are read, more where its header is longer, and of the rare image where it is very long all.
    """
    longer = list(range(len(names)))
    for length in (_FIRST_BYTES, HEAD_BYTES):
        asked, longer = longer, []
        for peeked in location.peek_many([names[i] for i in asked], length, 0):
            found = picture_of(peeked.head)
            if found is None and len(peeked.head) < peeked.size:
                longer.append(asked[peeked.index])
            else:
                yield asked[peeked.index], found
    for i in longer:
        yield i, picture_of(storage.read_image(location, names[i]))


def cached_pictures(
    index_dir: str, bucket: int, location: storage.Location, images: Sequence[tuple[str, str, bytes | None]]
) -> list[Picture | None]:
    """What `images` (key, name at `location`, fingerprint) say of themselves; None for what is no image.

    A header is read where none was read before of the image in this state; without a fingerprint it always is.
    """
    before = read_cached(index_dir, "headers", bucket, schema.headers())
    _, marks, *said = (column.to_pylist() for column in rows_of(before, [key for key, _, _ in images]))
    found = [
        Picture(*one) if mark is not None and mark == state else None
        for (_, _, state), mark, one in zip(images, marks, zip(*said, strict=True), strict=True)
    ]
    unread = [i for i, picture in enumerate(found) if picture is None]
    for n, picture in read_pictures(location, [images[i][1] for i in unread]):
        found[unread[n]] = picture
    rows = [
        {"key": images[i][0], "mark": images[i][2], **vars(picture)}
        for i in unread
        if (picture := found[i]) is not None and images[i][2] is not None
    ]
    if rows:
        add_cached(index_dir, "headers", bucket, before, rows)
    return found
