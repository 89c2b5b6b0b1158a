"""Where the splits of a folder are, as COCO, Roboflow, CVAT, Label Studio, labelImg and DOTA have them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from pipeline import formats, storage
from pipeline.base.errors import ConfigError
from pipeline.base.terms import Task
from pipeline.job.annotation_files import annotations_files, stems_of_images, whole_files
from pipeline.job.deep_splits import deep_splits
from pipeline.job.folder_names import FolderNames
from pipeline.job.named_splits import NamedSplits, data_of
from pipeline.job.split_folders import (
    FOLDERS,
    IMAGE_FOLDERS,
    LABEL_FOLDERS,
    NoLayoutError,
    SplitPaths,
    add_split,
    is_file,
    is_folder,
    split_folders,
)

#: Where tools leave the class names of label files with numbers.
_NAMES_FILES = (
    "data.yaml",
    "data.yml",
    "dataset.yaml",
    "obj.names",
    "classes.txt",
    "class_with_id.txt",
    "labels.txt",
    "predefined_classes.txt",
    "labels/classes.txt",
    "train/classes.txt",
    "train/_darknet.labels",
    "_darknet.labels",
    "obj_train_data/classes.txt",
)

#: Where Pascal VOC's lists of the images of each split are, and what they are called, the likeliest first.
_LIST_FOLDERS = ("ImageSets/Main", "ImageSets")

_DEEPEST = 2  # VOCdevkit/VOC2012

_LISTS = {"train": ("train", "trainval"), "val": ("val", "valid"), "test": ("test",)}


def find_splits(
    source: str,
    name: str,
    format_: formats.Format,
    task: Task,
    *,
    names: str | None = None,
    any_name: bool = True,
    listed: FolderNames | None = None,
) -> dict[str, list[SplitPaths]]:
    """The splits of the folder `source`, whose label files are of the format called `name`.

    Each is a folder as the format itself lays it out, or its paths; several where the names YAML, which may be `names`,
    has several for it, or the folder has lists of several years: then one is empty where a year lacks the split. With
    `any_name` a single annotations file may be called anything. Who tries several formats has what was `listed`. Raises
    `NoLayoutError` where none fits, `ConfigError` for lists of images that are not there.
    """
    root = storage.locate(source).url
    if format_.WHOLE:
        found = whole_files(root, formats.load_single_file(name), task, any_name=any_name)
    else:
        layout = format_.layout("x", task)
        beside = layout["labels"] == "x"  # label files are beside their images
        named = NamedSplits(root, names) if not beside else None
        if named is not None and named.found:
            of_names: dict[str, list[SplitPaths]] = {split: [*paths] for split, paths in named.found.items()}
            return of_names | (_called(root, formats.load_label_files(name), named, task) if named.absent else {})
        listed = listed or FolderNames()
        if beside and (by_list := _listed_splits(root, format_.SUFFIX, listed)):
            return by_list
        found = _per_file(root, formats.load_label_files(name), task, beside=beside)
        whole = found.get("train")  # of a format whose label files are beside images all of a folder may be one split
        of_all = beside and len(found) == 1 and isinstance(whole, dict) and whole["labels"] == whole["images"] == root
        if of_all and (deep := deep_splits(listed.below(root), format_.SUFFIX)):
            return {split: [*paths] for split, paths in deep.items()}
        if named is not None and named.lacking and list(found) == ["train"]:
            file, split, value = named.lacking[0]
            raise ConfigError(
                f"{file}: {split} is {value}, a list of images that is not in {root}; put it there, or remove the line "
                "to take all images for train"
            )
    if found:
        return {split: [paths] for split, paths in found.items()}
    if format_.WHOLE and (
        files := [f for b in ("", "annotations") for f in annotations_files(root, b, format_.SUFFIX)]
    ):
        shown = " and ".join(files[:2]) + (f" and {len(files) - 2} more" if len(files) > 2 else "")
        raise NoLayoutError(
            f"{source}: no file is called as one of the splits train, val and test ({shown}); write a config that "
            "names the annotations and images of each split in source.splits"
        )
    example = " and ".join(format_.layout("train2017", task).values())
    raise NoLayoutError(
        f"{source}: has none of the splits train, val and test as format {name} lays them out, for "
        f"example {example}, nor as Roboflow, CVAT and Label Studio do; for any other layout write a "
        "config"
    )


def find_names(source: str) -> str | None:
    """The file with the class names of the folder `source`, below it, where a tool left one.

    That is one of a known name, or the only YAML that there is, if it names splits, too, as that of a zip for a cloud
    does: a YAML of names alone may be that of the classes that somebody wants.
    """
    location = storage.locate(source)
    if not location.exists():
        return None
    there = location.exist_many(_NAMES_FILES)
    if any(there):
        return _NAMES_FILES[list(there).index(True)]
    alone = [name for name in location.flat_names("") if name.lower().endswith((".yaml", ".yml"))]
    if len(alone) != 1:
        return None
    data = data_of((location.read(alone[0]) or b"").decode("utf-8-sig", "replace"), alone[0])
    return alone[0] if "names" in data and {"train", "val"} & data.keys() else None


def only_folder(source: str, listed: FolderNames) -> str | None:
    """The one folder in the folder `source`, hidden ones and a Mac's apart; None where there are none or several."""
    names = {path.split("/")[0] for path in listed.below(storage.locate(source).url) if "/" in path}
    shown = [name for name in names if not name.startswith(".") and name != "__MACOSX"]
    return storage.locate(source).below(shown[0]).url if len(shown) == 1 else None


