"""The classes that are labelled everywhere in an image, as LVIS says it.

Of a federated dataset nobody looked at each image for each class: ``neg_category_ids`` are those that an image holds no
object of, ``not_exhaustive_category_ids`` those of which it may hold more than are labelled. See Gupta et al., LVIS
(2019), 3.1, and https://github.com/lvis-dataset/lvis-api.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from pipeline.formats._values import plain

_KEYS = ("neg_category_ids", "not_exhaustive_category_ids")


Id = int | str | float


class _Lists(msgspec.Struct, gc=False):
    neg_category_ids: list[Id] | None = None
    not_exhaustive_category_ids: list[Id] | None = None


_decode = msgspec.json.Decoder(_Lists).decode


def exhaustive(images: Sequence[bytes], labels: Mapping[int | str, str], rows: pa.Table) -> pa.Array:
    """Names of the classes that are labelled everywhere in each of `images`, one a line; null where it says nothing.

    `labels` are names by category id, `rows` have the column ``file``, a position in `images`, and ``label``. Without a
    list of what it does not hold, an image is labelled everywhere with all classes but those that are said to be not.
    """
    lists = {i: _lists(image) for i, image in enumerate(images) if b"_category_ids" in image}
    lists = {i: found for i, found in lists.items() if found != (None, None)}
    if not lists:
        return pa.nulls(len(images), pa.string())
    names: list[set[str] | None] = [set() if i in lists else None for i in range(len(images))]
    for i, name in zip(rows["file"].to_pylist(), rows["label"].to_pylist(), strict=True):
        if (known := names[i]) is not None:
            known.add(name)
    for i, (absent, partly) in lists.items():
        known = names[i] or set()
        known |= {*labels.values()} if absent is None else _names(absent, labels)
        names[i] = known - _names(partly or (), labels)
    return pa.array([None if some is None else "\n".join(sorted(some)) for some in names], pa.string())


def _names(ids: Sequence[Any], labels: Mapping[int | str, str]) -> set[str]:
    return {labels[key] for key in ids if key in labels}


def _lists(image: bytes) -> tuple[list[Id] | None, list[Id] | None]:
    """What an image object has of both lists; None for one that is missing, or no list of ids."""
    try:
        found = _decode(image)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        data = plain(image)
        absent, partly = (data.get(key) if isinstance(data, dict) else None for key in _KEYS)
        return _ids(absent), _ids(partly)
    return found.neg_category_ids, found.not_exhaustive_category_ids


def _ids(value: object) -> list[Id] | None:
    return [key for key in value if isinstance(key, int | str | float)] if isinstance(value, list) else None
