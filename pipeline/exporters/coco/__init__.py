"""The COCO layouts: ``annotations/instances_<split>.json`` beside ``images/<split>/…``, and what trainers read it with.

Roboflow has ``train/_annotations.coco.json`` among the images of ``train``, and ``valid`` for val; COCO 2017 has
``annotations/instances_train2017.json`` and the images in ``train2017``.

What comes from COCO JSON stays as it was written, byte for byte, but for ``category_id``; categories get the ids 1 to n
in the config's order. Ids of images and annotations are kept where they are whole numbers and no other has them, in the
order of keys; the rest are counted from 1, past those in use. Of label rows (YOLO) boxes and polygons become pixels,
rounded to 3 decimals; ``area`` is that of the polygon's mask, of a box its own. Format: https://cocodataset.org/#format-data

``captions_<split>.json`` is made where the source has captions, ``person_keypoints_<split>.json`` for task pose.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pipeline.base.terms import Task
from pipeline.base.text import python_literal
from pipeline.exporters._images import as_named, pictures
from pipeline.exporters._layouts import DEFAULT, ROBOFLOW_SPLITS, Layout, usual
from pipeline.exporters.coco.frameworks import detectron2, mask_rcnn, mmdetection

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.exporters import BucketObjects, Dataset

#: Kinds of files by image, of which each has a folder a split.
FOLDERS = ("images",)

_CAPTIONS = "captions"

#: Files of a whole split by what they hold: the objects of a task, or captions.
_OBJECTS: dict[str, str] = dict.fromkeys(Task, "annotations/instances_{split}.json")
_OBJECTS |= {Task.POSE: "annotations/person_keypoints_{split}.json"}
_FILES: dict[str, str] = {**_OBJECTS, _CAPTIONS: "annotations/captions_{split}.json"}

LAYOUTS = {
    DEFAULT: usual(FOLDERS, _FILES),
    "roboflow": Layout(
        {"images": "{split}"},
        {**dict.fromkeys(_OBJECTS, "{split}/_annotations.coco.json"), _CAPTIONS: "{split}/_captions.coco.json"},
        ROBOFLOW_SPLITS,
    ),
    "coco2017": Layout(
        {"images": "{split}2017"}, {kind: file.replace("{split}", "{split}2017") for kind, file in _FILES.items()}
    ),
}

COLUMNS = ("line", "cx", "cy", "w", "h", "n_tokens", "loss", "raw")

OF_TASK = False

GATHERS = NEEDS_SIZES = True


def fragment(rows: pa.Table, images: pa.Table) -> pa.Table:
    """The wanted files of one bucket, as `schema.wanted`: its images, where they are to be copied."""
    from pipeline.tables import schema

    images = as_named(images)
    del rows  # they are in one file with those of all buckets
    return pictures(images) if "mark" in images.column_names else schema.wanted().empty_table()


def records(rows: pa.Table, images: pa.Table, keypoints: tuple[int, int] | None) -> BucketObjects:
    """The JSON objects of one bucket, see `BucketObjects`.

    `rows` has key, class_id (the subset's), head, tail and `COLUMNS` as far as the source has them; `images` has
    `schema.images`, width and height filled; `keypoints` is (K, D) for pose.
    """
    from pipeline.exporters.coco.objects import records  # needs NumPy and Arrow

    return records(rows, as_named(images), keypoints)


def training(task: Task, path: str) -> str:
    """The line by which mmdetection takes the subset in the folder `path`, see `Exporter.training`."""
    if task is Task.SEGMENT:
        return f"mim train mmdet {shlex.quote(f'{path}/mask_rcnn.py')}"
    return f"_base_ = ['the config that you start from', {python_literal(f'{path}/mmdetection.py')}]"


def assemble(dataset: Dataset, parts: Sequence[BucketObjects] = ()) -> dict[str, bytes | Iterable[bytes]]:
    """The JSON files, in pieces, and the lines that mmdetection and detectron2 read them with."""
    from pipeline.exporters.coco.json_file import json_file

    layout = dataset.layout or LAYOUTS[DEFAULT]
    files: dict[str, bytes | Iterable[bytes]] = {}
    for split in dataset.splits:
        files[layout.file(dataset.task, split)] = json_file(dataset, parts, split, "annotation")
        if any(part.has_captions(split) for part in parts):
            files[layout.file(_CAPTIONS, split)] = json_file(dataset, parts, split, "caption")
    files["mmdetection.py"] = mmdetection(dataset, layout)
    if dataset.task is not Task.POSE and "train" in dataset.splits and any(part.has_outlines for part in parts):
        files["mask_rcnn.py"] = mask_rcnn(dataset.splits)
    with_masks = [split for split in dataset.splits if any(part.has_masks(split) for part in parts)]
    files["detectron2_datasets.py"] = detectron2(dataset, layout, with_masks)
    return files
