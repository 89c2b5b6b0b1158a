"""What images look like and what they hold, as numbers: a difference hash, and the digest of the content.

The difference hash (dHash, Neal Krawetz: "Kind of Like That",
https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html) is of the picture as it is shown, in
grey, 9 x 8 pixels: 64 bits, row after row, a bit is 1 where a pixel is brighter than the one before it. The same
picture in another size, quality or file format differs in a few bits; one that is cropped, or is another, in many.

JPEGs are decoded at as little as an eighth of their size. Of 212 photographs of COCO, scaled down to a third and saved
as JPEG, as WebP and as a square, 99.5 in a hundred differ in 3 bits at most from what they were made of; so do as many
where they are decoded whole, at 2.4 ms instead of 1.4 (November 2026).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline import storage
from pipeline.base.digest import digest_of
from pipeline.images.cached import add_cached, read_cached, rows_of
from pipeline.images.header import MAX_PIXELS, Picture, opened, orientation_of
from pipeline.storage.origins import Origins
from pipeline.tables import schema

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL import Image

    from pipeline.base.arrays import Floats

#: Pixels of the grey picture: one more in a row than there are bits.
_WIDTH, _HEIGHT = 9, 8

#: A JPEG is decoded with sides of at least so many pixels: at fewer, its hash depends on the size that it is stored in.
_SIDE = 72

#: Hashes whose bits are all equal: of pictures of one brightness, or that become brighter all along each row. They say
#: nothing of what is shown.
FLAT = (0, 2**64 - 1)


def difference_hash(data: bytes) -> int | None:
    """The difference hash of the image in `data`, 0 to 2^64 - 1; None where it cannot be decoded, or is too large."""
    import numpy as np

    try:
        with opened(data) as image:
            small = _small(image)
    except Exception:  # noqa: BLE001 - Pillow's plug-ins raise anything, see `opened`
        return None
    if small is None:
        return None
    bits = small[:, 1:] > small[:, :-1]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _small(image: Image.Image) -> Floats | None:
    """The picture that `image` shows in grey, shape (8, 9), 0 to 255; None where it is too large to be decoded."""
    import numpy as np
    from PIL import Image

    if image.width * image.height > MAX_PIXELS:
        return None
    # Pixels at the edges of a scaled JPEG may be in part beyond the picture: `box` is what it covers of them.
    drafted = image.draft("L", (_SIDE, _SIDE)) if image.format in ("JPEG", "MPO") else None
    image.load()
    picture = Picture(*image.size, orientation_of(image))  # now: Pillow turns a TIFF when it is loaded
    size = (_HEIGHT, _WIDTH) if picture.sideways else (_WIDTH, _HEIGHT)
    deep = image.mode.startswith(("I", "F"))
    box = drafted[1] if drafted is not None else None
    grey = image.convert("F" if deep else "L").resize(size, Image.Resampling.BILINEAR, box)
    values = np.asarray(grey, np.float64)
    if deep:  # in as many steps as a copy of 8 bits has
        values = np.rint(values * (255 / max(float(np.abs(values).max()), 1e-30)))
    return picture.upright(values)


def image_hashes(index_dir: str, bucket: int, origins: Origins, images: pa.Table) -> pa.Table:
    """Key, hash and digest of `images`, a bucket's, in their order; an image is read where it was not in this state.

    `images` has the columns key, image_path and, where that was asked, state (its fingerprint; null while it is too
    young to be trusted). An image that cannot be decoded has no hash; one that cannot be read, or is remote and was not
    fetched yet, no digest either. What is new is written to the table `schema.hashes` of the index. Each image that is
    read counts as a file of the progress.
    """
    before = read_cached(index_dir, "hashes", bucket, schema.hashes())
    keys, names = images["key"].to_pylist(), images["image_path"].to_pylist()
    asked = "state" in images.column_names
    states = images["state"].to_pylist() if asked else _states(origins, keys, names)
    _, marks, *said = (column.to_pylist() for column in rows_of(before, keys))
    found: list[tuple[int | None, bytes | None]] = [
        one if mark is not None and mark == state else (None, None)
        for mark, state, one in zip(marks, states, zip(*said, strict=True), strict=True)
    ]
    unread = [i for i, (_, digest) in enumerate(found) if digest is None and names[i] is not None]
    for location, some in origins.locations([keys[i] for i in unread], [names[i] for i in unread]):
        here = [unread[i] for i in some]
        cached = location.at_hand([names[i] for i in here])
        here = [i for i, there in zip(here, cached, strict=True) if there]
        paths = [names[i] for i in here]
        for n, hashed in location.fetch_each(paths, functools.partial(_hashed, location, paths)):
            found[here[n]] = hashed
    rows: list[dict[str, object]] = [
        {"key": keys[i], "mark": states[i], "hash": found[i][0], "digest": found[i][1]}
        for i in unread
        if states[i] is not None and found[i][1] is not None
    ]
    if rows:
        add_cached(index_dir, "hashes", bucket, before, rows)
    columns = [keys, [value for value, _ in found], [digest for _, digest in found]]
    return _table(columns)


def _states(origins: Origins, keys: Sequence[str], names: Sequence[str | None]) -> list[bytes | None]:
    """The fingerprints of images as they are now; None for one that is too young to be trusted, or is not there."""
    states: list[bytes | None] = [None] * len(keys)
    having = [i for i, name in enumerate(names) if name is not None]
    paths = [name for name in names if name is not None]
    for location, some in origins.locations([keys[i] for i in having], paths):
        for i, found in zip(some, location.fingerprints([paths[i] for i in some]), strict=True):
            states[having[i]] = found.mark if found is not None and found.settled else None
    return states


def _table(columns: Sequence[Sequence[object]]) -> pa.Table:
    import pyarrow as pa

    types = (pa.string(), pa.uint64(), pa.binary(16))
    arrays = [pa.array(values, kind) for values, kind in zip(columns, types, strict=True)]
    return pa.table(dict(zip(("key", "hash", "digest"), arrays, strict=True)))


def _hashed(
    location: storage.Location, names: Sequence[str], fetched: storage.Fetched
) -> tuple[int, tuple[int | None, bytes | None]]:
    """Hash and digest of one of the files `names`, with its index."""
    if fetched.unless_away(location.join(names[fetched.index])).reason is not None:
        return fetched.index, (None, None)
    return fetched.index, (difference_hash(fetched.data), digest_of(fetched.data))
