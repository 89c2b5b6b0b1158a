"""Splits that are folders somewhere below that of a dataset: ``data/train``, ``json/train`` with ``images/train``."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from pipeline.base.terms import IMAGE_SUFFIXES
from pipeline.job.split_folders import FOLDERS, IMAGE_FOLDERS, LABEL_FOLDERS

_SPLIT_OF = {word: split for split, words in FOLDERS.items() for word in words}

#: Folders of the label files and of the images in the folder of a split, in lower case.
_INNER = {"labels": {name.lower() for name in LABEL_FOLDERS}, "images": {"images", "imgs"}}

#: By where the folders of splits are: by split, what its folder is called.
_Homes = dict[str, dict[str, set[str]]]


def deep_splits(names: Iterable[str], suffix: str) -> dict[str, list[dict[str, Any]]]:
    """By split the folders of labels and of images, below that of the dataset, whose files are `names`.

    Several where several folders have those of splits; where one of them lacks a split, that is empty. None unless
    each label file, by its `suffix`, is of a split that has images, and one of them is train: else all is one split.
    """
    shown = [name for name in names if not any(step.startswith((".", "__MACOSX")) for step in name.split("/"))]
    images = [name for name in shown if name.lower().endswith(IMAGE_SUFFIXES)]
    stems = {_stem(name) for name in images}
    # What is right there and called as no image holds something else: classes.txt, info.json
    labels = [name for name in shown if name.lower().endswith(suffix) and ("/" in name or _stem(name) in stems)]
    homes, pictures = _homes_of(labels), _homes_of(images)
    if homes is None or not any("train" in home for home in homes.values()):
        return {}
    if any(len(words) > 1 for home in homes.values() for words in home.values()):
        return {}
    common = next((f for f in IMAGE_FOLDERS if any(name.startswith(f"{f}/") for name in images)), None)
    found: list[dict[str, dict[str, Any]]] = []
    for home, words in sorted(homes.items()):
        of_home = {}
        for split, (word,) in words.items():
            paths = _paths(f"{home}{word}", split, pictures or {}, labels, images) or (
                {"labels": f"{home}{word}", "images": common} if pictures is None and common is not None else None
            )
            if paths is None:
                return {}
            of_home[split] = paths
        found.append(of_home)
    return {split: [of_home.get(split, {}) for of_home in found] for split in FOLDERS if any(split in f for f in found)}


def _homes_of(names: Iterable[str]) -> _Homes | None:
    """Where the folders of splits are that have all of the files `names`; None where one is in no split."""
    found: _Homes = defaultdict(lambda: defaultdict(set))
    for name in names:
        steps = name.split("/")[:-1]
        at = next((i for i, step in enumerate(steps) if step.lower() in _SPLIT_OF), None)
        if at is None:
            return None
        found["".join(f"{step}/" for step in steps[:at])][_SPLIT_OF[steps[at].lower()]].add(steps[at])
    return found


def _paths(folder: str, split: str, pictures: _Homes, labels: list[str], images: list[str]) -> dict[str, Any] | None:
    """The folders of labels and images of a split whose labels are in `folder`: images are there, or in one other."""
    inner = {kind: _below(folder, names) for kind, names in (("labels", labels), ("images", images))}
    if inner["images"]:
        apart = {kind: next((f for f in steps if f.lower() in _INNER[kind]), None) for kind, steps in inner.items()}
        if None not in apart.values() and all(len(steps) == 1 for steps in inner.values()):
            return {kind: f"{folder}/{step}" for kind, step in apart.items()}
        return {"labels": folder, "images": folder}
    others = [f"{home}{word}" for home, words in pictures.items() for word in words.get(split, ())]
    return {"labels": folder, "images": others[0]} if len(others) == 1 else None


def _below(folder: str, names: Iterable[str]) -> set[str]:
    """The first steps of those of `names` that are below `folder`; an empty one of those right in it."""
    inner = [name[len(folder) + 1 :] for name in names if name.startswith(f"{folder}/")]
    return {name.partition("/")[0] if "/" in name else "" for name in inner}


def _stem(name: str) -> str:
    return os.path.splitext(os.path.basename(name))[0]
