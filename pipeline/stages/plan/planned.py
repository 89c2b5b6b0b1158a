"""The plan of a subset, as the next stage takes it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from pipeline import storage
from pipeline.job.job import Job
from pipeline.stages.plan.dataset_files import MetaFile
from pipeline.stages.select.split_table import SplitDecision
from pipeline.tables.schema import Action, part_name


def image_sources(
    folder: str, buckets: int, origins: dict[str, str | None], left_out: list[list[str]], *, copies: bool = False
) -> tuple[dict[str, list[str]], bytes]:
    """Names of the source images of a plan by folder, and their digests (16 bytes each) in the same order, joined.

    `left_out` are prefix of the key, name and digest (hex) of those that were looked at and are bad: one may be mended.
    With `copies` only those that are still to be copied.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    columns = ["key", "source", "action", "digest"]
    parts = [pq.read_table(os.path.join(folder, part_name(b)), columns=columns) for b in range(buckets)]
    table = pa.concat_tables(parts)
    table = table.filter(pc.and_(table["source"].is_valid(), pc.not_equal(table["action"], Action.DELETE.value)))
    if copies:
        table = table.filter(pc.equal(table["action"], Action.COPY.value))
    names: dict[str, list[str]] = {}
    by_root: dict[str, list[bytes]] = {}
    for prefix, root in origins.items():
        assert root is not None
        part = table.filter(pc.starts_with(table["key"], prefix))
        names.setdefault(root, []).extend(map(storage.locate(root).name_of, part["source"].to_pylist()))
        by_root.setdefault(root, []).extend(part["digest"].to_pylist())
        for _, name, digest in (entry for entry in left_out if entry[0] == prefix):
            names[root].append(name)
            by_root[root].append(bytes.fromhex(digest))
    return names, b"".join(digest for digests in by_root.values() for digest in digests)


def far_images(job: Job, folder: str, buckets: int) -> dict[str, list[str]]:
    """Names of the images that are to be copied and are remote, by location; see `Location.gather`.

    `folder` has the parts of a plan that name all images, see `Planned.sources`.
    """
    origins = {prefix: url for prefix, url in job.origins.items() if url and storage.locate(url).far}
    if not job.need_image or not origins:
        return {}
    names, _ = image_sources(folder, buckets, dict(origins), [], copies=True)
    return {place: some for place, some in names.items() if some}


@dataclass
class Planned:
    """A plan by bucket in `folder`, its counts, and what stands in its way; parts in `sources` tell all images."""

    folder: str
    buckets: int
    summaries: list[dict[str, Any]]
    totals: dict[str, Any]
    meta: list[tuple[str, str]]
    contents: dict[str, MetaFile]
    problems: list[list[Any]]
    foreign: list[str]
    staged: tuple[str, ...]
    left_out: list[list[str]]
    dealt: SplitDecision | None
    sources: str
    doubled: list[list[str]]
    #: Whether labels failed when it was carried out.
    halted: bool = False
    #: Whether it goes on with what an earlier run began.
    resumed: bool = False

    @property
    def touched(self) -> list[int]:
        """Buckets with anything to write, copy or delete, or whose part of the manifest is not true any more."""
        return [s["bucket"] for s in self.summaries if s["changes"] or s["untrue"]]

    @property
    def changes(self) -> int:
        """Files to write, copy or delete."""
        return int(sum(s["changes"] for s in self.summaries)) + sum(action != "keep" for action, _ in self.meta)

    @property
    def passing(self) -> bool:
        """Whether images are left out that could not be read for now: that is no fact about them."""
        return any(self.totals["images"].get(reason) for reason in ("vanished", "image_unread"))
