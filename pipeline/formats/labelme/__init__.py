"""labelme's JSON, one file an image, of every version since 2016 and of its relatives: labelled shapes, in pixels.

============================ ==============================================================================
shape (in any capitals)      what it becomes
============================ ==============================================================================
polygon, none (old files)    the polygon
rectangle                    four corners around its points, which come in any order
oriented_rectangle, rotation the polygon of its four corners (the second is X-AnyLabeling's); to task detect the
                             upright box around it, counted as ``oriented`` where it is at an angle
quadrilateral                the polygon (X-AnyLabeling's)
circle (centre, rim)         a regular polygon whose sides keep within 0.1 pixels of it
mask                         its pixels: COCO's RLE in COCO JSON; in a row the outline along their edges
line, linestrip, point(s)    nothing that has an area: counted as ``no_area``, in no row and in no COCO JSON
point, to task pose          a keypoint of the object of its ``group_id``, where its label is in ``keypoints``
============================ ==============================================================================

To task obb an object is one shape of four corners, whatever it is called; others are in no row (``no_four_corners``).
To task pose a keypoint that is missing is 0 0 0, one that is marked as ``difficult`` (X-AnyLabeling: it is hidden) has
the visibility 1, others 2. A point of no group, of a group with no object or with several, or whose name its object has
already, is counted (``keypoint_alone``).

Shapes of one label with the same ``group_id`` are one object; labelme before 4.0 numbered instances in the label
(``person-1``): the number is taken off. Labels that differ in blanks or in the form of Unicode alone are one. What is
drawn beyond the image is cut off at its edge. ``__ignore__`` and ``_background_`` are labels of no class. ``flags``,
``description`` and ``group_id`` go along to COCO JSON, and X-AnyLabeling's ``attributes``, ``difficult``, ``score``;
where rows do not say them, they are counted (`formats._unsaid`). So is a group that is that of several objects.

The image is the file with the label's stem; failing that, the one that ``imagePath`` says; failing that, the one that
the file holds (``imageData``), which is taken out of it. Width and height are those of the image as it is shown, EXIF
orientation applied; where the file says others, points are put right or the file is refused, see `formats._framing`. A
size of -1, 0 or null counts as not given. Files before 2019 do not say it, and were drawn on the image as it is stored.

Grammar: labelme's ``label_file.py`` and ``utils/shape.py``, what versions 2.x to 7.x write, and X-AnyLabeling's
``label_file.py`` (0.x to 3.x).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pydantic
from pydantic import ConfigDict, Field

from pipeline.base.terms import Task
from pipeline.formats import no_picture
from pipeline.formats._shapes.options import KeypointNames

if TYPE_CHECKING:
    from pipeline.formats import Parsed, Pictures

SUFFIX = ".json"

TASKS = frozenset(Task)

NAMED = True

WHOLE = False

SIZED = True

SPLIT_FOLDERS: Mapping[str, str] = {}


class Options(pydantic.BaseModel):
    """What ``source.options`` may say."""

    model_config = ConfigDict(extra="forbid")

    numbers: Literal["%.6f", "%g"] = Field("%.6f", description="how coordinates are written in label rows")
    sizes: Literal["check", "trust"] = Field(
        "check", description="check: compare imageWidth and imageHeight with the image; trust: believe them"
    )
    instances: Literal["auto", "keep"] = Field(
        "auto", description="auto: person-1 is a person in files of labelme before 4.0; keep: labels as they are"
    )
    keypoints: KeypointNames = Field(
        [], description="of task pose: labels of the points that are keypoints, in their order"
    )


def layout(folder: str, task: Task) -> dict[str, str]:
    """Label files are beside their images, as labelme saves them."""
    del task
    return {"labels": folder, "images": folder}


def parse(
    files: Sequence[bytes],
    task: Task,
    keypoints: tuple[int, int] | None = None,
    options: Mapping[str, Any] | None = None,
    pictures: Pictures | None = None,
) -> Parsed:
    """Objects of a batch of label files, see `Parsed`; ``line`` is the number of an object's first shape, from 1.

    `options` are those of `Options`. `pictures` is asked for the image of a file, by its number and by where it says
    that its image is: how large that is.
    """
    from pipeline.formats._shapes.rows import (  # needs NumPy and Arrow, which a rebuild with nothing to do never loads
        Rules,
        parse,
    )
    from pipeline.formats.labelme.decoding import decode

    del keypoints
    chosen = Options.model_validate(options or {})
    points = tuple(chosen.keypoints) if task is Task.POSE else ()
    rules = Rules(chosen.numbers, chosen.sizes == "check", chosen.instances == "auto", points)
    return parse(files, task, rules, pictures or no_picture, decode)
