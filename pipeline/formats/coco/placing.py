"""Annotations of COCO JSON put right: in the pixels of an image that was turned or scaled, and with what they lack."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.formats._framing import Frame
from pipeline.formats._values import UnusableObject, finite, mended, plain, typed
from pipeline.formats.coco.run_lengths import MAX_PIXELS, read_rle, read_runs
from pipeline.geometry import masks

Floats = npt.NDArray[np.float64]

Bools = npt.NDArray[np.bool_]


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
    """An annotation, with numbers, for an image of that size: with what readers of COCO JSON cannot do without.

    That is a box where there is a polygon, run lengths of the image's own size, no part without points, and the
    area and the flag of crowds, which pycocotools' evaluation and mmdetection read of every object.
    """
    found = typed(text)
    if found is None:
        return text
    parts = found.segmentation
    box = found.bbox
    has_box = box is not None and len(box) == 4 and box[2] > 0 and box[3] > 0
    if isinstance(parts, list):
        fits = all(parts)
    else:
        fits = parts is None or width is None or height is None or parts.get("size") == [height, width]
    if fits and (has_box or not parts) and found.area is not None and found.iscrowd is not None:
        return text
    data = plain(text)
    if isinstance(parts, list):
        data["segmentation"] = [part for part in data["segmentation"] if part]
    elif not fits and width and height and width * height <= MAX_PIXELS and (mask := read_rle(parts or {})) is not None:
        data["segmentation"] = _resized(mask, width, height)
    if not has_box and (made := box_of(data)) is not None:
        data["bbox"] = made
    if found.area is None and (area := _area(data, width, height)) is not None:
        data["area"] = area
    if found.iscrowd is None:
        data["iscrowd"] = 0
    return msgspec.json.encode(data)


def _area(data: dict[str, Any], width: int | None, height: int | None) -> float | None:
    """The area of an object that does not say it: that of its parts, as areas of several are added; else its box's."""
    parts, box = data.get("segmentation"), data.get("bbox")
    if isinstance(parts, list) and parts and width and height:
        return sum(area_of(np.array(part, np.float64).reshape(-1, 2), width, height) for part in parts if len(part) > 5)
    if isinstance(parts, dict) and (mask := read_rle(parts)) is not None:
        return int(mask.sum())
    return round(box[2] * box[3], 3) if box and len(box) == 4 else None


def _resized(mask: Bools, width: int, height: int) -> dict[str, Any]:
    """Run lengths of a mask in an image of another size: each pixel takes what is in its middle."""
    for axis, size in enumerate((height, width)):
        source = (np.arange(size) + 0.5) * (mask.shape[axis] / size)
        mask = mask.take(source.astype(np.int64), axis=axis)
    return {"size": [height, width], "counts": masks.compress(masks.of_mask(mask))}


def area_of(polygon: npt.NDArray[np.float64], width: int, height: int) -> int:
    """Pixels of a polygon, shape (points, 2), in an image of that size: what pycocotools counts as its area."""
    return masks.area(masks.of_polygon(polygon, height, width))


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
