"""How the shapes of images become rows: the numbers of all of them at once. The rules are in `formats.cvat`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import msgspec
import numpy as np
import pyarrow as pa

from pipeline.base.terms import NO_CLASS, Task
from pipeline.formats import Parsed, Part, Problem
from pipeline.formats._drawn import Drawn, image_sizes, states_of
from pipeline.formats._framing import Frame, OtherImage, frame_of
from pipeline.formats._shapes.outlines import ShapeError, patch_outline
from pipeline.formats._values import as_pixels, shown
from pipeline.formats._xml import XmlFlaw, read
from pipeline.formats.cvat.shapes import BadShapeError, Shape, read_patch, read_points, shapes_of
from pipeline.formats.cvat.values import Masked, Objects, values_of
from pipeline.geometry import masks
from pipeline.geometry.polygons import clip_polygon
from pipeline.geometry.quadrilaterals import oblique
from pipeline.images.header import Picture

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools, Floats

#: A shape more than this beyond the image, in pixels, is counted as cut off.
_CUT = 1.0

#: Bytes of images that are read as one document.
_AT_ONCE = 1 << 17

#: Images whose shapes are in memory at once: of many more the garbage collector takes most of the time.
_IMAGES = 256

#: OpenCV, with which trainers read images, takes no larger ones.
_MAX_PIXELS = 1 << 30

#: Shapes that have no area in the image, by the counted word.
_WITHOUT_AREA = {"points": "no_area", "polyline": "no_area", "cuboid": "cuboid"}


def parse(part: Part, task: Task, keypoints: tuple[int, int] | None, numbers: str) -> Parsed:
    """See `pipeline.formats.cvat.parse`."""
    several = [
        _parse_some(_some(part, begin), begin, task, keypoints, numbers)
        for begin in range(0, max(len(part.images), 1), _IMAGES)
    ]
    return Parsed(
        pa.concat_tables([one.rows for one in several]),
        [state for one in several for state in one.states],
        [problem for one in several for problem in one.problems],
        pa.concat_tables([one.images for one in several if one.images is not None]),
    )


def _some(part: Part, begin: int) -> Part:
    """Some images of a part from number `begin` on."""

    def pictures(indexes: Sequence[int]) -> Sequence[Picture | None]:
        assert part.pictures is not None
        return part.pictures([begin + i for i in indexes])

    images = part.images[begin : begin + _IMAGES]
    return replace(part, images=images, pictures=pictures if part.pictures is not None else None)


def _parse_some(part: Part, first: int, task: Task, keypoints: tuple[int, int] | None, numbers: str) -> Parsed:
    """`parse` of some images, the first of which is number `first`."""
    problems: list[Problem] = []
    images = _read_images(part.images, problems)
    shapes = _read_shapes(images, part, problems)
    frames = _frames(part, images, shapes, problems)
    shapes = [shape for shape in shapes if frames[shape.file] is not None]
    objects = Objects(shapes, [None] * len(shapes), np.zeros(len(shapes), np.bool_))
    _place(objects, frames, images, problems)
    rows = _table(objects, frames, first, task, keypoints, numbers)
    states = states_of(len(images), (shape.file for shape in objects.shapes), problems)
    problems = sorted((replace(p, file=first + p.file) for p in problems), key=lambda problem: problem.file)
    return Parsed(rows, states, problems, image_sizes(frames))


def _read_images(texts: Sequence[bytes], problems: list[Problem]) -> list[Element | None]:
    """The images as elements; None for one that is no XML, which is a problem."""
    found: list[Element | None] = []
    begin = size = 0
    for i, text in enumerate(texts):
        size += len(text)
        if size > _AT_ONCE or i + 1 == len(texts):
            found += _read_some(texts[begin : i + 1], begin, problems)
            begin, size = i + 1, 0
    return found


def _read_some(texts: Sequence[bytes], first: int, problems: list[Problem]) -> list[Element | None]:
    """`_read_images` of some, all at once where none is unusual."""
    try:
        images = list(read(b"<a>" + b"".join(texts) + b"</a>"))
        if len(images) == len(texts) and all(image.tag == "image" for image in images):
            return [*images]
    except XmlFlaw:
        pass
    found: list[Element | None] = []
    for i, text in enumerate(texts, first):
        try:
            found.append(read(text))
        except XmlFlaw as flaw:
            found.append(None)
            problems.append(Problem(i, None, flaw.reason, f"image {_name_in(text)} {flaw}", 0))
    return found


def _name_in(text: bytes) -> str:
    """What an image is called whose text is no XML."""
    head = text.partition(b">")[0].removesuffix(b"/")
    try:
        return _name(ElementTree.XML(head + b"/>"))
    except (ElementTree.ParseError, ValueError):
        return "without a name"


def _name(image: Element) -> str:
    return shown(image.get("name", ""))


def _read_shapes(images: Sequence[Element | None], part: Part, problems: list[Problem]) -> list[Shape]:
    """The shapes of all images; those that cannot be taken are problems."""
    given: list[Shape] = []
    for i, image in enumerate(images):
        for shape in shapes_of(image, i) if image is not None else ():
            if isinstance(shape, Shape):
                given.append(shape)
            else:
                assert image is not None
                problems.append(Problem(i, None, shape[1].reason, f"image {_name(image)}: {shape[1]}"))
    good = []
    for shape, bad in zip(given, read_points(given, part.labels), strict=True):
        if bad is None:
            good.append(shape)
        else:
            _report(problems, images, shape, bad)
    return good


def _report(problems: list[Problem], images: Sequence[Element | None], shape: Shape, bad: BadShapeError) -> None:
    image = images[shape.file]
    name = _name(image) if image is not None else ""
    problems.append(Problem(shape.file, None, bad.reason, f"image {name}: {bad}"))


def _frames(
    part: Part, images: Sequence[Element | None], shapes: Sequence[Shape], problems: list[Problem]
) -> list[Frame | None]:
    """The frame of the shapes of each image; None where nobody knows it, which is a problem unless it has none."""
    said = [_said_size(image) if image is not None else None for image in images]
    asked = [i for i, size in enumerate(said) if size is None or part.compare] if part.pictures is not None else []
    pictures: dict[int, Picture | None] = (
        dict(zip(asked, part.pictures(asked), strict=True)) if part.pictures is not None and asked else {}
    )
    own: dict[int, list[Shape]] = {}
    for shape in shapes:
        own.setdefault(shape.file, []).append(shape)
    frames: list[Frame | None] = []
    for i, image in enumerate(images):
        frame, several = None, own.get(i, [])
        try:
            frame = _frame(image, said[i], pictures.get(i), several) if image is not None else None
        except BadShapeError as bad:
            if several or bad.reason == "size_differs":
                problems.append(Problem(i, None, bad.reason, str(bad), max(len(several), 1)))
        frames.append(frame)
    return frames


def _frame(image: Element, said: tuple[int, int] | None, picture: Picture | None, shapes: Sequence[Shape]) -> Frame:
    """The frame of an image; raises `BadShapeError`."""
    if said is None:
        if picture is None:
            detail = f"image {_name(image)} has no width and height, and there is no file to read them from"
            raise BadShapeError("no_size", detail)
        return Frame(picture.width, picture.height)

    def reach() -> tuple[float, float]:
        right, bottom = np.concatenate([np.zeros((1, 2)), *(shape.points for shape in shapes)]).max(axis=0).tolist()
        return right, bottom

    try:
        frame = frame_of(said, picture, reach)
    except OtherImage as bad:
        detail = (
            f"image {_name(image)} has {bad.shown} pixels, but the file says {bad.own}: it was changed after it was "
            "labelled; put the labelled image back, or --set source.options.sizes=trust"
        )
        raise BadShapeError("size_differs", detail) from None
    if frame.width * frame.height > _MAX_PIXELS:
        detail = f"image {_name(image)} of {frame.width} x {frame.height} pixels is larger than trainers read"
        raise BadShapeError("size", f"{detail} ({_MAX_PIXELS:,}); correct width and height")
    return frame


def _said_size(image: Element) -> tuple[int, int] | None:
    width, height = as_pixels(image.get("width")), as_pixels(image.get("height"))
    return (width, height) if width is not None and height is not None else None


def _place(
    objects: Objects, frames: Sequence[Frame | None], images: Sequence[Element | None], problems: list[Problem]
) -> None:
    """Put the points of all shapes into their images, and cut off what is beyond; bad masks are taken out."""
    lost: set[int] = set()
    for i, shape in enumerate(objects.shapes):
        frame = frames[shape.file]
        assert frame is not None
        objects.words[i] = frame.note
        if shape.label in NO_CLASS:
            objects.lose([i], "no_class")
        if shape.kind == "mask":
            try:
                _place_mask(objects, i, shape, frame)
            except BadShapeError as bad:
                lost.add(i)
                _report(problems, images, shape, bad)
            continue
        if frame.moves:
            _move(shape, frame)
        if shape.kind in _WITHOUT_AREA:
            objects.lose([i], _WITHOUT_AREA[shape.kind])
        elif shape.kind == "skeleton" and not len(shape.points):
            objects.lose([i], "no_keypoints")
    if lost:
        kept = [i for i in range(len(objects.shapes)) if i not in lost]
        new = {old: i for i, old in enumerate(kept)}
        objects.shapes = [objects.shapes[i] for i in kept]
        objects.words, objects.lost = [objects.words[i] for i in kept], objects.lost[kept]
        objects.masked = {new[i]: one for i, one in objects.masked.items()}


def _place_mask(objects: Objects, i: int, shape: Shape, frame: Frame) -> None:
    """Read a mask into the image of `frame`; raises `BadShapeError`."""
    patch, left, top = read_patch(shape)
    try:
        outline = patch_outline(patch, left, top, frame, shape.points)
    except ShapeError as bad:
        raise BadShapeError(bad.reason, f"{shape}: {bad}") from None
    shape.points = np.concatenate(outline.parts) if outline.parts else shape.points
    if not outline.parts:
        objects.lose([i], "outside")
        return
    assert outline.runs is not None
    objects.masked[i] = Masked(outline.parts, len(outline.holes), outline.runs)
    if outline.cut:
        objects.words[i] = objects.words[i] or "clipped"


def _move(shape: Shape, frame: Frame) -> None:
    shape.points = frame.transform(shape.points)
    if shape.keypoints is not None:
        labelled = shape.keypoints[:, 2] > 0
        shape.keypoints[labelled, :2] = frame.transform(shape.keypoints[labelled, :2])


def _table(
    objects: Objects,
    frames: Sequence[Frame | None],
    first: int,
    task: Task,
    keypoints: tuple[int, int] | None,
    numbers: str,
) -> pa.Table:
    """All rows; their images are counted from `first`."""
    shapes = objects.shapes
    sizes = np.array([(f.width, f.height) for s in shapes if (f := frames[s.file]) is not None], np.float64)
    sizes = sizes.reshape(-1, 2)
    low, high = _cut(objects, sizes)
    extent = high - low
    bare = objects.lost.copy()  # what is nothing in any target
    objects.lose(np.flatnonzero((extent <= 0).any(axis=1)).tolist(), "zero_area")
    boxes = np.concatenate([(low + high) / 2 / sizes, extent / sizes], axis=1)
    raws = _raws(objects, low, extent, bare, frames)
    values, counts = values_of(objects, boxes, sizes, task, keypoints)
    drawn = Drawn(
        file=[first + s.file for s in shapes],
        line=[s.line for s in shapes],
        label=pa.array([s.label for s in shapes], pa.string()),
        boxes=boxes,
        is_row=~objects.lost,
        raw=pa.array(raws, pa.binary()),
        loss=[objects.words[i] or _unsaid(objects, i, task) for i in range(len(shapes))],
    )
    return drawn.table(numbers, values, np.concatenate([[0], np.cumsum(counts)]))


def _unsaid(objects: Objects, i: int, task: Task) -> str | None:
    """The counted word for what rows do not say of shape `i`; to task detect that is its angle, too."""
    shape = objects.shapes[i]
    if not shape.extras:
        return None
    attributes = shape.extras.get("attributes", {})
    turned = task is Task.DETECT and "rotation" in attributes
    if turned and shape.kind == "box" and oblique(objects.corners.get(i, shape.points)[None])[0]:
        return "oriented"
    if attributes.get("occluded") is True:
        return "occluded"
    more = {*attributes} - {"rotation"} or shape.extras.keys() - {"attributes", "source"}
    return "attributes" if more or (turned and shape.kind == "ellipse") else None


def _cut(objects: Objects, sizes: Floats) -> tuple[Floats, Floats]:
    """Cut off what of outlines is beyond the image; returns the corners of all boxes, shape (shapes, 2) each."""
    low, high = _extremes(objects.shapes)
    beyond = np.asarray(((low < 0) | (high > sizes)).any(axis=1), np.bool_)
    far = np.asarray(((low < -_CUT) | (high > sizes + _CUT)).any(axis=1), np.bool_)
    for i in np.flatnonzero(beyond & ~objects.lost).tolist():
        shape = objects.shapes[i]
        if shape.kind not in ("skeleton", "mask"):
            inside = clip_polygon(shape.points, *sizes[i].tolist())
            objects.corners[i] = shape.points
            if not len(inside):
                objects.lose([i], "outside")
                continue
            shape.points = inside
        if far[i]:
            objects.words[i] = objects.words[i] or "clipped"
    if beyond.any():
        low, high = _extremes(objects.shapes)
    return np.clip(low, 0, sizes), np.clip(high, 0, sizes)


def _extremes(shapes: Sequence[Shape]) -> tuple[Floats, Floats]:
    """The least and the largest x and y of each shape, shape (shapes, 2) each; zeros of one without points."""
    counts = np.array([max(len(shape.points), 1) for shape in shapes], np.int64)
    if not len(counts):
        return np.zeros((0, 2)), np.zeros((0, 2))
    points = np.concatenate([shape.points if len(shape.points) else np.zeros((1, 2)) for shape in shapes])
    starts = np.cumsum(counts) - counts
    return np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)


def _raws(
    objects: Objects, low: Floats, extent: Floats, bare: Bools, frames: Sequence[Frame | None]
) -> list[bytes | None]:
    """COCO annotation objects without what only a whole dataset knows: id, image_id and category_id."""
    made: list[bytes | None] = []
    boxes = np.concatenate([low, extent], axis=1).tolist()
    of_polygons = _areas(objects.shapes)
    for i, (shape, box, nothing) in enumerate(zip(objects.shapes, boxes, bare.tolist(), strict=True)):
        if nothing:
            made.append(None)
            continue
        mask, frame = objects.masked.get(i), frames[shape.file]
        segmentation: object
        if mask is not None and frame is not None:
            segmentation = {"size": [frame.height, frame.width], "counts": masks.compress(mask.runs)}
            area: float = masks.area(mask.runs)
        elif shape.kind == "skeleton":
            segmentation, area = [], box[2] * box[3]
        else:
            segmentation, area = [shape.points.ravel().tolist()], of_polygons[i]
        data = {"segmentation": segmentation, "area": area, "bbox": box, "iscrowd": 0, **shape.extras}
        if shape.keypoints is not None:
            labelled = int((shape.keypoints[:, 2] > 0).sum())
            data |= {"keypoints": shape.keypoints.ravel().tolist(), "num_keypoints": labelled}
        made.append(msgspec.json.encode(data))
    return made


def _areas(shapes: Sequence[Shape]) -> list[float]:
    """The area of the polygon of each shape, in pixels."""
    counts = np.array([len(shape.points) for shape in shapes], np.int64)
    filled = np.flatnonzero(counts)
    areas = np.zeros(len(shapes))
    if len(filled):
        points = np.concatenate([shape.points for shape in shapes])
        starts = (np.cumsum(counts) - counts)[filled]
        following = np.arange(1, len(points) + 1)
        following[starts + counts[filled] - 1] = starts
        x, y = points.T
        areas[filled] = np.abs(np.add.reduceat(x * y[following] - y * x[following], starts)) / 2
    found: list[float] = areas.tolist()
    return found
