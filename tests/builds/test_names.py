"""Names of files that are hard to carry: every image arrives under a name of its own, or the build says why not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.api import build
from pipeline.config.load import validate
from pipeline.storage import Traits
from tests.conftest import Run, Subset
from tests.support.helpers import PROJECT, contents, write_file

ROW = "0 0.5 0.5 0.2 0.2\n"
#: What file systems of this kind take and people's tools stumble over.
STEMS = [
    "two\nlines", "cr\rlf", "crlf\r\n", "\n", " blank ", "tab\t", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07",
    "next\x85line", "line\u2028sep", "bidi\u202etxt.exe", "\ufeffbom", "50%", "a%2Fb", "q?x=1#y", "it's", 'say "no"',
    "back\\slash", "{{ fileDirname }}", "{{$HOME:x}}", "$(touch x)", "`id`", "<b>&amp;", "a|b", "*.jpg", "~", "-rf",
    "\U0001f431", "e\u0301", "\u00e9", "A", "a", "nul\x01", "dot.", "..x", "CON", "c:d", "::zip", "a,b;c", "yes", "1e3",
]  # fmt: skip


def image_of(stem: str) -> bytes:
    return f"image {stem!r}".encode()


@pytest.mark.parametrize("exporter", ["yolo", "coco"])
def test_every_name_arrives(tmp_path: Path, run: Run, exporter: str) -> None:
    for stem in STEMS:
        write_file(tmp_path / f"src/labels/train/{stem}.txt", ROW)
        write_file(tmp_path / f"src/images/train/{stem}.jpg", image_of(stem))
    config = {
        "source": {
            "names": str(write_file(tmp_path / "n.yaml", "names: [cat]\n")),
            "root": str(tmp_path / "src"),
            "splits": {"train": "train"},
        },
        "target": {"root": str(tmp_path / "out"), "format": exporter},
        "workdir": str(tmp_path / "work"),
    }
    if exporter == "coco":  # which needs sizes
        for stem in STEMS:
            (tmp_path / f"src/images/train/{stem}.jpg").unlink()
            Image.new("RGB", (20, 10)).save(tmp_path / f"src/images/train/{stem}.png")
    for image in (tmp_path / "src/images/train").iterdir():
        os.utime(image, (1e9, 1e9))  # a younger one would be copied again
    path = write_file(tmp_path / "c.yaml", yaml.safe_dump(config))
    run("build", path)
    made = contents(tmp_path / "out")
    suffix = ".jpg" if exporter == "yolo" else ".png"
    assert {name for name in made if name.startswith("images/")} == {f"images/train/{stem}{suffix}" for stem in STEMS}
    if exporter == "yolo":
        assert all(made[f"images/train/{stem}.jpg"] == image_of(stem) for stem in STEMS)
        assert all(made[f"labels/train/{stem}.txt"] == ROW.encode() for stem in STEMS)
    else:
        told = json.loads(made["annotations/instances_train.json"])
        assert {image["file_name"] for image in told["images"]} == {f"{stem}.png" for stem in STEMS}
    assert run("verify", tmp_path / "out", "--deep", "--json").json["listed"] == []
    assert run("build", path, "--json").json["changes"] == 0


@pytest.mark.slow
@given(
    stems=st.dictionaries(
        st.sampled_from(["train", "val"]),
        st.sets(
            st.sampled_from(["x", "val/x", "train/x", "train/val/x", "val/train/x", "val/val/x", "train/train/val/x"]),
            min_size=1,
        ),
        min_size=2,
    )
)
@settings(max_examples=25)
def test_assigning_anew_overwrites_nothing(stems: dict[str, set[str]]) -> None:
    """However stems of the splits and folders in them are called, each image is there once."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for split, some in stems.items():
            for stem in some:
                write_file(root / f"src/labels/{split}/{stem}.txt", ROW)
                write_file(root / f"src/images/{split}/{stem}.jpg", f"{split}/{stem}")
        data = {
            "source": {
                "names": str(write_file(root / "n.yaml", "names: [cat]\n")),
                "root": str(root / "src"),
                "splits": {split: split for split in stems},
            },
            "split": {"train": 0.5, "val": 0.5},
            "target": {"root": str(root / "out")},
            "workdir": str(root / "work"),
            "engine": {"scheduler": "sync"},
        }
        build(validate(data, "test"))
        made = contents(root / "out")
    wanted = {f"{split}/{stem}".encode() for split, some in stems.items() for stem in some}
    assert {data for path, data in made.items() if path.startswith("images/")} == wanted


