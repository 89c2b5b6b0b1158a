"""The splits that Ultralytics' ``data.yaml``, or darknet's ``obj.data``, names: folders of images, and lists of them.

Paths follow Ultralytics' ``check_det_dataset``: they are below ``path``, which is below the YAML's folder, and one or
several a split. A text file is a list of images, one a line; the label file of an image is found by
``img2label_paths``: ``labels`` for the last ``images`` in its path, or beside it. Paths of another machine are used as
far as their end is here.
"""

from __future__ import annotations

import functools
import os
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline import storage
from pipeline.base.errors import ConfigError, MissingSourceError
from pipeline.base.yaml_document import parse_yaml
from pipeline.config.load import read_text

#: What data sets call the YAML that names their splits, the likeliest first; then darknet's file of the same.
_YAMLS = ("data.yaml", "data.yml", "dataset.yaml")
_FILES = (*_YAMLS, "obj.data")
_ENDS = (".yaml", ".yml", ".data")

_KEYS = (("train", "train"), ("val", "val"), ("valid", "val"), ("validation", "val"), ("test", "test"))

#: A longer list is not one of images; that of ten million is shorter.
MAX_LIST = 1 << 30

#: The paths of a split: labels, images and, where only some of them belong to it, ``image_list``.
Paths = dict[str, Any]


class NamedSplits:
    """The splits that the file of `root` names; that is `names`, if it is a YAML there, else the first of `_FILES`.

    `found` has the paths of each split, several where it has several folders; `absent` are splits that are named
    alone, by a folder that is not there; `lacking` the lists that are named, but are not there, as (file, split, list).
    Raises `ConfigError` for train or val without labels beside one with labels.
    """

    def __init__(self, root: str, names: str | None = None) -> None:
        self.found: dict[str, list[Paths]] = {}
        self.absent: set[str] = set()
        self.lacking: list[tuple[str, str, str]] = []
        self._unlabelled: list[str] = []
        local = storage.locate(root).local
        if local is None:
            self._add_remote(root)
            return
        path = _file_of_splits(local, names)
        data = _read(path) if path is not None else {}
        for split, values in own_values(data)[0]:
            if path is not None and values:
                self._add(local, str(data.get("path") or ""), path, split, values)
        self.absent -= self.found.keys()
        if self.found and self._unlabelled:
            raise ConfigError(self._unlabelled[0])

    def _add_remote(self, root: str) -> None:
        """The folders that are named in an archive or at a store, where nothing leads out of `root`; no lists."""
        location = storage.locate(root)
        name = next((n for n, there in zip(_YAMLS, location.exist_many(_YAMLS), strict=True) if there), None)
        data = data_of((location.read(name) or b"").decode("utf-8-sig", "replace"), name) if name is not None else {}
        for split, values in own_values(data)[0]:
            for value in values:
                images = "/".join(_plain_steps(value))
                labels = labels_of(images)
                pair = {"labels": labels, "images": images}
                if images and not self._is_known(pair) and all(location.below(f).has_files() for f in pair.values()):
                    self.found.setdefault(split, []).append(pair)
                elif images and not location.below(images).has_files():
                    self.absent.add(split)
        self.absent -= self.found.keys()

    def _add(self, root: str, below: str, file: str, split: str, values: list[str]) -> None:
        parts: list[Paths] = []
        for value in dict.fromkeys(values):
            there = next((p for p in _candidates(root, below, value) if os.path.exists(p)), None)
            if value.endswith(".txt"):
                if there is None:
                    self.lacking.append((file, split, value))
                else:
                    _merge(parts, listed_images(root, there))
                continue
            pair = _labels_and_images(root, there) if there is not None else None
            if pair is not None:
                parts.append({"labels": pair[0], "images": pair[1]})
            elif len(values) > 1:
                raise ConfigError(
                    f"{file}: {split} names {len(values)} folders, and {value} is not in {root}, or has no folder of "
                    "labels; put it there, or take it out of the list"
                )
            elif there is None:
                self.absent.add(split)
            elif os.path.isdir(there) and split != "test":  # whose labels are often a secret
                labels = labels_of(_below(root, there) or "")
                self._unlabelled.append(
                    f"{file}: {split} is {value}, whose folder of labels, {labels}, is not in {root}; put it there, or "
                    "remove the line"
                )
        if own := [part for part in parts if not self._is_known(part)]:
            self.found.setdefault(split, own)

    def _is_known(self, paths: Paths) -> bool:
        """Whether a split has these paths already: some validate on what they train with."""
        return any(paths in several for several in self.found.values())


