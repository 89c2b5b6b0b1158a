"""Lists of images: how an entry names one, and what is said of a list that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.base.errors import ConfigError
from pipeline.stages.select.lists import NameList, read_names

KEYS = ("coco/train2017/000000000009", "coco/train2017/cam1/a.b", "coco/val2017/cam1/a.b", "coco/val2017/ü")


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ("coco/train2017/000000000009", [0]),
        ("000000000009", [0]),
        ("000000000009.jpg", [0]),
        ("000000000009.JPG", [0]),
        ("train2017/000000000009.jpg", [0]),
        ("./train2017/000000000009.jpg", [0]),
        ("/data/coco/images/train2017/000000000009.jpg", [0]),
        ("/data/coco/images/test2017/000000000009.jpg", []),
        ("00000000009", []),
        ("a.b", [1, 2]),
        ("a.b.png", [1, 2]),
        ("a", []),
        ("cam1/a.b.png", [1, 2]),
        ("val2017/cam1/a.b.png", [2]),
        ("am1/a.b.png", []),
        ("u\u0308.jpg", [3]),
        ("coco", []),
        ("other/train2017/000000000009", [0]),
        (".jpg", []),
    ],
)
def test_an_entry_names_images_by_the_end_of_their_path(entry: str, named: list[int]) -> None:
    names = NameList([entry, "nothing"])
    assert [i for i, key in enumerate(KEYS) if names.names(key)] == named
    assert names.unmatched == ["nothing"] if named else [entry, "nothing"]


def test_a_key_names_no_image_of_another_source() -> None:
    """Both have a picture of that path; the path alone names both."""
    keys = ("one/train/a", "two/train/a")
    for entry, named in (("two/train/a", [1]), ("train/a.jpg", [0, 1]), ("three/train/a.jpg", [0, 1])):
        names = NameList([entry])
        for key in keys:
            names.add_key(key)
        assert [i for i, key in enumerate(keys) if names.names(key)] == named, entry


def test_lists_of_every_kind_have_the_same_entries(tmp_path: Path) -> None:
    entries = ["a.jpg", "train/b.jpg"]
    (tmp_path / "l.txt").write_text("\ufeffa.jpg\r\n\n  train\\b.jpg \n", encoding="utf-8")
    (tmp_path / "l.csv").write_text("split,file_name\ntrain,a.jpg\nval,train/b.jpg\n")
    (tmp_path / "k.csv").write_text("file_name,key\nx,a.jpg\ny,train/b.jpg\n")
    pq.write_table(pa.table({"n": [1, 2, 3], "key": ["a.jpg", None, "train/b.jpg"]}), tmp_path / "l.parquet")
    for name in ("l.txt", "l.csv", "k.csv", "l.parquet"):
        assert read_names(str(tmp_path / name), "select.images") == entries, name


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("l.txt", b"\n \n", "names no image; write a name, stem or key a line"),
        ("l.csv", b"a,b\n1,2\n", "has no column key or file_name: it has a, b"),
        ("l.csv", b"file_nam\n1\n", "did you mean 'file_name'"),
        ("l.csv", b"", "it has none"),
        ("l.parquet", b"PAR1 no", "is no Parquet file that can be read"),
        ("l.txt", b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_a_list_that_cannot_be_read_is_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_names(str(tmp_path / name), "select.images")
    assert sentence in str(error.value)
    assert name in str(error.value)


def test_a_list_that_is_not_there_is_said(tmp_path: Path) -> None:
    for name in ("l.txt", "l.csv", "l.parquet"):
        with pytest.raises(ConfigError, match=f"{name}: "):
            read_names(str(tmp_path / name), "select.images")
