"""Ultralytics NDJSON: a line for the dataset, then one an image with its split and its objects, as label rows.

========================================== =========================================================================
line                                       what becomes of it
========================================== =========================================================================
the first: ``class_names``, ``kpt_shape``  names of the classes; those of numbers that it lacks are ``class3``, as
                                           trainers call them; a missing ``kpt_shape`` is inferred as trainers do
``boxes``, ``segments``, ``pose``, ``obb`` rows of ``class`` and numbers, with the rules of YOLO label files, digit by
                                           digit; of several lists that of the task, else the first
no ``annotations``                         an image without objects
``split``: ``valid``, none                 val, train; one that is no split is counted (``bad_split``)
``file``, ``url``                          the image of this name below the folder of images; where images are on a web
                                           server, that at the path of the address
``width``, ``height``                      the size of the image
========================================== =========================================================================

Two lines of one image in a split are counted (``image_twice``). Datasets of task classify and depth are refused: they
have no objects. Format: https://docs.ultralytics.com/datasets/detect/#ultralytics-ndjson-format and
``convert_ndjson_to_yolo`` in ``ultralytics/data/converter.py`` of 8.4.190.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pydantic
from pydantic import ConfigDict, Field

from pipeline.base.terms import Task
from pipeline.formats._no_captions import captions as captions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.formats import FileContents, FileOutline, Parsed, Part
    from pipeline.formats._image_names import ImageNames

SUFFIX = ".ndjson"

TASKS = frozenset(Task)

NAMED = WHOLE = HOLDS_SPLITS = True

SIZED = CAPTIONS = SEVERAL_FILES = False

UNASKED: Mapping[str, Any] = {}

FILES = ("dataset.ndjson",)

FILE_BESIDE_IMAGES = None


class Options(pydantic.BaseModel):
    """What ``source.options`` may say."""

    model_config = ConfigDict(extra="forbid")

    polygons: Literal["keep", "boxes"] = Field(
        "keep", description="of task detect: polygons as they are, or the box of each"
    )


def layout(folder: str, task: Task) -> dict[str, str]:
    """One file for all splits, beside ``images/<folder>``."""
    del task
    return {"annotations": FILES[0], "images": f"images/{folder}"}


def recognises(head: bytes) -> bool:
    """Whether the first line is that of a dataset."""
    first = head.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")[0]
    return first[:1] == b"{" and (b'"class_names"' in first or b'"dataset"' in first)


def asks_sizes(options: Mapping[str, Any], images: int) -> bool:
    """See `SingleFileFormat.asks_sizes`: numbers are shares of the image, so its size decides about nothing."""
    del options, images
    return False


def contents(pieces: Iterable[bytes]) -> FileContents:
    """Task, splits and whereabouts of the images, see `FileContents`. Raises `Malformed`."""
    from pipeline.formats.ndjson.scan import contents

    return contents(pieces)


def outline(
    pieces: Iterable[bytes], task: Task, names: ImageNames | None = None, split: str | None = None
) -> FileOutline:
    """Read a whole file, which comes in `pieces`; with `split`, the images of that one. Raises `Malformed`."""
    from pipeline.formats.ndjson.scan import outline

    return outline(pieces, task, names, split)


def parse(
    part: Part, task: Task, keypoints: tuple[int, int] | None = None, options: Mapping[str, Any] | None = None
) -> Parsed:
    """Rows of a `Part`, see `SingleFileFormat.parse`; `keypoints` is (K, D) for pose."""
    from pipeline.formats.ndjson.rows import parse

    boxes = Options.model_validate(options or {}).polygons == "boxes"
    return parse(part, task, keypoints, polygons_to_boxes=boxes)
