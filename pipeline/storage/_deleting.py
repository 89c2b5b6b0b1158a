"""Deleting where each file takes a request of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from pipeline.storage._refused import Missing, Refused
from pipeline.storage._window import in_flight


def delete_each(remove: Callable[[str], object], keys: Sequence[str], top: str, width: int) -> dict[str, str]:
    """Delete each of `keys` by `remove`, many at a time; one that is gone counts as done.

    Returns reasons by key of those that stay; `top` stands before a key in messages. Raises `StorageError` for what
    would meet every file. A single file is deleted also in a run that is being stopped: it may be its lock.
    """
    def gone(key: str) -> None:
        with contextlib.suppress(Missing):
            remove(key)

    if len(keys) == 1:
        try:
            gone(keys[0])
        except Refused as refused:
            if refused.fatal:
                raise
            return {keys[0]: refused.reason}
        return {}
    results = in_flight(gone, keys, name=lambda key: f"{top}/{key}", doing="deleted", width=min(width, len(keys)))
    return {key: result.reason for key, result in results if isinstance(result, Refused)}
