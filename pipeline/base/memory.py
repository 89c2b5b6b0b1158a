"""Memory that is free goes back to the system."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

#: Bytes of a table that is large: freed memory of less is wanted again sooner than it pays to give it back.
LARGE = 8 << 20


def release_free() -> None:
    """Give back what the C library and Arrow keep of freed memory, which is most where it was freed between what stays.

    Of a COCO JSON of ten million boxes 514 MB become 274 once it was read (November 2026). Where the C library is not
    glibc it is its own affair.
    """
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()
    import ctypes

    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def release_after(size: int) -> None:
    """`release_free` where tables of `size` bytes, no longer used, are large."""
    if size > LARGE:
        release_free()


def release_beside(made: pa.Table) -> None:
    """Give back what Arrow keeps of freed memory after a large table was `made`, which grew to its size by copies.

    It is this thread's alone: what another one has freed it keeps until it calls this itself, or ends.
    """
    if made.nbytes > LARGE:
        import pyarrow as pa

        pa.default_memory_pool().release_unused()
