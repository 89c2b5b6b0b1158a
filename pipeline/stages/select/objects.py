"""Limits of objects: which of a bucket's rows are beyond them, and for which limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.base.arrays import Bools, Floats, Ints
    from pipeline.config.select import ObjectFilter

#: Counted reasons for which an object is beyond a limit: the keys of the config.
LIMITS = ("min_side", "max_side", "min_area", "max_area", "min_area_ratio", "max_aspect", "where")

#: Columns of the annotations table that the limits need, beside those of any selection.
COLUMNS = ("cx", "cy", "w", "h")


def columns_of(limits: ObjectFilter) -> list[str]:
    """Columns of the annotations table that `limits` need, and the line by which those beyond them are known."""
    if not limits.any:
        return []
    tokens = limits.condition is not None and "n_tokens" in limits.condition.columns
    return [*COLUMNS, "line", *(["n_tokens"] if tokens else [])]


def beyond(
    limits: ObjectFilter,
    rows: pa.Table,
    classes: Sequence[str],
    image: Ints,
    sizes: tuple[Floats, Floats] | None,
    *,
    oriented: bool = False,
) -> Iterator[tuple[str, Bools]]:
    """Which of `rows` are beyond each limit, by its key.

    `image` is the position of each row's image in `sizes`: widths and heights in pixels, 0 where they are not known
    yet, and nothing is beyond a limit in pixels there. Boxes are taken to a hundredth of a pixel, for label files have
    six digits: a side of 20 pixels of 427 is written as 0.046838, which is 19.99983. Of `oriented` boxes sides and
    areas are their own, not those of the boxes around them.
    """
    import numpy as np

    cx, cy, w, h = (rows[name].to_numpy() for name in COLUMNS)
    wide, high = (side[image] for side in sizes) if sizes is not None else (np.zeros_like(w), np.zeros_like(h))
    known = (wide > 0) & (high > 0)
    across, down, area, share = (_of_oriented if oriented else _of_boxes)(rows, wide, high)
    # Products and quotients of decimals are rounded as well: 10.1 * 10.1 is less than 102.01, 3.39 / 1.13 more than 3.
    least, most, area = np.minimum(across, down), np.maximum(across, down), np.round(area, 4)
    with np.errstate(divide="ignore", invalid="ignore"):
        aspect = np.where(least > 0, np.round(most / least, 9), np.inf)
    for key, limit in limits.limits.items():
        match key:
            case "min_side":
                yield key, known & (least < limit)
            case "max_side":
                yield key, known & (most > limit)
            case "min_area":
                yield key, known & (area < limit)
            case "max_area":
                yield key, known & (area > limit)
            case "max_aspect":
                yield key, known & (aspect > round(limit, 9))
            case "min_area_ratio":
                yield key, np.round(share, 12) < limit
    if (condition := limits.condition) is not None:
        ids = rows["class_id"].to_numpy()
        values: dict[str, object] = {"cx": cx, "cy": cy, "w": w, "h": h, "class_id": ids, "width": wide, "height": high}
        values |= {c: rows[c].to_numpy() for c in ("n_tokens", "line") if c in condition.columns}
        values["name"] = np.array(classes, object)[ids]
        unsure = ~known if condition.columns & {"width", "height"} else False
        yield "where", ~(condition.evaluate(values) | unsure)


def _of_boxes(rows: pa.Table, wide: Floats, high: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Sides and area in pixels, and the share of the image, of the boxes of `rows` in images of `wide` by `high`."""
    import numpy as np

    w, h = rows["w"].to_numpy(), rows["h"].to_numpy()
    across, down = np.round(w * wide, 2), np.round(h * high, 2)
    return across, down, across * down, w * h


def _of_oriented(rows: pa.Table, wide: Floats, high: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """The same of oriented boxes; of what is no row of the task those of the box."""
    import numpy as np

    from pipeline.formats._label_rows import oriented_measures

    of_box = _of_boxes(rows, wide, high)
    tails = rows["tail"].to_pylist()
    which = np.flatnonzero([tail is not None for tail in tails])
    own = oriented_measures([tail for tail in tails if tail is not None], wide[which], high[which])
    for values, digits, some in zip(of_box, (2, 2, None, None), own, strict=True):
        values[which] = some if digits is None else np.round(some, digits)
    return of_box
