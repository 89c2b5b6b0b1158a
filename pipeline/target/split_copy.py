"""The copy of the split table at a target, `.coco-diy/splits.csv`, which vouches for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.base.digest import digest_of

if TYPE_CHECKING:
    from pipeline.storage import Location

#: The copy of the table below the target's `.coco-diy`, and what its last line begins with.
COPY = "splits.csv"

_SIGNATURE = b"# xxh3-128 of the above: "


def sign(table: bytes) -> bytes:
    """A split table with its digest, for the copy at the target."""
    return table + _SIGNATURE + digest_of(table).hex().encode() + b"\n"


def unsign(data: bytes) -> bytes | None:
    """The split table in what `sign` made; None where it is damaged."""
    table, _, digest = data.rpartition(_SIGNATURE)
    return table if digest and digest.strip() == digest_of(table).hex().encode() else None


def is_sound(folder: Location) -> bool:
    """Whether the copy is in `folder`, as it was written."""
    return unsign(folder.read(COPY) or b"") is not None
