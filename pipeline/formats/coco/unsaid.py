"""Fields of annotations beyond COCO's own, which go along to COCO JSON and are in no label row.

Most files have none, which the decoder says by the way: structs that know COCO's fields refuse any other. Only batches
that have others are looked at annotation by annotation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pipeline.formats._unsaid import unsaid
from pipeline.formats._values import plain

#: COCO's fields of an object, and the size of its image, which pycococreator repeats in each.
KNOWN = frozenset(
    {
        *("id", "image_id", "category_id", "bbox", "area", "segmentation", "iscrowd", "keypoints", "num_keypoints"),
        *("width", "height"),
    }
)


class _Empty(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An object without fields."""


def strict(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """A kind of struct that refuses fields beyond COCO's which say something; what it does not read is passed over."""
    own = kind.__struct_fields__
    nothing = msgspec.Raw(b"null")
    fields: list[tuple[str, Any, Any]] = [(name, msgspec.Raw, nothing) for name in sorted(KNOWN.difference(own))]
    fields += [(name, _Empty | None, None) for name in ("attributes", "flags")]
    return msgspec.defstruct(f"{kind.__name__}Alone", fields, bases=(kind,), gc=False, forbid_unknown_fields=True)


_fields = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode


def words_of(raws: Sequence[bytes]) -> list[str | None]:
    """The counted word for what rows do not say of each of some annotations."""
    try:
        several: list[dict[str, Any]] = _fields(b"[" + b",".join(raws) + b"]")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        several = [data if isinstance(data := plain(raw), dict) else {} for raw in raws]
    known: dict[tuple[Any, ...], str | None] = {}  # few sets of fields are of many objects
    words = []
    for fields in several:
        rest = [(name, value) for name, value in fields.items() if name not in KNOWN]
        key = tuple([(name, bytes(value)) for name, value in rest if isinstance(value, msgspec.Raw)])
        if len(key) < len(rest):  # of a file with NaN, whose values are decoded
            words.append(unsaid(dict(rest)))
            continue
        if key not in known:
            known[key] = unsaid({name: plain(text) for name, text in key}) if key else None
        words.append(known[key])
    return words
