"""The images of a COCO JSON: which file each is, and which of them are one."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from pipeline.base.humanize import noun, plural
from pipeline.formats import FileOutline
from pipeline.formats._image_names import Found, ImageNames, clean
from pipeline.formats._records import stems_of
from pipeline.formats._values import shown

if TYPE_CHECKING:
    from pipeline.base.arrays import AnyInts as Spans  # of any width

Id = int | str | float | None

#: Index of an image that is left out: its annotations are counted with it.
LOST = -2


class ImageEntry(msgspec.Struct, gc=False):
    """What is read of an image to know what it is called."""

    id: Id = None
    file_name: str | None = None
    coco_url: str | None = None


@dataclass
class _NamedImages:
    """The images that have an id and a name: number in the file, id, name, path ("": no file is there).

    `loose` are those whose file is not the one of that very path, by index.
    """

    numbers: array[int] = field(default_factory=lambda: array("q"))
    ids: list[Id] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    loose: dict[int, Found] = field(default_factory=dict)

    def add(self, number: int, key: Id, said: str, file: Found) -> None:
        """Add an image and its file."""
        if not file.exact:
            self.loose[len(self.ids)] = file
        self.numbers.append(number)
        self.ids.append(key)
        self.said.append(said)
        self.paths.append(file.path or "")


def outline_of_images(spans: Spans, images: list[ImageEntry | str], names: ImageNames | None) -> FileOutline:
    """Paths and stems of the images at `spans`, and the index of each by id; those that cannot be used are taken out.

    `images` are let go of.
    """
    found = FileOutline(spans, np.zeros((0, 2), np.int64), np.zeros(0, np.int64), [], [], [])
    good, count = _NamedImages(), len(images)
    for number, image in enumerate(images):
        if isinstance(image, str):
            found.problems.append(("", "bad_image", f"images[{number}] {image}", 0))
            continue
        said, path = _name_of(image)
        if image.id is not None and said:
            file = names.find(said, image.coco_url or said) if names is not None else Found(path, exact=True)
            good.add(number, image.id, said, file)
            continue
        what = "no id" if said else "neither a file_name nor a coco_url that names a file"
        _leave_out(found, image.id, "", "bad_image", f"{_image(number, image.file_name, image.id)} has {what}")
    images.clear()
    found.stems = stems_of(_settle(found, good), found.notes)
    ambiguous = sum(reason == "ambiguous_image" for _, reason, *_ in found.problems)
    if joined := len(good.ids) - len(found.paths) - ambiguous:
        found.notes.append(
            f"{joined:,} of {plural(count, 'entry', 'entries')} of `images` {noun(joined, 'names', 'name')} an "
            "image that another entry names, too: their objects are joined"
        )
    return found


def _name_of(image: ImageEntry) -> tuple[str, str]:
    """What an image is called, and that as a path; empty where nothing names it."""
    for said in (image.file_name, image.coco_url):
        if said and (path := clean(said)):
            return said, path
    return "", ""


def _settle(found: FileOutline, images: _NamedImages) -> list[str]:
    """Give each of `images` its file; a file that is only like the name is no two images'. Returns their paths."""
    like = {(file.path, images.said[i]) for i, file in images.loose.items() if file.path}
    exact = {path for i, path in enumerate(images.paths) if path and i not in images.loose} if like else set()
    claims = Counter(path for path, _ in like)
    chosen: list[int] = []
    called: list[str] = []
    row_of: dict[str, int] = {}
    for i, (number, key, said, path) in enumerate(
        zip(images.numbers, images.ids, images.said, images.paths, strict=True)
    ):
        several = file.several if (file := images.loose.get(i)) is not None else ()
        if several or (file is not None and path and (path in exact or claims[path] > 1)):
            fitting = " or ".join(several[:3]) or f"{path}, which another image is called as well"
            detail = f"{_image(number, said, key)} may be {fitting}; name it by its path below the folder of images"
            _leave_out(found, key, clean(said), "ambiguous_image", detail)
            continue
        row = row_of.setdefault(path or f"\0{clean(said)}", len(chosen))
        if row == len(chosen):
            chosen.append(number)
            called.append(path or clean(said))
            found.paths.append(path)
            found.said.append(said)
        if found.index_of_id.setdefault(key, row) != row:
            if found.index_of_id[key] >= 0:
                found.doubtful.append(found.index_of_id[key])
            found.doubtful.append(row)
            _leave_out(
                found,
                key,
                called[row],
                "image_twice",
                f"{_image(number, said, key)} has the id of another image: whose the objects are is not known",
            )
    found.images = found.images[chosen]
    return called


def _image(number: int, said: str | None, key: Id) -> str:
    known = [f"{shown(said)}" if said else "", f"id {shown(key)}" if key is not None else ""]
    return f"images[{number}] ({', '.join(filter(None, known))})".removesuffix(" ()")


def _leave_out(found: FileOutline, key: Id, path: str, reason: str, detail: str) -> None:
    """Note a problem; the annotations of the image `key` are lost with it, and are counted there."""
    if key is not None:
        found.index_of_id[key] = LOST
        found.lost_with[key] = len(found.problems)
    found.problems.append((path, reason, detail, 0))
