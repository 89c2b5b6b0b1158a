"""globox: `from_yolo_darknet`, `filter_labels`, `save_yolo_darknet`; labels alone, as it writes no images."""

from __future__ import annotations

import sys
from pathlib import Path

from globox import AnnotationSet


def main() -> None:
    source, target = map(Path, sys.argv[1:3])
    for folder, split in (("train2017", "train"), ("val2017", "val")):
        whole = AnnotationSet.from_yolo_darknet(source / "labels" / folder, image_folder=source / "images" / folder)
        subset = whole.filter_labels(["0", "1", "2"])
        (target / "labels").mkdir(parents=True, exist_ok=True)
        subset.save_yolo_darknet(target / "labels" / split, label_to_id={"0": 0, "1": 1, "2": 2})


if __name__ == "__main__":
    main()
