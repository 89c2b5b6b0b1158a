"""What the plan of a bucket comes to, and the sums of all buckets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.images.inspection import UnusableImage
from pipeline.reports.counts import ActionCounts, SplitCounts, add_counts, add_files
from pipeline.stages.plan.compare import Loss
from pipeline.tables.schema import Kind

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.base.arrays import Ints


class Problem(NamedTuple):
    """An image that is wanted but unusable: its key, the counted reason, the file it is about, and a clause."""

    key: str
    reason: str
    path: str
    detail: str


@dataclass
class PlanCounts:
    """Counts of one bucket or of all.

    `subset` is by split; `images` and `rows` say what became of those of the sources, by word; `plan` has the files by
    action and kind; `loss` counts the objects that the target cannot hold, or not whole, by reason, and `lost_of` those
    that it cannot hold by split of the source, class and reason; `steps` is that of `steps.step_counts`;
    `unlabelled` counts images of the subset that may hold unlabelled objects, by class.
    """

    subset: dict[str, SplitCounts] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    plan: ActionCounts = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    loss: dict[str, int] = field(default_factory=dict)
    lost_of: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    unlabelled: dict[str, int] = field(default_factory=dict)

    def add(self, more: PlanCounts) -> None:
        """Add the counts of another bucket in place."""
        for split, counts in more.subset.items():
            self.subset.setdefault(split, SplitCounts()).add(counts)
        add_files(self.plan, more.plan)
        for own, other in (
            (self.images, more.images),
            (self.rows, more.rows),
            (self.loss, more.loss),
            (self.lost_of, more.lost_of),
            (self.steps, more.steps),
            (self.unlabelled, more.unlabelled),
        ):
            add_counts(own, other)

    def images_in(self, split: str) -> int:
        """Images of the subset in `split`."""
        return self.subset[split].images if split in self.subset else 0


@dataclass
class BucketSummary:
    """The plan of one bucket, in numbers.

    `content` is that of `content_of`; `changes` are files to write, copy or delete. `stale`: what the manifest says of
    the bucket is not true any more; `lost`: the state of the target turned out to be damaged. `conflicts` are paths
    that somebody else's files have; `turned` images shown turned by EXIF data; `left_out` images that cannot
    be used, or are left out for what they are; `stems` split, stem and key of the images where all are in one folder.
    `part` is the XXH3-128 (hex) of its part of the plan.
    """

    bucket: int
    content: int
    changes: int
    stale: bool
    lost: bool
    counts: PlanCounts
    loss: Loss
    conflicts: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)
    left_out: list[UnusableImage] = field(default_factory=list)
    stems: pa.Table | None = None
    part: str = ""

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with the bucket that may have been put right when it is planned again."""
        return not (self.conflicts or self.problems or self.turned or self.left_out or self.lost)


def content_of(wanted: pa.Table) -> int:
    """A number, below 2**64, that changes with the paths of the files `wanted` and with the contents of labels.

    The numbers of all buckets add up to the same sum, however many buckets there are.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import xxhash

    digests = pc.if_else(pc.equal(wanted["kind"], Kind.LABEL.value), wanted["digest"].cast(pa.binary()), b"")
    named = pc.binary_join_element_wise(wanted["path"].cast(pa.binary()), digests, b"\0")
    return int(sum(map(xxhash.xxh3_64_intdigest, named.to_pylist())) % 2**64)


def subset_counts(
    classes: Sequence[str], splits: Sequence[str], rows: pa.Table, images: pa.Table, *, labels: bool
) -> dict[str, SplitCounts]:
    """The counts of a bucket's `images` and `rows` that belong to the subset, by each of `splits`.

    `rows` have class ids, positions in `classes`. `labels`: there is a label file for each image.
    """
    import numpy as np
    import pyarrow.compute as pc

    image_of_row = pc.index_in(rows["key"].combine_chunks(), images["key"].combine_chunks())
    image_of_row = image_of_row.to_numpy(zero_copy_only=False).astype(np.int64)
    ids = rows["class_id"].to_numpy().astype(np.int64)
    split_of_image = np.array(images["split"].to_pylist(), object)
    pairs = np.unique(image_of_row << 32 | ids)
    subset = {}
    for split in splits:
        here = split_of_image == split
        of_row, of_pair = here[image_of_row], here[pairs >> 32]
        count = int(here.sum())
        subset[split] = SplitCounts(
            count,
            count if labels else 0,
            count - len(np.unique(image_of_row[of_row])),
            _by_class(classes, ids[of_row]),
            _by_class(classes, pairs[of_pair] & 0xFFFFFFFF),
        )
    return subset


def _by_class(classes: Sequence[str], ids: Ints) -> dict[str, int]:
    import numpy as np

    counts = np.bincount(ids, minlength=len(classes))
    return {name: int(counts[i]) for i, name in enumerate(classes)}
