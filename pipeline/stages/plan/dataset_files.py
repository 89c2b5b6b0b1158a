"""Objects of all buckets for files that hold them together.

A bucket's records are Arrow files beside the plan, which are mapped into memory. The size of an image that the source
does not say is read from the image itself, and cached in the index.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipeline import exporters, storage
from pipeline.base.digest import digest_of
from pipeline.base.errors import DataError
from pipeline.images.inspection import UnusableImage, cached_pictures
from pipeline.stages.plan.meta_files import MetaFile
from pipeline.storage.address import is_web
from pipeline.tables.schema import part_name

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.base.classes import ClassMap, Names
    from pipeline.base.terms import Task
    from pipeline.exporters import BucketObjects, Dataset
    from pipeline.stages.plan.context import PlanContext

_TABLES = ("images", "objects")


def records_folder(plan_dir: str) -> str:
    """Folder beside that of a plan: by bucket what files of the whole dataset are made of."""
    return f"{plan_dir}.records"


def records(exporter: str, rows: pa.Table, images: pa.Table, keypoints: tuple[int, int] | None) -> BucketObjects:
    """The records of a bucket; the width and height of `images` are filled, `keypoints` is (K, D) of rows of poses."""
    return exporters.load_gathering(exporter).records(rows, images, keypoints)


def gather(context: PlanContext, bucket: int, rows: pa.Table, images: pa.Table) -> None:
    """Leave the records of a bucket beside the plan; `images` have their width and height where the exporter asks."""
    images = _with_addresses(context, images) if context.images == "none" else images
    made = records(context.exporter, rows, images, context.keypoints)
    for name in _TABLES:
        write_arrow(os.path.join(records_folder(context.plan_dir), name, part_name(bucket)), getattr(made, name))


def _with_addresses(context: PlanContext, images: pa.Table) -> pa.Table:
    """`images` with the column url: their addresses on a web server, null for those that are elsewhere."""
    import urllib.parse

    import pyarrow as pa

    urls: list[str | None] = [None] * images.num_rows
    paths = images["image_path"].to_pylist()
    for origin, here in context.origins.by_origin(images["key"].to_pylist()):
        if origin.url is not None and is_web(origin.url):
            for i in here:
                urls[i] = paths[i] and f"{origin.url}/{urllib.parse.quote(paths[i])}"
    return images.append_column("url", pa.array(urls, pa.string()))


def write_arrow(path: str, table: pa.Table) -> None:
    """Write a table as an Arrow file, whole or not at all: `read_arrow` maps it into memory."""
    import pyarrow as pa

    def write(temporary: str) -> None:
        with pa.OSFile(temporary, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    storage.replace_with(path, write)


def read_arrow(path: str) -> pa.Table:
    """The table of an Arrow file; it stays on the disk until it is used."""
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(path)).read_all()


def with_sizes(context: PlanContext, bucket: int, images: pa.Table) -> tuple[pa.Table, dict[str, UnusableImage]]:
    """The `images` of a bucket, width and height filled; those of unknown size are left out, and returned by key."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lacking = images.filter(images["width"].is_null())
    if not lacking.num_rows:
        return images, {}
    asked = [c for c in ("key", "image_path", "mark", "state") if c in images.column_names]
    sizes: dict[str, tuple[int, int]] = {}
    bad: dict[str, UnusableImage] = {}
    rows_lacking = lacking.select(asked).to_pylist()
    for origin, here in context.origins.by_origin(lacking["key"].to_pylist()):
        rows = [rows_lacking[i] for i in here]
        if origin.url is None:
            raise DataError(
                f"{rows[0]['key']}: its image has no known size, which the subset needs, and there is no image file to "
                "read it from; put the image there"
            )
        index_dir = next(s.index_dir for s in context.sources if origin.prefix.startswith(s.prefix))
        lacks = "could not be fetched, and its size is needed" if context.fetched else None
        if context.images == "none":
            lacks = "is remote, and its size is needed: with target.images none it is not fetched"
        for row, found in _sizes(index_dir, bucket, origin.location, rows, lacks):
            if isinstance(found, str):
                bad[row["key"]] = UnusableImage(
                    origin.prefix, row["image_path"] or "", digest_of(row.get("mark") or b""), "image_unreadable", found
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
        column = images.schema.get_field_index(name)
        images = images.set_column(column, images.schema.field(column), pa.array(values, pa.int32()))
    return images, bad


def _sizes(
    index_dir: str, bucket: int, location: storage.Location, rows: Sequence[dict[str, Any]], lacks: str | None
) -> Iterator[tuple[dict[str, Any], tuple[int, int] | str]]:
    """Width and height of the images of `rows` (image_path) at `location`, or a clause that says why they are unknown.

    `lacks` is that clause for remote images that are not here; None: they will be fetched, and have the size (0, 0).
    """
    yield from ((row, "has no image file to read its size from") for row in rows if row["image_path"] is None)
    rows = [row for row in rows if row["image_path"] is not None]
    cached = location.at_hand([row["image_path"] for row in rows])
    for row, there in zip(rows, cached, strict=True):
        if not there:  # it is fetched before anything is built, and its size is read then
            yield row, lacks or (0, 0)
    rows = [row for row, there in zip(rows, cached, strict=True) if there]
    images = [(row["key"], row["image_path"], row.get("state")) for row in rows]
    for row, found in zip(rows, cached_pictures(index_dir, bucket, location, images), strict=True):
        yield row, (found.width, found.height) if found else "is no image whose size can be read"


def assemble(exporter: str, dataset: Dataset, plan_dir: str, buckets: int) -> dict[str, MetaFile]:
    """The files of the whole dataset; those that come in pieces are written beside the plan."""
    module = exporters.load(exporter)
    parts = _read(plan_dir, buckets) if module.GATHERS else ()
    made = {}
    for path, content in module.assemble(dataset, parts).items():
        if isinstance(content, bytes):
            made[path] = MetaFile.of(content)
        else:
            file = os.path.join(records_folder(plan_dir), path)
            size, digest = storage.write_pieces(file, content)
            made[path] = MetaFile(size, digest.hex(), None, file)
    return made


def documents(
    exporter: str,
    sources: Sequence[tuple[ClassMap, Names]],
    task: Task,
    splits: Sequence[str],
    parts: Sequence[BucketObjects],
) -> dict[str, bytes]:
    """The files of a whole dataset that is no target, by path, in memory; `parts` are the records of its buckets."""
    maps, names = zip(*sources, strict=True)
    dataset = exporters.Dataset(maps, names, task, tuple(splits), "", "portable")
    made = exporters.load_gathering(exporter).assemble(dataset, parts)
    return {path: part if isinstance(part, bytes) else b"".join(part) for path, part in made.items()}


def _read(plan_dir: str, buckets: int) -> Sequence[BucketObjects]:
    from pipeline.exporters import BucketObjects

    found = []
    for bucket in range(buckets):
        paths = [os.path.join(records_folder(plan_dir), name, part_name(bucket)) for name in _TABLES]
        found.append(BucketObjects(*map(read_arrow, paths)))
    return found
