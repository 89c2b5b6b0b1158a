"""Tables of counts as small pictures, a cell a pixel, for a page that shows them enlarged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.look.thumbnails import encoded

if TYPE_CHECKING:
    from pipeline.base.arrays import Ints

#: Colour of the cells; how full one is, is how opaque it is, so that it is read on light and dark alike.
_COLOUR = (47, 111, 222)


def heat_png(counts: Ints) -> bytes:
    """A PNG of `counts`, shape (rows, columns), a pixel a cell: the logarithm of a count is how opaque its pixel is."""
    import numpy as np
    from PIL import Image

    values = np.log1p(np.asarray(counts, np.float64))
    most = values.max() or 1.0
    pixels = np.zeros((*values.shape, 4), np.uint8)
    pixels[..., :3] = _COLOUR
    pixels[..., 3] = np.where(values > 0, 20 + np.round(values / most * 235), 0)
    return encoded(Image.fromarray(pixels, "RGBA"), ".png")
