"""Memory that is free goes back to the system."""

from __future__ import annotations

import ctypes
import sys


def release_free() -> None:
    """Give back what the C library and Arrow keep of freed memory, which is most where it was freed between what stays.

    Of a COCO JSON of ten million boxes 514 MB become 274 once it was read (November 2026). Where the C library is not
    glibc it is its own affair.
    """
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
