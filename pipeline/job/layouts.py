"""Where the splits of a folder are, as COCO, Roboflow, CVAT, Label Studio, labelImg and DOTA have them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from pipeline import formats, storage
from pipeline.base.errors import ConfigError
from pipeline.base.terms import IMAGE_SUFFIXES, Task
from pipeline.job.named_splits import NamedSplits, data_of

#: What folders of a split are called, in lower case, in COCO's layout and in everybody's.
_FOLDERS = {
    "train": ("train2017", "train2014", "train", "training"),
    "val": ("val2017", "val2014", "val", "valid", "validation"),
    "test": ("test2017", "test2015", "test2014", "test", "testing"),
}

#: What annotations files are called that have no objects of any task.
_OTHER_KINDS = ("captions", "panoptic", "stuff", "image_info")

#: Folders of the images of all splits: most people's, CVAT's, FiftyOne's, labelme2coco's.
_IMAGE_FOLDERS = ("images/default", "images", "data", "JPEGImages", "imgs")

#: Folders of label files beside one of images.
_LABEL_FOLDERS = ("labels", "Annotations", "annotations", "jsons", "json", "labelTxt", "labelTxt-v1.0", "annfiles")

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

#: Where the files of a split that has several are: in one folder, or in those of the split, as FiftyOne has them.
_FILES_FOLDERS = ("", "annotations", "{}/labels", "{}/metadata")

SplitPaths = str | dict[str, Any]

_PIECE = 1 << 20


class NoLayoutError(ConfigError):
    """A folder is not laid out as any tool does for a format."""


def find_splits(
    source: str, name: str, format_: formats.Format, task: Task, *, names: str | None = None, any_name: bool = True
) -> dict[str, list[SplitPaths]]:
    """The splits of the folder `source`, whose label files are of the format called `name`.

    Each is a folder as the format itself lays it out, or its paths; several where the names YAML, which may be `names`,
    has several for it, or the folder has lists of several years: then one is empty where a year lacks the split. With
    `any_name` a single annotations file may be called anything. Raises `NoLayoutError` where none fits, `ConfigError`
    for lists of images that are not there.
    """
    root = storage.locate(source).url
    if format_.WHOLE:
        found = _whole(root, formats.load_single_file(name), task, any_name=any_name)
    else:
        layout = format_.layout("x", task)
        beside = layout["labels"] == "x"  # label files are beside their images
        named = NamedSplits(root, names) if not beside else None
        if named is not None and named.found:
            of_names: dict[str, list[SplitPaths]] = {split: [*paths] for split, paths in named.found.items()}
            return of_names | (_called(root, formats.load_label_files(name), named, task) if named.absent else {})
        if beside and (by_list := _listed_splits(root, format_.SUFFIX)):
            return by_list
        found = _per_file(root, formats.load_label_files(name), beside=beside)
        if named is not None and named.lacking and list(found) == ["train"]:
            file, split, value = named.lacking[0]
            raise ConfigError(
                f"{file}: {split} is {value}, a list of images that is not in {root}; put it there, or remove the line "
                "to take all images for train"
            )
    if found:
        return {split: [paths] for split, paths in found.items()}
    if format_.WHOLE and (
        files := [f for b in ("", "annotations") for f in _annotations_files(root, b, format_.SUFFIX)]
    ):
        listed = " and ".join(files[:2]) + (f" and {len(files) - 2} more" if len(files) > 2 else "")
        raise NoLayoutError(
            f"{source}: no file is called as one of the splits train, val and test ({listed}); write a config that "
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


def only_folder(source: str) -> str | None:
    """The one folder in the folder `source`, hidden ones and a Mac's apart; None where there are none or several."""
    names = {path.split("/")[0] for path in storage.locate(source).names() if "/" in path}
    shown = [name for name in names if not name.startswith(".") and name != "__MACOSX"]
    return storage.locate(source).below(shown[0]).url if len(shown) == 1 else None