@pytest.mark.slow
def test_a_locale_that_is_not_utf8(tmp_path: Path) -> None:
    if shutil.which("localedef") is None:
        pytest.skip("no localedef makes a locale here")
    subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", tmp_path / "en_US.ISO-8859-1"],
        check=False,
        capture_output=True,
    )
    if not (tmp_path / "en_US.ISO-8859-1").exists():
        pytest.skip("localedef has no sources of locales here")
    write_file(tmp_path / "src/labels/train/é.txt", ROW)
    write_file(tmp_path / "src/images/train/é.jpg", "x")
    names = write_file(tmp_path / "n.yaml", "names: [cat]\n")
    config = write_file(
        tmp_path / "c.yaml",
        yaml.safe_dump(
            {
                "source": {"names": str(names), "root": str(tmp_path / "src"), "splits": {"train": "train"}},
                "target": {"root": str(tmp_path / "out"), "archive": "zip"},
                "workdir": str(tmp_path / "work"),
            }
        ),
    )
    words = [sys.executable, "-m", "pipeline", "build", str(config), "--json"]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUTF8"} | {
        "PYTHONPATH": str(PROJECT),
        "LOCPATH": str(tmp_path),
        "LC_ALL": "en_US.ISO-8859-1",
    }
    done = subprocess.run(words, env=env, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    (archive,) = (tmp_path / "out").glob("*.zip")
    assert (
        "images/train/é.jpg"
        in subprocess.run(
            [sys.executable, "-X", "utf8", "-m", "zipfile", "-l", archive], check=True, capture_output=True
        ).stdout.decode()
    )
    refused = subprocess.run(words, env=env | {"PYTHONUTF8": "0"}, check=False, capture_output=True)
    assert refused.returncode == 2
    assert b"set PYTHONUTF8=1" in refused.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-16"])
def test_names_that_the_output_s_encoding_lacks(subset: Subset, encoding: str) -> None:
    """A pipe in another encoding, as `PYTHONIOENCODING` sets it: a JSON is whole there, and a text is escaped."""
    target, script = subset.target.with_name("ťéž 😀"), [sys.executable, "-m", "pipeline"]
    env = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONIOENCODING": encoding}
    build = [*script, "build", str(subset.config), "--set", f"target.root={target}", "--json"]
    done = subprocess.run(build, env=env, check=True, capture_output=True, timeout=120)
    assert json.loads(done.stdout.decode(encoding))["target"] == str(target)
    told = subprocess.run([*script, "verify", str(target)], env=env, check=True, capture_output=True, timeout=120)
    assert "😀" in told.stdout.decode("utf-8" if encoding == "ascii" else encoding).replace("\\U0001f600", "😀")


@pytest.fixture
def stick(tmp_path: Path) -> Iterator[Path]:
    """A file system of a memory stick: it takes no colon in names, has no links, and does not tell a from A."""
    if os.getuid() or not (shutil.which("mkfs.exfat") and shutil.which("mount.exfat-fuse")):
        pytest.skip("an exFAT is mounted by root, with exfat-fuse and exfatprogs")
    image, place = tmp_path / "stick.img", tmp_path / "stick"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.exfat", image], check=True, capture_output=True)
    loop = subprocess.run(["losetup", "-f", "--show", image], check=False, capture_output=True, text=True)
    if loop.returncode:
        pytest.skip(f"no loop device: {loop.stderr}")
    try:
        mounted = subprocess.run(["mount.exfat-fuse", loop.stdout.strip(), place], check=False, capture_output=True)
        if mounted.returncode:
            pytest.skip(f"no mount: {mounted.stderr!r}")
        yield place
        subprocess.run(["umount", place], check=True)
    finally:
        subprocess.run(["losetup", "-d", loop.stdout.strip()], check=True)


def small(root: Path, *stems: str) -> dict[str, Any]:
    for stem in stems:
        write_file(root / f"src/labels/train/{stem}.txt", ROW)
        write_file(root / f"src/images/train/{stem}.jpg", stem)
    names = write_file(root / "n.yaml", "names: [cat]\n")
    return {
        "source": {"names": str(names), "root": str(root / "src"), "splits": {"train": "train"}},
        "workdir": str(root / "work"),
    }


@pytest.mark.parametrize(
    ("stems", "images", "clause"),
    [
        (("a", "b 0:1"), "copy", "its file system takes no ':' in names ('b 0:1.txt', total 2 files)"),
        (("a",), "hardlink", "its file system has no hardlinks; set target.images to copy"),
        (("a",), "symlink", "its file system has no symlinks; set target.images to copy"),
        (
            ("dir/a", "DIR/a", "b"),
            "copy",
            "its file system takes 'labels/train/DIR/a.txt' and 'labels/train/dir/a.txt'",
        ),
        (("a", "b"), "copy", None),
    ],
)
def test_a_stick_is_asked_before_anything_is_written(
    tmp_path: Path, stick: Path, run: Run, stems: tuple[str, ...], images: str, clause: str | None
) -> None:
    config = small(tmp_path, *stems) | {"target": {"root": str(stick / "out"), "images": images}}
    told = run("build", write_file(tmp_path / "c.yaml", yaml.safe_dump(config)), "--quiet", code=1 if clause else 0)
    assert (clause or "") in told.err
    assert bool(clause) is not (stick / "out/data.yaml").exists()


@pytest.mark.parametrize(
    ("before", "stems", "clause"),
    [
        ((), ("x", "\u00e9", "e\u0301"), "for one name, differing in case or Unicode form"),
        ((), ("x/a", "X/a"), "for one name"),
        (("a",), ("A",), "is renamed to"),
        (("a",), ("b",), None),
    ],
)
def test_names_that_a_file_system_holds_for_one(
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    before: tuple[str, ...],
    stems: tuple[str, ...],
    clause: str | None,
) -> None:
    """As on macOS, which no machine of the tests is: only what the folder says of itself is another."""
    target = {"target": {"root": str(tmp_path / "out")}}
    if before:
        run("build", write_file(tmp_path / "c.yaml", yaml.safe_dump(small(tmp_path, *before) | target)))
        shutil.rmtree(tmp_path / "src")
    made = contents(tmp_path / "out") if before else {}
    monkeypatch.setattr("pipeline.storage.LocalFolder.traits", lambda *_: Traits(folds_case=True, folds_unicode=True))
    told = run(
        "build",
        write_file(tmp_path / "c.yaml", yaml.safe_dump(small(tmp_path, *stems) | target)),
        code=1 if clause else 0,
    )
    assert (clause or "") in told.err
    assert clause is None or (contents(tmp_path / "out") if before else {}) == made
