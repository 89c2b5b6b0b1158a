"""Captions of formats that have none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.base.arrays import Ints
    from pipeline.formats import FileOutline


def captions(pieces: Iterable[bytes], of: FileOutline) -> tuple[Ints, Ints]:
    """None: the format has no `CAPTIONS`, see `SingleFileFormat.captions`."""
    import numpy as np

    del pieces, of
    return np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
