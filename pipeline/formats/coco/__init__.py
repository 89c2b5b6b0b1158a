"""COCO JSON: one file holds all images, annotations and categories of a split.

``instances_*`` has boxes and polygons or RLE masks, ``person_keypoints_*`` keypoints as well; ``captions_*`` is beside
them. What becomes of what people's files hold:

======================================= ==========================================================================
found                                   outcome
======================================= ==========================================================================
numbers and ids as text, "false", NaN   taken, see `formats._values`; NaN where a number is needed: bad
an image by another path, or a URL      found, see `formats._image_names`; where two files fit: bad
several ids of one image                one image with the objects of all, reported
one id of several images                bad: whose its objects are is not known
two images of one stem (a.jpg, a.png)   two images: the label file of the later one is called by its whole name
no width and height                     those of the image file; bad where that has none
others than the image has               put right where it is certain what happened, see `formats._framing`; else bad
an annotation of no image               bad; so is one of no category
two annotations of one id               both taken; in COCO JSON the second gets a new id
``iscrowd``                             in no row (``crowd``) but with ``crowd: keep``; kept in COCO JSON
no box, a box without area              that of the polygons (``boxed``); without those detect and pose have no row
                                        (``no_box``, ``zero_area``); kept in COCO JSON, if there is either
cut by the image's edge (more than 1 %) clipped to it (``clipped``); wholly beyond: in no row (``outside``); kept
segment: ``[]``, nothing of 3 points    in no row (``no_polygon``); kept in COCO JSON
segment: some parts below 3 points, or  the other parts are the row (``short_part``); kept in COCO JSON
of an odd count of numbers
segment: RLE, as a list or compressed   the outline of its pixels, holes filled (``holes``); kept in COCO JSON
RLE that no reader can decode           bad; detect and pose take the box, if there is one and it is no crowd
                                        (``damaged_mask``); in COCO JSON the same
obb: not one polygon of four corners     in no row (``no_four_corners``); kept in COCO JSON
obb: a corner beyond the image          the nearest point of the image (``clipped``); kept in COCO JSON
pose: ``num_keypoints`` 0               in no row (``no_keypoints``), as in Ultralytics' own labels; kept
any field beyond COCO's                 counted by what it says (`formats._unsaid`), unless another word is; kept
pose: a keypoint with v = 0             0 0 0; one beyond the image as well (``keypoint_outside``)
======================================= ==========================================================================

What is bad is a problem with a sentence; what is in no row is counted. Several polygons of one object are joined as
Ultralytics' `merge_multi_segment` joins them. Format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.base.terms import Task
from pipeline.formats._heads import begins_with, is_task
from pipeline.formats.coco.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipeline.base.arrays import Ints
    from pipeline.formats import FileOutline, Parsed, Part
    from pipeline.formats._image_names import ImageNames
    from pipeline.formats._stretches import Read, Stretch

SUFFIX = ".json"

TASKS = frozenset(Task)

NAMED = WHOLE = True

UNASKED = {"sizes": "file"}
SIZED = HOLDS_SPLITS = SEVERAL_FILES = False

CAPTIONS = True

#: Roboflow, CVAT, Label Studio, FiftyOne, and what people call it.
FILES = (
    "_annotations.coco.json",
    "annotations/instances_default.json",
    "result.json",
    "labels.json",
    "annotations.json",
    "coco.json",
    "instances.json",
)

#: Roboflow's.
FILE_BESIDE_IMAGES = "_annotations.coco.json"


#: By which an object is known; each comes early enough in the files of all tools.
_KEYS = ("images", "annotations", "categories", "licenses", "_via_img_metadata")


def layout(folder: str, task: Task) -> dict[str, str]:
    """COCO's own layout: ``annotations/instances_<folder>.json`` beside the folder of images."""
    kind = "person_keypoints" if task is Task.POSE else "instances"
    return {"annotations": f"annotations/{kind}_{folder}.json", "images": folder}


def recognises(head: bytes) -> bool:
    """Whether a file begins as an object with the keys of COCO, or of VIA, whose user is shown what to do.

    See `SingleFileFormat.recognises`.
    """
    return begins_with(head, b"{", _KEYS) and not is_task(head)


def asks_sizes(options: Mapping[str, Any], images: int) -> bool:
    """Whether each image of a split of so many is asked how large it is, so that a changed image is a changed file."""
    return Options.model_validate(options).asks(images)


def outline(
    pieces: Iterable[bytes],
    task: Task,
    names: ImageNames | None = None,
    split: str | None = None,
    ahead: Sequence[Read] = (),
) -> FileOutline:
    """Read a whole file, which comes in `pieces`, in one pass; `names` are the images that are there.

    `ahead` are stretches that others read, see `stretch`: where each begins, and who to ask for it.

    Raises `Malformed` (a `ValueError` that is a clause) for what is no COCO JSON at all.
    """
    del split  # a file is of one
    from pipeline.formats.coco.scan import outline  # needs NumPy, which a rebuild with nothing to do never loads

    return outline(pieces, task, names, ahead)


def stretch(pieces: Iterable[bytes], begin: int, task: Task) -> Stretch | None:
    """The annotations in a part of a file, which begins anywhere in it, at byte `begin`: see `formats._stretches`."""
    from pipeline.formats.coco.scan import stretch

    return stretch(pieces, begin, task)


def captions(pieces: Iterable[bytes], of: FileOutline) -> tuple[Ints, Ints]:
    """Captions in a file for the images of another: spans, and indexes in its images.

    A captions file often has more images than the other; what belongs to those is passed over. Raises `Malformed` as
    `outline` does.
    """
    from pipeline.formats.coco.scan import captions

    return captions(pieces, of)


def parse(
    part: Part, task: Task, keypoints: tuple[int, int] | None = None, options: Mapping[str, Any] | None = None
) -> Parsed:
    """Rows of a `Part`; ``file`` in them is the index of the image, ``line`` counts annotations in their image.

    `keypoints` is (K, 3) for pose.
    """
    from pipeline.formats.coco.rows import parse

    return parse(part, task, keypoints, Options.model_validate(options or {}))
