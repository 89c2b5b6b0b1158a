"""Images whose headers say another size than their label files."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from pipeline.images.header import HEAD_BYTES
from pipeline.images.sizes import compare_sizes, same_shape
from pipeline.storage.origins import Origins
from tests.support.helpers import write_file


def drawn(size: tuple[int, int], **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size).save(out, "JPEG", **options)
    return out.getvalue()


@pytest.mark.parametrize("profile", [0, HEAD_BYTES + 1000], ids=["short", "long"])
def test_the_size_is_found_however_long_the_header_is(tmp_path: Path, profile: int) -> None:
    """A large colour profile stands before the size: what is read first does not hold it."""
    for name, size in {"same": (64, 48), "scaled": (32, 24), "turned": (48, 64), "other": (50, 10)}.items():
        write_file(tmp_path / f"{name}.jpg", drawn(size, icc_profile=bytes(profile)))
    names = ["same", "scaled", "turned", "other"]
    images = pa.table(
        {
            "key": [f"s/{name}" for name in names],
            "image_path": [f"{name}.jpg" for name in names],
            "width": [64] * 4,
            "height": [48] * 4,
        }
    )
    origins = Origins({"s/": str(tmp_path)}, str(tmp_path / "work"))
    assert set(compare_sizes(images, origins, normalised=False).other) == {"s/scaled", "s/turned", "s/other"}
    assert set(compare_sizes(images, origins, normalised=True).other) == {"s/turned", "s/other"}


@pytest.mark.parametrize(
    ("size", "other", "same"),
    [((640, 480), (320, 240), True), ((640, 427), (320, 214), True), ((640, 480), (480, 640), False)],
)
def test_a_shape_is_the_same_when_scaled_and_rounded(size: tuple[int, int], other: tuple[int, int], same: bool) -> None:
    assert same_shape(size, other) is same_shape(other, size) is same
