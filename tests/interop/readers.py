"""Libraries that read targets, each as a function from paths to JSON. A script of the trainers' environment.

``python readers.py FUNCTION`` takes a JSON list of arguments for each call on stdin, and prints what the function finds
as a list on the last line. Nothing of coco-diy is imported here: what is read is what anybody would read.
"""

from __future__ import annotations

import json
import re
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any

Found = dict[str, Any]


def mmdetection_mask_rcnn(file: str) -> Found:
    """The whole config `file`: model, datasets and evaluators as mmdetection builds them, and a sample with masks."""
    sys.modules["mmcv._ext"] = _NoOps("mmcv._ext")
    from mmdet.utils import register_all_modules
    from mmengine.config import Config
    from mmengine.registry import DATASETS, METRICS, MODELS

    register_all_modules()
    made = Config.fromfile(file)
    made.model.backbone.init_cfg = None  # weights of ImageNet are on a server
    model = MODELS.build(made.model)
    datasets = {split: DATASETS.build(made[f"{split}_dataloader"].dataset) for split in ("train", "val", "test")}
    sample = datasets["train"][0]
    evaluators = [METRICS.build(made[f"{split}_evaluator"]) for split in ("val", "test")]
    return {
        "classes": list(datasets["train"].metainfo["classes"]),
        "heads": [model.roi_head.bbox_head.num_classes, model.roi_head.mask_head.num_classes],
        "images": {split: len(dataset) for split, dataset in datasets.items()},
        "masks": len(sample["data_samples"].gt_instances.masks),
        "metrics": [evaluator.metrics for evaluator in evaluators],
        "outputs": [model.roi_head.bbox_head.fc_cls.out_features, model.roi_head.mask_head.conv_logits.out_channels],
    }


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
    from mmengine.registry import DATASETS

    begun = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
    lines = [forms[0] for forms in _forms(fragment).values()]
    made = _config(begun, fragment, lines)
    assert Path(made.val_evaluator.ann_file).is_file()
    register_all_modules()
    dataset = DATASETS.build(made[f"{split}_dataloader"].dataset)
    classes = list(dataset.metainfo["classes"])
    found: Counter[str] = Counter()
    for number in range(len(dataset)):
        assert dataset[number]["inputs"].ndim == 3  # opened, resized, and packed with its boxes
        found.update(classes[i["bbox_label"]] for i in dataset.get_data_info(number)["instances"])
    return {"images": len(dataset), "objects": found, "classes": classes}


#: What mmdetection says of a package that this environment lacks, by package.
_LACKING = {
    "albumentations": "albumentations is not installed",
    "instaboostfast": 'Please run "pip install instaboostfast" to install instaboostfast first for instaboost '
    "augmentation.",
    "mmpretrain": "mmpretrain is not installed, please install mmpretrain manually",
}


def mmdetection_configs(fragment: str, not_covered: dict[str, str]) -> Found:
    """Every config of mmdetection with `fragment` in its ``_base_``, in the form that its comments say for it.

    Names of the configs by what came of them: built by form, lacking a package, without a training set, with a file
    that mmdetection does not ship, `not_covered` by the reason whose pattern their names match; and what is wrong: a
    dataset or evaluator that is not built, or reads anything else than the fragment's.
    """
    sys.modules["mmcv._ext"] = _NoOps("mmcv._ext")
    import gc

    import mmdet
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    gc.collect()
    gc.freeze()  # each dataset collects garbage, of which the libraries themselves are most
    forms, classes = _forms(fragment), list(Config.fromfile(fragment).subset_metainfo["classes"])
    found: dict[str, list[str]] = {}
    root = Path(mmdet.__file__).parent / ".mim/configs"
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name.startswith("_base_") or "/common/" in f"/{name}":
            continue
        reason = next((f"not covered: {why}" for why, names in not_covered.items() if re.match(names, name)), None)
        try:
            base = Config.fromfile(path)
            if base.get("train_dataloader") is None:
                reason = "no training set"
            elif reason is None:
                reason, lines = _lines_for(base, forms)
                _check_config(_config(str(path), fragment, lines), Path(fragment).parent, classes)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is listed
            reason = _reason(error)
        found.setdefault(str(reason), []).append(name)
    return found