def has_labels(
    source: str, splits: Mapping[str, list[SplitPaths]], format_: formats.Format, task: Task, listed: FolderNames
) -> bool:
    """Whether the splits that were found have a label file: every folder looks like one with files beside images."""
    if format_.WHOLE:
        return True
    root = storage.locate(source).url
    each = [paths for several in splits.values() for paths in several if paths]
    folders = [p["labels"] if isinstance(p, dict) else format_.layout(p, task)["labels"] for p in each]
    return any(
        name.lower().endswith(format_.SUFFIX)
        for folder in folders
        for name in listed.below(storage.locate_below(root, folder).url)
    )


def _per_file(root: str, format_: formats.LabelFileFormat, task: Task, *, beside: bool) -> dict[str, SplitPaths]:
    found = {} if beside else _side_by_side(root, format_, task)
    if found or not storage.locate(root).exists():
        return found
    for split, folder in split_folders(root, ""):
        if (apart := _apart(root, f"{folder}/", format_.SUFFIX)) is not None:
            add_split(found, split, apart, root)
        elif beside:
            add_split(found, split, folder, root)
        elif _has(root, folder, format_.SUFFIX):
            add_split(found, split, {"labels": folder, "images": folder}, root)
    for split, usual in format_.SPLIT_FOLDERS.items():
        words = [*FOLDERS[split], *map(str.capitalize, FOLDERS[split])]
        called = [usual, *(format_.SPLIT_FOLDERS["train"].replace("train", word) for word in words)]
        for folder in [name for name in called if is_folder(root, name)][:1]:
            found.setdefault(split, {"labels": folder, "images": folder})
    if found and _is_loose(root, "", "", format_.SUFFIX):
        add_split(found, "train", {"labels": root, "images": root}, root)
    if found:
        return found
    return (
        {"train": {"labels": root, "images": root}}
        if beside and _apart(root, "", format_.SUFFIX) is None
        else (_without_splits(root, format_.SUFFIX))
    )


def _side_by_side(root: str, format_: formats.LabelFileFormat, task: Task) -> dict[str, SplitPaths]:
    """The splits in one folder of all label files, beside one of all images: ``labels/train`` and ``images/train``."""
    found: dict[str, SplitPaths] = {}
    for labels in LABEL_FOLDERS:
        if not is_folder(root, labels):  # one request at a store, where each name of a split is one
            continue
        for split, folder in split_folders(root, labels):
            if labels != "labels" and not _has(root, f"{labels}/{folder}", format_.SUFFIX):
                continue
            there = (f"{images}/{folder}" for images in IMAGE_FOLDERS if is_folder(root, f"{images}/{folder}"))
            paths = {"labels": f"{labels}/{folder}", "images": next(there, f"images/{folder}")}
            add_split(found, split, folder if format_.layout(folder, task) == paths else {**paths}, root)
        if found and _is_loose(root, labels, "images", format_.SUFFIX):
            loose = {"labels": labels, "images": "images"}
            add_split(found, "train", {kind: storage.locate_below(root, at).url for kind, at in loose.items()}, root)
        if found:
            break
    return found


