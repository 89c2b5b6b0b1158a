"""JSON objects of one bucket for the COCO layout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.exporters import BucketObjects
from pipeline.exporters.coco.label_rows import annotations_of_rows
from pipeline.formats._values import finite, plain, with_numbers
from pipeline.formats.coco.placing import all_completed

#: What comes before every object, so that those of an image, one after another, are a piece of a JSON list.
COMMA = b",\n"

#: Whole numbers beyond it are not kept as ids: JavaScript and double precision would change them.
_MAX_ID = 1 << 53

Span = tuple[int, int]

#: How an annotation begins that the source gave no ids, and where those will be, behind `COMMA`.
_HEAD = b'{"id":0,"image_id":0,"category_id":%d,'
_NEW_ID_AT, _NEW_IMAGE_ID_AT = (8, 9), (21, 22)

_IDS = re.compile(rb'"(id|image_id|category_id)"\s*:\s*("(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*)')


class _Ids(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw(b"")
    image_id: msgspec.Raw = msgspec.Raw(b"")
    category_id: msgspec.Raw = msgspec.Raw(b"")


_ids = msgspec.json.Decoder(_Ids).decode


class _Objects:
    """JSON objects with the positions of their ids, column by column."""

    def __init__(self) -> None:
        self.image: list[int] = []
        self.kind: list[str] = []
        self.text: list[bytes] = []
        self.id: list[int | None] = []
        self.id_at: list[Span] = []
        self.image_id_at: list[Span] = []
        self.right: list[bool] = []

    def add(self, image: int, kind: str, text: bytes, id_at: Span, image_id_at: Span, own_id: bytes) -> None:
        """`own_id` is the text of its image's id; where image_id says the same, it need not be written anew."""
        self.image.append(image)
        self.kind.append(kind)
        self.text.append(COMMA + text)
        self.id.append(_number(text[slice(*id_at)]))
        self.id_at.append(_moved(id_at, len(COMMA)))
        self.image_id_at.append(_moved(image_id_at, len(COMMA)))
        self.right.append(bool(own_id) and text[slice(*image_id_at)] == own_id)

    def add_new(self, image: int, text: bytes) -> None:
        """Add the annotation `text`, which has neither ids nor a category yet: it begins as `_HEAD` does."""
        self.image.append(image)
        self.kind.append("annotation")
        self.text.append(COMMA + text)
        self.id.append(None)
        self.id_at.append(_NEW_ID_AT)
        self.image_id_at.append(_NEW_IMAGE_ID_AT)
        self.right.append(False)

    def table(self) -> pa.Table:
        """`BucketObjects.objects`, in the order in which objects were added."""
        return pa.table(
            {
                "image": pa.array(self.image, pa.int32()),
                "kind": pa.array(self.kind, pa.string()),
                "text": pa.array(self.text, pa.binary()),
                "id": pa.array(self.id, pa.int64()),
                **{
                    f"{name}_{end}": pa.array([span[i] for span in spans], pa.int32())
                    for name, spans in (("id", self.id_at), ("image_id", self.image_id_at))
                    for i, end in enumerate(("begin", "stop"))
                },
                "right": pa.array(self.right, pa.bool_()),
            }
        )


def records(rows: pa.Table, images: pa.Table, keypoints: tuple[int, int] | None) -> BucketObjects:
    """See `pipeline.exporters.coco.records`."""
    texts = [
        _image(*values)
        for values in zip(
            *(images[c].to_pylist() for c in ("raw", "stem", "image_path", "width", "height", "key")), strict=True
        )
    ]
    own = [text[slice(*at)] if given else b"" for text, at, given in texts]
    pictures = pa.table(
        {
            "key": images["key"],
            "split": images["split"],
            "text": pa.array([COMMA + text for text, *_ in texts], pa.binary()),
            "id": pa.array([_number(own_id) for own_id in own], pa.int64()),
            "id_begin": pa.array([_moved(at, len(COMMA))[0] for _, at, _ in texts], pa.int32()),
            "id_stop": pa.array([_moved(at, len(COMMA))[1] for _, at, _ in texts], pa.int32()),
        }
    )
    objects = _Objects()
    _annotations(objects, rows, images, own, keypoints)
    for image, text in enumerate(images["captions"].to_pylist()):
        for raw in msgspec.json.decode(text, type=list[msgspec.Raw]) if text else ():
            caption = with_numbers(bytes(raw))
            spans = _spans(caption)
            objects.add(image, "caption", caption, spans["id"], spans["image_id"], own[image])
    table = objects.table()
    order = pc.sort_indices(table, [("kind", "ascending"), ("image", "ascending")])
    return BucketObjects(pictures.combine_chunks(), table.take(order).combine_chunks())


