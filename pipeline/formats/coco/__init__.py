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

from typing import TYPE_CHECKING, Any, Literal

import pydantic
from pydantic import ConfigDict, Field

from pipeline.tables.schema import Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.formats import Parsed
    from pipeline.formats.coco.parts import Bytes, Ints, Outline, Part

SUFFIX = ".json"

TASKS = frozenset(Task)

NAMED = WHOLE = True


class Options(pydantic.BaseModel):
    """What ``source.options`` may say."""

    model_config = ConfigDict(extra="forbid")

    numbers: Literal["%.6f", "%g"] = Field("%.6f", description="how coordinates are written in label rows")


def layout(folder: str, task: Task) -> dict[str, str]:
    """COCO's own layout: ``annotations/instances_<folder>.json`` beside the folder of images."""
    kind = "person_keypoints" if task is Task.POSE else "instances"
    return {"annotations": f"annotations/{kind}_{folder}.json", "images": folder}


def outline(data: Bytes, task: Task) -> Outline:
    """Look through a whole file in one pass; `data` may be a mapped file.

    Raises `ValueError`, a clause, for what is no COCO JSON at all.
    """
    from pipeline.formats.coco.scan import outline  # needs NumPy, which a rebuild with nothing to do never loads

    return outline(data, task)


def captions(data: Bytes, of: Outline) -> tuple[Ints, Ints]:
    """Captions in the file `data` for the images of another: spans, and places in its images.

    A captions file often has more images than the other; what belongs to those is passed over. Raises `ValueError` as
    `outline` does.
    """
    from pipeline.formats.coco.scan import captions

    return captions(data, of)


def parse(
    part: Part, task: Task, keypoints: tuple[int, int] | None = None, options: Mapping[str, Any] | None = None
) -> Parsed:
    """Rows of a `Part`; ``file`` in them is the place of the image, ``line`` that of the annotation in its image.

    `keypoints` is (K, 3) for pose.
    """
    from pipeline.formats.coco.rows import parse

    return parse(part, task, keypoints, Options.model_validate(options or {}).numbers)
