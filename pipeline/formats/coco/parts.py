"""What the reader of a COCO JSON file hands on: its outline, and its parts by bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pydantic
from pydantic import ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Mapping


from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from pipeline.images.header import Picture

    Ints = npt.NDArray[np.int64]


#: Images of a larger split are asked as they are copied: to open a hundred thousand takes longer than to read labels.
MAX_ASKED = 10_000


@dataclass
class FileOutline:
    """Where everything lies in a file, found in one pass; nothing of it is decoded but what images are called.

    `images` and `annotations` are spans, shape (n, 2): begin and end in the file. `stems` are unique, `paths` those of
    the images below their folder (empty: there is none), `said` what the file calls them; `image_of` is the place of
    each annotation's image in `images`. Images and annotations that cannot be used are left out and stand in
    `problems`, as (path or "", counted word, clause, lost annotations); `lost_with` is the place there by image id.
    `doubtful` are places of images of which it is not known whether they have objects. `names` are the fields of
    `classes.Names`, in the order of the category ids; `labels` the category names by id. `rest` is the file without
    its images and annotations. `places` are those of the images by id. `notes` are sentences for the user.
    """

    images: Ints
    annotations: Ints
    image_of: Ints
    stems: list[str]
    paths: list[str]
    said: list[str]
    places: dict[Any, int] = field(default_factory=dict)
    labels: dict[int | str, str] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)
    rest: bytes = b"{}"
    problems: list[tuple[str, str, str, int]] = field(default_factory=list)
    lost_with: dict[Any, int] = field(default_factory=dict)
    doubtful: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def forget(self) -> None:
        """Let go of what is as large as the file has objects."""
        import numpy as np

        self.images = self.annotations = np.zeros((0, 2), np.int64)
        self.image_of = np.zeros(0, np.int64)
        self.stems, self.paths, self.said = [], [], []


@dataclass
class Part:
    """Some images of a file with their annotations, each as it is written; `image_of` is a place in these `images`.

    `captions` are the image's caption annotations, and places in `images`. `pictures` is asked for the images at
    places: for all of them with `compare`, else for those whose size the file does not say.
    """

    images: Sequence[bytes]
    annotations: Sequence[bytes]
    image_of: Ints
    labels: Mapping[int | str, str]
    captions: tuple[Sequence[bytes], Ints] | None = None
    pictures: Callable[[Sequence[int]], Sequence[Picture | None]] | None = None
    compare: bool = False


class Options(pydantic.BaseModel):
    """What ``source.options`` may say."""

    model_config = ConfigDict(extra="forbid")

    numbers: Literal["%.6f", "%g"] = Field("%.6f", description="how coordinates are written in label rows")
    crowd: Literal["drop", "keep"] = Field(
        "drop",
        description="whether objects with iscrowd are in no row, or are "
        "objects like others (CVAT calls every brush mask a crowd)",
    )
    sizes: Literal["auto", "image", "file"] = Field(
        "auto",
        description="whether width and height of the file are compared with the images, and objects put right where "
        f"those were turned or scaled since; auto: of splits of up to {MAX_ASKED:,} images",
    )

    def asks(self, images: int) -> bool:
        """Whether each image of a split of so many is asked how large it is."""
        return self.sizes == "image" or (self.sizes == "auto" and images <= MAX_ASKED)
