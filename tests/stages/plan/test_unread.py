"""Images of a suffix that is not read are told from those that are not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import storage
from pipeline.base.terms import IMAGE_SUFFIXES
from pipeline.stages.plan.unread import _UNREAD, unread_image
from tests.conftest import Run
from tests.formats.test_labelme import jpeg
from tests.support.archives import pack
from tests.support.helpers import write_file

PICTURE = jpeg(64, 48)
GIF = b"GIF89a\x01\0\x01\0"


def _told(root: Path, stem: str, label: str = "", said: str = "") -> tuple[str, str] | None:
    found = unread_image(storage.locate(str(root)), {"stem": stem, "label_path": label, "image_said": said})
    return found and (Path(found[0]).relative_to(root).as_posix(), found[1])


def test_no_suffix_is_both_read_and_unread() -> None:
    assert not set(_UNREAD) & set(IMAGE_SUFFIXES)


@pytest.mark.parametrize("suffix", [*_UNREAD, ".JFIF", ".Gif"])
def test_the_image_of_a_label_file(tmp_path: Path, suffix: str) -> None:
    write_file(tmp_path / f"sub/a{suffix}", PICTURE)
    path, clause = _told(tmp_path, "sub/a", "sub/a.txt") or ("", "")
    assert path == f"sub/a{suffix}"
    files = f"with the suffix {suffix}" if suffix else "without a suffix"
    said = f"is the image of the label sub/a.txt, but files {files} are not read; it is a JPEG: rename it to a.jpg"
    assert clause == said


@pytest.mark.parametrize(
    ("data", "cure"),
    [
        (PICTURE, "it is a JPEG: rename it to a.jpg"),
        (b"\x89PNG\r\n\x1a\n", "it is a PNG: rename it to a.png"),
        (GIF, "convert it to .jpg or .png"),
        (b"II*\0raw of a camera", "convert it to .jpg or .png"),
        (b"", "convert it to .jpg or .png"),
    ],
)
def test_the_cure_is_that_of_the_content(tmp_path: Path, data: bytes, cure: str) -> None:
    write_file(tmp_path / "a.jfif", data)
    assert (_told(tmp_path, "a", "a.txt") or ("", ""))[1].partition("; ")[2] == cure


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.jfif", "a.jfif"),
        ("a.JPG_large", "a.JPG_large"),
        ("a.what", "a.what"),
        ("a.jfif", "a.jpg"),
        ("a.gif", "C:\\x\\images\\a.jpg"),
        ("sub/a.gif", "images/sub/a.png"),
        ("sub/a.gif", "../sub/a.gif"),
    ],
)
def test_the_image_that_one_file_of_all_labels_names(tmp_path: Path, name: str, said: str) -> None:
    write_file(tmp_path / name, PICTURE)
    path, clause = _told(tmp_path, "none", said=said) or ("", "")
    assert path == name
    assert clause.startswith(f"is the image {said!r}, but files with the suffix {Path(name).suffix} are not read; ")


@pytest.mark.parametrize("name", ["b.gif", "sub/a.gif", "a.txt", "a.json", "a.gif/b.gif"])
def test_what_is_no_such_image(tmp_path: Path, name: str) -> None:
    write_file(tmp_path / name, PICTURE)
    (tmp_path / "a.jfif").symlink_to("nowhere")
    assert _told(tmp_path, "a", "a.txt", "a.jpg") is None
    assert _told(tmp_path, "none/a", "none/a.txt") is None


def test_what_leads_out_of_the_folder_is_not_looked_for(tmp_path: Path) -> None:
    write_file(tmp_path / "a.gif", GIF)
    (tmp_path / "in").mkdir()
    assert _told(tmp_path / "in", "x", said="../a.gif") is None
    assert _told(tmp_path / "in", "x", said=str(tmp_path / "a.gif")) is None


def test_a_file_that_came_later_is_seen(tmp_path: Path) -> None:
    write_file(tmp_path / "b.gif", GIF)
    assert _told(tmp_path, "a", "a.txt") is None
    write_file(tmp_path / "a.gif", GIF)
    assert (_told(tmp_path, "a", "a.txt") or ("",))[0] == "a.gif"


def test_in_an_archive(tmp_path: Path) -> None:
    write_file(tmp_path / "i/a.jfif", PICTURE)
    where = storage.locate(f"zip://i::{pack(tmp_path / 'i', tmp_path / 'x.zip', 'i')}")
    row: dict[str, Any] = {"stem": "a", "label_path": "a.txt", "image_said": None}
    assert (unread_image(where, row) or ("", ""))[1].endswith("it is a JPEG: rename it to a.jpg")


@pytest.mark.parametrize("format_", ["coco", "yolo"])
def test_a_build_says_so(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, format_: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "in"
    for name in ("a.jfif", "b.jpg"):
        write_file(root / "images" / name, PICTURE)
    if format_ == "yolo":
        write_file(root / "data.yaml", "names: [cat]\n")
        for name in "ab":
            write_file(root / f"labels/{name}.txt", "0 0.5 0.5 0.2 0.2\n")
    else:
        data = {
            "images": [{"id": i, "file_name": n, "width": 64, "height": 48} for i, n in enumerate(("a.jfif", "b.jpg"))],
            "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 9, 9]} for i in range(2)],
            "categories": [{"id": 1, "name": "cat"}],
        }
        write_file(root / "all.json", json.dumps(data))
    told = run("convert", root, tmp_path / "out", "--from", format_, "--to", "yolo", code=1).err
    assert "images/a.jfif: is the image" in told
    assert "with the suffix .jfif are not read; it is a JPEG: rename it to a.jpg, or --set on_error=skip" in told
    words = ("convert", root, tmp_path / "out", "--from", format_, "--to", "yolo", "--json")
    skipped = run(*words, "--set", "on_error=skip", code=3).json
    assert (skipped["problems"], skipped["subset"]["train"]["images"]) == ({"image_suffix": 1}, 1)
    assert any("of a suffix that is not read: left out" in warning for warning in skipped["warnings"])
    (root / "images/a.jfif").rename(root / "images/a.jpg")
    built = run(*words).json
    assert built["subset"]["train"]["images"] == 2
