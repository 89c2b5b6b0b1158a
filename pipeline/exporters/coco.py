"""The COCO layout: ``annotations/instances_<split>.json`` beside ``images/<split>/…``, and what trainers read it with.

What comes from COCO JSON stays as it was written, byte for byte, but for ``category_id``; categories get the ids 1 to n
in the config's order. Ids of images and annotations are kept where they are whole numbers and no other has them, in the
order of keys; the rest are counted from 1, past those in use. Of label rows (YOLO) boxes and polygons become pixels,
rounded to 3 decimals; ``area`` is that of the polygon's mask, of a box its own. Format: https://cocodataset.org/#format-data

``captions_<split>.json`` is made where the source has captions, ``person_keypoints_<split>.json`` for task pose.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pipeline.schema import Task

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.exporters import Dataset, Records

#: Folders of the layout, each with one subfolder a split.
FOLDERS = ("images",)
COLUMNS = ("line", "cx", "cy", "w", "h", "n_tokens", "loss", "raw")
OF_TASK = False
GATHERS = True


def fragment(rows: pa.Table, images: pa.Table) -> pa.Table:
    """The wanted files of one bucket, as `schema.wanted`: its images, where they are to be copied."""
    from pipeline import schema
    from pipeline.exporters import yolo

    del rows  # they are in one file with those of all buckets
    return yolo.pictures(images) if "mark" in images.column_names else schema.wanted().empty_table()


def records(rows: pa.Table, images: pa.Table, keypoints: tuple[int, int] | None) -> Records:
    """The JSON objects of one bucket, see `Records`.

    `rows` has key, class_id (the subset's), head, tail and `COLUMNS` as far as the source has them; `images` has
    `schema.images`, width and height filled; `keypoints` is (K, D) for pose.
    """
    from pipeline.exporters import _coco  # needs NumPy and Arrow

    return _coco.records(rows, images, keypoints)


def assemble(dataset: Dataset, parts: Sequence[Records] = ()) -> dict[str, bytes | Iterable[bytes]]:
    """The JSON files, in pieces, and the lines that mmdetection and detectron2 read them with."""
    from pipeline.exporters import _assembly

    kind = "person_keypoints" if dataset.task is Task.POSE else "instances"
    files: dict[str, bytes | Iterable[bytes]] = {}
    for split in dataset.splits:
        files[f"annotations/{kind}_{split}.json"] = _assembly.json_file(dataset, parts, split, "annotation")
        if any(part.has_captions(split) for part in parts):
            files[f"annotations/captions_{split}.json"] = _assembly.json_file(dataset, parts, split, "caption")
    files["mmdetection.py"] = _mmdetection(dataset, kind)
    files["detectron2_datasets.py"] = _detectron2(dataset, kind)
    return files


def _mmdetection(dataset: Dataset, kind: str) -> bytes:
    """A config fragment for mmdetection 3; classes are in the order of the JSON's categories.

    https://mmdetection.readthedocs.io/en/latest/advanced_guides/customize_dataset.html
    """
    root = dataset.root.rstrip("/") if dataset.yaml == "absolute" else "{{ fileDirname }}"
    lines = ["# Made by coco-diy; a build writes it anew. Add its path to `_base_` of your mmdetection config.",
             f"data_root = '{root}/'",
             f"metainfo = dict(classes=({', '.join(map(repr, dataset.maps[0].names))},))"]
    for split in dataset.splits:
        ann_file = f"annotations/{kind}_{split}.json"
        lines.append(
            f"{split}_dataloader = dict(dataset=dict(type='CocoDataset', data_root=data_root, metainfo=metainfo, "
            f"ann_file='{ann_file}', data_prefix=dict(img='images/{split}/')))")
        if split != "train":
            lines.append(f"{split}_evaluator = dict(type='CocoMetric', ann_file=data_root + '{ann_file}')")
    return ("\n".join(lines) + "\n").encode()


def _detectron2(dataset: Dataset, kind: str) -> bytes:
    """Lines that register the dataset with detectron2.

    https://detectron2.readthedocs.io/en/latest/tutorials/datasets.html
    """
    folder = dataset.root.rstrip("/").rpartition("/")[2]
    root = (f"Path({dataset.root.rstrip('/')!r})" if dataset.yaml == "absolute"
            else "Path(__file__).resolve().parent")
    name = folder if dataset.yaml == "absolute" else "{root.name}"
    prefix = "" if dataset.yaml == "absolute" else "f"
    lines = ["# Made by coco-diy; a build writes it anew. Run it before training, as in `import detectron2_datasets`.",
             "from pathlib import Path", "",
             "from detectron2.data.datasets import register_coco_instances", "",
             f"root = {root}"]
    lines += [f"register_coco_instances({prefix}\"{name}_{split}\", {{}}, "
              f"str(root / 'annotations/{kind}_{split}.json'), str(root / 'images/{split}'))"
              for split in dataset.splits]
    return ("\n".join(lines) + "\n").encode()
