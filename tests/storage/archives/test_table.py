"""Tables of archives: rows by name, and cached ones: one that this version cannot read is made anew."""

from __future__ import annotations

import builtins
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.base.digest import digest_of
from pipeline.storage.archives import folder
from pipeline.storage.archives import table as module
from pipeline.storage.archives.directory import Members
from pipeline.storage.archives.folder import ZipFolder
from pipeline.storage.archives.table import Table, cached_table
from tests.support.archives import Member, build

NAMES = [f"labels/{n}.txt" for n in range(40)] + ["\N{CJK UNIFIED IDEOGRAPH-4E2D}", "a b"]


@pytest.fixture
def archive(tmp_path: Path) -> ZipFolder:
    (tmp_path / "a.zip").write_bytes(build([Member(b"t/a.txt"), Member(b"t/b.txt")]))
    return ZipFolder(f"zip://t::{tmp_path / 'a.zip'}", str(tmp_path / "work"))


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


def _forget() -> None:
    """As a new process."""
    module._TABLES.clear()


@pytest.mark.parametrize(
    ("name", "version"), [("told", 2), ("head", module._VERSION - 1), ("head", module._VERSION + 1)], ids=str
)
def test_a_table_of_another_version_is_made_anew(archive: ZipFolder, name: str, version: int) -> None:
    archive.table()
    file = Path(archive.table_file() or "")
    good, (identity, members) = file.read_bytes(), cached_table(str(file)) or ("", None)
    assert members is not None
    made = io.BytesIO()
    head = json.dumps([version, identity, members.unusable]).encode()
    arrays: dict[str, Any] = {name: np.frombuffer(head, np.uint8)}
    np.savez(made, numbers=members.numbers, names=np.zeros(0, np.uint8), **arrays)
    file.write_bytes(digest_of(made.getvalue()) + made.getvalue())
    assert cached_table(str(file)) is None
    _forget()
    assert list(archive.table().names) == ["t/a.txt", "t/b.txt"]
    assert (cached_table(str(file)) or ("", None))[0] == identity
    assert len(file.read_bytes()) == len(good)


def test_a_table_of_this_version_is_not_read_again(archive: ZipFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.table()
    _forget()
    monkeypatch.setattr(folder, "read_directory", None)
    assert list(archive.table().names) == ["t/a.txt", "t/b.txt"]
