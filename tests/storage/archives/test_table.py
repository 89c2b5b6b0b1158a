"""Cached tables of archives: one that this version cannot read is made anew."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.base.digest import digest_of
from pipeline.storage.archives import folder, table
from pipeline.storage.archives.folder import ZipFolder
from pipeline.storage.archives.table import cached_table
from tests.support.archives import Member, build


@pytest.fixture
def archive(tmp_path: Path) -> ZipFolder:
    (tmp_path / "a.zip").write_bytes(build([Member(b"t/a.txt"), Member(b"t/b.txt")]))
    return ZipFolder(f"zip://t::{tmp_path / 'a.zip'}", str(tmp_path / "work"))


def _forget() -> None:
    """As a new process."""
    table._TABLES.clear()


@pytest.mark.parametrize(
    ("name", "version"), [("told", 2), ("head", table._VERSION - 1), ("head", table._VERSION + 1)], ids=str
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
    assert archive.table().names == ["t/a.txt", "t/b.txt"]
    assert (cached_table(str(file)) or ("", None))[0] == identity
    assert len(file.read_bytes()) == len(good)


def test_a_table_of_this_version_is_not_read_again(archive: ZipFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.table()
    _forget()
    monkeypatch.setattr(folder, "read_directory", None)
    assert archive.table().names == ["t/a.txt", "t/b.txt"]
