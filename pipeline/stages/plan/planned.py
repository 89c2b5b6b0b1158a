"""The plan of a subset, as the next stage takes it."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.images.inspection import UnusableImage
from pipeline.job.job import Job
from pipeline.stages.plan.compare import Loss
from pipeline.stages.plan.dataset_files import read_arrow, records_folder
from pipeline.stages.plan.kept import KeptPlans
from pipeline.stages.plan.meta_files import MetaFile
from pipeline.stages.plan.shaping import Shape
from pipeline.stages.plan.summary import BucketSummary, PlanCounts, Problem
from pipeline.stages.select.parts import read_part, read_parts
from pipeline.stages.select.split_table import SplitDecision
from pipeline.storage.origins import Origins
from pipeline.tables import schema
from pipeline.tables.schema import Action, part_name

if TYPE_CHECKING:
    import pyarrow as pa


def image_sources(
    folder: str, buckets: int, origins: Origins, left_out: Sequence[UnusableImage], *, copies: bool = False
) -> tuple[dict[str, list[str]], bytes]:
    """Names of the source images of a plan by URL of their origin, and their digests (16 bytes each) by sorted URLs.

    `left_out` are images that are in no plan because they cannot be used: one may be mended. With `copies` only those
    that are still to be copied.
    """
    import pyarrow.compute as pc

    table = read_parts(folder, buckets, schema.plan(), ["key", "source", "action", "digest"])
    table = table.filter(pc.and_(table["source"].is_valid(), pc.not_equal(table["action"], Action.DELETE.value)))
    if copies:
        table = table.filter(pc.equal(table["action"], Action.COPY.value))
    names: dict[str, list[str]] = {}
    digests: dict[str, list[bytes]] = {}
    for origin in origins:
        assert origin.url is not None
        part = table.filter(pc.starts_with(table["key"], origin.prefix))
        bad = [image for image in left_out if image.prefix == origin.prefix]
        names.setdefault(origin.url, []).extend(map(origin.location.name_of, part["source"].to_pylist()))
        names[origin.url] += [image.name for image in bad]
        digests.setdefault(origin.url, []).extend(part["digest"].to_pylist())
        digests[origin.url] += [image.digest for image in bad]
    return names, b"".join(digest for _, of_origin in sorted(digests.items()) for digest in of_origin)


def planned_images(plan_dir: str, bucket: int, *, gathered: bool) -> pa.Table:
    """Key and split of the images that a plan has in a bucket; `gathered`: its layout has them in its records."""
    import pyarrow.compute as pc

    if gathered:
        return read_arrow(os.path.join(records_folder(plan_dir), "images", part_name(bucket))).select(["key", "split"])
    table = read_part(plan_dir, bucket, schema.plan(), ["key", "split", "action"])
    return table.filter(pc.not_equal(table["action"], Action.DELETE.value))


def remote_images(job: Job, folder: str, buckets: int) -> dict[str, list[str]]:
    """Names of the remote images that are to be copied, by the URL of their origin; see `Location.gather`.

    The parts in `folder` name all images, see `Planned.sources`.
    """
    origins = job.origins.remote() if job.need_image else None
    if origins is None or not origins.urls:
        return {}
    names, _ = image_sources(folder, buckets, origins, [], copies=True)
    return {url: some for url, some in names.items() if some}


@dataclass
class Planned:
    """A plan by bucket in `folder`, its counts, what it takes from the target, and the `conflicts` that stop it.

    `meta` are (action, path) of files that belong to no image, `contents` those that are wanted. Parts in `sources`
    name all images; `doubled` are the keys of each image file that several label files label.
    """

    folder: str
    buckets: int
    summaries: list[BucketSummary]
    totals: PlanCounts
    loss: Loss
    meta: list[tuple[str, str]]
    contents: dict[str, MetaFile]
    conflicts: list[str]
    staged: tuple[str, ...]
    split: SplitDecision | None
    sources: str
    doubled: list[list[str]]
    #: The short digest of the subset, see `balance.record_facts`.
    digest: str
    shape: Shape
    kept: KeptPlans
    #: Digests of the parts of the manifest, once the plan is carried out.
    parts: list[str | None] | None = None
    #: Whether labels failed when it was carried out.
    halted: bool = False
    #: Whether what failed then may be done by the same run later, and all of that.
    later: bool = False
    #: Whether it goes on with what an earlier run began.
    resumed: bool = False

    @property
    def touched(self) -> list[int]:
        """Buckets with anything to write, copy or delete, or whose part of the manifest is not true any more."""
        return [s.bucket for s in self.summaries if s.changes or s.stale]

    @property
    def changes(self) -> int:
        """Files to write, copy or delete."""
        return sum(s.changes for s in self.summaries) + sum(action != "keep" for action, _ in self.meta)

    @functools.cached_property
    def problems(self) -> list[Problem]:
        """Images that are wanted but unusable, by key."""
        return sorted(problem for s in self.summaries for problem in s.problems)

    @functools.cached_property
    def turned(self) -> list[str]:
        """Images that are shown turned by EXIF data."""
        return sorted(path for s in self.summaries for path in s.turned)

    @functools.cached_property
    def left_out(self) -> list[UnusableImage]:
        """Images that cannot be used, by the prefix and name of their origin."""
        return sorted((image for s in self.summaries for image in s.left_out), key=lambda i: (i.prefix, i.name))

    @property
    def passing(self) -> bool:
        """Whether images are left out that could not be read for now: that is no fact about them."""
        return any(self.totals.images.get(reason) for reason in ("vanished", "image_unread"))
