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
from pipeline.text import python_literal

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

    images = _as_named(images)
    del rows  # they are in one file with those of all buckets
    return yolo.pictures(images) if "mark" in images.column_names else schema.wanted().empty_table()


def records(rows: pa.Table, images: pa.Table, keypoints: tuple[int, int] | None) -> Records:
    """The JSON objects of one bucket, see `Records`.

    `rows` has key, class_id (the subset's), head, tail and `COLUMNS` as far as the source has them; `images` has
    `schema.images`, width and height filled; `keypoints` is (K, D) for pose.
    """
    from pipeline.exporters import _coco  # needs NumPy and Arrow

    return _coco.records(rows, _as_named(images), keypoints)


def _as_named(images: pa.Table) -> pa.Table:
    """`images` with the stem that their file has: where two have the same one, that of the later is its whole name."""
    import pyarrow.compute as pc

    stem, path = images["stem"].combine_chunks(), images["image_path"].combine_chunks()
    name = pc.replace_substring_regex(path, r"^.*/", "")
    whole = pc.fill_null(pc.equal(pc.replace_substring_regex(stem, r"^.*/", ""), name), False)
    if not pc.any(whole).as_py():
        return images
    stem = pc.if_else(whole, pc.replace_substring_regex(stem, r"\.[^./]*$", ""), stem)
    return images.set_column(images.schema.get_field_index("stem"), images.schema.field("stem"), stem)


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
    with_masks = [split for split in dataset.splits if any(part.has_masks(split) for part in parts)]
    files["detectron2_datasets.py"] = _detectron2(dataset, kind, with_masks)
    return files


def _mmdetection(dataset: Dataset, kind: str) -> bytes:
    """A fragment of a config for mmdetection 3; classes are in the order of the JSON's categories.

    Configs in one ``_base_`` may not share a key, and the one that people start from has dataloaders of its own: so
    these keys have names of their own, and the head says what to write where. mmengine fills in what stands in
    ``{{ }}`` before Python reads the file, and a folder's path may hold a quote: so there are no braces here, and
    Python is asked for the folder. A key that begins with two underscores is no part of the config.
    https://mmengine.readthedocs.io/en/latest/advanced_tutorials/config.html
    """
    root = python_literal(dataset.root.rstrip("/")) if dataset.yaml == "absolute" else (
        "(lambda: 0).__code__.co_filename.rpartition('/')[0]  # where this file lies (mmengine 0.9 and newer)")
    files = {split: f"annotations/{kind}_{split}.json" for split in dataset.splits}
    lines = ["# Made by coco-diy; a build writes it anew. In a config of mmdetection:", "#",
             "# _base_ = ['the config that you start from', 'PATH/mmdetection.py']"]
    for split in ("train", "val", "test"):
        held = split if split in files else "val" if split == "test" and "val" in files else None
        if held is not None:
            lines.append(f"# {split}_dataloader = dict(dataset=_base_.subset_{held})")
        if split == "train" and held is not None:
            lines += ["#   or, where that config wraps its training set (YOLOX, SSD, CenterNet, large scale jitter):",
                      "#   train_dataloader = dict(dataset=dict(dataset=_base_.subset_train))"]
        if split == "val" and held is None:
            lines += ["# This dataset has no val split; to train without one:",
                      "# val_dataloader = val_evaluator = val_cfg = None"]
        if split == "test" and held is None:
            lines.append("# test_dataloader = test_evaluator = test_cfg = None")
        if held is not None and split != "train":
            lines.append(f"# {split}_evaluator = dict(ann_file=_base_.subset_{held}_annotations)")
    lines += ["# model = ...  # num_classes where the model has it, as in roi_head=dict(bbox_head=dict(num_classes="
              f"{len(dataset.maps[0].names)}))", "", f"__root = {root}",
              f"subset_metainfo = dict(classes=({', '.join(map(python_literal, dataset.maps[0].names))},))"]
    for split, file in files.items():
        lines += [f"subset_{split} = dict(type='CocoDataset', data_root=__root + '/', metainfo=subset_metainfo,",
                  f"{' ' * len(f'subset_{split} = dict(')}ann_file='{file}', data_prefix=dict(img='images/{split}/'))",
                  f"subset_{split}_annotations = __root + '/{file}'"]
    return ("\n".join(lines) + "\n").encode()


def _detectron2(dataset: Dataset, kind: str, with_masks: Sequence[str]) -> bytes:
    """Lines that register the dataset with detectron2, which must be told of the splits `with_masks` of run lengths.

    https://detectron2.readthedocs.io/en/latest/tutorials/datasets.html
    """
    root = dataset.root.rstrip("/")
    absolute = dataset.yaml == "absolute"
    lines = ["# Made by coco-diy; a build writes it anew. Run it before training, as in `import detectron2_datasets`.",
             *([f"# Objects of {' and '.join(with_masks)} are masks (run lengths), which detectron2 reads with",
                '# cfg.INPUT.MASK_FORMAT = "bitmask"'] if with_masks else []),
             "from pathlib import Path", "",
             "from detectron2.data.datasets import register_coco_instances", "",
             f"root = {f'Path({python_literal(root)})' if absolute else 'Path(__file__).resolve().parent'}"]
    lines += [f"register_coco_instances(f'{{root.name}}_{split}', {{}}, "
              f"str(root / 'annotations/{kind}_{split}.json'), str(root / 'images/{split}'))"
              for split in dataset.splits]
    return ("\n".join(lines) + "\n").encode()
