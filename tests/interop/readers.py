"""Libraries that read targets, each as a function from paths to JSON. A script of the trainers' environment.

``python readers.py FUNCTION`` takes a JSON list of arguments for each call on stdin, and prints what the function finds
as a list on the last line. Nothing of coco-diy is imported here: what is read is what anybody would read.
"""

from __future__ import annotations

import json
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any

Found = dict[str, Any]


def torchvision_coco(annotations: str, images: str) -> Found:
    """`torchvision.datasets.CocoDetection`: it opens each image and gives it with its objects."""
    _import_torchvision()
    from torchvision.datasets import CocoDetection

    dataset = CocoDetection(images, annotations)
    names = {c["id"]: c["name"] for c in dataset.coco.dataset["categories"]}
    sizes = {i["id"]: (i["width"], i["height"]) for i in dataset.coco.dataset["images"]}
    found: Counter[str] = Counter()
    for number, image_id in enumerate(dataset.ids):
        image, objects = dataset[number]
        assert image.size == sizes[image_id], image_id
        found.update(names[o["category_id"]] for o in objects)
    return {"images": len(dataset), "objects": found, "classes": [names[i] for i in sorted(names)]}


def supervision_coco(annotations: str, images: str) -> Found:
    """`supervision.DetectionDataset.from_coco`."""
    import supervision

    dataset = supervision.DetectionDataset.from_coco(images, annotations)
    found: Counter[str] = Counter()
    for _, image, detections in dataset:
        assert image is not None
        found.update(dataset.classes[i] for i in detections.class_id)
    return {"images": len(dataset), "objects": found, "classes": dataset.classes}


def mmdetection_coco(fragment: str, split: str) -> Found:
    """`mmdet.datasets.CocoDataset` of a config of mmdetection's own that has `fragment` in its ``_base_``."""
    sys.modules["mmcv._ext"] = _NoOps("mmcv._ext")  # the wheel without compiled operations
    from mmdet.utils import register_all_modules
    from mmengine.config import Config
    from mmengine.registry import DATASETS

    lines = [line.removeprefix("# ") for line in Path(fragment).read_text().splitlines() if line.startswith("# ")]
    # A line that is indented is the other form of the one above it, for configs that wrap their training set.
    lines = [
        line
        for line in lines
        if not line.startswith(" ") and line.split(" = ")[0].endswith(("_base_", "_dataloader", "_evaluator"))
    ]
    begun = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
    text = "\n".join(lines).replace("the config that you start from", begun).replace("PATH/mmdetection.py", fragment)
    Path("config.py").write_text(text)
    made = Config.fromfile("config.py")
    assert Path(made.val_evaluator.ann_file).is_file()
    register_all_modules()
    dataset = DATASETS.build(made[f"{split}_dataloader"].dataset)
    classes = list(dataset.metainfo["classes"])
    found: Counter[str] = Counter()
    for number in range(len(dataset)):
        assert dataset[number]["inputs"].ndim == 3  # opened, resized, and packed with its boxes
        found.update(classes[i["bbox_label"]] for i in dataset.get_data_info(number)["instances"])
    return {"images": len(dataset), "objects": found, "classes": classes}


def mmengine_config(fragment: str) -> Found:
    """What `mmengine.config.Config` makes of a file: its values, and its lines filled in by names in ``{{ }}``."""
    sys.modules.setdefault("cv2", types.ModuleType("cv2"))
    from mmengine.config import Config

    made = Config.fromfile(fragment)
    return {
        "classes": list(made.subset_metainfo["classes"]),
        "keys": sorted(made.keys()),
        "root": made.get("subset_train", {}).get("data_root"),
    }


def ultralytics_rows(yaml: str, task: str) -> Found:
    """`check_det_dataset` and `YOLODataset`: by split what it takes, and what it holds to be damaged."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    data = check_det_dataset(yaml, autodownload=False)
    splits = {}
    for split in ("train", "val"):
        dataset = YOLODataset(img_path=data[split], data=data, task=task, imgsz=64, augment=False)
        found = Counter(data["names"][int(c)] for label in dataset.labels for c in label["cls"].ravel())
        for label in dataset.labels:
            assert task != "segment" or len(label["segments"]) == len(label["cls"])
            assert task != "pose" or label["keypoints"].shape == (len(label["cls"]), *data["kpt_shape"])
        assert dataset[0]["img"].shape == (3, 64, 64)
        splits[split] = {"images": len(dataset.labels), "objects": found}
    return {"splits": splits, "classes": list(data["names"].values())}


def ultralytics_train(yaml: str, model: str, folder: str) -> Found:
    """One epoch of a model from scratch, on the CPU, at 64 pixels."""
    _import_torchvision()
    import torchvision
    from ultralytics import YOLO
    from ultralytics.utils.nms import TorchNMS

    if not torchvision.extension._has_ops():
        torchvision.ops.nms = TorchNMS.nms
    trained = YOLO(model)
    seen: list[int] = []
    trained.add_callback("on_train_start", lambda trainer: seen.append(len(trainer.train_loader.dataset)))
    trained.train(
        data=yaml,
        epochs=1,
        imgsz=64,
        batch=8,
        device="cpu",
        workers=0,
        amp=False,
        plots=False,
        project=folder,
        verbose=False,
        seed=0,
    )
    return {"images": seen, "classes": list(trained.names.values())}


def older_ultralytics_labels(yaml: str, split: str) -> Found:
    """Class numbers by image of a release whose cache of the labels goes by their paths and sizes alone."""
    _import_torchvision()
    import ultralytics
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    data = check_det_dataset(yaml, autodownload=False)
    dataset = YOLODataset(img_path=data[split], data=data, task="detect", imgsz=64, augment=False)
    return {
        "version": ultralytics.__version__,
        "classes": list(data["names"].values()),
        "labels": {Path(label["im_file"]).stem: [int(c) for c in label["cls"].ravel()] for label in dataset.labels},
    }


class _NoOps(types.ModuleType):
    """Stands for compiled operations, none of which reading calls."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def _import_torchvision() -> None:
    """Import torchvision, too, where it was compiled for another build of torch: reading needs no operation of it."""
    import torch

    try:
        import torchvision
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    assert torchvision


if __name__ == "__main__":
    print("\n" + json.dumps([globals()[sys.argv[1]](*arguments) for arguments in json.load(sys.stdin)]))