def has_labels(source: str, splits: Mapping[str, list[SplitPaths]], format_: formats.Format, task: Task) -> bool:
    """Whether the splits that were found have a label file: every folder looks like one with files beside images."""
    if format_.WHOLE:
        return True
    root = storage.locate(source).url
    each = [paths for several in splits.values() for paths in several if paths]
    folders = [p["labels"] if isinstance(p, dict) else format_.layout(p, task)["labels"] for p in each]
    return any(
        name.lower().endswith(format_.SUFFIX)
        for folder in folders
        for name in storage.locate_below(root, folder).names()
    )


def _whole(root: str, format_: formats.SingleFileFormat, task: Task, *, any_name: bool) -> dict[str, SplitPaths]:
    if os.path.isfile(root) and not root.lower().endswith(format_.SUFFIX):
        return {}
    if format_.SEVERAL_FILES and not os.path.isfile(root):
        return _by_names(root, cast("formats.SeveralFilesFormat", format_))
    if format_.HOLDS_SPLITS:
        return _several(root, cast("formats.SplitFileFormat", format_), any_name=any_name)
    if os.path.isfile(root):
        return {"train": {"annotations": root, "images": _images_beside(root)}}
    found: dict[str, SplitPaths] = {}
    for split, folder in _split_folders(root, "") if format_.FILE_BESIDE_IMAGES is not None else ():
        beside = f"{folder}/{format_.FILE_BESIDE_IMAGES}"
        if _is_file(root, beside):
            _add(found, split, {"annotations": beside, "images": folder}, root)
    files = [path for below in ("", "annotations") for path in _annotations_files(root, below, format_.SUFFIX)]
    for split, names in _FOLDERS.items():
        if split in found:
            continue
        usual = [(format_.layout(folder, task)["annotations"], folder) for folder in names]
        path = next((path for path, _ in usual if _is_file(root, path)), None)
        path = path or _likeliest([path for path in files if _split_of(path) == split], task)
        if path is not None:
            folder = dict(usual).get(path) or os.path.splitext(path)[0].rpartition("_")[2].rpartition("/")[2]
            images = _image_folder(root, (folder, *names))
            layout = {"annotations": path, "images": images}
            found[split] = folder if layout == format_.layout(folder, task) else layout
        elif (within := _within(root, names, format_, task)) is not None:
            found[split] = within
    if not {"train", "val"} & found.keys() and (path := _likeliest([f for f in files if _is_trainval(f)], task)):
        found["train"] = {"annotations": path, "images": _image_folder(root, ("trainval", *_FOLDERS["train"]))}
    if found:
        return found
    known = [name for name in format_.FILES if _is_file(root, name)]
    files = [path for path in files if not _has_image(root, path, _image_folder(root, ()))] if any_name else []
    alone = known[:1] or (files if len(files) == 1 else [])
    return {"train": {"annotations": alone[0], "images": _image_folder(root, ())}} if alone else {}


def _by_names(root: str, format_: formats.SeveralFilesFormat) -> dict[str, SplitPaths]:
    """The splits whose files, in one of `_FILES_FOLDERS`, are called as the format's dataset calls them."""
    words = [word for known in _FOLDERS.values() for word in known]
    names: list[str] = []
    for below in dict.fromkeys(folder.format(word) for folder in _FILES_FOLDERS for word in words):
        folder = storage.locate_below(root, below) if below else storage.locate(root)
        names += [os.path.join(below, name) for name in sorted(folder.flat_names("") if folder.exists() else ())]
    found: dict[str, SplitPaths] = {}
    for split, files in format_.files_of_splits(names).items():
        own = [f"{word}/data" for word in _FOLDERS[split]]
        images = next((f for f in own if _is_folder(root, f)), None) or _image_folder(root, _FOLDERS[split])
        found[split] = {"annotations": files, "images": images}
    return found


