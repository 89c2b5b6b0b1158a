"""Images that are there under a suffix that is not read: what cameras, browsers and tools call them."""

from __future__ import annotations

import functools
import itertools
import os
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline import storage
from pipeline.base.terms import IMAGE_SUFFIXES
from pipeline.formats._image_names import clean, tails
from pipeline.images.header import suffix_of

#: Suffixes of images that are not read, and none at all: others may be of anything that is called as an image.
_UNREAD = (
    "", ".jfif", ".jfi", ".jif", ".jpe", ".jpg_large", ".jpg_orig", ".jpg!d", ".jxl", ".jpx", ".j2k", ".apng", ".gif",
    ".ico", ".svg", ".psd", ".xcf", ".tga", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".exr", ".hdr", ".dcm", ".dicom",
    ".raw", ".arw", ".cr2", ".cr3", ".nef", ".orf", ".raf", ".rw2", ".hif",
)  # fmt: skip

#: Kinds of which the first bytes are no other's: a TIFF may be a camera's raw file.
_RENAMED = {".jpg": "JPEG", ".png": "PNG"}

_OTHERWISE = "convert it to .jpg or .png"


def unread_image(folder: storage.Location, row: Mapping[str, Any]) -> tuple[str, str] | None:
    """The file in `folder` that would be the image of `row` (`schema.images`), and why it is not taken, with the cure.

    None where there is no such file; a store is not asked, since that costs requests.
    """
    if not folder.on_disk:
        return None
    for path in _candidates(folder, row["stem"], clean(row["image_said"] or "")):
        (begin,) = folder.peek_many([path], 16, 0)
        if begin.reason is not None:  # a folder, or a link to nowhere
            continue
        stem, suffix = posixpath.splitext(path)
        name = posixpath.basename(stem)
        kind = suffix_of(begin.head)
        cure = f"it is a {_RENAMED[kind]}: rename it to {name}{kind}" if kind in _RENAMED else ""
        of = f"of the label {row['label_path']}" if row["label_path"] else repr(row["image_said"])
        files = f"with the suffix {suffix}" if suffix else "without a suffix"
        return folder.join(path), f"is the image {of}, but files {files} are not read; {cure or _OTHERWISE}"
    return None


def _candidates(folder: storage.Location, stem: str, said: str) -> Iterator[str]:
    """Files in `folder` that an image of that stem, or one that is called as `said`, may be; they need not be files."""
    called = list(tails(said)) if said else []
    if os.path.splitext(said)[1].lower() not in IMAGE_SUFFIXES:
        yield from (path for path, there in zip(called, folder.exist_many(called), strict=True) if there)
    for path in dict.fromkeys([stem, *map(_stem, called)]):
        if (found := _unread_of(folder, path)) is not None:
            yield found


def _stem(path: str) -> str:
    return posixpath.splitext(path)[0]


def _unread_of(folder: storage.Location, path: str) -> str | None:
    """The file in `folder` that is called as `path`, but for a suffix that is not read."""
    if folder.local is None:  # an archive's table is asked faster than it is listed
        tries = [path + suffix for suffix in (*_UNREAD, *map(str.upper, _UNREAD))]
        return next(itertools.compress(tries, folder.exist_many(tries)), None)
    below, _, name = path.rpartition("/")
    changed = storage.folder_time(where := os.path.join(folder.local, below))
    found = _listed(where, changed).get(name) if changed is not None else None
    return posixpath.join(below, found) if found is not None else None


@functools.lru_cache(maxsize=1024)
def _listed(path: str, changed: int) -> Mapping[str, str]:
    """The files right in the folder `path` that are called as images that are not read, by stem.

    Of this machine, as it is since it `changed`: it is listed once, and not for every bucket.
    """
    del changed
    split = ((*posixpath.splitext(name), name) for name in storage.locate(path).flat_names(""))
    return {stem: name for stem, _, name in sorted(one for one in split if one[1].lower() in _UNREAD)}
