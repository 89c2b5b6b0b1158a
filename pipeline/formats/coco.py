"""COCO JSON: one file holds all images, annotations and categories of a split.

``instances_*`` has boxes and polygons or RLE masks, ``person_keypoints_*`` keypoints as well; ``captions_*`` stands
beside them. What becomes of what people's files hold:

======================================= ==========================================================================
found                                   outcome
======================================= ==========================================================================
ids up to 2^53, ids as text             taken; an annotation may write its image's id as text, or the other way round
two images of one id, or of one stem    the first is taken, the others are bad
an annotation of no image               bad; so is one of no category, or whose values have another type
two annotations of one id               both taken; in COCO JSON the second gets a new id
``iscrowd``                             in no row (``crowd``); kept in COCO JSON
no box, a box without area              in no row (``no_box``, ``zero_area``); kept in COCO JSON
far beyond the image (more than 1 %)    in no row (``out_of_range``), for a trainer would drop the whole image; kept
segment: ``[]``, nothing of 3 points    in no row (``no_polygon``); kept in COCO JSON
segment: some parts below 3 points, or  the other parts are the row (``short_part``); kept in COCO JSON
of an odd count of numbers
segment: RLE, as a list or compressed   the outline of its pixels, holes filled (``holes``); kept in COCO JSON
pose: ``num_keypoints`` 0               in no row (``no_keypoints``), as in Ultralytics' own labels; kept
======================================= ==========================================================================

What is bad is a problem with a sentence; what is in no row is counted. Several polygons of one object are joined as
Ultralytics' `merge_multi_segment` joins them. Format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pydantic
from pydantic import ConfigDict, Field

from pipeline.schema import Task

if TYPE_CHECKING:
    import mmap
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from pipeline.formats import Parsed

    Ints = npt.NDArray[np.int64]
    Bytes = bytes | mmap.mmap

SUFFIX = ".json"
TASKS = frozenset(Task)
NAMED = WHOLE = True
SIZED = False


class Options(pydantic.BaseModel):
    """What ``source.options`` may say."""

    model_config = ConfigDict(extra="forbid")

    numbers: Literal["%.6f", "%g"] = Field("%.6f", description="how coordinates are written in label rows")


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


def layout(folder: str, task: Task) -> dict[str, str]:
    """COCO's own layout: ``annotations/instances_<folder>.json`` beside the folder of images."""
    kind = "person_keypoints" if task is Task.POSE else "instances"
    return {"annotations": f"annotations/{kind}_{folder}.json", "images": folder}


def outline(data: Bytes, task: Task) -> Outline:
    """Look through a whole file in one pass; `data` may be a mapped file.

    Raises `ValueError`, a clause, for what is no COCO JSON at all.
    """
    from pipeline.formats import _outline  # needs NumPy, which a rebuild with nothing to do never loads

    return _outline.outline(data, task)


def captions(data: Bytes, of: Outline) -> tuple[Ints, Ints]:
    """Captions in the file `data` for the images of another: spans, and places in its images.

    A captions file often has more images than the other; what belongs to those is passed over. Raises `ValueError` as
    `outline` does.
    """
    from pipeline.formats import _outline

    return _outline.captions(data, of)


def parse(
    part: Part, task: Task, keypoints: tuple[int, int] | None = None, options: Mapping[str, Any] | None = None
) -> Parsed:
    """Rows of a `Part`; ``file`` in them is the place of the image, ``line`` that of the annotation in its image.

    `keypoints` is (K, 3) for pose.
    """
    from pipeline.formats import _coco

    return _coco.parse(part, task, keypoints, Options.model_validate(options or {}).numbers)
