"""Datumaro: import, remap labels, drop items without annotations, export with media."""

from __future__ import annotations

import sys

import datumaro as dm


def main() -> None:
    source, target = sys.argv[1:3]
    dataset = dm.Dataset.import_from(source, "yolo")
    dataset.transform("map_subsets", mapping={"train2017": "train", "val2017": "val"})
    dataset.transform("remap_labels", mapping={name: name for name in ("person", "bicycle", "car")}, default="delete")
    dataset.filter("/item/annotation", filter_annotations=True, remove_empty=True)
    dataset.export(target, "yolo_ultralytics", save_media=True)


if __name__ == "__main__":
    main()
