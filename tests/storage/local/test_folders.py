"""Folders of this machine: files that several take by renaming them, and folders that are their user's alone."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.base.errors import StorageError
from pipeline.storage.local.folders import make_private, rename
from pipeline.storage.local.root import Root


def test_of_several_who_rename_one_file_one_does(tmp_path: Path) -> None:
    root = Root(str(tmp_path))
    for number in range(50):
        (tmp_path / f"task{number}").touch()

    def take(who: int) -> list[int]:
        return [n for n in range(50) if rename(root, f"task{n}", f"taken{n}-{who}")]

    with ThreadPoolExecutor(4) as pool:
        taken = sorted(number for numbers in pool.map(take, range(4)) for number in numbers)
    assert taken == list(range(50))
    assert rename(root, "task0", next(p.name for p in tmp_path.glob("taken0-*")))  # done, though the answer was lost
    assert not rename(Root(str(tmp_path / "gone")), "a", "b")


def test_a_private_folder_is_its_users_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "private"
    assert make_private(str(folder))
    assert folder.stat().st_mode & 0o777 == 0o700
    for mode, private in ((0o755, True), (0o775, False), (0o707, False)):
        folder.chmod(mode)
        assert make_private(str(folder)) is private
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        make_private(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("number", "there"),
    [
        *((number, False) for number in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)),
        *((number, None) for number in (errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT)),
    ],
)
def test_what_cannot_be_asked_is_not_gone(
    tmp_path: Path, number: int, *, there: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that somebody may not enter, a server that does not answer, a FUSE whose process died."""

    def fail(*_: object, **__: object) -> os.stat_result:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "stat", fail)
    for url in (str(tmp_path), f"zip://x::{tmp_path}/x.zip"):
        if there is None:
            with pytest.raises(StorageError, match="cannot be read: "):
                storage.locate(url).exists()
        else:
            assert storage.locate(url).exists() is there
