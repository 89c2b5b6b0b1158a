"""Small trees, runs of the command, and looks at what they left on disk. No test stands here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings

from pipeline.storage.settling import settle_ns
from tests.support.forks import command_words

PROJECT = Path(__file__).parents[2]
NAMES = ("person", "bicycle", "car", "motorcycle", "bus", "truck")
POLYGON = "0.1 0.1 0.9 0.1 0.5 0.95"

#: The town: label files (by split folder and stem) and images (by split folder and file name).
LABELS: dict[str, dict[str, str]] = {
    "train2017": {
        "a": "0 0.5 0.5 0.2 0.2\n1 0.25 0.25 0.1 0.1\n",
        "b": "1 0.3 0.3 0.1 0.1\n2 0.4 0.4 0.100 1e-1\n0 0.5 0.5 0.1 0.1\n",
        "c": "2 0.5 0.5 0.4 0.4\n5 0.6 0.6 0.2 0.2\n",
        "d": f"1 {POLYGON}\n4 {POLYGON} 0.2 0.2\n",
        "empty": "",
        "only_person": "0 0.5 0.5 0.5 0.5\n0 0.1 0.1 0.1 0.1\n",
        "sub/e": "1 0.5 0.5 0.25 0.25\n",
        "sub/deep/f": "4 0.5 0.5 0.75 0.75\n",
    },
    "val2017": {
        "v": "1 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2\n3 0.5 0.5 0.3 0.3\n",
        "w": "0 0.5 0.5 0.1 0.1\n",
        "x": "5 0.2 0.2 0.1 0.1\n2 0.2 0.2 0.1 0.1\n",
    },
}
IMAGES: dict[str, tuple[str, ...]] = {
    "train2017": (
        "a.jpg",
        "b.JPG",
        "c.png",
        "d.WebP",
        "empty.jpg",
        "only_person.jpg",
        "unlabelled.jpg",
        "sub/e.jpeg",
        "sub/deep/f.bmp",
    ),
    "val2017": ("v.jpg", "w.jpg", "x.tiff"),
}


def write_file(path: Path, content: bytes | str) -> Path:
    """Write one file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def picture(name: str) -> bytes:
    """What stands for an image: bytes that no other name has."""
    return b"\x89picture of " + name.encode() + b"\0\xff\r\n"


def names_yaml(names: tuple[str, ...] = NAMES) -> str:
    """A names YAML in dict style."""
    return yaml.safe_dump({"names": dict(enumerate(names))}, sort_keys=False)


def make_tree(
    root: Path,
    labels: Mapping[str, Mapping[str, bytes | str]],
    images: Mapping[str, tuple[str, ...]],
    names: tuple[str, ...] = NAMES,
) -> Path:
    """A source tree in the tutorial's layout, with its names YAML in ``coco.yaml``."""
    for split, files in labels.items():
        (root / "labels" / split).mkdir(parents=True, exist_ok=True)
        for stem, content in files.items():
            write_file(root / "labels" / split / f"{stem}.txt", content)
    for split, pictures in images.items():
        (root / "images" / split).mkdir(parents=True, exist_ok=True)
        for name in pictures:
            write_file(root / "images" / split / name, picture(f"{split}/{name}"))
    write_file(root / "coco.yaml", names_yaml(names))
    return root


def make_town(root: Path) -> Path:
    """The town: every kind of label file, image and nesting that is in order."""
    return make_tree(root, LABELS, IMAGES)


def contents(root: Path, *, record: bool = False) -> dict[str, bytes]:
    """Bytes of all files below `root` outside ``.coco-diy``; links are followed.

    With `record` also the record ``DATASET.md``, which names the source.
    """
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in sorted(root.rglob("*"))
        if p.is_file() and ".coco-diy" not in p.parts and (record or p != root / "DATASET.md")
    }


def without_digest(found: Mapping[str, bytes]) -> dict[str, bytes]:
    """`contents` of a subset, its YAML without the digest, which changes with every path and label."""
    return {
        path: re.sub(rb"(?<=^# Made by coco-diy; a build writes it anew\.).*", b"", data)
        for path, data in found.items()
    }


def snapshot(root: Path, *, links: bool = False) -> dict[str, tuple[int, ...]]:
    """Mode, size, mtime, ctime and inode of everything below `root`; with `links` not the ctime, which they change."""
    found: dict[str, tuple[int, ...]] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        s = os.lstat(path)
        ctime = 0 if links else s.st_ctime_ns
        found[str(path.relative_to(root))] = (s.st_mode, s.st_size, s.st_mtime_ns, ctime, s.st_ino)
    return found


def outside(found: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """A snapshot without ``.coco-diy`` and the folder that holds it."""
    return {path: facts for path, facts in found.items() if path != "." and not path.startswith(".coco-diy")}


@dataclass(frozen=True)
class Result:
    """What a command left: exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found


def settle() -> None:
    """Wait until no file that is there now counts as one that may change again unseen."""
    time.sleep(settle_ns() / 1e9 + 0.02)  # and a tick of the clock by which files are dated


def repeated(count: int) -> int:
    """How often a test goes through drawn examples: `count` times in `make test-slow`, a fifth of that in `make test`.

    Such a test has hypothesis' mark or that of `repeated`.
    """
    return max(1, count * settings().max_examples // 100)


def slow(*values: Any) -> list[Any]:
    """Parameters of a test that are more of a kind whose others `make test` runs: `make test-slow` runs these, too."""
    lists = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*words, marks=pytest.mark.slow) for words in lists]


def run_process(*args: str | Path, cwd: Path | None = None, python: tuple[str, ...] = ()) -> Result:
    """Run the command as a process of its own; with `python` a new interpreter, which is given these words first."""
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, *python, *map(str, args)] if python else command_words(*args),
        cwd=cwd,
        env=env,
        text=True,
        capture_output=True,
        check=False,
        timeout=100,
    )
    return Result(done.returncode, done.stdout, done.stderr)
