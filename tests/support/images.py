"""Images with a dark mark at a known place, in every kind of file that trainers read. No test stands here.

Beside them are pictures like photographs, of all coarse and fine detail."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.images.header import Picture

KINDS = ("png", "jpeg", "grey", "cmyk", "16-bit", "alpha", "palette", "webp", "tiff")

#: Darker pixels (0 to 255) are those of the mark.
MARK = 100

#: Size of the upright picture, and the mark's corners on it (left, top, right, bottom).
SIZE, CORNERS = (160, 96), (32, 16, 112, 48)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class MarkedImage:
    """A file, its size as shown and as stored, and the box of its mark (cxcywhn) on the one and on the other."""

    data: bytes
    shown: tuple[int, int]
    stored: tuple[int, int]
    box: Box
    stored_box: Box


def marked_image(kind: str, orientation: int = 1) -> MarkedImage:
    """An image of `kind` that shows the mark at `CORNERS` once it is turned by its EXIF `orientation`."""
    light = np.full((SIZE[1], SIZE[0]), 230, np.uint8)
    light[CORNERS[1] : CORNERS[3], CORNERS[0] : CORNERS[2]] = 20
    swap, flip_x, flip_y = {1: (0, 0, 0), 2: (0, 1, 0), 3: (0, 1, 1), 4: (0, 0, 1), 5: (1, 0, 0), 6: (1, 1, 0),
                            7: (1, 1, 1), 8: (1, 0, 1)}[orientation]  # fmt: skip
    stored = light[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
    stored = stored.T if swap else stored
    height, width = stored.shape
    rows, columns = np.flatnonzero((stored < MARK).any(axis=1)), np.flatnonzero((stored < MARK).any(axis=0))
    found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    picture = Picture(width, height, orientation)
    assert (picture.width, picture.height) == SIZE
    data = _file(np.ascontiguousarray(stored), kind, orientation)
    return MarkedImage(data, SIZE, (width, height), _box(CORNERS, SIZE), _box(found, (width, height)))


def _box(corners: tuple[int, ...], size: tuple[int, int]) -> Box:
    left, top, right, bottom = map(float, corners)
    return (
        (left + right) / 2 / size[0],
        (top + bottom) / 2 / size[1],
        (right - left) / size[0],
        (bottom - top) / size[1],
    )


def _file(light: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], kind: str, orientation: int) -> bytes:
    grey = Image.fromarray(light)
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    if kind == "jpeg":
        grey.convert("RGB").save(out, "JPEG", quality=98, subsampling=0, exif=exif)
    elif kind == "grey":
        grey.save(out, "PNG", exif=exif)
    elif kind == "cmyk":
        grey.convert("RGB").convert("CMYK").save(out, "JPEG", quality=98, subsampling=0, exif=exif)
    elif kind == "16-bit":
        Image.fromarray(light.astype(np.uint16) * 257).save(out, "PNG", exif=exif)
    elif kind == "alpha":
        alpha = np.where(light < MARK, 255, 0).astype(np.uint8)
        Image.merge("LA", (Image.fromarray(np.zeros_like(light)), Image.fromarray(alpha))).save(out, "PNG", exif=exif)
    elif kind == "palette":
        grey.convert("RGB").quantize(8).save(out, "PNG", exif=exif)
    elif kind == "webp":
        grey.convert("RGB").save(out, "WEBP", lossless=True, exif=exif)
    elif kind == "tiff":
        grey.convert("RGB").save(out, "TIFF", exif=exif)
    else:
        grey.convert("RGB").save(out, "PNG", exif=exif)
    return out.getvalue()


def photograph(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A picture in colour that falls off in detail as photographs do; of another `seed` another one."""
    rng = np.random.default_rng(seed)
    layers = np.zeros((size[1], size[0], 3))
    for cells in (3, 6, 12, 24, 48):
        for channel in range(3):
            coarse = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
            layers[..., channel] += np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)) / cells**0.8
    return Image.fromarray(np.clip(128 + 110 * layers, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """`image` as a file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()
