"""Pascal VOC's XML, one file an image: named boxes in pixels, as the devkit, labelImg, Roboflow and CVAT write them.

========================================= ==========================================================================
found                                     outcome
========================================= ==========================================================================
corners, fractional or in any order       the box; cut off at the image's edge (``clipped`` beyond one pixel)
``difficult`` 1                           in no row and in no COCO JSON (``difficult``), as VOC's own evaluation and
                                          trainers leave it out; with ``difficult: keep`` an object like others
``truncated``, ``occluded``, ``pose``     go along to COCO JSON; they, and difficult objects that are kept, are counted
                                          where rows cannot say it (a pose as ``attributes``)
``<part>`` (head, hand, foot)             no object; who has some is counted (``parts``), to COCO JSON too
``<polygon>`` (Roboflow's segmentation)   not read, for tools do not agree on where its pixels begin; who has one is
                                          counted (``outlines``), to COCO JSON too
``<attributes>`` (CVAT), other elements   go along to COCO JSON as ``attributes``; counted where rows cannot say it
``<actions>``, ``<point>``, ``segmented`` passed over
no ``<size>``, or one of 0                that of the image; without one the file is bad (``no_size``)
another size than the image has           put right where it is certain what happened, see `formats._framing`; else bad
an object without ``<bndbox>``            bad (``box``), with its line
a DOCTYPE, entities, deep elements        the file is refused, see `formats._xml`
========================================= ==========================================================================

Where pixels begin. In VOC the first pixel is 1 and a box ends with its last pixel: xmin 1 and xmax 500 are all of an
image 500 wide, so a box reaches from xmin - 1 to xmax (``first_pixel: 1``; labelImg keeps to it, for it makes 1 of
0). CVAT and Albumentations write the edges of a box, from 0: it reaches from xmin to xmax (``first_pixel: 0``). A
corner at 0 in a file that is read as from 1 is counted (``pixel_zero``). Roboflow adds 1 to each edge: of an image 500
wide, xmin 1 and xmax 501 are all. By default (``first_pixel: auto``) a file whose ``<database>`` is ``roboflow.com``,
or ``roboflow.ai`` in older exports, is read as that, from xmin - 1 to xmax - 1, and counted (``edges_from_one``);
any other as from 1.

The image is the file with the label's stem; failing that, the one that ``filename``, or ``path``, says.

Grammar: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html, labelImg's ``pascal_voc_io.py``,
Datumaro's ``voc_format``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.base.terms import Task
from pipeline.formats import no_picture
from pipeline.formats.voc.options import Options

if TYPE_CHECKING:
    from pipeline.formats import Parsed, Pictures

SUFFIX = ".xml"

TASKS = frozenset({Task.DETECT})

NAMED = True

WHOLE = False

SIZED = True

SPLIT_FOLDERS: Mapping[str, str] = {}


def layout(folder: str, task: Task) -> dict[str, str]:
    """Label files are beside their images, as Roboflow and labelImg save them."""
    del task
    return {"labels": folder, "images": folder}


def parse(
    files: Sequence[bytes],
    task: Task,
    keypoints: tuple[int, int] | None = None,
    options: Mapping[str, Any] | None = None,
    pictures: Pictures | None = None,
) -> Parsed:
    """Objects of a batch of label files, see `Parsed`; ``line`` is the number of an object in its file, from 1.

    `options` are those of `Options`. `pictures` is asked for the image of a file, by its number and by where it says
    that its image is: how large that is.
    """
    from pipeline.formats.voc.rows import parse  # needs NumPy and Arrow, which a rebuild with nothing to do never loads

    del task, keypoints
    return parse(files, Options.model_validate(options or {}), pictures or no_picture)
