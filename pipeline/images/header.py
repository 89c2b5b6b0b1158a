"""What an image file says of itself in its first bytes: its size, and which way up it is shown; pure."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

_ORIENTATION = 0x0112  # the EXIF tag

#: For each EXIF orientation: whether x and y change places, then whether x, then whether y runs the other way.
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
        return self.stored_height if _TURNS[self.orientation][0] else self.stored_width

    @property
    def height(self) -> int:
        """Height in pixels as trainers and viewers show the image."""
        return self.stored_width if _TURNS[self.orientation][0] else self.stored_height

    def shown(self, xy: Floats) -> Floats:
        """Points, shape (n, 2), of the stored image as points of the one that is shown."""
        swap, flip_x, flip_y = _TURNS[self.orientation]
        turned = (xy[:, ::-1] if swap else xy).copy()
        if flip_x:
            turned[:, 0] = self.width - turned[:, 0]
        if flip_y:
            turned[:, 1] = self.height - turned[:, 1]
        return turned


def picture_of(data: bytes) -> Picture | None:
    """The picture that `data`, a file or its first bytes, begins; None where that cannot be told."""
    import io

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a very large picture is no attack here: no pixel is decoded
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
                orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - Pillow raises what its plug-ins raise: OSError, SyntaxError, struct.error, …
        return None
    return Picture(width, height, orientation if orientation in _TURNS else 1)


def mask_of(data: bytes) -> Bools | None:
    """The pixels of a PNG image that are not 0, shape (height, width); None for data that are no such image."""
    import io

    import numpy as np
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # here pixels are decoded: a picture of gigabytes is refused
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                plain = image if image.mode in ("1", "L", "P", "I", "I;16") else image.convert("L")
                return np.asarray(np.asarray(plain) != 0)
    except Exception:  # noqa: BLE001 - Pillow raises what its plug-ins raise: OSError, SyntaxError, struct.error, …
        return None


#: Image suffixes that Ultralytics 8.4 reads (`IMG_FORMATS`), in any case; where one stem has several, the first wins.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif", ".jp2", ".dng", ".mpo",
)  # fmt: skip