def _image(
    raw: bytes | None, stem: str, path: str | None, width: int | None, height: int | None, key: str
) -> tuple[bytes, Span, bool]:
    """The JSON object of an image, where its id is in it, and whether the source gave that.

    Its file name is that below the split's folder; of several sources the stem begins with the folder of its own.
    """
    suffix = path[path.rfind(".") :] if path is not None else ""
    fields = _fields(raw) if raw is not None else {}
    if "id" not in fields or raw is None:
        data = {"id": 0, "file_name": stem + suffix or key, "width": width, "height": height}
        # what a format says of an image beside its size
        data |= {k: msgspec.json.decode(v) for k, v in fields.items() if k not in data}
        return _encode(data), (6, 7), False
    said = _decoded(fields.get("file_name"))
    name = stem + suffix if suffix else f"{stem}.{said.rpartition('.')[2]}" if isinstance(said, str) else stem
    wanted = {"file_name": name, "width": width, "height": height}
    changed = {k: msgspec.Raw(_encode(v)) for k, v in wanted.items() if v is not None and _decoded(fields.get(k)) != v}
    text = msgspec.json.encode(fields | changed) if changed or not _is_json(raw) else raw
    return text, _spans(text)["id"], True


def _fields(raw: bytes) -> dict[str, msgspec.Raw]:
    """The members of an object, each as it is written; what JSON does not know (NaN) is null."""
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return msgspec.json.decode(msgspec.json.encode(finite(plain(raw))), type=dict[str, msgspec.Raw])


def _is_json(raw: bytes) -> bool:
    try:
        msgspec.json.decode(raw, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return True


def _decoded(value: msgspec.Raw | None) -> Any:
    return msgspec.json.decode(value) if value is not None else None


def _annotations(
    objects: _Objects, rows: pa.Table, images: pa.Table, own: Sequence[bytes], keypoints: tuple[int, int] | None
) -> None:
    image_of = pc.index_in(rows["key"].combine_chunks(), images["key"].combine_chunks()).to_numpy()
    category = (pc.add(rows["class_id"].combine_chunks(), 1)).to_pylist()
    raws = rows["raw"].to_pylist() if "raw" in rows.column_names else [None] * rows.num_rows
    lacking = [i for i, raw in enumerate(raws) if raw is None or not _says_where(raw)]
    made = annotations_of_rows(rows.take(pa.array(lacking, pa.int64())), image_of[lacking], images, keypoints)
    new = {}
    for i, text in zip(lacking, made, strict=True):
        if (given := raws[i]) is None:
            new[i] = text
        else:
            raws[i] = msgspec.json.encode(_fields(text) | _fields(given))
    named, texts = [], []
    for i, raw in enumerate(raws):
        if raw is not None:
            named.append(i)
            texts.append(raw)
    widths, heights = (images[c].take(pa.array(image_of[named])).to_pylist() for c in ("width", "height"))
    for i, text in zip(named, all_completed(texts, widths, heights), strict=True):
        raws[i] = text
    for i, (where, number, raw) in enumerate(zip(image_of.tolist(), category, raws, strict=True)):
        spans = _spans(raw) if raw is not None else {}
        if not spans or spans["category_id"] == (0, 0):  # a format without such ids: they come first
            objects.add_new(where, _HEAD % number + (new[i] if raw is None else raw)[1:])
            continue
        begin, stop = spans["category_id"]
        moved = len(b"%d" % number) - (stop - begin)
        text = raw[:begin] + b"%d" % number + raw[stop:]
        id_at, image_id_at = (_moved(at, moved if at[0] > begin else 0) for at in (spans["id"], spans["image_id"]))
        objects.add(where, "annotation", text, id_at, image_id_at, own[where])


def _says_where(raw: bytes) -> bool:
    """Whether an annotation has a box or an outline of its own; one of shares of an image has that of its row."""
    return any(name in raw for name in (b'"bbox"', b'"segmentation"', b'"keypoints"'))


def _spans(raw: bytes) -> dict[str, Span]:
    """Where the values of id, image_id and category_id are in an object; (0, 0) for one that it does not have."""
    found = {m[1].decode(): m.span(2) for m in _IDS.finditer(raw)}
    names = ("id", "image_id", "category_id")
    # A key within a value of another, or a duplicate, would be found too: then it is asked exactly.
    if len(found) < 3 or raw.count(b"{") > 1 or sum(raw.count(b'"%s"' % name.encode()) for name in names) != 3:
        values = _ids(raw)
        base = _address(raw)
        found = {}
        for name in names:
            value = getattr(values, name)
            if memoryview(value):
                begin = _address(value) - base
                found[name] = begin, begin + len(memoryview(value))
    return {name: found.get(name, (0, 0)) for name in names}


def _address(value: Any) -> int:
    return int(np.frombuffer(value, np.uint8).__array_interface__["data"][0])


def _moved(span: Span, by: int) -> Span:
    return span if span == (0, 0) else (span[0] + by, span[1] + by)


def _number(text: bytes) -> int | None:
    """An id that can be kept: a whole number."""
    return int(text) if text.isdigit() and len(text) < 17 and int(text) <= _MAX_ID else None


def _encode(data: Any) -> bytes:
    return msgspec.json.encode(data)
