"""Objects of all buckets for files that hold them together. Part of `run`: between its plan and its exporter.

A bucket's records lie beside the plan as Arrow files, which are read where they lie. How large images are is asked of
the images themselves where the source does not say it, once: the answers are kept beside the index.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pipeline import exporters, storage
from pipeline.digest import digest_of
from pipeline.errors import DataError
from pipeline.schema import part_name

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline._planner import PlanContext
    from pipeline.exporters import Dataset, Records

_TABLES = ("images", "objects")
#: An image says how large it is before that, but for rare ones with much else in front.
_HEAD_BYTES = 1 << 16


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
    images = _with_sizes(context, images)
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


def _with_sizes(context: PlanContext, images: pa.Table) -> pa.Table:
    import pyarrow as pa

    from pipeline.pictures import picture_of

    widths, heights = images["width"].to_pylist(), images["height"].to_pylist()
    keys, paths = images["key"].to_pylist(), images["image_path"].to_pylist()
    lacking = [i for i, width in enumerate(widths) if width is None]
    if not lacking:
        return images
    for prefix, folder in context.origins.items():
        here = [i for i in lacking if keys[i].startswith(prefix)]
        if not here:
            continue
        if folder is None or any(paths[i] is None for i in here):
            raise DataError(f"{keys[here[0]]}: the size of its image is not known, and there is no image that tells; "
                            "COCO JSON needs it, so name the folder of images in source.splits")
        origin = storage.locate(folder, context.workdir)
        at_hand = origin.at_hand([paths[i] for i in here])
        for i, there in zip(here, at_hand, strict=True):
            if not there and context.fetched:
                raise DataError(f"{origin.join(paths[i])}: could not be fetched, and COCO JSON needs its size; run "
                                "again, or leave its label out")
            if not there:  # it is fetched before anything is built, and asked then
                widths[i] = heights[i] = 0
        here = [i for i, there in zip(here, at_hand, strict=True) if there]
        for peeked in origin.peek_many([paths[i] for i in here], _HEAD_BYTES, 0):
            i = here[peeked.index]
            found = picture_of(peeked.head) or picture_of(origin.read(paths[i]) or b"")
            if found is None:
                raise DataError(f"{origin.join(paths[i])}: is no image whose size can be read; COCO JSON needs it")
            widths[i], heights[i] = found.width, found.height
    for name, values in (("width", widths), ("height", heights)):
        place = images.schema.get_field_index(name)
        images = images.set_column(place, images.schema.field(place), pa.array(values, pa.int32()))
    return images


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
