"""CrowdHuman's .odgt: a line of JSON for each image, with full, visible and head boxes of people.

====================================== =============================================================================
found                                  outcome
====================================== =============================================================================
``ID``                                 the image of this name, with any suffix
``tag``                                the class: ``person``
``fbox``, ``vbox``, ``hbox``           the full box or, by the option ``box``, the visible or the head box, in pixels
tag ``mask``                           a region that is to be ignored: a crowd, in no row (``crowd``), kept in COCO JSON
``ignore`` of ``extra`` (of            the same, or an object like others with ``crowd: keep``
``head_attr``, for head boxes)
``occ`` of the same                    an object like others, counted (``occluded``)
beyond the image (over 1 %)            clipped (``clipped``), as written in COCO JSON; wholly beyond: in no row
no such box, no four numbers           bad (``bad_box``)
====================================== =============================================================================

In COCO JSON all boxes and attributes of a person go along as they are called. Width and height are those of the image
or, where the line has them, ``width`` and ``height``. Grammar: https://www.crowdhuman.org/download.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.base.terms import Task
from pipeline.formats._no_captions import captions as captions
from pipeline.formats.odgt.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.formats import FileOutline, Parsed, Part
    from pipeline.formats._image_names import ImageNames

SUFFIX = ".odgt"

TASKS = frozenset({Task.DETECT})

NAMED = WHOLE = True

SIZED = HOLDS_SPLITS = CAPTIONS = SEVERAL_FILES = False

UNASKED: Mapping[str, Any] = {}

FILES = ("annotation.odgt",)

FILE_BESIDE_IMAGES = None


def layout(folder: str, task: Task) -> dict[str, str]:
    """CrowdHuman's own: a file for each split beside one folder of all images."""
    del task
    return {"annotations": f"annotation_{folder}.odgt", "images": "Images"}


def recognises(head: bytes) -> bool:
    """Whether the first line is that of an image with boxes."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{" and b'"gtboxes"' in head


def asks_sizes(options: Mapping[str, Any], images: int) -> bool:
    """Whether each image is asked how large it is: always, for boxes are pixels and nothing else says it."""
    del options, images
    return True


def outline(
    pieces: Iterable[bytes], task: Task, names: ImageNames | None = None, split: str | None = None
) -> FileOutline:
    """Read a whole file, which comes in `pieces`, in one pass. Raises `Malformed` for what is no such file."""
    del task, split
    from pipeline.formats.odgt.scan import outline

    return outline(pieces, names)


def parse(
    part: Part, task: Task, keypoints: tuple[int, int] | None = None, options: Mapping[str, Any] | None = None
) -> Parsed:
    """Rows of a `Part`, see `SingleFileFormat.parse`."""
    del task, keypoints
    from pipeline.formats.odgt.rows import parse

    return parse(part, Options.model_validate(options or {}))
