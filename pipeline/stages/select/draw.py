"""A share of backgrounds: which of the images without an object are taken."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.base.arrays import Bools, Floats, Ints

#: A class occurs beside a wanted one if that is so in this share of its images or more.
NEAR = 0.01


def rank_of(key: str, seed: int) -> int:
    """The number, below 2**63, by which the image of `key` is drawn: its XXH3-64 by that seed."""
    import xxhash

    return xxhash.xxh3_64_intdigest(key.encode(), seed & 0xFFFF_FFFF_FFFF_FFFF) >> 1


def most_backgrounds(images: int, ratio: float) -> int:
    """The most backgrounds beside so many `images` with objects that are no more than `ratio` of all of them.

    n <= ratio (images + n), so n <= images ratio / (1 - ratio); the ratio is the decimal number that was written.
    """
    share = Fraction(repr(ratio))
    return int(images * share / (1 - share))


def drawn(
    rank: Ints,
    split: Ints,
    background: Bools,
    ratio: float | None,
    most: int | None,
    weight: Floats | None = None,
    stays: Bools | None = None,
) -> Bools:
    """Which of the images marked in `background` are taken; the others have objects, and `split` numbers their split.

    Of each split at most `ratio` of its images are backgrounds, of all at most `most`: those first by `rank` or, with
    `weight`, by `race`. Of all images those that are marked in `stays` (None: each) count.
    """
    import numpy as np

    stays = np.ones(len(rank), np.bool_) if stays is None else stays

    order = np.lexsort((rank,)) if weight is None else np.lexsort((rank, race(rank, weight), weight <= 0))
    taken = background & stays
    if ratio is not None:
        with_objects = ~background & stays
        for number in np.unique(split):
            those = order[(split[order] == number) & taken[order]]
            taken[those[most_backgrounds(int((with_objects & (split == number)).sum()), ratio) :]] = False
    if most is not None:
        taken[order[taken[order]][most:]] = False
    return taken


def race(rank: Ints, weight: Floats) -> Floats:
    """Numbers whose order draws images without putting back, each with a chance in proportion to its weight.

    An exponential race: -ln(u) / weight, with u the rank as a number in (0, 1). Efraimidis and Spirakis, "Weighted
    random sampling with a reservoir", Information Processing Letters 97 (2006). 0 weighs nothing: infinite.
    """
    import numpy as np

    u = (rank.astype(np.float64) + 1.0) / 2.0**63
    with np.errstate(divide="ignore"):
        return np.where(weight > 0, -np.log(np.minimum(u, 1 - 2.0**-53)) / np.maximum(weight, 1e-300), np.inf)


def near_misses(
    others: pa.ListArray, background: Bools, wanted: frozenset[str], supercategory: Mapping[str, str]
) -> Floats:
    """How near each image comes to a wanted one, by the classes in `others` that it has beside those `wanted`: 0 to 1.

    A class is as near as the share of its images that have a wanted object too (those that are no `background`), if
    that is `NEAR` or more; one of the `supercategory` of a wanted class is `NEAR` at least. An image is as near as its
    nearest class.
    """
    import numpy as np
    import pyarrow.compute as pc

    image = pc.list_parent_indices(others).to_numpy()
    names = pc.list_flatten(others).dictionary_encode()
    code = names.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    pairs = np.unique(image << 32 | code) if len(code) else np.zeros(0, np.int64)
    image, code = pairs >> 32, pairs & 0xFFFFFFFF
    count = len(names.dictionary)
    images = np.bincount(code, minlength=count)
    beside = np.bincount(code[~background[image]], minlength=count)
    share = beside / np.maximum(images, 1)
    share[share < NEAR] = 0
    families = {supercategory[name] for name in wanted if name in supercategory}
    related = np.array([supercategory.get(name) in families for name in names.dictionary.to_pylist()], np.bool_)
    share = np.where(related, np.maximum(share, NEAR), share)
    found = np.zeros(len(background))
    np.maximum.at(found, image, share[code])
    return found
