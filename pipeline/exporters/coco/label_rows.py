"""Label rows as COCO annotations: boxes, polygons and keypoints in pixels, many at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.formats._numbers import rounded, split_numbers
from pipeline.geometry import masks

if TYPE_CHECKING:
    from pipeline.base.arrays import Ints

#: Rows that are taken at once: numbers of polygons are Python's while they are written.
_BATCH = 4096


def annotations_of_rows(
    rows: pa.Table, image_of: Ints, images: pa.Table, keypoints: tuple[int, int] | None
) -> Iterator[bytes]:
    """The JSON of each of `rows` without what only a whole dataset knows; `image_of` are their indexes in `images`."""
    sizes = np.stack([pc.fill_null(images[c], 0).to_numpy() for c in ("width", "height")], axis=1).astype(np.int64)
    for begin in range(0, rows.num_rows, _BATCH):
        some, here = rows.slice(begin, _BATCH), sizes[image_of[begin : begin + _BATCH]]
        box = np.stack([some[c].to_numpy() for c in ("cx", "cy", "w", "h")], axis=1)
        box[:, :2] -= box[:, 2:] / 2
        box = rounded(box * np.tile(here, 2))
        area: list[float] = rounded(box[:, 2] * box[:, 3]).tolist()
        tails = some["tail"].to_pylist()
        further = _keypoints(tails, here, keypoints) if keypoints is not None else itertools.repeat({})
        polygons = _polygons(tails, here) if keypoints is None else {}
        for i, (bbox, own, points) in enumerate(zip(box.tolist(), area, further, strict=False)):
            outline, covered = polygons.get(i, ([], own))
            data = {"segmentation": outline, "area": covered, "bbox": bbox, "iscrowd": 0}
            yield msgspec.json.encode(data | points if points else data)


def _polygons(tails: Sequence[bytes | None], sizes: Ints) -> dict[int, tuple[list[list[float]], int]]:
    """The polygons and their areas of those `tails`, by their index, that have more than a box."""
    counts = np.array([len(tail.split()) if tail else 0 for tail in tails], np.int64)
    (at,) = np.nonzero(counts > 4)
    if not len(at):
        return {}
    numbers = split_numbers([tails[i] or b"" for i in at.tolist()])
    points = counts[at] // 2
    xy = rounded(numbers.reshape(-1, 2) * np.repeat(sizes[at], points, axis=0))
    starts = np.concatenate([[0], np.cumsum(points)])
    areas = masks.areas_of_polygons(xy, starts, sizes[at, 1], sizes[at, 0])  # of what is written
    flat: list[float] = xy.ravel().tolist()
    edges = itertools.pairwise((2 * starts).tolist())
    return {
        i: ([flat[begin:stop]], area) for i, (begin, stop), area in zip(at.tolist(), edges, areas.tolist(), strict=True)
    }


def _keypoints(tails: Sequence[bytes | None], sizes: Ints, shape: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """x, y and how visible it is of each keypoint; without the latter every one that is not at 0, 0 counts as seen."""
    for tail, (width, height) in zip(tails, sizes.tolist(), strict=True):
        points = np.array((tail or b"").split()[4:], np.float64).reshape(shape)
        seen = points[:, 2] if points.shape[1] == 3 else np.where(points.any(axis=1), 2, 0)
        xy = rounded(points[:, :2] * (width, height))
        flat = [v for (x, y), s in zip(xy.tolist(), seen.tolist(), strict=True) for v in (x, y, int(s))]
        yield {"keypoints": flat, "num_keypoints": int((seen > 0).sum())}
