"""Stage 2: the selection. A Dask frame over the index: rows of wanted classes, with their new ids.

The frame's steps are pure functions of one bucket, so they are the same on any scheduler. Columns of the frame are
Arrow's, and a step takes them as they are. `choose` then decides which images those rows bring along, with a counted
reason for every drop.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.stages.index.duplicates import duplicate_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.base.classes import ClassMap

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
    import pandas as pd

    labels = rows["label"].array.__arrow_array__() if "label" in rows.columns else None
    ids = _new_ids(rows["class_id"].to_numpy(), labels, classes)
    rows = rows.assign(class_id=pd.array(ids, dtype=rows["class_id"].dtype))
    wanted = ids >= 0
    return rows if wanted.all() else rows[wanted]


def remap_table(rows: pa.Table, classes: ClassMap) -> pa.Table:
    """What `remap` does, of a table."""
    import pyarrow as pa

    labels = rows["label"] if "label" in rows.column_names else None
    ids = _new_ids(rows["class_id"].to_numpy(), labels, classes)
    at = rows.schema.get_field_index("class_id")
    rows = rows.set_column(at, rows.schema.field(at), pa.array(ids, rows.schema.field(at).type))
    wanted = ids >= 0
    return rows if wanted.all() else rows.filter(pa.array(wanted))


def _new_ids(ids: Any, labels: Any, classes: ClassMap) -> Any:
    """For each row the subset's class id, -1 for none; of the names `labels`, where a source has them."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    count = len(classes.lut)
    if labels is not None:
        ids = pc.fill_null(pc.index_in(labels, pa.array(classes.source, pa.string())), count).to_numpy()
    # One more entry for ids beyond the names: they were reported before, and are no class of the subset.
    return np.append(np.array(classes.lut, np.int32), np.int32(-1))[np.minimum(ids, count)]


def drop_duplicates(rows: pa.Table) -> pa.Table:
    """`rows` without those that repeat an earlier row of their file: the same class, now, and the same bytes."""
    import pyarrow as pa

    file = rows["key"].combine_chunks().dictionary_encode().indices.to_numpy()
    boxes = [rows[c].to_numpy() for c in _BOX]
    again = duplicate_rows(file, rows["class_id"].to_numpy(), boxes, rows["tail"])
    again &= rows["tail"].is_valid().to_numpy()  # what is no row of the task repeats none
    return rows.filter(pa.array(~again)).combine_chunks()


def unmixed(rows: pa.Table) -> tuple[pa.Table, dict[str, str]]:
    """`rows` without those of images that have boxes and polygons; and by key of such an image a clause that says so.

    A trainer takes each box of such a file for a polygon of two points, or drops the image.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if "n_tokens" not in rows.column_names or "loss" not in rows.column_names:
        return rows, {}
    suspect = pc.fill_null(pc.equal(rows["loss"], "mixed"), False)
    if not pc.any(suspect).as_py():
        return rows, {}
    clauses: dict[str, str] = {}
    some = rows.filter(suspect).select(["key", "line", "n_tokens"]).to_pandas()
    for key, group in some.groupby("key", sort=True):
        is_box = group["n_tokens"] == 5
        if is_box.any() and not is_box.all():
            clauses[str(key)] = (
                f"a box (line {group['line'][is_box].iloc[0]}) and a polygon (line "
                f"{group['line'][~is_box].iloc[0]}) in one file, which trainers misread"
            )
    column = rows.schema.get_field_index("loss")
    plain = pc.if_else(suspect, pa.scalar(None, rows.schema.field(column).type), rows["loss"])
    rows = rows.set_column(column, rows.schema.field(column), plain)
    mixed = pc.is_in(rows["key"], pa.array(list(clauses), pa.string()))
    return rows.filter(pc.invert(mixed)).combine_chunks(), clauses
