"""How old a file must be before its fingerprint counts: a younger one may change again without a new timestamp."""

from __future__ import annotations

import os

#: Seconds; the clock of FAT and of some shares ticks every 2 s.
SETTLE_S = 2.0

#: The environment variable that sets other seconds, for tests only: no user needs it, and no page names it.
VARIABLE = "COCO_DIY_SETTLE"


def settle_ns() -> int:
    """Nanoseconds since its last change after which a file is settled."""
    return round(float(os.environ.get(VARIABLE, SETTLE_S)) * 1e9)
