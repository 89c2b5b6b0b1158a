"""CVAT for images 1.1: one XML document with all images of a job, a task or a project, and their shapes.

=========================================== ========================================================================
found                                       what becomes of it
=========================================== ========================================================================
``<labels>`` of ``<meta>``                  the classes, in their order; labels of shapes alone come after them
``subset`` of an image                      its split (Train, Validation, Test, in any case); images of other subsets
                                            are of train, or of the split that the file is named for; a note says so
``box``, ``rotation``                       its corners, turned clockwise around its centre
``polygon``                                 the polygon
``ellipse``                                 a polygon whose sides keep within 0.1 pixels of it
``mask``                                    its pixels: COCO's RLE in COCO JSON; in a row the outline along their edges
``skeleton``                                keypoints in the order of the labels whose ``<parent>`` it is: ``outside``
                                            is not labelled (0), ``occluded`` hidden (1); the box around the labelled
                                            ones is that of the object
``points``, ``polyline``                    nothing that has an area: counted as ``no_area``
``cuboid``                                  a box in space, which has no outline in the image: counted as ``cuboid``
``tag``                                     of the whole image, no object; a note counts them
``occluded``                                goes along to COCO JSON; counted where rows cannot say it (``occluded``)
``attribute``, ``group_id``, ``z_order``    go along to COCO JSON; counted where rows cannot say it (``attributes``)
``source``                                  goes along to COCO JSON, unless it is ``manual``
an image without shapes                     an image without objects
a shape without a label, or of bad numbers  bad, with its number in the image; so is one with decimal commas
``<track>``                                 CVAT for video: the file is refused, with the way out
a DOCTYPE, another encoding than UTF-8      the file is refused, see `formats._xml`
=========================================== ========================================================================

Coordinates are edges in pixels, from 0. Where images are asked how large they are, points are put right or the image is
refused, see `formats._framing`.

Format: https://docs.cvat.ai/docs/manual/advanced/xml_format/ and ``cvat/apps/dataset_manager/formats/cvat.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

import pydantic
from pydantic import ConfigDict, Field

from pipeline.base.terms import Task
from pipeline.formats._no_captions import captions as captions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.formats import FileContents, FileOutline, Parsed, Part
    from pipeline.formats._image_names import ImageNames

SUFFIX = ".xml"

TASKS = frozenset(Task)

NAMED = WHOLE = HOLDS_SPLITS = True

SIZED = CAPTIONS = SEVERAL_FILES = False

UNASKED: Mapping[str, Any] = {"sizes": "trust"}

FILES = ("annotations.xml",)

FILE_BESIDE_IMAGES = None

#: Images of a larger source are not asked for their size, see `Options.sizes`.
MAX_ASKED = 10_000

#: What may be before the first element, and its name.
_ROOT = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s++|<\?.*?\?>|<!--.*?-->)*+<annotations[\s/>]", re.DOTALL)


class Options(pydantic.BaseModel):
    """What ``source.options`` may say."""

    model_config = ConfigDict(extra="forbid")

    numbers: Literal["%.6f", "%g"] = Field("%.6f", description="how coordinates are written in label rows")
    sizes: Literal["check", "trust"] = Field(
        "check",
        description=f"check: compare width and height with images of up to {MAX_ASKED:,}; trust: believe them",
    )


def layout(folder: str, task: Task) -> dict[str, str]:
    """One file for all splits, beside ``images/<folder>``, as CVAT exports a project."""
    del task
    return {"annotations": FILES[0], "images": f"images/{folder}"}


def recognises(head: bytes) -> bool:
    """Whether the first element is ``<annotations>``: Pascal VOC's is ``<annotation>``."""
    return _ROOT.match(head) is not None


def asks_sizes(options: Mapping[str, Any], images: int) -> bool:
    """Whether each image of a split of so many is asked how large it is, so that a changed image is a changed file."""
    return Options.model_validate(options).sizes == "check" and images <= MAX_ASKED


def contents(pieces: Iterable[bytes]) -> FileContents:
    """Splits and whereabouts of the images, see `FileContents`. Raises `Malformed`."""
    from pipeline.formats.cvat.scan import contents

    return contents(pieces)


def outline(
    pieces: Iterable[bytes], task: Task, names: ImageNames | None = None, split: str | None = None
) -> FileOutline:
    """Read a whole file, which comes in `pieces`; with `split`, the images of that one. Raises `Malformed`."""
    from pipeline.formats.cvat.scan import outline

    return outline(pieces, task, names, split)


def parse(
    part: Part, task: Task, keypoints: tuple[int, int] | None = None, options: Mapping[str, Any] | None = None
) -> Parsed:
    """Rows of a `Part`, see `SingleFileFormat.parse`; `keypoints` is (K, 3) for pose."""
    from pipeline.formats.cvat.rows import parse

    return parse(part, task, keypoints, Options.model_validate(options or {}).numbers)