def own_values(data: Mapping[str, Any]) -> tuple[list[tuple[str, list[str]]], list[tuple[str, str, str]]]:
    """The paths of each split that a YAML names, by the order of its keys, and those that a split before it has.

    The latter are (split, path, the split that has it): many validate on what they train with.
    """
    own, shared, owners = [], [], dict[str, str]()
    for key, split in _KEYS:
        values = [v for v in _listed(data.get(key)) if isinstance(v, str) and v.strip()]
        having = [owners.setdefault("/".join(_plain_steps(value)), split) for value in values]
        own.append((split, [v for v, owner in zip(values, having, strict=True) if owner == split]))
        shared += [(split, v, owner) for v, owner in zip(values, having, strict=True) if owner != split]
    return own, shared


def shared_splits(root: str | None, names: str | None) -> dict[str, str]:
    """By split what is to be said of it where the YAML names images for it that are those of another split."""
    local = storage.locate(root).local if root is not None else None
    path = (_file_of_splits(local, names) if local is not None else None) or names
    _, shared = own_values(_read(path)) if path is not None and path.endswith(_ENDS) else ([], [])
    return {
        split: f"{path} names {value} for {split} as for {other}; an image is of one split, so these are of {other}"
        for split, value, other in reversed(shared)
    }


def listed_images(root: str, path: str) -> Paths:
    """The paths of the split that the text file `path` lists: the folder of all its images, and that of their labels.

    Raises `ConfigError` where none of its folders is below `root`, or they have no common folder of labels.
    """
    folders = dict.fromkeys(posixpath.dirname(line) for line in image_lines(read_list(path)))
    here = [found for folder in folders if (found := _folder_of(root, os.path.dirname(path), folder)) is not None]
    if not here:
        if not folders:
            raise MissingSourceError(f"{path}: lists no image; restore it, or correct the config", path)
        raise ConfigError(f"{path}: none of its images is in a folder below {root}; correct its paths")
    images = os.path.commonpath(here) if len(here) > 1 else here[0]
    labels = labels_of(images)
    if any(labels_of(one) != os.path.normpath(os.path.join(labels, os.path.relpath(one, images))) for one in here):
        other = next((one for one in here if one.split("images")[0] != here[0].split("images")[0]), here[-1])
        raise ConfigError(
            f"{path}: lists images of folders whose labels have no folder in common ({here[0]}, {other}); write a "
            "config with a source for each, each with this image_list"
        )
    listed = os.path.relpath(os.path.abspath(path), os.path.abspath(root))
    return {"labels": labels, "images": images, "image_list": listed}


def read_list(path: str) -> str:
    """The text of a list of images of this machine, which is read once while it stays the same; see `read_text`."""
    folder, name = os.path.split(os.path.abspath(path))
    (found,) = storage.locate(folder).fingerprints([name])
    return _list_of(path, found and found.mark)


@functools.lru_cache(maxsize=8)
def _list_of(path: str, mark: bytes | None) -> str:
    del mark
    return read_text(path, "image list", MAX_LIST)


def forget_lists() -> None:
    """Let go of the lists that were read."""
    _list_of.cache_clear()


