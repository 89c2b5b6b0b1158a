"""How the objects of lines become rows: as the label files that Ultralytics makes of them. See `formats.ndjson`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from pipeline.base.redaction import public_address
from pipeline.base.terms import Task
from pipeline.formats import Parsed, Part, Problem
from pipeline.formats._label_rows import parse as parse_rows
from pipeline.formats._values import as_pixels, plain, shown
from pipeline.tables.schema import LabelState

#: What ``annotations`` calls the objects of a task, the fittest first.
_LISTS = {
    "detect": ("boxes", "bboxes", "segments", "obb", "pose"),
    "segment": ("segments", "obb"),
    "pose": ("pose",),
    "obb": ("obb", "segments"),
}

_DIGITS = b"0123456789-+.eE, \n"

_BLANKS = b" \t\r"


class _Record(msgspec.Struct, gc=False):
    file: Any = None
    url: Any = None
    width: Any = None
    height: Any = None
    annotations: dict[str, msgspec.Raw] | None = None


_records = msgspec.json.Decoder(list[_Record]).decode


def parse(part: Part, task: Task, keypoints: tuple[int, int] | None, *, polygons_to_boxes: bool) -> Parsed:
    """See `pipeline.formats.ndjson.parse`."""
    known = _decoded(part.images)
    records = [record or _Record() for record in known]
    files = [_label_rows(record.annotations, task) for record in records]
    parsed = parse_rows(files, task, keypoints, polygons_to_boxes=polygons_to_boxes)
    parsed.problems = [
        replace(p, line=None, detail=f"image {shown(records[p.file].file)}, object {p.line}: {p.detail}")
        for p in parsed.problems
    ]
    for i in (i for i, record in enumerate(known) if record is None):
        parsed.problems.append(
            Problem(i, None, "bad_line", "the line of the image is not JSON in UTF-8; correct it", 0)
        )
        parsed.states[i] = LabelState.CORRUPT
    parsed.problems.sort(key=lambda problem: problem.file)
    parsed.rows = parsed.rows.append_column("label", _labels(parsed.rows["class_id"].to_numpy(), part.labels))
    sizes = [(as_pixels(record.width), as_pixels(record.height)) for record in records]
    parsed.images = pa.table(
        {
            "width": pa.array([w if h is not None else None for w, h in sizes], pa.int32()),
            "height": pa.array([h if w is not None else None for w, h in sizes], pa.int32()),
            "raw": pa.array([_raw(record.url) for record in records], pa.binary()),
        }
    )
    return parsed


def _decoded(texts: Sequence[bytes]) -> list[_Record | None]:
    """The lines of a part, all at once where none is unusual; None for one that cannot be read.

    NaN is what JSON does not know, and Python writes; what is wrong may be in what the outline passed over.
    """
    try:
        return list(_records(b"[" + b",".join(texts) + b"]"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [_one(text) for text in texts]


def _one(text: bytes) -> _Record | None:
    data = plain(text)
    if not isinstance(data, dict):
        return None
    lists = data.get("annotations")
    raws = {name: msgspec.Raw(_text(value)) for name, value in lists.items()} if isinstance(lists, dict) else None
    return _Record(data.get("file"), data.get("url"), data.get("width"), data.get("height"), raws)


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()


def _label_rows(lists: Mapping[str, msgspec.Raw] | None, task: Task) -> bytes:
    """The objects of an image as the text of a label file."""
    if not lists:
        return b""
    names = (name for name in _LISTS[str(task)] if name in lists)
    written = bytes(lists[next(names, next(iter(lists)))])
    text = written.translate(None, _BLANKS + b"\n")
    if text in (b"[]", b"null"):
        return b""
    if text[:2] == b"[[" and text[-2:] == b"]]":
        rows = text[2:-2].replace(b"],[", b"\n").replace(b",", b" ")
        if not rows.translate(None, _DIGITS):
            return rows
    value = plain(written)
    items = value if isinstance(value, list) else [value]
    return b"\n".join(_unusual(item) for item in items)


def _unusual(row: Any) -> bytes:
    """A row as trainers write it, numbers as text too; what is no number is a token that says so."""
    return " ".join(map(_token, row if isinstance(row, list) else [row])).encode(errors="replace")


def _token(value: Any) -> str:
    """A value without blanks: those within a text are in no number, and become ``_`` in quotes."""
    if isinstance(value, int | float | str):
        words = str(value).split()
        return f'"{"_".join(words)}"' if len(words) > 1 else words[0] if words else "?"
    return "".join(shown(value).split())


def _labels(class_id: Any, labels: Mapping[int | str, str]) -> pa.Array:
    """The names of classes: the outline has those of all ids that there are."""
    names = pa.array([labels.get(i, f"class{i}") for i in range(int(class_id.max(initial=-1)) + 1)], pa.string())
    return names.take(pa.array(np.asarray(class_id, np.int32)))


def _raw(url: Any) -> bytes | None:
    """The address of an image as COCO JSON has it; not one with a login or a signature, which would be copied along."""
    address = public_address(url)
    return msgspec.json.encode({"coco_url": address}) if address is not None else None
