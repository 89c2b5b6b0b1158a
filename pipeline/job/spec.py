"""What an index is made of: the source's folders, its grammar and its task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pipeline.base.terms import Task
from pipeline.base.version import INDEX_VERSION, VERSION
from pipeline.storage import Location

#: Folders that annotation tools keep beside images, and what is in them; none of it belongs to a data set.
LEFT_OUT_FOLDERS = {
    "_delete_": "images that were deleted in X-AnyLabeling",
    "x-anylabeling-exif-backup": "backups of X-AnyLabeling",
    "x-anylabeling-crops": "cut-outs of X-AnyLabeling",
    "x-anylabeling-image-backup": "backups of X-AnyLabeling",
    ".ipynb_checkpoints": "copies of Jupyter",
}

#: Files that tools put among label files, and what is in them.
LEFT_OUT_FILES = {
    "classes.txt": "class names",
    "README.roboflow.txt": "a page of Roboflow",
    "README.dataset.txt": "a page of Roboflow",
}


@dataclass(frozen=True)
class SplitSpec:
    """One split of the source: `folder` is its part of the key; the rest are absolute paths, or URLs.

    `labels` is the folder of the label files or, where one file holds all labels, that file, with `further` ones that
    belong to it; `captions` is a file too.
    With `suffix` images are not listed: each label file is taken to have one, of its stem and this suffix. With
    `image_lists`, text files, the split is the images that they list.
    """

    split: str
    folder: str
    labels: str
    images: str | None
    captions: str | None = None
    suffix: str | None = None
    image_lists: tuple[str, ...] = ()
    further: tuple[str, ...] = ()

    @property
    def label_files(self) -> tuple[str, ...]:
        """The folder of the label files; or the files that hold all labels, and the captions."""
        return tuple(filter(None, (self.labels, *self.further, self.captions)))


@dataclass(frozen=True)
class IndexSpec:
    """What an index is made of: everything that decides about its rows but the files themselves."""

    name: str
    format: str
    task: Task
    keypoints: tuple[int, int] | None
    splits: tuple[SplitSpec, ...]
    options: str = "{}"  # of the format, as JSON: a specification is hashable and has a digest

    def prefix(self, split: SplitSpec) -> str:
        """What the keys of `split` begin with."""
        return f"{self.name}/{split.folder}/"

    def digest(self) -> str:
        """Hexadecimal digest of the specification and the version of the tables."""
        import xxhash

        text = json.dumps([VERSION, INDEX_VERSION, asdict(self)], sort_keys=True)
        return str(xxhash.xxh3_128_hexdigest(text.encode()))


def first_file(annotations: str | Sequence[str] | None) -> str | None:
    """Of the annotations of a split, a file or several, the first."""
    return annotations if isinstance(annotations, str) or annotations is None else annotations[0]


#: A split, and the locations of its labels and images.
Found = tuple[SplitSpec, Location, Location | None]
