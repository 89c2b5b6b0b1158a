"""Where the annotations files of splits are, of formats of which one file, or some, hold all labels of a split."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, cast

from pipeline import formats, storage
from pipeline.base.errors import ConfigError
from pipeline.base.terms import IMAGE_SUFFIXES, Task
from pipeline.job.split_folders import (
    FOLDERS,
    IMAGE_FOLDERS,
    NoLayoutError,
    SplitPaths,
    add_split,
    is_file,
    is_folder,
    split_folders,
)

#: What annotations files are called that have no objects of any task.
_OTHER_KINDS = ("captions", "panoptic", "stuff", "image_info")

#: Where the files of a split that has several are: in one folder, or in those of the split, as FiftyOne has them.
_FILES_FOLDERS = ("", "annotations", "{}/labels", "{}/metadata")


def whole_files(root: str, format_: formats.SingleFileFormat, task: Task, *, any_name: bool) -> dict[str, SplitPaths]:
    """The splits of a folder, or of the file `root`; with `any_name` also of a file that no tool calls so."""
    if os.path.isfile(root) and not root.lower().endswith(format_.SUFFIX):
        return {}
    if format_.SEVERAL_FILES and not os.path.isfile(root):
        return _by_names(root, cast("formats.SeveralFilesFormat", format_))
    if format_.HOLDS_SPLITS:
        return _several(root, cast("formats.SplitFileFormat", format_), any_name=any_name)
    if os.path.isfile(root):
        return {"train": {"annotations": root, "images": _images_beside(root)}}
    found: dict[str, SplitPaths] = {}
    for split, folder in split_folders(root, "") if format_.FILE_BESIDE_IMAGES is not None else ():
        beside = f"{folder}/{format_.FILE_BESIDE_IMAGES}"
        if is_file(root, beside):
            add_split(found, split, {"annotations": beside, "images": folder}, root)
    files = [path for below in ("", "annotations") for path in annotations_files(root, below, format_.SUFFIX)]
    for split, names in FOLDERS.items():
        if split in found:
            continue
        usual = [(format_.layout(folder, task)["annotations"], folder) for folder in names]
        path = next((path for path, _ in usual if is_file(root, path)), None)
        path = path or _likeliest([path for path in files if _split_of(path) == split], task)
        if path is not None:
            folder = dict(usual).get(path) or os.path.splitext(path)[0].rpartition("_")[2].rpartition("/")[2]
            images = _image_folder(root, (folder, *names))
            layout = {"annotations": path, "images": images}
            found[split] = folder if layout == format_.layout(folder, task) else layout
        elif (within := _within(root, names, format_, task)) is not None:
            found[split] = within
    if not {"train", "val"} & found.keys() and (path := _likeliest([f for f in files if _is_trainval(f)], task)):
        found["train"] = {"annotations": path, "images": _image_folder(root, ("trainval", *FOLDERS["train"]))}
    if found:
        return found
    known = [name for name in format_.FILES if is_file(root, name)]
    files = _of_many_images(root, files, _image_folder(root, ()), format_) if any_name else []
    alone = known[:1] or (files if len(files) == 1 else [])
    return {"train": {"annotations": alone[0], "images": _image_folder(root, ())}} if alone else {}


def _by_names(root: str, format_: formats.SeveralFilesFormat) -> dict[str, SplitPaths]:
    """The splits whose files, in one of `_FILES_FOLDERS`, are called as the format's dataset calls them."""
    words = [word for known in FOLDERS.values() for word in known]
    names: list[str] = []
    for below in dict.fromkeys(folder.format(word) for folder in _FILES_FOLDERS for word in words):
        folder = storage.locate_below(root, below) if below else storage.locate(root)
        names += [os.path.join(below, name) for name in sorted(folder.flat_names("") if folder.exists() else ())]
    found: dict[str, SplitPaths] = {}
    for split, files in format_.files_of_splits(names).items():
        own = [f"{word}/data" for word in FOLDERS[split]]
        images = next((f for f in own if is_folder(root, f)), None) or _image_folder(root, FOLDERS[split])
        found[split] = {"annotations": files, "images": images}
    return found


def _several(root: str, format_: formats.SplitFileFormat, *, any_name: bool) -> dict[str, SplitPaths]:
    """The splits that one file says it has: ``root`` itself, or the file in it, of a known name or the only one.

    A folder may have a file for each split instead, called as that, or in a folder that is.
    """
    path, folder = root, os.path.dirname(root)
    is_folder = not os.path.isfile(root)
    if is_folder:
        folder = root
        files = annotations_files(root, "", format_.SUFFIX)
        known = [name for name in format_.FILES if name in files]
        if not known and (apart := _file_a_split(root, files, format_)):
            return apart
        alone = known[:1] or (files if any_name and len(files) == 1 else [])
        if not alone:
            return {}
        path = alone[0]
    shown = storage.locate(folder).join(path) if is_folder else path
    try:
        found = format_.contents(pieces_of(folder, path))
    except formats.Malformed as error:
        # A folder may be of another format, of which one file is called as those of this one.
        kind = NoLayoutError if is_folder and not _begins_as(root, path, format_) else ConfigError
        raise kind(f"{shown}{f':{error.line}' if error.line else ''}: {error}") from None
    return _paths_of(path, folder, found)


