"""Small tables of the project's schemas, row by row: what is not named is null, or of no meaning."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pipeline.tables import schema

if TYPE_CHECKING:
    import pyarrow as pa


def _table(of: pa.Schema, rows: Iterable[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), schema=of).combine_chunks()


def digest(text: str) -> bytes:
    """16 bytes that stand for a content."""
    return zlib.crc32(text.encode()).to_bytes(16, "big")


def file_row(path: str, content: str = "", /, **values: Any) -> dict[str, Any]:
    """A row of wanted files or of a manifest; ``images/train/1.jpg`` is the image of the key ``train/1``."""
    folder, split, stem = path.split("/", 2)
    kind = {"labels": "label", "images": "image"}[folder]
    key = f"{split}/{stem.rpartition('.')[0]}"
    return {"path": path, "kind": kind, "key": key, "split": split, "digest": digest(content), **values}


def wanted(*rows: dict[str, Any]) -> pa.Table:
    """`schema.wanted`."""
    return _table(schema.wanted(), rows)


def manifest(*rows: dict[str, Any]) -> pa.Table:
    """`schema.manifest`."""
    return _table(schema.manifest(), rows)


def images(*rows: dict[str, Any]) -> pa.Table:
    """`schema.images`; each row has at least its key, ``source/split/stem``."""
    filled = []
    for row in rows:
        _, split, stem = row["key"].split("/", 2)
        filled.append({"bucket": 0, "split": split, "stem": stem, "label_state": "found", **row})
    return _table(schema.images(), filled)


def objects(*rows: dict[str, Any]) -> pa.Table:
    """`schema.annotations`; each row has at least its key and class_id."""
    plain = {"bucket": 0, "line": 1, "tail": b" 0.5 0.5 0.1 0.1", "cx": 0.5, "cy": 0.5, "w": 0.1, "h": 0.1}
    return _table(schema.annotations(), ({**plain, "n_tokens": 5, **row} for row in rows))
