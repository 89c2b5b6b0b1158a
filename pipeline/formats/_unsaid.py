"""What a file says of an object beyond what label rows can say, as one counted word."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.formats._values import as_flag

#: Marks that have a word of their own, the weightiest first: an object is counted once.
_MARKS = {"difficult": "marked_difficult", "truncated": "truncated", "occluded": "occluded"}

#: Fields that hold further ones.
_NESTED = ("attributes", "flags")

#: Texts that say nothing; the last is that of Pascal VOC for a pose.
_NOTHING = frozenset({"", "0", "0.0", "false", "no", "none", "null", "unspecified"})


def unsaid(fields: Mapping[str, Any]) -> str | None:
    """The counted word for an object with such further `fields`; None where they say nothing.

    What is empty, false or 0 says nothing, but for a number called ``…_id``, which may be 0.
    """
    several = [fields, *(value for name in _NESTED if isinstance(value := fields.get(name), Mapping))]
    for mark, word in _MARKS.items():
        if any(as_flag(one.get(mark)) for one in several):
            return word
    return "attributes" if says(fields) else None


def says(value: Any) -> bool:
    """Whether a field with that value says something."""
    if isinstance(value, Mapping):
        return any(says(one) or (str(name).endswith("_id") and _is_zero(one)) for name, one in value.items())
    if isinstance(value, list | tuple):
        return any(map(says, value))
    if isinstance(value, str):
        return value.strip().lower() not in _NOTHING
    return bool(value) and not (isinstance(value, float) and math.isnan(value))


def _is_zero(value: Any) -> bool:
    return value == 0 and not isinstance(value, bool)