def _file_a_split(root: str, files: Sequence[str], format_: formats.SplitFileFormat) -> dict[str, SplitPaths]:
    """The splits of a folder with a file for each: ``train.xml`` of its `files`, ``train/annotations.xml``."""
    tries = [
        (split, word, path)
        for split, names in FOLDERS.items()
        for name in names
        for word in (name, name.capitalize())
        for path in (f"{word}{format_.SUFFIX}", *(f"{word}/{file}" for file in format_.FILES))
    ]
    below = [path for *_, path in tries if "/" in path]
    location = storage.locate(root)
    there = {*files, *itertools.compress(below, location.exist_many(below) if location.exists() else ())}
    paths: dict[str, SplitPaths] = {}
    for split, word, path in tries:
        if path in there and split not in paths and _begins_as(root, path, format_):
            own = [f"{word}/images", f"images/{word}", word, "images"]
            images = next((folder for folder in own if is_folder(root, folder) and folder != os.path.dirname(path)), "")
            images = images or os.path.dirname(path)
            where = storage.locate_below(root, images).url if images else root
            paths[split] = {"annotations": path, "images": where}
    return paths


def _begins_as(root: str, path: str, format_: formats.SingleFileFormat, *, empty: bool = True) -> bool:
    """Whether a file begins as those of a format do; one that is `empty` may be of any."""
    head = next(pieces_of(root, path), b"")
    return (empty or bool(head.strip())) and format_.recognises(head)


def _paths_of(path: str, folder: str, found: formats.FileContents) -> dict[str, SplitPaths]:
    """Where the splits are that the file at `path`, in `folder`, says it has."""
    paths: dict[str, SplitPaths] = {}
    for split in found.splits:
        said = [where for where in found.folders.get(split, ()) if is_folder(folder, where)]
        own = [os.path.join(found.folder, "images", split), os.path.join("images", split), split]
        own += [*IMAGE_FOLDERS, "."]
        within = (f for f in map(os.path.normpath, own) if not f.startswith(("/", "..")))
        likely = (f for f in within if _has_images(folder, f))
        images = next(itertools.chain(said, likely), None)
        where: Any = storage.locate(folder).below(os.path.normpath(images)).url if images not in (None, ".") else folder
        if images is None and found.server is not None:
            if found.signed:
                raise ConfigError(
                    f"{path}: the addresses of its images are signed, and soon out of date; download the images into "
                    "images/<split> beside it"
                )
            where = {"url": found.server, "suffix": ".jpg"}
        paths[split] = {"annotations": path, "images": where}
    return paths


def _has_images(root: str, folder: str) -> bool:
    """Whether a folder has an image right in it."""
    return bool(stems_of_images(root, "" if folder == "." else folder))


def pieces_of(root: str, path: str) -> Iterator[bytes]:
    """The bytes of the file at `path`, absolute or below the folder `root`, a piece at a time."""
    folder, name = os.path.split(path)
    location = storage.locate_below(root, folder) if folder else storage.locate(root)
    return storage.pieces_of(location, name)


def _within(root: str, names: Sequence[str], format_: formats.SingleFileFormat, task: Task) -> SplitPaths | None:
    """The one annotations file in a folder called as a split: ``train/labels.json``, ``annotations/train/all.json``.

    A file called as an image there is that image's alone, see `_of_many_images`.
    """
    for word in dict.fromkeys([*names, *map(str.capitalize, names)]):
        for folder in (word, f"{word}/annotations", f"annotations/{word}", f"labels/{word}", f"images/{word}"):
            files = annotations_files(root, folder, format_.SUFFIX)
            if not files:
                continue
            own = [f"{word}/{inner}" for inner in IMAGE_FOLDERS] + [f"images/{word}", word]
            images = next((f for f in own if stems_of_images(root, f)), None) or _image_folder(root, ())
            best = _ranked(_of_many_images(root, files, images, format_), task)
            best = [path for path in best if os.path.basename(path) in format_.FILES] or best
            if len(best) == 1:
                return {"annotations": best[0], "images": images}
    return None


def _has_image(root: str, path: str, images: str) -> bool:
    """Whether a label file is called as an image, beside it or in the folder `images`."""
    stem = os.path.splitext(os.path.basename(path))[0]
    return any(stem in stems_of_images(root, folder) for folder in dict.fromkeys((os.path.dirname(path), images)))


def _of_many_images(root: str, files: list[str], images: str, format_: formats.SingleFileFormat) -> list[str]:
    """Those of `files` that are not called as an image, in the folder `images` or beside them.

    Where all are, those that begin as the format's: that of one picture may be called as it.
    """
    apart = [path for path in files if not _has_image(root, path, images)]
    return apart or [path for path in files if _begins_as(root, path, format_, empty=False)]


def stems_of_images(root: str, folder: str) -> set[str]:
    """The names, without suffixes, of the images right in a folder."""
    there = storage.locate_below(root, folder) if folder else storage.locate(root)
    names = map(os.path.splitext, there.flat_names("") if there.exists() else ())
    return {stem for stem, suffix in names if suffix.lower() in IMAGE_SUFFIXES}


def annotations_files(root: str, below: str, suffix: str) -> list[str]:
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
    return next((split for word in (words[-1], words[0]) for split, names in FOLDERS.items() if word in names), None)


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
            if is_folder(root, folder):
                return folder
    return next((folder for folder in IMAGE_FOLDERS if is_folder(root, folder)), ".")


def _images_beside(annotations: str) -> str:
    """The folder of images of an annotations file: ``images`` beside it, its own if that has some, or of its split."""
    folder, name = os.path.split(annotations)
    if os.path.isdir(beside := os.path.join(folder, "images")):
        return beside
    if _has_images(folder, "."):
        return folder
    root = os.path.dirname(folder) if os.path.basename(folder) == "annotations" else folder
    images = _image_folder(root, (os.path.splitext(name)[0].rpartition("_")[2],))
    return folder if images == "." else os.path.join(root, images)
