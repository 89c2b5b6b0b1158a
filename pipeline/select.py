"""Stage 2: the selection. A Dask frame over the index: rows of wanted classes, with their new ids.

The frame's steps are pure functions of one bucket, so they are the same on any scheduler. `choose` then decides which
images those rows bring along, with a counted reason for every drop.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline import formats
from pipeline.frames import to_arrow, to_pandas

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.classes import ClassMap

#: Columns that the selection needs; boxes only where rows are compared.
_COLUMNS = ("key", "class_id", "head", "tail")
_BOX = ("cx", "cy", "w", "h")


def columns(duplicates: str, more: Sequence[str] = ()) -> list[str]:
    """Columns of the annotations table that a selection reads; `duplicates` is ``keep`` or ``drop``, `more` as well."""
    return list(dict.fromkeys((*_COLUMNS, *(_BOX if duplicates == "drop" else ()), *more)))


def select(annotations: Any, classes: ClassMap) -> Any:
    """The Dask frame `annotations` with source ids replaced by the subset's; rows of other classes are left out.

    Where it has the column ``label``, the names in it decide.
    """
    step = functools.partial(remap, classes=classes)
    return annotations.map_partitions(step, meta=annotations._meta, enforce_metadata=False)


def remap(rows: Any, classes: ClassMap) -> Any:
    """One bucket of `select`: pandas frame in, pandas frame out, same columns."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    table = to_arrow(rows)
    count = len(classes.lut)
    if "label" in table.column_names:
        found = pc.fill_null(pc.index_in(table["label"], pa.array(classes.source, pa.string())), count)
        source = found.to_numpy()
    else:
        source = table["class_id"].to_numpy()
    # One more place for ids beyond the names: they were reported before, and are no class of the subset.
    places = np.append(np.array(classes.lut, np.int32), np.int32(-1))
    ids = places[np.minimum(source, count)]
    keep = ids >= 0
    if not keep.all():
        table, ids = table.filter(pa.array(keep)), ids[keep]
    position = table.schema.get_field_index("class_id")
    return to_pandas(table.set_column(position, table.schema.field(position), pa.array(ids)))


def drop_duplicates(rows: pa.Table) -> pa.Table:
    """`rows` without those that repeat an earlier row of their file: the same class, now, and the same bytes."""
    import pyarrow as pa

    file = rows["key"].combine_chunks().dictionary_encode().indices.to_numpy()
    boxes = [rows[c].to_numpy() for c in _BOX]
    again = formats.duplicate_rows(file, rows["class_id"].to_numpy(), boxes, rows["tail"])
    again &= rows["tail"].is_valid().to_numpy()  # what is no row of the task repeats none
    return rows.filter(pa.array(~again)).combine_chunks()


def unmixed(rows: pa.Table) -> tuple[pa.Table, dict[str, str]]:
    """`rows` without those of images that have boxes and polygons; and by key of such an image what is to be told.

    A trainer takes each box of such a file for a polygon of two points, or drops the image.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if "n_tokens" not in rows.column_names or "loss" not in rows.column_names:
        return rows, {}
    suspect = pc.fill_null(pc.equal(rows["loss"], "mixed"), False)
    if not pc.any(suspect).as_py():
        return rows, {}
    told: dict[str, str] = {}
    some = rows.filter(suspect).select(["key", "line", "n_tokens"]).to_pandas()
    for key, group in some.groupby("key", sort=True):
        is_box = group["n_tokens"] == 5
        if is_box.any() and not is_box.all():
            told[str(key)] = (f"a box (line {group['line'][is_box].iloc[0]}) and a polygon (line "
                              f"{group['line'][~is_box].iloc[0]}) in one file, which trainers misread")
    place = rows.schema.get_field_index("loss")
    plain = pc.if_else(suspect, pa.scalar(None, rows.schema.field(place).type), rows["loss"])
    rows = rows.set_column(place, rows.schema.field(place), plain)
    mixed = pc.is_in(rows["key"], pa.array(list(told), pa.string()))
    return rows.filter(pc.invert(mixed)).combine_chunks(), told


@dataclass
class Choice:
    """The images of one bucket that belong to the subset (rows of `schema.images`), and what was left out and why.

    `dropped` counts the images that are left out by reason: with those chosen they add up to all. `problems` are
    (key, reason) of images that are wanted but cannot be had.
    """

    images: pa.Table
    dropped: dict[str, int] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)


def choose(
    rows: pa.Table, images: pa.Table, *, backgrounds: str, need_image: bool, never: Mapping[str, pa.Array] | None = None
) -> Choice:
    """Which of a bucket's `images` the kept `rows` bring along.

    `backgrounds`: ``none``, ``unlabelled`` (images without any object in the source) or ``all`` (also those whose
    objects are all of other classes). Images of the keys in `never` are no backgrounds all the same, for the reason
    that they stand under. With `need_image` a label without an image is a problem, not a choice.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from pipeline.schema import LabelState

    keys = images["key"].combine_chunks()
    has_rows = pc.is_in(keys, pc.unique(rows["key"].combine_chunks()))
    has_image = images["image_path"].combine_chunks().is_valid()
    state = images["label_state"].combine_chunks()
    unlabelled = pc.is_in(state, pa.array([LabelState.MISSING.value, LabelState.EMPTY.value]))
    corrupt = pc.equal(state, LabelState.CORRUPT.value)
    wanted = has_rows
    choice = Choice(images.slice(0, 0))
    others = pc.invert(has_rows)
    if backgrounds != "none":
        background = pc.and_(others, pc.and_(has_image, pc.invert(corrupt)))
        background = background if backgrounds == "all" else pc.and_(background, unlabelled)
        others = pc.and_not(others, background)
        for reason, excluded in (never or {}).items():
            unfit = pc.and_(background, pc.is_in(keys, excluded))
            choice.dropped[reason] = int(pc.sum(unfit).as_py() or 0)
            background = pc.and_not(background, unfit)
        wanted = pc.or_(has_rows, background)
    for reason, marked in (
        ("corrupt", corrupt),
        ("background", unlabelled),
        ("other_classes", pc.invert(pc.or_(corrupt, unlabelled))),
    ):
        choice.dropped[reason] = int(pc.sum(pc.and_(others, marked)).as_py() or 0)
    if need_image:
        lacking = pc.and_(wanted, pc.invert(has_image))
        choice.problems += [(k, "no_image") for k in keys.filter(lacking).to_pylist()]
        choice.dropped["no_image"] = len(choice.problems)
        several = pc.and_(wanted, images["other_images"].combine_chunks().is_valid())
        choice.problems += [(k, "many_images") for k in keys.filter(several).to_pylist()]
        wanted = pc.and_(wanted, has_image)
    choice.images = images.filter(wanted).combine_chunks()
    return choice
