"""Open Images' CSV files (V4 to V7): boxes of all images of a split, with what is verified of images beside them.

A split is one file or several, known by their first line, in any order:

=============================================== ====================================================================
file, as Open Images calls it                   what is read of it
=============================================== ====================================================================
``*-annotations-bbox.csv``                      boxes, in shares of the image
``*-annotations-human-imagelabels*.csv``        classes that people verified to be in an image (``Confidence`` 1) or
                                                not (0); what a machine says, between the two, is passed over
``*class-descriptions*.csv``                    the names of classes; without it they are called as in the boxes. That
                                                of classes without ``/`` comes after the boxes
``bbox_labels_600_hierarchy.json``              which classes are kinds of another; its parts are passed over
``*-images-*.csv``, ``image_ids*.csv``          further images of the split
=============================================== ====================================================================

======================================= ============================================================================
of a box                                what becomes of it
======================================= ============================================================================
``IsGroupOf``                           as a crowd of COCO: in no row (``crowd``), or ``crowd: keep``
``IsOccluded``, ``IsTruncated``,        an object like others, counted (``occluded``, ``truncated``, ``depiction``,
``IsDepiction``, ``IsInside``           ``inside``), or in no target with ``drop``; in COCO JSON under these names
beyond the image (over 1 %)             clipped (``clipped``); wholly beyond it or without area: in no row
other columns than the first line has,  bad (``bad_row``)
or no numbers
======================================= ============================================================================

An image is ``<ImageID>.jpg``. In an image those classes are labelled everywhere that have a box there, or are verified
not to be there, or are kinds of one that is not there: of all others nobody knows. Rows of one image may be anywhere in
a file; where they are together they are read together.

Grammar: https://storage.googleapis.com/openimages/web/download.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pipeline.base.terms import Task
from pipeline.formats._no_captions import captions as captions
from pipeline.formats.openimages.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipeline.formats import FileOutline, Parsed, Part
    from pipeline.formats._image_names import ImageNames

SUFFIX = ".csv"

TASKS = frozenset({Task.DETECT})

NAMED = WHOLE = SEVERAL_FILES = True

SIZED = HOLDS_SPLITS = CAPTIONS = False

UNASKED: Mapping[str, Any] = {}

FILES = ("annotations-bbox.csv", "detections.csv")

FILE_BESIDE_IMAGES = None

#: What files and folders of a split are called, as Open Images has it; ``val`` is Datumaro's word.
_SPLITS = {"train": "train", "val": "(?:validation|val)", "test": "test"}

#: The files of a split, that of the boxes first, as they are downloaded, in any folder, and as FiftyOne keeps them;
#: `{0}` is what the split is called.
_FILES = (
    r"(?:.*/)?(?:oidv\d-)?{0}-annotations-bbox\.csv|{0}/labels/detections\.csv",
    r"(?:.*/)?(?:oidv\d-)?{0}-annotations-human-imagelabels(?:-boxable)?\.csv|{0}/labels/classifications\.csv",
    r"(?:.*/)?(?:oidv\d-)?class-descriptions(?:-boxable)?\.csv|{0}/metadata/classes\.csv",
    r"(?:.*/)?bbox_labels_600_hierarchy\.json|{0}/metadata/hierarchy\.json",
    r"(?:.*/)?(?:oidv\d-)?{0}-images-(?:boxable-)?with-rotation\.csv",
)


def layout(folder: str, task: Task) -> dict[str, str]:
    """The file of boxes as Open Images calls it, in ``annotations``, beside the folder of images."""
    del task
    return {"annotations": f"annotations/{folder}-annotations-bbox.csv", "images": folder}


def files_of_splits(names: Sequence[str]) -> dict[str, list[str]]:
    """See `SeveralFilesFormat.files_of_splits`."""
    found = {}
    for split, word in _SPLITS.items():
        patterns = [re.compile(pattern.format(word)) for pattern in _FILES]
        files = [next(filter(pattern.fullmatch, names), None) for pattern in patterns]
        if files[0] is not None:
            found[split] = [name for name in files if name is not None]
    return found


def recognises(head: bytes) -> bool:
    """Whether the first line has the columns of boxes."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"ImageID,Source,LabelName,Confidence,XMin")


def asks_sizes(options: Mapping[str, Any], images: int) -> bool:
    """See `SingleFileFormat.asks_sizes`: numbers are shares of the image, so its size decides about nothing."""
    del options, images
    return False


def outline(
    pieces: Iterable[bytes], task: Task, names: ImageNames | None = None, split: str | None = None
) -> FileOutline:
    """Read one file, which comes in `pieces`, see `outline_of_files`."""
    return outline_of_files([pieces], task, names, split)


def outline_of_files(
    files: Iterable[Iterable[bytes]], task: Task, names: ImageNames | None = None, split: str | None = None
) -> FileOutline:
    """Read all files of a split in one pass. Raises `Malformed` for one that is not of Open Images."""
    del task
    from pipeline.formats.openimages.scan import outline

    return outline(files, names, split)


def parse(
    part: Part, task: Task, keypoints: tuple[int, int] | None = None, options: Mapping[str, Any] | None = None
) -> Parsed:
    """Rows of a `Part`, see `SingleFileFormat.parse`."""
    del task, keypoints
    from pipeline.formats.openimages.rows import parse

    return parse(part, Options.model_validate(options or {}))
