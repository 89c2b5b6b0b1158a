"""Objects of all buckets for files that hold them together.

A bucket's records lie beside the plan as Arrow files, which are read where they lie. How large images are is asked of
the images themselves where the source does not say it, once: the answers are kept beside the index.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pipeline import exporters, storage
from pipeline.base.errors import DataError
from pipeline.images.inspection import _HEAD_BYTES, UnusableImage
from pipeline.tables.digest import digest_of
from pipeline.tables.schema import part_name

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.exporters import BucketObjects, Dataset
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


def gather(context: PlanContext, bucket: int, rows: pa.Table, images: pa.Table) -> None:
    """Leave the records of a bucket beside the plan; the width and height of `images` are filled."""
    exporter = exporters.load(context.exporter)
    made = cast(Any, exporter).records(rows, images, context.keypoints)
    for name in _TABLES:
        write_arrow(os.path.join(records_folder(context.plan_dir), name, part_name(bucket)), getattr(made, name))


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


def with_sizes(context: PlanContext, images: pa.Table) -> tuple[pa.Table, dict[str, UnusableImage]]:
    """`images`, their width and height filled, and those by key of which neither can be told, which are left out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lacking = images.filter(images["width"].is_null())
    if not lacking.num_rows:
        return images, {}
    asked = [c for c in ("key", "image_path", "mark") if c in images.column_names]
    sizes: dict[str, tuple[int, int]] = {}
    bad: dict[str, UnusableImage] = {}
    for prefix, folder in context.origins.items():
        rows = lacking.filter(pc.starts_with(lacking["key"], prefix)).select(asked).to_pylist()
        if not rows:
            continue
        if folder is None:
            raise DataError(
                f"{rows[0]['key']}: the size of its image is not known, and there is no image that tells; "
                "COCO JSON needs it, so name the folder of images in source.splits"
            )
        for row, found in _sizes(context, folder, rows):
            if isinstance(found, str):
                bad[row["key"]] = UnusableImage(
                    prefix, row["image_path"] or "", digest_of(row.get("mark") or b""), "image_unreadable", found
                )
            else:
                sizes[row["key"]] = found
    images = images.filter(pc.invert(pc.is_in(images["key"], pa.array(list(bad), pa.string())))).combine_chunks()
    keys = images["key"].to_pylist()
    for axis, name in enumerate(("width", "height")):
        values = [
            sizes[key][axis] if key in sizes else value
            for key, value in zip(keys, images[name].to_pylist(), strict=True)
        ]
        place = images.schema.get_field_index(name)
        images = images.set_column(place, images.schema.field(place), pa.array(values, pa.int32()))
    return images, bad


def _sizes(
    context: PlanContext, folder: str, rows: Sequence[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], tuple[int, int] | str]]:
    """Width and height of the images of `rows` (image_path) in `folder`, or a clause that says why they are unknown."""
    from pipeline.images.header import picture_of

    origin = storage.locate(folder, context.workdir)
    yield from (
        (row, "has no image that tells its size, and COCO JSON needs it") for row in rows if row["image_path"] is None
    )
    rows = [row for row in rows if row["image_path"] is not None]
    at_hand = origin.at_hand([row["image_path"] for row in rows])
    for row, there in zip(rows, at_hand, strict=True):
        if not there:  # it is fetched before anything is built, and asked then
            yield row, "could not be fetched, and COCO JSON needs its size" if context.fetched else (0, 0)
    rows = [row for row, there in zip(rows, at_hand, strict=True) if there]
    for peeked in origin.peek_many([row["image_path"] for row in rows], _HEAD_BYTES, 0):
        row = rows[peeked.index]
        found = picture_of(peeked.head)
        if found is None and len(peeked.head) < peeked.size:
            found = picture_of(storage.read_image(origin, row["image_path"]))
        yield row, (found.width, found.height) if found else "is no image whose size can be read; COCO JSON needs it"


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


def _read(plan_dir: str, buckets: int) -> Sequence[BucketObjects]:
    from pipeline.exporters import BucketObjects

    found = []
    for bucket in range(buckets):
        paths = [os.path.join(records_folder(plan_dir), name, part_name(bucket)) for name in _TABLES]
        found.append(BucketObjects(*map(read_arrow, paths)))
    return found
