"""Annotations of COCO JSON put right: in the pixels of an image that was turned or scaled, and with what they lack."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from pipeline.formats._framing import Frame
from pipeline.formats._values import TypedAnnotation, UnusableObject, finite, mended, plain, typed, with_numbers
from pipeline.formats.coco.plain_polygons import counts_of, shapes_of
from pipeline.formats.coco.run_lengths import MAX_PIXELS, read_rle, read_runs
from pipeline.geometry import masks

if TYPE_CHECKING:
    from pipeline.base.arrays import Bools


class _Complete(TypedAnnotation, gc=False):
    """An annotation whose polygons are kept as they are written."""

    segmentation: msgspec.Raw = msgspec.Raw(b"null")  # type: ignore[assignment]


_complete = msgspec.json.Decoder(list[_Complete]).decode


def transformed(text: bytes, frame: Frame) -> bytes:
    """An annotation with its numbers in the image of `frame`; as it is where it cannot be used."""
    if not frame.moves:
        return text
    try:
        data = plain(mended(text, ""))
    except UnusableObject:
        return text
    if data.get("bbox") and len(data["bbox"]) == 4:
        x, y, width, height = data["bbox"]
        corners = frame.transform(np.array([[x, y], [x + width, y + height]], np.float64))
        low, high = corners.min(axis=0), corners.max(axis=0)
        data["bbox"] = [*low.tolist(), *(high - low).tolist()]
    if data.get("segmentation"):
        data["segmentation"] = _transformed_parts(data["segmentation"], frame)
    points = np.array(data.get("keypoints") or (), np.float64)
    if len(points) and not len(points) % 3:
        points = points.reshape(-1, 3)
        labelled = points[:, 2] > 0  # the rest are nowhere
        points[labelled, :2] = frame.transform(points[labelled, :2])
        data["keypoints"] = points.ravel().tolist()
    if isinstance(data.get("area"), int | float):
        data["area"] *= frame.scale[0] * frame.scale[1]
    return msgspec.json.encode(finite(data))


def _transformed_parts(given: Any, frame: Frame) -> Any:
    """Polygons in the image of `frame`; run lengths turned alone: they say themselves of which size they are."""
    if isinstance(given, list):
        return [
            frame.transform(np.array(part, np.float64).reshape(-1, 2)).ravel().tolist()
            for part in given
            if len(part) % 2 == 0
        ]
    mask = read_rle(given) if frame.turn is not None else None
    if mask is None or frame.turn is None:
        return given
    turned = frame.turn.shown_mask(mask)
    return {"size": list(turned.shape), "counts": masks.compress(masks.of_mask(turned))}


def completed(text: bytes, width: int | None, height: int | None) -> bytes:
    """What `all_completed` makes of one annotation."""
    (made,) = all_completed([text], [width], [height])
    return made


def all_completed(
    texts: Sequence[bytes], widths: Sequence[int | None], heights: Sequence[int | None]
) -> Sequence[bytes]:
    """Annotations, with numbers, for images of those sizes: with what readers of COCO JSON cannot do without.

    That is a box where there is a polygon, run lengths of the image's own size, no part without points, and the
    area and the flag of crowds, which pycocotools' evaluation and mmdetection read of every object.
    """
    made = list(texts)
    drawn: list[tuple[dict[str, Any], list[Any], int, int]] = []
    mended_ones: dict[int, dict[str, Any]] = {}
    for i in _doubtful(texts):
        made[i] = with_numbers(texts[i])
        data = _completed(made[i], widths[i], heights[i])
        if data is None:
            continue
        mended_ones[i] = data
        parts, width, height = data.get("segmentation"), widths[i], heights[i]
        if data.get("area") is None and isinstance(parts, list) and parts and width and height:
            drawn.append((data, [part for part in parts if len(part) > 5], width, height))
    _measure(drawn)
    for i, data in mended_ones.items():
        made[i] = msgspec.json.encode(data)
    return made


def _doubtful(texts: Sequence[bytes]) -> list[int]:
    """Those that may lack something: not the annotations that have all of it, and plain polygons or none."""
    try:
        found = _complete(b"[" + b",".join(texts) + b"]")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return list(range(len(texts)))
    outlines = [bytes(one.segmentation) for one in found]
    sound = {b"null": True}
    doubtful = []
    for i, (one, text, shape) in enumerate(zip(found, outlines, shapes_of(outlines), strict=True)):
        box = one.bbox
        if shape not in sound:
            sound[shape] = counts_of(shape) is not None
        whole = box is not None and len(box) == 4 and box[2] > 0 and box[3] > 0
        if not whole or one.area is None or one.iscrowd is None or not (sound[shape] or text == b"[]"):
            doubtful.append(i)
    return doubtful


def _measure(drawn: Sequence[tuple[dict[str, Any], list[Any], int, int]]) -> None:
    """Give objects the area of their polygons: they are measured at once, and areas of several parts are added."""
    polygons = [
        np.array(part[: len(part) // 2 * 2], np.float64).reshape(-1, 2) for _, parts, _, _ in drawn for part in parts
    ]
    counts = [len(parts) for _, parts, _, _ in drawn]
    sizes = np.repeat(np.array([(height, width) for *_, width, height in drawn], np.int64).reshape(-1, 2), counts, 0)
    starts = np.cumsum([0, *map(len, polygons)])
    xy = np.concatenate([*polygons, np.zeros((0, 2))])
    areas = iter(masks.areas_of_polygons(xy, starts, sizes[:, 0], sizes[:, 1]).tolist())
    for (data, *_), count in zip(drawn, counts, strict=True):
        data["area"] = sum(itertools.islice(areas, count))


def _completed(text: bytes, width: int | None, height: int | None) -> dict[str, Any] | None:
    """An annotation with what it lacks, but for the area of polygons; None where it lacks nothing."""
    found = typed(text)
    if found is None:
        return None
    parts = found.segmentation
    box = found.bbox
    has_box = box is not None and len(box) == 4 and box[2] > 0 and box[3] > 0
    if isinstance(parts, list):
        fits = all(parts)
    else:
        fits = parts is None or (bool(parts) and (width is None or height is None or _fits(parts, width, height)))
    if fits and (has_box or not parts) and found.area is not None and found.iscrowd is not None:
        return None
    data: dict[str, Any] = plain(text)
    if isinstance(parts, list):
        data["segmentation"] = [part for part in data["segmentation"] if part]
    elif parts == {}:
        data["segmentation"] = []
    elif not fits and width and height and width * height <= MAX_PIXELS and (mask := read_rle(parts or {})) is not None:
        data["segmentation"] = _resized(mask, width, height)
    if not has_box and (made := box_of(data)) is not None:
        data["bbox"] = made
    outlined = isinstance(data.get("segmentation"), list) and data["segmentation"] and width and height
    if found.area is None and not outlined and (area := _area(data)) is not None:
        data["area"] = area
    if found.iscrowd is None:
        data["iscrowd"] = 0
    return data


def _fits(given: dict[str, Any], width: int, height: int) -> bool:
    """Whether run lengths are of that size, and of whole numbers: pycocotools takes no others."""
    size, counts = given.get("size"), given.get("counts")
    numbers = [*size, *(counts if isinstance(counts, list) else ())] if size == [height, width] else [None]
    return all(type(n) is int for n in numbers)


def _area(data: dict[str, Any]) -> float | None:
    """The area of an object that does not say it and has no polygons: that of its mask, else of its box."""
    parts, box = data.get("segmentation"), data.get("bbox")
    if isinstance(parts, dict) and (mask := read_rle(parts)) is not None:
        return int(mask.sum())
    return round(box[2] * box[3], 3) if box and len(box) == 4 else None


def _resized(mask: Bools, width: int, height: int) -> dict[str, Any]:
    """Run lengths of a mask in an image of another size: each pixel takes what is in its middle."""
    for axis, size in enumerate((height, width)):
        source = (np.arange(size) + 0.5) * (mask.shape[axis] / size)
        mask = mask.take(source.astype(np.int64), axis=axis)
    return {"size": [height, width], "counts": masks.compress(masks.of_mask(mask))}


def box_of(data: dict[str, Any]) -> list[float] | None:
    """The xywh box around the polygons or the mask of an annotation; None where they have no area."""
    parts = data.get("segmentation")
    if isinstance(parts, dict):
        runs = read_runs(parts)
        found = list(map(float, masks.box(runs[0], runs[1]))) if runs is not None else None
    else:
        good = [
            np.array(part, np.float64).reshape(-1, 2) for part in parts or () if len(part) >= 6 and not len(part) % 2
        ]
        if not good:
            return None
        xy = np.concatenate(good)
        low, high = xy.min(axis=0).tolist(), xy.max(axis=0).tolist()
        found = [*low, high[0] - low[0], high[1] - low[1]]
    return found if found is not None and found[2] > 0 and found[3] > 0 else None


def reach_of(texts: Iterable[bytes]) -> tuple[float, float]:
    """The largest x and y of annotations: of the polygons of each, where it has some, else of its box."""
    found = [np.zeros((1, 2))]
    for text in texts:
        try:
            data = plain(mended(text, ""))
        except UnusableObject:
            continue
        parts = data.get("segmentation")
        even = [part for part in parts if part and len(part) % 2 == 0] if isinstance(parts, list) else []
        box = data.get("bbox")
        if even:
            found += [np.array(part, np.float64).reshape(-1, 2) for part in even]
        elif box and len(box) == 4:
            found.append(np.array([[box[0] + box[2], box[1] + box[3]]], np.float64))
    right, bottom = np.concatenate(found).max(axis=0).tolist()
    return right, bottom