def image_lines(text: str) -> list[str]:
    """The paths of a list of images, with ``/``."""
    lines = (line.strip().replace("\\", "/") for line in text.removeprefix("\ufeff").splitlines())
    return [line for line in lines if line]


def labels_of(images: str) -> str:
    """The folder of the label files of a folder of images, both relative, as ``img2label_paths`` has it."""
    head, step, tail = f"/{images}/".rpartition("/images/")
    return f"{head}/labels/{tail}".strip("/") or "labels" if step else images


def _read(path: str) -> dict[str, Any]:
    """The keys of a YAML or of darknet's ``key = value``; none where it has none."""
    text = read_text(path, "data")
    if path.endswith(".data"):
        pairs = (line.partition("=") for line in text.splitlines())
        return {key.strip(): value.strip() for key, _, value in pairs}
    return data_of(text, path)


def data_of(text: str, path: str) -> dict[str, Any]:
    """The keys of a YAML; none where it has none: the sentence for it is that of who reads its names."""
    try:
        data = parse_yaml(text, path)[1]
    except ConfigError:
        return {}
    return data if isinstance(data, dict) else {}


def _file_of_splits(root: str, names: str | None) -> str | None:
    """The file that names the splits of the folder `root`: `names`, if it is a YAML there, else the first of known."""
    given = [names] if names is not None and names.endswith((".yaml", ".yml")) and _below(root, names) else []
    return next((path for n in [*given, *_FILES] if os.path.isfile(path := os.path.join(root, n))), None)


def _plain_steps(path: str) -> list[str]:
    return [step for step in path.replace("\\", "/").split("/") if step not in ("", ".", "..")]


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else [value]


def _merge(parts: list[Paths], paths: Paths) -> None:
    """Add the paths of a list to `parts`; several lists of the same folders are one part."""
    for part in parts:
        if (part["labels"], part["images"]) == (paths["labels"], paths["images"]) and "image_list" in part:
            part["image_list"] = [*_listed(part["image_list"]), paths["image_list"]]
            return
    parts.append(paths)


def _below(root: str, path: str) -> str | None:
    """`path` as one below `root`: as where it really is or, where a link in `root` leads out, as what it is called.

    None for what is not below it by either.
    """
    for way in (os.path.realpath, os.path.abspath):
        there, top = way(path), way(root)
        if there.startswith(top + os.sep):
            return os.path.relpath(there, top)
    return None


def _candidates(root: str, below: str, value: str) -> Iterator[str]:
    """Where a path of the YAML may be: below its ``path``, or the root; Roboflow writes ``../train`` for ``train``."""
    plain = _plain_steps(value)
    if not plain:
        return
    ends = ["/".join(plain[i:]) for i in range(len(plain))] if value.endswith(".txt") else ["/".join(plain)]
    for path in (os.path.join(root, below, value), os.path.join(root, value), *(os.path.join(root, e) for e in ends)):
        if (inner := _below(root, path)) is not None:
            yield os.path.join(root, inner) if ".." in path.split("/") else path  # it may be after a link


def _labels_and_images(root: str, images: str) -> tuple[str, str] | None:
    """The folders of labels and of images of a split, below `root`; None where there are no labels."""
    relative = _below(root, images) or ""
    labels = labels_of(relative)
    there = os.path.isdir(images) and os.path.isdir(os.path.join(root, labels))
    return (labels, relative) if there else None


def _folder_of(root: str, beside: str, folder: str) -> str | None:
    """The folder of some lines of the list in `beside`, relative to `root`: as it is, or by its end."""
    steps = _plain_steps(folder)
    ends = ["/".join(steps[i:]) for i in range(len(steps) + (not steps))]
    for path in (os.path.join(beside, folder), *(os.path.join(above, end) for end in ends for above in (root, beside))):
        if os.path.isdir(path) and os.path.realpath(path) == os.path.realpath(root):
            return "."
        if (inner := _below(root, path)) is not None and os.path.isdir(os.path.join(root, inner)):
            return inner
    return None