def _called(root: str, format_: formats.LabelFileFormat, named: NamedSplits, task: Task) -> dict[str, list[SplitPaths]]:
    """The folders called as splits that `named` has under names of no folder: ``val`` where a YAML says ``valid``."""
    with contextlib.suppress(ConfigError):  # several are
        there = _per_file(root, format_, task, beside=False)
        pairs = {s: p if isinstance(p, dict) else format_.layout(p, task) for s, p in there.items()}
        known = [paths["images"] for several in named.found.values() for paths in several]
        return {split: [pairs[split]] for split in named.absent & pairs.keys() if pairs[split]["images"] not in known}
    return {}


def _listed_splits(root: str, suffix: str, listed: FolderNames) -> dict[str, list[SplitPaths]]:
    """The splits of the folders, `root` or some two below it, whose lists name their images: the years of VOCdevkit."""
    if not storage.locate(root).exists():
        return {}
    lists = (f"/{path}".partition("/ImageSets/") for path in listed.below(root) if "ImageSets/" in path)
    homes = {f"{head}/".removeprefix("/") for head, step, _ in lists if step}
    folders = ((home, _apart(root, home, suffix)) for home in sorted(homes) if home.count("/") <= _DEEPEST)
    years: list[dict[str, SplitPaths]] = [
        {split: {**apart, "image_list": path} for split, path in of_home.items()}
        for home, apart in folders
        if apart is not None and (of_home := _lists(root, home))
    ]
    return {split: [year.get(split, {}) for year in years] for split in _LISTS if any(split in year for year in years)}


def _lists(root: str, home: str) -> dict[str, str]:
    """The list of images of each split of the folder `home` below `root`; none of val where train is both."""
    found: dict[str, str] = {}
    for split, names in _LISTS.items():
        paths = [f"{home}{folder}/{name}.txt" for folder in _LIST_FOLDERS for name in names]
        there = [path for path in paths if is_file(root, path)]
        found |= {split: there[0]} if there else {}
    return found


def _is_loose(root: str, labels: str, images: str, suffix: str) -> bool:
    """Whether an image and its label file are right in the folders that have those of the splits."""
    there = storage.locate_below(root, labels) if labels else storage.locate(root)
    names = map(os.path.splitext, there.flat_names("") if there.exists() else ())
    return not stems_of_images(root, images).isdisjoint(stem for stem, end in names if end.lower() == suffix)


def _apart(root: str, below: str, suffix: str) -> dict[str, str] | None:
    """The folders of label files and of images, side by side; None where they are not there."""
    labels = [n for n in LABEL_FOLDERS if is_folder(root, f"{below}{n}") and _has(root, f"{below}{n}", suffix)]
    images = [n for n in IMAGE_FOLDERS if is_folder(root, f"{below}{n}")]
    return {"labels": f"{below}{labels[0]}", "images": f"{below}{images[0]}"} if labels and images else None


def _without_splits(root: str, suffix: str) -> dict[str, SplitPaths]:
    """All of a folder as train: Label Studio's ``labels`` and ``images``, or label files beside their images."""
    if is_folder(root, "labels") and is_folder(root, "images"):
        return {"train": {kind: storage.locate_below(root, kind).url for kind in ("labels", "images")}}
    if (apart := _apart(root, "", suffix)) is not None:
        return {"train": {kind: storage.locate_below(root, folder).url for kind, folder in apart.items()}}
    if _has(root, "", suffix) and stems_of_images(root, ""):
        return {"train": {"labels": root, "images": root}}
    return {}


def _has(root: str, folder: str, suffix: str) -> bool:
    """Whether a file right in `folder` below `root` has `suffix`."""
    return any(name.lower().endswith(suffix) for name in storage.locate(root).flat_names(folder))
