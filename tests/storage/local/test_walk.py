"""A listing is the same whether or not another process took a share of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.runtime.counters import WATCHING, files_counted
from pipeline.storage.local import walk
from pipeline.storage.local.walk import _directory, _stats, list_folder, list_linked, list_names
from tests.support.helpers import write_file

PROGRAM = """
import os, sys, threading
from pipeline.storage.local import walk

folder, share, ended, thread = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
if thread:
    threading.Thread(name=thread, daemon=True, target=threading.Event().wait).start()
walk._SHARE = share
fork, forks = os.fork, []
os.fork = lambda: forks.append(fork()) or forks[-1]
if ended == "early":
    packed = walk._packed
    walk._packed = lambda *args: packed(*args)[:-8]
found = walk.list_folder(folder, frozenset({".txt"}), with_stats=True)
print(len(forks), found.count, found.digest().hex(), [path for path, _ in found.unusable])
"""


def told(folder: Path, share: int, ended: str = "well", thread: str = "") -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), str(share), ended, thread],
        capture_output=True,
        text=True,
        check=True,
    )
    forks, rest = done.stdout.split(" ", 1)
    return int(forks), rest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux, where a process can see its threads")
def test_shared_and_alone(tmp_path: Path) -> None:
    for i in range(60):
        (tmp_path / f"{i}.txt").write_text("1 0.5 0.5 0.5 0.5\n" * (i % 7))
    (tmp_path / "below").mkdir()
    for i in range(9):
        (tmp_path / "below" / f"{i} \N{BICYCLE}.txt").write_text("x" * i)
    (tmp_path / "gone.txt").symlink_to("nowhere")
    forks, alone = told(tmp_path, 1000)
    assert forks == 0
    assert alone.startswith("69 ")
    for ended, thread, forked in (("well", "", 1), ("early", "", 1), ("well", WATCHING, 1), ("well", "another", 0)):
        forks, shared = told(tmp_path, 20, ended, thread)
        assert shared == alone
        assert forks == (forked if len(os.sched_getaffinity(0)) > 1 else 0)


def test_listed_files_are_counted_for_progress(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.txt").touch()
    before = files_counted()
    list_folder(str(tmp_path), frozenset({".txt"}), with_stats=False)
    assert files_counted() - before == 5


def test_files_that_go_amid_a_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{i}.txt" for i in range(8)]
    for name in names:
        (tmp_path / name).write_text(name * 3)
    monkeypatch.setattr(walk, "_SHARE", 1000)
    with _directory(str(tmp_path)) as fd:
        for i in (0, 3, 7):
            (tmp_path / names[i]).unlink()
        stats = _stats(names, fd)
    assert names == ["1.txt", "2.txt", "4.txt", "5.txt", "6.txt"]
    assert list(stats[::4]) == [15] * 5
    assert list(stats[3::4]) == [(tmp_path / name).stat().st_ino for name in names]


def test_a_folder_rather_than_a_file_since_files_go(tmp_path: Path) -> None:
    assert storage.any_name(str(tmp_path)) is None
    write_file(tmp_path / "data.yaml", "names: {}\n")
    assert storage.any_name(str(tmp_path)) == "data.yaml"
    for name in ("labels/train/a.txt", ".coco-diy/manifest.json", "images/train/a.jpg"):
        write_file(tmp_path / name, "")
    assert storage.any_name(str(tmp_path)) == ".coco-diy"
    assert storage.any_name(str(tmp_path / "none")) is None


def test_links_are_followed_once_where_a_layout_is_looked_for(tmp_path: Path) -> None:
    """As a listing follows them; what is no link comes first, and of our own folders none is followed."""
    root = tmp_path / "in"
    for name in ("in/train/a.txt", "in/train/deep/b.txt", "far/c.txt", "far/deep/d.txt"):
        write_file(tmp_path / name, "")
    links = {
        "above": "..", "self": "self", "here": ".", "again": "train", "train/up": "../..",
        "train/deep/out": "../../../far", "nowhere": "none", "file": "train/a.txt",
    }  # fmt: skip
    for name, home in links.items():
        (root / name).symlink_to(home)
    plain = {"train/a.txt", "train/deep/b.txt", "self", "nowhere", "file"}
    assert list_names(str(root)) >= plain
    found = list_linked(str(root))
    assert found == plain | {"above/far/c.txt", "above/far/deep/d.txt"}
    listed = storage.locate(str(root)).listing(frozenset({".txt"}), with_stats=False)
    assert len([name for name in found if name.endswith(".txt")]) == listed.count
    own = storage.locate_writable(str(tmp_path)).own("in").names()
    assert not [name for name in own if name.endswith(("c.txt", "d.txt"))]
    assert own >= {"train/a.txt", "above"}
    assert list_linked(str(tmp_path / "none")) == set()
