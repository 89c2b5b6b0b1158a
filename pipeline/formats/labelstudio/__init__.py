"""Label Studio's JSON export, a list of tasks with their annotations; its shorter form (JSON-MIN) as well.

One task that is in no list, as its API answers, is taken as a list of one.

============================================ =======================================================================
of a task                                    what becomes of it
============================================ =======================================================================
``data``: the image                          found by the end of its path: ``data/upload/3/1f0b2c4d-a.jpg``,
                                             ``local-files/?d=``, an address; by ``file_upload`` failing that
several annotations                          the first that is ``ground_truth``, else the first; a note counts them
``was_cancelled``, none, predictions alone   the task is left out, for nobody labelled it; a note counts them
rectangle, ``rotation``                      its four corners, turned around the first as Label Studio does; to task
                                             detect the upright box around it (``oriented``)
ellipse                                      a polygon whose sides keep within 0.1 pixels of it
polygon                                      the polygon
brush, bitmask                               its pixels: COCO's RLE in COCO JSON; in a row the outline along their edges
keypoint, to task pose                       that of the region below which it is (``parentID``), where its label is in
                                             ``keypoints``; one of no region is counted (``keypoint_alone``)
keypoint, to other tasks                     nothing that has an area: counted as ``no_area``; its label is no class
several labels of one object                 the first; a note counts them
choices, text, ratings, relations            no objects; a note counts them
an object without a label                    bad (``label``)
``image_rotation``                           bad (``image_rotation``): nobody knows which image its numbers are of
============================================ =======================================================================

To task obb an object is a rectangle or a polygon of four corners; others are in no row (``no_four_corners``). To task
pose a keypoint that is missing is 0 0 0, others have the visibility 2: Label Studio does not say which are hidden.

Coordinates are percent of the image's width and height. The size of the image is ``original_width`` and
``original_height``; where images are asked, points are put right or the task is refused, see `formats._framing`.

Grammar: https://labelstud.io/guide/export and https://labelstud.io/guide/task_format; run lengths of brushes are those
of ``label_studio_converter/brush.py``, see `brush`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pydantic
from pydantic import ConfigDict, Field

from pipeline.base.terms import Task
from pipeline.formats._heads import begins_with, is_task
from pipeline.formats._no_captions import captions as captions
from pipeline.formats._shapes.options import KeypointNames

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.formats import FileOutline, Parsed, Part
    from pipeline.formats._image_names import ImageNames

SUFFIX = ".json"

TASKS = frozenset(Task)

NAMED = WHOLE = True

SIZED = HOLDS_SPLITS = CAPTIONS = SEVERAL_FILES = False

UNASKED: Mapping[str, Any] = {"sizes": "trust"}

FILES = ("result.json", "project.json", "export.json")

FILE_BESIDE_IMAGES = None

#: Images of a larger source are not asked for their size, see `Options.sizes`.
MAX_ASKED = 10_000


class Options(pydantic.BaseModel):
    """What ``source.options`` may say."""

    model_config = ConfigDict(extra="forbid")

    numbers: Literal["%.6f", "%g"] = Field("%.6f", description="how coordinates are written in label rows")
    sizes: Literal["check", "trust"] = Field(
        "check",
        description=f"check: compare original_width and original_height with images of up to {MAX_ASKED:,}; trust: "
        "believe them",
    )
    keypoints: KeypointNames = Field(
        [], description="of task pose: labels of the points that are keypoints, in their order"
    )


#: By which a list is known: a task's, an annotation's, those of a region.
_KEYS = ("data", "result", "completions", "annotation_id", "original_width")


def layout(folder: str, task: Task) -> dict[str, str]:
    """A file for each split beside a folder of its images: Label Studio itself knows no splits."""
    del task
    return {"annotations": f"{folder}.json", "images": folder}


def recognises(head: bytes) -> bool:
    """Whether a file begins with a list of tasks, in either form, or as one task; CreateML's is another list."""
    return begins_with(head, b"[", _KEYS) or is_task(head)


def asks_sizes(options: Mapping[str, Any], images: int) -> bool:
    """Whether each image of a split of so many is asked how large it is, so that a changed image is a changed file."""
    return Options.model_validate(options).sizes == "check" and images <= MAX_ASKED


def outline(
    pieces: Iterable[bytes], task: Task, names: ImageNames | None = None, split: str | None = None
) -> FileOutline:
    """Read a whole file, which comes in `pieces`, in one pass. Raises `Malformed` for what is no list of tasks."""
    del task, split  # a file is of one split
    from pipeline.formats.labelstudio.scan import outline

    return outline(pieces, names)


def parse(
    part: Part, task: Task, keypoints: tuple[int, int] | None = None, options: Mapping[str, Any] | None = None
) -> Parsed:
    """Rows of a `Part`, see `SingleFileFormat.parse`."""
    del keypoints
    from pipeline.formats.labelstudio.rows import parse

    chosen = Options.model_validate(options or {})
    return parse(part, task, chosen.numbers, tuple(chosen.keypoints) if task is Task.POSE else ())
