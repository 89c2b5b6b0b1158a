"""Splits within others: what a narrower split has is not in the wider one, of the same source or of another.

``train: images`` with ``val: images/val``, or with a list of some of its images: each image is of one split.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline import storage
from pipeline.base.humanize import noun, plural
from pipeline.job.job import path_below
from pipeline.job.spec import IndexSpec, SplitSpec
from pipeline.storage import Listing


@dataclass(frozen=True)
class ListedSplit:
    """A split of a source with the listings of its labels and images; those of a list have nothing else any more."""

    source: IndexSpec
    split: SplitSpec
    labels: Listing
    images: Listing | None


def leave_to_narrower(splits: Sequence[ListedSplit]) -> Iterator[tuple[IndexSpec, str]]:
    """Take out of the listings what a narrower split has; notes about it, each with the source that had it.

    Images alone may be those of several sources, which label other things: between sources labels decide.
    """
    for wide in splits:
        for narrow in splits:
            if wide.split.image_lists or narrow is wide or narrow.source.format != wide.source.format:
                continue
            listed = bool(narrow.split.image_lists)
            dropped = _drop(wide.labels, wide.split.labels, narrow.labels, narrow.split.labels, listed=listed)
            if narrow.source != wide.source and not dropped:
                continue
            if wide.images is not None and narrow.images is not None and wide.split.images and narrow.split.images:
                dropped = _drop(wide.images, wide.split.images, narrow.images, narrow.split.images, listed=listed)
            if dropped:
                yield wide.source, _note(wide, narrow, dropped)


def _note(wide: ListedSplit, narrow: ListedSplit, dropped: int) -> str:
    same = narrow.source == wide.source
    inner, outer = (
        one.split.split if same else f"{one.split.split} of source {one.source.name}" for one in (narrow, wide)
    )
    where = " and ".join(narrow.split.image_lists) or narrow.split.images or narrow.split.labels
    return (
        f"{plural(dropped, 'image')} of {wide.split.images or wide.split.labels} "
        f"{noun(dropped, 'belongs', 'belong')} to split {inner} alone ({where}), not to {outer}"
    )


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
