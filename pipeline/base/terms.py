"""Words of the field that configs, tables and formats share."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

Split = Literal["train", "val", "test"]

#: The splits in the order in which they are listed everywhere.
SPLITS: tuple[Split, ...] = ("train", "val", "test")

#: Labels that are no classes: labelme's own tools leave out the first and take the second for what is no object.
NO_CLASS = ("__ignore__", "_background_")

#: Image suffixes that Ultralytics 8.4 reads (`IMG_FORMATS`), in any case; where one stem has several, the first wins.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif", ".jp2", ".dng", ".mpo",
)  # fmt: skip


class Task(StrEnum):
    """What a label row says of an object."""

    DETECT = "detect"
    SEGMENT = "segment"
    POSE = "pose"
