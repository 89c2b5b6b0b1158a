"""Memory that is free goes back to the system."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from pipeline.base.memory import release_free


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do it by themselves, or cannot")
def test_what_was_freed_between_what_stays_is_given_back() -> None:
    texts: list[bytes | None] = [bytes([number % 256]) * 2000 for number in range(20_000)]
    for number in range(len(texts)):
        if number % 100:
            texts[number] = None
    before = resident()
    release_free()
    assert resident() < before - 20_000_000
    assert texts[200] == bytes([200]) * 2000
