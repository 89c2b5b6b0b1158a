"""Splits within others: what a narrower split has is not in the wider one.

``train: images`` with ``val: images/val``, or with a list of some of its images: each image is of one split.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from pipeline import storage
from pipeline.base.humanize import plural
from pipeline.job.job import path_below
from pipeline.job.spec import SplitSpec
from pipeline.storage import Listing

Pair = tuple[Listing, Listing | None]


def leave_to_narrower(splits: Sequence[SplitSpec], listings: Sequence[Pair]) -> list[str]:
    """Take out of the `listings`, of labels and images, what a narrower split has; returns notes about it.

    The listings of splits that are lists have nothing else any more, see `obey_lists`.
    """
    notes = []
    for wide, (labels, images) in zip(splits, listings, strict=True):
        if wide.image_lists:
            continue
        for narrow, (own_labels, own_images) in zip(splits, listings, strict=True):
            if narrow is wide:
                continue
            dropped = _drop(labels, wide.labels, own_labels, narrow.labels, listed=bool(narrow.image_lists))
            if images is not None and own_images is not None and wide.images and narrow.images:
                dropped = _drop(images, wide.images, own_images, narrow.images, listed=bool(narrow.image_lists))
            if dropped:
                notes.append(
                    f"{plural(dropped, 'image')} of {wide.images or wide.labels} "
                    f"{'belongs' if dropped == 1 else 'belong'} to split {narrow.split} alone ("
                    f"{' and '.join(narrow.image_lists) or narrow.images or narrow.labels}), not to {wide.split}"
                )
    return notes


def _drop(wide: Listing, folder: str, narrow: Listing, inner: str, *, listed: bool) -> int:
    """Take the files of `narrow`, in `inner`, out of the listing `wide` of `folder`; returns their number."""
    below = path_below(storage.locate(inner), storage.locate(folder))
    if listed and (inner == folder or below is not None):
        names = {posixpath.join(below or "", name).encode() for name in narrow.names()}
        return len(wide.retain(lambda name: name not in names))
    if listed or below is None:
        return 0
    step = f"{below}/".encode()
    return len(wide.retain(lambda name: not name.startswith(step), lambda blob: step in blob))
