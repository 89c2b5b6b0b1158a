"""Rows of an archive's table by name."""

from __future__ import annotations

import builtins
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.storage.archives import table as module
from pipeline.storage.archives.directory import Members
from pipeline.storage.archives.table import Table

NAMES = [f"labels/{n}.txt" for n in range(40)] + ["\N{CJK UNIFIED IDEOGRAPH-4E2D}", "a b"]


def _few(name: object) -> int:
    """A hash that many names share."""
    return builtins.hash(name) % 3


@pytest.mark.parametrize("step", [1, 7, 65_536])
@pytest.mark.parametrize("hashed", [builtins.hash, _few])
@pytest.mark.parametrize("names", [NAMES, NAMES[:1], []])
def test_rows_by_name(
    monkeypatch: pytest.MonkeyPatch, names: list[str], hashed: Callable[[object], int], step: int
) -> None:
    monkeypatch.setattr(module, "_STEP", step)
    monkeypatch.setattr(module, "hash", hashed, raising=False)
    table = Table(Members("\0".join(names).encode(), np.zeros((len(names), 6), np.int64), []))
    assert list(table.names) == names
    asked = ["", *reversed(NAMES), "labels/40.txt", "labels/3"]
    assert table.rows(asked).tolist() == [names.index(name) if name in names else -1 for name in asked]
    assert table.rows([]).tolist() == []
