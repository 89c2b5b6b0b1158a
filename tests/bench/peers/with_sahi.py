"""sahi: COCO JSON, `update_categories`, `export_coco_as_yolo`; it reads no YOLO rows."""

from __future__ import annotations

import sys

from sahi.utils.coco import Coco, export_coco_as_yolo


def main() -> None:
    source, target = sys.argv[1:3]
    splits = []
    for folder, split in (("train2017", "train"), ("val2017", "val")):
        coco = Coco.from_coco_dict_or_path(
            f"{source}/annotations/{split}.json", image_dir=f"{source}/images/{folder}", ignore_negative_samples=True
        )
        coco.update_categories({"person": 0, "bicycle": 1, "car": 2})
        splits.append(coco)
    export_coco_as_yolo(target, train_coco=splits[0], val_coco=splits[1])


if __name__ == "__main__":
    main()
