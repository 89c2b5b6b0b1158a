"""Objects of all buckets for files that hold them together.

A bucket's records lie beside the plan as Arrow files, which are read where they lie. How large images are is asked of
the images themselves where the source does not say it, once: the answers are kept beside the index.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pipeline import exporters, storage
from pipeline.images.inspection import with_sizes
from pipeline.tables.digest import digest_of
from pipeline.tables.schema import part_name

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.exporters import Dataset, Records
    from pipeline.stages.plan.context import PlanContext

_TABLES = ("images", "objects")


@dataclass(frozen=True)
class MetaFile:
    """A file of the whole dataset: its `content` or, where that is large, the `place` where it lies ready."""

    size: int
    digest: str
    content: bytes | None
    place: str | None = None

    @staticmethod
    def of(content: bytes) -> MetaFile:
        """A small file."""
        return MetaFile(len(content), digest_of(content).hex(), content)


def records_folder(plan_dir: str) -> str:
    """Folder beside that of a plan: by bucket what files of the whole dataset are made of."""
    return f"{plan_dir}.records"


def gather(context: PlanContext, bucket: int, rows: pa.Table, images: pa.Table) -> pa.Table:
    """Leave the records of a bucket beside the plan; returns `images`, their width and height filled."""
    images = with_sizes(images, context.origins, context.workdir, fetched=context.fetched)
    exporter = exporters.load(context.exporter)
    made = cast(Any, exporter).records(rows, images, context.keypoints)
    for name in _TABLES:
        write_arrow(os.path.join(records_folder(context.plan_dir), name, part_name(bucket)), getattr(made, name))
    return images


def write_arrow(path: str, table: pa.Table) -> None:
    """Write a table as an Arrow file, whole or not at all: `read_arrow` reads it where it lies."""
    import pyarrow as pa

    def write(temporary: str) -> None:
        with pa.OSFile(temporary, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    storage.replace_with(path, write)


def read_arrow(path: str) -> pa.Table:
    """The table of an Arrow file; it stays on the disk until it is looked at."""
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(path)).read_all()


def assemble(exporter: str, dataset: Dataset, plan_dir: str, buckets: int) -> dict[str, MetaFile]:
    """The files of the whole dataset; those that come in pieces are written beside the plan."""
    module = exporters.load(exporter)
    parts = _read(plan_dir, buckets) if module.GATHERS else ()
    made = {}
    for path, content in module.assemble(dataset, parts).items():
        if isinstance(content, bytes):
            made[path] = MetaFile.of(content)
        else:
            place = os.path.join(records_folder(plan_dir), path)
            size, digest = storage.write_pieces(place, content)
            made[path] = MetaFile(size, digest.hex(), None, place)
    return made


def _read(plan_dir: str, buckets: int) -> Sequence[Records]:
    from pipeline.exporters import Records

    found = []
    for bucket in range(buckets):
        paths = [os.path.join(records_folder(plan_dir), name, part_name(bucket)) for name in _TABLES]
        found.append(Records(*map(read_arrow, paths)))
    return found
