"""Which origin a key belongs to, and what images are called there."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage.origins import Origin, Origins
from tests.support.helpers import write_file

URLS = {"a/train/": "/data/train", "a/val/": "zip://val::/data/all.zip", "b/train/": None, "b/train2/": "/other"}


@pytest.fixture
def origins() -> Origins:
    return Origins(URLS, "/work")


def test_a_key_belongs_to_one_origin(origins: Origins) -> None:
    assert origins.of("a/val/deep/1") == Origin("a/val/", "zip://val::/data/all.zip", "/work")
    assert origins.of("b/train2/1").url == "/other"
    with pytest.raises(StopIteration):
        origins.of("c/train/1")


def test_parts_of_the_origins(origins: Origins) -> None:
    assert list(origins.beside("a/", "b/train2/").urls) == ["b/train/"]
    assert list(origins.beside().urls) == list(URLS)
    web = Origins({"a/train/": "https://host/images", "a/val/": "/data/val", "a/test/": None}, "/work")
    assert list(web.remote().urls) == ["a/train/"]


@given(st.lists(st.tuples(st.sampled_from(sorted(URLS)), st.text(min_size=1))))
def test_every_key_is_given_once_and_in_order(drawn: list[tuple[str, str]]) -> None:
    keys = [prefix + stem for prefix, stem in drawn]
    found = list(Origins(URLS, "/work").by_origin(keys))
    assert sorted(i for _, here in found for i in here) == list(range(len(keys)))
    assert all(here == sorted(here) and here for _, here in found)
    assert all(drawn[i][0] == origin.prefix for origin, here in found for i in here)


@given(
    st.lists(st.tuples(st.sampled_from(["a/train/", "a/val/"]), st.from_regex(r"[a-zé ]{1,9}\.jpg", fullmatch=True)))
)
def test_names_are_what_paths_were_joined_of(drawn: list[tuple[str, str]]) -> None:
    origins = Origins(URLS, "/work")
    keys, names = [prefix + name for prefix, name in drawn], [name for _, name in drawn]
    paths = [origins.of(key).location.join(name) for key, name in zip(keys, names, strict=True)]
    assert origins.names(keys, paths) == names


def test_images_are_read_from_folders_archives_and_label_files(tmp_path: Path) -> None:
    write_file(tmp_path / "train/1.jpg", b"one")
    write_file(tmp_path / "train/2.json", '{"imageData": "dHdv"}')
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("val/3.jpg", b"three")
    origins = Origins({"s/train/": str(tmp_path / "train"), "s/val/": f"zip://val::{tmp_path}/all.zip"}, "/work")
    keys, names = ["s/val/3", "s/train/2", "s/train/1"], ["3.jpg", "2.json/2.jpg", "1.jpg"]
    read = {i: place.read(names[i]) for place, here in origins.locations(keys, names) for i in here}
    assert read == {0: b"three", 1: b"two", 2: b"one"}
