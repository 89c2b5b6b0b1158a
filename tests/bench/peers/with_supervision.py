"""supervision: `DetectionDataset.from_yolo`, a mask of class ids for each image, `as_yolo`; it has no filter."""

from __future__ import annotations

import sys

import numpy as np
import supervision as sv

NAMES = ["person", "bicycle", "car"]


def main() -> None:
    source, target = sys.argv[1:3]
    for folder, split in (("train2017", "train"), ("val2017", "val")):
        whole = sv.DetectionDataset.from_yolo(
            images_directory_path=f"{source}/images/{folder}",
            annotations_directory_path=f"{source}/labels/{folder}",
            data_yaml_path=f"{source}/data.yaml",
        )
        ids = [whole.classes.index(name) for name in NAMES]
        annotations = {}
        for path, detections in whole.annotations.items():
            if len(detections) and len(kept := detections[np.isin(detections.class_id, ids)]):
                kept.class_id = np.array([ids.index(number) for number in kept.class_id])
                annotations[path] = kept
        subset = sv.DetectionDataset(classes=NAMES, images=list(annotations), annotations=annotations)
        subset.as_yolo(
            images_directory_path=f"{target}/images/{split}",
            annotations_directory_path=f"{target}/labels/{split}",
            data_yaml_path=f"{target}/data.yaml",
        )


if __name__ == "__main__":
    main()
