"""Whether images are as large as their label files say.

A header of each image of a source would cost minutes on a cold disk or a share, for a subset of 3 in a hundred. So the
images are asked that a build is about to copy: their bytes are read next anyway, and one that is at the target was
asked before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.images.header import Picture
from pipeline.images.inspection import read_pictures
from pipeline.storage.origins import Origins

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Sizes:
    """What was seen: by key a clause for an image of another size, and of those turned by their EXIF data the paths."""

    other: dict[str, str] = field(default_factory=dict)
    turned: list[str] = field(default_factory=list)


def compare_sizes(images: pa.Table, origins: Origins, *, normalised: bool) -> Sizes:
    """Compare what label files say of `images` (`schema.images`) with the images' headers.

    `normalised`: rows are parts of width and height, so that an image that was scaled as a whole is as good as the one
    it was.
    """
    found = Sizes()
    rows = [
        row
        for row in images.select(["key", "image_path", "width", "height"]).to_pylist()
        if row["width"] and row["height"] and row["image_path"] is not None
    ]
    for origin, some in origins.by_origin([row["key"] for row in rows]):
        if origin.url is None:
            continue
        location, here = origin.location, [rows[i] for i in some]
        cached = location.at_hand([row["image_path"] for row in here])
        here = [row for row, there in zip(here, cached, strict=True) if there]
        for i, picture in read_pictures(location, [row["image_path"] for row in here]):
            row, said = here[i], (here[i]["width"], here[i]["height"])
            if picture is None or said == (picture.width, picture.height):
                continue  # what is no image is reported by who reads it
            if said == (picture.stored_width, picture.stored_height):
                found.turned.append(location.join(row["image_path"]))
            elif not (normalised and same_shape(said, (picture.width, picture.height))):
                found.other[row["key"]] = _clause(said, picture)
    return found


def _clause(said: tuple[int, int], picture: Picture) -> str:
    how = (
        "exchanged"
        if said == (picture.height, picture.width)
        else "scaled"
        if same_shape(said, (picture.width, picture.height))
        else "of another shape"
    )
    return (
        f"has {picture.width} x {picture.height} pixels, its label file says {said[0]} x {said[1]} ({how}): its "
        "objects may be in other positions"
    )


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one size, width and height in pixels, is the other, scaled and rounded."""
    return abs(size[0] * other[1] - size[1] * other[0]) <= max(*size, *other)
