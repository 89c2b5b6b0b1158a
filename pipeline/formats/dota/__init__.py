"""DOTA's label files, one an image: an oriented box a row, its four corners in pixels.

``x1 y1 x2 y2 x3 y3 x4 y4 category difficult``, numbers whole or not. Before the rows there may be lines
``imagesource:GoogleEarth``, ``gsd:0.146`` (metres a pixel) and ``acquisition dates:…``: they go along to COCO JSON, as
``difficult`` does (0; 1, and in releases since 1.5 also 2, of what is hard to see; 0 where it is left out).

======================================= ==========================================================================
found                                   outcome
======================================= ==========================================================================
a box at an angle                       its corners to task obb, else the upright box around it (``oriented``)
a corner beyond the image (over 1 %)    the nearest point of the image (``clipped``); as it was written in COCO JSON
wholly beyond the image, without area   in no row (``outside``, ``zero_area``); kept in COCO JSON
``difficult`` not 0                     an object like others, counted where rows cannot say it (``marked_difficult``);
                                        with ``difficult: drop`` in no target (``difficult``)
9 tokens whose last is a number         bad: a row of YOLO
10 tokens that begin with a name        bad: a result of DOTA's Task 1
======================================= ==========================================================================

Width and height are those of the image. Grammar: ``dota_utils.py`` of DOTA_devkit and mmrotate's ``DOTADataset``;
https://captain-whu.github.io/DOTA/dataset.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pydantic
from pydantic import ConfigDict, Field

from pipeline.base.terms import Task
from pipeline.formats import no_picture

if TYPE_CHECKING:
    from pipeline.formats import Parsed, Pictures

SUFFIX = ".txt"

TASKS = frozenset({Task.OBB, Task.DETECT})

NAMED = SIZED = True

WHOLE = False

SPLIT_FOLDERS: Mapping[str, str] = {}


class Options(pydantic.BaseModel):
    """What ``source.options`` may say."""

    model_config = ConfigDict(extra="forbid")

    numbers: Literal["%.6f", "%g"] = Field("%.6f", description="how coordinates are written in label rows")
    difficult: Literal["keep", "drop"] = Field("keep", description="objects that are marked as difficult")


def layout(folder: str, task: Task) -> dict[str, str]:
    """DOTA's own layout: ``<folder>/labelTxt`` beside ``<folder>/images``."""
    del task
    return {"labels": f"{folder}/labelTxt", "images": f"{folder}/images"}


def parse(
    files: Sequence[bytes],
    task: Task,
    keypoints: tuple[int, int] | None = None,
    options: Mapping[str, Any] | None = None,
    pictures: Pictures | None = None,
) -> Parsed:
    """Rows of a batch of label files, see `Parsed`; `options` are those of `Options`.

    `pictures` is asked for the image of each file that has rows: how large that is.
    """
    from pipeline.formats.dota.rows import (
        parse,  # needs NumPy and Arrow, which a rebuild with nothing to do never loads
    )

    del keypoints
    chosen = Options.model_validate(options or {})
    asked = pictures or no_picture
    return parse(files, task, asked, numbers=chosen.numbers, drop_difficult=chosen.difficult == "drop")
