"""Which images may hold objects of a wanted class that nobody labelled: they teach a trainer that nothing is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.base.arrays import Bools
    from pipeline.base.classes import ClassMap


@dataclass(frozen=True)
class Unlabelled:
    """`may_hold[i, c]`: the image with key `keys[i]` may hold objects of class c of the subset without a label."""

    keys: pa.Array
    may_hold: Bools

    def images(self) -> pa.Array:
        """Keys of the images that may hold such objects of any class."""
        import pyarrow as pa

        return self.keys.filter(pa.array(self.may_hold.any(axis=1)))

    def counts(self, classes: Sequence[str], images: pa.Array) -> dict[str, int]:
        """How many images of the keys `images` may hold such objects, by name of the class, as far as any does."""
        import pyarrow.compute as pc

        sums = self.may_hold[pc.is_in(self.keys, images).to_numpy(zero_copy_only=False)].sum(axis=0)
        return {name: count for name, count in zip(classes, sums.tolist(), strict=True) if count}


def unlabelled(images: pa.Table, classes: ClassMap, partly: Sequence[int], at_once: int = 1 << 18) -> Unlabelled | None:
    """Of which classes `images` (`schema.images`) of one source may hold unlabelled objects; None: of none.

    `partly` are the ids of the subset's classes that the source does not label everywhere. Where an image itself says
    which classes it labels everywhere, the others count as well; a merged class is one if all that the source has of it
    are. Of `at_once` images times classes what images say is counted at a time, a number of eight bytes each.
    """
    import numpy as np

    said = images["exhaustive"].combine_chunks()
    if not partly and said.null_count == len(said):
        return None
    may_hold = np.zeros((len(said), len(classes.names)), np.bool_)
    may_hold[:, list(partly)] = True
    if said.null_count < len(said):
        step = max(1, at_once // max(1, len(classes.names)))
        for at in range(0, len(said), step):
            may_hold[at : at + step] |= _not_said(said.slice(at, step), classes)
    return Unlabelled(images["key"].combine_chunks(), may_hold)


def _not_said(said: pa.Array, classes: ClassMap) -> Bools:
    """By image and class of the subset: whether the image says which classes it labels everywhere, and not this."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    count, lut = len(classes.names), np.array(classes.lut, np.int64)
    lists = pc.split_pattern(said, "\n")
    source = pc.fill_null(pc.index_in(pc.list_flatten(lists), pa.array(classes.source, pa.string())), -1).to_numpy()
    ids = np.append(lut, -1)[source]
    at = pc.list_parent_indices(lists).to_numpy()[ids >= 0] * count + ids[ids >= 0]
    found = np.bincount(at, minlength=len(said) * count).reshape(-1, count)
    missing: Bools = found < np.bincount(lut[lut >= 0], minlength=count)
    missing &= said.is_valid().to_numpy(zero_copy_only=False)[:, None]
    return missing


def joined(parts: Sequence[Unlabelled | None]) -> Unlabelled | None:
    """What `unlabelled` found of several sources as one; None: nothing."""
    import numpy as np
    import pyarrow as pa

    found = [part for part in parts if part is not None]
    if len(found) < 2:
        return found[0] if found else None
    return Unlabelled(
        pa.concat_arrays([part.keys for part in found]), np.concatenate([part.may_hold for part in found])
    )