def _several(root: str, format_: formats.SplitFileFormat, *, any_name: bool) -> dict[str, SplitPaths]:
    """The splits that one file says it has: ``root`` itself, or the file in it, of a known name or the only one."""
    path = named = root
    folder = os.path.dirname(root)
    if not os.path.isfile(root):
        folder = root
        files = _annotations_files(root, "", format_.SUFFIX)
        known = [name for name in format_.FILES if name in files]
        alone = known[:1] or (files if any_name and len(files) == 1 else [])
        if not alone:
            return {}
        path, named = storage.locate(root).join(alone[0]), alone[0]
    try:
        found = format_.contents(pieces_of(path))
    except formats.Malformed as error:
        raise ConfigError(f"{path}{f':{error.line}' if error.line else ''}: {error}") from None
    paths: dict[str, SplitPaths] = {}
    for split in found.splits:
        own = [os.path.join(found.folder, "images", split), os.path.join("images", split), split, "images", "."]
        within = [f for f in map(os.path.normpath, own) if not f.startswith(("/", ".."))]
        images = next((f for f in within if _has_images(folder, f)), None)
        where: Any = storage.locate(folder).below(images).url if images not in (None, ".") else folder
        if images is None and found.server is not None:
            if found.signed:
                raise ConfigError(
                    f"{path}: the addresses of its images are signed, and soon out of date; download the images into "
                    "images/<split> beside it"
                )
            where = {"url": found.server, "suffix": ".jpg"}
        paths[split] = {"annotations": named, "images": where}
    return paths


def _has_images(root: str, folder: str) -> bool:
    """Whether a folder has an image right in it."""
    return bool(_stems_of_images(root, "" if folder == "." else folder))


def pieces_of(path: str) -> Iterator[bytes]:
    """The bytes of a file, a piece at a time."""
    location, name = storage.locate_file(path)
    (size,) = location.sizes([name])
    parts = [(begin, min(begin + _PIECE, size or 0)) for begin in range(0, size or 0, _PIECE)]
    return (data for _, data in location.read_parts(name, parts, 1))


def _within(root: str, names: Sequence[str], format_: formats.SingleFileFormat, task: Task) -> SplitPaths | None:
    """The one annotations file in a folder called as a split: ``train/labels.json``, ``annotations/train/all.json``.

    A file called as an image there is that image's alone.
    """
    for word in dict.fromkeys([*names, *map(str.capitalize, names)]):
        for folder in (word, f"{word}/annotations", f"annotations/{word}", f"labels/{word}", f"images/{word}"):
            files = _annotations_files(root, folder, format_.SUFFIX)
            if not files:
                continue
            own = [f"{word}/{inner}" for inner in _IMAGE_FOLDERS] + [f"images/{word}", word]
            images = next((f for f in own if _stems_of_images(root, f)), None) or _image_folder(root, ())
            files = [path for path in files if not _has_image(root, path, images)]
            best = _ranked(files, task)
            best = [path for path in best if os.path.basename(path) in format_.FILES] or best
            if len(best) == 1:
                return {"annotations": best[0], "images": images}
    return None


def _has_image(root: str, path: str, images: str) -> bool:
    """Whether a label file is called as an image, beside it or in the folder `images`."""
    stem = os.path.splitext(os.path.basename(path))[0]
    return any(stem in _stems_of_images(root, folder) for folder in dict.fromkeys((os.path.dirname(path), images)))


def _stems_of_images(root: str, folder: str) -> set[str]:
    """The names, without suffixes, of the images right in a folder."""
    there = storage.locate_below(root, folder) if folder else storage.locate(root)
    names = map(os.path.splitext, there.flat_names("") if there.exists() else ())
    return {stem for stem, suffix in names if suffix.lower() in IMAGE_SUFFIXES}


def _annotations_files(root: str, below: str, suffix: str) -> list[str]:
    """The files right in a folder that may hold the objects of a split, sorted; paths below `root`."""
    folder = storage.locate_below(root, below) if below else storage.locate(root)
    names = sorted(folder.flat_names("")) if folder.exists() else []
    return [
        os.path.join(below, name)
        for name in names
        if name.lower().endswith(suffix) and not name.startswith(("._", *_OTHER_KINDS))
    ]


def _split_of(path: str) -> str | None:
    """The split whose name a file has at the end of its own, or at its beginning: instances_Train, val_annotations."""
    words = re.split(r"[^a-z0-9]+", os.path.splitext(os.path.basename(path))[0].lower())
    return next((split for word in (words[-1], words[0]) for split, names in _FOLDERS.items() if word in names), None)


