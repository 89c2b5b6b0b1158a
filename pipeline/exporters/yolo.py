"""The YOLO layouts: ``labels/<split>/<stem>.txt`` beside ``images/<split>/<stem>.<suffix>``, and a training YAML.

Roboflow has ``train/labels`` beside ``train/images``, and ``valid`` for val; COCO 2017 has
``labels/train2017``. The YAML names the folders below its own, as Ultralytics resolves them and RF-DETR, too.

Trainers find a label file by replacing the last ``/images/`` of an image's path by ``/labels/`` and the suffix by
``.txt`` (Ultralytics `img2label_paths`), so stems and subfolders are kept as they are, but for a subfolder called
``images``: it is ``images_`` here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pipeline.base.terms import Task
from pipeline.exporters._data_yaml import dataset_yaml, training_on
from pipeline.exporters._images import digests, pictures, wanted_files
from pipeline.exporters._layouts import DEFAULT, ROBOFLOW_SPLITS, Layout, usual
from pipeline.formats.yolo import render
from pipeline.tables.schema import Kind

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from pipeline.base.arrays import Ints
    from pipeline.exporters import BucketObjects, Dataset

#: Kinds of files by image, of which each has a folder a split.
FOLDERS = ("labels", "images")

LAYOUTS = {
    DEFAULT: usual(FOLDERS),
    "roboflow": Layout({"labels": "{split}/labels", "images": "{split}/images"}, called=ROBOFLOW_SPLITS),
    "coco2017": Layout({"labels": "labels/{split}2017", "images": "images/{split}2017"}),
}

COLUMNS = ("loss",)

OF_TASK = True

GATHERS = False


def training(task: Task, path: str) -> str:
    """The command by which Ultralytics trains on the subset at `path`, see `Exporter.training`."""
    return training_on(task, path if path.endswith(".zip") else f"{path}/data.yaml")


def fragment(rows: pa.Table, images: pa.Table) -> pa.Table:
    """The wanted files of one bucket, as `schema.wanted`: all labels, then all images, each by key.

    `rows` has key, class_id (the subset's), head and tail, sorted by key and line; every key of it is in `images`,
    which has `schema.images` and, where images are to be copied, ``source`` (path), ``size`` (bytes) and ``mark``
    (fingerprint, binary). An image without rows gets an empty label file: a background.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    images = _mappable(images)
    split = images["split"].combine_chunks()
    stem = images["stem"].combine_chunks()
    image_of_row = pc.index_in(rows["key"].combine_chunks(), images["key"].combine_chunks())
    image_of_row = image_of_row.to_numpy(zero_copy_only=False).astype(np.int64)
    edges = np.searchsorted(image_of_row, np.arange(images.num_rows + 1))
    contents = _contents(render(*(rows[c].combine_chunks() for c in ("head", "class_id", "tail"))), edges)
    labels = wanted_files(
        images,
        Kind.LABEL,
        split,
        pc.binary_join_element_wise("labels/", split, "/", stem, ".txt", ""),
        content=contents,
        size=pc.binary_length(contents).cast(pa.int64()),
        digest=digests(contents),
        objects=_objects(image_of_row, rows["class_id"].to_numpy(), images.num_rows),
    )
    return pa.concat_tables([labels, pictures(images)]) if "mark" in images.column_names else labels


def _mappable(images: pa.Table) -> pa.Table:
    """`images` with stems from whose path trainers find the label file."""
    import pyarrow.compute as pc

    stem = images["stem"].combine_chunks()
    for _ in range(2):  # a match takes the slash that the next one begins with
        stem = pc.replace_substring_regex(stem, r"(^|/)images/", r"\1images_/")
    return images.set_column(images.schema.get_field_index("stem"), images.schema.field("stem"), stem)


def _contents(lines: pa.Array, edges: Ints) -> pa.Array:
    """Lines joined to files: file i has the lines ``edges[i]:edges[i + 1]``. The bytes are shared, not copied."""
    import numpy as np
    import pyarrow as pa

    _, offsets, data = lines.buffers()
    if data is None or not len(lines):
        return pa.array([b""] * (len(edges) - 1), pa.binary())
    starts = np.frombuffer(offsets, np.int32)[lines.offset : lines.offset + len(lines) + 1]
    file_starts = np.ascontiguousarray(starts[edges])
    return pa.BinaryArray.from_buffers(pa.binary(), len(edges) - 1, [None, pa.py_buffer(file_starts), data])


def _objects(image: Ints, class_id: npt.NDArray[np.int32], images: int) -> pa.Array:
    """Objects by class id of each image, as a map."""
    import numpy as np
    import pyarrow as pa

    pairs, counts = np.unique(image << 32 | class_id.astype(np.int64), return_counts=True)
    offsets = np.searchsorted(pairs >> 32, np.arange(images + 1)).astype(np.int32)
    keys, items = (pairs & 0xFFFFFFFF).astype(np.int32), counts.astype(np.int32)
    return pa.MapArray.from_arrays(pa.array(offsets), pa.array(keys), pa.array(items))


def assemble(dataset: Dataset, records: Sequence[BucketObjects] = ()) -> dict[str, bytes | Iterable[bytes]]:
    """The training YAML: ``data.yaml``, or ``<folder>.yaml`` for the cloud."""
    del records
    folder = dataset.root.rstrip("/").rpartition("/")[2]
    prefix = f"{dataset.root.rstrip('/')}/" if dataset.yaml == "absolute" else ""
    layout = dataset.layout or LAYOUTS[DEFAULT]
    paths = {split: prefix + layout.folder("images", split) for split in dataset.splits}
    name = f"{folder}.yaml" if dataset.yaml == "cloud" else "data.yaml"
    header = f"# Made by coco-diy; a build writes it anew. Digest of the subset: {dataset.digest}\n"
    return {name: dataset_yaml(dataset.maps, dataset.sources, header=header, paths=paths, task=dataset.task)}
