"""One JSON of the objects of all buckets, a piece at a time.

Buckets are merged in the order of keys, so the bytes do not depend on how many there are; each is read where it is
on the disk, and what is in memory at once is a piece of it: that, and some 25 bytes an object, since no two may have
the same id.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.exporters import BucketObjects, Dataset
from pipeline.formats._keypoint_names import flips
from pipeline.formats._values import category_name

_STEP = 1024

_PIECE = 1 << 20

#: Every key of ``info``: https://cocodataset.org/#format-data
_INFO = {
    "description": "Made by coco-diy", "url": "", "version": "1.0", "year": 0, "contributor": "", "date_created": "",
}  # fmt: skip

#: Of an object whose ids change, which they were, and where.
_CHANGING = ("id", "id_begin", "id_stop", "image_id_begin", "image_id_stop")

_OURS = ("images", "annotations", "categories")


class _FreeIds:
    """Ids of one kind: whole numbers that no other has are kept, all others are counted from 1."""

    def __init__(self, ids: Sequence[pa.Array]) -> None:
        given = np.concatenate([i.drop_null().to_numpy(zero_copy_only=False) for i in ids] or [np.zeros(0, np.int64)])
        given = np.sort(given)
        self._used = given
        #: Ids that several have: the first in order keeps it.
        self._twice = set(given[1:][given[1:] == given[:-1]].tolist())
        self.unique = not self._twice and not any(i.null_count for i in ids)
        self._taken: set[int] = set()
        self._next = 1

    def number(self, given: int | None) -> int:
        """The id of the next object, which has the id `given`."""
        if given is not None:
            if given not in self._twice:
                return given
            if given not in self._taken:
                self._taken.add(given)
                return given
        while (at := int(np.searchsorted(self._used, self._next))) < len(self._used) and (self._used[at] == self._next):
            self._next += 1
        self._next += 1
        return self._next - 1


class _Part:
    """The records of one bucket, and where the objects of each image are."""

    def __init__(self, records: BucketObjects, split: str, kind: str) -> None:
        self.images = records.images
        self.rows = np.flatnonzero(pc.equal(records.images["split"], split).to_numpy(zero_copy_only=False))
        objects = records.objects.filter(pc.equal(records.objects["kind"], kind)) if kind == "caption" else None
        if objects is None:
            count = int(pc.sum(pc.equal(records.objects["kind"], kind)).as_py() or 0)
            objects = records.objects.slice(0, count)  # annotations come first: nothing is copied
        self.objects = objects
        image = objects["image"].to_numpy()
        self.edges = np.searchsorted(image, np.arange(self.images.num_rows + 1))
        self.ids = objects["id"].combine_chunks() if objects.num_rows else pa.array([], pa.int64())
        wanted = np.zeros(self.images.num_rows, np.bool_)
        wanted[self.rows] = True
        self.ids_here = self.ids.filter(pa.array(wanted[image], pa.bool_()))

    def in_order(self, number: int) -> Iterator[tuple[str, int, int]]:
        """Key, `number` and row of each of the split's images, in the order of keys."""
        column = self.images["key"]
        for begin in range(0, len(self.rows), _STEP):
            rows = self.rows[begin : begin + _STEP]
            for key, row in zip(column.take(pa.array(rows)).to_pylist(), rows.tolist(), strict=True):
                yield key, number, row


def json_file(dataset: Dataset, records: Sequence[BucketObjects], split: str, kind: str) -> Iterator[bytes]:
    """The pieces of one file: of `kind` annotation or caption."""
    return _large(_pieces(dataset, records, split, kind))


