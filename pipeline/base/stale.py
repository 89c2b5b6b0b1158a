"""What NFS says of a file or folder that its server no longer knows by the handle that this machine has."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def with_new_handle(call: Callable[[], T]) -> T:
    """What `call` returns; it is called again where the handle was stale (ESTALE): by its name NFS gives a new one."""
    try:
        return call()
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return call()