def _reason(error: Exception) -> str:
    text = str(error)
    if isinstance(error, FileNotFoundError) and "/.mim/configs/" in text:
        return "a file is not shipped"
    if isinstance(error, ImportError) and "custom modules from {'imports': ['mmpretrain.models']" in text:
        return "lacks mmpretrain"
    lacking = [package for package, said in _LACKING.items() if text == said]
    return f"lacks {lacking[0]}" if lacking else f"wrong: {type(error).__name__}: {text[:200]}"


def _lines_for(base: Any, forms: dict[str, list[str]]) -> tuple[str, list[str]]:
    """What the fragment's comments say to write for the config `base`: the name of the form, and the lines."""
    steps, kinds = _shape(base.train_dataloader.dataset)
    own = any(kind.startswith(("OpenImages", "DSDL")) for kind in kinds)
    form = 4 if own else {"": 0, "w": 1, "j": 2, "wj": 3}[steps]
    lines = [forms["train_dataloader"][form]]
    for split in ("val", "test"):
        several = _shape(base[f"{split}_dataloader"].dataset)[0] == "j"
        lines.append(forms[f"{split}_dataloader"][2 if own else 1 if several else 0])
        evaluator = base.get(f"{split}_evaluator")
        # One config of mmdetection has arguments of another evaluator in this one, and does not run by itself.
        plain = isinstance(evaluator, dict) and evaluator.get("type") == "CocoMetric" and "eval_mode" not in evaluator
        lines.append(forms[f"{split}_evaluator"][0 if plain else 1])
    return ("plain", "wrapped", "joined", "wrapped and joined", "arguments of its own")[form], lines


def _check_config(made: Any, root: Path, classes: list[str]) -> None:
    """Build the datasets and evaluators of a config, and compare what they read with what lies below `root`."""
    from mmengine.registry import DATASETS, METRICS

    for split in ("train", "val", "test"):
        settings = made[f"{split}_dataloader"].dataset
        dataset = DATASETS.build(settings)
        (inner,) = _inner(dataset)
        assert type(inner).__name__ == "CocoDataset", type(inner).__name__
        shown = split if split == "train" else "val"
        said = json.loads((root / f"annotations/instances_{shown}.json").read_text())
        assert list(dataset.metainfo["classes"]) == list(inner.metainfo["classes"]) == classes
        assert Path(inner.ann_file) == root / f"annotations/instances_{shown}.json", inner.ann_file
        assert Path(inner.data_prefix["img"]) == root / "images" / shown, inner.data_prefix
        images = {str(root / "images" / shown / i["file_name"]) for i in said["images"]}
        assert len(dataset) > 0
        assert {inner.get_data_info(n)["img_path"] for n in range(len(inner))} <= images
        if split == "train":
            continue
        evaluator = METRICS.build(made[f"{split}_evaluator"])
        found = [evaluator._coco_api.cats[i]["name"] for i in evaluator._coco_api.get_cat_ids(cat_names=classes)]
        assert found == classes, found


def _shape(settings: Any) -> tuple[str, set[str]]:
    """How a dataset is nested, ``w`` for a wrapper and ``j`` for several, and the types of the innermost ones."""
    if "dataset" in settings:
        steps, kinds = _shape(settings["dataset"])
        return "w" + steps, kinds
    if "datasets" in settings:
        return "j", {kind for one in settings["datasets"] for kind in _shape(one)[1]}
    kind = settings["type"]
    return "", {kind if isinstance(kind, str) else kind.__name__}


def _inner(dataset: Any) -> list[Any]:
    """The innermost datasets."""
    if hasattr(dataset, "datasets"):
        return [inner for one in dataset.datasets for inner in _inner(one)]
    return _inner(dataset.dataset) if hasattr(dataset, "dataset") else [dataset]


