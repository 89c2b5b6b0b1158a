"""One pass over the files of a split: what each holds, where the rows of each image are, what classes there are."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.base.humanize import noun, plural
from pipeline.base.terms import IMAGE_SUFFIXES
from pipeline.base.text import plain_name
from pipeline.formats import FileOutline, Malformed
from pipeline.formats._image_names import ImageNames
from pipeline.formats._large_json import MAX_VALUE
from pipeline.formats._lines import blocks
from pipeline.formats._records import ImageRecord, outline_of
from pipeline.formats._values import shown
from pipeline.formats.openimages.lines import lines_of

if TYPE_CHECKING:
    from pipeline.base.arrays import Ints

#: The first columns of the image labels, and those of the boxes, which have more of them.
_LABELS = ("ImageID", "Source", "LabelName", "Confidence")
BOXES = (*_LABELS, "XMin", "XMax", "YMin", "YMax")
FLAGS = ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")

#: Columns of the list of images: in every release these are the first two.
_IMAGES = ("ImageID", "Subset")

#: What a list of images calls each split; ``val`` is Datumaro's word.
_SUBSETS = {"train": (b"train",), "val": (b"validation", b"val"), "test": (b"test",)}

#: The first line of class descriptions, where they have one: V7's, V6's.
_TITLES = (("LabelName", "DisplayName"), ("id", "name"))

_NAMED = 2  # fields of a class description

_LISTED = re.compile(rb"^([^,\"\r\n]{1,255}),(train|validation|val|test),", re.MULTILINE)

#: Files of Open Images that have no boxes, by a column that they alone have.
_OTHERS = {
    "MaskPath": "segmentation masks",
    "LabelName1": "relationships",
    "RelationshipLabel": "relationships",
    "X": "labelled points",
}


class _Split:
    """What the files of a split hold, gathered file by file; spans count on from file to file."""

    def __init__(self, split: str | None) -> None:
        self._subsets = _SUBSETS.get(split or "")
        #: The index of each image, by its id; where one of its rows begins.
        self.images: dict[bytes, int] = {}
        self.begins: list[int] = []
        self.runs: list[Ints] = []
        self.run_of: list[int] = []
        self.boxed: set[bytes] = set()
        self.names: dict[str, str] = {}
        self.above: dict[str, list[str]] = {}
        self.problems: list[tuple[str, str, str, int]] = []
        self.has_boxes = self.has_labels = False
        self._offset = 0

    def read(self, pieces: Iterable[bytes]) -> None:
        """Read one file. Raises `Malformed` for one that is not of Open Images."""
        parts = blocks(pieces)
        begin, block = next(parts)
        first = _fields(block.lstrip().partition(b"\n")[0])
        given = _from(begin, block, parts)
        if block.lstrip()[:1] == b"{":
            self._read_hierarchy(_whole(given))
        elif first[: len(_LABELS)] == _LABELS and len(first) in (len(_LABELS), *range(len(BOXES), 100)):
            self._read_rows(given, first)
        elif first[: len(_IMAGES)] == _IMAGES:
            self._read_images(given)
        elif first in _TITLES or (len(first) > 1 and first[0].startswith("/")):
            self._read_names(_whole(given))
        elif len(first) == _NAMED and self._has_boxed(text := _whole(given)):
            self._read_names(text)
        else:
            raise Malformed(_strange(first))
        self._offset = self._end

    @property
    def _end(self) -> int:
        return self._begin + self._size

    def _sized(self, given: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        for begin, block in given:
            self._begin, self._size = self._offset + begin, len(block)
            yield self._begin, block

    def _read_rows(self, given: Iterable[tuple[int, bytes]], columns: Sequence[str]) -> None:
        boxes = len(columns) > len(_LABELS)
        if boxes and tuple(columns[: len(BOXES)]) != BOXES:
            raise Malformed(_strange(columns))
        what = "of the boxes" if boxes else "of the image labels"
        self.has_boxes, self.has_labels = self.has_boxes or boxes, self.has_labels or not boxes
        number, waiting = 1, True
        for begin, block in self._sized(given):
            if waiting:  # the first line is that of the columns
                head = block.find(b"\n", len(block) - len(block.lstrip())) + 1 or len(block)
                number += block.count(b"\n", 0, head)
                begin, block, waiting = begin + head, block[head:], False  # noqa: PLW2901
                if not block:
                    continue
            found = lines_of(block, len(columns))
            spans, images, classes, starts = found.spans, found.images, found.classes, found.begins_run
            for line, fields in found.bad:
                detail = f"line {number + line} {what} has {plural(fields, 'field')}, not {len(columns)}, or no names"
                self.problems.append(("", "bad_row", f"{detail}; correct it", int(boxes)))
            number += found.count
            if not len(spans):
                continue
            which = np.flatnonzero(starts)
            stops = np.append(which[1:], len(spans)) - 1
            self._take(spans[which, 0] + begin, images[which].tolist())
            self.runs.append(np.stack([spans[which, 0], spans[stops, 1]], axis=1) + begin)
            if boxes:
                self.boxed.update(np.unique(classes).tolist())

    def _take(self, begins: Ints, ids: list[bytes]) -> None:
        """Note the images of runs, in their order."""
        index_of = self.images
        for begin, key in zip(begins.tolist(), ids, strict=True):
            index = index_of.setdefault(key, len(self.begins))
            if index == len(self.begins):
                self.begins.append(begin)
            self.run_of.append(index)

    def _read_images(self, given: Iterable[tuple[int, bytes]]) -> None:
        for begin, block in self._sized(given):
            for found in _LISTED.finditer(block):
                key, subset = found[1].strip(), found[2]
                own = self._subsets is None or subset in self._subsets
                if own and self.images.setdefault(key, len(self.begins)) == len(self.begins):
                    self.begins.append(begin + found.start(1))

    def _read_names(self, text: bytes) -> None:
        self._begin, self._size = self._offset, len(text)
        rows = csv.reader(re.split("\r\n?|\n", _text(text)))
        for number, row in enumerate(rows, 1):
            if not row or (number == 1 and tuple(row) in _TITLES):
                continue
            key, name = row[0].strip(), plain_name(row[1]) if len(row) > 1 else ""
            if len(row) != 2 or not key or not name or any(ord(c) < 32 for c in name):
                raise Malformed("has a line that is not a class and its name, as in /m/0k4j,Car", number)
            if self.names.setdefault(key, name) != name:
                raise Malformed(f"has the class {key} twice, as {self.names[key]!r} and {name!r}", number)

    def _has_boxed(self, text: bytes) -> bool:
        """Whether the first field of a line is a class of the boxes that were read: it may be called anything."""
        return not self.boxed.isdisjoint(line.partition(b",")[0].strip(b' "') for line in text.splitlines())

    def _read_hierarchy(self, text: bytes) -> None:
        self._begin, self._size = self._offset, len(text)
        try:
            root = json.loads(_text(text))
        except (ValueError, RecursionError):
            raise Malformed("is not JSON; get it again") from None
        if not isinstance(root, dict) or "LabelName" not in root:
            raise Malformed("is JSON, but no hierarchy of Open Images: it has no LabelName at its top")
        waiting: list[tuple[dict[str, Any], str | None]] = [(root, None)]
        while waiting:
            node, parent = waiting.pop()
            key = node.get("LabelName")
            if not isinstance(key, str):
                raise Malformed("has a class without a LabelName")
            parents = self.above.setdefault(key, [])
            if parent is not None and parent not in parents:
                parents.append(parent)
            # A part of a thing is no kind of it, but may have kinds of its own.
            for member, above in (("Part", None), ("Subcategory", key)):
                inner = node.get(member) or []
                waiting += [(one, above) for one in reversed(inner) if isinstance(one, dict)]

    def classes(self, found: FileOutline) -> None:
        """Give `found` the names of the classes, and what each is a kind of."""
        boxed = {key.decode(errors="replace") for key in self.boxed}
        unnamed = sorted(boxed - self.names.keys())
        if unnamed and self.names:
            found.notes.append(
                f"{plural(len(unnamed), 'class has', 'classes have')} boxes but no description, and "
                f"{noun(len(unnamed), 'is', 'are')} called as in the boxes, such as {unnamed[0]}"
            )
        names = self.names | dict(zip(unnamed, unnamed, strict=True))
        if not self.names:  # classes that nobody has a box of are known by the hierarchy alone
            names |= {key: key for key in sorted(self.above) if key not in names}
        found.labels = dict(names.items())
        found.names = {"names": list(dict.fromkeys(names.values()))}
        parents = {
            names[key]: [names[p] for p in above if p in names] for key, above in self.above.items() if key in names
        }
        found.names["supercategories"] = {name: above[0] for name, above in sorted(parents.items()) if above}
        above = {name: _ancestors(name, parents) for name in sorted(parents)}
        found.names["ancestors"] = {name: ancestors for name, ancestors in above.items() if ancestors}


def _ancestors(name: str, parents: dict[str, list[str]]) -> list[str]:
    """All classes that a class is a kind of, at any depth."""
    found: dict[str, None] = {}
    waiting = list(parents.get(name, ()))
    while waiting:
        one = waiting.pop()
        if one not in found and one != name:
            found[one] = None
            waiting += parents.get(one, ())
    return sorted(found)


def outline(files: Iterable[Iterable[bytes]], names: ImageNames | None, split: str | None) -> FileOutline:
    """See `pipeline.formats.openimages.outline_of_files`."""
    done = _Split(split)
    for pieces in files:
        done.read(pieces)
    if not done.has_boxes:
        raise Malformed("holds no boxes; name the file of boxes (…-annotations-bbox.csv) as well")
    runs = np.concatenate([np.zeros((0, 2), np.int64), *done.runs])
    run_of = np.array(done.run_of, np.int64)
    found = outline_of(_records(done), names, lambda key: int((run_of == done.images[key]).sum()))
    # Where an image begins is its own, and in the order of the images: those that are left out are known by it.
    begins = np.array(done.begins, np.int64)
    order = np.argsort(found.images[:, 0], kind="stable")
    at = np.searchsorted(found.images[order, 0], begins)
    at = order[np.minimum(at, len(order) - 1)] if len(order) else np.zeros(len(begins), np.int64)
    index = np.where(found.images[at, 0] == begins, at, -1) if len(order) else np.full(len(begins), -1)
    image_of = index[run_of]
    found.annotations, found.image_of = runs[image_of >= 0], image_of[image_of >= 0]
    found.problems = done.problems + found.problems
    done.classes(found)
    if not done.has_labels:
        found.notes.append(
            "no file of image labels (…-annotations-human-imagelabels-boxable.csv) says which classes are not in an "
            "image: of those without a box there nobody knows"
        )
    return found


def _records(done: _Split) -> Iterator[tuple[ImageRecord, bytes]]:
    for key, begin in zip(done.images, done.begins, strict=True):
        said = key.decode(errors="replace").strip()
        name = said if said.lower().endswith(IMAGE_SUFFIXES) else f"{said}.jpg"
        where = f"image {said}" if said.isalnum() else f"image {shown(said)}"
        yield ImageRecord(begin, begin + len(key), where, name), key


def _fields(line: bytes) -> tuple[str, ...]:
    return tuple(text.strip().strip('"') for text in line.decode(errors="replace").strip().split(","))


def _from(begin: int, block: bytes, rest: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    yield begin, block
    yield from rest


def _whole(given: Iterable[tuple[int, bytes]]) -> bytes:
    """All of a small file. Raises `Malformed` for a large one."""
    parts, size = [], 0
    for _, block in given:
        parts.append(block)
        size += len(block)
        if size > MAX_VALUE:
            raise Malformed(f"has more than {MAX_VALUE >> 20} MiB: no list of classes")
    return b"".join(parts)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Malformed("is not UTF-8 text; get it again", data.count(b"\n", 0, error.start) + 1) from None


def _strange(columns: Sequence[str]) -> str:
    """Why a file is not one of those that are read, by its first line."""
    other = next((what for column, what in _OTHERS.items() if column in columns), None)
    if other is not None:
        return f"holds {other}, which are not read; leave it out"
    if {"ImageID", "XMin"} <= set(columns):
        return f"has its columns in another order than Open Images, {','.join(BOXES)}; write them in this one"
    return f"is no file of Open Images; one of boxes begins with {','.join(BOXES)}"
