"""Caps: of each class no more than so many images or objects, in whole images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools, Ints


@dataclass(frozen=True)
class Limits:
    """The most images and the most objects of each class, by class id; a class that is in neither has no limit."""

    images: Mapping[int, int]
    objects: Mapping[int, int]


def capped(limits: Limits, rank: Ints, image: Ints, class_id: Ints, count: Ints, before: Bools | None = None) -> Bools:
    """Which images the caps leave out, those that are out `before` included.

    `rank` orders the images; `image`, `class_id` and `count` (one entry an image and class) say how many objects of a
    class an image has. The class with fewest images comes first: of its images, by their rank, each is taken that fits
    below both limits, and the others are left out for good. So a class is above its limit only by images that are taken
    for a rarer one. An image that is taken stays so when others come, unless they come before it by rank.
    """
    import numpy as np

    taken, out = np.zeros(len(rank), np.bool_), np.zeros(len(rank), np.bool_)
    out |= before if before is not None else False
    order = np.lexsort((image, rank[image], class_id))
    order = order[~out[image[order]]]  # what is out makes no class less rare
    image, class_id, count = image[order], class_id[order], count[order]
    ids, starts, sizes = np.unique(class_id, return_index=True, return_counts=True)
    for at in np.lexsort((ids, sizes)):
        part = slice(starts[at], starts[at] + sizes[at])
        here, objects = image[part], count[part]
        most_images = limits.images.get(int(ids[at]), math.inf)
        most_objects = limits.objects.get(int(ids[at]), math.inf)
        before = taken[here]
        new = ~before & ~out[here]
        room = _first_that_fit(objects[new], most_images - before.sum(), most_objects - objects[before].sum())
        taken[here[new][room]] = True
        out[here[new][~room]] = True
    return out


def _first_that_fit(objects: Ints, images_left: float, objects_left: float) -> Bools:
    """Which of the images, with so many `objects` each, are taken one after another while they fit."""
    import numpy as np

    found = np.ones(len(objects), np.bool_)
    if math.isfinite(objects_left) and objects.sum() > objects_left:
        left = objects_left
        for i, more in enumerate(objects.tolist()):
            found[i] = more <= left
            left -= more if found[i] else 0
    if math.isfinite(images_left):
        found &= np.cumsum(found) <= max(images_left, 0)
    return found