def _is_trainval(path: str) -> bool:
    """Whether a file is called as train and val together are: it is train where neither is there alone."""
    return "trainval" in re.split(r"[^a-z]+", os.path.basename(path).lower())


def _likeliest(files: list[str], task: Task) -> str | None:
    """Of several files of a split the one for the task; raises `ConfigError` where two are as likely."""
    best = _ranked(files, task)
    if len(best) > 1:
        raise ConfigError(
            f"{best[0]} and {best[1]} are both {_split_of(best[0]) or 'train'}; rename one, or write a config"
        )
    return best[0] if best else None


def _ranked(files: list[str], task: Task) -> list[str]:
    """Of several files those that are likeliest for the task, by their names."""
    kinds = ("person_keypoints", "instances") if task is Task.POSE else ("instances", "person_keypoints")
    ranks = [next((n for n, kind in enumerate(kinds) if os.path.basename(f).startswith(kind)), 2) for f in files]
    return [path for path, rank in zip(files, ranks, strict=True) if rank == min(ranks)]


def _image_folder(root: str, names: Sequence[str]) -> str:
    """The folder of a split's images: called as the split, by itself or in `images`, else the one of all images."""
    for name in dict.fromkeys([*names, *map(str.capitalize, names)]):
        for folder in (name, f"images/{name}"):
            if _is_folder(root, folder):
                return folder
    return next((folder for folder in _IMAGE_FOLDERS if _is_folder(root, folder)), ".")


def _images_beside(annotations: str) -> str:
    """The folder of images of an annotations file: ``images`` beside it if it is there, else the file's own folder."""
    folder = os.path.dirname(annotations)
    images = os.path.join(folder, "images")
    return images if os.path.isdir(images) else folder


def _per_file(root: str, format_: formats.LabelFileFormat, *, beside: bool) -> dict[str, SplitPaths]:
    found: dict[str, SplitPaths] = {}
    for split, folder in [] if beside else _split_folders(root, "labels"):
        _add(found, split, folder, root)
    if found and _is_loose(root, "labels", "images", format_.SUFFIX):
        _add(found, "train", {kind: storage.locate_below(root, kind).url for kind in ("labels", "images")}, root)
    if found or not storage.locate(root).exists():
        return found
    for split, folder in _split_folders(root, ""):
        if (apart := _apart(root, f"{folder}/", format_.SUFFIX)) is not None:
            _add(found, split, apart, root)
        elif beside:
            _add(found, split, folder, root)
        elif _has(root, folder, format_.SUFFIX):
            _add(found, split, {"labels": folder, "images": folder}, root)
    for split, usual in format_.SPLIT_FOLDERS.items():
        words = [*_FOLDERS[split], *map(str.capitalize, _FOLDERS[split])]
        called = [usual, *(format_.SPLIT_FOLDERS["train"].replace("train", word) for word in words)]
        for folder in [name for name in called if _is_folder(root, name)][:1]:
            found.setdefault(split, {"labels": folder, "images": folder})
    if found and _is_loose(root, "", "", format_.SUFFIX):
        _add(found, "train", {"labels": root, "images": root}, root)
    if found:
        return found
    return (
        {"train": {"labels": root, "images": root}}
        if beside and _apart(root, "", format_.SUFFIX) is None
        else (_without_splits(root, format_.SUFFIX))
    )


def _called(root: str, format_: formats.LabelFileFormat, named: NamedSplits, task: Task) -> dict[str, list[SplitPaths]]:
    """The folders called as splits that `named` has under names of no folder: ``val`` where a YAML says ``valid``."""
    with contextlib.suppress(ConfigError):  # several are
        there = _per_file(root, format_, beside=False)
        pairs = {s: p if isinstance(p, dict) else format_.layout(p, task) for s, p in there.items()}
        known = [paths["images"] for several in named.found.values() for paths in several]
        return {split: [pairs[split]] for split in named.absent & pairs.keys() if pairs[split]["images"] not in known}
    return {}


