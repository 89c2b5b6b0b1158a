"""Small pictures of images, upright and in plain colours, whatever the file is: EXIF, grey, CMYK, 16 bits, alpha."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.images.header import MAX_PIXELS, Picture, opened, picture_of

if TYPE_CHECKING:
    from PIL import Image

    from pipeline.base.arrays import Floats
    from pipeline.look.shapes import Shape

#: A larger image is not decoded: it would take more than 200 MB. JPEGs up to `MAX_PIXELS` are scaled down first.
_MOST_PIXELS = 1 << 26

#: What shows through an image that is transparent.
_BEHIND = (255, 255, 255)


@dataclass
class Opened:
    """An image, upright, as RGB, no smaller than was asked for; and what its file says of itself."""

    image: Image.Image
    picture: Picture

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of the whole image, as it is shown."""
        return self.picture.width, self.picture.height

    def as_shown(self, shape: Shape, said: tuple[int, int] | None) -> Shape:
        """`shape`, shares of an image that labels say to be of the size `said`, as shares of the one that is shown.

        Labels whose size is that of the image as it is stored, and not as it is shown, are turned with it.
        """
        picture = self.picture
        stored = (picture.stored_width, picture.stored_height)
        if said != stored or said == self.size:
            return shape
        import numpy as np

        def turn(xy: Floats) -> Floats:
            return picture.shown(xy * stored) / np.array(self.size, np.float64)

        return shape.moved(turn)


def open_upright(data: bytes, side: int) -> Opened | None:
    """The image in `data`, with sides of at least `side` pixels where it has them; None for what cannot be decoded."""
    from PIL import ImageOps

    picture = picture_of(data)
    if picture is None or picture.stored_width * picture.stored_height > MAX_PIXELS:
        return None
    try:
        with opened(data) as image:
            if image.format in ("JPEG", "MPO"):
                image.draft("RGB", (side, side))
            if image.width * image.height > _MOST_PIXELS:
                return None
            image.load()
            return Opened(_plain(ImageOps.exif_transpose(image)), picture)
    except Exception:  # noqa: BLE001 - Pillow's plug-ins raise anything, see `opened`
        return None


def why_none(data: bytes) -> str:
    """Why `open_upright` has no picture of `data`."""
    picture = picture_of(data)
    large = picture is not None and picture.stored_width * picture.stored_height > _MOST_PIXELS
    return "is too large to decode" if large else "is no image that can be decoded"


def _plain(image: Image.Image) -> Image.Image:
    """`image` as RGB: 16 bits scaled to 8 by the brightest pixel, what is transparent on white."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        import numpy as np

        values = np.asarray(image, np.float64)
        low, high = min(0.0, float(values.min())), float(values.max())
        scale = 255 / (high - low) if high > 255 or low < 0 else 1.0
        return Image.fromarray(np.clip((values - low) * scale, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        alpha = image.convert("RGBA")
        behind = Image.new("RGBA", alpha.size, (*_BEHIND, 255))
        return Image.alpha_composite(behind, alpha).convert("RGB")
    return image.convert("RGB")


def fitted(image: Image.Image, side: int) -> Image.Image:
    """`image`, scaled down so that no side is longer than `side` pixels."""
    from PIL import Image

    scale = side / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


#: What a picture can be written as, by suffix.
KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}


#: What the EXIF data of a contact sheet says that it is (the tag `ImageDescription`).
DESCRIPTION = "contact sheet of coco-diy"


def encoded(image: Image.Image, suffix: str, quality: int = 88, description: str = "") -> bytes:
    """`image` as a file of the kind that `suffix`, one of `KINDS`, names; `quality` is that of a JPEG or WebP."""
    from PIL import ExifTags, Image

    exif = Image.Exif()
    if description:
        exif[ExifTags.Base.ImageDescription] = description
    out = io.BytesIO()
    image.save(out, KINDS[suffix], quality=quality, optimize=True, exif=exif)
    return out.getvalue()
