"""ISAT's JSON (ISAT with segment anything), one file an image: ``info`` of the image, and ``objects`` as polygons.

An object has ``category``, ``group``, ``segmentation`` as a list of [x, y] in pixels, ``layer``, ``bbox``, ``iscrowd``
and ``note``. The rules are those of `formats.labelme`, whose shapes they are by other names:

================================== ===============================================================================
found                              outcome
================================== ===============================================================================
objects of a category and a group  one object of several parts, as in ISAT's own export to COCO JSON
``iscrowd``                        in no row (``crowd``), kept in COCO JSON; ``crowd: keep``: an object like others
``__background__``                 a label of no class
``note``, ``layer``                go along to COCO JSON, as ``description`` and ``attributes``
``bbox``, ``area``                 made anew of the polygons
================================== ===============================================================================

The image is the file with the label's stem; failing that, ``info.name``. Grammar: ISAT's ``annotation.py``, 1.x.
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
    from pipeline.formats._shapes.rows import ShapeFile

SUFFIX = ".json"

TASKS = frozenset({Task.DETECT, Task.SEGMENT, Task.OBB})

NAMED = SIZED = True

WHOLE = False

SPLIT_FOLDERS: Mapping[str, str] = {}

#: What ISAT calls what is no object, and labelme.
_NO_OBJECT = {"__background__": "_background_"}


class Options(pydantic.BaseModel):
    """What ``source.options`` may say."""

    model_config = ConfigDict(extra="forbid")

    numbers: Literal["%.6f", "%g"] = Field("%.6f", description="how coordinates are written in label rows")
    sizes: Literal["check", "trust"] = Field(
        "check", description="check: compare width and height with the image; trust: believe them"
    )
    crowd: Literal["drop", "keep"] = Field(
        "drop", description="whether objects with iscrowd are in no row, or are objects like others"
    )


def layout(folder: str, task: Task) -> dict[str, str]:
    """Label files are beside their images, as ISAT saves them."""
    del task
    return {"labels": folder, "images": folder}


def parse(
    files: Sequence[bytes],
    task: Task,
    keypoints: tuple[int, int] | None = None,
    options: Mapping[str, Any] | None = None,
    pictures: Pictures | None = None,
) -> Parsed:
    """Objects of a batch of label files, see `Parsed`; ``line`` is the number of an object's first polygon, from 1.

    `options` are those of `Options`. `pictures` is asked for the image of a file, by its number and by its name.
    """
    from pipeline.formats._shapes.rows import (  # needs NumPy and Arrow, which a rebuild with nothing to do never loads
        Rules,
        parse,
    )

    del keypoints
    chosen = Options.model_validate(options or {})
    rules = Rules(chosen.numbers, chosen.sizes == "check", instances=False, crowds=chosen.crowd == "drop")
    return parse(files, task, rules, pictures or no_picture, _decode)


def _decode(content: bytes) -> ShapeFile:
    """A file as labelme would have written it; raises `ShapeError` for what is no file of ISAT."""
    from pipeline.formats._shapes.outlines import ShapeError
    from pipeline.formats._shapes.rows import ShapeFile, read_json

    data = read_json(content)
    info, objects = (data.get("info"), data.get("objects")) if isinstance(data, dict) else (None, None)
    if not isinstance(info, dict) or not isinstance(objects, list):
        raise ShapeError("not_isat", "is JSON, but has no `info` and list `objects`: no label file of ISAT; move it")
    return ShapeFile(
        shapes=[_shape(one) if isinstance(one, dict) else one for one in objects],
        imagePath=info.get("name"),
        imageHeight=info.get("height"),
        imageWidth=info.get("width"),
    )


def _shape(one: dict[str, Any]) -> dict[str, Any]:
    """An object as a shape of labelme."""
    category, layer = one.get("category"), one.get("layer")
    shape = {
        "points": one.get("segmentation"),
        "shape_type": one.get("shape_type"),
        "group_id": one.get("group"),
        "description": one.get("note"),
        "iscrowd": one.get("iscrowd"),
        "attributes": {"layer": layer} if isinstance(layer, int | float) else None,
    }
    if category is not None:
        shape["label"] = _NO_OBJECT.get(category, category) if isinstance(category, str) else category
    return shape
