"""Nested counts, added up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def add_counts(total: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add nested counts in place."""
    for key, value in more.items():
        if isinstance(value, Mapping):
            add_counts(total.setdefault(key, {}), value)
        else:
            total[key] = total.get(key, 0) + value
