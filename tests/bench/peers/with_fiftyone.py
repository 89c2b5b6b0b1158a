"""FiftyOne: `YOLOv5Dataset` in, `filter_labels`, `YOLOv5Dataset` out; its database is beside the target."""

from __future__ import annotations

import os
import sys


def main() -> None:
    source, target = sys.argv[1:3]
    os.environ |= {"FIFTYONE_DATABASE_DIR": f"{target}-database", "FIFTYONE_DO_NOT_TRACK": "true"}
    import fiftyone as fo
    from fiftyone import ViewField

    names = ["person", "bicycle", "car"]
    for split in ("train", "val"):
        dataset = fo.Dataset.from_dir(
            dataset_dir=source, dataset_type=fo.types.YOLOv5Dataset, split=split, yaml_path="data.yaml"
        )
        dataset.filter_labels("ground_truth", ViewField("label").is_in(names)).export(
            export_dir=target, dataset_type=fo.types.YOLOv5Dataset, split=split, classes=names
        )


if __name__ == "__main__":
    main()