def _forms(fragment: str) -> dict[str, list[str]]:
    """The assignments in the comments of `fragment` by name, in their order: the first, and others to take instead."""
    text = re.sub(r"(?<=[(\[,])\n#       ", " ", Path(fragment).read_text())
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, _ = line.removeprefix("#").strip().partition(" = ")
        if line.startswith("#") and equals and name.endswith(("_dataloader", "_evaluator")):
            found.setdefault(name, []).append(line.removeprefix("#").strip())
    return found


def _config(begun: str, fragment: str, lines: list[str]) -> Any:
    """A config of `lines` upon the one called `begun` and `fragment`."""
    from mmengine.config import Config

    Path("config.py").write_text("\n".join([f"_base_ = [{begun!r}, {fragment!r}]", *lines]) + "\n")
    return Config.fromfile("config.py")


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


def ultralytics_ndjson(file: str, folder: str) -> Found:
    """`convert_ndjson_to_yolo`, which `yolo train` calls: names, and by split the numbers of each image it has.

    It calls images by their place in the file: images of a split are compared in that order.
    """
    import asyncio

    from ultralytics.data.converter import convert_ndjson_to_yolo
    from ultralytics.utils import YAML

    made = asyncio.run(convert_ndjson_to_yolo(file, folder))
    data, splits = YAML.load(made), {}
    for split in ("train", "val"):
        images = sorted((made.parent / data[split]).iterdir(), key=lambda path: int(path.stem))
        assert all(path.stat().st_size for path in images)
        labels = [made.parent / "labels" / split / f"{path.stem}.txt" for path in images]
        splits[split] = [[[*map(float, row.split())] for row in p.read_text().splitlines()] for p in labels]
    known = {key: data[key] for key in ("kpt_shape", "flip_idx") if key in data}
    return {"yaml": str(made), "classes": list(data["names"].values()), "splits": splits, **known}


def ultralytics_visdrone(annotations: str, width: str, height: str) -> Found:
    """The rows that the ``download:`` part of VisDrone.yaml makes of a file of VisDrone, and what it leaves."""
    import tempfile

    import ultralytics
    from PIL import Image
    from ultralytics.utils import YAML

    path = Path(annotations)
    script = YAML.load(Path(ultralytics.__file__).parent / "cfg/datasets/VisDrone.yaml")["download"]
    begin, downloads, convert = script.partition("# Download (ignores")
    assert downloads
    names: dict[str, Any] = {}
    exec(begin, names)
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder, "VisDrone2019-DET-val")
        (own / "images").mkdir(parents=True)
        (own / "annotations").mkdir()
        Image.new("L", (int(width), int(height))).save(own / "images" / f"{path.stem}.jpg")
        (own / "annotations" / path.name).write_bytes(path.read_bytes())
        names["visdrone2yolo"](Path(folder), "val", own.name)
        text = Path(folder, "labels/val", path.name).read_text(encoding="utf-8")
        moved = Path(folder, "images/val", f"{path.stem}.jpg").is_file()
    return {"text": text, "moved": moved, "deletes": "shutil.rmtree(dir / folder)" in convert}


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


def rfdetr_dataset(root: str, kind: str, split: str) -> Found:
    """`rfdetr.datasets.build_dataset`: what a split holds, each image opened, resized and given with its boxes.

    `kind` is its ``dataset_file``: coco (COCO 2017), roboflow (JSON or YOLO, by what is there) or yolo. The objects of
    train are those before images are cropped at random.
    """
    _import_torchvision()
    from rfdetr.datasets import build_dataset

    options = types.SimpleNamespace(
        dataset_dir=root,
        coco_path=root,
        dataset_file=kind,
        square_resize_div_64=True,
        segmentation_head=False,
        multi_scale=False,
        expanded_scales=False,
        patch_size=16,
        num_windows=1,
    )
    dataset = build_dataset(split, options, 64)
    for number in range(len(dataset)):
        image, target = dataset[number]
        assert image.shape == (3, 64, 64)
        assert len(target["boxes"]) == len(target["labels"])
    names = {number: category["name"] for number, category in dataset.coco.cats.items()}
    return {
        "images": len(dataset),
        "objects": Counter(names[a["category_id"]] for a in dataset.coco.anns.values()),
        "classes": [names[number] for number in sorted(names)],
    }


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
