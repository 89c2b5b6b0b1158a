"""NFS says once that a handle is stale: what is asked by name again is there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import storage
from pipeline.base.errors import ConfigError, StorageError
from pipeline.config.load import read_text

READS: dict[str, Callable[[Path], object]] = {
    "a config": lambda folder: read_text(str(folder / "a.txt"), "config"),
    "a listing": lambda folder: [*storage.locate(str(folder)).listing(frozenset({".txt"}), with_stats=False).names()],
    "files": lambda folder: storage.locate(str(folder)).read_many(["a.txt"], 100)[0],
    "fingerprints": lambda folder: storage.locate(str(folder)).fingerprints(["a.txt"]),
}


@pytest.mark.parametrize("what", READS)
@pytest.mark.parametrize("times", [1, 2])
def test_a_stale_handle_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, times: int
) -> None:
    (tmp_path / "a.txt").write_text("a")
    expected = READS[what](tmp_path)
    opened, left = os.open, [times]

    def stale(path: Any, *args: Any, **options: Any) -> int:
        if str(path).startswith(str(tmp_path)) and left[0]:
            left[0] -= 1
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return opened(path, *args, **options)

    storage.begin_listings()
    monkeypatch.setattr(os, "open", stale)
    if times == 1:
        assert READS[what](tmp_path) == expected
    else:
        with pytest.raises((StorageError, ConfigError), match=r"[Ss]tale file handle"):
            READS[what](tmp_path)
    assert left == [0]
