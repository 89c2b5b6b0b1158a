"""JSON objects of one bucket for the COCO layout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.exporters import BucketObjects
from pipeline.formats._values import finite, plain, with_numbers
from pipeline.formats.coco.placing import completed
from pipeline.geometry import masks

#: What comes before every object, so that those of an image, one after another, are a piece of a JSON list.
COMMA = b",\n"

#: Whole numbers beyond it are not kept as ids: JavaScript and double precision would change them.
_MAX_ID = 1 << 53

Span = tuple[int, int]

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

    def add(
        self, image: int, kind: str, text: bytes, id_at: Span, image_id_at: Span, own_id: bytes, *, given: bool = True
    ) -> None:
        """`own_id` is the text of its image's id; where image_id says the same, it need not be written anew.

        What is where the ids are counts as one only where it was `given`.
        """
        self.image.append(image)
        self.kind.append(kind)
        self.text.append(COMMA + text)
        self.id.append(_number(text[slice(*id_at)]) if given else None)
        self.id_at.append(_moved(id_at, len(COMMA)))
        self.image_id_at.append(_moved(image_id_at, len(COMMA)))
        self.right.append(bool(own_id) and text[slice(*image_id_at)] == own_id)

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
    image_of = pc.index_in(rows["key"].combine_chunks(), images["key"].combine_chunks()).to_pylist()
    category = (pc.add(rows["class_id"].combine_chunks(), 1)).to_pylist()
    raws = rows["raw"].to_pylist() if "raw" in rows.column_names else [None] * rows.num_rows
    widths, heights = images["width"].to_pylist(), images["height"].to_pylist()
    lacking = [i for i, raw in enumerate(raws) if raw is None or not _says_where(raw)]
    made = _of_rows(rows.take(pa.array(lacking, pa.int64())), [image_of[i] for i in lacking], images, keypoints)
    for i, text in zip(lacking, made, strict=True):
        given = raws[i]
        raws[i] = text if given is None else msgspec.json.encode(_fields(text) | _fields(given))
    for where, new, raw in zip(image_of, category, raws, strict=True):
        assert raw is not None
        raw = completed(with_numbers(raw), widths[where], heights[where])  # noqa: PLW2901
        spans = _spans(raw)
        if spans["category_id"] == (0, 0):  # a format without such ids: they come first
            head = b'{"id":0,"image_id":0,"category_id":%d,' % new
            objects.add(where, "annotation", head + raw[1:], (6, 7), (19, 20), b"", given=False)
            continue
        begin, stop = spans["category_id"]
        number = b"%d" % new
        moved = len(number) - (stop - begin)
        text = raw[:begin] + number + raw[stop:]
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


def _of_rows(
    rows: pa.Table, image_of: Sequence[int], images: pa.Table, keypoints: tuple[int, int] | None
) -> list[bytes]:
    """Annotations of label rows, or boxes alone, without what only a whole dataset knows."""
    widths, heights = images["width"].to_pylist(), images["height"].to_pylist()
    boxes = np.stack([rows[c].to_numpy() for c in ("cx", "cy", "w", "h")], axis=1) if rows.num_rows else ()
    made: list[dict[str, Any]] = []
    drawn: list[tuple[int, npt.NDArray[np.float64]]] = []
    for where, tail, (cx, cy, w, h) in zip(image_of, rows["tail"].to_pylist(), boxes, strict=True):
        width, height = widths[where], heights[where]
        box = _rounded([(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height])
        data: dict[str, Any] = {"segmentation": [], "area": _rounded([box[2] * box[3]])[0], "bbox": box, "iscrowd": 0}
        tokens = np.array((tail or b"").split(), np.float64)
        if keypoints is not None:
            data |= _keypoints(tokens[4:].reshape(keypoints), width, height)
        elif len(tokens) > 4:
            polygon = tokens.reshape(-1, 2) * (width, height)
            data["segmentation"] = [_rounded(polygon.ravel().tolist())]
            drawn.append((len(made), polygon))
        made.append(data)
    if drawn:
        starts = np.cumsum([0, *(len(polygon) for _, polygon in drawn)])
        owners = [image_of[i] for i, _ in drawn]
        sizes = (np.array([those[where] for where in owners], np.int64) for those in (heights, widths))
        areas = masks.areas_of_polygons(np.concatenate([polygon for _, polygon in drawn]), starts, *sizes)
        for (i, _), area in zip(drawn, areas.tolist(), strict=True):
            made[i]["area"] = area
    return [_encode(data) for data in made]


def _keypoints(points: npt.NDArray[np.float64], width: int, height: int) -> dict[str, Any]:
    """x, y and how visible it is of each keypoint; without the latter every one that is not at 0, 0 counts as seen."""
    seen = points[:, 2] if points.shape[1] == 3 else np.where(points.any(axis=1), 2, 0)
    xy = points[:, :2] * (width, height)
    flat = [v for (x, y), s in zip(xy.tolist(), seen.tolist(), strict=True) for v in (*_rounded([x, y]), int(s))]
    return {"keypoints": flat, "num_keypoints": int((seen > 0).sum())}


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(v), 3) for v in values]


def _encode(data: Any) -> bytes:
    return msgspec.json.encode(data)
