"""How labelme's files are decoded: by msgspec or, with NaN and the like in them, by the standard library."""

from __future__ import annotations

import json

import msgspec

from pipeline.formats._flaws import flaw_of
from pipeline.formats._shapes.outlines import ShapeError
from pipeline.formats._shapes.rows import ShapeFile
from pipeline.formats._values import finite

_BOM = b"\xef\xbb\xbf"

#: Bytes in which ISAT says whose file it is.
_HEAD = 1000


def decode(content: bytes) -> ShapeFile:
    """The file's content, not checked in detail; raises `ShapeError` for what is no labelme file."""
    text = content.removeprefix(_BOM)
    try:
        found = msgspec.json.decode(text, type=ShapeFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _decode_slowly(text)
    if not isinstance(found.shapes, list):
        cure = "a label file of ISAT; take format isat" if b'"ISAT"' in text[:_HEAD] else "move it elsewhere"
        raise ShapeError("not_labelme", f"is JSON, but has no list `shapes`: no label file of labelme; {cure}")
    return found


def _decode_slowly(text: bytes) -> ShapeFile:
    """By the standard library, which takes NaN, as Python writes it, and 1e999; raises `ShapeError` with the cause."""
    if (flaw := flaw_of(text)) is not None:
        raise ShapeError(flaw.reason, flaw.detail, flaw.line)
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ShapeError("not_labelme", "is JSON, but no label file of labelme; move it elsewhere")
    embedded = json.dumps(data.get("imageData")).encode()
    plain = {name: data.get(name) for name in ShapeFile.__struct_fields__ if name != "imageData"}
    return ShapeFile(imageData=msgspec.Raw(embedded), **plain | {"flags": finite(data.get("flags"))})
