"""One bucket of a view: its images, its objects, and what they count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline import storage
from pipeline.base.terms import SPLITS
from pipeline.images.inspection import read_pictures
from pipeline.reports.statistics import (
    ASPECTS,
    GRID,
    MANY_OBJECTS,
    SIZE_EDGES,
    SplitStatistics,
    Statistics,
)
from pipeline.stages.index.reader import read_table
from pipeline.stages.plan.bucket import read_beyond
from pipeline.stages.plan.planned import planned_images
from pipeline.stages.select import rows as selection

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.base.arrays import Floats, Ints
    from pipeline.look.view import View, ViewedSource

#: Columns of annotations that are read.
_COLUMNS = ("key", "line", "class_id", "tail", "cx", "cy", "w", "h", "n_tokens", "loss")

_IMAGES = ("key", "split", "image_path", "image_size", "width", "height")

#: Those of images that only COCO JSON needs.
_RAW_IMAGES = ("stem", "raw", "captions")


@dataclass
class Bucket:
    """`images` has key, split (of the view), image_path, image_size, width and height (null: unknown), by source.

    `objects` has, of these images, key, line, class_id (of the view), tail, cx, cy, w, h, n_tokens, loss and raw
    of `schema.annotations`; `image` is the row of each in `images`, shape (objects,).
    """

    images: pa.Table
    objects: pa.Table
    image: Ints


def read_bucket(view: View, bucket: int, *, raw: bool = False) -> Bucket:
    """The images and objects of one bucket of `view`; `raw`, which may be large, is null where it is not asked for."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    objects = pa.concat_tables([_objects(view, source, bucket, raw=raw) for source in view.sources]).combine_chunks()
    images = read_images(view, bucket, [*_IMAGES, *(_RAW_IMAGES if raw else ())])
    row = pc.index_in(objects["key"].combine_chunks(), images["key"].combine_chunks())
    objects, row = objects.filter(row.is_valid()).combine_chunks(), row.drop_null()
    return Bucket(images, objects, row.to_numpy(zero_copy_only=False).astype(np.int64))


def read_images(view: View, bucket: int, columns: Sequence[str]) -> pa.Table:
    """The images of one bucket of `view`, by source: `columns` of `schema.images`, with the split that the view has."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = []
    for source in view.sources:
        part = read_table(source.index_dir, "images", bucket, columns, None, _cut(view, source)).combine_chunks()
        for name in ("key", "split", "image_path"):
            part = part.set_column(part.schema.get_field_index(name), name, part[name].cast(pa.string()))
        parts.append(part)
    images = pa.concat_tables(parts).combine_chunks()
    if view.plan_dir is None:
        return images
    chosen = planned_images(view.plan_dir, bucket, gathered=view.gathers)
    position = pc.index_in(images["key"].combine_chunks(), chosen["key"].combine_chunks())
    images = images.set_column(
        images.schema.get_field_index("split"), "split", chosen["split"].combine_chunks().take(position)
    )
    return images.filter(position.is_valid()).combine_chunks()


def _cut(view: View, source: ViewedSource) -> tuple[int, int] | None:
    """How the buckets of a source are cut, see `stages.index.reader.read_table`."""
    return None if source.buckets == view.buckets else (source.buckets, view.buckets)


def _objects(view: View, source: ViewedSource, bucket: int, *, raw: bool) -> pa.Table:
    """Objects of one index; as a selection takes them where the view is of a config."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [*_COLUMNS, *(["label"] if source.named else []), *(["raw"] if raw else [])]
    found = read_table(source.index_dir, "annotations", bucket, columns, None, _cut(view, source))
    rows = selection.remap_table(found, source.classes).combine_chunks()
    if view.of_task:
        rows, _ = selection.unmixed(rows)
        rows = rows.filter(pc.is_valid(rows["tail"])).combine_chunks()
    if view.unique:
        rows = selection.drop_duplicates(rows)
    if view.limited:
        assert view.plan_dir is not None
        beyond = read_beyond(view.plan_dir, bucket)
        rows = rows.filter(pc.invert(pc.is_in(_places(rows), _places(beyond)))).combine_chunks()
    if not raw:
        rows = rows.append_column("raw", pa.nulls(rows.num_rows, pa.binary()))
    return rows.select([*_COLUMNS, "raw"])


