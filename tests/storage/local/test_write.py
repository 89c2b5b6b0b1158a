"""A file is written whole or not at all: an interrupt at any line leaves old content or new, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from pipeline.storage.local.copy import copy_many
from pipeline.storage.local.folder import LocalFolder
from pipeline.storage.local.root import Root
from pipeline.storage.local.write import replace_with, write_many, write_pieces, write_whole
from pipeline.storage.location import Copies
from tests.support.helpers import contents, write_file

OLD, NEW = b"old", b"new content"


def whole(root: Path) -> None:
    write_whole(Root(str(root)), "a.txt", NEW)


def many(root: Path) -> None:
    write_many(Root(str(root)), ["a.txt"], [NEW])


def direct(root: Path) -> None:
    write_many(Root(str(root)), ["b.txt"], [NEW], direct=True)


def copied(root: Path) -> None:
    copy_many(Root(str(root)), Copies(["a.txt"], LocalFolder(str(root.parent)), ["source.txt"], [len(NEW)]))


def pieces(root: Path) -> None:
    write_pieces(str(root / "a.txt"), [NEW[:3], NEW[3:]])


def replaced(root: Path) -> None:
    def write(path: str) -> None:
        write_file(Path(path), NEW)

    replace_with(str(root / "a.txt"), write)


def interrupted(work: Callable[[], object], at: int) -> bool:
    """Do `work`, with an interrupt before line `at` of all lines of ours in it; whether there was one."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if "pipeline/storage/local" not in frame.f_code.co_filename:
            return None
        if event == "line" and frame.f_code.co_name != "clean":
            count += 1
            if count == at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # what an interrupt left open, garbage closes
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("write", [whole, many, direct, copied, pieces, replaced])
def test_an_interrupt_at_any_line(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write_file(tmp_path / "source.txt", NEW)
    root, at, seen = tmp_path / "root", 0, set[bytes]()
    name = "b.txt" if write is direct else "a.txt"
    while True:
        at += 1
        write_file(root / "a.txt", OLD)
        (root / "b.txt").unlink(missing_ok=True)
        going_on = interrupted(lambda: write(root), at)
        left = contents(root)
        seen.add(left.pop(name, b""))
        assert left == ({"a.txt": OLD} if write is direct else {})
        if not going_on:
            break
    assert at > 10
    assert seen == {b"" if write is direct else OLD, NEW}
