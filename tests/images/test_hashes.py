"""Hashes of pictures: alike for the same picture however it is stored, none for what is damaged, and read once."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.base.digest import digest_of
from pipeline.images.hashes import FLAT, difference_hash, image_hashes
from pipeline.look.thumbnails import open_upright
from pipeline.storage.origins import Origins
from tests.support.helpers import repeated, settle, write_file
from tests.support.images import KINDS, encoded, marked_image, photograph

ORIENTATION = 0x0112

SEEDS = range(repeated(20))


def distance(first: bytes, second: bytes) -> int:
    """In how many bits the hashes of two images differ."""
    found = difference_hash(first), difference_hash(second)
    assert found[0] is not None
    assert found[1] is not None
    return (found[0] ^ found[1]).bit_count()


#: What becomes of a picture that is handed on.
COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "quality": lambda image: encoded(image, quality=40),
    "half": lambda image: encoded(image.resize((image.width // 2, image.height // 2)), quality=85),
    "third": lambda image: encoded(image.resize((image.width // 3, image.height // 3)), quality=90),
    "twice": lambda image: encoded(image.resize((image.width * 2, image.height * 2))),
    "square": lambda image: encoded(image.resize((200, 200)), quality=85),
    "png": lambda image: encoded(image, "PNG"),
    "webp": lambda image: encoded(image, "WEBP", quality=80),
    "grey": lambda image: encoded(image.convert("L")),
    "tiff": lambda image: encoded(image, "TIFF"),
    "16 bits": lambda image: encoded(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), "PNG"),
}


@pytest.mark.repeated
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_near_and_another_picture_is_not(how: str) -> None:
    originals = [encoded(photograph(seed), quality=92) for seed in SEEDS]
    copies = [COPIES[how](photograph(seed)) for seed in SEEDS]
    distances = [distance(*pair) for pair in zip(originals, copies, strict=True)]
    assert max(distances) <= 3
    others = [distance(originals[i - 1], copy) for i, copy in enumerate(copies)]
    assert min(others) > 8


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_copy_that_is_turned_by_its_exif_data_is_the_same_picture(kind: str, orientation: int) -> None:
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    shown = photograph(1)
    stored = shown.transpose(turn[orientation]) if orientation in turn else shown
    assert distance(encoded(shown, "PNG"), encoded(stored, kind, exif=exif)) <= 3
    if orientation > 1:
        assert distance(encoded(shown, "PNG"), encoded(stored, kind)) > 8


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_has_a_hash(kind: str) -> None:
    assert difference_hash(marked_image(kind).data) is not None


@pytest.mark.repeated
def test_a_part_of_a_picture_is_another_one() -> None:
    for seed in SEEDS:
        image = photograph(seed)
        part = image.crop((image.width // 8, image.height // 8, image.width, image.height))
        assert distance(encoded(image), encoded(part)) > 3


@pytest.mark.slow
@pytest.mark.repeated
def test_photographs_are_near_their_copies_and_no_other(shared: Path) -> None:
    with zipfile.ZipFile(shared / "data/coco/val2017.zip") as archive:
        originals = [archive.read(name) for name in archive.namelist() if name.endswith(".jpg")][: repeated(30)]
    near = dict.fromkeys(COPIES, 0)
    for data in originals:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        for how, copy in COPIES.items():
            near[how] += distance(data, copy(image)) <= 3
    assert min(near.values()) >= 0.95 * len(originals)
    found = [difference_hash(data) or 0 for data in originals]
    assert min((a ^ b).bit_count() for i, a in enumerate(found) for b in found[:i]) > 6


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "P", "I;16", "F", "CMYK", "YCbCr"])
@pytest.mark.parametrize("brightness", [0, 3, 255])
def test_a_picture_of_one_brightness_is_flat(mode: str, brightness: int) -> None:
    grey = Image.new("L", (100, 70), brightness)
    image = (
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
        if mode == "I;16"
        else grey.convert(mode, dither=Image.Dither.NONE)
    )
    assert difference_hash(encoded(image, "TIFF")) in FLAT


def damaged() -> Iterator[tuple[str, bytes]]:
    whole = encoded(photograph(3))
    yield "empty", b""
    yield "text", b"<html>404</html>"
    yield "cut", whole[: len(whole) // 2]
    yield "head", whole[:300]
    yield "zeros", bytes(5000)
    yield "png", encoded(photograph(3), "PNG")[:5000]
    yield "vector", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 8\nshowpage\n"


@pytest.mark.parametrize(("name", "data"), list(damaged()))
def test_what_cannot_be_decoded_has_no_hash(name: str, data: bytes) -> None:
    del name
    assert difference_hash(data) is None


def progressive(side: int) -> bytes:
    """The few bytes of a JPEG of one brightness that says that its sides are so many pixels."""
    data = bytearray(encoded(Image.new("RGB", (64, 64)), progressive=True))
    at = data.index(b"\xff\xc2") + 5
    data[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(data)


def test_an_image_that_would_fill_the_memory_is_not_decoded() -> None:
    """Scaled down or not: all scans of a JPEG are in memory first, here 2.6 GB of 544 bytes."""
    assert difference_hash(progressive(1_000)) is not None
    assert difference_hash(progressive(30_000)) is None
    assert open_upright(progressive(30_000), 320) is None


def table(names: dict[str, bytes | None]) -> pa.Table:
    """Images by name below one folder, with their states."""
    return pa.table(
        {
            "key": pa.array([f"s/a/{name}" for name in names], pa.string()),
            "image_path": pa.array(list(names), pa.string()),
            "state": pa.array(list(names.values()), pa.binary()),
        }
    )


def test_an_image_is_read_once_in_each_state(tmp_path: Path) -> None:
    """Rows of the cache are found by key and state; what is too young is read each time."""
    origins = Origins({"s/a/": str(tmp_path / "in")}, str(tmp_path / "work"))
    first, second = encoded(photograph(1)), encoded(photograph(2))
    for name in ("a.jpg", "young.jpg"):
        write_file(tmp_path / "in" / name, first)
    write_file(tmp_path / "in/bad.jpg", first[:1000])

    def found(states: dict[str, bytes | None]) -> dict[str, tuple[int | None, bytes | None]]:
        rows = image_hashes(str(tmp_path / "index"), 3, origins, table(states)).to_pylist()
        assert [row["key"] for row in rows] == [f"s/a/{name}" for name in states]
        return {row["key"][4:]: (row["hash"], row["digest"]) for row in rows}

    states = {"a.jpg": b"1", "bad.jpg": b"1", "gone.jpg": b"1", "young.jpg": None}
    of_first, of_second = ((difference_hash(data), digest_of(data)) for data in (first, second))
    bad = (None, digest_of(first[:1000]))
    expected = {"a.jpg": of_first, "bad.jpg": bad, "gone.jpg": (None, None), "young.jpg": of_first}
    assert found(states) == expected
    for name in ("a.jpg", "bad.jpg", "gone.jpg", "young.jpg"):
        write_file(tmp_path / "in" / name, second)
    assert found(states) == {**expected, "gone.jpg": of_second, "young.jpg": of_second}
    assert found({"a.jpg": b"2", "bad.jpg": b"1"}) == {"a.jpg": of_second, "bad.jpg": bad}
    assert found({"a.jpg": b"2", "gone.jpg": b"1"}) == {"a.jpg": of_second, "gone.jpg": of_second}
    for part in (tmp_path / "index/hashes").iterdir():
        part.write_bytes(part.read_bytes()[:-9])  # what is damaged is made anew
    assert found({"bad.jpg": b"1"}) == {"bad.jpg": of_second}


def test_images_in_an_archive_and_in_two_sources(tmp_path: Path) -> None:
    data = [encoded(photograph(seed)) for seed in (1, 2)]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("images/a.jpg", data[0])
    write_file(tmp_path / "in/a.jpg", data[1])
    origins = Origins({"s/a/": f"zip://images::{tmp_path}/all.zip", "t/a/": str(tmp_path / "in")}, str(tmp_path))
    images = pa.table({"key": ["s/a/a", "s/a/b", "t/a/a"], "image_path": ["a.jpg", None, "a.jpg"]})
    for _ in range(2):  # without states they are asked, and cached by what is found
        found = image_hashes(str(tmp_path / "index"), 0, origins, images)
        assert found["hash"].to_pylist() == [difference_hash(data[0]), None, difference_hash(data[1])]
        assert found["digest"].to_pylist() == [digest_of(data[0]), None, digest_of(data[1])]
        settle()
