"""One pass over an export: where its images are, of which split each is, what classes and keypoints there are."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from pipeline.base.classes import SourceNames
from pipeline.base.humanize import noun, plural
from pipeline.base.terms import SPLITS, Split, Task
from pipeline.formats import FileContents, FileOutline, Malformed
from pipeline.formats._image_names import ImageNames, clean
from pipeline.formats._keypoint_names import flips
from pipeline.formats._records import SPLIT_NAMES, ImageRecord, outline_of
from pipeline.formats._values import category_name, finite, shown
from pipeline.formats.cvat.document import Document, ImageText, Meta
from pipeline.formats.cvat.shapes import SHAPES, keypoint_key

#: A shape as CVAT writes it: its label comes first.
_PAIR = re.compile(rb'<(\w+)\s+label="([^"]*)"')

#: What of a start tag is read, and what makes that more than these letters.
_SAID = re.compile(rb'\s(name|subset)="([^"]*)"')
_UNUSUAL = re.compile(rb"[&'\t\n\r]|\s=|=\s")

#: What CVAT calls the subset of images that are of none.
_DEFAULT = "default"

_FOLDER = "images"


@dataclass(frozen=True)
class _Head:
    """What the start tag of an image says, as it is written."""

    name: str
    subset: str

    @staticmethod
    def of(image: ImageText) -> _Head | None:
        """That of an image; None where it is no XML."""
        tag = image.text[: image.head].removesuffix(b">").removesuffix(b"/") + b"/>"
        if not _UNUSUAL.search(tag) and tag.isascii():
            found = dict(_SAID.findall(tag))
            return _Head(found.get(b"name", b"").decode(), found.get(b"subset", b"").decode().strip())
        try:
            said = ElementTree.XML(tag).attrib
        except (ElementTree.ParseError, ValueError):
            return None
        return _Head(said.get("name", ""), said.get("subset", "").strip())

    @property
    def split(self) -> Split | None:
        """Its split; None where its subset is no split."""
        return SPLIT_NAMES.get(self.subset.lower())


@dataclass(frozen=True)
class _Record:
    """An image with what its start tag says, how many objects it has, and the labels of its tags."""

    record: ImageRecord
    head: _Head
    objects: int
    tags: Sequence[str]


class _Labels:
    """The labels and keypoints that shapes have; `counts` says how many shapes of each there are."""

    def __init__(self) -> None:
        self._pairs: Counter[tuple[bytes, bytes]] = Counter()
        self._others: Counter[tuple[str, str]] = Counter()
        self.keypoints: dict[str, dict[str, None]] = {}

    def add(self, text: bytes) -> tuple[int, list[str]]:
        """Take the labels of an image; returns how many objects it has, and the labels of its tags."""
        pairs = _PAIR.findall(text)
        if len(pairs) == text.count(b"label=") and b"<skeleton" not in text and b"<tag" not in text:
            self._pairs.update(pairs)
            return len(pairs), []
        try:
            shapes = list(ElementTree.XML(text))
        except (ElementTree.ParseError, ValueError):
            return max(len(pairs), 1), []
        self._others.update((shape.tag, shape.get("label", "")) for shape in shapes)
        for shape in shapes:
            if shape.tag == "skeleton":
                points = self.keypoints.setdefault(category_name({"name": shape.get("label")}) or "", {})
                points.update((name, None) for one in shape if (name := category_name({"name": one.get("label")})))
        tags = [category_name({"name": shape.get("label")}) or "none" for shape in shapes if shape.tag == "tag"]
        return sum(shape.tag in SHAPES for shape in shapes), tags

    def counts(self) -> Counter[tuple[str, str]]:
        """How many shapes there are, by element and label as it looks (empty: none)."""
        found: Counter[tuple[str, str]] = Counter()
        for (tag, label), count in self._pairs.items():
            found[tag.decode(), _unescaped(label)] += count
        for (kind, name), count in self._others.items():
            found[kind, category_name({"name": name}) or ""] += count
        return found


def _unescaped(label: bytes) -> str:
    """The label that the text of an attribute means, as it looks; empty for none."""
    try:
        said = ElementTree.XML(b'<a b="' + label + b'"/>').get("b")
    except (ElementTree.ParseError, ValueError):
        return ""
    return category_name({"name": said}) or ""


def contents(pieces: Iterable[bytes]) -> FileContents:
    """See `pipeline.formats.cvat.contents`."""
    subsets: Counter[str] = Counter()
    below_default = False
    for image in Document(pieces).images():
        head = _Head.of(image)
        if head is not None:
            subsets[head.subset] += 1
            below_default = below_default or clean(head.name).startswith(f"{_DEFAULT}/")
    of_split: dict[Split, list[str]] = {}
    for subset in subsets:
        of_split.setdefault(SPLIT_NAMES.get(subset.lower(), "train"), []).append(subset)
    folders = {}
    for split, several in of_split.items():
        own = several[0] or ("" if below_default else _DEFAULT)
        alone = [f"{_FOLDER}/{clean(own)}"] if len(several) == 1 and clean(own) else []
        folders[split] = [*alone, _FOLDER]
    return FileContents(None, [split for split in SPLITS if split in of_split] or ["train"], folders=folders)


def outline(pieces: Iterable[bytes], task: Task, names: ImageNames | None, split: str | None) -> FileOutline:
    """See `pipeline.formats.cvat.outline`."""
    document, labels = Document(pieces), _Labels()
    records: list[_Record] = []
    bad: list[tuple[str, str, str, int]] = []
    for image in document.images():
        objects, tags = labels.add(image.text)
        head = _Head.of(image)
        where = f"line {image.line}"
        if head is None:
            bad.append(("", "bad_image", f"{where} has an <image> whose attributes are no XML; correct it", objects))
            continue
        other = f"{head.subset}/{head.name}" if head.subset and head.name else ""
        record = ImageRecord(image.begin, image.begin + len(image.text), where, head.name, other, unlisted=head.name)
        records.append(_Record(record, head, objects, tags))
    chosen, notes = _of_split(records, split)
    made = outline_of(((one.record, b"%d" % one.objects) for one in chosen), names, int)
    made.problems = (bad if split in (None, "train") else []) + made.problems
    counts = labels.counts()
    meta = document.meta
    made.names = {"names": _classes(meta, counts)}
    points = _keypoints(meta, labels.keypoints)
    made.labels = {keypoint_key(name, one): str(i) for name, some in points.items() for i, one in enumerate(some)}
    made.notes = [*notes, *_notes_of_tags(chosen), *made.notes]
    if task is Task.POSE:
        _add_keypoints(made, points, counts)
    said = finite(meta.name)
    made.rest = json.dumps({"info": {"description": said}} if said else {}).encode()
    return made


def _of_split(records: Sequence[_Record], split: str | None) -> tuple[list[_Record], list[str]]:
    """The images of a split, and notes on them.

    Those whose subset is not a split are of train; where no subset is, all are of the split that the file is named for.
    """
    if split is None or not any(one.head.split for one in records):
        return [*records], []
    chosen = [one for one in records if (one.head.split or "train") == split]
    if not chosen and records:
        listed = ", ".join(sorted({shown(one.head.subset) for one in records if one.head.subset})[:5])
        raise Malformed(f"has no image of the split {split}, for its subsets are {listed}; name the split that it has")
    others = Counter(one.head.subset or "none" for one in chosen if one.head.split is None)
    if not others:
        return chosen, []
    listed = ", ".join(f"{name} {count:,}" for name, count in sorted(others.items())[:5])
    count = others.total()
    return chosen, [
        f"{plural(count, 'image is', 'images are')} of a subset that is no split, and taken for train ({listed})"
    ]


def _classes(meta: Meta, counts: Mapping[tuple[str, str], int]) -> list[str]:
    """The labels of the document in their order, then those of shapes alone."""
    found = {label for kind, label in counts if kind in SHAPES and label}
    return [*meta.labels, *sorted(found - {*meta.labels})]


def _notes_of_tags(records: Sequence[_Record]) -> list[str]:
    tags = Counter(tag for one in records for tag in one.tags)
    if not tags:
        return []
    listed = ", ".join(f"{label} {count:,}" for label, count in sorted(tags.items())[:5])
    count = tags.total()
    what = noun(count, "is no object", "are no objects")
    return [f"{plural(count, 'tag')} of whole images {what}, and left out ({listed})"]


def _keypoints(meta: Meta, found: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """The keypoints of each skeleton in the order of the labels, then those that shapes alone have."""
    names = {**meta.keypoints}
    for skeleton, points in found.items():
        known = names.get(skeleton, [])
        names[skeleton] = [*known, *(name for name in points if name not in known)]
    return names


def _add_keypoints(
    made: FileOutline, points: Mapping[str, Sequence[str]], counts: Mapping[tuple[str, str], int]
) -> None:
    """Say how many keypoints objects have, and what those are called: those of the skeleton of most objects."""
    names: SourceNames = made.names
    known = [name for name in names["names"] if points.get(name)]
    if not known:
        return
    first = max(known, key=lambda name: (counts.get(("skeleton", name), 0), -names["names"].index(name)))
    width = len(points[first])
    names["kpt_shape"] = width, 3
    names["flip_idx"] = flips(points[first])
    if names["flip_idx"] is None:
        del names["flip_idx"]
    names["kpt_names"] = {
        str(names["names"].index(name)): [*points[name]] for name in known if len(points[name]) == width
    }
    if others := {name: len(points[name]) for name in known if len(points[name]) != width}:
        listed = ", ".join(f"{name!r} {count}" for name, count in others.items())
        made.notes.append(
            f"labels have several skeletons: {first!r} has {width} keypoints, {listed}; rows are of {width}, and "
            "objects with another number are left out"
        )
