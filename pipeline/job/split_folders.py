"""Folders that are called as splits, and what is in them: what all searches for a layout ask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from pipeline import storage
from pipeline.base.errors import ConfigError

#: What folders of a split are called, in lower case, in COCO's layout and in everybody's.
FOLDERS = {
    "train": ("train2017", "train2014", "train", "training"),
    "val": ("val2017", "val2014", "val", "valid", "validation"),
    "test": ("test2017", "test2015", "test2014", "test", "testing"),
}

#: Folders of the images of all splits: most people's, CVAT's, FiftyOne's, labelme2coco's.
IMAGE_FOLDERS = ("images/default", "images", "Images", "data", "JPEGImages", "imgs")

#: Folders of label files beside one of images.
LABEL_FOLDERS = (
    "labels",
    "Labels",
    "Annotations",
    "annotations",
    "jsons",
    "json",
    "labelTxt",
    "labelTxt-v1.0",
    "annfiles",
)

SplitPaths = str | dict[str, Any]


class NoLayoutError(ConfigError):
    """A folder is not laid out as any tool does for a format."""


def add_split(found: dict[str, SplitPaths], split: str, paths: SplitPaths, root: str) -> None:
    """Take `paths` for a split of `found`. Raises `ConfigError` where there is one already."""
    if split in found:
        first, second = (p if isinstance(p, str) else next(iter(p.values())) for p in (found[split], paths))
        raise ConfigError(f"{root}: {first} and {second} are both {split}; rename one, or write a config")
    found[split] = paths


def is_file(root: str, path: str) -> bool:
    """Whether there is a file at `path` below `root`."""
    folder, name = os.path.split(path)
    there = storage.locate_below(root, folder) if folder else storage.locate(root)
    return bool(there.exist_many([name])[0])


def is_folder(root: str, folder: str) -> bool:
    """Whether there is a folder with files at `folder` below `root`."""
    return storage.locate_below(root, folder).has_files()


def split_folders(root: str, below: str) -> Iterator[tuple[str, str]]:
    """Split and name of each folder right in `below` that is called as a split is, in the usual capitals."""
    for split, known in FOLDERS.items():
        for name in known:
            there = [n for n in (name, name.capitalize(), name.upper()) if is_folder(root, os.path.join(below, n))]
            yield from ((split, n) for n in there[:1])
