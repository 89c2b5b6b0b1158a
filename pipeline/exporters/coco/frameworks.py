"""Lines of Python by which mmdetection and detectron2 read a COCO subset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.base.terms import SPLITS
from pipeline.base.text import python_literal

if TYPE_CHECKING:
    from pipeline.exporters import Dataset, Layout


#: A dictionary in a config is merged into that of its ``_base_``, but a list replaces the whole list, pipelines too.
_OTHER_TRAINING_SETS = (
    "#   or, where that config wraps its training set (YOLOX, SSD, CenterNet, large scale jitter):",
    "#   train_dataloader = dict(dataset=dict(dataset=_base_.subset_train))",
    "#   or, where it joins several (`datasets=[...]`), of which the first one's pipeline stays:",
    "#   train_dataloader = dict(dataset=dict(datasets=[",
    "#       dict(_base_.train_dataloader.dataset.datasets[0], **_base_.subset_train)]))",
    "#   or, where it wraps several (ByteTrack, Pascal VOC 07+12):",
    "#   train_dataloader = dict(dataset=dict(dataset=dict(datasets=[",
    "#       dict(_base_.train_dataloader.dataset.dataset.datasets[0], **_base_.subset_train)])))",
    "#   or, where it is OpenImages or DSDL, whose datasets have arguments of their own:",
    "#   train_dataloader = dict(dataset=dict(",
    "#       _delete_=True, pipeline=_base_.train_dataloader.dataset.pipeline, **_base_.subset_train))",
)

_NOT_COVERED = (
    "# Not covered are configs that train on more than boxes and masks (ODVGDataset with phrases, panoptic, video,",
    "# re-identification, Soft Teacher's images without labels), that read proposals made before (Fast R-CNN), and two",
    "# that wrap OpenImages or DSDL.",
)


def mmdetection(dataset: Dataset, layout: Layout) -> bytes:
    """A fragment of a config for mmdetection 3; classes are in the order of the JSON's categories.

    Configs in one ``_base_`` may not share a key, and the one that people start from has dataloaders of its own: so
    these keys have names of their own, and the head says what to write where. mmengine fills in what is in
    ``{{ }}`` before Python reads the file, and a folder's path may hold a quote: so there are no braces here, and
    Python is asked for the folder. A key that begins with two underscores is no part of the config.
    https://mmengine.readthedocs.io/en/latest/advanced_tutorials/config.html
    """
    root = (
        python_literal(dataset.root.rstrip("/"))
        if dataset.yaml == "absolute"
        else ("(lambda: 0).__code__.co_filename.rpartition('/')[0]  # where this file is (mmengine 0.9 and newer)")
    )
    files = {s: (layout.file(dataset.task, s), layout.folder("images", s)) for s in dataset.splits}
    lines = [
        "# Made by coco-diy; a build writes it anew. In a config of mmdetection:",
        "#",
        "# _base_ = ['the config that you start from', 'PATH/mmdetection.py']",
    ]
    for split in SPLITS:
        shown = _shown(split, dataset.splits)
        if shown is not None:
            lines.append(f"# {split}_dataloader = dict(dataset=_base_.subset_{shown})")
        if split == "train" and shown is not None:
            lines += _OTHER_TRAINING_SETS
        if split == "val" and shown is None:
            lines += [
                "# This dataset has no val split; to train without one:",
                "# val_dataloader = val_evaluator = val_cfg = None",
            ]
        if split == "test" and shown is None:
            lines.append("# test_dataloader = test_evaluator = test_cfg = None")
        if shown is not None and split != "train":
            lines += _evaluation(split, shown)
    lines += [
        *_heads(len(dataset.maps[0].names)),
        *_NOT_COVERED,
        "",
        f"__root = {root}",
        f"subset_metainfo = dict(classes=({', '.join(map(python_literal, dataset.maps[0].names))},))",
    ]
    for name, (file, images) in files.items():
        lines += [
            f"subset_{name} = dict(type='CocoDataset', data_root=__root + '/', metainfo=subset_metainfo,",
            f"{' ' * len(f'subset_{name} = dict(')}ann_file='{file}', data_prefix=dict(img='{images}/'))",
            f"subset_{name}_annotations = __root + '/{file}'",
        ]
    return ("\n".join(lines) + "\n").encode()


def _shown(split: str, splits: Sequence[str]) -> str | None:
    """The split of the subset that a config has for `split`: without a test split that is val."""
    return split if split in splits else "val" if split == "test" and "val" in splits else None


def _evaluation(split: str, shown: str) -> list[str]:
    """What else a config says of val and test, where `shown` is the split of the subset."""
    return [
        "#   or, where that config evaluates on several datasets at once (GLIP, Grounding DINO):",
        f"#   {split}_dataloader = dict(dataset=dict(",
        f"#       _base_.{split}_dataloader.dataset.datasets[0], _delete_=True, **_base_.subset_{shown}))",
        "#   or, where it is OpenImages or DSDL:",
        f"#   {split}_dataloader = dict(dataset=dict(_delete_=True, test_mode=True,",
        f"#       pipeline=_base_.{split}_dataloader.dataset.pipeline, **_base_.subset_{shown}))",
        f"# {split}_evaluator = dict(ann_file=_base_.subset_{shown}_annotations)",
        "#   or, where that config has another evaluator than CocoMetric (LVIS, Pascal VOC, Cityscapes):",
        f"#   {split}_evaluator = dict(_delete_=True, type='CocoMetric', metric='bbox', "
        f"ann_file=_base_.subset_{shown}_annotations)",
    ]


def _heads(classes: int) -> list[str]:
    """What a config says of its model."""
    return [
        f"# model = dict(bbox_head=dict(num_classes={classes}))  # a model of one stage (RetinaNet, YOLOX, RTMDet)",
        f"# model = dict(roi_head=dict(bbox_head=dict(num_classes={classes})))  # one of two stages (Faster R-CNN)",
        "# A whole config, for masks, is mask_rcnn.py beside this file, where objects have polygons or masks.",
    ]


def mask_rcnn(splits: Sequence[str]) -> bytes:
    """A whole config of mmdetection 3 upon the fragment `mmdetection`: Mask R-CNN, evaluated by boxes and masks.

    `splits` has train. https://mmdetection.readthedocs.io/en/latest/user_guides/train.html
    """
    lines = [
        "# Made by coco-diy; a build writes it anew. Mask R-CNN on this dataset, for mmdetection 3; it trains with",
        "#     mim train mmdet PATH/mask_rcnn.py",
        "# To change it, take it into the `_base_` of a config of your own.",
        "_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', 'mmdetection.py']",
        "",
        "__classes = len(_base_.subset_metainfo.classes)",
        "model = dict(roi_head=dict(bbox_head=dict(num_classes=__classes), mask_head=dict(num_classes=__classes)))",
    ]
    for split in SPLITS:
        shown = _shown(split, splits)
        if shown is None:
            lines.append(f"{split}_dataloader = {split}_evaluator = {split}_cfg = None")
            continue
        lines.append(f"{split}_dataloader = dict(dataset=_base_.subset_{shown})")
        if split != "train":
            annotations = f"ann_file=_base_.subset_{shown}_annotations"
            lines.append(f"{split}_evaluator = dict({annotations}, metric=['bbox', 'segm'])")
    return ("\n".join(lines) + "\n").encode()


def detectron2(dataset: Dataset, layout: Layout, with_masks: Sequence[str]) -> bytes:
    """Lines that register the dataset with detectron2, which needs the splits `with_masks` of run lengths.

    https://detectron2.readthedocs.io/en/latest/tutorials/datasets.html
    """
    root = dataset.root.rstrip("/")
    absolute = dataset.yaml == "absolute"
    lines = [
        "# Made by coco-diy; a build writes it anew. Run it before training, as in `import detectron2_datasets`.",
        *(
            [
                f"# Objects of {' and '.join(with_masks)} are masks (run lengths), which detectron2 reads with",
                '# cfg.INPUT.MASK_FORMAT = "bitmask"',
            ]
            if with_masks
            else []
        ),
        "from pathlib import Path",
        "",
        "from detectron2.data.datasets import register_coco_instances",
        "",
        f"root = {f'Path({python_literal(root)})' if absolute else 'Path(__file__).resolve().parent'}",
    ]
    lines += [
        f"register_coco_instances(f'{{root.name}}_{split}', {{}}, "
        f"str(root / '{layout.file(dataset.task, split)}'), str(root / '{layout.folder('images', split)}'))"
        for split in dataset.splits
    ]
    return ("\n".join(lines) + "\n").encode()
