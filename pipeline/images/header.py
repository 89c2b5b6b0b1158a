"""What an image file says of itself in its first bytes: its size, and which way up it is shown; pure."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.base.base64_text import from_base64

if TYPE_CHECKING:
    from PIL import Image

    from pipeline.base.arrays import Bools, Floats

#: More are not decoded: they would take a gigabyte of memory. So would those of a JPEG that is scaled down and has
#: several scans: all of them are in memory before there is a pixel.
MAX_PIXELS = 1 << 28

#: Bytes at the beginning that nearly always hold the header; a large colour profile may need more.
HEAD_BYTES = 64 << 10

_ORIENTATION = 0x0112  # the EXIF tag

#: The markers of a JPEG that its size follows: those of its frame.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

#: For each EXIF orientation: whether x and y are exchanged, then whether x, then whether y runs the other way.
_TURNS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


@dataclass(frozen=True)
class Picture:
    """Size in pixels as the file stores it, and its EXIF orientation (1 to 8)."""

    stored_width: int
    stored_height: int
    orientation: int = 1

    @property
    def width(self) -> int:
        """Width in pixels as trainers and viewers show the image: by its orientation."""
        return self.stored_height if self.sideways else self.stored_width

    @property
    def height(self) -> int:
        """Height in pixels as trainers and viewers show the image."""
        return self.stored_width if self.sideways else self.stored_height

    @property
    def sideways(self) -> bool:
        """Whether the rows of the stored image are columns of the one that is shown."""
        return _TURNS[self.orientation][0]

    def shown(self, xy: Floats) -> Floats:
        """Points, shape (n, 2), of the stored image as points of the one that is shown."""
        swap, flip_x, flip_y = _TURNS[self.orientation]
        turned = (xy[:, ::-1] if swap else xy).copy()
        if flip_x:
            turned[:, 0] = self.width - turned[:, 0]
        if flip_y:
            turned[:, 1] = self.height - turned[:, 1]
        return turned

    def upright(self, pixels: Floats) -> Floats:
        """Pixels of the stored image, shape (rows, columns), at any scale, as those of the one that is shown."""
        swap, flip_x, flip_y = _TURNS[self.orientation]
        turned = pixels.T if swap else pixels
        return turned[:: -1 if flip_y else 1, :: -1 if flip_x else 1]

    def shown_mask(self, mask: Bools) -> Bools:
        """A mask of the stored image, or of a part of it, shape (height, width), as one of the image that is shown."""
        swap, flip_x, flip_y = _TURNS[self.orientation]
        turned = mask.T if swap else mask
        return turned[:: -1 if flip_y else 1, :: -1 if flip_x else 1]


#: What trainers read of what Pillow reads, as Pillow calls it: DNG is a TIFF, MPO a JPEG. Others are not even tried:
#: some run programs (EPS: Ghostscript), and none is an image to a trainer (Ultralytics: `IMG_FORMATS`).
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000")


@contextlib.contextmanager
def opened(data: bytes, formats: Sequence[str] = _FORMATS) -> Iterator[Image.Image]:
    """The image that `data`, a file or its first bytes, begins; no pixel is decoded yet.

    How large it is, is for the caller to judge before it decodes. Raises whatever Pillow's plug-ins raise: OSError,
    SyntaxError, struct.error, …
    """
    from PIL import Image, features

    Image.MAX_IMAGE_PIXELS = None  # its guard is a global that warns, or refuses to give the size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = [f for f in formats if f != "AVIF" or features.check("avif")]  # it came with Pillow 11.3
        with Image.open(io.BytesIO(data), formats=known) as image:
            yield image


def picture_of(data: bytes) -> Picture | None:
    """The picture that `data`, a file or its first bytes, begins; None where that is unknown."""
    if (plain := _plain_jpeg(data)) is not None:
        return plain
    try:
        with opened(data) as image:
            return Picture(*_stored_size(image), orientation_of(image))
    except Exception:  # noqa: BLE001 - see `opened`
        return None


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation (1 to 8) that an image has still to be turned by; Pillow turns a TIFF when it is loaded."""
    from PIL import Image

    # The base class's: that of a PNG decodes all pixels to find what comes after them.
    found: int = Image.Image.getexif(image).get(_ORIENTATION, 1)
    return found if found in _TURNS else 1


def _plain_jpeg(head: bytes) -> Picture | None:
    """A JPEG without EXIF data by its first bytes, ten times as fast as by Pillow; None for anything else."""
    offset = 2
    if head[:2] != b"\xff\xd8":
        return None
    while offset + 9 < len(head) and head[offset] == 0xFF:
        kind, length = head[offset + 1], head[offset + 2] << 8 | head[offset + 3]
        if kind in _FRAMES:
            height, width = struct.unpack_from(">HH", head, offset + 5)
            return Picture(width, height) if width and height else None
        if kind == 0xE1:  # it may have an orientation
            return None
        offset += 2 + length
    return None


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as the file stores the image: of a TIFF, Pillow gives those of the image that is shown."""
    tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    return (tags[256], tags[257]) if tags is not None else image.size


#: How files of images begin, and the suffix of each kind.
_BEGINNINGS = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n", ".png"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"RIFF", ".webp"),
)


def suffix_of(data: bytes) -> str | None:
    """The suffix that an image file should have, by its first bytes; None where they are of no image."""
    return next((suffix for begin, suffix in _BEGINNINGS if data.startswith(begin)), None)


def unpacked(text: bytes, most: int | None = None) -> bytes | None:
    """The bytes that a JSON string, quotes and all, holds in base64, of them the first `most`; None where it does not.

    JSON may write any character as an escape: a slash as ``\\/``, a plus as ``\\u002B``.
    """
    if len(text) < 4 or text[:1] != b'"':
        return None
    if b"\\" in text:
        try:
            text = b'"' + json.loads(text).encode("ascii") + b'"'
        except ValueError:
            return None
    return from_base64(text[1:-1], most)


def mask_of(data: bytes) -> Bools | None:
    """The pixels of a PNG image that are not 0, shape (height, width); None for data that are no such image."""
    import numpy as np

    try:
        with opened(data, ("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            plain = image if image.mode in ("1", "L", "P", "I", "I;16") else image.convert("L")
            return np.asarray(np.asarray(plain) != 0)
    except Exception:  # noqa: BLE001 - see `opened`
        return None