def _places(rows: pa.Table) -> pa.Array:
    """Key and line of each row, as one text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lines = rows["line"].cast(pa.string())
    return pc.binary_join_element_wise(rows["key"].cast(pa.string()), lines, "\n").combine_chunks()


def with_sizes(view: View, images: pa.Table) -> pa.Table:
    """`images` with the width and height that their headers say, where no label says it and they are on this disk."""
    import numpy as np
    import pyarrow as pa

    lacking = np.flatnonzero(images["width"].is_null().to_numpy())
    if not len(lacking):
        return images
    paths, keys = images["image_path"].to_pylist(), images["key"].to_pylist()
    sides = [images[name].to_pylist() for name in ("width", "height")]
    having = [i for i in lacking.tolist() if paths[i] is not None]
    for location, here in _on_this_disk(view, keys, having):
        for i, picture in read_pictures(location, [paths[i] for i in here]):
            if picture is not None:
                sides[0][here[i]], sides[1][here[i]] = picture.width, picture.height
    for name, values in zip(("width", "height"), sides, strict=True):
        images = images.set_column(images.schema.get_field_index(name), name, pa.array(values, pa.int32()))
    return images


def _on_this_disk(view: View, keys: list[str], rows: list[int]) -> Iterator[tuple[storage.Location, list[int]]]:
    """The folders and archives on this disk that have the images of `rows` of `keys`, each with those rows."""
    for origin, here in view.origins.by_origin([keys[i] for i in rows]):
        if origin.url is not None and origin.location.on_disk:
            yield origin.location, [rows[i] for i in here]


def count_bucket(view: View, bucket: int) -> Statistics:
    """The counts of one bucket; images that are on this machine are asked for their size where no label says it."""
    import numpy as np

    found = read_bucket(view, bucket)
    images, count = with_sizes(view, found.images), len(view.classes)
    split_of = np.array(images["split"].to_pylist(), object)
    classes = found.objects["class_id"].to_numpy().astype(np.int64)
    cx, cy, w, h = (found.objects[name].to_numpy() for name in ("cx", "cy", "w", "h"))
    sides = [images[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in ("width", "height")]
    width, height = sides[0][found.image], sides[1][found.image]
    area = w * width * h * height
    size = np.searchsorted(SIZE_EDGES, area, side="right")  # not a number: none
    known = np.isfinite(area)
    pairs = np.unique(found.image * count + classes)
    made = Statistics.none()
    for split in SPLITS:
        here = split_of == split
        if not here.any():
            continue
        of_row = here[found.image]
        sized = of_row & known
        made.splits[split] = SplitStatistics(
            int(here.sum()),
            int(here.sum()) - len(np.unique(found.image[of_row])),
            np.bincount(classes[of_row], minlength=count),
            np.bincount((pairs % count)[here[pairs // count]], minlength=count),
            np.bincount(classes[sized] * 3 + size[sized], minlength=count * 3).reshape(count, 3),
        )
    made.unsized = int((~known).sum())
    made.centres = _grid(cx, cy)
    made.boxes = _grid(w, h)
    made.aspects = _aspects(np.where(known, w * width, w), np.where(known, h * height, h))
    of_image = np.bincount(found.image, minlength=images.num_rows)
    made.per_image = np.bincount(np.minimum(of_image, MANY_OBJECTS - 1), minlength=MANY_OBJECTS)
    made.pairs = _pairs(pairs, count)
    made.duplicates = found.objects.num_rows - selection.drop_duplicates(found.objects).num_rows
    made.traces = _traces(view, images, found, split_of, of_image)
    return made


def _grid(x: Floats, y: Floats) -> Ints:
    import numpy as np

    column, row = (np.clip((v * GRID).astype(np.int64), 0, GRID - 1) for v in (x, y))
    return np.bincount(row * GRID + column, minlength=GRID * GRID).reshape(GRID, GRID)


def _aspects(width: Floats, height: Floats) -> Ints:
    import numpy as np

    good = (width > 0) & (height > 0)
    steps = np.round(2 * np.log2(width[good] / height[good])).astype(np.int64) + ASPECTS // 2
    return np.bincount(np.clip(steps, 0, ASPECTS - 1), minlength=ASPECTS)


def _pairs(pairs: Ints, count: int) -> dict[tuple[int, int], int]:
    """Images by pairs of classes that they have; `pairs` are image and class as one number, sorted."""
    import numpy as np

    image, number = pairs // count, pairs % count
    found: dict[tuple[int, int], int] = {}
    for step in range(1, 1 + int(np.bincount(image).max(initial=0))):
        both = image[step:] == image[:-step]
        if not both.any():
            break
        joined, counts = np.unique(number[:-step][both] * count + number[step:][both], return_counts=True)
        for pair, n in zip(joined.tolist(), counts.tolist(), strict=True):
            key = divmod(pair, count)
            found[key] = found.get(key, 0) + n
    return found


def _traces(view: View, images: pa.Table, found: Bucket, split_of: Any, of_image: Ints) -> dict[str, Any]:
    """Hashes of images with objects by split: of the number of bytes, and of class and box of all objects."""
    import numpy as np

    sizes = _file_sizes(view, images)
    prime = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        row = found.objects["class_id"].to_numpy().astype(np.uint64) * prime
        for name in ("cx", "cy", "w", "h"):
            column = np.round(found.objects[name].to_numpy() * 1e5).astype(np.int64).view(np.uint64)
            row = (row ^ (row >> np.uint64(29))) * prime + column
        row = (row ^ (row >> np.uint64(31))) * prime
        total = np.zeros(images.num_rows, np.uint64)
        np.add.at(total, found.image, row)
        total = (total ^ np.nan_to_num(sizes, nan=-1).astype(np.int64).view(np.uint64)) * prime
    usable = (of_image > 0) & np.isfinite(sizes)
    return {split: total[usable & (split_of == split)] for split in SPLITS if (split_of == split).any()}


def _file_sizes(view: View, images: pa.Table) -> Floats:
    """Bytes of each image; not a number where neither the index nor this machine has it."""
    import numpy as np

    sizes: Floats = images["image_size"].to_numpy(zero_copy_only=False).astype(np.float64)
    lacking = np.flatnonzero(np.isnan(sizes) & images["image_path"].is_valid().to_numpy())
    paths, keys = images["image_path"].to_pylist(), images["key"].to_pylist()
    for location, here in _on_this_disk(view, keys, lacking.tolist()):
        sizes[here] = [np.nan if size is None else size for size in location.sizes([paths[i] for i in here])]
    return sizes