def _listed_splits(root: str, suffix: str) -> dict[str, list[SplitPaths]]:
    """The splits of the folders, `root` or some two below it, whose lists name their images: the years of VOCdevkit."""
    location = storage.locate(root)
    if not location.exists():
        return {}
    listed = (f"/{path}".partition("/ImageSets/") for path in location.names() if "ImageSets/" in path)
    homes = {f"{head}/".removeprefix("/") for head, step, _ in listed if step}
    folders = ((home, _apart(root, home, suffix)) for home in sorted(homes) if home.count("/") <= _DEEPEST)
    years: list[dict[str, SplitPaths]] = [
        {split: {**apart, "image_list": path} for split, path in lists.items()}
        for home, apart in folders
        if apart is not None and (lists := _lists(root, home))
    ]
    return {split: [year.get(split, {}) for year in years] for split in _LISTS if any(split in year for year in years)}


def _lists(root: str, home: str) -> dict[str, str]:
    """The list of images of each split of the folder `home` below `root`; none of val where train is both."""
    found: dict[str, str] = {}
    for split, names in _LISTS.items():
        paths = [f"{home}{folder}/{name}.txt" for folder in _LIST_FOLDERS for name in names]
        there = [path for path in paths if _is_file(root, path)]
        found |= {split: there[0]} if there else {}
    return found


def _is_loose(root: str, labels: str, images: str, suffix: str) -> bool:
    """Whether an image and its label file are right in the folders that have those of the splits."""
    there = storage.locate_below(root, labels) if labels else storage.locate(root)
    names = map(os.path.splitext, there.flat_names("") if there.exists() else ())
    return not _stems_of_images(root, images).isdisjoint(stem for stem, end in names if end.lower() == suffix)


def _apart(root: str, below: str, suffix: str) -> dict[str, str] | None:
    """The folders of label files and of images, side by side; None where they are not there."""
    labels = [n for n in _LABEL_FOLDERS if _is_folder(root, f"{below}{n}") and _has(root, f"{below}{n}", suffix)]
    images = [n for n in _IMAGE_FOLDERS if _is_folder(root, f"{below}{n}")]
    return {"labels": f"{below}{labels[0]}", "images": f"{below}{images[0]}"} if labels and images else None


def _without_splits(root: str, suffix: str) -> dict[str, SplitPaths]:
    """All of a folder as train: Label Studio's ``labels`` and ``images``, or label files beside their images."""
    if _is_folder(root, "labels") and _is_folder(root, "images"):
        return {"train": {kind: storage.locate_below(root, kind).url for kind in ("labels", "images")}}
    if (apart := _apart(root, "", suffix)) is not None:
        return {"train": {kind: storage.locate_below(root, folder).url for kind, folder in apart.items()}}
    if _has(root, "", suffix) and _stems_of_images(root, ""):
        return {"train": {"labels": root, "images": root}}
    return {}


def _is_folder(root: str, folder: str) -> bool:
    return storage.locate_below(root, folder).has_files()


def _is_file(root: str, path: str) -> bool:
    folder, name = os.path.split(path)
    there = storage.locate_below(root, folder) if folder else storage.locate(root)
    return bool(there.exist_many([name])[0])


def _has(root: str, folder: str, suffix: str) -> bool:
    """Whether a file right in `folder` below `root` has `suffix`."""
    return any(name.lower().endswith(suffix) for name in storage.locate(root).flat_names(folder))


def _split_folders(root: str, below: str) -> Iterator[tuple[str, str]]:
    """Split and name of each folder right in `below` that is called as a split is, in the usual capitals."""
    for split, known in _FOLDERS.items():
        for name in known:
            there = [n for n in (name, name.capitalize(), name.upper()) if _is_folder(root, os.path.join(below, n))]
            yield from ((split, n) for n in there[:1])


def _add(found: dict[str, SplitPaths], split: str, paths: SplitPaths, root: str) -> None:
    if split in found:
        first, second = (p if isinstance(p, str) else next(iter(p.values())) for p in (found[split], paths))
        raise ConfigError(f"{root}: {first} and {second} are both {split}; rename one, or write a config")
    found[split] = paths