def _large(pieces: Iterator[bytes]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _pieces(dataset: Dataset, records: Sequence[BucketObjects], split: str, kind: str) -> Iterator[bytes]:
    parts = [_Part(record, split, kind) for record in records]
    image_numbers = _FreeIds([p.images["id"].combine_chunks().take(pa.array(p.rows)) for p in parts])
    numbers = _FreeIds([p.ids_here for p in parts])
    head = _head(dataset, split)
    yield b"{" + b"".join(_encode(key) + b": " + value + b",\n" for key, value in head.items()) + b'"images": ['
    first, new_ids = True, {}
    for i, row in _merged(parts):
        text, given = _image_of(parts[i], row)
        number = image_numbers.number(given)
        if number != given:
            new_ids[i, row] = number
            text = _put(text, _span(parts[i].images, "id", row), number, b"id")
        yield text[1:] if first else text
        first = False
    yield b'\n],\n"annotations": ['
    first = True
    for i, row in _merged(parts):
        for text in _objects_of(parts[i], row, new_ids.get((i, row)), numbers):
            yield text[1:] if first else text
            first = False
    yield b"\n]"
    if kind == "annotation":
        yield b',\n"categories": ' + _categories(dataset)
    yield b"}\n"


def _merged(parts: Sequence[_Part]) -> Iterator[tuple[int, int]]:
    """(part, row) of all images in the order of their keys."""
    streams = [part.in_order(i) for i, part in enumerate(parts)]
    return ((i, row) for _, i, row in heapq.merge(*streams))


def _image_of(part: _Part, row: int) -> tuple[bytes, int | None]:
    return part.images["text"][row].as_py(), part.images["id"][row].as_py()


def _objects_of(part: _Part, row: int, image_id: int | None, numbers: _FreeIds) -> Iterator[bytes]:
    """The objects of one image, at once where nothing in them changes; `image_id` is the image's new one, if any."""
    begin, stop = int(part.edges[row]), int(part.edges[row + 1])
    if begin == stop:
        return
    texts, right = (part.objects[name].slice(begin, stop - begin) for name in ("text", "right"))
    if image_id is None and numbers.unique and bool(pc.all(right).as_py()):
        yield b"".join(texts.to_pylist())
        return
    own = image_id if image_id is not None else part.images["id"][row].as_py()
    changing = (part.objects[name].slice(begin, stop - begin) for name in _CHANGING)
    rows = zip(*(column.to_pylist() for column in (texts, right, *changing)), strict=True)
    for text, same, given, id_begin, id_stop, image_id_begin, image_id_stop in rows:
        number = numbers.number(given)
        changes = [] if number == given else [((id_begin, id_stop), number, b"id")]
        if not same or image_id is not None:
            changes.append(((image_id_begin, image_id_stop), own, b"image_id"))
        for span, value, name in sorted(changes, reverse=True):  # from behind, so that the spans before stay right
            text = _put(text, span, value, name)  # noqa: PLW2901
        yield text


def _span(table: pa.Table, name: str, row: int) -> tuple[int, int]:
    return table[f"{name}_begin"][row].as_py(), table[f"{name}_stop"][row].as_py()


def _put(text: bytes, span: tuple[int, int], value: int, name: bytes) -> bytes:
    """`text` with another id; an object that has none gets it first."""
    begin, stop = span
    if span == (0, 0):
        at = text.index(b"{") + 1
        comma = b"" if text[at:].lstrip().startswith(b"}") else b","
        return text[:at] + b'"%s":%d%s' % (name, value, comma) + text[at:]
    return text[:begin] + b"%d" % value + text[stop:]


def _head(dataset: Dataset, split: str) -> dict[str, bytes]:
    """What comes before the images: of each key what the first source has; licenses of all.

    Images keep the license that they name, so two licenses of one id stay both: which is meant only the sources know.
    """
    head: dict[str, bytes] = {}
    licenses: dict[bytes, None] = {}
    for document in _documents(dataset, split):
        for key, value in document.items():
            if key == "licenses":
                licenses |= dict.fromkeys(_list(value))
            elif key not in _OURS:
                head.setdefault(key, bytes(value))
    head = {"info": _info(head.get("info", b"{}")), **{key: value for key, value in head.items() if key != "info"}}
    return head | {"licenses": b"[" + b", ".join(licenses) + b"]"}


def _info(text: bytes) -> bytes:
    """What a source says of itself, as it was written, and what it lacks: viewers ask for each key of the format."""
    try:
        lacking = {k: v for k, v in _INFO.items() if k not in msgspec.json.decode(text, type=dict[str, msgspec.Raw])}
    except msgspec.DecodeError:
        return text
    begin = text.rstrip().removesuffix(b"}").rstrip()
    return begin + (b"" if begin == b"{" else b", ") + msgspec.json.encode(lacking)[1:] if lacking else text


def _documents(dataset: Dataset, split: str) -> Iterator[dict[str, msgspec.Raw]]:
    """What the files of each source say beside images and annotations: first those of the same split."""
    for splits in dataset.documents:
        for name in sorted(splits, key=lambda name: (name != split, name)):
            yield msgspec.json.decode(splits[name].encode(), type=dict[str, msgspec.Raw])


def _list(value: msgspec.Raw) -> list[bytes]:
    try:
        return [bytes(item) for item in msgspec.json.decode(value, type=list[msgspec.Raw])]
    except msgspec.DecodeError:
        return []


def _categories(dataset: Dataset) -> bytes:
    """Categories 1 to n in the config's order, with the further fields that the first of its sources' has."""
    known: dict[str, dict[str, Any]] = {}
    for splits in dataset.documents:
        for text in splits.values():
            rest = msgspec.json.decode(text.encode(), type=dict[str, msgspec.Raw])
            for item in _list(rest.get("categories", msgspec.Raw(b"[]"))):
                fields = msgspec.json.decode(item, type=dict[str, msgspec.Raw])
                known.setdefault(category_name(msgspec.json.decode(item)) or "", fields)
    made = []
    for number, name in enumerate(dataset.maps[0].names):
        sources = [s for m in dataset.maps for s, new in zip(m.source, m.lut, strict=True) if new == number]
        fields = dict(next((known[s] for s in [name, *sources] if s in known and s in sources), {}))
        fields |= {"id": msgspec.Raw(b"%d" % (number + 1)), "name": msgspec.Raw(_encode(name))}
        if not any(s in known for s in sources):
            fields |= _keypoints_of(dataset, name)
        # One that is the name of another class would be taken for that (pycocotools: `getCatIds`).
        others = {"", *dataset.maps[0].names} - {name}
        above = msgspec.json.decode(fields.get("supercategory", msgspec.Raw(b"null")))
        if not isinstance(above, str) or above in others:
            fields["supercategory"] = msgspec.Raw(_encode(name))
        made.append(msgspec.json.encode(fields))
    return b"[" + b",\n".join(made) + b"]"


def _keypoints_of(dataset: Dataset, name: str) -> dict[str, msgspec.Raw]:
    """What the names of a source say of the keypoints of a class: their names, and a flip that these do not say."""
    for classes, names in zip(dataset.maps, dataset.sources, strict=True):
        if not (names.kpt_names or names.flip_idx):
            continue
        own = [i for i, new in enumerate(classes.lut) if new >= 0 and classes.names[new] == name]
        points = next((names.kpt_names[i] for i in own if i in names.kpt_names), ())
        found: dict[str, Any] = {"keypoints": points, "skeleton": []} if points else {}
        if own and names.flip_idx and list(names.flip_idx) != flips(points):
            found["flip_idx"] = names.flip_idx  # no key of COCO's: one of Ultralytics'
        if found:
            return {key: msgspec.Raw(msgspec.json.encode(value)) for key, value in found.items()}
    return {}


def _encode(text: str) -> bytes:
    return msgspec.json.encode(text)
