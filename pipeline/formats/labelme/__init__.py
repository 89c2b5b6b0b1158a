"""labelme's JSON, one file an image, of every version since 2016: shapes with labels, in pixels.

============================ ==============================================================================
shape                        what it becomes
============================ ==============================================================================
polygon, none (old files)    the polygon
rectangle                    four corners around its points, which come in any order
oriented_rectangle           the polygon of its four corners
circle (centre, rim)         a regular polygon whose sides keep within 0.1 pixels of it
mask                         its pixels: COCO's RLE in COCO JSON; in a row the outline along their edges
line, linestrip, point(s)    nothing that has an area: counted as ``no_area``, in no row and in no COCO JSON
============================ ==============================================================================

Shapes of one label with the same ``group_id`` are one object. What is drawn beyond the image is cut off at its edge.
``__ignore__`` and ``_background_`` are labels of no class. ``flags``, ``description`` and ``group_id`` go along to COCO
JSON. The image is the file with the label's stem; failing that, the one that ``imagePath`` says. Width and height are
those in the file: what labelme showed, EXIF orientation applied. Files before 2019 do not say them, and were drawn on
the image as it is stored; their points are turned as the image's EXIF orientation turns it.

Grammar: labelme's ``label_file.py`` and ``utils/shape.py``, and what versions 2.x to 7.x write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pydantic
from pydantic import ConfigDict, Field

from pipeline.tables.schema import Task

if TYPE_CHECKING:
    from pipeline.formats import Parsed, Pictures

SUFFIX = ".json"

TASKS = frozenset({Task.DETECT, Task.SEGMENT})

NAMED = True

WHOLE = False


class Options(pydantic.BaseModel):
    """What ``source.options`` may say."""

    model_config = ConfigDict(extra="forbid")

    numbers: Literal["%.6f", "%g"] = Field("%.6f", description="how coordinates are written in label rows")


def layout(folder: str, task: Task) -> dict[str, str]:
    """Label files lie beside their images, as labelme saves them."""
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
    that its image is, where it does not say how large that is.
    """
    from pipeline.formats.labelme.rows import (
        parse,  # needs NumPy and Arrow, which a rebuild with nothing to do never loads
    )

    del keypoints
    numbers = Options.model_validate(options or {}).numbers
    return parse(files, task, numbers, pictures or (lambda _number, _path: None))
