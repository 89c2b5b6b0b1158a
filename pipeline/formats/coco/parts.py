"""What the reader of a COCO JSON file hands on: its outline, and its parts by bucket."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import mmap
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Bytes = bytes | mmap.mmap


@dataclass
class Outline:
    """Where everything lies in a file, found in one pass; nothing of it is decoded but what images are called.

    `images` and `annotations` are spans, shape (n, 2): begin and end in the file. `stems` are the images' paths without
    suffix, `paths` with it; `image_of` is the place of each annotation's image in `images`. Images and annotations that
    cannot be used are left out and stand in `problems`, as (stem or "", counted word, clause). `names` are the fields
    of `classes.Names`, in the order of the category ids; `labels` the category names by id. `rest` is the file without
    its images and annotations. `places` are those of the images by id.
    """

    images: Ints
    annotations: Ints
    image_of: Ints
    stems: list[str]
    paths: list[str]
    places: dict[Any, int] = field(default_factory=dict)
    labels: dict[int | str, str] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)
    rest: bytes = b"{}"
    problems: list[tuple[str, str, str]] = field(default_factory=list)

    def forget(self) -> None:
        """Let go of what is as large as the file has objects."""
        import numpy as np

        self.images = self.annotations = np.zeros((0, 2), np.int64)
        self.image_of = np.zeros(0, np.int64)
        self.stems, self.paths = [], []


@dataclass
class Part:
    """Some images of a file with their annotations: spans as in `Outline`, `image_of` is a place in these `images`.

    `data` is the file, and `captions` are (its file, spans, places in `images`). Slices of files are bytes.
    """

    data: Bytes
    images: Ints
    annotations: Ints
    image_of: Ints
    labels: Mapping[int | str, str]
    captions: tuple[Bytes, Ints, Ints] | None = None
